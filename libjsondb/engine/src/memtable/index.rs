//! Keys with their versions: found by hash, walked in order, read without locks while one thread adds.
//!
//! A key has one node, however often it is written. Nodes form a skip list (Pugh 1990) and a hash table; the versions of a key a list with
//! jumps, newest first, in which any is found in logarithmic time (Myers, "An applicative random-access stack", 1983).
//! Everything refers to everything by number, so nothing is allocated per key or version: their bytes lie in one block per commit.

use std::cmp::Ordering as Order;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// A key.
pub(super) struct Node {
    head: Head,
    key: Place,
    /// Its newest version.
    pub(super) newest: AtomicU32,
    /// The next node on each level; on the lowest that of the next key.
    near: [AtomicU32; NEAR_LEVELS],
    /// Number of the first link of the levels above.
    far: u32,
}

impl Node {
    pub(super) fn new(probe: &Probe<'_>, key: Place, newest: u32, far: u32) -> Node {
        Node { head: probe.head, key, newest: AtomicU32::new(newest), near: Default::default(), far }
    }

    /// Of a level above the near ones.
    fn far_link(&self, level: usize) -> u32 {
        self.far + (level - NEAR_LEVELS) as u32
    }
}

/// A node fills a line of the processor's cache: a search meets many of them.
#[derive(Default)]
#[repr(align(64))]
struct Line(OnceLock<Node>);

/// What a commit set a key to.
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

/// The node before all keys; as a link: there is no next one.
pub(super) const NONE: u32 = 0;

pub(super) struct Index {
    pub(super) table: Table,
    nodes: Chunks<Line>,
    pub(super) versions: Chunks<OnceLock<Version>>,
    pub(super) far: Chunks<AtomicU32>,
    /// Keys and values of a commit each.
    pub(super) blocks: Chunks<OnceLock<Box<[u8]>>>,
}

/// Memory of a node with its slots of the hash table, of a version, and of a block beside its bytes.
pub(super) const NODE_BYTES: u64 = size_of::<Line>() as u64 + 24;
pub(super) const VERSION_BYTES: u64 = size_of::<OnceLock<Version>>() as u64;
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
        index.make_node(NONE, Node::new(&Probe::new(&[]), empty, 0, 0), LEVELS);
        index
    }
}

impl Index {
    /// A node on so many levels, to which no link leads yet.
    pub(super) fn make_node(&self, number: u32, node: Node, levels: usize) {
        for level in NEAR_LEVELS..levels {
            self.far.make(node.far_link(level));
        }
        // Numbers are used once.
        let _ = self.nodes.make(number).0.set(node);
    }

    pub(super) fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number)?.0.get()
    }

    pub(super) fn version(&self, number: u32) -> Option<&Version> {
        self.versions.get(number)?.get()
    }

    fn bytes(&self, place: Place) -> &[u8] {
        let block = self.blocks.get(place.block).and_then(OnceLock::get);
        let bytes = block.and_then(|block| block.get(place.offset as usize..)?.get(..place.len as usize));
        bytes.unwrap_or_default()
    }

    pub(super) fn key(&self, number: u32) -> &[u8] {
        self.node(number).map_or(&[], |node| self.bytes(node.key))
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

    pub(super) fn newest(&self, node: u32) -> Option<&Version> {
        self.version(self.node(node)?.newest.load(Ordering::Acquire))
    }

    /// The newest version of a node that is not newer than `upto`.
    pub(super) fn newest_upto(&self, node: u32, upto: Seq) -> Option<&Version> {
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
        node.head.cmp(&probe.head).then_with(|| {
            let len = node.key.len as usize;
            if len.max(probe.key.len()) <= HEAD_LEN {
                // What differs is zeros at the end.
                len.cmp(&probe.key.len())
            } else {
                self.bytes(node.key).cmp(probe.key)
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
        assert_eq!(size_of::<Line>(), 64);
    }
}
