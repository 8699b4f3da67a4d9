//! Adding what a commit wrote to an index: by one thread at a time, while others read.

use std::cmp::Ordering as Order;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::batch::{Batch, Kind};
use super::index::{Index, LEVELS, NEAR_LEVELS, NONE, NewNode, Node, Place, Probe, Version};
use super::table::KeyHash;
use crate::Seq;

/// What is kept from one commit to the next: the numbers of what is added next, and where it was added last.
pub(super) struct Writer {
    nodes: u32,
    versions: u32,
    far: u32,
    blocks: u32,
    random: u64,
    /// On each level the last node that is not behind the key that was added last.
    path: [u32; LEVELS],
}

impl Default for Writer {
    fn default() -> Self {
        // The first far links are those of the node before all keys.
        let (nodes, far) = (NONE + 1, (LEVELS - NEAR_LEVELS) as u32);
        Self { nodes, versions: 0, far, blocks: 0, random: 0x9e37_79b9_7f4a_7c15, path: [NONE; LEVELS] }
    }
}

impl Writer {
    /// A quarter of the nodes on each level is on the next one (xorshift64).
    fn random_levels(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random.trailing_zeros() as usize / 2 + 1).min(LEVELS)
    }
}

impl Index {
    /// Adds the writes of a commit, which is newer than all before. Gives the number of new keys.
    pub(super) fn add(&self, writer: &mut Writer, seq: Seq, batch: &Batch) -> u64 {
        let (block, before) = (writer.blocks, writer.nodes);
        writer.blocks += 1;
        // Numbers are used once: this one was not set before, nor are those below.
        let _ = self.blocks.make(block).set(batch.bytes.as_slice().into());
        let place =
            |range: &Range<usize>| Place { block, offset: range.start as u32, len: range.len() as u32 };
        for write in &batch.writes {
            let key = &batch.bytes[write.key.clone()];
            let (hash, probe) = (KeyHash::of(key), Probe::new(key));
            let found = self.find_hashed(hash, &probe).and_then(|number| self.node(number));
            let version = self.add_version(writer, found, seq, place(&write.value), write.kind);
            match found {
                Some(node) => node.newest.store(version, Ordering::Release),
                None => self.add_node(writer, hash, &probe, place(&write.key), version),
            }
        }
        u64::from(writer.nodes - before)
    }

    /// Over the versions of the node, if the key has one.
    fn add_version(
        &self,
        writer: &mut Writer,
        node: Option<&Node>,
        seq: Seq,
        value: Place,
        kind: Kind,
    ) -> u32 {
        let number = writer.versions;
        writer.versions += 1;
        let newest = node.map(|node| node.newest.load(Ordering::Relaxed));
        let (depth, older, jump) = match newest.and_then(|newest| Some((newest, self.version(newest)?))) {
            Some((newest, version)) => (version.depth + 1, newest, self.jump_from(newest, &version)),
            None => (0, number, number),
        };
        self.versions.make(number).set(&Version { seq, value, kind, depth, older, jump });
        number
    }

    /// Where the version over this one jumps to: two jumps of one length become one, else it is a step.
    fn jump_from(&self, newest: u32, version: &Version) -> u32 {
        let jumps = self.version(version.jump).and_then(|first| Some((first, self.version(first.jump)?)));
        match jumps {
            Some((first, second)) if version.depth - first.depth == first.depth - second.depth => first.jump,
            _ => newest,
        }
    }

    fn add_node(&self, writer: &mut Writer, hash: KeyHash, probe: &Probe<'_>, key: Place, version: u32) {
        self.find_path(&mut writer.path, probe);
        let (number, levels) = (writer.nodes, writer.random_levels());
        writer.nodes += 1;
        self.make_node(number, &NewNode { probe, key, newest: version, far: writer.far }, levels);
        writer.far += levels.saturating_sub(NEAR_LEVELS) as u32;
        // From the lowest level on readers meet it: its own link is there before.
        for (level, before) in writer.path.iter_mut().enumerate().take(levels) {
            if let (Some(own), Some(link)) = (self.link(number, level), self.link(*before, level)) {
                own.store(link.load(Ordering::Relaxed), Ordering::Relaxed);
                link.store(number, Ordering::Release);
            }
            *before = number;
        }
        self.table.add(hash, number);
    }

    /// The last nodes before a new key. When it lies where the last one was added, nothing is searched: on higher levels there are
    /// fewer nodes, so none lies in between either.
    fn find_path(&self, path: &mut [u32; LEVELS], probe: &Probe<'_>) {
        let is_before = |node| self.compare(node, probe) == Order::Less;
        let next = self.next(path[0], 0);
        if (path[0] == NONE || is_before(path[0])) && (next == NONE || !is_before(next)) {
            return;
        }
        let mut node = NONE;
        for level in (0..LEVELS).rev() {
            node = self.last_on_level(node, level, &is_before);
            path[level] = node;
        }
    }
}
