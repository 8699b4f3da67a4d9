//! Where a B-tree handle stands. The position is a key, not a place in the tree, so writes of any handle keep it valid.

use std::ops::Bound;

use engine::Direction;

use crate::walk::Span;

/// A handle's position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Nowhere: a walk starts at its first item.
    #[default]
    Unset,
    /// At the item with this engine key, or where it was before it was removed.
    At(Vec<u8>),
    /// Walked off the front. A forward walk starts at the first item, a backward one has ended.
    BeforeFirst,
    /// Walked off the end. A backward walk starts at the last item, a forward one has ended.
    PastLast,
}

impl Cursor {
    /// The engine key of the current item.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            Cursor::At(key) => Some(key),
            _ => None,
        }
    }

    /// The position of a walk that has run out of items.
    pub(super) fn end_of(direction: Direction) -> Self {
        match direction {
            Direction::Forward => Cursor::PastLast,
            Direction::Backward => Cursor::BeforeFirst,
        }
    }

    /// What a walk from here meets, the current item included. None when the walk has ended before.
    pub(super) fn span(&self, direction: Direction) -> Option<Span<'_>> {
        self.span_by(direction, Bound::Included)
    }

    /// As [`Cursor::span`], without the current item.
    pub(super) fn span_beyond(&self, direction: Direction) -> Option<Span<'_>> {
        self.span_by(direction, Bound::Excluded)
    }

    fn span_by<'a>(
        &'a self,
        direction: Direction,
        bound: fn(&'a [u8]) -> Bound<&'a [u8]>,
    ) -> Option<Span<'a>> {
        if *self == Cursor::end_of(direction) {
            return None;
        }
        let near = self.key().map_or(Bound::Unbounded, bound);
        Some(match direction {
            Direction::Forward => (near, Bound::Unbounded),
            Direction::Backward => (Bound::Unbounded, near),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_at_its_own_end_only() {
        assert_eq!(Cursor::PastLast.span(Direction::Forward), None);
        assert_eq!(Cursor::BeforeFirst.span_beyond(Direction::Backward), None);
        let all = Some((Bound::Unbounded, Bound::Unbounded));
        assert_eq!(Cursor::PastLast.span_beyond(Direction::Backward), all);
        assert_eq!(Cursor::BeforeFirst.span_beyond(Direction::Forward), all);
        assert_eq!(Cursor::Unset.span(Direction::Backward), all);
    }

    #[test]
    fn the_current_item_is_in_or_out() {
        let cursor = Cursor::At(vec![7]);
        let (here, beyond) = (Bound::Included(&[7][..]), Bound::Excluded(&[7][..]));
        assert_eq!(cursor.span(Direction::Forward), Some((here, Bound::Unbounded)));
        assert_eq!(cursor.span_beyond(Direction::Backward), Some((Bound::Unbounded, beyond)));
    }
}
