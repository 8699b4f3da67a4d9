//! What looking after a database answers, as it is written in JSON.

use serde::Serialize;

/// Damage: where and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, inside the folder of the database.
    pub file: String,
    /// Offset in it.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// The log, as a verification found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Files.
    pub files: u64,
    /// Group commits and checkpoints in them.
    pub frames: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Number of the last transaction.
    pub sequence: u64,
    /// Offset in the last file at which the log ends.
    pub end: u64,
    /// A commit that was begun and not stored stands there; no damage.
    pub torn: bool,
}

/// A store, as a verification found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedStore {
    /// Its name.
    pub name: String,
    /// "btree", "vector" or "model".
    pub kind: &'static str,
    /// What it holds, counted.
    pub items: u64,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// True: no finding.
    pub intact: bool,
    /// All damage.
    pub findings: Vec<Finding>,
    /// Empty when damage keeps them from being counted.
    pub stores: Vec<VerifiedStore>,
    /// Keys, those of the catalog included.
    pub entries: u64,
    /// Pages of the tree.
    pub pages: u64,
    /// Values outside the pages.
    pub values: u64,
    /// Bytes of pages and values.
    pub bytes: u64,
    /// The log.
    pub log: LogReport,
}

/// Files of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Files {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Size of a database on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// Bytes of all.
    pub bytes: u64,
    /// Commits.
    pub log: Files,
    /// Pages and values.
    pub segments: Files,
    /// Lists of segments.
    pub manifests: Files,
}

/// A database as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Info {
    /// The folder, absolute.
    pub folder: String,
    /// Version of everything in the folder.
    pub format_version: u32,
    /// Identity of the database; copies share it.
    pub uuid: uuid::Uuid,
    /// Number of stores.
    pub stores: u64,
    /// Number of the last transaction.
    pub sequence: u64,
    /// All transactions up to this one are in the tree.
    pub checkpoint: u64,
    /// Size on disk.
    pub disk: DiskUse,
    /// Bytes of pages and values that are in use.
    pub live_bytes: u64,
    /// Share of the segments of the tree that is not, from 0 to 1.
    pub garbage: f64,
    /// Processes that have the database open for writing, this one included if it can write.
    pub processes: u64,
    /// Oldest checkpoint that an open transaction of any of them reads; null: none is open.
    pub oldest_pin: Option<u64>,
}

/// A store as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreInfo {
    /// Its name.
    pub name: String,
    /// "btree", "vector" or "model".
    pub kind: &'static str,
    /// Number of items.
    pub items: u64,
    /// What it was made with.
    pub options: serde_json::Value,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Number of the last transaction in it.
    pub sequence: u64,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// True: all of it was read back and checked.
    pub verified: bool,
}

/// What compacting came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compaction {
    /// Size before.
    pub before: DiskUse,
    /// Size after.
    pub after: DiskUse,
    /// Checkpoints made.
    pub checkpoints: u64,
}

impl From<engine::Files> for Files {
    fn from(files: engine::Files) -> Self {
        Self { files: files.count, bytes: files.bytes }
    }
}

impl From<engine::DiskUse> for DiskUse {
    fn from(disk: engine::DiskUse) -> Self {
        Self {
            bytes: disk.bytes(),
            log: disk.log.into(),
            segments: disk.segments.into(),
            manifests: disk.manifests.into(),
        }
    }
}

impl From<&engine::LogReport> for LogReport {
    fn from(log: &engine::LogReport) -> Self {
        Self {
            files: log.files,
            frames: log.frames,
            transactions: log.transactions,
            sequence: log.last_seq.0,
            end: log.end,
            torn: log.torn,
        }
    }
}

impl From<&engine::Finding> for Finding {
    fn from(finding: &engine::Finding) -> Self {
        let (file, what) = (finding.file.to_string_lossy().into_owned(), finding.what.clone());
        Self { file, offset: finding.offset, what }
    }
}
