//! A record of what the engine asked of the file system, so that tests can rebuild what a power cut may leave of it.
//!
//! Compiled for the engine's own tests only. The model is pessimistic: a write is durable after a sync of its file, a name after
//! a sync of its folder, nothing else is; what is not durable may be there or not, in any combination, torn at 512 bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SECTOR: u64 = 512;

/// A file, whatever its name.
pub(crate) type Inode = u64;

#[derive(Clone, Debug)]
enum Operation {
    Write {
        inode: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    Sync {
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
    /// The test was told that this much is stored.
    Acknowledge(u64),
}

/// Everything that happened below one folder.
#[derive(Default)]
pub(crate) struct Trace {
    root: PathBuf,
    operations: Vec<Operation>,
    names: HashMap<PathBuf, Inode>,
    next_inode: Inode,
    faults: Option<Faults>,
}

/// Which call fails, and how.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Only calls of this kind on files of this extension; None: all.
    pub(crate) only: Option<(&'static str, &'static str)>,
    /// How many such calls succeed before.
    pub(crate) after: u64,
    /// How many fail then.
    pub(crate) count: u64,
    /// Error number of the operating system.
    pub(crate) errno: i32,
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
pub(crate) fn start(root: &Path) {
    traces().push(Trace { root: root.to_owned(), ..Trace::default() });
}

/// Ends the recording.
pub(crate) fn finish(root: &Path) -> Trace {
    let mut traces = traces();
    let index = traces.iter().position(|trace| trace.root == root).expect("a trace was started");
    traces.remove(index)
}

/// Marks what the test was told is stored.
pub(crate) fn acknowledge(root: &Path, number: u64) {
    with(root, |trace| trace.operations.push(Operation::Acknowledge(number)));
}

/// Makes calls below `root` fail; None ends it. Gives what was left of the faults set before.
pub(crate) fn set_faults(root: &Path, faults: Option<Faults>) -> Option<Faults> {
    let mut before = None;
    with(root, |trace| before = std::mem::replace(&mut trace.faults, faults));
    before
}

/// The error of a call that is to fail.
pub(super) fn fault(action: &str, path: &Path) -> Option<std::io::Error> {
    let mut error = None;
    with(path, |trace| {
        let Some(faults) = &mut trace.faults else { return };
        if let Some((only, extension)) = faults.only
            && (only != action || path.extension().is_none_or(|found| found != extension))
        {
            return;
        }
        if faults.after > 0 {
            faults.after -= 1;
        } else if faults.count > 0 {
            faults.count -= 1;
            error = Some(std::io::Error::from_raw_os_error(faults.errno));
        }
    });
    error
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

pub(super) fn synced(path: &Path, inode: Inode) {
    with(path, |trace| trace.operations.push(Operation::Sync { inode }));
}

pub(super) fn folder_synced(folder: &Path) {
    with(folder, |trace| trace.operations.push(Operation::SyncFolder { folder: folder.to_owned() }));
}

pub(super) fn removed(path: &Path) {
    with(path, |trace| {
        if trace.names.remove(path).is_some() {
            let (folder, name) = split(path);
            trace.operations.push(Operation::Unlink { folder, name });
        }
    });
}

pub(super) fn renamed(from: &Path, to: &Path) {
    with(to, |trace| {
        if let Some(inode) = trace.names.remove(from) {
            trace.names.insert(to.to_owned(), inode);
            let ((folder, name), (from_folder, from_name)) = (split(to), split(from));
            trace.operations.push(Operation::Link { folder, name, inode });
            trace.operations.push(Operation::Unlink { folder: from_folder, name: from_name });
        }
    });
}

/// What a power cut left: the files by path below the root, and the last number acknowledged before it.
pub(crate) struct Image {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) acknowledged: u64,
}

impl Trace {
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// Places right before and after a sync, where most depends on the order.
    pub(crate) fn sync_boundaries(&self) -> Vec<usize> {
        let is_sync = |operation: &Operation| {
            matches!(operation, Operation::Sync { .. } | Operation::SyncFolder { .. })
        };
        let syncs = self.operations.iter().enumerate().filter(|(_, operation)| is_sync(operation));
        syncs.flat_map(|(index, _)| [index, index + 1]).collect()
    }

    /// What may be left when the power goes after `count` operations. `chance` decides about everything that is not durable: it
    /// is asked once for each sector and name.
    pub(crate) fn image(&self, count: usize, chance: &mut dyn FnMut() -> bool) -> Image {
        let happened = &self.operations[..count];
        let mut synced: HashMap<Inode, usize> = HashMap::new();
        let mut folder_synced: HashMap<&Path, usize> = HashMap::new();
        for (index, operation) in happened.iter().enumerate() {
            match operation {
                Operation::Sync { inode } => drop(synced.insert(*inode, index)),
                Operation::SyncFolder { folder } => drop(folder_synced.insert(folder, index)),
                _ => {}
            }
        }
        let mut contents: HashMap<Inode, Vec<u8>> = HashMap::new();
        let mut names: BTreeMap<PathBuf, Inode> = BTreeMap::new();
        let mut acknowledged = 0;
        for (index, operation) in happened.iter().enumerate() {
            match operation {
                Operation::Write { inode, offset, bytes } => {
                    let durable = synced.get(inode).is_some_and(|sync| *sync > index);
                    let content = contents.entry(*inode).or_default();
                    if durable {
                        apply(content, *offset, bytes);
                    } else {
                        apply_some(content, *offset, bytes, chance);
                    }
                }
                Operation::Link { folder, name, inode } => {
                    let durable = folder_synced.get(folder.as_path()).is_some_and(|sync| *sync > index);
                    if durable || chance() {
                        names.insert(folder.join(name), *inode);
                    }
                }
                Operation::Unlink { folder, name } => {
                    let durable = folder_synced.get(folder.as_path()).is_some_and(|sync| *sync > index);
                    if durable || chance() {
                        names.remove(&folder.join(name));
                    }
                }
                Operation::Acknowledge(number) => acknowledged = *number,
                Operation::Sync { .. } | Operation::SyncFolder { .. } => {}
            }
        }
        let files = names
            .into_iter()
            .filter_map(|(path, inode)| {
                let path = path.strip_prefix(&self.root).ok()?.to_owned();
                Some((path, contents.get(&inode).cloned().unwrap_or_default()))
            })
            .collect();
        Image { files, acknowledged }
    }
}

fn apply(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(bytes);
}

/// Any subset of a write's sectors.
fn apply_some(content: &mut Vec<u8>, offset: u64, bytes: &[u8], chance: &mut dyn FnMut() -> bool) {
    let mut at = 0;
    // Half of the time the whole write fares alike: long torn writes alone would hide the other cases.
    let alike = chance().then(&mut *chance);
    while at < bytes.len() {
        let to_boundary = SECTOR - (offset + at as u64) % SECTOR;
        let end = bytes.len().min(at + to_boundary as usize);
        if alike.unwrap_or_else(&mut *chance) {
            apply(content, offset + at as u64, &bytes[at..end]);
        }
        at = end;
    }
}
