//! A record of what the engine asked of the file system, so that tests can rebuild what a power cut may leave of it.
//!
//! Compiled for tests only: the engine's own, and with the feature `recording` those of others. The model is pessimistic: a write (and the length it gives its file) is durable after a
//! sync of its file that began later, a name after a sync of its folder, nothing else is; what is not durable may be there or not, in any
//! combination, torn at 512 bytes. What was not durable when a sync of its file failed stays so: the kernel reports such a failure
//! once and may drop the bytes, and a later sync that succeeds says nothing about them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::random::Random;

const SECTOR: usize = 512;

/// A file, whatever its name.
pub type Inode = u64;

#[derive(Clone, Debug)]
enum Operation {
    Write {
        inode: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// What was written before is durable once the sync of this number has ended.
    SyncBegins {
        inode: Inode,
        number: u64,
    },
    Sync {
        number: u64,
    },
    SyncFailed {
        inode: Inode,
    },
    Link {
        folder: PathBuf,
        name: String,
        inode: Inode,
    },
    Unlink {
        folder: PathBuf,
        name: String,
    },
    SyncFolder {
        folder: PathBuf,
    },
    /// A folder gets another name, with all that is in it. Of folders no more is recorded: others say nothing by being there.
    RenameFolder {
        from: PathBuf,
        to: PathBuf,
    },
    RemoveFolder {
        folder: PathBuf,
    },
    /// What the test knows of a commit, by number.
    Commit(u64, Knowledge),
}

/// What the test knows of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It was begun: from now on it may be there.
    Begun,
    /// It was acknowledged, or somebody has seen it: it must be there.
    Stored,
    /// It failed, and the state without it was seen: it must not come back.
    Lost,
}

/// What becomes of something that was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Kept,
    /// It is not.
    Gone,
    /// Some sectors of a write; the number tells which. A name is kept or gone by its lowest bit.
    Torn(u64),
}

/// Everything that happened below one folder.
#[derive(Default)]
pub struct Trace {
    root: PathBuf,
    operations: Vec<Operation>,
    names: HashMap<PathBuf, Inode>,
    next_inode: Inode,
    next_sync: u64,
}

static TRACES: Mutex<Vec<Trace>> = Mutex::new(Vec::new());

fn traces() -> MutexGuard<'static, Vec<Trace>> {
    TRACES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with(path: &Path, record: impl FnOnce(&mut Trace)) {
    if let Some(trace) = traces().iter_mut().find(|trace| path.starts_with(&trace.root)) {
        record(trace);
    }
}

fn split(path: &Path) -> (PathBuf, String) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    (path.parent().unwrap_or(path).to_owned(), name.to_owned())
}

/// Records everything below `root`, which is empty, from now on.
pub fn start(root: &Path) {
    traces().push(Trace { root: root.to_owned(), ..Trace::default() });
}

/// Ends the recording.
pub fn finish(root: &Path) -> Trace {
    let mut traces = traces();
    let index = traces.iter().position(|trace| trace.root == root).expect("a trace was started");
    traces.remove(index)
}

/// Notes what the test knows of a commit from now on.
pub fn note(root: &Path, commit: u64, knowledge: Knowledge) {
    with(root, |trace| trace.operations.push(Operation::Commit(commit, knowledge)));
}

/// The file that was opened under a name, made now when it is new.
pub(super) fn opened(path: &Path) -> Inode {
    let mut inode = 0;
    with(path, |trace| {
        inode = trace.names.get(path).copied().unwrap_or_else(|| {
            trace.next_inode += 1;
            let (folder, name) = split(path);
            trace.names.insert(path.to_owned(), trace.next_inode);
            trace.operations.push(Operation::Link { folder, name, inode: trace.next_inode });
            trace.next_inode
        });
    });
    inode
}

pub(super) fn written(path: &Path, inode: Inode, offset: u64, bytes: &[u8]) {
    with(path, |trace| trace.operations.push(Operation::Write { inode, offset, bytes: bytes.to_vec() }));
}

/// Gives the sync's number.
pub(super) fn sync_begins(path: &Path, inode: Inode) -> u64 {
    let mut number = 0;
    with(path, |trace| {
        trace.next_sync += 1;
        number = trace.next_sync;
        trace.operations.push(Operation::SyncBegins { inode, number });
    });
    number
}

pub(super) fn synced(path: &Path, number: u64) {
    with(path, |trace| trace.operations.push(Operation::Sync { number }));
}

pub(super) fn sync_failed(path: &Path, inode: Inode) {
    with(path, |trace| trace.operations.push(Operation::SyncFailed { inode }));
}

pub(super) fn folder_synced(folder: &Path) {
    with(folder, |trace| trace.operations.push(Operation::SyncFolder { folder: folder.to_owned() }));
}

pub(super) fn folder_removed(folder: &Path) {
    with(folder, |trace| trace.operations.push(Operation::RemoveFolder { folder: folder.to_owned() }));
}

pub(super) fn removed(path: &Path) {
    with(path, |trace| {
        if trace.names.remove(path).is_some() {
            let (folder, name) = split(path);
            trace.operations.push(Operation::Unlink { folder, name });
        }
    });
}

/// Renames and records it: nobody opens the file under its new name in between, as if it were another one.
pub(super) fn renamed<E>(from: &Path, to: &Path, rename: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    #[cfg(all(test, unix))]
    if super::simulated::is_here() {
        // Others go on meanwhile, and they rename as well.
        return rename();
    }
    let mut traces = traces();
    rename()?;
    let Some(trace) = traces.iter_mut().find(|trace| to.starts_with(&trace.root)) else { return Ok(()) };
    if let Some(inode) = trace.names.remove(from) {
        trace.names.insert(to.to_owned(), inode);
        let ((folder, name), (from_folder, from_name)) = (split(to), split(from));
        trace.operations.push(Operation::Link { folder, name, inode });
        trace.operations.push(Operation::Unlink { folder: from_folder, name: from_name });
    } else if to.is_dir() {
        trace.names = std::mem::take(&mut trace.names)
            .into_iter()
            .map(|(path, inode)| (moved(&path, from, to).unwrap_or(path), inode))
            .collect();
        trace.operations.push(Operation::RenameFolder { from: from.to_owned(), to: to.to_owned() });
    }
    Ok(())
}

/// Where something is after its folder got another name; None: it was not in that folder.
fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => Some(to.to_owned()),
        Ok(rest) => Some(to.join(rest)),
        Err(_) => None,
    }
}

/// Links and records it, as [`renamed`] does.
pub(super) fn linked<E>(from: &Path, to: &Path, link: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    #[cfg(all(test, unix))]
    if super::simulated::is_here() {
        return link();
    }
    let mut traces = traces();
    link()?;
    let Some(trace) = traces.iter_mut().find(|trace| to.starts_with(&trace.root)) else { return Ok(()) };
    if let Some(inode) = trace.names.get(from).copied() {
        trace.names.insert(to.to_owned(), inode);
        let (folder, name) = split(to);
        trace.operations.push(Operation::Link { folder, name, inode });
    }
    Ok(())
}

/// What a power cut left: the files by path below the root, and what was known of the commits by then.
pub struct Image {
    /// By path below the root.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Folders that were given their names as a whole, by path below the root: they are there although they may be empty.
    pub folders: BTreeSet<PathBuf>,
    /// By number.
    pub commits: BTreeMap<u64, Knowledge>,
}

impl Image {
    /// Makes a folder that holds these files and no others.
    pub fn write_to(&self, folder: &Path) -> io::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        // Folders are made, and their names durable, before anything is in them.
        let has_format = |path: &&PathBuf| path.ends_with("FORMAT");
        let databases = self.files.keys().filter(has_format).filter_map(|path| path.parent());
        for database in databases.chain([Path::new("")]) {
            for sub in ["log", "man", "seg", "pin", "tmp"] {
                fs::create_dir_all(folder.join(database).join(sub))?;
            }
        }
        for sub in &self.folders {
            fs::create_dir_all(folder.join(sub))?;
        }
        for (path, content) in &self.files {
            // What ends in zeros takes no room on disk.
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let path = folder.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut file = fs::File::create(path)?;
            file.write_all(&content[..used])?;
            file.set_len(content.len() as u64)?;
        }
        Ok(())
    }
}

impl Trace {
    /// How many operations there are.
    pub fn operations(&self) -> usize {
        self.operations.len()
    }

    /// Syncs of files and folders since the test noted something of this commit.
    pub fn syncs_after(&self, commit: u64) -> usize {
        let noted =
            |operation: &&Operation| !matches!(operation, Operation::Commit(noted, _) if *noted == commit);
        let is_sync = |operation: &&Operation| {
            matches!(operation, Operation::Sync { .. } | Operation::SyncFolder { .. })
        };
        self.operations.iter().skip_while(noted).filter(is_sync).count()
    }

    /// Places right before and after a sync, where most depends on the order.
    pub fn sync_boundaries(&self) -> Vec<usize> {
        let is_sync = |operation: &Operation| {
            matches!(
                operation,
                Operation::Sync { .. } | Operation::SyncFailed { .. } | Operation::SyncFolder { .. }
            )
        };
        let syncs = self.operations.iter().enumerate().filter(|(_, operation)| is_sync(operation));
        syncs.flat_map(|(index, _)| [index, index + 1]).collect()
    }

    /// For each of the first `count` operations: whether a power cut after them keeps it for sure.
    fn durable(&self, count: usize) -> Vec<bool> {
        // What the next sync of each file and folder, seen from the end, says.
        let mut files: HashMap<Inode, bool> = HashMap::new();
        let mut folders: HashSet<&Path> = HashSet::new();
        let mut ended: HashSet<u64> = HashSet::new();
        let mut durable: Vec<bool> = Vec::with_capacity(count);
        for operation in self.operations[..count].iter().rev() {
            durable.push(match operation {
                Operation::Write { inode, .. } => files.get(inode) == Some(&true),
                Operation::Link { folder, .. } | Operation::Unlink { folder, .. } => {
                    folders.contains(folder.as_path())
                }
                Operation::Sync { number } => ended.insert(*number),
                Operation::SyncBegins { inode, number } => {
                    ended.contains(number) && files.insert(*inode, true).is_some()
                }
                Operation::SyncFailed { inode } => files.insert(*inode, false).is_some(),
                Operation::SyncFolder { folder } => folders.insert(folder),
                Operation::RenameFolder { to: folder, .. } | Operation::RemoveFolder { folder } => {
                    folder.parent().is_some_and(|parent| folders.contains(parent))
                }
                Operation::Commit(..) => false,
            });
        }
        durable.reverse();
        durable
    }

    /// What may be left when the power goes after `count` operations. `fate` is asked about everything that is not durable, once
    /// for each write and name.
    pub fn image(&self, count: usize, fate: &mut dyn FnMut() -> Fate) -> Image {
        let mut contents: HashMap<Inode, Vec<u8>> = HashMap::new();
        let mut names: BTreeMap<PathBuf, Inode> = BTreeMap::new();
        let mut commits = BTreeMap::new();
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        // Folders whose new name is gone: what was put into them later is under the old one.
        let mut unmoved: Vec<(&Path, &Path)> = Vec::new();
        for (operation, durable) in self.operations.iter().zip(self.durable(count)) {
            let fate = if durable || !operation.is_change() { Fate::Kept } else { fate() };
            match operation {
                Operation::Write { inode, offset, bytes } => {
                    write(contents.entry(*inode).or_default(), *offset as usize, bytes, fate);
                }
                Operation::Link { folder, name, inode } if fate.keeps_name() => {
                    names.insert(place(folder.join(name), &unmoved), *inode);
                }
                Operation::Unlink { folder, name } if fate.keeps_name() => {
                    names.remove(&place(folder.join(name), &unmoved));
                }
                Operation::RenameFolder { from, to } if fate.keeps_name() => {
                    let all = std::mem::take(&mut names).into_iter();
                    names =
                        all.map(|(path, inode)| (moved(&path, from, to).unwrap_or(path), inode)).collect();
                    folders.insert(to.clone());
                }
                Operation::RenameFolder { from, to } => unmoved.push((from, to)),
                Operation::RemoveFolder { folder } if fate.keeps_name() => drop(folders.remove(folder)),
                Operation::Commit(commit, knowledge) => drop(commits.insert(*commit, *knowledge)),
                _ => {}
            }
        }
        let files = names
            .into_iter()
            .filter_map(|(path, inode)| {
                let path = path.strip_prefix(&self.root).ok()?.to_owned();
                Some((path, contents.get(&inode).cloned().unwrap_or_default()))
            })
            .collect();
        let below = |folder: PathBuf| folder.strip_prefix(&self.root).ok().map(Path::to_owned);
        let folders = folders.into_iter().filter_map(below).collect();
        Image { files, folders, commits }
    }
}

/// Where a path is, when some folders did not get their new names.
fn place(path: PathBuf, unmoved: &[(&Path, &Path)]) -> PathBuf {
    unmoved.iter().fold(path, |path, (from, to)| moved(&path, to, from).unwrap_or(path))
}

impl Operation {
    /// Whether it changes what is on disk.
    fn is_change(&self) -> bool {
        matches!(
            self,
            Operation::Write { .. }
                | Operation::Link { .. }
                | Operation::Unlink { .. }
                | Operation::RenameFolder { .. }
                | Operation::RemoveFolder { .. }
        )
    }
}

impl Fate {
    fn keeps_name(self) -> bool {
        match self {
            Fate::Kept => true,
            Fate::Gone => false,
            Fate::Torn(choice) => choice & 1 == 1,
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8], fate: Fate) {
    let mut random = match fate {
        Fate::Kept => None,
        Fate::Gone => return,
        Fate::Torn(choice) => Some(Random::new(choice)),
    };
    let end = offset + bytes.len();
    // The length may be there although the bytes are not: such a file ends in zeros.
    if random.as_mut().is_some_and(|random| random.one_in(2)) && content.len() < end {
        content.resize(end, 0);
    }
    let mut at = offset;
    while at < end {
        let sector_end = end.min((at / SECTOR + 1) * SECTOR);
        if random.as_mut().is_none_or(|random| random.one_in(2)) {
            if content.len() < sector_end {
                content.resize(sector_end, 0);
            }
            content[at..sector_end].copy_from_slice(&bytes[at - offset..sector_end - offset]);
        }
        at = sector_end;
    }
}
