//! What [`super::super`] uses of `std::fs`, for threads that belong to a simulated machine and for others.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs as unix;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::Opening;
use super::server::{Attributes, Handle, Node};
use super::{call, look};

/// An open file, of the system or of the model.
#[derive(Debug)]
pub(crate) enum File {
    Real(fs::File),
    Simulated { process: usize, node: Node, handle: Handle },
}

impl File {
    pub(crate) fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    fn simulated(path: &Path, opening: Opening) -> Option<io::Result<File>> {
        call(|state| {
            let process = state.running;
            state.open(path, opening).map(|(node, handle)| File::Simulated { process, node, handle })
        })
    }

    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, File::Simulated { .. })
    }

    /// Does the one with a file of the system, the other with one of the model.
    fn act<T>(
        &self,
        real: impl FnOnce(&fs::File) -> io::Result<T>,
        simulated: impl FnOnce(&mut super::State, Node, Handle) -> io::Result<T>,
    ) -> io::Result<T> {
        match self {
            File::Real(file) => real(file),
            File::Simulated { node, handle, .. } => call(|state| simulated(state, *node, *handle))
                .unwrap_or_else(|| Err(io::ErrorKind::Other.into())),
        }
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.act(
            |file| file.metadata().map(Metadata::of),
            |state, node, _| state.len(node).map(|attributes| Metadata::simulated(node, attributes)),
        )
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.act(fs::File::sync_data, |state, node, _| {
            let machine = state.processes[state.running].machine;
            state.write_back(machine, node)
        })
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.act(fs::File::sync_all, |_, _, _| Ok(()))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let File::Simulated { process, handle, .. } = self {
            look(|state| state.close(*process, *handle));
        }
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            File::Real(file) => file.as_raw_fd(),
            File::Simulated { .. } => -1,
        }
    }
}

impl fs2::FileExt for File {
    fn try_lock_exclusive(&self) -> io::Result<()> {
        self.act(fs2::FileExt::try_lock_exclusive, |state, node, handle| {
            if state.lock(node, handle)? { Ok(()) } else { Err(fs2::lock_contended_error()) }
        })
    }

    fn unlock(&self) -> io::Result<()> {
        self.act(fs2::FileExt::unlock, |state, node, handle| {
            state.server.unlock(node, handle);
            Ok(())
        })
    }

    fn duplicate(&self) -> io::Result<fs::File> {
        unimplemented!()
    }

    fn allocated_size(&self) -> io::Result<u64> {
        unimplemented!()
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        unimplemented!()
    }

    fn lock_shared(&self) -> io::Result<()> {
        unimplemented!()
    }

    fn lock_exclusive(&self) -> io::Result<()> {
        unimplemented!()
    }

    fn try_lock_shared(&self) -> io::Result<()> {
        unimplemented!()
    }
}

pub(crate) trait FileExt {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            File::Real(file) => unix::FileExt::read_at(file, buffer, offset),
            File::Simulated { node, .. } => call(|state| state.read(*node, buffer, offset))
                .unwrap_or_else(|| Err(io::ErrorKind::Other.into())),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.act(
            |file| unix::FileExt::write_at(file, bytes, offset),
            |state, node, _| state.write(node, bytes, offset),
        )
    }
}

pub(crate) struct OpenOptions {
    options: fs::OpenOptions,
    opening: Opening,
}

impl OpenOptions {
    pub(crate) fn new() -> OpenOptions {
        OpenOptions { options: fs::OpenOptions::new(), opening: Opening::Existing }
    }

    pub(crate) fn read(&mut self, is_wanted: bool) -> &mut OpenOptions {
        self.options.read(is_wanted);
        self
    }

    pub(crate) fn write(&mut self, is_wanted: bool) -> &mut OpenOptions {
        self.options.write(is_wanted);
        self
    }

    pub(crate) fn truncate(&mut self, is_wanted: bool) -> &mut OpenOptions {
        self.options.truncate(is_wanted);
        self
    }

    pub(crate) fn create(&mut self, is_wanted: bool) -> &mut OpenOptions {
        self.options.create(is_wanted);
        self.opening = Opening::OrCreate;
        self
    }

    pub(crate) fn create_new(&mut self, is_wanted: bool) -> &mut OpenOptions {
        self.options.create_new(is_wanted);
        self.opening = Opening::New;
        self
    }

    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        File::simulated(path, self.opening).unwrap_or_else(|| self.options.open(path).map(File::Real))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    device: u64,
    node: u64,
    attributes: Attributes,
}

impl Metadata {
    fn of(metadata: fs::Metadata) -> Metadata {
        use unix::MetadataExt as _;
        let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
        let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
        let attributes = Attributes {
            change: 0,
            changed: Duration::new(seconds, nanoseconds),
            len: metadata.len(),
            links: metadata.nlink(),
            is_folder: metadata.is_dir(),
        };
        Metadata { device: metadata.dev(), node: metadata.ino(), attributes }
    }

    fn simulated(node: Node, attributes: Attributes) -> Metadata {
        Metadata { device: 0, node, attributes }
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.attributes.is_folder
    }

    pub(crate) fn is_file(&self) -> bool {
        !self.is_dir()
    }

    pub(crate) fn len(&self) -> u64 {
        self.attributes.len
    }
}

pub(crate) trait MetadataExt {
    fn dev(&self) -> u64;
    fn ino(&self) -> u64;
    fn nlink(&self) -> u64;
    fn ctime(&self) -> i64;
    fn ctime_nsec(&self) -> i64;
}

impl MetadataExt for Metadata {
    fn dev(&self) -> u64 {
        self.device
    }

    fn ino(&self) -> u64 {
        self.node
    }

    fn nlink(&self) -> u64 {
        self.attributes.links
    }

    fn ctime(&self) -> i64 {
        self.attributes.changed.as_secs().cast_signed()
    }

    fn ctime_nsec(&self) -> i64 {
        i64::from(self.attributes.changed.subsec_nanos())
    }
}

pub(crate) struct DirEntry(PathBuf);

impl DirEntry {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    pub(crate) fn file_name(&self) -> OsString {
        self.0.file_name().unwrap_or_default().to_owned()
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        metadata(&self.0)
    }
}

pub(crate) fn metadata(path: &Path) -> io::Result<Metadata> {
    let simulated = call(|state| state.metadata(path).map(|(node, found)| Metadata::simulated(node, found)));
    simulated.unwrap_or_else(|| fs::metadata(path).map(Metadata::of))
}

/// The names as they are when it is called.
pub(crate) fn read_dir(path: &Path) -> io::Result<std::vec::IntoIter<io::Result<DirEntry>>> {
    let simulated = call(|state| {
        let names = state.list(path)?;
        Ok(names.iter().map(|name| Ok(DirEntry(path.join(name)))).collect::<Vec<_>>())
    });
    let real = || Ok(fs::read_dir(path)?.map(|entry| entry.map(|entry| DirEntry(entry.path()))).collect());
    simulated.unwrap_or_else(real).map(Vec::into_iter)
}

pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let opened = File::open(path)?;
    if let File::Real(_) = &opened {
        return fs::read(path);
    }
    let mut bytes = vec![0; opened.metadata()?.len() as usize];
    let count = FileExt::read_at(&opened, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

pub(crate) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    if super::is_here() { Ok(path.to_owned()) } else { fs::canonicalize(path) }
}

pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    call(|state| state.create_folder(path)).unwrap_or_else(|| fs::create_dir(path))
}

pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    if !super::is_here() {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent()
        && !metadata(parent).is_ok_and(|found| found.is_dir())
    {
        create_dir_all(parent)?;
    }
    match create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

pub(crate) fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call(|state| state.remove(path)).unwrap_or_else(|| fs::remove_file(path))
}

pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    call(|state| state.remove_folder(path)).unwrap_or_else(|| fs::remove_dir(path))
}

/// Nobody simulated does this.
pub(crate) fn remove_dir_all(path: &PathBuf) -> io::Result<()> {
    fs::remove_dir_all(path)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    call(|state| state.rename(from, to)).unwrap_or_else(|| fs::rename(from, to))
}

pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    call(|state| state.link(from, to)).unwrap_or_else(|| fs::hard_link(from, to))
}
