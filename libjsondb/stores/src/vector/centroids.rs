//! The centres of the clusters, as a query or an upsert sees them.

use std::ops::Bound;

use engine::{CancelToken, Direction, StoreId, Transaction};

use super::config::Config;
use super::kernel::{Matrix, decode, make_unit};
use super::layout::{ClusterId, KeyRange, Space, cluster_of_centroid_key, damaged};
use crate::Result;

/// Centroids read from a store at once.
const BATCH: usize = 256;

/// Clusters and their centres, in the space of directions: all are unit vectors.
///
/// Rows are compared by cosine similarity, so only the direction of a vector says where it belongs: it is
/// scaled to a unit vector before Euclidean distances are taken, and vectors of very different lengths
/// cluster as well as any.
#[derive(Clone, Debug)]
pub(super) struct Centroids {
    pub(super) clusters: Vec<ClusterId>,
    pub(super) centres: Matrix,
}

impl Centroids {
    /// The centres of a clustering.
    pub(super) fn load_automatic(
        t: &mut Transaction,
        store: StoreId,
        config: &Config,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let centroids = Self::load(t, store, Space::Automatic, config, cancel)?;
        let expected = (0..config.centroid_count).map(|index| ClusterId::automatic(config.generation, index));
        if !centroids.clusters.iter().copied().eq(expected) {
            return Err(damaged("its centroids are not those of its last clustering"));
        }
        Ok(centroids)
    }

    /// The centres of the clusters that callers named: a vector or a mean of vectors of any length.
    pub(super) fn load_explicit(
        t: &mut Transaction,
        store: StoreId,
        config: &Config,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let mut centroids = Self::load(t, store, Space::Explicit, config, cancel)?;
        for index in 0..centroids.centres.len() {
            make_unit(centroids.centres.row_mut(index));
        }
        Ok(centroids)
    }

    fn load(
        t: &mut Transaction,
        store: StoreId,
        space: Space,
        config: &Config,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let mut clusters = Vec::new();
        let mut centres = Matrix::new(config.dimension as usize);
        let KeyRange { start, end } = KeyRange::centroids_in(space);
        let mut from = Bound::Included(start);
        loop {
            cancel.check()?;
            let start = from.as_ref().map(Vec::as_slice);
            let entries = t.scan(store, start, Bound::Excluded(&end), Direction::Forward, BATCH)?;
            for entry in &entries {
                let vector = decode(&t.load(&entry.value)?);
                let vector = vector.filter(|vector| vector.len() == centres.dimension());
                centres.push(&vector.ok_or_else(|| damaged("a centroid has the wrong length"))?);
                clusters.push(cluster_of_centroid_key(&entry.key)?);
            }
            match entries.into_iter().next_back() {
                Some(last) if clusters.len() % BATCH == 0 => from = Bound::Excluded(last.key),
                _ => return Ok(Self { clusters, centres }),
            }
        }
    }
}
