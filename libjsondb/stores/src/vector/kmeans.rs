//! Finding cluster centres: spherical k-means over a sample of unit vectors. Centres are unit vectors too.

use engine::CancelToken;

use super::assign::{Finder, Nearest};
use super::kernel::{Matrix, dot, make_unit};
use super::random::Random;
use crate::Result;

/// Rows per cluster aimed at in small stores; in larger ones the number of clusters grows with the root of
/// the rows.
const ROWS_PER_CLUSTER: u64 = 43;
const CLUSTERS_PER_ROOT: u64 = 3;
const CLUSTERS_MAX: u64 = 4096;

const SEED_ROWS_PER_CLUSTER: usize = 16;
pub(super) const ROUNDS_MAX: usize = 8;
const POLISH_ROUNDS: usize = 2;

/// How many clusters `rows` rows make.
pub(super) fn cluster_count(rows: u64) -> usize {
    let count = (CLUSTERS_PER_ROOT * rows.isqrt()).min(rows / ROWS_PER_CLUSTER).clamp(1, CLUSTERS_MAX);
    usize::try_from(count).unwrap_or(1)
}

/// About `count` centres of the points, fewer when there are not so many different ones. Deterministic.
///
/// Two levels: coarse clusters first, then each is divided by its number of points. That takes a small part
/// of the time of one level, and gives a dense lump, whose points one centre would serve well, as many
/// centres as it has rows for.
pub(super) fn centres(points: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    let rows: Vec<&[f32]> = points.rows().collect();
    let coarse = lloyd(points, count.isqrt(), cancel)?;
    let mut centres = Matrix::new(points.dimension());
    for members in members(points, &coarse, cancel)? {
        let share = (members.len() * count).checked_div(points.len()).unwrap_or(0).max(1);
        let mut part = Matrix::new(points.dimension());
        members.iter().for_each(|point| part.push(points.row(*point)));
        lloyd(&part, share, cancel)?.rows().for_each(|centre| centres.push(centre));
    }
    for _ in 0..POLISH_ROUNDS {
        if centres.is_empty() {
            break;
        }
        let nearest = Finder::new(&centres, points.len(), cancel)?.nearest_of_rows(&rows, cancel)?;
        move_to_means(&mut centres, points, &nearest);
    }
    Ok(centres)
}

/// The points nearest to each centre.
pub(super) fn members(points: &Matrix, centres: &Matrix, cancel: &CancelToken) -> Result<Vec<Vec<usize>>> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); centres.len()];
    if !centres.is_empty() {
        let rows: Vec<&[f32]> = points.rows().collect();
        for (point, nearest) in Finder::exact(centres).nearest_of_rows(&rows, cancel)?.iter().enumerate() {
            members[nearest.index as usize].push(point);
        }
    }
    Ok(members)
}

/// k-means proper.
pub(super) fn lloyd(points: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    let mut centres = seeds(points, count, cancel)?;
    if centres.is_empty() {
        return Ok(centres);
    }
    let rows: Vec<&[f32]> = points.rows().collect();
    let mut last: Vec<u32> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let nearest = Finder::exact(&centres).nearest_of_rows(&rows, cancel)?;
        let assigned: Vec<u32> = nearest.iter().map(|nearest| nearest.index).collect();
        if settled(&last, &assigned) {
            break;
        }
        move_to_means(&mut centres, points, &nearest);
        last = assigned;
    }
    Ok(centres)
}

/// True when fewer than one point in 500 changed its centre.
fn settled(last: &[u32], now: &[u32]) -> bool {
    let changed = last.iter().zip(now).filter(|(last, now)| last != now).count();
    !last.is_empty() && changed * 500 <= now.len()
}

/// k-means++: every further seed is drawn with a probability that grows with its distance to the seeds so
/// far.
fn seeds(points: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    let mut random = Random::default();
    let pool = random.choose(points.len(), count * SEED_ROWS_PER_CLUSTER);
    let mut seeds = Matrix::new(points.dimension());
    let mut distances = vec![f32::INFINITY; pool.len()];
    let mut next = pool.first().copied();
    while let Some(point) = next {
        cancel.check()?;
        seeds.push(points.row(point));
        if seeds.len() == count {
            break;
        }
        let seed = points.row(point);
        for (distance, index) in distances.iter_mut().zip(&pool) {
            *distance = distance.min(squared_distance(points.row(*index), seed));
        }
        next = random.weighted(&distances).map(|index| pool[index]);
    }
    Ok(seeds)
}

/// Squared distance of unit vectors.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let distance = 2.0 - 2.0 * dot(a, b);
    // What rounding leaves between equal vectors is no distance. Nor is what lies between zero vectors.
    if distance < 1e-6 || a == b { 0.0 } else { distance }
}

/// Moves every centre to the mean direction of its points; one without points to the point worst served so
/// far.
fn move_to_means(centres: &mut Matrix, points: &Matrix, nearest: &[Nearest]) {
    let mut sums = Matrix::zeros(centres.dimension(), centres.len());
    let mut counts = vec![0u32; centres.len()];
    for (point, nearest) in points.rows().zip(nearest) {
        let index = nearest.index as usize;
        counts[index] += 1;
        for (sum, number) in sums.row_mut(index).iter_mut().zip(point) {
            *sum += number;
        }
    }
    let mut worst = worst_served(nearest, counts.iter().filter(|count| **count == 0).count()).into_iter();
    for (index, count) in counts.iter().enumerate() {
        if *count > 0 {
            centres.row_mut(index).copy_from_slice(sums.row(index));
            make_unit(centres.row_mut(index));
        } else if let Some(point) = worst.next() {
            centres.row_mut(index).copy_from_slice(points.row(point));
        }
    }
}

/// The `count` points farthest from their centres.
fn worst_served(nearest: &[Nearest], count: usize) -> Vec<usize> {
    if count == 0 {
        return Vec::new();
    }
    let mut points: Vec<usize> = (0..nearest.len()).collect();
    points.sort_by(|a, b| nearest[*a].similarity.total_cmp(&nearest[*b].similarity));
    points.truncate(count);
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::kernel::unit;

    /// Points around `count` corners of a cube, 50 each.
    fn blobs(count: usize) -> Matrix {
        let mut random = Random::new(7);
        let mut points = Matrix::new(8);
        for index in 0..count * 50 {
            let corner = index % count;
            let noise = |random: &mut Random| random.below(1_000) as f32 / 20_000.0;
            let row: Vec<f32> =
                (0..8).map(|bit| (corner >> bit & 1) as f32 - 0.5 + noise(&mut random)).collect();
            points.push(&unit(&row));
        }
        points
    }

    #[test]
    fn separate_blobs_get_a_centre_each() {
        let points = blobs(16);
        let centres = centres(&points, 16, &CancelToken::new()).unwrap();
        let rows: Vec<&[f32]> = points.rows().collect();
        let nearest = Finder::exact(&centres).nearest_of_rows(&rows, &CancelToken::new()).unwrap();
        let mut of_corner = vec![None; 16];
        for (index, nearest) in nearest.iter().enumerate() {
            assert_eq!(
                *of_corner[index % 16].get_or_insert(nearest.index),
                nearest.index,
                "a blob was split"
            );
        }
        of_corner.sort();
        of_corner.dedup();
        assert_eq!(of_corner.len(), 16, "blobs were merged");
    }

    #[test]
    fn a_dense_lump_is_split() {
        let mut random = Random::new(3);
        let mut points = Matrix::new(4);
        for index in 0..4_000 {
            let spread = if index % 2 == 0 { 1e-4 } else { 1e-2 };
            let row: Vec<f32> = (0..4).map(|_| 1.0 + random.below(1_000) as f32 * spread).collect();
            points.push(&unit(&row));
        }
        let centres = centres(&points, 40, &CancelToken::new()).unwrap();
        assert!((30..=60).contains(&centres.len()), "{} centres", centres.len());
        let rows: Vec<&[f32]> = points.rows().collect();
        let mut counts = vec![0; centres.len()];
        for nearest in Finder::exact(&centres).nearest_of_rows(&rows, &CancelToken::new()).unwrap() {
            counts[nearest.index as usize] += 1;
        }
        assert!(counts.iter().all(|count| *count <= 400), "{counts:?}");
    }

    #[test]
    fn equal_points_make_one_cluster() {
        let mut points = Matrix::new(3);
        (0..100).for_each(|_| points.push(&unit(&[0.5, 0.5, 0.1])));
        assert_eq!(centres(&points, 10, &CancelToken::new()).unwrap().len(), 1);
        assert_eq!(centres(&Matrix::zeros(3, 100), 10, &CancelToken::new()).unwrap().len(), 1);
        assert_eq!(centres(&Matrix::new(3), 10, &CancelToken::new()).unwrap().len(), 0);
    }

    #[test]
    fn the_same_points_give_the_same_centres() {
        let points = blobs(9);
        let cancel = CancelToken::new();
        assert_eq!(centres(&points, 20, &cancel).unwrap(), centres(&points, 20, &cancel).unwrap());
    }

    #[test]
    fn a_centre_without_points_moves_to_the_worst_served_point() {
        let mut points = Matrix::new(2);
        [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]].iter().for_each(|point| points.push(point));
        let mut centres = Matrix::new(2);
        [[1.0, 0.0], [-1.0, 0.0]].iter().for_each(|centre| centres.push(centre));
        let rows: Vec<&[f32]> = points.rows().collect();
        let nearest = Finder::exact(&centres).nearest_of_rows(&rows, &CancelToken::new()).unwrap();
        move_to_means(&mut centres, &points, &nearest);
        assert_eq!(centres.row(1), [0.0, 1.0]);
    }

    #[test]
    fn cluster_counts_are_bounded() {
        assert_eq!(cluster_count(0), 1);
        assert_eq!(cluster_count(100), 2);
        assert_eq!(cluster_count(4_096), 95);
        assert_eq!(cluster_count(20_000), 423);
        assert_eq!(cluster_count(1_000_000), 3_000);
        assert_eq!(cluster_count(u64::MAX), 4_096);
    }
}
