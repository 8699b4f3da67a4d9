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

/// A folder that holds the log and the manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyState {
    /// By which it is named.
    pub index: usize,
    /// "stores_folders[0]", or "drive 2 of STORE".
    pub role: String,
    /// Its folder; null when it was not given.
    pub path: Option<String>,
    /// "current", "stale", "missing" or "unreadable".
    pub state: &'static str,
    /// The newest transaction in it, where that is known.
    pub sequence: Option<u64>,
}

impl CopyState {
    fn new<'a>(copy: &engine::CopyReport, of_set: impl Fn(u8) -> Option<&'a engine::SetReport>) -> Self {
        let role = match copy.role {
            engine::CopyRole::Folder(index) => format!("stores_folders[{index}]"),
            engine::CopyRole::Drive { set, index } => match of_set(set) {
                Some(set) if !set.store.is_empty() => format!("drive {index} of {:?}", set.store),
                _ => format!("drive {index}"),
            },
        };
        let state = match copy.state {
            engine::CopyState::Member => "current",
            engine::CopyState::Stale => "stale",
            engine::CopyState::Missing => "missing",
            engine::CopyState::Unreadable => "unreadable",
        };
        let is_known = matches!(copy.state, engine::CopyState::Member | engine::CopyState::Stale);
        let path = Some(copy.path.to_string_lossy().into_owned()).filter(|path| !path.is_empty());
        Self { index: copy.index, role, path, state, sequence: is_known.then_some(copy.last.0) }
    }
}

/// A drive of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriveState {
    /// Its role.
    pub index: usize,
    /// Its folder.
    pub path: String,
    /// "ok", "behind", "replaced", "missing" or "unreadable".
    pub state: &'static str,
    /// Shards that it should have and has not.
    pub missing: u64,
    /// Bytes of its shards.
    pub bytes: u64,
}

/// Drives that share the data of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetState {
    /// The store; empty: all that have no settings of their own.
    pub name: String,
    /// Data shards.
    pub data: usize,
    /// Parity shards.
    pub parity: usize,
    /// Segments.
    pub segments: u64,
    /// At n: how many of them can lose n more shards.
    pub spare: Vec<u64>,
    /// How many have too few shards to be read.
    pub lost: u64,
    /// By index.
    pub drives: Vec<DriveState>,
}

/// What of a database is there how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedundancyStatus {
    /// True: nothing is missing.
    pub healthy: bool,
    /// Folders with the log and manifests; none when there is one only.
    pub copies: Vec<CopyState>,
    /// Drives.
    pub sets: Vec<SetState>,
}

impl RedundancyStatus {
    pub(crate) fn new(copies: &engine::CopyStatus, drives: &engine::DriveStatus) -> Self {
        let of_set = |number| drives.sets.iter().find(|set| set.number == number);
        let copies: Vec<CopyState> = copies.copies.iter().map(|copy| CopyState::new(copy, of_set)).collect();
        let sets: Vec<SetState> = drives.sets.iter().map(SetState::from).collect();
        let is_whole = |set: &SetState| set.lost == 0 && set.drives.iter().all(|drive| drive.state == "ok");
        let healthy = copies.iter().all(|copy| copy.state == "current") && sets.iter().all(is_whole);
        Self { healthy, copies, sets }
    }
}

impl From<&engine::SetReport> for SetState {
    fn from(set: &engine::SetReport) -> Self {
        Self {
            name: set.store.clone(),
            data: set.data,
            parity: set.parity,
            segments: set.segments,
            spare: set.at_risk.by_spare.clone(),
            lost: set.at_risk.lost,
            drives: set.drives.iter().map(DriveState::from).collect(),
        }
    }
}

impl From<&engine::DriveReport> for DriveState {
    fn from(drive: &engine::DriveReport) -> Self {
        let state = match drive.state {
            engine::DriveState::Ok => "ok",
            engine::DriveState::Behind => "behind",
            engine::DriveState::Replaced => "replaced",
            engine::DriveState::Missing => "missing",
            engine::DriveState::Unreadable => "unreadable",
        };
        let path = drive.path.to_string_lossy().into_owned();
        Self { index: drive.index, path, state, missing: drive.missing, bytes: drive.bytes }
    }
}

/// What a scrub read and found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scrub {
    /// True: no finding.
    pub intact: bool,
    /// Shards that are missing or damaged.
    pub findings: Vec<Finding>,
    /// Shards read.
    pub shards: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl From<engine::Scrub> for Scrub {
    fn from(scrub: engine::Scrub) -> Self {
        let findings: Vec<Finding> = scrub.findings.iter().map(Finding::from).collect();
        Self { intact: findings.is_empty(), findings, shards: scrub.shards, bytes: scrub.bytes }
    }
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repair {
    /// Shards written anew.
    pub rebuilt: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long that took.
    pub seconds: f64,
    /// Copies brought back.
    pub copies: Vec<usize>,
    /// What could not be repaired.
    pub failed: Vec<Finding>,
}

impl From<engine::Repair> for Repair {
    fn from(made: engine::Repair) -> Self {
        Self {
            rebuilt: made.shards,
            bytes: made.bytes,
            seconds: made.duration.as_secs_f64(),
            copies: Vec::new(),
            failed: made.failed.iter().map(Finding::from).collect(),
        }
    }
}

impl From<&engine::ShardFinding> for Finding {
    fn from(found: &engine::ShardFinding) -> Self {
        Self { file: found.file.to_string_lossy().into_owned(), offset: 0, what: found.what.clone() }
    }
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
