//! Draining: fresh rows move into clusters.

use std::collections::BTreeMap;

use engine::{CancelToken, Placement, Transaction};

use super::gather::Fresh;
use super::rebuild::mean;
use super::tend::Touched;
use super::transaction::IndexTransaction;
use crate::Result;
use crate::planted::{Bug, is_planted};
use crate::vector::counters::Counts;
use crate::vector::filter::postings;
use crate::vector::kernel::encode;
use crate::vector::keys::{self, BASE, ClusterId, ListKey};
use crate::vector::list::{self, Coded, List};
use crate::vector::shape::Shape;
use crate::vector::state::Change;
use crate::vector::table::Centroids;

/// Rows moved in one transaction: some 20 milliseconds.
const ROWS_MAX: usize = 2048;

/// Moves the oldest fresh rows, and adds to `touched` the clusters they came to. True when there may be more.
pub(super) fn drain(
    mut index: IndexTransaction,
    touched: &mut Touched,
    cancel: &CancelToken,
) -> Result<bool> {
    let table = index.table()?;
    let IndexTransaction { t, shape, state } = &mut index;
    let (fresh, change, added) = t.untracked(|t| {
        let fresh = Fresh::read(t, shape, ROWS_MAX, cancel)?;
        let (mut change, mut added) = (Change::default(), Added::new());
        match table.centroids.ids[..] {
            _ if fresh.rows.is_empty() => {}
            [] => {
                let (cluster, centroid) = (state.next_cluster, mean(&fresh.vectors));
                state.next_cluster += 1;
                state.clusters = 1;
                // The base is another one as well.
                change.is_rebuild = true;
                for id in [BASE, cluster] {
                    t.put(shape.store, &keys::centroid(id), &encode(&centroid), Placement::Auto)?;
                }
                append(t, shape, cluster, &centroid, &fresh)?;
                append_explicit(t, shape, &centroid, &fresh)?;
            }
            [cluster] => {
                change.lists.push(cluster);
                append(t, shape, cluster, table.centroids.rotated.row(0), &fresh)?;
                append_explicit(t, shape, &table.centroids.base, &fresh)?;
            }
            _ => {
                added = put_loose(t, shape, &table.centroids, &fresh, cancel)?;
                change.lists.extend(added.keys());
                append_explicit(t, shape, &table.centroids.base, &fresh)?;
            }
        }
        let payloads = fresh.entries.iter().map(|entry| &entry.payload);
        let rows = fresh.rows.iter().copied().zip(payloads);
        postings::add(t, shape.store, rows.skip(usize::from(is_planted(Bug::DrainSkipsPosting))))?;
        clear(t, shape, &fresh)?;
        Ok::<_, crate::Error>((fresh, change, added))
    })?;
    if fresh.blocks.is_empty() {
        return Ok(false);
    }
    state.indexed += fresh.rows.len() as u64;
    let stamp = index.commit(&change)?;
    table.keep_grown(stamp, &added);
    // Where rows come together, all are.
    let are_apart = change.lists.len() * 4 > fresh.rows.len();
    let looked_at = |cluster: &&ClusterId| !are_apart || has_its_turn(**cluster, stamp);
    touched.extend(change.lists.iter().filter(looked_at));
    Ok(fresh.count >= ROWS_MAX || !touched.is_empty())
}

/// True for one cluster in four, others for each stamp: to look at a list takes longer than to add a row to it.
fn has_its_turn(cluster: ClusterId, stamp: u64) -> bool {
    (stamp ^ u64::from(cluster)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62 == 0
}

/// Adds the rows to the only cluster.
fn append(
    t: &mut Transaction,
    shape: &Shape,
    cluster: ClusterId,
    centroid: &[f32],
    fresh: &Fresh,
) -> Result<()> {
    let mut codes = List::new(shape.words());
    fresh
        .rows
        .iter()
        .zip(fresh.vectors.rows())
        .for_each(|(row, vector)| codes.push_vector(shape, *row, true, vector, centroid));
    list::append(t, shape.store, ListKey::Cluster(cluster), &codes)
}

/// Rows that came to lists.
type Added = BTreeMap<ClusterId, List>;

/// Adds each row to the lists of two clusters; gives what came to each.
fn put_loose(
    t: &mut Transaction,
    shape: &Shape,
    centroids: &Centroids,
    fresh: &Fresh,
    cancel: &CancelToken,
) -> Result<Added> {
    let places = centroids.finder(cancel)?.nearest_two(&fresh.vectors, cancel)?;
    let mut code = vec![0; shape.words()];
    let mut added = Added::new();
    for ((row, vector), (primary, secondary)) in fresh.rows.iter().zip(fresh.vectors.rows()).zip(places) {
        for index in [Some(primary), secondary].into_iter().flatten() {
            let is_primary = index == primary;
            let (cluster, centroid) = (centroids.ids[index as usize], centroids.rotated.row(index as usize));
            let factors = shape.encode(vector, centroid, &mut code);
            let coded = Coded { row: *row, is_primary, factors, code: &code };
            list::put_loose(t, shape.store, ListKey::Cluster(cluster), coded)?;
            added.entry(cluster).or_insert_with(|| List::new(shape.words())).push(coded);
        }
    }
    Ok(added)
}

/// Adds the rows that were given a centroid_id to its list.
fn append_explicit(t: &mut Transaction, shape: &Shape, base: &[f32], fresh: &Fresh) -> Result<()> {
    let mut lists: BTreeMap<u64, List> = BTreeMap::new();
    for ((row, entry), vector) in fresh.rows.iter().zip(&fresh.entries).zip(fresh.vectors.rows()) {
        if entry.centroid_id != 0 {
            let list = lists.entry(entry.centroid_id).or_insert_with(|| List::new(shape.words()));
            list.push_vector(shape, *row, true, vector, base);
        }
    }
    lists.iter().try_for_each(|(id, rows)| list::append(t, shape.store, ListKey::Explicit(*id), rows))
}

/// Removes the codes of the rows as fresh ones, and all that is left of blocks whose rows are gone.
fn clear(t: &mut Transaction, shape: &Shape, fresh: &Fresh) -> Result<()> {
    for block in &fresh.blocks {
        t.delete(shape.store, &keys::fresh(*block))?;
    }
    for row in &fresh.gone {
        t.delete(shape.store, &keys::dead(*row))?;
        t.delete(shape.store, &keys::vectors(row.block()))?;
    }
    Counts::gone(fresh.count, fresh.gone.len()).store(t, shape.store)
}
