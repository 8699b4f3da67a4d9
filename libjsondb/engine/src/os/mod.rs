//! Every call to the operating system: files, folders, locks, sync. Linux, macOS and Windows are spelled out here and
//! nowhere else; the rest of the engine sees offsets, bytes and typed errors that name the path.

#[cfg(not(all(test, unix)))]
use std::fs;
use std::io;
#[cfg(all(unix, not(test)))]
use std::os::unix::fs as unix_fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs2::FileExt as _;

use crate::{Error, Result};
// Calls of threads that belong to a simulated machine go to a model.
#[cfg(all(test, unix))]
use simulated::{fs, fs as unix_fs};

#[cfg(any(test, feature = "recording"))]
pub mod faults;
#[cfg(not(any(test, feature = "recording")))]
mod faults {
    //! Calls fail only when they do.

    pub(super) fn meet(_action: &str, _path: &super::Path) -> super::io::Result<()> {
        Ok(())
    }

    pub(super) fn granted(_action: &str, _path: &super::Path, len: usize) -> usize {
        len
    }
}
mod fork;
#[cfg(all(test, unix))]
pub(crate) mod simulated;
#[cfg(any(test, feature = "recording"))]
pub mod trace;

/// The file that tells the time may be swept this often.
const CLOCK_ATTEMPTS: usize = 5;

/// Makes a call to the operating system; one that a signal interrupted is made again.
fn attempt<T>(action: &str, path: &Path, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match faults::meet(action, path).and_then(|()| operation()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// As [`attempt`]; the error says what was being done to which file, or that somebody on another machine has removed it.
fn call<T>(action: &str, path: &Path, operation: impl FnMut() -> io::Result<T>) -> Result<T> {
    attempt(action, path, operation).map_err(|error| match is_stale(&error) {
        true => Error::missing(path),
        false => Error::io(action, path, &error),
    })
}

/// As [`call`]; None when there is no such file.
fn find<T>(action: &str, path: &Path, operation: impl FnMut() -> io::Result<T>) -> Result<Option<T>> {
    match attempt(action, path, operation) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_stale(&error) => Ok(None),
        Err(error) => Err(Error::io(action, path, &error)),
    }
}

/// An open file that knows its path.
#[derive(Debug)]
pub(crate) struct File {
    /// Of a file that is to be locked. Dropped before the file is closed.
    _lockable: Option<fork::Lockable>,
    file: fs::File,
    path: PathBuf,
    #[cfg(any(test, feature = "recording"))]
    inode: trace::Inode,
}

impl File {
    fn new(file: fs::File, path: &Path) -> File {
        File {
            _lockable: None,
            file,
            path: path.to_owned(),
            #[cfg(any(test, feature = "recording"))]
            inode: trace::opened(path),
        }
    }

    /// Opens for reading. `Ok(None)` when there is no such file.
    pub(crate) fn open(path: &Path) -> Result<Option<File>> {
        Ok(find("open", path, || fs::File::open(path))?.map(|file| File::new(file, path)))
    }

    /// Opens for reading and writing, or for reading only where the folder cannot be written. `Ok(None)` when there is no
    /// such file.
    pub(crate) fn open_writable(path: &Path) -> Result<Option<File>> {
        let opened =
            find("open for writing", path, || fs::OpenOptions::new().read(true).write(true).open(path));
        match opened {
            Err(error) if error.kind() == crate::ErrorKind::ReadOnlyFolder => File::open(path),
            opened => Ok(opened?.map(|file| File::new(file, path))),
        }
    }

    /// Opens for reading and writing, creating an empty file when there is none.
    pub(crate) fn open_or_create(path: &Path) -> Result<File> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(File::new(call("open for writing", path, || options.open(path))?, path))
    }

    /// As [`File::open_writable`], for a file that is to be locked: NFS locks for one only what that one may write.
    pub(crate) fn open_to_lock(path: &Path) -> Result<Option<File>> {
        Ok(File::open_writable(path)?.map(File::into_lockable))
    }

    /// As [`File::open_or_create`], for a file that is to be locked.
    pub(crate) fn open_or_create_to_lock(path: &Path) -> Result<File> {
        File::open_or_create(path).map(File::into_lockable)
    }

    /// As [`File::create_new`], for a file that is to be locked.
    pub(crate) fn create_new_to_lock(path: &Path) -> Result<File> {
        File::create_new(path).map(File::into_lockable)
    }

    /// At once: a child forked before the lock is taken must not share it either.
    fn into_lockable(self) -> File {
        #[cfg(all(test, unix))]
        if self.file.is_simulated() {
            return self;
        }
        File { _lockable: Some(fork::Lockable::new(&self.file)), ..self }
    }

    /// Creates a file that must not exist yet.
    pub(crate) fn create_new(path: &Path) -> Result<File> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        Ok(File::new(call("create", path, || options.open(path))?, path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64> {
        Ok(call("read the length of", &self.path, || self.file.metadata())?.len())
    }

    /// As [`File::len`], for a file that must still have a name: what is written to one without is gone when it is closed.
    pub(crate) fn len_while_named(&self) -> Result<u64> {
        let (len, names) = call("read the length of", &self.path, || status::len_and_names(&self.file))?;
        if names == 0 {
            let what =
                format!("{} was removed while the database was open: open it again", self.path.display());
            return Err(Error::new(crate::ErrorKind::Closed, what));
        }
        Ok(len)
    }

    /// Fills as much of `buffer` as the file has from `offset` on; gives the number of bytes read.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if i64::try_from(offset).is_err() {
            // No file is that long. The system would call the argument wrong, not the file from which the offset came.
            return Ok(0);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let end = filled + faults::granted("read", &self.path, buffer.len() - filled);
            let rest = &mut buffer[filled..end];
            match call("read", &self.path, || positioned::read(&self.file, rest, offset + filled as u64))? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    /// Fills `buffer`; a file that ends before is damaged.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let filled = self.read_at(buffer, offset)?;
        if filled < buffer.len() {
            let what = format!("the file ends after {filled} of {} bytes", buffer.len());
            return Err(Error::corrupt(&self.path, offset, what));
        }
        Ok(())
    }

    /// All there is; fails as [`Error::missing`] where somebody removed it since it was opened.
    pub(crate) fn read_whole(&self) -> Result<Vec<u8>> {
        let len = usize::try_from(self.len()?).map_err(|_| Error::corrupt(&self.path, 0, "its length"))?;
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let end = written + faults::granted("write", &self.path, bytes.len() - written);
            let (rest, at) = (&bytes[written..end], offset + written as u64);
            let count = call("write", &self.path, || match positioned::write(&self.file, rest, at) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                count => count,
            })?;
            #[cfg(any(test, feature = "recording"))]
            trace::written(&self.path, self.inode, at, &rest[..count]);
            written += count;
        }
        Ok(())
    }

    /// Makes the file's bytes and length durable (fdatasync; F_FULLFSYNC on macOS, FlushFileBuffers on Windows).
    pub(crate) fn sync(&self) -> Result<()> {
        #[cfg(any(test, feature = "recording"))]
        let number = trace::sync_begins(&self.path, self.inode);
        let synced = call("sync", &self.path, || self.file.sync_data());
        #[cfg(any(test, feature = "recording"))]
        match synced {
            Ok(()) => trace::synced(&self.path, number),
            Err(_) => trace::sync_failed(&self.path, self.inode),
        }
        synced
    }

    /// Takes the whole-file lock if nobody holds it. It is released with the file; the kernel does so when the process dies.
    pub(crate) fn try_lock(&self) -> Result<bool> {
        call("lock", &self.path, || match self.file.try_lock_exclusive() {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(false),
            Err(error) => Err(error),
        })
    }

    pub(crate) fn unlock(&self) -> Result<()> {
        call("unlock", &self.path, || fs2::FileExt::unlock(&self.file))
    }

    /// What tells this file from another one that later takes its name.
    pub(crate) fn identity(&self) -> Result<FileIdentity> {
        Ok(identity::of(&call("look at", &self.path, || self.file.metadata())?))
    }
}

/// Device and inode on Unix; creation time on Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity(u64, u64);

/// Identity of the file at `path`, None when there is none.
pub(crate) fn identity_of(path: &Path) -> Result<Option<FileIdentity>> {
    Ok(find("look at", path, || fs::metadata(path))?.map(|metadata| identity::of(&metadata)))
}

/// Creates a folder and those above it that are missing, and makes their names durable.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !is_folder(ancestor)).collect();
    call("create the folder", path, || fs::create_dir_all(path))?;
    for created in missing {
        match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => {}
        }
    }
    Ok(())
}

/// True when a folder is at `path`.
pub(crate) fn is_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// True when something is at `path`.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    Ok(find("look at", path, || fs::metadata(path))?.is_some())
}

/// True when nothing is at `path`, or a folder with nothing in it.
pub(crate) fn is_missing_or_empty(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::io("list", path, &error)),
    }
}

/// Removes everything in a folder, its own files last: what they say of the rest holds until then.
pub(crate) fn empty_folder(path: &Path) -> Result<()> {
    let fail = |error: io::Error| Error::io("empty the folder", path, &error);
    let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(path).and_then(Iterator::collect);
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries.map_err(fail)?.iter().map(fs::DirEntry::path).partition(|entry| is_folder(entry));
    folders.iter().try_for_each(fs::remove_dir_all).map_err(fail)?;
    files.iter().try_for_each(fs::remove_file).map_err(fail)
}

/// Absolute path without links; the folder must exist.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf> {
    call("resolve the folder", path, || fs::canonicalize(path))
}

/// Files that processes staged in a folder, each with the id of its process: its name begins with it.
pub(crate) fn staged_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let owner = |name: &str| u64::from_str_radix(name.get(..16)?, 16).ok();
    let names = list(folder)?.into_iter();
    Ok(names.filter_map(|(name, _)| Some((owner(&name)?, folder.join(&name)))).collect())
}

/// As [`canonical`]; where the folder is not to be found, the path as it was given, made absolute.
pub(crate) fn canonical_or_absolute(path: &Path) -> PathBuf {
    canonical(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Names and sizes of the files in a folder, sorted by name. A folder that is not there is empty.
pub(crate) fn list(folder: &Path) -> Result<Vec<(String, u64)>> {
    let Some(entries) = find("list", folder, || fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", folder, &error))?;
        // A file removed between the listing and this look is not there: skip it.
        let Some(metadata) = find("look at", &entry.path(), || entry.metadata())? else { continue };
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            names.push((name, metadata.len()));
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a file; one that is already gone is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    find("remove", path, || fs::remove_file(path))?;
    #[cfg(any(test, feature = "recording"))]
    trace::removed(path);
    Ok(())
}

/// Gives a file another name, which takes the place of a file of that name. Not durable before its folder is synced.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let rename = || call("rename into place", to, || fs::rename(from, to));
    #[cfg(any(test, feature = "recording"))]
    return trace::renamed(from, to, rename);
    #[cfg(not(any(test, feature = "recording")))]
    rename()
}

/// What became of an attempt to give a file a second name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It has the name.
    Made,
    /// The name is taken.
    Taken,
    /// There is no such file, or no such folder.
    Gone,
}

/// Gives a file a second name, unless that is taken: of several that try at once, on whatever machines, one succeeds.
pub(crate) fn link(from: &Path, to: &Path) -> Result<Link> {
    let link = || attempt("link", to, || fs::hard_link(from, to));
    #[cfg(any(test, feature = "recording"))]
    let linked = trace::linked(from, to, link);
    #[cfg(not(any(test, feature = "recording")))]
    let linked = link();
    match linked {
        Ok(()) => Ok(Link::Made),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Link::Taken),
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_stale(&error) => Ok(Link::Gone),
        Err(error) => Err(Error::io("link", to, &error)),
    }
}

/// A network file system's word for a file or folder that somebody else removed.
fn is_stale(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StaleNetworkFileHandle
}

/// Reads a whole file, opened by its name now. None when there is none.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match attempt("read", path, || fs::read(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_stale(&error) => Ok(None),
        Err(error) => Err(Error::io("read", path, &error)),
    }
}

/// Makes a folder that may be there already. Its name is not durable yet.
pub(crate) fn ensure_folder(path: &Path) -> Result<()> {
    match attempt("create the folder", path, || fs::create_dir(path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|error| Error::io("create the folder", path, &error)),
    }
}

/// Removes an empty folder; one that is gone or in use is left alone.
pub(crate) fn remove_empty_folder(path: &Path) {
    // Who finds it empty later tries again.
    let _removed = attempt("remove the folder", path, || fs::remove_dir(path));
    #[cfg(any(test, feature = "recording"))]
    if _removed.is_ok() {
        trace::folder_removed(path);
    }
}

/// Names of the folders in a folder. One that is not there has none.
pub(crate) fn list_folders(folder: &Path) -> Result<Vec<String>> {
    let Some(entries) = find("list", folder, || fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", folder, &error))?;
        if let (true, Ok(name)) = (is_folder(&entry.path()), entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Names in a folder, as the server knows them now. One that is not there has none.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let Some(entries) = find("list", folder, || fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", folder, &error))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Makes the next look at names in a folder ask the server: a network file system may remember for a while that there was no such
/// name. False when there is no such folder.
pub(crate) fn look_anew(folder: &Path) -> Result<bool> {
    Ok(find("open the folder", folder, || fs::read_dir(folder).map(drop))?.is_some())
}

/// When a file was last changed or given a name, by the clock of whoever keeps it; None when it is gone. Only good for differences.
pub(crate) fn changed_at(path: &Path) -> Result<Option<Duration>> {
    Ok(find("look at", path, || fs::metadata(path))?.map(|metadata| identity::changed(&metadata)))
}

/// The time it is for whoever keeps the files of a folder. `probe` is a name there that nothing has.
pub(crate) fn file_clock(probe: &Path) -> Result<Duration> {
    for _ in 1..CLOCK_ATTEMPTS {
        match read_file_clock(probe) {
            // Swept: others took this process for dead.
            Err(error) if error.is_missing_file() => {}
            read => return read,
        }
    }
    read_file_clock(probe)
}

fn read_file_clock(probe: &Path) -> Result<Duration> {
    remove(probe)?;
    File::create_new(probe)?.write_all_at(&[0], 0)?;
    let now = changed_at(probe);
    remove(probe)?;
    now?.ok_or_else(|| Error::missing(probe))
}

/// Time since this machine started, with the time it slept.
pub(crate) fn uptime() -> Duration {
    #[cfg(all(test, unix))]
    if let Some(now) = simulated::uptime() {
        return now;
    }
    clock::uptime()
}

/// Lets this thread sleep.
pub(crate) fn pause(duration: Duration) {
    #[cfg(all(test, unix))]
    if simulated::pause(duration) {
        return;
    }
    std::thread::sleep(duration);
}

/// Starts a thread that nobody waits for. Fails when none can be had.
pub(crate) fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    #[cfg(all(test, unix))]
    if simulated::is_here() {
        // As a thread that ends before anything else happens.
        work();
        return Ok(());
    }
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Does the same to several things at once, as each waits for a drive of its own; on this thread where no other can be had.
pub(crate) fn at_once<T: Sync, R: Send>(things: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    // What tests record is in the same order each time, and a simulated machine has no threads.
    if cfg!(any(test, feature = "recording")) {
        return things.iter().map(act).collect();
    }
    let Some((last, others)) = things.split_last() else { return Vec::new() };
    std::thread::scope(|scope| {
        let act = &act;
        let started: Vec<_> = others
            .iter()
            .map(|thing| (thing, std::thread::Builder::new().spawn_scoped(scope, move || act(thing))))
            .collect();
        let last = act(last);
        let mut done: Vec<R> = started
            .into_iter()
            .map(|(thing, thread)| match thread.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(done)) => done,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => act(thing),
            })
            .collect();
        done.push(last);
        done
    })
}

/// Runs `work` on this thread, and `help` on up to `count` others, on fewer where they cannot be had; ends when all have.
pub(crate) fn with_help<R>(count: usize, help: impl Fn() + Sync, work: impl FnOnce() -> R) -> R {
    // As in `at_once`.
    let count = if cfg!(any(test, feature = "recording")) { 0 } else { count };
    std::thread::scope(|scope| {
        for _ in 0..count {
            let _ = std::thread::Builder::new().spawn_scoped(scope, &help);
        }
        work()
    })
}

/// How many threads run at the same time.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// 128 random bits.
pub(crate) fn random_uuid() -> uuid::Uuid {
    #[cfg(all(test, unix))]
    if let Some(random) = simulated::random_uuid() {
        return random;
    }
    uuid::Uuid::new_v4()
}

/// The name of this machine.
pub(crate) fn machine_name() -> String {
    #[cfg(all(test, unix))]
    if let Some(name) = simulated::machine_name() {
        return name;
    }
    clock::machine_name()
}

/// Makes names in a folder durable: files created, renamed or removed in it. A no-op on Windows, where the file
/// system journals names itself.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let file = call("open the folder", folder, || fs::File::open(folder))?;
        call("sync the folder", folder, || file.sync_all())?;
    }
    #[cfg(any(test, feature = "recording"))]
    trace::folder_synced(folder);
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// How many files this process may open.
pub(crate) fn open_files_limit() -> u64 {
    limits::open_files()
}

/// Whether a call failed because the process has too many files open, or too little memory.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error().is_some_and(limits::is_too_many_files)
}

/// Publishes a whole file under its final name: staged beside, synced, renamed, folder synced.
pub(crate) fn write_durably(folder: &Path, name: &str, staging: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::create_new(staging)?;
    let target = folder.join(name);
    let published =
        file.write_all_at(bytes, 0).and_then(|()| file.sync()).and_then(|()| rename(staging, &target));
    if let Err(error) = published {
        // The staging file is no part of the database; failing to remove it loses nothing.
        let _ = remove(staging);
        return Err(error);
    }
    sync_folder(folder)
}

/// As [`write_durably`], unless something has the name: that stays. On a network file system the answer may be wrong: what is there then counts.
pub(crate) fn write_once_durably(folder: &Path, name: &str, staging: &Path, bytes: &[u8]) -> Result<Link> {
    let file = File::create_new(staging)?;
    let written = file.write_all_at(bytes, 0).and_then(|()| file.sync());
    let linked = written.and_then(|()| link(staging, &folder.join(name)));
    remove(staging)?;
    let linked = linked?;
    sync_folder(folder)?;
    Ok(linked)
}

/// Gives memory that was freed back to the system, where the allocator keeps it: glibc does, for each thread that ever ran.
pub(crate) fn give_memory_back() {
    #[cfg(all(test, unix))]
    if simulated::is_here() {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator takes its own locks; nothing that is in use moves.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Tells the processes of one lineage apart: a forked child has a number that none of its ancestors had. Costs one load, where
/// asking for the process id is a system call.
pub fn process_generation() -> u32 {
    fork::generation()
}

#[cfg(unix)]
mod limits {
    pub(super) fn open_files() -> u64 {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes to the struct given, and fails at most.
        let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0;
        // The least that POSIX allows, 20, would do.
        if failed { 0 } else { limit.rlim_cur }
    }

    pub(super) fn is_too_many_files(errno: i32) -> bool {
        matches!(errno, libc::EMFILE | libc::ENFILE)
    }
}

#[cfg(windows)]
mod limits {
    /// Handles are limited by memory only.
    pub(super) fn open_files() -> u64 {
        u64::MAX
    }

    pub(super) fn is_too_many_files(code: i32) -> bool {
        const ERROR_TOO_MANY_OPEN_FILES: i32 = 4;
        code == ERROR_TOO_MANY_OPEN_FILES
    }
}

#[cfg(unix)]
mod positioned {
    use super::unix_fs::FileExt;

    pub(super) fn read(file: &super::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        file.read_at(buffer, offset)
    }

    pub(super) fn write(file: &super::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        file.write_at(bytes, offset)
    }
}

#[cfg(windows)]
mod positioned {
    use std::os::windows::fs::FileExt;

    pub(super) fn read(file: &super::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        file.seek_read(buffer, offset)
    }

    pub(super) fn write(file: &super::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        file.seek_write(bytes, offset)
    }
}

#[cfg(unix)]
mod identity {
    use super::FileIdentity;
    use super::unix_fs::MetadataExt;

    pub(super) fn of(metadata: &super::fs::Metadata) -> FileIdentity {
        FileIdentity(metadata.dev(), metadata.ino())
    }

    pub(super) fn changed(metadata: &super::fs::Metadata) -> std::time::Duration {
        let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
        std::time::Duration::new(seconds, u32::try_from(metadata.ctime_nsec()).unwrap_or_default())
    }
}

#[cfg(windows)]
mod identity {
    use super::FileIdentity;
    use std::os::windows::fs::MetadataExt;

    pub(super) fn of(metadata: &std::fs::Metadata) -> FileIdentity {
        FileIdentity(metadata.creation_time(), 0)
    }

    /// Windows tells no more than when it was written, in units of 100 ns.
    pub(super) fn changed(metadata: &std::fs::Metadata) -> std::time::Duration {
        std::time::Duration::from_micros(metadata.last_write_time() / 10)
    }
}

#[cfg(unix)]
mod clock {
    use std::time::Duration;

    /// Linux counts the time a machine sleeps in a clock of its own.
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    /// Elsewhere this one does.
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

    pub(super) fn uptime() -> Duration {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes to the struct given.
        let failed = unsafe { libc::clock_gettime(CLOCK, &raw mut now) } != 0;
        if failed {
            return Duration::ZERO;
        }
        Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        )
    }

    pub(super) fn machine_name() -> String {
        let mut name = [0u8; 256];
        // SAFETY: the buffer has one byte more than the length given.
        let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0;
        let len = name.iter().position(|byte| *byte == 0).unwrap_or_default();
        if failed { String::new() } else { String::from_utf8_lossy(&name[..len]).into_owned() }
    }
}

#[cfg(windows)]
mod clock {
    use std::time::Duration;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        /// Milliseconds since the system started, sleep included.
        fn GetTickCount64() -> u64;
    }

    pub(super) fn uptime() -> Duration {
        // SAFETY: no arguments, cannot fail.
        Duration::from_millis(unsafe { GetTickCount64() })
    }

    pub(super) fn machine_name() -> String {
        std::env::var("COMPUTERNAME").unwrap_or_default()
    }
}

/// Length of an open file, and how many names it has.
#[cfg(target_os = "linux")]
mod status {
    use super::unix_fs::MetadataExt;
    use std::os::fd::AsRawFd;

    /// Asks for these two only: from Linux 6.13 on, who asks for the times of a file makes its next write change them at once, and
    /// the sync behind it has one block more to write.
    pub(super) fn len_and_names(file: &super::fs::File) -> std::io::Result<(u64, u64)> {
        let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
        let (flags, wanted) = (libc::AT_EMPTY_PATH, libc::STATX_SIZE | libc::STATX_NLINK);
        // SAFETY: the descriptor is open, the path ends with a zero byte, and `found` has room for the answer.
        let code = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, wanted, found.as_mut_ptr()) };
        if code == 0 {
            // SAFETY: all zero at first, and filled by the call.
            let found = unsafe { found.assume_init() };
            if found.stx_mask & wanted == wanted {
                return Ok((found.stx_size, u64::from(found.stx_nlink)));
            }
        }
        // A kernel or a sandbox without the call, or a file system that does not say it.
        file.metadata().map(|metadata| (metadata.len(), metadata.nlink()))
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
mod status {
    use super::unix_fs::MetadataExt;

    pub(super) fn len_and_names(file: &super::fs::File) -> std::io::Result<(u64, u64)> {
        file.metadata().map(|metadata| (metadata.len(), metadata.nlink()))
    }
}

#[cfg(windows)]
mod status {
    /// An open file cannot lose its name.
    pub(super) fn len_and_names(file: &super::fs::File) -> std::io::Result<(u64, u64)> {
        file.metadata().map(|metadata| (metadata.len(), 1))
    }
}
