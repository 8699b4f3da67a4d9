//! A transactional ordered key-value engine in one folder, for many threads and processes.
//!
//! One ordered key space holds all stores. A commit is one record in a write-ahead log and one sync; checkpoints move
//! commits into a copy-on-write B-tree in immutable files. See ARCHITECTURE.md, libjsondb/docs/protocol.md and libjsondb/docs/format.md.
//!
//! ```
//! # fn main() -> engine::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! use engine::{Database, Mode, Options, Placement};
//! let database = Database::open(folder.path(), &Options::default())?;
//! let mut transaction = database.begin(Mode::Write)?;
//! let store = transaction.ensure_store("users", b"")?;
//! transaction.put(store, b"1", b"Alice", Placement::Auto)?;
//! transaction.commit()?;
//! # Ok(()) }
//! ```

mod append;
mod backup;
mod bytes;
mod cancel;
mod catalog;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../tests/isolation/checker.rs"]
mod checker;
mod checkpoint;
#[cfg(all(test, unix))]
mod cluster_tests;
mod coded;
mod collect;
mod commit;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod compact;
mod copies;
#[cfg(test)]
mod crash_tests;
mod database;
#[cfg(test)]
mod durability_tests;
mod error;
mod folder;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
#[path = "../tests/fuzz_driver/mod.rs"]
mod fuzz_driver;
mod gap;
mod get;
#[cfg(test)]
#[allow(dead_code)] // The cluster campaign does without what the isolation campaign exports.
#[path = "../tests/isolation/graph.rs"]
mod graph;
#[cfg(test)]
mod hazard_tests;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../tests/isolation/history.rs"]
mod history;
mod info;
mod log;
mod manifest;
mod memtable;
#[cfg(test)]
mod open_tests;
mod os;
mod page;
mod per_process;
mod pin;
mod planted;
mod progress;
#[cfg(all(feature = "recording", not(test)))]
#[path = "../tests/common/random.rs"]
mod random;
mod range;
mod read_set;
mod replica;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../tests/isolation/report.rs"]
mod report;
mod run;
mod segment;
mod shared;
mod snapshot;
mod sync;
mod transaction;
mod tree;
mod types;
mod validate;
mod verify;
#[cfg(test)]
#[allow(dead_code)]
#[path = "../tests/isolation/versions.rs"]
mod versions;
mod wait;
mod write_set;
mod writers;

#[cfg(test)]
use common as random;

pub use backup::{Backup, BackupCheck};
pub use cancel::CancelToken;
pub use catalog::Store;
pub use coded::{
    Coding, DriveReport, DriveState, DriveStatus, Repair, RepairScope, Scrub, SegmentsAtRisk, SetReport,
    ShardFinding, find_coding,
};
pub use compact::Compaction;
pub use copies::{CopyReport, CopyRole, CopyState, CopyStatus};
pub use database::Database;
pub use error::{ConflictAt, CorruptAt, Error, ErrorKind, Result};
pub use get::{Part, TreeName, ValuePlace};
pub use info::{DiskUse, Files, Info};
pub use os::process_generation;
#[cfg(feature = "recording")]
#[doc(hidden)]
pub use os::{faults, trace};
pub use per_process::PerProcess;
pub use progress::Progress;
pub use shared::coordinator::{CachedBlob, Coordinator, Turn};
pub use transaction::{Transaction, Tried};
pub use tree::shared_cache::{CacheDuration, CacheDurations};
pub use types::{
    BlobRef, Direction, Durability, Entry, Mode, Options, Placement, Seq, StoreId, Value, ValueRef,
};
pub use verify::{Finding, LogReport, StoreContents, Verification, verify};

/// 64 random bits, for names that must never repeat.
fn random_u64() -> u64 {
    os::random_uuid().as_u64_pair().1
}
