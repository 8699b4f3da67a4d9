//! From the hash of a key to the number of its node: one look at memory tells most keys that they are not there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use xxhash_rust::xxh3::xxh3_64;

/// Slots of the first table; each next one has twice as many.
const FIRST: usize = 64;
/// Enough for 2^32 slots.
const TABLES: usize = 27;

/// The bits of a key's hash that the table uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyHash(u32);

impl KeyHash {
    pub(super) fn of(key: &[u8]) -> KeyHash {
        KeyHash((xxh3_64(key) >> 32) as u32)
    }
}

/// A hash table with linear probing, at most half full. Nodes are numbered from 1; they are only added, by one thread, while others
/// read. A full table stays as it is for those that read it: what they look for was in there before.
pub(super) struct Table {
    /// Slots: hash in the upper half, number in the lower; 0 is free.
    tables: [OnceLock<Box<[AtomicU64]>>; TABLES],
    current: AtomicUsize,
}

impl Default for Table {
    fn default() -> Self {
        Self { tables: [const { OnceLock::new() }; TABLES], current: AtomicUsize::new(0) }
    }
}

impl Table {
    fn slots(&self) -> &[AtomicU64] {
        let current = self.tables.get(self.current.load(Ordering::Acquire));
        current.and_then(OnceLock::get).map_or(&[], |slots| slots)
    }

    /// The number with this hash of which `is_it` is true.
    pub(super) fn find(&self, hash: KeyHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = self.slots();
        let mut at = hash.0 as usize;
        loop {
            let slot = slots.get(at & slots.len().checked_sub(1)?)?.load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            let (found, number) = ((slot >> 32) as u32, slot as u32);
            if found == hash.0 && is_it(number) {
                return Some(number);
            }
            at += 1;
        }
    }

    /// Adds the node `number`, which is the one after the last that was added.
    pub(super) fn add(&self, hash: KeyHash, number: u32) {
        if number as usize * 2 > self.slots().len() {
            self.grow();
        }
        put(self.slots(), (u64::from(hash.0) << 32) | u64::from(number));
    }

    fn grow(&self) {
        let old = self.slots();
        let next = if old.is_empty() { 0 } else { self.current.load(Ordering::Relaxed) + 1 };
        let slots: Box<[AtomicU64]> = (0..FIRST << next).map(|_| AtomicU64::new(0)).collect();
        for slot in old.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|slot| *slot != 0) {
            put(&slots, slot);
        }
        // One thread adds: nobody else has made it.
        let _ = self.tables[next].set(slots);
        self.current.store(next, Ordering::Release);
    }
}

fn put(slots: &[AtomicU64], slot: u64) {
    let mask = slots.len() - 1;
    let mut at = (slot >> 32) as usize & mask;
    while slots[at].load(Ordering::Relaxed) != 0 {
        at = (at + 1) & mask;
    }
    slots[at].store(slot, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_also_among_equal_hashes() {
        let table = Table::default();
        let hash = |number: u32| KeyHash::of(&(number / 3).to_be_bytes());
        for number in 1..10_000 {
            assert_eq!(table.find(hash(number), |found| found == number), None);
            table.add(hash(number), number);
        }
        for number in 1..10_000 {
            assert_eq!(table.find(hash(number), |found| found == number), Some(number));
        }
        assert_eq!(table.find(KeyHash::of(b"other"), |_| true), None);
    }
}
