//! Walking over a store's entries with a visitor that may fail with this crate's error.

use std::ops::Bound;

use engine::{Direction, StoreId, ValueRef};

use crate::Result;

/// A part of a store: bounds in key order, whatever the direction of the walk.
pub(crate) type Span<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// As [`engine::Transaction::visit`]; bounds that leave no room in between are an empty walk.
pub(crate) fn visit(
    engine: &mut engine::Transaction,
    store: StoreId,
    (start, end): Span<'_>,
    direction: Direction,
    mut visitor: impl FnMut(&[u8], ValueRef<'_>) -> Result<bool>,
) -> Result<()> {
    if is_empty(start, end) {
        return Ok(());
    }
    let mut failure = None;
    engine.visit(store, start, end, direction, &mut |key, value| {
        let go_on = visitor(key, value).unwrap_or_else(|error| {
            failure = Some(error);
            false
        });
        Ok(go_on)
    })?;
    failure.map_or(Ok(()), Err)
}

fn is_empty(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start >= end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_without_room_are_empty() {
        let (a, b) = (&b"a"[..], &b"b"[..]);
        assert!(!is_empty(Bound::Included(a), Bound::Included(a)));
        assert!(is_empty(Bound::Included(a), Bound::Excluded(a)));
        assert!(is_empty(Bound::Excluded(a), Bound::Excluded(a)));
        assert!(is_empty(Bound::Included(b), Bound::Included(a)));
        assert!(!is_empty(Bound::Excluded(a), Bound::Excluded(b)));
        assert!(!is_empty(Bound::Unbounded, Bound::Excluded(b"")));
    }
}
