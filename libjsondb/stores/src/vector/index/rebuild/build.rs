//! New lists in memory: every row in the lists of its two clusters, on all processors.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use engine::{CancelToken, Transaction};

use super::survey::Survey;
use crate::Result;
use crate::vector::clustering::Finder;
use crate::vector::heap::{Heap, Walk};
use crate::vector::kernel::Matrix;
use crate::vector::keys::RowId;
use crate::vector::list::List;
use crate::vector::shape::Shape;
use crate::vector::table::Centroids;

/// Indexes of the clusters of a row: the nearest, and a second one.
type Place = (u32, Option<u32>);

/// Rows whose vectors are in memory at once.
const ROWS_AT_ONCE: usize = 4096;

/// Codes of all rows.
#[derive(Default)]
pub(super) struct Built {
    /// One for each centroid.
    pub(super) lists: Vec<Arc<List>>,
    /// By centroid_id.
    pub(super) explicit: BTreeMap<u64, List>,
    pub(super) rows: usize,
}

/// What one thread builds: the lists of some clusters.
struct Shard {
    first: u32,
    lists: Vec<List>,
}

/// Some rows on their way.
struct Part {
    rows: Vec<RowId>,
    /// As they are stored.
    vectors: Matrix,
    rotated: Matrix,
    places: Vec<Place>,
}

/// Walks over all vectors; tells `done` after each part how many bytes of them it had.
pub(super) fn build(
    t: &mut Transaction,
    shape: &Shape,
    survey: &Survey,
    centroids: &Centroids,
    cancel: &CancelToken,
    done: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Built> {
    if centroids.ids.is_empty() {
        return Ok(Built::default());
    }
    let finder = centroids.finder(cancel)?;
    let mut shards = shards(shape, centroids.ids.len());
    let mut part = Part {
        rows: Vec::new(),
        vectors: Matrix::new(shape.dimension()),
        rotated: Matrix::default(),
        places: Vec::new(),
    };
    let (mut rows, mut explicit) = (0, BTreeMap::new());
    let (heap, mut walk, mut goes_on) = (Heap::new(shape.dimension()), Walk::new(), true);
    while goes_on {
        cancel.check()?;
        goes_on = walk.next(&heap, t, shape.store, |row, stored| {
            if !survey.dead.contains(&row) {
                part.rows.push(row);
                part.vectors.push(&stored.to_vec());
            }
            Ok(())
        })?;
        if part.rows.len() >= ROWS_AT_ONCE || !goes_on {
            part.place(shape, &finder, cancel)?;
            thread::scope(|scope| {
                for shard in &mut shards {
                    scope.spawn(|| shard.add(shape, centroids, &part));
                }
            });
            add_explicit(&mut explicit, shape, survey, centroids, &part);
            done((part.rows.len() * shape.dimension() * 4) as u64)?;
            rows += part.rows.len();
            part.rows.clear();
            part.vectors.clear();
        }
    }
    let lists = shards.into_iter().flat_map(|shard| shard.lists);
    let lists = lists.map(|list| Arc::new(list.shrunk())).collect();
    Ok(Built { lists, explicit, rows })
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn shards(shape: &Shape, clusters: usize) -> Vec<Shard> {
    let per_shard = clusters.div_ceil(threads()).max(1);
    let shard = |first: usize| Shard {
        first: first as u32,
        lists: vec![List::new(shape.words()); per_shard.min(clusters - first)],
    };
    (0..clusters).step_by(per_shard).map(shard).collect()
}

impl Part {
    /// Rotates the vectors and finds their clusters.
    fn place(&mut self, shape: &Shape, finder: &Finder<'_>, cancel: &CancelToken) -> Result<()> {
        let (count, padded) = (self.rows.len(), shape.rotation.padded());
        self.rotated = Matrix::zeros(padded, count);
        let per_thread = count.div_ceil(threads()).max(1);
        let vectors = &self.vectors;
        thread::scope(|scope| {
            for (number, rotated) in self.rotated.chunks_mut(per_thread).enumerate() {
                scope.spawn(move || {
                    for (row, rotated) in (number * per_thread..).zip(rotated.chunks_exact_mut(padded)) {
                        shape.rotation.apply(&shape.prepared(vectors.row(row)), rotated);
                    }
                });
            }
        });
        self.places = finder.nearest_two(&self.rotated, cancel)?;
        Ok(())
    }
}

impl Shard {
    fn add(&mut self, shape: &Shape, centroids: &Centroids, part: &Part) {
        for ((row, vector), (primary, secondary)) in
            part.rows.iter().zip(part.rotated.rows()).zip(&part.places)
        {
            for cluster in [Some(*primary), *secondary].into_iter().flatten() {
                let is_primary = cluster == *primary;
                if let Some(list) =
                    cluster.checked_sub(self.first).and_then(|index| self.lists.get_mut(index as usize))
                {
                    list.push_vector(
                        shape,
                        *row,
                        is_primary,
                        vector,
                        centroids.rotated.row(cluster as usize),
                    );
                }
            }
        }
    }
}

fn add_explicit(
    lists: &mut BTreeMap<u64, List>,
    shape: &Shape,
    survey: &Survey,
    centroids: &Centroids,
    part: &Part,
) {
    if survey.explicit.is_empty() {
        return;
    }
    for (row, vector) in part.rows.iter().zip(part.rotated.rows()) {
        if let Some(id) = survey.explicit.get(row) {
            let list = lists.entry(*id).or_insert_with(|| List::new(shape.words()));
            list.push_vector(shape, *row, true, vector, &centroids.base);
        }
    }
}
