//! Finding centroids: k-means.

use engine::CancelToken;

use super::assign::Finder;
use super::means::move_to_means;
use super::parallel::{for_each, threads_for};
use super::refine::refine;
use super::seeds::seeds;
use crate::Result;
use crate::vector::kernel::Matrix;
use crate::vector::random::Random;

/// Rows per cluster aimed at. Small clusters cost more centroids to compare a query with, large ones more rows.
const ROWS_PER_CLUSTER: u64 = 43;

/// More rows do not make better centroids.
const SAMPLE_ROWS_PER_CENTROID: usize = 128;

const ROUNDS_MAX: usize = 8;

/// A cluster with more than so many times the rows it should have is divided once more: seeds fall far apart, and leave
/// a dense lump to few of them.
const LARGE_CLUSTER: usize = 3;

/// From so many centroids on they are found in two levels.
const TWO_LEVELS_MIN: usize = 64;

/// How many clusters `rows` rows make.
pub(in crate::vector) fn cluster_count(rows: u64) -> usize {
    usize::try_from((rows / ROWS_PER_CLUSTER).max(1)).unwrap_or(usize::MAX)
}

/// About `count` centroids of the rows, fewer when there are not so many different ones. On all processors.
///
/// Two levels: coarse clusters first, then each is divided by its number of rows. That takes a small part of the time
/// of one level, and gives a dense lump, whose rows one centroid would serve well, as many as it has rows for. Then
/// rows move across the borders of the coarse clusters.
pub(in crate::vector) fn centroids(rows: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    if count < TWO_LEVELS_MIN {
        return lloyd(rows, count, cancel);
    }
    let rows_per_centroid = rows.len().div_ceil(count).max(1);
    let coarse = lloyd(rows, count.isqrt(), cancel)?;
    let mut centroids = divide(rows, &coarse, cancel, |group| {
        let share = (group.len() + rows_per_centroid / 2) / rows_per_centroid;
        let centroids = lloyd(group, share.max(1), cancel)?;
        divide(group, &centroids, cancel, |cluster| {
            let share = cluster.len() / rows_per_centroid;
            lloyd(cluster, if share > LARGE_CLUSTER { share } else { 1 }, cancel)
        })
    })?;
    let clusters = refine(rows, &mut centroids, cancel)?;
    Ok(used(&centroids, &clusters))
}

/// The centroids that `divide` finds in each cluster.
fn divide(
    rows: &Matrix,
    centroids: &Matrix,
    cancel: &CancelToken,
    divide: impl Fn(&Matrix) -> Result<Matrix> + Sync,
) -> Result<Matrix> {
    let members = members(&Finder::flat(centroids).nearest_of(rows, cancel)?, centroids.len());
    let mut parts = vec![Matrix::default(); members.len()];
    let threads = threads_for(rows.len() * centroids.len() * rows.dimension());
    for_each(members.iter().zip(&mut parts), threads, |(members, part)| {
        *part = divide(&select(rows, members))?;
        Ok(())
    })?;
    let mut divided = Matrix::new(rows.dimension());
    parts.iter().flat_map(Matrix::rows).for_each(|centroid| divided.push(centroid));
    Ok(divided)
}

/// The rows of each cluster.
fn members(clusters: &[u32], count: usize) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); count];
    clusters.iter().enumerate().for_each(|(row, cluster)| members[*cluster as usize].push(row));
    members
}

/// The centroids of clusters that have rows.
fn used(centroids: &Matrix, clusters: &[u32]) -> Matrix {
    let members = members(clusters, centroids.len());
    let used = members.iter().enumerate().filter(|(_, members)| !members.is_empty());
    select(centroids, &used.map(|(cluster, _)| cluster).collect::<Vec<_>>())
}

fn select(rows: &Matrix, indexes: &[usize]) -> Matrix {
    let mut selected = Matrix::new(rows.dimension());
    indexes.iter().for_each(|index| selected.push(rows.row(*index)));
    selected
}

/// k-means proper, on a sample when the rows are many. Clusters that lose all their rows are dropped.
pub(super) fn lloyd(rows: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    let sample_size = count.saturating_mul(SAMPLE_ROWS_PER_CENTROID);
    if rows.len() > sample_size {
        return lloyd(&select(rows, &Random::default().choose(rows.len(), sample_size)), count, cancel);
    }
    let mut centroids = seeds(rows, count, cancel)?;
    if centroids.is_empty() {
        return Ok(centroids);
    }
    let mut clusters = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let nearest = Finder::flat(&centroids).nearest_of(rows, cancel)?;
        let settled = settled(&clusters, &nearest);
        clusters = nearest;
        move_to_means(rows, &clusters, &mut centroids);
        if settled {
            break;
        }
    }
    Ok(used(&centroids, &clusters))
}

/// True when fewer than one row in 200 changed its centroid.
fn settled(last: &[u32], now: &[u32]) -> bool {
    let changed = last.iter().zip(now).filter(|(last, now)| last != now).count();
    last.len() == now.len() && changed * 200 <= now.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::kernel::distance_squared;

    /// Points around `count` corners of a cube that is not at zero, 50 each, of different lengths.
    fn blobs(count: usize) -> Matrix {
        let mut random = Random::new(7);
        let mut points = Matrix::new(8);
        for index in 0..count * 50 {
            let corner = index % count;
            let row: Vec<f32> = (0..8)
                .map(|bit| (corner >> bit & 1) as f32 * 5.0 + 1.0 + random.below(1_000) as f32 / 20_000.0)
                .collect();
            points.push(&row);
        }
        points
    }

    fn nearest(points: &Matrix, centroids: &Matrix) -> Vec<u32> {
        Finder::flat(centroids).nearest_of(points, &CancelToken::new()).unwrap()
    }

    #[test]
    fn separate_blobs_get_a_centroid_each() {
        for count in [2, 16, 50] {
            let points = blobs(count);
            let centroids = centroids(&points, count, &CancelToken::new()).unwrap();
            let mut of_corner = vec![None; count];
            for (index, nearest) in nearest(&points, &centroids).into_iter().enumerate() {
                assert_eq!(*of_corner[index % count].get_or_insert(nearest), nearest, "a blob was split");
            }
            of_corner.sort();
            of_corner.dedup();
            assert_eq!(of_corner.len(), count, "blobs were merged");
        }
    }

    #[test]
    fn centroids_are_means_and_not_scaled() {
        let points = blobs(4);
        let centroids = centroids(&points, 4, &CancelToken::new()).unwrap();
        let clusters = nearest(&points, &centroids);
        for (cluster, centroid) in centroids.rows().enumerate() {
            let members: Vec<&[f32]> = points
                .rows()
                .zip(&clusters)
                .filter(|(_, of)| **of as usize == cluster)
                .map(|(row, _)| row)
                .collect();
            let mean = members.iter().map(|row| row[3]).sum::<f32>() / members.len() as f32;
            assert!((mean - centroid[3]).abs() < 1e-3, "{mean} {}", centroid[3]);
        }
    }

    #[test]
    fn a_dense_lump_is_split() {
        let mut random = Random::new(3);
        let mut points = Matrix::new(4);
        for index in 0..4_000 {
            let spread = if index % 2 == 0 { 1e-4 } else { 1e-2 };
            let row: Vec<f32> = (0..4).map(|_| 1.0 + random.below(1_000) as f32 * spread).collect();
            points.push(&row);
        }
        let centroids = centroids(&points, 80, &CancelToken::new()).unwrap();
        assert!((60..=120).contains(&centroids.len()), "{} centroids", centroids.len());
        let mut counts = vec![0; centroids.len()];
        nearest(&points, &centroids).iter().for_each(|cluster| counts[*cluster as usize] += 1);
        assert!(counts.iter().all(|count| *count <= 200), "{counts:?}");
    }

    #[test]
    fn equal_rows_make_one_cluster() {
        let mut points = Matrix::new(3);
        (0..10_000).for_each(|_| points.push(&[0.5, 0.5, 0.1]));
        for count in [1, 10, 100] {
            let found = centroids(&points, count, &CancelToken::new()).unwrap();
            assert_eq!(found.len(), 1);
            assert!(distance_squared(found.row(0), points.row(0)) < 1e-6);
        }
        assert_eq!(centroids(&Matrix::zeros(3, 100), 10, &CancelToken::new()).unwrap().len(), 1);
        assert_eq!(centroids(&Matrix::new(3), 10, &CancelToken::new()).unwrap().len(), 0);
        assert_eq!(centroids(&Matrix::new(3), 100, &CancelToken::new()).unwrap().len(), 0);
    }

    #[test]
    fn few_different_rows_make_as_many_clusters() {
        let mut points = Matrix::new(2);
        (0..9_000).for_each(|row| points.push(&[(row % 3) as f32, 1.0]));
        assert_eq!(centroids(&points, 200, &CancelToken::new()).unwrap().len(), 3);
    }

    #[test]
    fn huge_numbers_do_not_become_infinite() {
        let mut points = Matrix::new(2);
        (0..1_000).for_each(|row| points.push(&[3e38, if row % 2 == 0 { 1.0 } else { -1.0 }]));
        let found = centroids(&points, 100, &CancelToken::new()).unwrap();
        assert!(!found.is_empty() && found.rows().flatten().all(|number| number.is_finite()));
    }

    #[test]
    fn the_same_rows_give_the_same_centroids() {
        let points = blobs(90);
        let cancel = CancelToken::new();
        assert_eq!(centroids(&points, 100, &cancel).unwrap(), centroids(&points, 100, &cancel).unwrap());
    }

    #[test]
    fn a_raised_token_ends_the_work() {
        let cancel = CancelToken::new();
        cancel.cancel();
        for count in [4, 100] {
            let error = centroids(&blobs(4), count, &cancel).unwrap_err();
            assert_eq!(error.code(), crate::ErrorCode::Cancelled);
        }
    }

    #[test]
    fn there_is_a_cluster_for_43_rows() {
        assert_eq!([0, 42, 43, 86, 116_659].map(cluster_count), [1, 1, 1, 2, 2_713]);
    }
}
