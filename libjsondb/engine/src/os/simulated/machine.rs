//! A client machine of the model: what it remembers of names and files, and what it has not written back.

use std::collections::HashMap;
use std::time::Duration;

use super::server::{Attributes, Node};

/// How a machine mounts the folder, and what is wrong with its client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mount {
    /// Attributes are believed for so long.
    pub(super) age_max: Duration,
    /// That there was no such name is remembered (`lookupcache=all`).
    pub(super) remembers_misses: bool,
    /// Calls a name that is taken a success.
    pub(super) maps_taken: bool,
}

/// What is remembered of a folder.
#[derive(Default)]
pub(super) struct Folder {
    pub(super) change: u64,
    pub(super) until: Duration,
    pub(super) names: HashMap<String, Option<Node>>,
    pub(super) listing: Option<Vec<String>>,
}

impl Folder {
    /// The folder was found in this state: what was remembered of another one is forgotten.
    pub(super) fn found(&mut self, change: u64, until: Duration) {
        if self.change != change {
            self.names.clear();
            self.listing = None;
        }
        (self.change, self.until) = (change, until);
    }
}

/// What is remembered of a file.
#[derive(Default)]
pub(super) struct File {
    pub(super) attributes: Attributes,
    pub(super) until: Duration,
    /// As it was at `attributes.change`.
    pub(super) bytes: Option<Vec<u8>>,
    /// Written here, not there yet.
    pub(super) dirty: Vec<(u64, Vec<u8>)>,
    /// What a write back failed with that nobody was told of.
    pub(super) failed: Option<i32>,
    pub(super) handles: usize,
    /// Its last name is one that this machine gave it when it was removed while open: folder and name.
    pub(super) removed_as: Option<(Node, String)>,
}

impl File {
    /// The file was found in this state.
    pub(super) fn found(&mut self, attributes: Attributes, until: Duration) {
        if self.attributes.change != attributes.change {
            self.bytes = None;
        }
        (self.attributes, self.until) = (attributes, until);
    }

    /// What a process of this machine reads.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let mut bytes = self.bytes.clone().unwrap_or_default();
        for (at, written) in &self.dirty {
            let end = *at as usize + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at as usize..end].copy_from_slice(written);
        }
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(super) fn len(&self) -> u64 {
        let ends = self.dirty.iter().map(|(at, written)| at + written.len() as u64);
        ends.max().unwrap_or_default().max(self.attributes.len)
    }
}

pub(super) struct Machine {
    pub(super) mount: Mount,
    pub(super) folders: HashMap<Node, Folder>,
    pub(super) files: HashMap<Node, File>,
    /// It does nothing until then.
    pub(super) paused_until: Duration,
    pub(super) paused_at: Duration,
    /// Its clock shows so much more than the server's.
    pub(super) ahead: Duration,
}

impl Machine {
    pub(super) fn new(mount: Mount, ahead: Duration) -> Machine {
        Machine {
            mount,
            folders: HashMap::new(),
            files: HashMap::new(),
            paused_until: Duration::ZERO,
            paused_at: Duration::ZERO,
            ahead,
        }
    }

    /// How long the server has not heard of it.
    pub(super) fn silent(&self, now: Duration) -> Duration {
        if now < self.paused_until { now.saturating_sub(self.paused_at) } else { Duration::ZERO }
    }
}
