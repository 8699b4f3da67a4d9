//! Clearing what deletes left: codes that name rows that are gone, their vectors, and in the end the marks that told so.
//!
//! In several transactions, each of which leaves everything right: marks go last, so what was cut off is found and done again. Others that change the
//! index in between may move a dead row's code to where it was looked for already; then this ends, and a later one begins anew.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use engine::{CancelToken, Direction, Placement, Transaction};

use super::tend::{Touched, primary_rows};
use super::transaction::IndexTransaction;
use crate::vector::VectorStore;
use crate::vector::counters::Counts;
use crate::vector::filter::postings;
use crate::vector::heap::Heap;
use crate::vector::keys::{self, KeyRange, ListKey, RowId, damaged};
use crate::vector::list::List;
use crate::vector::shape::Shape;
use crate::vector::state::Change;
use crate::{Database, Result, walk};

/// Lists looked at in one transaction.
const LISTS_AT_ONCE: usize = 1024;
/// Blocks of vectors written anew in one transaction: some 4 MB.
const BLOCKS_AT_ONCE: usize = 64;

/// A vacuum on its way.
struct Vacuum<'a> {
    vectors: &'a VectorStore,
    database: &'a Arc<Database>,
    cancel: &'a CancelToken,
    /// Of the index, when nobody else has changed it.
    version: u64,
}

impl VectorStore {
    /// Removes what is left of deleted rows; adds to `touched` the clusters that lost rows. Conflict: others changed the index.
    pub(super) fn vacuum(
        &self,
        database: &Arc<Database>,
        touched: &mut Touched,
        cancel: &CancelToken,
    ) -> Result<()> {
        let Some(mut index) = self.begin_index(database, None, cancel)? else { return Ok(()) };
        let dead = &index.t.untracked(|t| dead_rows(t, &index.shape))?;
        let clusters = index.table()?.centroids.ids.clone();
        let mut vacuum = Vacuum { vectors: self, database, cancel, version: index.state.version };
        drop(index);
        for clusters in clusters.chunks(LISTS_AT_ONCE) {
            vacuum.step(|t, shape, change| {
                let mut gone = 0;
                for cluster in clusters {
                    if let Some(lost) = retain_list(t, shape, ListKey::Cluster(*cluster), dead)? {
                        gone += lost;
                        change.lists.push(*cluster);
                    }
                }
                touched.extend(&change.lists);
                Ok((!change.lists.is_empty()).then_some(gone))
            })?;
        }
        vacuum.step(|t, shape, _| {
            let mut changed = retain_explicit(t, shape, dead)?;
            changed |= retain_fresh(t, shape, dead)?;
            changed |= postings::retain(t, shape.store, |row| !dead.contains(&row))?.gone > 0;
            Ok(changed.then_some(0))
        })?;
        let mut rows: Vec<RowId> = dead.iter().copied().collect();
        rows.sort_unstable();
        let blocks: Vec<&[RowId]> = rows.chunk_by(|a, b| a.block() == b.block()).collect();
        blocks.chunks(BLOCKS_AT_ONCE).try_for_each(|blocks| {
            vacuum.step(|t, shape, _| clear_blocks(t, shape, blocks, dead).map(|()| Some(0)))
        })
    }
}

impl Vacuum<'_> {
    /// One transaction. `work` says how many rows clusters have lost, and None when it has changed nothing.
    fn step(
        &mut self,
        work: impl FnOnce(&mut Transaction, &Shape, &mut Change) -> Result<Option<usize>>,
    ) -> Result<()> {
        self.cancel.check()?;
        let begun = self.vectors.begin_index(self.database, None, self.cancel)?;
        let Some(mut index) = begun.filter(|index| index.state.version == self.version) else {
            return Err(super::lost());
        };
        let mut change = Change::default();
        let IndexTransaction { t, shape, state } = &mut index;
        if let Some(lost) = t.untracked(|t| work(t, shape, &mut change))? {
            state.indexed = state.indexed.saturating_sub(lost as u64);
            index.commit(&change)?;
            self.version += 1;
        }
        Ok(())
    }
}

/// All rows with a mark.
pub(super) fn dead_rows(t: &mut Transaction, shape: &Shape) -> Result<HashSet<RowId>> {
    let mut dead = HashSet::new();
    walk::visit(t, shape.store, KeyRange::all(b'x').span(), Direction::Forward, |key, _| {
        dead.insert(RowId(keys::number_of(key)?));
        Ok(true)
    })?;
    Ok(dead)
}

/// Drops rows from a list; None when it had none of them, else how many it was the first list of.
fn retain_list(
    t: &mut Transaction,
    shape: &Shape,
    key: ListKey,
    dead: &HashSet<RowId>,
) -> Result<Option<usize>> {
    let list = List::load(t, shape.store, key, shape.words())?.list;
    let mut kept = List::new(shape.words());
    kept.extend(&list, |row| !dead.contains(&row));
    if kept.len() == list.len() {
        return Ok(None);
    }
    kept.store(t, shape.store, key)?;
    Ok(Some(primary_rows(&list) - primary_rows(&kept)))
}

fn retain_explicit(t: &mut Transaction, shape: &Shape, dead: &HashSet<RowId>) -> Result<bool> {
    let mut ids = BTreeSet::new();
    walk::visit(t, shape.store, KeyRange::all(b'e').span(), Direction::Forward, |key, _| {
        let id = key.get(1..).and_then(|rest| rest.first_chunk::<8>());
        ids.insert(u64::from_be_bytes(*id.ok_or_else(|| damaged("the key of a list is short"))?));
        Ok(true)
    })?;
    let mut changed = false;
    for id in ids {
        changed |= retain_list(t, shape, ListKey::Explicit(id), dead)?.is_some();
    }
    Ok(changed)
}

/// Drops rows that never came to a cluster.
fn retain_fresh(t: &mut Transaction, shape: &Shape, dead: &HashSet<RowId>) -> Result<bool> {
    let blocks: BTreeSet<u64> = dead.iter().map(|row| row.block()).collect();
    let mut lost = 0;
    for block in blocks {
        let key = keys::fresh(block);
        let Some(value) = keys::load(t, shape.store, &key)? else { continue };
        let (mut list, mut kept) = (List::new(shape.words()), List::new(shape.words()));
        list.unpack(&value)?;
        kept.extend(&list, |row| !dead.contains(&row));
        lost += list.len() - kept.len();
        if kept.is_empty() {
            t.delete(shape.store, &key)?;
        } else if kept.len() < list.len() {
            t.put(shape.store, &key, &kept.pack(0..kept.len()), Placement::Auto)?;
        }
    }
    Counts::gone(lost, 0).store(t, shape.store)?;
    Ok(lost > 0)
}

/// Removes the vectors of dead rows, and their marks.
fn clear_blocks(
    t: &mut Transaction,
    shape: &Shape,
    blocks: &[&[RowId]],
    dead: &HashSet<RowId>,
) -> Result<()> {
    let (heap, mut count) = (Heap::new(shape.dimension()), 0);
    for rows in blocks {
        if let Some(first) = rows.first() {
            heap.retain(t, shape.store, first.block(), |row| !dead.contains(&row))?;
        }
        rows.iter().try_for_each(|row| t.delete(shape.store, &keys::dead(*row)))?;
        count += rows.len();
    }
    Counts::gone(0, count).store(t, shape.store)
}
