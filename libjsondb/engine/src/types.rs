//! The words of the engine's interface: sequence numbers, store ids, options, values.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::coded::Coding;

/// Position of a transaction in the one order of all commits of a database. The first commit is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Identity of a store: a hash of its name, so that two transactions that create the same store agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

impl StoreId {
    /// The catalog: names, metadata and counters of all stores.
    pub const CATALOG: StoreId = StoreId(0);
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a transaction may do, and whether what it read is checked when it commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reads one snapshot. Nothing is tracked.
    Read,
    /// Reads one snapshot and writes; its reads, misses and scanned ranges are validated at commit (serializable).
    Write,
}

/// When a commit returns. Every commit is whole and visible to all processes by then, whichever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on disk: it survives kill -9 of any process and a power cut. So does everything committed before it.
    #[default]
    Full,
    /// Once it is with the operating system: it survives kill -9 of any process. A power cut may take it, and then everything
    /// committed after it. The next full commit, [`crate::Database::flush`], checkpoint or close makes it durable.
    Relaxed,
}

/// Where a value is kept. Changes cost, never meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Beside its key when small (up to 4 KiB), else in a value segment; written to disk at commit.
    Auto,
    /// In a value segment of its own, written to disk at once, not at commit.
    Eager,
}

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By rising key.
    Forward,
    /// By falling key.
    Backward,
}

/// How a database is opened. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Commits kept in memory before a checkpoint moves them into the tree.
    pub memtable_bytes: u64,
    /// Pages of the tree kept in memory.
    pub page_cache_bytes: u64,
    /// Writes of a transaction kept in memory; once there are more they are written to a file, while the next are gathered. So an
    /// open transaction holds up to three times as much.
    pub write_set_bytes: u64,
    /// How long a call waits for another process's lock.
    pub lock_timeout: Duration,
    /// Folders that each hold a copy of all but what is coded, so that the database outlives the loss of some. Given at each opening, in the same order.
    pub mirrors: Vec<PathBuf>,
    /// Stores whose pages and values are spread over drives, so that some of these may be lost. Given at each opening.
    pub coding: Vec<Coding>,
    /// Opens what is there for reading only, and writes nothing, not even who reads: what a snapshot needs may be removed by those who
    /// write, and then a read of it fails with the retryable SnapshotTooOld.
    pub read_only: bool,
}

impl Options {
    /// True when a database with these options has copies of its log and manifests: with mirrors, or with erasure coding.
    pub fn has_copies(&self) -> bool {
        !self.mirrors.is_empty() || !self.coding.is_empty()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memtable_bytes: 20 << 20,
            page_cache_bytes: 256 << 20,
            write_set_bytes: 24 << 20,
            lock_timeout: Duration::from_secs(60),
            mirrors: Vec::new(),
            coding: Vec::new(),
            read_only: false,
        }
    }
}

/// Address of a value inside a value segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRef {
    pub(crate) segment: crate::segment::SegmentId,
    pub(crate) offset: u64,
    /// Its length in memory.
    pub(crate) len: u32,
    /// Its length in the file. Less than `len`: it is compressed.
    pub(crate) stored_len: u32,
    /// Of what is in the file.
    pub(crate) crc: u32,
}

impl BlobRef {
    /// Where it is: no other blob is, or ever will be, there.
    pub(crate) fn place(&self) -> (crate::segment::SegmentId, u64) {
        (self.segment, self.offset)
    }

    /// True when it is stored compressed.
    pub(crate) fn is_packed(&self) -> bool {
        self.stored_len != self.len
    }

    /// Length of the value in bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True for a value of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A value: its bytes, or where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The bytes themselves.
    Inline(Arc<[u8]>),
    /// Bytes in a value segment; [`crate::Transaction::load`] reads them.
    Blob(BlobRef),
}

/// A value met by a scan, borrowed from the page or memtable it lies in.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// The bytes themselves.
    Inline(&'a [u8]),
    /// Bytes in a value segment; [`crate::Transaction::load_ref`] reads them.
    Blob(BlobRef),
}

impl ValueRef<'_> {
    /// An owned copy.
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::Inline(bytes) => Value::Inline(bytes.into()),
            ValueRef::Blob(blob) => Value::Blob(blob),
        }
    }
}

/// A key and its value, as a scan returns them.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Key inside the store.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Value,
}
