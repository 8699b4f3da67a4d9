//! Which centroids a row belongs to.

use std::cmp::Ordering;
use std::sync::Arc;

use engine::CancelToken;

use super::index::{Index, Scratch};
use super::parallel::{for_each, threads_for};
use crate::Result;
use crate::vector::kernel::{Matrix, distance_squared, dot};

/// Candidates for the nearest, at least: where the second differs from the first by more than the error, one will do.
const CANDIDATES_FOR_NEAREST: usize = 1;

/// Candidates for the second list, at least. Among more, hardly a better one is found.
const CANDIDATES_FOR_SECOND: usize = 16;

/// Weight of the part of the second residual that is parallel to the first.
const SOAR_WEIGHT: f32 = 1.0;

/// Rows scored together, so that centroids are read from memory once for them.
const ROWS_TOGETHER: usize = 8;

/// Products of two numbers between two looks at the cancel token: a few milliseconds.
const PRODUCTS_PER_CHECK: usize = 128 << 20;

/// From so many centroids on they are grouped. Below, that gains little, and a row may miss its nearest.
pub(super) const GROUPED_CENTROIDS_MIN: usize = 20_000;

/// Finds the nearest of its centroids, of which there is at least one.
///
/// All of them, or those of the nearest groups, are scored in 8 bits per number, and the best of them exactly.
pub(in crate::vector) struct Finder<'a> {
    centroids: &'a Matrix,
    index: Arc<Index>,
}

/// A centroid, and its squared distance to a row.
type Candidate = (f32, u32);

impl<'a> Finder<'a> {
    /// Takes about a millisecond for each thousand centroids; ten times that when they are so many that they are
    /// grouped.
    pub(in crate::vector) fn new(centroids: &'a Matrix, cancel: &CancelToken) -> Result<Self> {
        if centroids.len() < GROUPED_CENTROIDS_MIN {
            Ok(Self::flat(centroids))
        } else {
            Self::grouped(centroids, cancel)
        }
    }

    /// With the index that another finder of the same centroids made.
    pub(in crate::vector) fn with_index(centroids: &'a Matrix, index: Arc<Index>) -> Self {
        Self { centroids, index }
    }

    /// What is searched, for [`Finder::with_index`].
    pub(in crate::vector) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Looks at every centroid.
    pub(super) fn flat(centroids: &'a Matrix) -> Self {
        Self { centroids, index: Arc::new(Index::flat(centroids)) }
    }

    fn grouped(centroids: &'a Matrix, cancel: &CancelToken) -> Result<Self> {
        Ok(Self { centroids, index: Arc::new(Index::grouped(centroids, cancel)?) })
    }

    /// The nearest centroid, sought alone.
    #[cfg(test)]
    fn nearest(&self, vector: &[f32]) -> u32 {
        let mut nearest = 0;
        let scratch = &mut Scratch::new(CANDIDATES_FOR_NEAREST);
        self.search(&[vector], scratch, |_, candidates| nearest = first_of(candidates));
        nearest
    }

    /// The nearest centroid of every row, on all processors.
    pub(super) fn nearest_of(&self, rows: &Matrix, cancel: &CancelToken) -> Result<Vec<u32>> {
        self.for_rows(rows, CANDIDATES_FOR_NEAREST, cancel, |_, candidates| first_of(candidates))
    }

    /// The `count` nearest centroids of every row, or a few more, in no order. On all processors.
    pub(super) fn nearest_few(
        &self,
        rows: &Matrix,
        count: usize,
        cancel: &CancelToken,
    ) -> Result<Vec<Box<[u32]>>> {
        self.for_rows(rows, count, cancel, |_, candidates| candidates.iter().map(|(_, id)| *id).collect())
    }

    /// The nearest centroid of every row, and a second one whose residual is short and not parallel to the first:
    /// where a query's product with the one is far off, that with the other hardly is. None where there is only one
    /// centroid. On all processors. (SOAR: Sun et al., NeurIPS 2023.)
    pub(in crate::vector) fn nearest_two(
        &self,
        rows: &Matrix,
        cancel: &CancelToken,
    ) -> Result<Vec<(u32, Option<u32>)>> {
        self.for_rows(rows, CANDIDATES_FOR_SECOND, cancel, |row, candidates| {
            let first = first_of(candidates);
            (first, self.second(row, first, candidates))
        })
    }

    fn second(&self, row: &[f32], first: u32, candidates: &[Candidate]) -> Option<u32> {
        let residual: Vec<f32> = row.iter().zip(self.centroid(first)).map(|(x, c)| x - c).collect();
        let product = dot(row, &residual);
        // A residual of zero is parallel to none.
        let square = dot(&residual, &residual).max(f32::MIN_POSITIVE);
        let loss = |(distance, id): &Candidate| {
            let parallel = product - dot(self.centroid(*id), &residual);
            distance + SOAR_WEIGHT * parallel * parallel / square
        };
        let others = candidates.iter().filter(|(_, id)| *id != first);
        others.map(|other| (loss(other), other.1)).min_by(nearer).map(|(_, id)| id)
    }

    /// What `choose` makes of each row and its candidates.
    fn for_rows<R: Clone + Default + Send>(
        &self,
        rows: &Matrix,
        count: usize,
        cancel: &CancelToken,
        choose: impl Fn(&[f32], &[Candidate]) -> R + Sync,
    ) -> Result<Vec<R>> {
        let products_per_row = self.index.scores_per_row() * self.centroids.dimension();
        let rows_per_check = (PRODUCTS_PER_CHECK / products_per_row.max(1)).next_multiple_of(ROWS_TOGETHER);
        let mut chosen = vec![R::default(); rows.len()];
        let starts = (0..rows.len()).step_by(rows_per_check);
        let threads = threads_for(rows.len() * products_per_row);
        for_each(starts.zip(chosen.chunks_mut(rows_per_check)), threads, |(start, chosen)| {
            cancel.check()?;
            let mut scratch = Scratch::new(count);
            let rows: Vec<&[f32]> = (start..start + chosen.len()).map(|index| rows.row(index)).collect();
            for (rows, chosen) in rows.chunks(ROWS_TOGETHER).zip(chosen.chunks_mut(ROWS_TOGETHER)) {
                self.search(rows, &mut scratch, |place, candidates| {
                    chosen[place] = choose(rows[place], candidates);
                });
            }
            Ok(())
        })?;
        Ok(chosen)
    }

    /// Gives `found` the place of each row and its candidates.
    fn search(&self, rows: &[&[f32]], scratch: &mut Scratch, mut found: impl FnMut(usize, &[Candidate])) {
        let mut candidates = Vec::new();
        self.index.search(rows, scratch, |place, ids| {
            candidates.clear();
            candidates.extend(ids.map(|id| (distance_squared(rows[place], self.centroid(id)), id)));
            found(place, &candidates);
        });
    }

    fn centroid(&self, id: u32) -> &[f32] {
        self.centroids.row(id as usize)
    }
}

/// The nearest candidate; where numbers are so large that there is none, the first centroid.
fn first_of(candidates: &[Candidate]) -> u32 {
    candidates.iter().copied().min_by(nearer).map_or(0, |(_, id)| id)
}

fn nearer(a: &Candidate, b: &Candidate) -> Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::random::Random;

    fn points(count: usize, dimension: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed);
        let mut points = Matrix::new(dimension);
        for _ in 0..count {
            let row: Vec<f32> = (0..dimension).map(|_| random.below(2_001) as f32 / 1_000.0 - 1.0).collect();
            points.push(&row);
        }
        points
    }

    fn exact(centroids: &Matrix, row: &[f32]) -> u32 {
        let distances = centroids.rows().map(|centroid| distance_squared(row, centroid));
        distances.zip(0..).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
    }

    #[test]
    fn nearest_is_by_distance_and_the_first_of_equals() {
        let mut centroids = Matrix::new(2);
        for row in [[10.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]] {
            centroids.push(&row);
        }
        let finder = Finder::flat(&centroids);
        let found = [[9.0, 1.0], [2.0, 0.0], [0.0, 3.0], [-5.0, 0.9]].map(|row| finder.nearest(&row));
        assert_eq!(found, [0, 1, 2, 2]);
    }

    #[test]
    fn the_nearest_is_hardly_ever_missed() {
        for dimension in [3, 64, 100] {
            let (centroids, rows) = (points(500, dimension, 1), points(1_000, dimension, 2));
            let found = Finder::flat(&centroids).nearest_of(&rows, &CancelToken::new()).unwrap();
            let equal =
                rows.rows().zip(found).filter(|(row, found)| exact(&centroids, row) == *found).count();
            assert!(equal >= 998, "{equal} of 1,000");
        }
    }

    #[test]
    fn one_row_alone_finds_what_it_finds_among_many() {
        let (centroids, rows) = (points(300, 64, 3), points(2_003, 64, 4));
        let finder = Finder::flat(&centroids);
        let together = finder.nearest_of(&rows, &CancelToken::new()).unwrap();
        let alone: Vec<u32> = rows.rows().map(|row| finder.nearest(row)).collect();
        assert_eq!(together, alone);
    }

    #[test]
    fn groups_hardly_miss() {
        let (centroids, rows) = (points(2_000, 12, 5), points(2_000, 12, 6));
        let cancel = CancelToken::new();
        let grouped = Finder::grouped(&centroids, &cancel).unwrap().nearest_of(&rows, &cancel).unwrap();
        let flat = Finder::flat(&centroids).nearest_of(&rows, &cancel).unwrap();
        let equal = grouped.iter().zip(&flat).filter(|(grouped, flat)| grouped == flat).count();
        assert!(equal > 1_900, "{equal} of 2,000");
    }

    #[test]
    fn a_changed_index_finds_what_a_new_one_does() {
        let (mut centroids, others, rows) = (points(300, 12, 5), points(60, 12, 7), points(500, 12, 6));
        let cancel = CancelToken::new();
        let mut indexes = [Index::flat(&centroids), Index::grouped(&centroids, &cancel).unwrap()];
        for (step, other) in others.rows().enumerate() {
            match step % 3 {
                0 => {
                    indexes.iter_mut().for_each(|index| index.put(step * 4, other));
                    centroids.row_mut(step * 4).copy_from_slice(other);
                }
                1 => {
                    indexes.iter_mut().for_each(|index| index.put(centroids.len(), other));
                    centroids.push(other);
                }
                _ => {
                    centroids.swap_remove(step);
                    indexes.iter_mut().for_each(|index| index.swap_remove(step, centroids.len()));
                }
            }
        }
        let nearest = |index: Index| {
            Finder::with_index(&centroids, Arc::new(index)).nearest_of(&rows, &cancel).unwrap()
        };
        let anew = nearest(Index::flat(&centroids));
        let [flat, grouped] = indexes
            .map(|index| nearest(index).iter().zip(&anew).filter(|(changed, anew)| changed == anew).count());
        assert!(flat >= 499, "{flat} of 500");
        assert!(grouped >= 475, "{grouped} of 500, of which the nearest groups are searched");
    }

    #[test]
    fn the_second_list_is_across_the_first() {
        let mut centroids = Matrix::new(2);
        // The row's residual to the first points right. The second, left of it, is nearest, but parallel.
        for centroid in [[0.0, 0.0], [-0.2, 0.0], [1.0, 1.3]] {
            centroids.push(&centroid);
        }
        let mut rows = Matrix::new(2);
        rows.push(&[1.0, 0.0]);
        let two = Finder::flat(&centroids).nearest_two(&rows, &CancelToken::new()).unwrap();
        assert_eq!(two, [(0, Some(2))]);
    }

    #[test]
    fn a_row_on_its_centroid_has_a_second_list() {
        let centroids = points(30, 16, 7);
        let two = Finder::flat(&centroids).nearest_two(&centroids, &CancelToken::new()).unwrap();
        for (id, (first, second)) in (0..).zip(two) {
            assert_eq!(first, id);
            assert!(second.is_some_and(|second| second != first));
        }
    }

    #[test]
    fn a_single_centroid_leaves_no_second() {
        let centroids = points(1, 4, 8);
        let two = Finder::flat(&centroids).nearest_two(&points(3, 4, 9), &CancelToken::new()).unwrap();
        assert_eq!(two, [(0, None); 3]);
    }

    #[test]
    fn extreme_vectors_find_a_centroid() {
        let mut centroids = Matrix::new(4);
        [[1e30; 4], [-3e38; 4], [1e-40; 4]].iter().for_each(|centroid| centroids.push(centroid));
        let finder = Finder::flat(&centroids);
        for row in [[3e38; 4], [1e-45; 4], [-1e30, 1e30, 0.0, 1.0]] {
            assert!(finder.nearest(&row) < 3);
        }
    }

    #[test]
    fn a_raised_token_ends_the_work() {
        let rows = points(10, 4, 10);
        let cancel = CancelToken::new();
        cancel.cancel();
        let error = Finder::flat(&rows).nearest_two(&rows, &cancel).unwrap_err();
        assert_eq!(error.code(), crate::ErrorCode::Cancelled);
    }
}
