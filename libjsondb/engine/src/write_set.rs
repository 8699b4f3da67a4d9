//! What a transaction writes, in key order: bytes in blocks that are never moved, and a sorted index over them.
//!
//! A put copies its key and value once and allocates nothing of its own; keys that rise are appended without a search. What is
//! replaced keeps its place in the blocks until the set is gone, so [`WriteSet::bytes`] counts it.

use std::cmp::Ordering;
use std::ops::Bound;

use crate::bytes::Reader;
use crate::{BlobRef, Direction, ValueRef};

/// A block is closed when an entry does not fit any more.
const BLOCK_BYTES: usize = 1 << 20;
/// A leaf of the index is split at this length.
const LEAF_MAX: usize = 128;
/// Bytes of a key that the index holds: comparing them decides nearly always.
const HEAD_LEN: usize = 32;

type Head = [u64; HEAD_LEN / 8];

/// The first bytes of a key as numbers that compare as the bytes do; what is missing counts as zeros.
fn head(key: &[u8]) -> Head {
    let mut bytes = [0; HEAD_LEN];
    let len = key.len().min(HEAD_LEN);
    bytes[..len].copy_from_slice(&key[..len]);
    let mut head = Head::default();
    for (number, part) in head.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *number = u64::from_be_bytes(*part);
    }
    head
}

/// What a key was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Deleted,
    Inline,
    Blob,
}

/// An entry of the index: key and value lie back to back in a block.
#[derive(Clone, Copy, Debug)]
struct Slot {
    head: Head,
    block: u16,
    key_len: u16,
    offset: u32,
    value_len: u32,
    kind: Kind,
}

/// A place in the index; not valid after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    leaf: usize,
    slot: usize,
}

/// Writes of a transaction, not committed yet: value, or None for a key that was removed.
#[derive(Default)]
pub(crate) struct WriteSet {
    blocks: Vec<Vec<u8>>,
    /// None is empty.
    leaves: Vec<Vec<Slot>>,
    len: usize,
    bytes: usize,
    /// A key came that was not above all others.
    is_mixed: bool,
}

impl WriteSet {
    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of keys and values, those that were replaced included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// True while each key was above all others when it came.
    pub(crate) fn rises(&self) -> bool {
        !self.is_mixed
    }

    /// Sets a key, replacing what it was set to. Keys are at most 64 KiB, inline values and keys together at most a block.
    pub(crate) fn insert(&mut self, key: &[u8], value: Option<ValueRef<'_>>) {
        self.insert_at(self.place_of(key), key, value);
    }

    /// Where the key is (Ok), or where it would be (Err): until the next change.
    pub(crate) fn place_of(&self, key: &[u8]) -> Result<Place, Place> {
        self.last_below(key).unwrap_or_else(|| self.search(key))
    }

    /// True when the key there was set to a value, false when it was removed.
    pub(crate) fn has_value(&self, place: Place) -> bool {
        self.leaves[place.leaf][place.slot].kind != Kind::Deleted
    }

    /// As [`WriteSet::insert`], at the key's place.
    pub(crate) fn insert_at(&mut self, place: Result<Place, Place>, key: &[u8], value: Option<ValueRef<'_>>) {
        let slot = self.store(key, value);
        self.is_mixed |= !place.is_err_and(|place| self.is_end(place));
        match place {
            Ok(place) => self.leaves[place.leaf][place.slot] = slot,
            Err(place) => self.insert_slot(place, slot),
        }
    }

    /// The end of the index, when the key lies behind all others.
    fn last_below(&self, key: &[u8]) -> Option<Result<Place, Place>> {
        let leaf = self.leaves.last()?;
        let last = leaf.last()?;
        let place = Place { leaf: self.leaves.len() - 1, slot: leaf.len() };
        (self.compare(last, &head(key), key) == Ordering::Less).then_some(Err(place))
    }

    /// Where the key is (Ok), or where it would be (Err).
    fn search(&self, key: &[u8]) -> Result<Place, Place> {
        let wanted = head(key);
        let below = |leaf: &Vec<Slot>| self.compare(&leaf[0], &wanted, key) != Ordering::Greater;
        let leaf = self.leaves.partition_point(below).saturating_sub(1);
        let Some(slots) = self.leaves.get(leaf) else { return Err(Place::default()) };
        match slots.binary_search_by(|slot| self.compare(slot, &wanted, key)) {
            Ok(slot) => Ok(Place { leaf, slot }),
            Err(slot) => Err(Place { leaf, slot }),
        }
    }

    fn compare(&self, slot: &Slot, wanted: &Head, key: &[u8]) -> Ordering {
        slot.head.cmp(wanted).then_with(|| self.key(slot).cmp(key))
    }

    fn is_end(&self, place: Place) -> bool {
        place.leaf + 1 >= self.leaves.len() && self.leaves.last().is_none_or(|leaf| place.slot == leaf.len())
    }

    fn insert_slot(&mut self, place: Place, slot: Slot) {
        self.len += 1;
        let is_end = place.leaf + 1 >= self.leaves.len();
        let Some(leaf) = self.leaves.get_mut(place.leaf) else {
            self.leaves.push(vec![slot]);
            return;
        };
        if leaf.len() < LEAF_MAX {
            leaf.insert(place.slot, slot);
            return;
        }
        if is_end && place.slot == LEAF_MAX {
            // Rising keys fill leaves to the end.
            let mut next = Vec::with_capacity(LEAF_MAX);
            next.push(slot);
            self.leaves.push(next);
            return;
        }
        let mut upper = Vec::with_capacity(LEAF_MAX);
        upper.extend(leaf.drain(LEAF_MAX / 2..));
        match place.slot.checked_sub(LEAF_MAX / 2) {
            Some(index) => upper.insert(index, slot),
            None => leaf.insert(place.slot, slot),
        }
        self.leaves.insert(place.leaf + 1, upper);
    }

    /// Copies key and value into a block.
    fn store(&mut self, key: &[u8], value: Option<ValueRef<'_>>) -> Slot {
        let mut blob = Vec::new();
        let (kind, value): (Kind, &[u8]) = match value {
            None => (Kind::Deleted, &[]),
            Some(ValueRef::Inline(bytes)) => (Kind::Inline, bytes),
            Some(ValueRef::Blob(reference)) => {
                reference.put(&mut blob);
                (Kind::Blob, &blob)
            }
        };
        let needed = key.len() + value.len();
        if self.blocks.last().is_none_or(|block| block.len() + needed > BLOCK_BYTES) {
            // The first one grows as it is filled: most transactions are small.
            self.blocks.push(Vec::with_capacity(if self.blocks.is_empty() { needed } else { BLOCK_BYTES }));
        }
        let index = self.blocks.len() - 1;
        let block = &mut self.blocks[index];
        let offset = block.len();
        block.extend_from_slice(key);
        block.extend_from_slice(value);
        self.bytes += needed + size_of::<Slot>();
        Slot {
            head: head(key),
            block: index as u16,
            key_len: key.len() as u16,
            offset: offset as u32,
            value_len: value.len() as u32,
            kind,
        }
    }

    fn key(&self, slot: &Slot) -> &[u8] {
        let offset = slot.offset as usize;
        &self.blocks[usize::from(slot.block)][offset..offset + usize::from(slot.key_len)]
    }

    fn value(&self, slot: &Slot) -> Option<ValueRef<'_>> {
        let offset = slot.offset as usize + usize::from(slot.key_len);
        let bytes = &self.blocks[usize::from(slot.block)][offset..offset + slot.value_len as usize];
        match slot.kind {
            Kind::Deleted => None,
            Kind::Inline => Some(ValueRef::Inline(bytes)),
            // It was put there by `store`.
            Kind::Blob => BlobRef::read(&mut Reader::new(bytes)).map(ValueRef::Blob),
        }
    }

    /// What a key was set to; the inner None: it was removed.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<ValueRef<'_>>> {
        let place = self.search(key).ok()?;
        Some(self.value(&self.leaves[place.leaf][place.slot]))
    }

    /// All writes, in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<ValueRef<'_>>)> + Clone {
        self.leaves.iter().flatten().map(|slot| (self.key(slot), self.value(slot)))
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        self.leaves.first()?.first().map(|slot| self.key(slot))
    }

    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        self.leaves.last()?.last().map(|slot| self.key(slot))
    }

    fn next(&self, place: Place) -> Option<Place> {
        let after = Place { slot: place.slot + 1, ..place };
        self.settle(after)
    }

    fn previous(&self, place: Place) -> Option<Place> {
        match place.slot.checked_sub(1) {
            Some(slot) => Some(Place { slot, ..place }),
            None => {
                let leaf = place.leaf.checked_sub(1)?;
                Some(Place { leaf, slot: self.leaves[leaf].len() - 1 })
            }
        }
    }

    /// A place one past a leaf's end is the next leaf's first.
    fn settle(&self, place: Place) -> Option<Place> {
        let leaf = self.leaves.get(place.leaf)?;
        if place.slot < leaf.len() {
            return Some(place);
        }
        (place.leaf + 1 < self.leaves.len()).then_some(Place { leaf: place.leaf + 1, slot: 0 })
    }

    fn seek(&self, bound: Bound<&[u8]>, direction: Direction) -> Option<Place> {
        let end = Place { leaf: self.leaves.len(), slot: 0 };
        match (direction, bound) {
            (Direction::Forward, Bound::Unbounded) => self.settle(Place::default()),
            (Direction::Backward, Bound::Unbounded) => self.previous(end),
            (_, Bound::Included(key) | Bound::Excluded(key)) => match (self.search(key), direction, bound) {
                (Ok(place), _, Bound::Included(_)) => Some(place),
                (Ok(place), Direction::Forward, _) => self.next(place),
                (Err(place), Direction::Forward, _) => self.settle(place),
                (Ok(place) | Err(place), Direction::Backward, _) => self.previous(place),
            },
        }
    }
}

/// A position in a write set.
pub(crate) struct WriteCursor<'a> {
    writes: &'a WriteSet,
    place: Option<Place>,
}

impl<'a> WriteCursor<'a> {
    pub(crate) fn new(writes: &'a WriteSet) -> Self {
        Self { writes, place: None }
    }

    /// Key, and value or None for a key that was removed.
    pub(crate) fn current(&self) -> Option<(&'a [u8], Option<ValueRef<'a>>)> {
        let place = self.place?;
        let slot = &self.writes.leaves[place.leaf][place.slot];
        Some((self.writes.key(slot), self.writes.value(slot)))
    }

    /// Moves to the nearest key inside the bound: the first going forward, the last going backward.
    pub(crate) fn seek(&mut self, bound: Bound<&[u8]>, direction: Direction) {
        self.place = self.writes.seek(bound, direction);
    }

    pub(crate) fn step(&mut self, direction: Direction) {
        self.place = self.place.and_then(|place| match direction {
            Direction::Forward => self.writes.next(place),
            Direction::Backward => self.writes.previous(place),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::common::Random;

    type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn owned(value: Option<ValueRef<'_>>) -> Option<Vec<u8>> {
        value.map(|value| match value {
            ValueRef::Inline(bytes) => bytes.to_vec(),
            ValueRef::Blob(_) => panic!("none was written"),
        })
    }

    fn walk(writes: &WriteSet, bound: Bound<&[u8]>, direction: Direction) -> Vec<Vec<u8>> {
        let mut cursor = WriteCursor::new(writes);
        cursor.seek(bound, direction);
        let mut keys = Vec::new();
        while let Some((key, _)) = cursor.current() {
            keys.push(key.to_vec());
            cursor.step(direction);
        }
        keys
    }

    fn random_key(random: &mut Random) -> Vec<u8> {
        // Long shared beginnings and keys that are the beginning of others, with zeros behind.
        let mut key = vec![b'k'; random.below(30) as usize];
        key.extend_from_slice(&[0; 3][..random.below(4) as usize]);
        key.extend_from_slice(&(random.below(300) as u16).to_be_bytes());
        key
    }

    #[test]
    fn it_is_a_sorted_map() {
        let mut random = Random::new(3);
        for rising in [false, true] {
            let (mut writes, mut model) = (WriteSet::default(), Model::new());
            for number in 0..20_000u32 {
                let key = if rising { number.to_be_bytes().to_vec() } else { random_key(&mut random) };
                let value = (!random.one_in(5)).then(|| number.to_le_bytes().to_vec());
                writes.insert(&key, value.as_deref().map(ValueRef::Inline));
                model.insert(key, value);
            }
            assert_eq!(writes.len(), model.len());
            let all: Model = writes.iter().map(|(key, value)| (key.to_vec(), owned(value))).collect();
            assert_eq!(all, model);
            assert!(writes.keys().is_sorted());
            for _ in 0..300 {
                let key = random_key(&mut random);
                assert_eq!(writes.get(&key).map(owned), model.get(&key).cloned());
                for bound in [Bound::Included(key.as_slice()), Bound::Excluded(&key), Bound::Unbounded] {
                    let forward =
                        model.range::<[u8], _>((bound, Bound::Unbounded)).map(|(key, _)| key.clone());
                    assert!(forward.eq(walk(&writes, bound, Direction::Forward)));
                    let backward = model.range::<[u8], _>((Bound::Unbounded, bound)).rev();
                    assert!(backward.map(|(key, _)| key.clone()).eq(walk(
                        &writes,
                        bound,
                        Direction::Backward
                    )));
                }
            }
        }
    }

    #[test]
    fn blobs_and_removals_come_back() {
        let mut writes = WriteSet::default();
        let blob = BlobRef {
            segment: crate::segment::SegmentId { owner: 1, number: 2 },
            offset: 3,
            len: 9,
            stored_len: 4,
            crc: 5,
        };
        writes.insert(b"a", Some(ValueRef::Blob(blob)));
        writes.insert(b"b", None);
        assert!(matches!(writes.get(b"a"), Some(Some(ValueRef::Blob(found))) if found == blob));
        assert!(matches!(writes.get(b"b"), Some(None)));
        assert!(writes.get(b"").is_none() && writes.get(b"c").is_none());
        assert!(writes.bytes() > 0);
    }
}
