//! What a transaction has read: keys and ranges of keys, in the engine's one key space.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

/// The first key behind a range; None is the end of the key space.
type End = Option<Box<[u8]>>;

/// Keys, present or missed, and ranges `start..end`. Touching ranges are one.
#[derive(Default)]
pub(crate) struct ReadSet {
    keys: HashSet<Box<[u8]>>,
    ranges: BTreeMap<Box<[u8]>, End>,
}

impl ReadSet {
    pub(crate) fn add_key(&mut self, key: &[u8]) {
        if !self.keys.contains(key) {
            self.keys.insert(key.into());
        }
    }

    /// A key that is also written is validated as a write.
    pub(crate) fn forget_key(&mut self, key: &[u8]) {
        // Hashing takes longer than all else that a put does to an empty set.
        if !self.keys.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Adds all keys from `start` up to, not including, `end`.
    pub(crate) fn add_range(&mut self, start: &[u8], end: Option<&[u8]>) {
        let mut start: Box<[u8]> = start.into();
        let mut end: End = end.map(Into::into);
        let before = (Bound::Unbounded, Bound::Included(&start));
        if let Some((first, last)) = self.ranges.range::<Box<[u8]>, _>(before).next_back()
            && reaches(last, &start)
        {
            start = first.clone();
            end = later(last.clone(), end);
            self.ranges.remove(&start);
        }
        // Ranges that begin inside the new one become part of it.
        let from = (Bound::Included(&start), Bound::Unbounded);
        while let Some((first, last)) = self.ranges.range::<Box<[u8]>, _>(from).next() {
            if !reaches(&end, first) {
                break;
            }
            let first = first.clone();
            end = later(last.clone(), end);
            self.ranges.remove(&first);
        }
        self.ranges.insert(start, end);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(AsRef::as_ref)
    }

    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.ranges.iter().map(|(start, end)| (start.as_ref(), end.as_deref()))
    }
}

fn reaches(end: &End, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| end.as_ref() >= key)
}

fn later(a: End, b: End) -> End {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(set: &ReadSet) -> Vec<(&[u8], Option<&[u8]>)> {
        set.ranges().collect()
    }

    #[test]
    fn touching_ranges_become_one() {
        let mut set = ReadSet::default();
        set.add_range(b"b", Some(b"d"));
        set.add_range(b"x", None);
        set.add_range(b"d", Some(b"f"));
        assert_eq!(ranges(&set), [(&b"b"[..], Some(&b"f"[..])), (b"x", None)]);
        set.add_range(b"a", Some(b"z"));
        assert_eq!(ranges(&set), [(&b"a"[..], None)]);
        set.add_range(b"c", Some(b"e"));
        assert_eq!(ranges(&set), [(&b"a"[..], None)]);
    }

    #[test]
    fn separate_ranges_stay_apart() {
        let mut set = ReadSet::default();
        set.add_range(b"m", Some(b"n"));
        set.add_range(b"a", Some(b"b"));
        set.add_range(b"x", Some(b"y"));
        assert_eq!(set.ranges().count(), 3);
    }
}
