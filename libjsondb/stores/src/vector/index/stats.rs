//! How rows are spread over clusters.

use engine::{CancelToken, Transaction};

use crate::Result;
use crate::vector::shape::Shape;
use crate::vector::table::Table;
use crate::vector::{CentroidStats, Stats, VectorStore, counters};

impl VectorStore {
    /// How the rows are spread over clusters: a row counts in the cluster that is nearest to it.
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
    let mut centroids = Vec::new();
    let fresh = counters::fresh(t, shape.store)?;
    if fresh > 0 {
        centroids.push(CentroidStats { id: 0, count: fresh, explicit: false });
    }
    for (index, cluster) in table.centroids.ids.iter().enumerate() {
        cancel.check()?;
        let list = table.list(index, shape.words(), t, shape.store)?;
        let count = (0..list.len()).filter(|index| list.is_primary(*index)).count() as u64;
        centroids.push(CentroidStats { id: u64::from(*cluster), count, explicit: false });
    }
    Ok(Stats {
        count: counters::rows(t, shape.store)?,
        skew: skew(&centroids),
        centroids,
        usage_mode: shape.config.usage_mode as i32,
        dimension: shape.config.dimension,
    })
}

/// Largest count over mean count.
fn skew(centroids: &[CentroidStats]) -> f64 {
    let counts = || centroids.iter().filter(|centroid| centroid.count > 0).map(|centroid| centroid.count);
    let (largest, sum) = (counts().max().unwrap_or(0), counts().sum::<u64>());
    if sum == 0 { 0.0 } else { largest as f64 * counts().count() as f64 / sum as f64 }
}
