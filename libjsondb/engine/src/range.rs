//! Ranges of one store's keys, in the engine's one key space.

use std::ops::Bound;

use crate::catalog::{self, STORE_LEN};
use crate::{Direction, StoreId};

/// A range of keys of one store, in the engine's key space.
pub(crate) struct FullRange {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
    prefix: [u8; STORE_LEN],
    after_store: Option<[u8; STORE_LEN]>,
}

impl FullRange {
    pub(crate) fn new(store: StoreId, start: Bound<&[u8]>, end: Bound<&[u8]>) -> FullRange {
        let prefix = store.0.to_be_bytes();
        let after_store = store.0.checked_add(1).map(u64::to_be_bytes);
        let full = |bound: Bound<&[u8]>| match bound {
            Bound::Included(key) => Bound::Included(catalog::full_key(store, key)),
            Bound::Excluded(key) => Bound::Excluded(catalog::full_key(store, key)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let start = match full(start) {
            Bound::Unbounded => Bound::Included(prefix.to_vec()),
            bound => bound,
        };
        let end = match (full(end), after_store) {
            (Bound::Unbounded, Some(after)) => Bound::Excluded(after.to_vec()),
            (bound, _) => bound,
        };
        FullRange { start, end, prefix, after_store }
    }

    pub(crate) fn start(&self) -> Bound<&[u8]> {
        self.start.as_ref().map(Vec::as_slice)
    }

    pub(crate) fn end(&self) -> Bound<&[u8]> {
        self.end.as_ref().map(Vec::as_slice)
    }

    /// Bounds that cross: nothing lies between them, and ordered maps refuse them.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
            _ => false,
        }
    }

    /// True of a key behind the range, going in the given direction.
    pub(crate) fn is_behind(&self, key: &[u8], direction: Direction) -> bool {
        match (direction, self.start(), self.end()) {
            (Direction::Forward, _, Bound::Included(end)) => key > end,
            (Direction::Forward, _, Bound::Excluded(end)) => key >= end,
            (Direction::Backward, Bound::Included(start), _) => key < start,
            (Direction::Backward, Bound::Excluded(start), _) => key <= start,
            (_, _, _) => false,
        }
    }

    /// The smallest key that lies in the range.
    pub(crate) fn first(&self) -> Vec<u8> {
        match &self.start {
            Bound::Included(key) => key.clone(),
            Bound::Excluded(key) => successor(key),
            Bound::Unbounded => self.prefix.to_vec(),
        }
    }

    /// The smallest key behind the range; None: the range goes to the end of the key space.
    pub(crate) fn open_end(&self) -> Option<Vec<u8>> {
        match &self.end {
            Bound::Included(key) => Some(successor(key)),
            Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => self.after_store.map(|key| key.to_vec()),
        }
    }
}

/// The smallest key above `key`.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}
