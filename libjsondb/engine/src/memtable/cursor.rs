//! Walking a memtable in key order.

use std::cmp::Ordering as Order;
use std::ops::Bound;

use super::Window;
use super::index::{Index, NONE, Probe, Version};
use crate::ValueRef;

/// A position in a memtable. Sees the newest version inside its window of every key, tombstones included.
pub(crate) struct MemCursor<'a> {
    index: &'a Index,
    window: Window,
    current: Option<(u32, Version)>,
}

impl<'a> MemCursor<'a> {
    pub(super) fn new(index: &'a Index, window: Window) -> MemCursor<'a> {
        MemCursor { index, window, current: None }
    }

    /// Key, and value or tombstone.
    pub(crate) fn current(&self) -> Option<(&'a [u8], Option<ValueRef<'a>>)> {
        self.current.as_ref().map(|(node, version)| (self.index.key(*node), self.index.value(version)))
    }

    /// Moves to the first key at or after (after: when excluded) the bound.
    pub(crate) fn seek_forward(&mut self, bound: Bound<&[u8]>) {
        let before = match bound {
            Bound::Unbounded => NONE,
            Bound::Included(key) => self.last_before(key),
            Bound::Excluded(key) => self.last_upto(key),
        };
        self.current = self.first_visible(self.index.next(before, 0));
    }

    /// Moves to the last key at or before (before: when excluded) the bound.
    pub(crate) fn seek_backward(&mut self, bound: Bound<&[u8]>) {
        let last = match bound {
            Bound::Unbounded => self.index.last_before(|_| true),
            Bound::Included(key) => self.last_upto(key),
            Bound::Excluded(key) => self.last_before(key),
        };
        self.current = self.last_visible(last);
    }

    pub(crate) fn forward(&mut self) {
        let Some((node, _)) = self.current else { return };
        self.current = self.first_visible(self.index.next(node, 0));
    }

    pub(crate) fn backward(&mut self) {
        let Some((node, _)) = self.current else { return };
        self.current = self.last_visible(self.last_before(self.index.key(node)));
    }

    fn last_before(&self, key: &[u8]) -> u32 {
        let probe = Probe::new(key);
        self.index.last_before(|node| self.index.compare(node, &probe) == Order::Less)
    }

    fn last_upto(&self, key: &[u8]) -> u32 {
        let probe = Probe::new(key);
        self.index.last_before(|node| self.index.compare(node, &probe) != Order::Greater)
    }

    fn visible(&self, node: u32) -> Option<(u32, Version)> {
        let version = self.index.newest_upto(node, self.window.upto)?;
        (version.seq > self.window.after).then_some((node, version))
    }

    fn first_visible(&self, mut node: u32) -> Option<(u32, Version)> {
        while node != NONE {
            if let Some(found) = self.visible(node) {
                return Some(found);
            }
            node = self.index.next(node, 0);
        }
        None
    }

    fn last_visible(&self, mut node: u32) -> Option<(u32, Version)> {
        while node != NONE {
            if let Some(found) = self.visible(node) {
                return Some(found);
            }
            node = self.last_before(self.index.key(node));
        }
        None
    }
}
