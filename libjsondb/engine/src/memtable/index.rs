//! Keys with their versions: found by hash, walked in order, read without locks while one thread adds.
//!
//! A key has one node, however often it is written. Nodes form a skip list (Pugh 1990) and a hash table; the versions of a key a list with
//! jumps, newest first, in which any is found in logarithmic time (Myers, "An applicative random-access stack", 1983).
//! Everything refers to everything by number, so nothing is allocated per key or version: their bytes lie in one block per commit.

use std::cmp::Ordering as Order;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::batch::Kind;
use super::chunks::Chunks;
use super::table::{KeyHash, Table};
use crate::bytes::Reader;
use crate::{BlobRef, Seq, ValueRef};

/// Levels of the skip list: enough for tens of millions of keys, a quarter of which reaches each next level.
pub(super) const LEVELS: usize = 12;
/// Links of so many levels lie in the node; one in 64 has more.
pub(super) const NEAR_LEVELS: usize = 3;
/// Bytes of a key that are compared as three numbers: no jump to where the key lies, for most of the keys that a search meets.
const HEAD_LEN: usize = 24;

/// The first bytes of a key, zeros behind a shorter one. Of two that differ, the smaller belongs to the smaller key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head([u64; 3]);

impl Head {
    fn of(key: &[u8]) -> Head {
        let mut bytes = [0; HEAD_LEN];
        let len = key.len().min(HEAD_LEN);
        bytes[..len].copy_from_slice(&key[..len]);
        let word = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_be_bytes(*word))
        };
        Head([word(0), word(8), word(16)])
    }
}

/// A key to be searched for.
pub(super) struct Probe<'a> {
    head: Head,
    key: &'a [u8],
}

impl<'a> Probe<'a> {
    pub(super) fn new(key: &'a [u8]) -> Probe<'a> {
        Probe { head: Head::of(key), key }
    }
}

/// Bytes in a block.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// A [`Place`] that was written once, before anything led to it.
#[derive(Default)]
struct PlaceCell([AtomicU32; 3]);

impl PlaceCell {
    fn set(&self, place: Place) {
        for (part, value) in self.0.iter().zip([place.block, place.offset, place.len]) {
            part.store(value, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Place {
        let [block, offset, len] = self.0.each_ref().map(|part| part.load(Ordering::Relaxed));
        Place { block, offset, len }
    }
}

/// A key. It fills a line of the processor's cache: a search meets many of them. What does not change is written before anything leads to
/// the node, by a store that releases it: so plain loads see it.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Node {
    head: [AtomicU64; 3],
    key: PlaceCell,
    /// Its newest version.
    pub(super) newest: AtomicU32,
    /// The next node on each level; on the lowest that of the next key.
    near: [AtomicU32; NEAR_LEVELS],
    /// Number of the first link of the levels above.
    far: AtomicU32,
}

/// What a node is made with.
pub(super) struct NewNode<'a> {
    pub(super) probe: &'a Probe<'a>,
    pub(super) key: Place,
    pub(super) newest: u32,
    pub(super) far: u32,
}

impl Node {
    fn set(&self, new: &NewNode<'_>) {
        for (word, value) in self.head.iter().zip(new.probe.head.0) {
            word.store(value, Ordering::Relaxed);
        }
        self.key.set(new.key);
        self.newest.store(new.newest, Ordering::Relaxed);
        self.far.store(new.far, Ordering::Relaxed);
    }

    fn head(&self) -> Head {
        Head(self.head.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Of a level above the near ones.
    fn far_link(&self, level: usize) -> u32 {
        self.far.load(Ordering::Relaxed) + (level - NEAR_LEVELS) as u32
    }
}

/// What a commit set a key to.
#[derive(Clone, Copy)]
pub(super) struct Version {
    pub(super) seq: Seq,
    pub(super) value: Place,
    pub(super) kind: Kind,
    /// How many are older.
    pub(super) depth: u32,
    /// The one before, and an older one; itself, when it is the oldest.
    pub(super) older: u32,
    pub(super) jump: u32,
}

/// A [`Version`] that was written once, before its node led to it.
#[derive(Default)]
pub(super) struct VersionCell {
    seq: AtomicU64,
    value: PlaceCell,
    /// The kind in the lowest two bits, the depth above.
    depth_and_kind: AtomicU64,
    older: AtomicU32,
    jump: AtomicU32,
}

/// As numbers in a [`VersionCell`].
const KINDS: [Kind; 3] = [Kind::Removed, Kind::Inline, Kind::Blob];

impl VersionCell {
    pub(super) fn set(&self, version: &Version) {
        self.seq.store(version.seq.0, Ordering::Relaxed);
        self.value.set(version.value);
        let depth_and_kind = u64::from(version.depth) << 2 | version.kind as u64;
        self.depth_and_kind.store(depth_and_kind, Ordering::Relaxed);
        self.older.store(version.older, Ordering::Relaxed);
        self.jump.store(version.jump, Ordering::Relaxed);
    }

    fn get(&self) -> Version {
        let depth_and_kind = self.depth_and_kind.load(Ordering::Relaxed);
        Version {
            seq: Seq(self.seq.load(Ordering::Relaxed)),
            value: self.value.get(),
            kind: KINDS.get((depth_and_kind & 3) as usize).copied().unwrap_or(Kind::Removed),
            depth: (depth_and_kind >> 2) as u32,
            older: self.older.load(Ordering::Relaxed),
            jump: self.jump.load(Ordering::Relaxed),
        }
    }
}

/// The node before all keys; as a link: there is no next one.
pub(super) const NONE: u32 = 0;

pub(super) struct Index {
    pub(super) table: Table,
    nodes: Chunks<Node>,
    pub(super) versions: Chunks<VersionCell>,
    pub(super) far: Chunks<AtomicU32>,
    /// Keys and values of a commit each.
    pub(super) blocks: Chunks<OnceLock<Box<[u8]>>>,
}

/// Memory of a node with its slots of the hash table, of a version, and of a block beside its bytes.
pub(super) const NODE_BYTES: u64 = size_of::<Node>() as u64 + 24;
pub(super) const VERSION_BYTES: u64 = size_of::<VersionCell>() as u64;
pub(super) const BLOCK_BYTES: u64 = size_of::<OnceLock<Box<[u8]>>>() as u64 + 16;

impl Default for Index {
    fn default() -> Self {
        let index = Self {
            table: Table::default(),
            nodes: Chunks::default(),
            versions: Chunks::default(),
            far: Chunks::default(),
            blocks: Chunks::default(),
        };
        let empty = Place { block: 0, offset: 0, len: 0 };
        let first = NewNode { probe: &Probe::new(&[]), key: empty, newest: 0, far: 0 };
        index.make_node(NONE, &first, LEVELS);
        index
    }
}

impl Index {
    /// A node on so many levels, to which no link leads yet.
    pub(super) fn make_node(&self, number: u32, new: &NewNode<'_>, levels: usize) {
        let node = self.nodes.make(number);
        node.set(new);
        for level in NEAR_LEVELS..levels {
            self.far.make(node.far_link(level));
        }
    }

    /// A node that a link or the table led to.
    pub(super) fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number)
    }

    /// A version that a node or a newer one led to.
    pub(super) fn version(&self, number: u32) -> Option<Version> {
        self.versions.get(number).map(VersionCell::get)
    }

    fn bytes(&self, place: Place) -> &[u8] {
        let block = self.blocks.get(place.block).and_then(OnceLock::get);
        let bytes = block.and_then(|block| block.get(place.offset as usize..)?.get(..place.len as usize));
        bytes.unwrap_or_default()
    }

    pub(super) fn key(&self, number: u32) -> &[u8] {
        self.node(number).map_or(&[], |node| self.bytes(node.key.get()))
    }

    pub(super) fn value(&self, version: &Version) -> Option<ValueRef<'_>> {
        let bytes = self.bytes(version.value);
        match version.kind {
            Kind::Removed => None,
            Kind::Inline => Some(ValueRef::Inline(bytes)),
            // It was put there by `Batch::add`.
            Kind::Blob => BlobRef::read(&mut Reader::new(bytes)).map(ValueRef::Blob),
        }
    }

    /// The node of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        self.find_hashed(KeyHash::of(key), &Probe::new(key))
    }

    pub(super) fn find_hashed(&self, hash: KeyHash, probe: &Probe<'_>) -> Option<u32> {
        self.table.find(hash, |number| self.compare(number, probe) == Order::Equal)
    }

    pub(super) fn newest(&self, node: u32) -> Option<Version> {
        self.version(self.node(node)?.newest.load(Ordering::Acquire))
    }

    /// The newest version of a node that is not newer than `upto`.
    pub(super) fn newest_upto(&self, node: u32, upto: Seq) -> Option<Version> {
        let mut version = self.newest(node)?;
        while version.seq > upto {
            if version.depth == 0 {
                return None;
            }
            let jumped = self.version(version.jump)?;
            version = if jumped.seq > upto { jumped } else { self.version(version.older)? };
        }
        Some(version)
    }

    pub(super) fn compare(&self, node: u32, probe: &Probe<'_>) -> Order {
        let Some(node) = self.node(node) else { return Order::Less };
        node.head().cmp(&probe.head).then_with(|| {
            let key = node.key.get();
            let len = key.len as usize;
            if len.max(probe.key.len()) <= HEAD_LEN {
                // What differs is zeros at the end.
                len.cmp(&probe.key.len())
            } else {
                self.bytes(key).cmp(probe.key)
            }
        })
    }

    pub(super) fn link(&self, node: u32, level: usize) -> Option<&AtomicU32> {
        let node = self.node(node)?;
        node.near.get(level).or_else(|| self.far.get(node.far_link(level)))
    }

    /// The next node of a level; of the lowest, that of the next key.
    pub(super) fn next(&self, node: u32, level: usize) -> u32 {
        self.link(node, level).map_or(NONE, |link| link.load(Ordering::Acquire))
    }

    /// The last node that `is_before` is true of. It is true of none behind one that it is false of.
    pub(super) fn last_before(&self, is_before: impl Fn(u32) -> bool) -> u32 {
        let mut node = NONE;
        for level in (0..LEVELS).rev() {
            node = self.last_on_level(node, level, &is_before);
        }
        node
    }

    pub(super) fn last_on_level(&self, mut node: u32, level: usize, is_before: &impl Fn(u32) -> bool) -> u32 {
        loop {
            let next = self.next(node, level);
            if next == NONE || !is_before(next) {
                return node;
            }
            node = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_fills_one_line() {
        assert_eq!(size_of::<Node>(), 64);
    }
}
