//! Vector stores: rows of (id, vector, payload), searched by similarity. See libjsondb/docs/vectors.md.
//!
//! `keys` says what the engine's keys mean. `write` is the way in, over `heap` (vectors) and `entry` (ids and payloads), `read` the way out by id, `search`
//! that by similarity, over `table` (centroids in memory), `list` (codes) and `shortlist` (candidates). `index` moves rows into clusters and keeps these in shape. Everything
//! happens in engine transactions, so a query sees one snapshot of rows, payloads and clusters.

mod clustering;
mod counters;
mod entry;
mod filter;
mod flat;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod heap;
mod index;
mod kernel;
mod keys;
mod list;
mod metric;
mod places;
mod rabitq;
mod random;
mod ranked;
mod read;
mod read_ahead;
mod search;
mod shape;
mod shortlist;
mod state;
mod table;
mod types;
mod write;

use std::sync::{Arc, Mutex, PoisonError};

use engine::CancelToken;
use serde_json::value::RawValue;

use crate::names::{StoreKind, engine_name};
use crate::{Error, ErrorCode, Result, Session, Transaction};

pub(crate) use counters::audit;
use rabitq::Rotation;
use shape::Shape;
use state::Config;
use types::check_options;
pub use types::{
    ArrayQueryOptions, CentroidStats, Hit, IdBatch, IdRange, Metric, QueryOptions, Stats, UsageMode,
    VectorItem, VectorOptions,
};
use write::Row;

/// A vector store bound to a [`Session`]: its calls commit by themselves, or run inside a transaction.
///
/// It comes into being with the first upsert, which also fixes its dimension; before that it reads as empty.
pub struct VectorStore {
    session: Session,
    name: String,
    engine_name: String,
    options: VectorOptions,
    /// Of the database's path: copies of a folder are other stores.
    folder: u64,
    /// For vectors of the dimension it is for: making it takes longer than a query.
    rotation: Mutex<Option<(u32, Arc<Rotation>)>>,
}

fn hash_of_folder(session: &Session) -> u64 {
    let database = match session {
        Session::Auto(database) => database,
        Session::In(transaction) => transaction.database(),
    };
    xxhash_rust::xxh3::xxh3_64(database.folder().as_os_str().as_encoded_bytes())
}

/// Number of rows and options of a store.
pub(crate) fn describe(
    t: &mut engine::Transaction,
    store: &engine::Store,
) -> Result<(u64, serde_json::Value)> {
    let options = match Config::read(t, store.id)? {
        Some(config) => serde_json::json!({
            "dimension": config.dimension,
            "metric": config.metric as i32,
            "usage_mode": config.usage_mode as i32,
            "clusters": state::IndexState::read(t, store.id)?.clusters,
        }),
        None => serde_json::json!({}),
    };
    Ok((counters::rows(t, store.id)?, options))
}

impl VectorStore {
    /// The store `name` of the session. Touches no file. The usage mode of a store that exists stays what it
    /// is.
    pub fn open(session: Session, name: &str, options: VectorOptions) -> Result<Self> {
        check_options(&options)?;
        let engine_name = engine_name(StoreKind::Vector, name)?;
        let folder = hash_of_folder(&session);
        Ok(Self { session, name: name.to_owned(), engine_name, options, folder, rotation: Mutex::default() })
    }

    /// The same store in another session.
    pub fn with_session(&self, session: Session) -> Self {
        let rotation = Mutex::new(self.rotation().clone());
        let (name, engine_name) = (self.name.clone(), self.engine_name.clone());
        let folder = hash_of_folder(&session);
        Self { session, name, engine_name, options: self.options, folder, rotation }
    }

    /// Name of the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds items, replacing those whose ids exist. All of them are checked before any is stored.
    pub fn upsert(&self, cancel: &CancelToken, items: &[VectorItem]) -> Result<()> {
        let rows: Vec<Row<'_>> = items.iter().map(Row::from).collect();
        self.write_rows(cancel, &rows)
    }

    /// As [`VectorStore::upsert`], from `ids.len()` vectors of `dimension` numbers that lie one after the
    /// other.
    pub fn upsert_arrays(
        &self,
        cancel: &CancelToken,
        ids: &[String],
        dimension: usize,
        vectors: &[f32],
        payloads: Option<Vec<Box<RawValue>>>,
    ) -> Result<()> {
        let rows = write::rows_of_arrays(ids, dimension, vectors, payloads.as_deref())?;
        self.write_rows(cancel, &rows)
    }

    /// Number of live rows.
    pub fn count(&self, cancel: &CancelToken) -> Result<u64> {
        self.read(cancel, |t| match self.shape(t)? {
            Some(shape) => counters::rows(t, shape.store),
            None => Ok(0),
        })
    }

    /// Runs `work` on one snapshot.
    fn read<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnMut(&mut engine::Transaction) -> Result<R>,
    ) -> Result<R> {
        match &self.session {
            Session::In(transaction) => transaction.with(cancel, work),
            Session::Auto(database) => database.read_brief(cancel, work),
        }
    }

    /// Runs `work` in a transaction that writes. In a session of its own it may run more than once, after
    /// conflicts; in a caller's transaction an error inside `work` ends that transaction, so that half a
    /// batch is never committed. `check` runs before anything is written; its errors leave the transaction as
    /// it was.
    fn write<R>(
        &self,
        cancel: &CancelToken,
        check: impl Fn(&mut engine::Transaction) -> Result<()>,
        work: impl Fn(&mut engine::Transaction) -> Result<R>,
    ) -> Result<R> {
        self.session.write(cancel, |transaction| {
            self.check_writable(transaction)?;
            transaction.name_keys(&self.engine_name, Arc::new(keys::describe));
            transaction.with(cancel, &check)?;
            let done = transaction.with_all_or_end(cancel, &work)?;
            transaction.with(cancel, |t| self.maintain_after(transaction, t))?;
            Ok(done)
        })
    }

    fn check_writable(&self, transaction: &Transaction) -> Result<()> {
        transaction.check_writable(&format!("change vector store {:?}", self.name))
    }

    /// The store and its configuration; None before the first row.
    fn shape(&self, t: &mut engine::Transaction) -> Result<Option<Shape>> {
        let Some((store, _)) = t.store(&self.engine_name)? else { return Ok(None) };
        let Some(config) = Config::read(t, store)? else { return Ok(None) };
        self.check_metric(config.metric)?;
        let mut known = self.rotation();
        let rotation = match &*known {
            Some((dimension, rotation)) if *dimension == config.dimension => Arc::clone(rotation),
            _ => {
                let rotation = Arc::new(Rotation::new(config.dimension as usize));
                *known = Some((config.dimension, Arc::clone(&rotation)));
                rotation
            }
        };
        Ok(Some(Shape { store, config, rotation, home: self.folder ^ config.id }))
    }

    /// Fails when the store was opened with another metric than it has.
    fn check_metric(&self, metric: Metric) -> Result<()> {
        match self.options.metric.map(Metric::from_number).transpose()? {
            Some(asked) if asked != metric => {
                let message = format!(
                    "vector store {:?} was made with the metric {metric:?}, which it keeps: open it with that one, not {asked:?}",
                    self.name
                );
                Err(Error::new(ErrorCode::Validation, message).with_detail("store", self.name()))
            }
            _ => Ok(()),
        }
    }

    fn rotation(&self) -> std::sync::MutexGuard<'_, Option<(u32, Arc<Rotation>)>> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
