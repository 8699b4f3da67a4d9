//! Finding centroids: k-means.

use engine::CancelToken;

use super::assign::Finder;
use super::parallel::{for_each, processors};
use crate::Result;
use crate::vector::kernel::{Matrix, distance_squared};
use crate::vector::random::Random;

/// Rows per cluster aimed at. Small clusters cost more centroids to compare a query with, large ones more rows.
const ROWS_PER_CLUSTER: u64 = 43;

/// More rows do not make better centroids.
const SAMPLE_ROWS_PER_CENTROID: usize = 128;

/// Rows that a seed is drawn from, for each seed.
const SEED_ROWS_PER_CENTROID: usize = 16;

const ROUNDS_MAX: usize = 8;

/// Rounds over all centroids after each group of them was found on its own.
const POLISH_ROUNDS: usize = 1;

/// A cluster with so many times the rows it should have is divided once more.
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
/// of one level, and gives a dense lump, whose rows one centroid would serve well, as many as it has rows for.
pub(in crate::vector) fn centroids(rows: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    if count < TWO_LEVELS_MIN {
        return lloyd(rows, count, cancel);
    }
    let rows_per_centroid = rows.len().div_ceil(count);
    let mut centroids = lloyd(rows, count.isqrt(), cancel)?;
    centroids = divide(rows, &centroids, rows_per_centroid, 1, cancel)?;
    for _ in 0..POLISH_ROUNDS {
        centroids = divide(rows, &centroids, rows_per_centroid, LARGE_CLUSTER, cancel)?;
    }
    Ok(centroids)
}

/// Moves each centroid to the mean of its rows; where they are more than `large` times `rows_per_centroid`, it becomes
/// as many centroids as there are rows for.
fn divide(
    rows: &Matrix,
    centroids: &Matrix,
    rows_per_centroid: usize,
    large: usize,
    cancel: &CancelToken,
) -> Result<Matrix> {
    let clusters = members(rows, centroids, cancel)?;
    let mut parts = vec![Matrix::default(); clusters.len()];
    for_each(clusters.iter().zip(&mut parts), processors(), |(members, part)| {
        let share = (members.len() + rows_per_centroid / 2) / rows_per_centroid;
        let members = select(rows, members);
        *part = if share > large {
            lloyd(&members, share, cancel)?
        } else {
            means(&members, &vec![0; members.len()], 1)
        };
        Ok(())
    })?;
    let mut divided = Matrix::new(rows.dimension());
    parts.iter().flat_map(Matrix::rows).for_each(|centroid| divided.push(centroid));
    Ok(divided)
}

/// The rows nearest to each centroid.
fn members(rows: &Matrix, centroids: &Matrix, cancel: &CancelToken) -> Result<Vec<Vec<usize>>> {
    let mut members = vec![Vec::new(); centroids.len()];
    for (row, nearest) in Finder::flat(centroids).nearest_of(rows, cancel)?.into_iter().enumerate() {
        members[nearest as usize].push(row);
    }
    Ok(members)
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
    let mut last = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let nearest = Finder::flat(&centroids).nearest_of(rows, cancel)?;
        centroids = means(rows, &nearest, centroids.len());
        if settled(&last, &nearest) {
            break;
        }
        last = nearest;
    }
    Ok(centroids)
}

/// True when fewer than one row in 200 changed its centroid.
fn settled(last: &[u32], now: &[u32]) -> bool {
    let changed = last.iter().zip(now).filter(|(last, now)| last != now).count();
    last.len() == now.len() && changed * 200 <= now.len()
}

/// k-means++: every further seed is drawn with a probability that grows with its distance to the seeds so far.
fn seeds(rows: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    let mut random = Random::default();
    let pool = random.choose(rows.len(), count.saturating_mul(SEED_ROWS_PER_CENTROID));
    let mut seeds = Matrix::new(rows.dimension());
    let mut distances = vec![f32::INFINITY; pool.len()];
    let mut next = pool.first().copied();
    while let Some(row) = next {
        cancel.check()?;
        seeds.push(rows.row(row));
        if seeds.len() == count {
            break;
        }
        for (distance, index) in distances.iter_mut().zip(&pool) {
            *distance = distance.min(distance_squared(rows.row(*index), rows.row(row)));
        }
        next = random.weighted(&distances).map(|index| pool[index]);
    }
    Ok(seeds)
}

/// The mean of each cluster that has rows, given the cluster of each row.
fn means(rows: &Matrix, clusters: &[u32], count: usize) -> Matrix {
    let mut sizes = vec![0usize; count];
    clusters.iter().for_each(|cluster| sizes[*cluster as usize] += 1);
    let mut means = Matrix::zeros(rows.dimension(), count);
    for (row, cluster) in rows.rows().zip(clusters) {
        add_share(means.row_mut(*cluster as usize), row, sizes[*cluster as usize]);
    }
    let used: Vec<usize> = (0..count).filter(|cluster| sizes[*cluster] > 0).collect();
    select(&means, &used)
}

/// The mean of the rows; of none, the zero vector.
pub(super) fn mean<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, dimension: usize) -> Vec<f32> {
    let mut mean = vec![0.0; dimension];
    let count = rows.len();
    rows.for_each(|row| add_share(&mut mean, row, count));
    mean
}

/// Adds the part of a row that it has in the mean of `count`: a sum of rows that is divided later could overflow.
fn add_share(mean: &mut [f32], row: &[f32], count: usize) {
    let share = 1.0 / count as f32;
    mean.iter_mut().zip(row).for_each(|(mean, number)| *mean += number * share);
}

#[cfg(test)]
mod tests {
    use super::*;

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
