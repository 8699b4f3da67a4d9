//! Building the index anew: from a snapshot into memory, and from there, in one transaction, into the place of the old one.

mod build;
mod survey;

use std::sync::Arc;

use engine::{CancelToken, Direction, Mode, Placement, Transaction};

use self::build::Built;
use self::survey::Survey;
use super::lease::{Lease, Owner};
use super::lost;
use super::reach::{self, QUERIES, Sample, Searched};
use super::transaction::IndexTransaction;
use crate::vector::VectorStore;
use crate::vector::clustering;
use crate::vector::counters::Counts;
use crate::vector::entry;
use crate::vector::filter::postings;
use crate::vector::heap::Heap;
use crate::vector::kernel::{Matrix, encode};
use crate::vector::keys::{self, BASE, ClusterId, KeyRange, ListKey, damaged};
use crate::vector::shape::Shape;
use crate::vector::state::{Change, IndexState};
use crate::vector::table::Centroids;
use crate::vector::types::UsageMode;
use crate::{Database, Error, ErrorCode, Progress, Result, Session, walk};

/// Rows that k-means sees per cluster, as far as memory allows.
const SAMPLE_PER_CLUSTER: usize = 32;
/// 128 MiB of f32.
const SAMPLE_NUMBERS_MAX: usize = 32 << 20;
/// How often a build is begun again that lost against others.
const ATTEMPTS_MAX: usize = 5;

impl VectorStore {
    /// Builds the index anew: clusters that are even, codes without gaps, nothing left of deleted rows. Others read and write meanwhile. Inside a
    /// transaction, what it has written is committed first, and it goes on with a fresh snapshot. A store that is built once
    /// ([`UsageMode::BuildOnceQueryMany`]) gives the space of what it was built from back at once.
    pub fn optimize(&self, cancel: &CancelToken) -> Result<()> {
        self.optimize_telling(cancel, &mut Progress::new(cancel, &mut |_, _| true))
    }

    /// As [`VectorStore::optimize`], telling how far it is.
    pub fn optimize_telling(&self, cancel: &CancelToken, progress: &mut Progress<'_>) -> Result<()> {
        match &self.session {
            Session::Auto(database) => {
                self.rebuild(database, cancel, progress)?;
                self.give_space_back(database, cancel)
            }
            Session::In(transaction) => {
                self.check_writable(transaction)?;
                transaction.commit_and_continue(cancel)?;
                self.rebuild(transaction.database(), cancel, progress)?;
                transaction.commit_and_continue(cancel)?;
                self.give_space_back(transaction.database(), cancel)
            }
        }
    }

    /// Frees what the build left behind, in a store that is built once.
    fn give_space_back(&self, database: &Arc<Database>, cancel: &CancelToken) -> Result<()> {
        let is_built_once = self.read(cancel, |t| {
            let shape = self.shape(t)?;
            Ok(shape.is_some_and(|shape| shape.config.usage_mode == UsageMode::BuildOnceQueryMany))
        })?;
        if is_built_once {
            database.compact(cancel, &mut Progress::new(cancel, &mut |_, _| true))?;
        }
        Ok(())
    }

    /// Builds the index anew, under a lease.
    pub(super) fn rebuild(
        &self,
        database: &Arc<Database>,
        cancel: &CancelToken,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let Some(mut lease) = Lease::take(self, database, cancel)? else { return Ok(()) };
        let owner = lease.owner();
        lease.keep(cancel, || {
            for _ in 0..ATTEMPTS_MAX {
                match self.rebuild_once(database, owner, cancel, progress) {
                    Err(error) if error.is_retryable() => {}
                    result => return result,
                }
            }
            Err(Error::new(ErrorCode::Conflict, "others changed the index all the time; optimize again"))
        })
    }

    fn rebuild_once(
        &self,
        database: &Arc<Database>,
        owner: Owner,
        cancel: &CancelToken,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        let mut reader = database.begin_engine(Mode::Read, cancel)?;
        let Some(shape) = self.shape(&mut reader)? else { return Ok(()) };
        let state = IndexState::read(&mut reader, shape.store)?;
        // All of it is read once or twice, by nobody else.
        let survey = reader.once(|reader| Survey::new(reader, &shape))?;
        // Clustering takes about as long as placing the rows, and so does the rest.
        let bytes = (survey.rows() * shape.dimension() * 4) as u64;
        progress.expect(3 * bytes);
        progress.report()?;
        let (centroids, samples) = cluster(&mut reader, &shape, &survey, &state, cancel)?;
        progress.advance(bytes)?;
        let mut goes_on = |bytes: u64| Ok(progress.advance(bytes)?);
        let built = build::build(&mut reader, &shape, &survey, &centroids, cancel, &mut goes_on)?;
        let lists = |_: &mut Transaction, index: usize| Ok(Arc::clone(&built.lists[index]));
        let searched = Searched { shape: &shape, centroids: &centroids, lists };
        let reach = reach::learn(&mut reader, &searched, &samples, cancel)?;
        let Some(mut index) = self.begin_index(database, Some(owner), cancel)? else {
            return Err(Error::new(ErrorCode::Conflict, "another took over the build of the index"));
        };
        if index.state.version != state.version {
            return Err(lost());
        }
        let IndexTransaction { t, shape, state } = &mut index;
        let rows = built.rows as u64;
        t.untracked(|t| {
            t.once(|t| clear(t, shape, &survey))?;
            write(t, shape, &centroids, built)?;
            reader.once(|reader| write_postings(reader, t, shape))
        })?;
        state.generation += 1;
        state.next_cluster += centroids.ids.len() as ClusterId;
        state.clusters = centroids.ids.len() as u32;
        state.indexed = rows;
        state.learned = state.indexed;
        state.reach = reach;
        index.commit(&Change { is_rebuild: true, ..Change::default() })?;
        // It is done: nothing stops it any more.
        let _ = progress.advance(bytes).and_then(|()| progress.report());
        Ok(())
    }
}

/// Centroids for the rows, and rows to learn from.
fn cluster(
    t: &mut Transaction,
    shape: &Shape,
    survey: &Survey,
    state: &IndexState,
    cancel: &CancelToken,
) -> Result<(Centroids, Vec<Sample>)> {
    let mut centroids = Centroids::new(shape.rotation.padded());
    let count = clustering::cluster_count(survey.rows() as u64);
    let limit = (SAMPLE_NUMBERS_MAX / shape.rotation.padded()).max(256);
    let size = (count * SAMPLE_PER_CLUSTER).max(4096).min(limit);
    let (rows, sample) = survey.sample(t, shape, size, cancel)?;
    if rows.is_empty() {
        if survey.rows() > 0 {
            return Err(damaged("no row that is there could be read"));
        }
        return Ok((centroids, Vec::new()));
    }
    centroids.base = mean(&sample).into();
    let found = clustering::centroids(&sample, count, cancel)?;
    for (id, centroid) in (state.next_cluster..).zip(found.rows()) {
        centroids.push(id, centroid, shape.config.metric);
    }
    let step = rows.len().div_ceil(QUERIES).max(1);
    let samples =
        (0..rows.len()).step_by(step).map(|index| (rows[index], sample.row(index).to_vec())).collect();
    Ok((centroids, samples))
}

/// Postings of all rows that the reader sees, in the place of the old ones.
fn write_postings(reader: &mut Transaction, t: &mut Transaction, shape: &Shape) -> Result<()> {
    postings::clear(t, shape.store)?;
    let mut builder = postings::Builder::new(t, shape.store)?;
    entry::visit(reader, shape.store, |row, bytes| builder.add(t, row, entry::parts(bytes)?.2))?;
    builder.finish(t)
}

/// The mean of some vectors.
pub(super) fn mean(vectors: &Matrix) -> Vec<f32> {
    let mut sum = vec![0f64; vectors.dimension()];
    for row in vectors.rows() {
        sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += f64::from(*number));
    }
    sum.into_iter().map(|sum| (sum / vectors.len() as f64) as f32).collect()
}

/// Removes the old index, the fresh codes of the rows that are in the new one, and what is left of deleted rows.
fn clear(t: &mut Transaction, shape: &Shape, survey: &Survey) -> Result<()> {
    for prefix in [b'c', b'k', b'e'] {
        let mut keys = Vec::new();
        walk::visit(t, shape.store, KeyRange::all(prefix).span(), Direction::Forward, |key, _| {
            keys.push(key.to_vec());
            Ok(true)
        })?;
        keys.iter().try_for_each(|key| t.delete(shape.store, key))?;
    }
    survey.fresh.iter().try_for_each(|(block, _)| t.delete(shape.store, &keys::fresh(*block)))?;
    let heap = Heap::new(shape.dimension());
    let mut blocks: Vec<u64> = survey.dead.iter().map(|row| row.block()).collect();
    blocks.sort_unstable();
    blocks.dedup();
    for block in blocks {
        heap.retain(t, shape.store, block, |row| !survey.dead.contains(&row))?;
    }
    survey.dead.iter().try_for_each(|row| t.delete(shape.store, &keys::dead(*row)))?;
    let fresh: usize = survey.fresh.iter().map(|(_, rows)| rows).sum();
    Counts::gone(fresh, survey.dead.len()).store(t, shape.store)
}

/// Lists leave the memory as they are written.
fn write(t: &mut Transaction, shape: &Shape, centroids: &Centroids, built: Built) -> Result<()> {
    let put = |t: &mut Transaction, id, centroid: &[f32]| {
        t.put(shape.store, &keys::centroid(id), &encode(centroid), Placement::Auto)
    };
    if !centroids.ids.is_empty() {
        put(t, BASE, &centroids.base)?;
    }
    for (id, centroid) in centroids.ids.iter().zip(centroids.rotated.rows()) {
        put(t, *id, centroid)?;
    }
    for (id, list) in &built.explicit {
        list.put_packed(t, shape.store, ListKey::Explicit(*id), 0)?;
    }
    let lists = centroids.ids.iter().zip(built.lists);
    lists
        .filter(|(_, list)| !list.is_empty())
        .try_for_each(|(id, list)| list.put_packed(t, shape.store, ListKey::Cluster(*id), 0))
}
