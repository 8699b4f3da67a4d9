//! The last rounds of k-means over many centroids.

use engine::CancelToken;

use super::assign::Finder;
use super::means::move_to_means;
use super::parallel::{for_each, threads_for};
use crate::Result;
use crate::vector::kernel::{Matrix, distance_squared};

/// Each brings about two thirds of what the one before it brought.
const ROUNDS: usize = 6;

/// Centroids that a row may move to: those nearest to it at first.
const CANDIDATES: usize = 16;

/// Rows between two looks at the cancel token.
const ROWS_PER_CHECK: usize = 256;

/// Moves rows to the nearest of their candidates and centroids to the means of their rows, in turn. Gives the cluster
/// of each row; some centroids may have none left.
pub(super) fn refine(rows: &Matrix, centroids: &mut Matrix, cancel: &CancelToken) -> Result<Vec<u32>> {
    let candidates = Finder::new(centroids, cancel)?.nearest_few(rows, CANDIDATES, cancel)?;
    let mut clusters = vec![0; rows.len()];
    let threads = threads_for(rows.len() * CANDIDATES * rows.dimension());
    for _ in 0..ROUNDS {
        let parts = clusters.chunks_mut(ROWS_PER_CHECK).zip(candidates.chunks(ROWS_PER_CHECK));
        for_each(parts.enumerate(), threads, |(part, (clusters, candidates))| {
            cancel.check()?;
            for (row, (cluster, candidates)) in clusters.iter_mut().zip(candidates).enumerate() {
                *cluster = nearest(rows.row(part * ROWS_PER_CHECK + row), candidates, centroids);
            }
            Ok(())
        })?;
        move_to_means(rows, &clusters, centroids);
    }
    Ok(clusters)
}

fn nearest(row: &[f32], candidates: &[u32], centroids: &Matrix) -> u32 {
    let distances = candidates.iter().map(|id| (distance_squared(row, centroids.row(*id as usize)), *id));
    distances.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map_or(0, |(_, id)| id)
}
