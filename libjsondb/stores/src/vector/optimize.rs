//! Rebuilding the clusters.
//!
//! Finding new centres needs no up-to-date rows, so it happens in a transaction that reads. Moving the rows
//! is one transaction that reads all of them: concurrent writers make it run again, concurrent readers go on
//! with what they see.

use std::ops::Bound;

use engine::{CancelToken, Direction, Placement, StoreId, Transaction};

use super::VectorStore;
use super::assign::Finder;
use super::config::{self, Config};
use super::counters;
use super::kernel::{Matrix, encode};
use super::kmeans;
use super::layout::{self, ClusterId, KeyRange, RowAddress, RowId, Space, damaged};
use super::rows::{RowBlock, RowCursor, rows_per_block};
use super::sample::{Sample, sample_size};
use super::stats::visit_keys;
use super::write::put_centres;
use crate::{Error, ErrorCode, Result, Session};

/// Item entries rewritten at once.
const ITEMS_PER_BATCH: usize = 1024;

/// Blocks of rows moved at once: enough work for all processors.
const BLOCKS_PER_BATCH: usize = 16;

impl VectorStore {
    /// Finds the clusters anew and moves all rows that are not pinned to a cluster into them. Pinned rows
    /// stay; the centres of their clusters become their means.
    ///
    /// In a session inside a transaction, what the transaction has written so far is committed first. The
    /// clustering is a transaction of its own, so that losing against other writers costs no more than
    /// another try; the caller's goes on after it, on a new snapshot.
    pub fn optimize(&self, cancel: &CancelToken) -> Result<()> {
        match &self.session {
            Session::Auto(_) => self.recluster(cancel),
            Session::In(transaction) => {
                self.check_writable(transaction)?;
                transaction.commit_and_continue(cancel)?;
                self.with_session(Session::Auto(transaction.database().clone())).recluster(cancel)?;
                transaction.commit_and_continue(cancel)
            }
        }
    }

    fn recluster(&self, cancel: &CancelToken) -> Result<()> {
        let centres = self.read(cancel, |t| match self.config(t)? {
            Some((store, config)) => find_centres(t, store, &config, cancel).map(Some),
            None => Ok(None),
        })?;
        let Some(centres) = centres else {
            return Ok(());
        };
        let rebuild = |t: &mut Transaction| match self.config(t)? {
            Some((store, config)) => rebuild(t, store, config, &centres, cancel),
            None => Ok(()),
        };
        self.write(cancel, |_| Ok(()), rebuild)
    }
}

/// The centres of the rows that are not pinned.
fn find_centres(
    t: &mut Transaction,
    store: StoreId,
    config: &Config,
    cancel: &CancelToken,
) -> Result<Matrix> {
    let dimension = config.dimension as usize;
    let size = sample_size(counters::row_count(t, store)?, dimension);
    let mut sample = Sample::new(dimension, size);
    let mut block = RowBlock::new(dimension);
    let mut cursor = RowCursor::new(KeyRange::vectors_in(Space::Automatic));
    while !cursor.at_end() {
        cancel.check()?;
        cursor.read(t, store, &mut block, rows_per_block(dimension))?;
        block.vectors.rows().for_each(|row| sample.offer(row));
        block.clear();
    }
    let count = kmeans::cluster_count(sample.seen());
    kmeans::centres(&sample.into_rows(), count, cancel)
}

fn rebuild(
    t: &mut Transaction,
    store: StoreId,
    old: Config,
    centres: &Matrix,
    cancel: &CancelToken,
) -> Result<()> {
    if centres.dimension() != old.dimension as usize {
        // Only when the store was dropped and made anew in between.
        return Err(Error::new(ErrorCode::Conflict, "the store changed while its clusters were sought"));
    }
    let new = old.next_clustering(centres.len() as u32);
    drop_centres(t, store, cancel)?;
    put_centres(t, store, &new, centres)?;
    let moved = move_rows(t, store, old, &new, centres, cancel)?;
    move_items(t, store, &moved, cancel)?;
    let explicit = refine_explicit(t, store, &new, cancel)?;
    set_cluster_counts(t, store, (&old, &new), &moved, &explicit)?;
    config::write_config(t, store, &new)
}

fn drop_centres(t: &mut Transaction, store: StoreId, cancel: &CancelToken) -> Result<()> {
    for key in keys(t, store, KeyRange::centroids_in(Space::Automatic), cancel)? {
        t.delete(store, &key)?;
    }
    Ok(())
}

/// Moves all rows that are not pinned to the nearest new centre. Gives their rows and new clusters, in order
/// of row.
fn move_rows(
    t: &mut Transaction,
    store: StoreId,
    old: Config,
    new: &Config,
    centres: &Matrix,
    cancel: &CancelToken,
) -> Result<Vec<(RowId, ClusterId)>> {
    let finder = Finder::new(centres, usize::MAX, cancel)?;
    let mut moved = Vec::new();
    let mut block = RowBlock::new(centres.dimension());
    // The new generation's keys lie behind this range: no row is met twice.
    let mut cursor = RowCursor::new(KeyRange::vectors_up_to(old.generation));
    while !cursor.at_end() {
        cursor.read(t, store, &mut block, rows_per_block(centres.dimension()) * BLOCKS_PER_BATCH)?;
        let rows: Vec<&[f32]> = block.vectors.rows().collect();
        let clusters: Vec<ClusterId> = if centres.is_empty() {
            vec![ClusterId::UNCLUSTERED; rows.len()]
        } else {
            let nearest = finder.nearest_of_directions(&rows, cancel)?;
            nearest.iter().map(|nearest| ClusterId::automatic(new.generation, nearest.index)).collect()
        };
        for ((address, vector), cluster) in block.addresses.iter().zip(rows).zip(clusters) {
            let target = RowAddress { cluster, row: address.row };
            if target != *address {
                t.delete(store, &address.vector_key())?;
                t.put(store, &target.vector_key(), &encode(vector), Placement::Auto)?;
            }
            moved.push((address.row, cluster));
        }
        block.clear();
    }
    moved.sort_unstable();
    Ok(moved)
}

/// Tells every item where its row is now.
fn move_items(
    t: &mut Transaction,
    store: StoreId,
    moved: &[(RowId, ClusterId)],
    cancel: &CancelToken,
) -> Result<()> {
    let KeyRange { start, end } = KeyRange::all_items();
    let mut from = Bound::Included(start);
    loop {
        cancel.check()?;
        let start = from.as_ref().map(Vec::as_slice);
        let entries = t.scan(store, start, Bound::Excluded(&end), Direction::Forward, ITEMS_PER_BATCH)?;
        for entry in &entries {
            let address = RowAddress::from_bytes(&t.load(&entry.value)?)?;
            if address.cluster.is_explicit() {
                continue;
            }
            let index = moved
                .binary_search_by(|(row, _)| row.cmp(&address.row))
                .map_err(|_| damaged("an item has no vector"))?;
            let target = RowAddress { cluster: moved[index].1, row: address.row };
            if target != address {
                t.put(store, &entry.key, &target.to_bytes(), Placement::Auto)?;
            }
        }
        match entries.into_iter().next_back() {
            Some(last) => from = Bound::Excluded(last.key),
            None => return Ok(()),
        }
    }
}

/// Gives explicit clusters the means of their rows as centres, and forgets those without rows. Returns their
/// counts.
fn refine_explicit(
    t: &mut Transaction,
    store: StoreId,
    config: &Config,
    cancel: &CancelToken,
) -> Result<Vec<(ClusterId, u64)>> {
    let dimension = config.dimension as usize;
    let mut block = RowBlock::new(dimension);
    let mut clusters = Vec::new();
    for key in keys(t, store, KeyRange::centroids_in(Space::Explicit), cancel)? {
        let cluster = layout::cluster_of_centroid_key(&key)?;
        let mut sums = vec![0f64; dimension];
        let mut count = 0u64;
        let mut cursor = RowCursor::new(KeyRange::vectors_of(cluster));
        while !cursor.at_end() {
            cancel.check()?;
            cursor.read(t, store, &mut block, rows_per_block(dimension))?;
            for row in block.vectors.rows() {
                sums.iter_mut().zip(row).for_each(|(sum, number)| *sum += f64::from(*number));
            }
            count += block.len() as u64;
            block.clear();
        }
        if count == 0 {
            t.delete(store, &key)?;
        } else {
            let mean: Vec<f32> = sums.iter().map(|sum| (sum / count as f64) as f32).collect();
            t.put(store, &key, &encode(&mean), Placement::Auto)?;
        }
        clusters.push((cluster, count));
    }
    Ok(clusters)
}

/// Makes the cluster counters say what is there now; zero where they are no longer kept.
fn set_cluster_counts(
    t: &mut Transaction,
    store: StoreId,
    (old, new): (&Config, &Config),
    moved: &[(RowId, ClusterId)],
    explicit: &[(ClusterId, u64)],
) -> Result<()> {
    if !old.tracks_clusters() {
        return Ok(());
    }
    let mut counts = vec![0u64; old.centroid_count.max(new.centroid_count) as usize + 1];
    for (_, cluster) in moved {
        counts[cluster.user_number() as usize] += 1;
    }
    let unclustered = (ClusterId::UNCLUSTERED, counts[0]);
    let clustered =
        (0..).zip(&counts[1..]).map(|(index, count)| (ClusterId::automatic(new.generation, index), *count));
    for (cluster, count) in clustered.chain([unclustered]).chain(explicit.iter().copied()) {
        let wanted = if new.tracks_clusters() { count } else { 0 };
        let delta = wanted as i64 - counters::cluster_count(t, store, cluster)? as i64;
        if delta != 0 {
            counters::add_to_cluster_count(t, store, cluster, delta)?;
        }
    }
    Ok(())
}

/// All keys of a range that holds few.
fn keys(t: &mut Transaction, store: StoreId, range: KeyRange, cancel: &CancelToken) -> Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    visit_keys(t, store, &range, cancel, |key| {
        keys.push(key.to_vec());
        Ok(())
    })?;
    Ok(keys)
}
