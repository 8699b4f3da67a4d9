//! What a process asks of its machine: paths to nodes, files by handle, with all that the machine remembers in between.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::State;
use super::machine::{File, Machine};
use super::server::{Attributes, EEXIST, EIO, ENOENT, ESTALE, Handle, Node, ROOT, Server, error};

/// How a file is to be opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Existing,
    OrCreate,
    New,
}

fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ESTALE)
}

impl State {
    fn machine(&mut self) -> &mut Machine {
        let machine = self.processes[self.running].machine;
        &mut self.machines[machine]
    }

    /// Until when what was found now is believed.
    fn until(&mut self) -> Duration {
        let age = self.machine().mount.age_max.as_millis() as u64;
        self.now + Duration::from_millis(self.random.below(age + 1))
    }

    /// A call to the server that changes names. Its answer may be lost; then it is made again.
    fn call<T>(&mut self, call: impl Fn(&mut Server) -> io::Result<T>) -> io::Result<T> {
        let mut answer = call(&mut self.server);
        if self.chance(self.faults.lost_reply) {
            answer = call(&mut self.server);
        }
        if self.chance(self.faults.lost_for_good) { error(EIO) } else { answer }
    }

    fn look_at_folder(&mut self, folder: Node, is_forced: bool) -> io::Result<()> {
        let until = self.until();
        let now = self.now;
        if !is_forced && self.machine().folders.get(&folder).is_some_and(|found| now < found.until) {
            return Ok(());
        }
        match self.server.attributes(folder) {
            Ok(attributes) => {
                self.machine().folders.entry(folder).or_default().found(attributes.change, until);
                Ok(())
            }
            Err(error) => {
                self.machine().folders.remove(&folder);
                Err(error)
            }
        }
    }

    fn find(&mut self, folder: Node, name: &str) -> io::Result<Option<Node>> {
        self.look_at_folder(folder, false)?;
        if let Some(known) = self.machine().folders.get(&folder).and_then(|folder| folder.names.get(name)) {
            return Ok(*known);
        }
        let found = self.server.find(folder, name)?;
        let machine = self.machine();
        if found.is_some() || machine.mount.remembers_misses {
            machine.folders.entry(folder).or_default().names.insert(name.to_owned(), found);
        }
        Ok(found)
    }

    /// The folder of a path and the name in it.
    fn parent(&mut self, path: &Path) -> io::Result<(Node, String)> {
        self.reach_path(path)?;
        let names: Vec<String> =
            path.iter().skip(1).map(|name| name.to_string_lossy().into_owned()).collect();
        let Some((last, folders)) = names.split_last() else { return Ok((ROOT, String::new())) };
        'anew: for _ in 0..2 {
            let mut node = ROOT;
            for name in folders {
                match self.find(node, name) {
                    Ok(Some(found)) => node = found,
                    Ok(None) => return error(ENOENT),
                    Err(stale) if is_stale(&stale) => {
                        self.machine().folders.clear();
                        continue 'anew;
                    }
                    Err(other) => return Err(other),
                }
            }
            match self.look_at_folder(node, false) {
                Err(stale) if is_stale(&stale) => self.machine().folders.clear(),
                looked => return looked.map(|()| (node, last.clone())),
            }
        }
        error(ESTALE)
    }

    fn node(&mut self, path: &Path) -> io::Result<Option<Node>> {
        let (folder, name) = self.parent(path)?;
        if name.is_empty() { Ok(Some(ROOT)) } else { self.find(folder, &name) }
    }

    /// The node of a path as the server has it now, with its attributes.
    fn node_now(&mut self, path: &Path) -> io::Result<(Node, Attributes)> {
        for _ in 0..2 {
            let Some(node) = self.node(path)? else { return error(ENOENT) };
            match self.server.attributes(node) {
                Err(stale) if is_stale(&stale) => self.forget(path)?,
                found => return found.map(|attributes| (node, attributes)),
            }
        }
        error(ESTALE)
    }

    fn forget(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        self.machine().folders.entry(folder).or_default().names.remove(&name);
        Ok(())
    }

    /// This machine has changed a folder that had been as `before`.
    fn note(&mut self, folder: Node, before: u64, name: &str, node: Option<Node>) {
        let after = self.server.attributes(folder).map_or(0, |attributes| attributes.change);
        let remembers_misses = self.machine().mount.remembers_misses;
        let known = self.machine().folders.entry(folder).or_default();
        if known.change != before {
            known.found(after, Duration::ZERO);
            return;
        }
        known.change = after;
        known.listing = None;
        if node.is_some() || remembers_misses {
            known.names.insert(name.to_owned(), node);
        } else {
            known.names.remove(name);
        }
    }

    fn change_of(&self, folder: Node) -> u64 {
        self.server.attributes(folder).map_or(0, |attributes| attributes.change)
    }

    pub(super) fn open(&mut self, path: &Path, opening: Opening) -> io::Result<(Node, Handle)> {
        self.tell("open", path);
        let (folder, name) = self.parent(path)?;
        let before = self.change_of(folder);
        let existing = if opening == Opening::New {
            if self.find(folder, &name)?.is_some() {
                return error(EEXIST);
            }
            None
        } else {
            match self.node_now(path) {
                Ok(found) => Some(found),
                Err(missing) if missing.raw_os_error() == Some(ENOENT) && opening == Opening::OrCreate => {
                    None
                }
                Err(other) => return Err(other),
            }
        };
        let (node, attributes) = match existing {
            Some(found) => found,
            None => {
                // Made again it gives the same answer.
                let node = match self.server.create(folder, &name) {
                    Err(taken) if taken.raw_os_error() == Some(EEXIST) && opening == Opening::OrCreate => {
                        self.server.find(folder, &name)?.ok_or(io::ErrorKind::NotFound)?
                    }
                    made => made?,
                };
                self.note(folder, before, &name, Some(node));
                (node, self.server.attributes(node)?)
            }
        };
        let until = self.until();
        let file = self.machine().files.entry(node).or_default();
        file.found(attributes, until);
        file.handles += 1;
        self.next_handle += 1;
        let handle = self.next_handle;
        let process = self.running;
        self.processes[process].open.insert(handle, node);
        self.note_copy(node, path);
        Ok((node, handle))
    }

    /// A file of the machine, its attributes and bytes looked for at the server when they are too old.
    fn file(&mut self, node: Node) -> io::Result<&mut File> {
        self.reach_node(node)?;
        let (now, until) = (self.now, self.until());
        let machine = self.processes[self.running].machine;
        let (server, files) = (&self.server, &mut self.machines[machine].files);
        let file = files.entry(node).or_default();
        if now >= file.until || file.bytes.is_none() {
            file.found(server.attributes(node)?, until);
        }
        if file.bytes.is_none() {
            file.bytes = Some(server.bytes(node)?.clone());
        }
        Ok(file)
    }

    pub(super) fn read(&mut self, node: Node, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.file(node)?.read(buffer, offset))
    }

    pub(super) fn len(&mut self, node: Node) -> io::Result<Attributes> {
        let file = self.file(node)?;
        let len = file.len();
        Ok(Attributes { len, ..file.attributes })
    }

    pub(super) fn write(&mut self, node: Node, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.machine().files.entry(node).or_default().dirty.push((offset, bytes.to_vec()));
        // The system writes back when it likes.
        if self.random.one_in(4) {
            let machine = self.processes[self.running].machine;
            if let Err(failed) = self.write_back(machine, node) {
                self.machine().files.entry(node).or_default().failed = failed.raw_os_error();
            }
        }
        Ok(bytes.len())
    }

    /// Writes what is dirty to the server. What cannot be written is dropped, and told once.
    pub(super) fn write_back(&mut self, machine: usize, node: Node) -> io::Result<()> {
        self.reach_node(node)?;
        let until = self.now;
        let file = self.machines[machine].files.entry(node).or_default();
        let dirty = std::mem::take(&mut file.dirty);
        if let Some(errno) = file.failed.take() {
            return error(errno);
        }
        for (offset, bytes) in dirty {
            if let Err(failed) = self.server.write(node, offset, &bytes) {
                file.bytes = None;
                file.until = until;
                return Err(failed);
            }
            file.bytes = None;
        }
        if let Ok(attributes) = self.server.attributes(node) {
            file.found(attributes, until);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, process: usize, handle: Handle) {
        let Some(node) = self.processes[process].open.remove(&handle) else { return };
        let machine = self.processes[process].machine;
        // Who closes is not told what became of it here.
        let _ = self.write_back(machine, node);
        self.server.unlock(node, handle);
        let Some(file) = self.machines[machine].files.get_mut(&node) else { return };
        file.handles -= 1;
        if file.handles == 0
            && let Some((folder, name)) = file.removed_as.take()
        {
            let _ = self.server.remove(folder, &name);
        }
    }

    pub(super) fn metadata(&mut self, path: &Path) -> io::Result<(Node, Attributes)> {
        let now = self.now;
        if let Some(node) = self.node(path)?
            && let Some(file) = self.machine().files.get(&node)
            && now < file.until
        {
            return Ok((node, Attributes { len: file.len(), ..file.attributes }));
        }
        let (node, attributes) = self.node_now(path)?;
        let until = self.until();
        let file = self.machine().files.entry(node).or_default();
        file.found(attributes, until);
        Ok((node, Attributes { len: file.len(), ..attributes }))
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<String>> {
        self.tell("list", path);
        for _ in 0..2 {
            let Some(node) = self.node(path)? else { return error(ENOENT) };
            match self.look_at_folder(node, true) {
                Err(stale) if is_stale(&stale) => {
                    self.machine().folders.clear();
                    continue;
                }
                looked => looked?,
            }
            if let Some(listing) = self.machine().folders.get(&node).and_then(|folder| folder.listing.clone())
            {
                return Ok(listing);
            }
            let names = self.server.names(node)?;
            self.machine().folders.entry(node).or_default().listing = Some(names.clone());
            return Ok(names);
        }
        error(ESTALE)
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.tell("link", to);
        let Some(node) = self.node(from)? else { return error(ENOENT) };
        let (folder, name) = self.parent(to)?;
        let taken = self.find(folder, &name)?.is_some();
        let before = self.change_of(folder);
        let linked = if taken { error(EEXIST) } else { self.call(|server| server.link(node, folder, &name)) };
        match &linked {
            Ok(()) => self.note(folder, before, &name, Some(node)),
            Err(stale) if is_stale(stale) => {
                self.machine().folders.clear();
            }
            Err(_) => drop(self.machine().folders.remove(&folder)),
        }
        if let Some(file) = self.machine().files.get_mut(&node) {
            file.until = Duration::ZERO;
        }
        match linked {
            Err(taken) if taken.raw_os_error() == Some(EEXIST) && self.machine().mount.maps_taken => Ok(()),
            linked => linked,
        }
    }

    /// A file that a process of this machine has open keeps a name until it is closed.
    fn set_aside(&mut self, folder: Node, name: &str) -> io::Result<bool> {
        let Some(node) = self.find(folder, name)? else { return Ok(false) };
        let is_last = self.server.attributes(node).is_ok_and(|attributes| attributes.links == 1);
        let is_open = self.machine().files.get(&node).is_some_and(|file| file.handles > 0);
        if !is_open || !is_last || self.server.find(folder, name)? != Some(node) {
            return Ok(false);
        }
        let aside = format!(".nfs{node:016x}");
        self.server.rename((folder, name), (folder, &aside))?;
        self.machine().files.entry(node).or_default().removed_as = Some((folder, aside));
        Ok(true)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.tell("remove", path);
        let (folder, name) = self.parent(path)?;
        let before = self.change_of(folder);
        if self.find(folder, &name)?.is_none() {
            return error(ENOENT);
        }
        let removed = if self.set_aside(folder, &name)? {
            Ok(())
        } else {
            self.call(|server| server.remove(folder, &name))
        };
        self.note(folder, before, &name, None);
        removed
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.tell("rename to", to);
        let (from_folder, from_name) = self.parent(from)?;
        let (to_folder, to_name) = self.parent(to)?;
        let Some(node) = self.find(from_folder, &from_name)? else { return error(ENOENT) };
        let _ = self.set_aside(to_folder, &to_name)?;
        let (from_before, to_before) = (self.change_of(from_folder), self.change_of(to_folder));
        let renamed = self.call(|server| server.rename((from_folder, &from_name), (to_folder, &to_name)));
        self.note(from_folder, from_before, &from_name, None);
        self.note(to_folder, to_before, &to_name, Some(node));
        if renamed.is_err() {
            self.machine().folders.remove(&from_folder);
            self.machine().folders.remove(&to_folder);
        }
        renamed
    }

    pub(super) fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        let made = self.call(|server| server.create_folder(folder, &name).map(drop));
        self.machine().folders.remove(&folder);
        made
    }

    pub(super) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        let removed = self.call(|server| server.remove_folder(folder, &name));
        self.machine().folders.remove(&folder);
        removed
    }

    pub(super) fn lock(&mut self, node: Node, handle: Handle) -> io::Result<bool> {
        self.reach_node(node)?;
        let now = self.now;
        let silent: Vec<Duration> = self.machines.iter().map(|machine| machine.silent(now)).collect();
        let machine = self.processes[self.running].machine;
        self.server.lock(node, handle, machine, &silent)
    }
}
