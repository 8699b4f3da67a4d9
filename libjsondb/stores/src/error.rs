//! Errors as users meet them: a stable code, a message, and details for programs.

use serde_json::{Map, Value};

/// What went wrong, as a number that stays the same in every version. 0 is success and has no name here.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Another transaction committed first to something this one read or wrote. Run it again.
    Conflict = 10,
    /// The snapshot is older than what is remembered. Run it again.
    SnapshotTooOld = 11,
    /// The time limit passed. Run it again.
    Timeout = 12,
    /// The context was cancelled.
    Cancelled = 13,
    /// Another process holds a lock for longer than the limit. Run it again.
    Locked = 14,
    /// The transaction has ended already.
    InvalidState = 20,
    /// A write in a transaction that only reads.
    ReadOnlyTransaction = 21,
    /// No store of this name.
    StoreNotFound = 30,
    /// No item of this name.
    ItemNotFound = 31,
    /// A store of this name has other options.
    StoreExists = 32,
    /// An argument is outside its limits.
    Validation = 40,
    /// A vector has another dimension than its store.
    DimensionMismatch = 41,
    /// A filter that can't be understood.
    Filter = 42,
    /// The operating system refused a file operation.
    Io = 50,
    /// Bytes read from disk are not those once written there.
    Corruption = 51,
    /// The disk is full.
    DiskFull = 52,
    /// The folder cannot be written.
    ReadOnlyFolder = 53,
    /// More drives or copies are lost than the redundancy tolerates.
    DrivesLost = 54,
    /// The database was closed.
    Closed = 60,
    /// The handle was made in another process, before a fork.
    Forked = 61,
    /// A handle that names nothing.
    InvalidHandle = 62,
    /// A context that does not exist, or was cancelled before.
    ContextNotFound = 63,
    /// Not available in this version.
    Unsupported = 70,
    /// The Redis server can't be reached or refused.
    Redis = 71,
    /// A broken invariant of the library itself.
    Internal = 80,
    /// The library panicked; the panic was caught.
    Panic = 90,
}

impl ErrorCode {
    /// The code's name, as programs in other languages see it.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::Conflict => "Conflict",
            ErrorCode::SnapshotTooOld => "SnapshotTooOld",
            ErrorCode::Timeout => "Timeout",
            ErrorCode::Cancelled => "Cancelled",
            ErrorCode::Locked => "Locked",
            ErrorCode::InvalidState => "InvalidState",
            ErrorCode::ReadOnlyTransaction => "ReadOnlyTransaction",
            ErrorCode::StoreNotFound => "StoreNotFound",
            ErrorCode::ItemNotFound => "ItemNotFound",
            ErrorCode::StoreExists => "StoreExists",
            ErrorCode::Validation => "Validation",
            ErrorCode::DimensionMismatch => "DimensionMismatch",
            ErrorCode::Filter => "Filter",
            ErrorCode::Io => "Io",
            ErrorCode::Corruption => "Corruption",
            ErrorCode::DiskFull => "DiskFull",
            ErrorCode::ReadOnlyFolder => "ReadOnlyFolder",
            ErrorCode::DrivesLost => "DrivesLost",
            ErrorCode::Closed => "Closed",
            ErrorCode::Forked => "Forked",
            ErrorCode::InvalidHandle => "InvalidHandle",
            ErrorCode::ContextNotFound => "ContextNotFound",
            ErrorCode::Unsupported => "Unsupported",
            ErrorCode::Redis => "Redis",
            ErrorCode::Internal => "Internal",
            ErrorCode::Panic => "Panic",
        }
    }

    /// True when the whole transaction, run again from its begin, may succeed.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorCode::Conflict | ErrorCode::SnapshotTooOld | ErrorCode::Timeout | ErrorCode::Locked
        )
    }
}

/// An error: code, message, details. The details are an object: `store`, `key`, `file`, `offset`, … where they are known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: ErrorCode,
    message: String,
    details: Value,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Value::Object(Map::new()) }
    }

    /// The same error with one more detail.
    pub fn with_detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(details) = &mut self.details {
            details.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The same error with another message.
    pub(crate) fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// What went wrong.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What happened and where, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// An object with what programs may want to know.
    pub fn details(&self) -> &Value {
        &self.details
    }

    /// True when the whole transaction, run again from its begin, may succeed.
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        use engine::ErrorKind;
        let code = match error.kind() {
            ErrorKind::Conflict => ErrorCode::Conflict,
            ErrorKind::SnapshotTooOld => ErrorCode::SnapshotTooOld,
            ErrorKind::Timeout => ErrorCode::Timeout,
            ErrorKind::Cancelled => ErrorCode::Cancelled,
            ErrorKind::Invalid => ErrorCode::Validation,
            ErrorKind::NotFound => ErrorCode::StoreNotFound,
            ErrorKind::Exists => ErrorCode::StoreExists,
            ErrorKind::ReadOnlyTransaction => ErrorCode::ReadOnlyTransaction,
            ErrorKind::ReadOnlyFolder => ErrorCode::ReadOnlyFolder,
            ErrorKind::Corrupt => ErrorCode::Corruption,
            ErrorKind::DiskFull => ErrorCode::DiskFull,
            ErrorKind::DrivesLost => ErrorCode::DrivesLost,
            ErrorKind::Locked => ErrorCode::Locked,
            ErrorKind::Io | ErrorKind::Exhausted => ErrorCode::Io,
            ErrorKind::Closed => ErrorCode::Closed,
            ErrorKind::Forked => ErrorCode::Forked,
            _ => ErrorCode::Internal,
        };
        let converted = Error::new(code, error.message());
        match error.corrupt_at() {
            Some(at) => {
                converted.with_detail("file", at.file.to_string_lossy()).with_detail("offset", at.offset)
            }
            None => converted,
        }
    }
}
