//! What users open in a transaction: B-tree, vector and model stores over the engine.
//!
//! This crate knows JSON keys and their order, duplicates, cursors, vectors and models. It knows nothing of C, and of
//! files only that a database lives in a folder.
//!
//! ```no_run
//! # fn main() -> stores::Result<()> {
//! use stores::{Btree, BtreeOptions, CancelToken, Database, DatabaseOptions, ItemInput, TransactionMode, WriteOp};
//! let cancel = CancelToken::new();
//! let database = Database::open(DatabaseOptions { storage_path: "/tmp/sop".into(), ..Default::default() })?;
//! let transaction = database.begin(TransactionMode::ForWriting, stores::DEFAULT_MAX_TIME, &cancel)?;
//! let users = Btree::create_or_open(&cancel, &transaction, BtreeOptions::new("users"))?;
//! let item: ItemInput = serde_json::from_str(r#"{"key": 1, "value": "Alice"}"#).unwrap();
//! users.write(&cancel, WriteOp::Add, &[item])?;
//! transaction.commit(&cancel)?;
//! # Ok(()) }
//! ```

mod btree;
#[cfg(test)]
#[path = "../../engine/tests/common/mod.rs"]
mod common;
mod database;
mod error;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
#[path = "../../engine/tests/fuzz_driver/mod.rs"]
mod fuzz_driver;
mod hex;
mod ids;
mod maintenance;
mod model;
mod names;
mod planted;
mod redundancy;
mod report;
mod session;
mod transaction;
mod vector;
mod walk;

pub use btree::map;
pub use btree::{
    Btree, BtreeOptions, Chunk, Found, IndexField, IndexSpecification, Item, ItemInput, KeyOut, KeySource,
    Layout, Move, Paging, RangeBatch, RangeQuery, Rows, Shape, VALUE_BYTES_MAX, What, WriteOp,
};
pub use database::{Connect, Database, DatabaseOptions};
pub use engine::{
    BackupCheck, CancelToken, Coordinator, Direction, Durability, Progress, process_generation,
};
pub use error::{Error, ErrorCode, Result};
pub use model::{Artifact, Loaded, ModelStore, Upload, Version};
pub use redundancy::{ErasureConfig, ErasureSettings, ReinstateOptions};
pub use report::{
    Backup, Compaction, CopyState, DiskUse, DriveState, Files, Finding, Info, LogReport, RedundancyStatus,
    Repair, Scrub, SetState, StoreInfo, Verification, VerifiedStore,
};
pub use session::Session;
pub use transaction::{
    DEFAULT_MAX_TIME, LONGEST_MAX_TIME, Transaction, TransactionMode, max_time_from_minutes,
};
pub use vector::{
    ArrayQueryOptions, CentroidStats, Hit, IdBatch, IdRange, Metric, QueryOptions, Stats, UsageMode,
    VectorItem, VectorOptions, VectorStore,
};
