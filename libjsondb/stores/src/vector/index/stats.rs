//! How rows are spread over clusters.

use engine::{CancelToken, Transaction};

use super::vacuum::dead_rows;
use crate::Result;
use crate::vector::shape::Shape;
use crate::vector::table::Table;
use crate::vector::{CentroidStats, Stats, VectorStore, counters};

impl VectorStore {
    /// How the rows are spread over clusters: each counts in the one that is nearest to it, or as not clustered yet (0); and how many were given
    /// each centroid_id.
    pub fn stats(&self, cancel: &CancelToken) -> Result<Stats> {
        self.read(cancel, |t| {
            let Some(shape) = self.shape(t)? else {
                let usage_mode = self.options.usage_mode;
                return Ok(Stats { count: 0, centroids: Vec::new(), skew: 0.0, usage_mode, dimension: 0 });
            };
            t.untracked(|t| stats_of(t, &shape, cancel))
        })
    }
}

fn stats_of(t: &mut Transaction, shape: &Shape, cancel: &CancelToken) -> Result<Stats> {
    let table = Table::read(t, shape.store, shape.rotation.padded(), shape.config.metric)?;
    let dead = dead_rows(t, shape)?;
    let mut centroids = Vec::new();
    for (index, cluster) in table.centroids.ids.iter().enumerate() {
        cancel.check()?;
        let list = table.list(index, shape.words(), t, shape.store)?;
        let is_counted = |index: &usize| list.is_primary(*index) && !dead.contains(&list.row(*index));
        let count = (0..list.len()).filter(is_counted).count() as u64;
        centroids.push(CentroidStats { id: u64::from(*cluster), count, explicit: false });
    }
    let skew = skew(&centroids);
    let count = counters::rows(t, shape.store)?;
    let fresh = count.saturating_sub(centroids.iter().map(|centroid| centroid.count).sum());
    if fresh > 0 {
        centroids.insert(0, CentroidStats { id: 0, count: fresh, explicit: false });
    }
    let explicit = counters::explicit(t, shape.store)?.into_iter();
    centroids.extend(explicit.map(|(id, count)| CentroidStats { id, count, explicit: true }));
    let usage_mode = shape.config.usage_mode as i32;
    Ok(Stats { count, centroids, skew, usage_mode, dimension: shape.config.dimension })
}

/// Largest count over mean count: 1 is even, 0 nothing to compare.
fn skew(clusters: &[CentroidStats]) -> f64 {
    let (largest, sum) = clusters
        .iter()
        .fold((0, 0), |(largest, sum), cluster| (cluster.count.max(largest), sum + cluster.count));
    if sum == 0 { 0.0 } else { largest as f64 * clusters.len() as f64 / sum as f64 }
}
