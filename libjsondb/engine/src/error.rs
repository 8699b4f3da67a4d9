//! What can go wrong, told by what the caller must do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What the caller has to do; the message says what happened and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another transaction committed first to something this one read or wrote. Nothing was stored; run it again.
    Conflict,
    /// The snapshot is older than what the process still remembers. Nothing was stored; run it again.
    SnapshotTooOld,
    /// The time limit passed before the commit could start. Nothing was stored; run it again.
    Timeout,
    /// The caller's cancel token was raised. Nothing was stored.
    Cancelled,
    /// An argument is outside its limits.
    Invalid,
    /// A store of this name does not exist.
    NotFound,
    /// A store of this name exists with other metadata.
    Exists,
    /// A write in a transaction that only reads.
    ReadOnlyTransaction,
    /// A write to a folder that cannot be written.
    ReadOnlyFolder,
    /// Bytes read from disk are not the bytes once written there.
    Corrupt,
    /// More drives are lost than the redundancy tolerates. Nothing was stored; bring drives back and run it again.
    DrivesLost,
    /// The disk is full. Nothing was stored; free space and run it again.
    DiskFull,
    /// Another process holds a lock for longer than the limit.
    Locked,
    /// The operating system refused a file operation.
    Io,
    /// The operating system gives this process no more open files or memory.
    Exhausted,
    /// The handle was closed, or poisoned by an earlier write error: open the folder again.
    Closed,
    /// The handle was made in another process, before a fork: open the folder again.
    Forked,
    /// A broken invariant of the engine itself.
    Internal,
}

/// An error of the engine: a [`ErrorKind`], a message, and the place: of a conflict the store and key, of damage the file and
/// offset.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Option<Box<Place>>,
}

#[derive(Clone, Debug)]
enum Place {
    Conflict(ConflictAt),
    Corrupt(CorruptAt),
    Missing(CorruptAt),
}

/// Where two transactions met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictAt {
    /// Name of the store, as given to `ensure_store`.
    pub store: String,
    /// Key inside the store, in the store's own encoding. Empty when the whole store conflicts.
    pub key: Vec<u8>,
}

/// Which bytes are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptAt {
    /// The damaged or missing file.
    pub file: PathBuf,
    /// Where in it the header, frame, page or value begins that is not what was written.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of the given kind; damage has a place, so it is made by [`Error::corrupt`].
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        debug_assert!(kind != ErrorKind::Corrupt, "damage without a place");
        Self { kind, message: message.into(), place: None }
    }

    /// A conflict at a store and key.
    pub fn conflict(store: impl Into<String>, key: Vec<u8>, message: impl Into<String>) -> Self {
        let place = Place::Conflict(ConflictAt { store: store.into(), key });
        Self { kind: ErrorKind::Conflict, message: message.into(), place: Some(Box::new(place)) }
    }

    /// Damaged bytes in a file.
    pub fn corrupt(path: &Path, offset: u64, what: impl fmt::Display) -> Self {
        let at = CorruptAt { file: path.to_owned(), offset, what: what.to_string() };
        Self::damage(at, Place::Corrupt)
    }

    /// A file that the others name is not there.
    pub fn missing(path: &Path) -> Self {
        let at = CorruptAt { file: path.to_owned(), offset: 0, what: "the file is missing".to_owned() };
        Self::damage(at, Place::Missing)
    }

    fn damage(at: CorruptAt, place: impl Fn(CorruptAt) -> Place) -> Self {
        let message = format!("{} is damaged at offset {}: {}", at.file.display(), at.offset, at.what);
        Self { kind: ErrorKind::Corrupt, message, place: Some(Box::new(place(at))) }
    }

    /// More drives are lost than may be; `missing` is a file that is not there, which somebody may have removed for a reason.
    pub(crate) fn drives_lost(message: impl Into<String>, missing: Option<&Error>) -> Self {
        let place = missing.and_then(|error| error.place.clone());
        Self { kind: ErrorKind::DrivesLost, message: message.into(), place }
    }

    /// True of [`Error::missing`]: somebody may have removed the file for a reason.
    pub(crate) fn is_missing_file(&self) -> bool {
        matches!(self.place.as_deref(), Some(Place::Missing(_)))
    }

    /// The same error with another message.
    pub(crate) fn with_message(self, message: String) -> Self {
        Self { message, ..self }
    }

    /// What the caller has to do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened and where.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Store and key, when this is a conflict.
    pub fn conflict_at(&self) -> Option<&ConflictAt> {
        match self.place.as_deref() {
            Some(Place::Conflict(at)) => Some(at),
            _ => None,
        }
    }

    /// File and offset, when this is damage.
    pub fn corrupt_at(&self) -> Option<&CorruptAt> {
        match self.place.as_deref() {
            Some(Place::Corrupt(at) | Place::Missing(at)) => Some(at),
            _ => None,
        }
    }

    /// True when the same transaction, run again from its begin, may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Conflict | ErrorKind::SnapshotTooOld | ErrorKind::Timeout | ErrorKind::Locked
        )
    }

    /// An operating system error, with what was being done to which file.
    pub fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => ErrorKind::ReadOnlyFolder,
            _ if crate::os::is_exhausted(error) => ErrorKind::Exhausted,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("cannot {action} {}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
