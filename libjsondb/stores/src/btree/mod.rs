//! B-tree stores: items under JSON keys in their order, unique or with duplicates, with a cursor per handle.
//!
//! | operation | key exists | key is missing |
//! |---|---|---|
//! | add, unique store | False, cursor moves to the item | added |
//! | add, with duplicates | added before its equals | added |
//! | add_if_not_exists | False, cursor moves to the item | added |
//! | update | value replaced | False |
//! | upsert | value replaced | added |
//! | remove | removed, cursor stays at its place | False |
//! | find | True, cursor there | False, cursor at the next greater key, else at the last |
//!
//! Of several equal items, update, upsert and remove take the one at the cursor, else the newest. A replaced value keeps
//! its item's key: fields outside the index specification stay those it was added with.

mod chunk;
mod cursor;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod index;
mod item;
mod key;
mod layout;
pub mod map;
mod number;
mod options;
#[cfg(any(test, feature = "fuzz"))]
mod order;
mod paging;
mod read;
mod record;
mod rows;
mod shape;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{ErrorKind, Placement, StoreId};
use serde_json::Value;

use crate::maintenance::Audit;
use crate::names::{StoreKind, engine_name};
use crate::{CancelToken, Error, ErrorCode, Result, Transaction};
pub use chunk::Chunk;
use cursor::Cursor;
pub use index::{IndexField, IndexSpecification};
pub use item::{Item, ItemInput, Move, Paging, RangeBatch, RangeQuery, WriteOp};
pub(crate) use key::Scalar;
pub use layout::Layout;
pub(crate) use number::OrderedNumber;
pub use options::BtreeOptions;
pub use rows::What;
pub use rows::{Found, KeyOut, Rows};
pub use shape::{KeySource, Shape};
pub use write::VALUE_BYTES_MAX;

/// The engine's counter of a store's items.
const COUNTER: &[u8] = b"n";

/// A B-tree store, opened in a transaction. Any thread may use it; calls run one after the other.
pub struct Btree {
    transaction: Arc<Transaction>,
    store: StoreId,
    options: BtreeOptions,
    layout: Layout,
    cursor: Mutex<Cursor>,
}

impl Btree {
    /// Creates the store, or opens it when it exists with equal options.
    pub fn create_or_open(
        cancel: &CancelToken,
        transaction: &Arc<Transaction>,
        options: BtreeOptions,
    ) -> Result<Self> {
        let engine_name = engine_name(StoreKind::Btree, &options.name)?;
        let (options, _) = options.normalise()?;
        let metadata = options.to_metadata()?;
        let (store, stored) =
            transaction.with(cancel, |engine| ensure_store(engine, &engine_name, metadata))?;
        let stored = BtreeOptions::from_metadata(&options.name, &stored)?;
        let differences = stored.differences(&options);
        if !differences.is_empty() {
            let message = format!(
                "B-tree {:?} exists with a different configuration, open it with Btree.open (these differ: {})",
                options.name,
                differences.join(", ")
            );
            let error = Error::new(ErrorCode::StoreExists, message);
            return Err(error.with_detail("store", options.name).with_detail("differences", differences));
        }
        Self::opened(cancel, transaction, &engine_name, store, stored)
    }

    /// Opens an existing store.
    pub fn open(cancel: &CancelToken, transaction: &Arc<Transaction>, name: &str) -> Result<Self> {
        let engine_name = engine_name(StoreKind::Btree, name)?;
        let Some((store, stored)) = transaction.with(cancel, |engine| Ok(engine.store(&engine_name)?))?
        else {
            let message = format!("error opening Btree ({name}), store not found");
            return Err(Error::new(ErrorCode::StoreNotFound, message).with_detail("store", name));
        };
        let stored = BtreeOptions::from_metadata(name, &stored)?;
        Self::opened(cancel, transaction, &engine_name, store, stored)
    }

    fn opened(
        cancel: &CancelToken,
        transaction: &Arc<Transaction>,
        engine_name: &str,
        store: StoreId,
        options: BtreeOptions,
    ) -> Result<Self> {
        let (options, specification) = options.normalise()?;
        let layout = Layout::new(&options.name, options.is_unique, specification);
        let durations = options.cache_durations();
        transaction.with(cancel, |engine| {
            engine.set_cache_durations(store, durations);
            Ok(())
        })?;
        let namer = layout.clone();
        transaction.name_keys(engine_name, Arc::new(move |key| namer.describe(key)));
        Ok(Self { transaction: transaction.clone(), store, options, layout, cursor: Mutex::default() })
    }

    /// The stored options.
    pub fn options(&self) -> BtreeOptions {
        self.options.clone()
    }

    /// True when there is one item per key at most.
    pub fn is_unique(&self) -> bool {
        self.options.is_unique
    }

    /// How its keys lie in the engine.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The transaction it was opened in.
    pub fn transaction(&self) -> &Arc<Transaction> {
        &self.transaction
    }

    /// Number of items as this transaction sees it. Never a reason for a conflict.
    pub fn count(&self, cancel: &CancelToken) -> Result<u64> {
        let count = self.transaction.with(cancel, |engine| Ok(engine.counter(self.store, COUNTER)?))?;
        u64::try_from(count).map_err(|_| {
            let message = format!("the count of B-tree {:?} is {count}", self.options.name);
            Error::new(ErrorCode::Corruption, message).with_detail("store", self.options.name.as_str())
        })
    }

    fn placement(&self) -> Placement {
        if self.options.is_value_data_actively_persisted { Placement::Eager } else { Placement::Auto }
    }

    /// Taken before the transaction's lock, always.
    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a store's keys say, against its counter.
pub(crate) fn audit(contents: &engine::StoreContents) -> Audit {
    let items: u64 = contents.entries.values().sum();
    let counted = contents.counters.get(COUNTER).copied().unwrap_or_default();
    let difference = (u64::try_from(counted) != Ok(items))
        .then(|| format!("its count is {counted}, but it holds {items} items"));
    Audit { items, difference }
}

/// Number of items and options of a store.
pub(crate) fn describe(
    engine: &mut engine::Transaction,
    name: &str,
    store: &engine::Store,
) -> Result<(u64, Value)> {
    let count = engine.counter(store.id, COUNTER)?;
    let options = BtreeOptions::from_metadata(name, &store.metadata)?.to_listing()?;
    Ok((u64::try_from(count).unwrap_or_default(), options))
}

/// The store and its metadata, created when missing. Asking first whether it exists would count as read, and make two
/// creators of one store conflict.
fn ensure_store(
    engine: &mut engine::Transaction,
    engine_name: &str,
    metadata: Vec<u8>,
) -> Result<(StoreId, Vec<u8>)> {
    match engine.ensure_store(engine_name, &metadata) {
        Ok(store) => Ok((store, metadata)),
        Err(error) if error.kind() == ErrorKind::Exists => engine.store(engine_name)?.ok_or(error.into()),
        Err(error) => Err(error.into()),
    }
}
