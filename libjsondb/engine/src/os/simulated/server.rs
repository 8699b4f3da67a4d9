//! The file server of the model: files, folders, names and locks, as they are for everybody.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

/// A file or folder, whatever its names.
pub(super) type Node = u64;
/// An open file of some process.
pub(super) type Handle = u64;

pub(super) const ROOT: Node = 1;
/// Locks of a machine that was not heard of for so long are given to others.
const LEASE: Duration = Duration::from_secs(90);

pub(super) const ESTALE: i32 = 116;
pub(super) const ENOENT: i32 = 2;
pub(super) const EEXIST: i32 = 17;
pub(super) const ENOTEMPTY: i32 = 39;
pub(super) const ENOSPC: i32 = 28;
pub(super) const EIO: i32 = 5;

pub(super) fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

/// What there is to know about a file or folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Rises with every change.
    pub(super) change: u64,
    pub(super) changed: Duration,
    pub(super) len: u64,
    pub(super) links: u64,
    pub(super) is_folder: bool,
}

enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<String, Node>),
}

struct Entry {
    content: Content,
    links: u64,
    change: u64,
    changed: Duration,
}

struct Lock {
    handle: Handle,
    machine: usize,
}

pub(super) struct Server {
    nodes: HashMap<Node, Entry>,
    next_node: Node,
    next_change: u64,
    locks: BTreeMap<Node, Lock>,
    /// No space until then.
    pub(super) full_until: Duration,
    pub(super) now: Duration,
}

impl Server {
    pub(super) fn new() -> Server {
        let root =
            Entry { content: Content::Folder(BTreeMap::new()), links: 1, change: 1, changed: Duration::ZERO };
        Server {
            nodes: HashMap::from([(ROOT, root)]),
            next_node: ROOT + 1,
            next_change: 2,
            locks: BTreeMap::new(),
            full_until: Duration::ZERO,
            now: Duration::ZERO,
        }
    }

    fn has_space(&self) -> io::Result<()> {
        if self.now < self.full_until { error(ENOSPC) } else { Ok(()) }
    }

    fn touch(&mut self, node: Node) {
        let (change, now) = (self.next_change, self.now);
        self.next_change += 1;
        if let Some(entry) = self.nodes.get_mut(&node) {
            (entry.change, entry.changed) = (change, now);
        }
    }

    pub(super) fn attributes(&self, node: Node) -> io::Result<Attributes> {
        let Some(entry) = self.nodes.get(&node) else { return error(ESTALE) };
        let (len, is_folder) = match &entry.content {
            Content::File(bytes) => (bytes.len() as u64, false),
            Content::Folder(_) => (0, true),
        };
        Ok(Attributes { change: entry.change, changed: entry.changed, len, links: entry.links, is_folder })
    }

    fn folder(&self, node: Node) -> io::Result<&BTreeMap<String, Node>> {
        match self.nodes.get(&node).map(|entry| &entry.content) {
            Some(Content::Folder(names)) => Ok(names),
            _ => error(ESTALE),
        }
    }

    fn folder_mut(&mut self, node: Node) -> io::Result<&mut BTreeMap<String, Node>> {
        match self.nodes.get_mut(&node).map(|entry| &mut entry.content) {
            Some(Content::Folder(names)) => Ok(names),
            _ => error(ESTALE),
        }
    }

    pub(super) fn bytes(&self, node: Node) -> io::Result<&Vec<u8>> {
        match self.nodes.get(&node).map(|entry| &entry.content) {
            Some(Content::File(bytes)) => Ok(bytes),
            _ => error(ESTALE),
        }
    }

    pub(super) fn find(&self, folder: Node, name: &str) -> io::Result<Option<Node>> {
        Ok(self.folder(folder)?.get(name).copied())
    }

    pub(super) fn names(&self, folder: Node) -> io::Result<Vec<String>> {
        Ok(self.folder(folder)?.keys().cloned().collect())
    }

    fn insert(&mut self, folder: Node, name: &str, content: Content) -> io::Result<Node> {
        self.has_space()?;
        let node = self.next_node;
        match self.folder_mut(folder)?.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => return error(EEXIST),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(node),
        };
        self.next_node += 1;
        self.nodes.insert(node, Entry { content, links: 1, change: 0, changed: self.now });
        self.touch(node);
        self.touch(folder);
        Ok(node)
    }

    pub(super) fn create(&mut self, folder: Node, name: &str) -> io::Result<Node> {
        self.insert(folder, name, Content::File(Vec::new()))
    }

    pub(super) fn create_folder(&mut self, folder: Node, name: &str) -> io::Result<Node> {
        self.insert(folder, name, Content::Folder(BTreeMap::new()))
    }

    pub(super) fn link(&mut self, node: Node, folder: Node, name: &str) -> io::Result<()> {
        self.has_space()?;
        if !self.nodes.contains_key(&node) {
            return error(ESTALE);
        }
        if self.folder(folder)?.contains_key(name) {
            return error(EEXIST);
        }
        self.folder_mut(folder)?.insert(name.to_owned(), node);
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.links += 1;
        }
        self.touch(node);
        self.touch(folder);
        Ok(())
    }

    /// Takes a name away; the file goes with its last one.
    pub(super) fn remove(&mut self, folder: Node, name: &str) -> io::Result<()> {
        let Some(node) = self.folder_mut(folder)?.remove(name) else { return error(ENOENT) };
        self.touch(folder);
        self.unlink(node);
        Ok(())
    }

    fn unlink(&mut self, node: Node) {
        self.touch(node);
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.links -= 1;
            if entry.links == 0 {
                self.nodes.remove(&node);
                self.locks.remove(&node);
            }
        }
    }

    /// Removes everything in a folder.
    pub(super) fn empty(&mut self, folder: Node) {
        let inside: Vec<Node> =
            self.folder(folder).map(|names| names.values().copied().collect()).unwrap_or_default();
        for node in inside {
            self.empty(node);
            self.nodes.remove(&node);
            self.locks.remove(&node);
        }
        if let Ok(names) = self.folder_mut(folder) {
            names.clear();
        }
        self.touch(folder);
    }

    pub(super) fn remove_folder(&mut self, folder: Node, name: &str) -> io::Result<()> {
        let Some(node) = self.find(folder, name)? else { return error(ENOENT) };
        if !self.folder(node)?.is_empty() {
            return error(ENOTEMPTY);
        }
        self.remove(folder, name)
    }

    pub(super) fn rename(&mut self, from: (Node, &str), to: (Node, &str)) -> io::Result<()> {
        let Some(node) = self.folder_mut(from.0)?.remove(from.1) else { return error(ENOENT) };
        let replaced = self.folder_mut(to.0)?.insert(to.1.to_owned(), node);
        self.touch(from.0);
        self.touch(to.0);
        self.touch(node);
        if let Some(replaced) = replaced {
            self.unlink(replaced);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, node: Node, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.has_space()?;
        let end = offset as usize + bytes.len();
        match self.nodes.get_mut(&node).map(|entry| &mut entry.content) {
            Some(Content::File(stored)) => {
                if stored.len() < end {
                    stored.resize(end, 0);
                }
                stored[offset as usize..end].copy_from_slice(bytes);
            }
            _ => return error(ESTALE),
        }
        self.touch(node);
        Ok(())
    }

    /// Gives the lock of a file, if nobody holds it or its holder's machine (`silent` for how long, of each) was not heard of.
    pub(super) fn lock(
        &mut self,
        node: Node,
        handle: Handle,
        machine: usize,
        silent: &[Duration],
    ) -> io::Result<bool> {
        if !self.nodes.contains_key(&node) {
            return error(ESTALE);
        }
        if let Some(lock) = self.locks.get(&node)
            && lock.handle != handle
            && (lock.machine == machine || silent[lock.machine] < LEASE)
        {
            return Ok(false);
        }
        self.locks.insert(node, Lock { handle, machine });
        Ok(true)
    }

    pub(super) fn unlock(&mut self, node: Node, handle: Handle) {
        if self.locks.get(&node).is_some_and(|lock| lock.handle == handle) {
            self.locks.remove(&node);
        }
    }

    /// The server starts anew: locks are claimed again, but for those that `is_lost`.
    pub(super) fn restart(&mut self, mut is_lost: impl FnMut() -> bool) {
        self.locks.retain(|_, _| !is_lost());
    }
}
