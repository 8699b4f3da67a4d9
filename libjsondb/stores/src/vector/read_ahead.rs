//! Reading the lists of an index into memory in the order in which they lie, some with each query.
//!
//! Queries touch lists in no order: one by one, each page of the database is read several times. What is read here is what they would read in
//! the end, in a fifth of the time, and no query waits for all of it.

use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use engine::{Direction, StoreId, Transaction, ValueRef};

use super::keys::{self, BASE, ClusterId, KeyRange, ListKey};
use super::list::List;
use super::state::IndexState;
use super::table::{LISTS_BYTES_MAX, Table};
use crate::{Result, walk};

/// Lists read with one query: some two milliseconds.
const LISTS_AT_ONCE: usize = 512;

/// The first cluster whose list was not read yet; None at the end.
pub(super) struct ReadAhead(Mutex<Option<ClusterId>>);

impl ReadAhead {
    /// From the first list on, where all of them find room and leave some to other stores.
    pub(super) fn new(state: &IndexState, words: usize) -> Self {
        let lists_of_a_row = 2;
        let bytes = state.indexed.saturating_mul(lists_of_a_row * List::row_bytes(words) as u64);
        Self(Mutex::new((bytes <= LISTS_BYTES_MAX / 2).then_some(BASE)))
    }

    /// Reads the next lists, unless another thread is at it.
    pub(super) fn go_on(&self, table: &Table, words: usize, t: &mut Transaction, store: StoreId) {
        let Ok(mut next) = self.0.try_lock() else { return };
        if let Some(first) = *next {
            // Whoever needs a list that cannot be read is told then.
            *next = read(table, first, words, t, store).unwrap_or(None);
        }
    }
}

impl Clone for ReadAhead {
    fn clone(&self) -> Self {
        Self(Mutex::new(*self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Reads lists from that of a cluster on; gives the cluster to go on with.
fn read(
    table: &Table,
    first: ClusterId,
    words: usize,
    t: &mut Transaction,
    store: StoreId,
) -> Result<Option<ClusterId>> {
    let (start, end) = (ListKey::Cluster(first).range().start, KeyRange::all(b'k').end);
    let span = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
    let (mut lists, mut next) = (Vec::<(ClusterId, List)>::new(), None);
    t.once(|t| {
        walk::visit(t, store, span, Direction::Forward, |key, value| {
            let cluster = keys::cluster_of_list(key)?;
            if lists.last().is_none_or(|(last, _)| *last != cluster) {
                if lists.len() >= LISTS_AT_ONCE {
                    next = Some(cluster);
                    return Ok(false);
                }
                lists.push((cluster, List::new(words)));
            }
            match (value, lists.last_mut()) {
                (ValueRef::Inline(bytes), Some((_, list))) => list.unpack(bytes)?,
                // Long codes lie beside the tree, in no order.
                _ => {
                    lists.pop();
                    return Ok(false);
                }
            }
            Ok(true)
        })
    })?;
    table.keep_read(lists);
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::{CancelToken, Mode};

    use super::*;
    use crate::vector::random::Random;
    use crate::vector::{VectorOptions, VectorStore};
    use crate::{Database, DatabaseOptions, Session};

    #[test]
    fn lists_are_read_in_steps_and_are_those_that_queries_would_read() {
        let folder = tempfile::tempdir().unwrap();
        let storage_path = folder.path().to_str().unwrap().to_owned();
        let database =
            Database::open(DatabaseOptions { storage_path, ..DatabaseOptions::default() }).unwrap();
        let vectors =
            VectorStore::open(Session::Auto(Arc::clone(&database)), "v", VectorOptions::default()).unwrap();
        let (cancel, mut random, count) = (CancelToken::new(), Random::new(1), 30_000);
        let ids: Vec<String> = (0..count).map(|id| id.to_string()).collect();
        let numbers: Vec<f32> = (0..count * 8).map(|_| random.below(2_001) as f32 / 1_000.0 - 1.0).collect();
        vectors.upsert_arrays(&cancel, &ids, 8, &numbers, None).unwrap();
        vectors.optimize(&cancel).unwrap();

        let mut t = database.begin_engine(Mode::Read, &cancel).unwrap();
        let shape = vectors.shape(&mut t).unwrap().unwrap();
        let (store, words) = (shape.store, shape.words());
        let table = Table::read(&mut t, store, shape.rotation.padded(), shape.config.metric).unwrap();
        let lists = table.centroids.ids.len();
        assert!((LISTS_AT_ONCE + 1..2 * LISTS_AT_ONCE).contains(&lists), "{lists} lists");
        let too_large = ReadAhead::new(&IndexState { indexed: 1 << 40, ..table.state }, words);
        too_large.go_on(&table, words, &mut t, store);
        for known in [0, LISTS_AT_ONCE, lists, lists] {
            assert_eq!(table.lists_in_memory(), known);
            table.read_ahead.go_on(&table, words, &mut t, store);
        }
        for (index, cluster) in table.centroids.ids.iter().enumerate() {
            let stored = List::load(&mut t, store, ListKey::Cluster(*cluster), words).unwrap().list;
            assert_eq!(*table.list(index, words, &mut t, store).unwrap(), stored);
        }
    }
}
