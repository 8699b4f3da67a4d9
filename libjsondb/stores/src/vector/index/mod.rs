//! Index transactions: they move fresh rows into clusters, keep clusters in shape, and clear what deletes left.
//!
//! They run in the thread that committed, behind its commit, in bounded steps. Of two that overlap one fails, and what it wanted to do is done by
//! the other or the next one. The rows are committed whatever becomes of them.

#[cfg(test)]
mod campaigns;
mod drain;
mod gather;
mod lease;
mod reach;
mod rebuild;
mod reshape;
mod stats;
mod tend;
mod transaction;
mod vacuum;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{CancelToken, PerProcess, StoreId, Transaction};

use self::reach::Searched;
use self::tend::Touched;
use self::transaction::IndexTransaction;
use super::shape::Shape;
use super::state::Change;
use super::types::UsageMode;
use super::{VectorStore, counters};
use crate::{Database, Error, ErrorCode, Progress, Result, Session};

/// Fresh rows from which on they are drained.
const FRESH_MIN: u64 = 64;
/// Deleted rows, as a part of the live ones and in any case, above which what is left of them is cleared.
const DEAD_PART: u64 = 10;
const DEAD_MIN: u64 = 1000;
/// The part of the rows by which an index has grown when it is looked how far searches must go now.
const LEARNED_PART: u64 = 1;
/// Rows in all up to which one cluster holds them, to be scanned as a whole.
const FLAT_ROWS_MAX: u64 = 16_384;
/// Index transactions that follow one commit.
const STEPS_MAX: usize = 64;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Drain,
    Vacuum,
    Learn,
    Rebuild,
}

impl VectorStore {
    /// Asks for maintenance behind the commit of a transaction that wrote rows, when it is due.
    pub(super) fn maintain_after(&self, transaction: &crate::Transaction, t: &mut Transaction) -> Result<()> {
        let Some((store, _)) = t.store(&self.engine_name)? else { return Ok(()) };
        if counters::fresh(t, store)? < FRESH_MIN && !dead_are_many(t, store)? {
            return Ok(());
        }
        let database = Arc::clone(transaction.database());
        let vectors = self.with_session(Session::Auto(Arc::clone(&database)));
        transaction.after_commit(&self.engine_name, move |cancel| vectors.maintain(&database, cancel));
        Ok(())
    }

    /// Does what is due. Errors are dropped: rows are committed, and what is still due is done behind the next commit.
    fn maintain(&self, database: &Arc<Database>, cancel: &CancelToken) {
        let Some(_busy) = Busy::claim(database, &self.engine_name) else { return };
        let mut touched = Touched::new();
        for _ in 0..STEPS_MAX {
            match self.maintain_once(database, &mut touched, cancel) {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// True when there may be more to do. `touched`: clusters whose lists were changed before.
    fn maintain_once(
        &self,
        database: &Arc<Database>,
        touched: &mut Touched,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let Some(mut index) = self.begin_index(database, None, cancel)? else { return Ok(false) };
        match due(&mut index)? {
            Due::Drain => drain::drain(index, touched, cancel),
            // When all have come that will.
            _ if !touched.is_empty() => tend::tend(index, touched, cancel).map(|()| true),
            Due::Nothing => Ok(false),
            Due::Vacuum => {
                drop(index);
                self.vacuum(database, touched, cancel).map(|()| true)
            }
            Due::Learn => learn(index, cancel).map(|()| false),
            Due::Rebuild => {
                drop(index);
                self.rebuild(database, cancel, &mut Progress::new(cancel, &mut |_, _| true)).map(|()| false)
            }
        }
    }
}

fn due(index: &mut IndexTransaction) -> Result<Due> {
    let IndexTransaction { t, shape: Shape { store, config, .. }, state } = index;
    let (fresh, dead) = (counters::fresh(t, *store)?, counters::dead(t, *store)?);
    let all = fresh + state.indexed;
    let is_grown = fresh > state.indexed || state.clusters <= 1 && all >= 2 * state.learned;
    let is_shrunk = dead_are_many(t, *store)? && dead > counters::rows(t, *store)?;
    // It waits for `optimize`: what comes before is scanned as it is.
    let waits = config.usage_mode == UsageMode::BuildOnceQueryMany && state.generation == 0;
    Ok(if all >= FLAT_ROWS_MAX && (is_grown || is_shrunk) && !waits {
        Due::Rebuild
    } else if dead_are_many(t, *store)? {
        Due::Vacuum
    } else if fresh >= FRESH_MIN && !waits {
        Due::Drain
    } else if state.clusters > 1 && state.indexed > state.learned + state.learned / LEARNED_PART {
        Due::Learn
    } else {
        Due::Nothing
    })
}

/// Learns how far searches must go in an index that has grown.
fn learn(mut index: IndexTransaction, cancel: &CancelToken) -> Result<()> {
    let table = index.table()?;
    let IndexTransaction { t, shape, state } = &mut index;
    let (words, store) = (shape.words(), shape.store);
    let lists = |t: &mut Transaction, index: usize| table.list(index, words, t, store);
    let searched = Searched { shape, centroids: &table.centroids, lists };
    state.reach = t.untracked(|t| {
        let samples = searched.samples(t)?;
        reach::learn(t, &searched, &samples, cancel)
    })?;
    state.learned = state.indexed;
    index.commit(&Change::default()).map(drop)
}

/// True when what deletes left is worth to be cleared.
fn dead_are_many(t: &Transaction, store: StoreId) -> Result<bool> {
    let dead = counters::dead(t, store)?;
    Ok(dead > DEAD_MIN && dead > counters::rows(t, store)? / DEAD_PART)
}

/// What a transaction fails with whose index others have changed.
fn lost() -> Error {
    Error::new(ErrorCode::Conflict, "another changed the index")
}

/// Stores of databases of this process that a thread maintains: others leave them to it.
static BUSY: PerProcess<Mutex<HashSet<(PathBuf, String)>>> = PerProcess::new();

struct Busy((PathBuf, String));

impl Busy {
    fn claim(database: &Database, engine_store: &str) -> Option<Self> {
        let key = (database.folder().to_owned(), engine_store.to_owned());
        let is_new = BUSY.get().lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        is_new.then_some(Self(key))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.get().lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}
