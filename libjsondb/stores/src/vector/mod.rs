//! Vector stores: rows of (id, vector, payload) in clusters, searched by cosine similarity.
//!
//! `layout` says what the engine's keys mean, `write` and `search` are the two ways in, `optimize` rebuilds
//! the clusters that `kmeans` finds. Everything happens in one engine transaction, so a reader sees one
//! snapshot of rows, payloads and clusters.

mod assign;
mod candidates;
mod centroids;
#[cfg_attr(not(test), expect(dead_code))]
#[expect(unused_imports)]
mod clustering;
mod config;
mod counters;
mod filter;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
#[cfg_attr(not(test), expect(dead_code))]
mod kernel;
mod kmeans;
mod layout;
mod optimize;
mod probe;
#[cfg_attr(not(test), expect(dead_code))]
#[expect(unused_imports)]
mod rabitq;
mod random;
mod rows;
mod sample;
mod search;
mod stats;
mod types;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{CancelToken, Mode, StoreId};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::names::{StoreKind, engine_name};
use crate::{Result, Session, Transaction};

use centroids::Centroids;
use config::Config;
pub(crate) use counters::audit;
use types::check_options;
pub use types::{
    ArrayQueryOptions, CentroidStats, Hit, QueryOptions, Stats, UsageMode, VectorItem, VectorOptions,
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
    known: Mutex<Known>,
}

/// Centroids read before. Versions are never used twice, so what was read in a transaction that rolled back
/// does no harm.
#[derive(Clone, Default)]
struct Known {
    /// Valid for the clustering of this version.
    automatic: Option<(Uuid, Arc<Centroids>)>,
    /// Valid in committed states of this version and count of explicit clusters.
    explicit: Option<((Uuid, i64), Arc<Centroids>)>,
}

/// Number of rows and options of a store.
pub(crate) fn describe(
    t: &mut engine::Transaction,
    store: &engine::Store,
) -> Result<(u64, serde_json::Value)> {
    let options = match config::read_config(t, store.id)? {
        Some(config) => serde_json::json!({
            "dimension": config.dimension,
            "usage_mode": config.usage_mode as i32,
            "clusters": config.centroid_count,
        }),
        None => serde_json::json!({}),
    };
    Ok((counters::row_count(t, store.id)?, options))
}

impl VectorStore {
    /// The store `name` of the session. Touches no file. The usage mode of a store that exists stays what it
    /// is.
    pub fn open(session: Session, name: &str, options: VectorOptions) -> Result<Self> {
        check_options(&options)?;
        let engine_name = engine_name(StoreKind::Vector, name)?;
        Ok(Self { session, name: name.to_owned(), engine_name, options, known: Mutex::default() })
    }

    /// The same store in another session.
    pub fn with_session(&self, session: Session) -> Self {
        let known = Mutex::new(self.known().clone());
        let (name, engine_name) = (self.name.clone(), self.engine_name.clone());
        Self { session, name, engine_name, options: self.options, known }
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
        self.read(cancel, |t| match self.config(t)? {
            Some((store, _)) => counters::row_count(t, store),
            None => Ok(0),
        })
    }

    /// Runs `work` on one snapshot.
    fn read<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnOnce(&mut engine::Transaction) -> Result<R>,
    ) -> Result<R> {
        self.session.read(cancel, |transaction| transaction.with(cancel, work))
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
            transaction.name_keys(&self.engine_name, Arc::new(layout::describe_key));
            transaction.with(cancel, &check)?;
            transaction.with_all_or_end(cancel, &work)
        })
    }

    fn check_writable(&self, transaction: &Transaction) -> Result<()> {
        transaction.check_writable(&format!("change vector store {:?}", self.name))
    }

    /// The store's id and configuration; None before the first row.
    fn config(&self, t: &mut engine::Transaction) -> Result<Option<(StoreId, Config)>> {
        match t.store(&self.engine_name)? {
            Some((store, _)) => Ok(config::read_config(t, store)?.map(|config| (store, config))),
            None => Ok(None),
        }
    }

    /// The centres of a clustering, from memory when they were read before.
    fn automatic_centroids(
        &self,
        t: &mut engine::Transaction,
        store: StoreId,
        config: &Config,
        cancel: &CancelToken,
    ) -> Result<Arc<Centroids>> {
        match &self.known().automatic {
            Some((version, centroids)) if *version == config.version => return Ok(centroids.clone()),
            _ => {}
        }
        let centroids = Arc::new(Centroids::load_automatic(t, store, config, cancel)?);
        self.known().automatic = Some((config.version, centroids.clone()));
        Ok(centroids)
    }

    /// The centres of the explicit clusters, from memory when they were read before. A transaction that
    /// writes reads them itself: another one's new cluster must conflict with it.
    fn explicit_centroids(
        &self,
        t: &mut engine::Transaction,
        store: StoreId,
        config: &Config,
        cancel: &CancelToken,
    ) -> Result<Arc<Centroids>> {
        if t.mode() == Mode::Write {
            return Centroids::load_explicit(t, store, config, cancel).map(Arc::new);
        }
        let state = (config.version, counters::explicit_count(t, store)?);
        match &self.known().explicit {
            Some((known, centroids)) if *known == state => return Ok(centroids.clone()),
            _ => {}
        }
        let centroids = Arc::new(Centroids::load_explicit(t, store, config, cancel)?);
        self.known().explicit = Some((state, centroids.clone()));
        Ok(centroids)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
