//! Every call to the operating system: files, folders, locks, sync. Linux, macOS and Windows are spelled out here and
//! nowhere else; the rest of the engine sees offsets, bytes and typed errors that name the path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fs2::FileExt as _;

use crate::{Error, Result};

#[cfg(test)]
pub(crate) mod trace;

/// Where tests make a call to the operating system fail.
fn fault(action: &str, path: &Path) -> Result<()> {
    #[cfg(test)]
    if let Some(error) = trace::fault(action, path) {
        return Err(Error::io(action, path, &error));
    }
    #[cfg(not(test))]
    let _ = (action, path);
    Ok(())
}

/// An open file that knows its path.
#[derive(Debug)]
pub(crate) struct File {
    file: fs::File,
    path: PathBuf,
    #[cfg(test)]
    inode: trace::Inode,
}

impl File {
    fn new(file: fs::File, path: &Path) -> File {
        File {
            file,
            path: path.to_owned(),
            #[cfg(test)]
            inode: trace::opened(path),
        }
    }

    /// Opens for reading. `Ok(None)` when there is no such file.
    pub(crate) fn open(path: &Path) -> Result<Option<File>> {
        fault("open", path)?;
        match fs::File::open(path) {
            Ok(file) => Ok(Some(File::new(file, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", path, &error)),
        }
    }

    /// Opens for reading and writing, or for reading only where the folder cannot be written. `Ok(None)` when there is no
    /// such file.
    pub(crate) fn open_writable(path: &Path) -> Result<Option<File>> {
        fault("open for writing", path)?;
        match fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(Some(File::new(file, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => match Error::io("open for writing", path, &error) {
                error if error.kind() == crate::ErrorKind::ReadOnlyFolder => File::open(path),
                error => Err(error),
            },
        }
    }

    /// Opens for reading and writing, creating an empty file when there is none.
    pub(crate) fn open_or_create(path: &Path) -> Result<File> {
        fault("open for writing", path)?;
        let opened = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(|error| Error::io("open for writing", path, &error))?;
        Ok(File::new(file, path))
    }

    /// Creates a file that must not exist yet.
    pub(crate) fn create_new(path: &Path) -> Result<File> {
        fault("create", path)?;
        let opened = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = opened.map_err(|error| Error::io("create", path, &error))?;
        Ok(File::new(file, path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64> {
        fault("read the length of", &self.path)?;
        let metadata =
            self.file.metadata().map_err(|error| Error::io("read the length of", &self.path, &error))?;
        Ok(metadata.len())
    }

    /// As [`File::len`], for a file that must still have a name: what is written to one without is gone when it is closed.
    pub(crate) fn len_while_named(&self) -> Result<u64> {
        fault("read the length of", &self.path)?;
        let metadata =
            self.file.metadata().map_err(|error| Error::io("read the length of", &self.path, &error))?;
        if identity::names(&metadata) == 0 {
            let what =
                format!("{} was removed while the database was open: open it again", self.path.display());
            return Err(Error::new(crate::ErrorKind::Closed, what));
        }
        Ok(metadata.len())
    }

    /// Fills as much of `buffer` as the file has from `offset` on; gives the number of bytes read.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        fault("read", &self.path)?;
        let mut filled = 0;
        while filled < buffer.len() {
            match positioned::read(&self.file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path, &error)),
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

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        fault("write", &self.path)?;
        #[cfg(test)]
        trace::written(&self.path, self.inode, offset, bytes);
        let mut written = 0;
        while written < bytes.len() {
            match positioned::write(&self.file, &bytes[written..], offset + written as u64) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Err(Error::io("write", &self.path, &error));
                }
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("write", &self.path, &error)),
            }
        }
        Ok(())
    }

    /// Makes the file's bytes and length durable (fdatasync; F_FULLFSYNC on macOS, FlushFileBuffers on Windows).
    pub(crate) fn sync(&self) -> Result<()> {
        fault("sync", &self.path)?;
        self.file.sync_data().map_err(|error| Error::io("sync", &self.path, &error))?;
        #[cfg(test)]
        trace::synced(&self.path, self.inode);
        Ok(())
    }

    /// Takes the whole-file lock if nobody holds it. The kernel releases it when the process dies.
    pub(crate) fn try_lock(&self) -> Result<bool> {
        fault("lock", &self.path)?;
        match self.file.try_lock_exclusive() {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(false),
            Err(error) => Err(Error::io("lock", &self.path, &error)),
        }
    }

    pub(crate) fn unlock(&self) -> Result<()> {
        fs2::FileExt::unlock(&self.file).map_err(|error| Error::io("unlock", &self.path, &error))
    }

    /// What tells this file from another one that later takes its name.
    pub(crate) fn identity(&self) -> Result<FileIdentity> {
        let metadata = self.file.metadata().map_err(|error| Error::io("look at", &self.path, &error))?;
        Ok(identity::of(&metadata))
    }
}

/// Device and inode on Unix; creation time on Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity(u64, u64);

/// Identity of the file at `path`, None when there is none.
pub(crate) fn identity_of(path: &Path) -> Option<FileIdentity> {
    fs::metadata(path).ok().map(|metadata| identity::of(&metadata))
}

/// Creates a folder and those above it that are missing, and makes their names durable.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fault("create the folder", path)?;
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.is_dir()).collect();
    fs::create_dir_all(path).map_err(|error| Error::io("create the folder", path, &error))?;
    for created in missing {
        match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => {}
        }
    }
    Ok(())
}

/// Absolute path without links; the folder must exist.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::io("resolve the folder", path, &error))
}

/// Names and sizes of the files in a folder, sorted by name. A folder that is not there is empty.
pub(crate) fn list(folder: &Path) -> Result<Vec<(String, u64)>> {
    fault("list", folder)?;
    let fail = |error: io::Error| Error::io("list", folder, &error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        // A file removed between the listing and this look is not there: skip it.
        let Ok(metadata) = entry.metadata() else { continue };
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            names.push((name, metadata.len()));
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a file; one that is already gone is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    fault("remove", path)?;
    #[cfg(test)]
    trace::removed(path);
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", path, &error)),
    }
}

/// Gives a file another name, which takes the place of a file of that name. Not durable before its folder is synced.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fault("rename into place", to)?;
    #[cfg(test)]
    trace::renamed(from, to);
    fs::rename(from, to).map_err(|error| Error::io("rename into place", to, &error))
}

/// Makes names in a folder durable: files created, renamed or removed in it. A no-op on Windows, where the file
/// system journals names itself.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    fault("sync the folder", folder)?;
    #[cfg(unix)]
    {
        let file = fs::File::open(folder).map_err(|error| Error::io("open the folder", folder, &error))?;
        file.sync_all().map_err(|error| Error::io("sync the folder", folder, &error))?;
    }
    #[cfg(test)]
    trace::folder_synced(folder);
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
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

/// Tells the processes of one lineage apart: a forked child has a number that none of its ancestors had. Costs one load, where
/// asking for the process id is a system call.
pub fn process_generation() -> u32 {
    forks::count()
}

#[cfg(unix)]
mod forks {
    use std::sync::Once;
    use std::sync::atomic::{AtomicU32, Ordering};

    static COUNT: AtomicU32 = AtomicU32::new(0);
    static REGISTERED: Once = Once::new();

    extern "C" fn in_child() {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count() -> u32 {
        REGISTERED.call_once(|| {
            // SAFETY: `in_child` only adds to an atomic, which is allowed between fork and exec. Registering can fail only for want of
            // memory; then forks go unnoticed as they would without it.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        COUNT.load(Ordering::Relaxed)
    }
}

#[cfg(not(unix))]
mod forks {
    /// There is no fork.
    pub(super) fn count() -> u32 {
        0
    }
}

#[cfg(unix)]
mod positioned {
    use std::os::unix::fs::FileExt;

    pub(super) fn read(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        file.read_at(buffer, offset)
    }

    pub(super) fn write(file: &std::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        file.write_at(bytes, offset)
    }
}

#[cfg(windows)]
mod positioned {
    use std::os::windows::fs::FileExt;

    pub(super) fn read(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        file.seek_read(buffer, offset)
    }

    pub(super) fn write(file: &std::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        file.seek_write(bytes, offset)
    }
}

#[cfg(unix)]
mod identity {
    use super::FileIdentity;
    use std::os::unix::fs::MetadataExt;

    pub(super) fn of(metadata: &std::fs::Metadata) -> FileIdentity {
        FileIdentity(metadata.dev(), metadata.ino())
    }

    /// How many names the file has.
    pub(super) fn names(metadata: &std::fs::Metadata) -> u64 {
        metadata.nlink()
    }
}

#[cfg(windows)]
mod identity {
    use super::FileIdentity;
    use std::os::windows::fs::MetadataExt;

    pub(super) fn of(metadata: &std::fs::Metadata) -> FileIdentity {
        FileIdentity(metadata.creation_time(), 0)
    }

    /// An open file cannot lose its name.
    pub(super) fn names(_metadata: &std::fs::Metadata) -> u64 {
        1
    }
}
