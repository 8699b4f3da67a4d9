//! How rows are spread over clusters.

use std::collections::BTreeMap;
use std::ops::Bound;

use engine::{CancelToken, Direction, StoreId, Transaction};

use super::config::Config;
use super::counters;
use super::layout::{self, ClusterId, KeyRange, RowAddress, Space};
use super::{CentroidStats, Stats, VectorStore};
use crate::{Result, walk};

/// Keys met between two looks at the cancel token.
const KEYS_PER_CHECK: u64 = 4096;

impl VectorStore {
    /// Rows per cluster and their skew. Costs a look at every row's key, unless the usage mode tracks counts.
    pub fn stats(&self, cancel: &CancelToken) -> Result<Stats> {
        self.read(cancel, |t| {
            let Some((store, config)) = self.config(t)? else {
                let usage_mode = self.options.usage_mode;
                return Ok(Stats { count: 0, centroids: Vec::new(), skew: 0.0, usage_mode, dimension: 0 });
            };
            let centroids = clusters(t, store, &config, cancel)?;
            Ok(Stats {
                count: counters::row_count(t, store)?,
                skew: skew(&centroids),
                centroids,
                usage_mode: config.usage_mode as i32,
                dimension: config.dimension,
            })
        })
    }
}

fn clusters(
    t: &mut Transaction,
    store: StoreId,
    config: &Config,
    cancel: &CancelToken,
) -> Result<Vec<CentroidStats>> {
    let mut counts: BTreeMap<ClusterId, u64> = BTreeMap::from([(ClusterId::UNCLUSTERED, 0)]);
    counts
        .extend((0..config.centroid_count).map(|index| (ClusterId::automatic(config.generation, index), 0)));
    visit_keys(t, store, &KeyRange::centroids_in(Space::Explicit), cancel, |key| {
        counts.insert(layout::cluster_of_centroid_key(key)?, 0);
        Ok(())
    })?;
    if config.tracks_clusters() {
        for (cluster, count) in &mut counts {
            *count = counters::cluster_count(t, store, *cluster)?;
        }
    } else {
        visit_keys(t, store, &KeyRange::all_vectors(), cancel, |key| {
            *counts.entry(RowAddress::from_vector_key(key)?.cluster).or_default() += 1;
            Ok(())
        })?;
    }
    // Unclustered rows are a cluster only while there are some.
    counts.retain(|cluster, count| *cluster != ClusterId::UNCLUSTERED || *count > 0);
    let stats = |(cluster, count): (ClusterId, u64)| CentroidStats {
        id: cluster.user_number(),
        count,
        explicit: cluster.is_explicit(),
    };
    Ok(counts.into_iter().map(stats).collect())
}

/// Shows `visitor` the keys of a range.
pub(super) fn visit_keys(
    t: &mut Transaction,
    store: StoreId,
    range: &KeyRange,
    cancel: &CancelToken,
    mut visitor: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut seen = 0u64;
    let span = (Bound::Included(&*range.start), Bound::Excluded(&*range.end));
    walk::visit(t, store, span, Direction::Forward, |key, _| {
        if seen.is_multiple_of(KEYS_PER_CHECK) {
            cancel.check()?;
        }
        seen += 1;
        visitor(key)?;
        Ok(true)
    })
}

/// Largest count over mean count. Pinned rows can't be spread better, so they count only when there are no
/// others.
fn skew(centroids: &[CentroidStats]) -> f64 {
    let has_automatic = centroids.iter().any(|centroid| !centroid.explicit && centroid.count > 0);
    let counted = || centroids.iter().filter(|centroid| centroid.explicit != has_automatic);
    let (clusters, rows) = (counted().count(), counted().map(|centroid| centroid.count).sum::<u64>());
    let largest = counted().map(|centroid| centroid.count).max().unwrap_or(0);
    if rows == 0 { 0.0 } else { largest as f64 * clusters as f64 / rows as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(id: u64, count: u64, explicit: bool) -> CentroidStats {
        CentroidStats { id, count, explicit }
    }

    #[test]
    fn skew_is_largest_over_mean() {
        assert_eq!(skew(&[]), 0.0);
        assert_eq!(skew(&[stats(1, 0, false)]), 0.0);
        assert_eq!(skew(&[stats(0, 7, false)]), 1.0);
        assert_eq!(
            skew(&[stats(1, 30, false), stats(2, 10, false), stats(3, 0, false), stats(4, 0, false)]),
            3.0
        );
    }

    #[test]
    fn pinned_rows_count_only_alone() {
        assert_eq!(skew(&[stats(1, 10, false), stats(2, 10, false), stats(5, 1_000, true)]), 1.0);
        assert_eq!(skew(&[stats(1, 0, false), stats(5, 30, true), stats(6, 10, true)]), 1.5);
    }
}
