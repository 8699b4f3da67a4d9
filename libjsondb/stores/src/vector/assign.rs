//! Finding the nearest centre of many vectors, on all processors.
//!
//! Centres and vectors are unit vectors, so the nearest is the one with the largest product.

use std::num::NonZero;
use std::thread;

use engine::CancelToken;

use super::kernel::{Matrix, dot, unit};
use super::kmeans;
use crate::Result;

/// Products below which starting threads costs more than it saves.
const PRODUCTS_PER_THREAD_MIN: usize = 8 << 20;

/// Products between two looks at the cancel token: a few milliseconds.
const PRODUCTS_PER_CHECK: usize = 16 << 20;

/// Groups of centres looked into for a vector: those whose heads are nearest.
const GROUPS_SEARCHED: usize = 6;

/// Centres from which on groups may pay.
const GROUPED_CENTRES_MIN: usize = 128;

/// The centre nearest to a vector, and their product: the cosine of their angle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Nearest {
    pub(super) index: u32,
    pub(super) similarity: f32,
}

impl Nearest {
    fn of(vector: &[f32], centres: &Matrix, indexes: impl Iterator<Item = usize>) -> Self {
        let mut best = Nearest { index: 0, similarity: f32::NEG_INFINITY };
        for index in indexes {
            let similarity = dot(centres.row(index), vector);
            if similarity > best.similarity {
                best = Nearest { index: index as u32, similarity };
            }
        }
        best
    }
}

/// Finds the nearest of its centres, of which there must be one at least.
pub(super) struct Finder<'a> {
    centres: &'a Matrix,
    groups: Option<Groups>,
    products_per_row: usize,
}

impl<'a> Finder<'a> {
    /// Looks at every centre.
    pub(super) fn exact(centres: &'a Matrix) -> Self {
        Self { centres, groups: None, products_per_row: centres.len() }
    }

    /// For `rows` vectors: when they are many, the centres are grouped first and only those of the nearest
    /// groups are looked at. A vector may then miss its nearest centre for one that is hardly farther.
    pub(super) fn new(centres: &'a Matrix, rows: usize, cancel: &CancelToken) -> Result<Self> {
        let groups = centres.len().isqrt();
        if centres.len() < GROUPED_CENTRES_MIN || rows < groups * kmeans::ROUNDS_MAX {
            return Ok(Self::exact(centres));
        }
        let products_per_row = groups * (1 + GROUPS_SEARCHED);
        Ok(Self { centres, groups: Some(Groups::new(centres, groups, cancel)?), products_per_row })
    }

    fn nearest(&self, vector: &[f32]) -> Nearest {
        match &self.groups {
            Some(groups) => Nearest::of(vector, self.centres, groups.candidates(vector)),
            None => Nearest::of(vector, self.centres, 0..self.centres.len()),
        }
    }

    /// The nearest centre of every row, whatever its length: rows are scaled to unit vectors first.
    pub(super) fn nearest_of_directions(
        &self,
        rows: &[&[f32]],
        cancel: &CancelToken,
    ) -> Result<Vec<Nearest>> {
        self.nearest_of(rows, |row| self.nearest(&unit(row)), cancel)
    }

    /// The nearest centre of every row; rows are unit vectors.
    pub(super) fn nearest_of_rows(&self, rows: &[&[f32]], cancel: &CancelToken) -> Result<Vec<Nearest>> {
        self.nearest_of(rows, |row| self.nearest(row), cancel)
    }

    fn nearest_of(
        &self,
        rows: &[&[f32]],
        find: impl Fn(&[f32]) -> Nearest + Sync,
        cancel: &CancelToken,
    ) -> Result<Vec<Nearest>> {
        let products_per_row = (self.products_per_row * self.centres.dimension()).max(1);
        let rows_per_check = (PRODUCTS_PER_CHECK / products_per_row).max(1);
        let mut found = vec![Nearest { index: 0, similarity: 0.0 }; rows.len()];
        let work = |rows: &[&[f32]], found: &mut [Nearest]| -> Result<()> {
            for (rows, found) in rows.chunks(rows_per_check).zip(found.chunks_mut(rows_per_check)) {
                cancel.check()?;
                for (row, nearest) in rows.iter().zip(found) {
                    *nearest = find(row);
                }
            }
            Ok(())
        };
        let threads = threads_for(rows.len() * products_per_row);
        let rows_per_thread = rows.len().div_ceil(threads).max(1);
        if threads == 1 {
            work(rows, &mut found)?;
            return Ok(found);
        }
        thread::scope(|scope| {
            let parts = rows.chunks(rows_per_thread).zip(found.chunks_mut(rows_per_thread));
            let running: Vec<_> = parts.map(|(rows, found)| scope.spawn(|| work(rows, found))).collect();
            running.into_iter().try_for_each(join)
        })?;
        Ok(found)
    }
}

/// Centres by the nearest of a few heads.
struct Groups {
    heads: Matrix,
    members: Vec<Vec<usize>>,
}

impl Groups {
    fn new(centres: &Matrix, count: usize, cancel: &CancelToken) -> Result<Self> {
        let heads = kmeans::lloyd(centres, count, cancel)?;
        let members = kmeans::members(centres, &heads, cancel)?;
        Ok(Self { heads, members })
    }

    /// The members of the nearest groups.
    fn candidates(&self, vector: &[f32]) -> impl Iterator<Item = usize> {
        let mut nearest = [(f32::NEG_INFINITY, 0); GROUPS_SEARCHED];
        for (index, head) in
            self.heads.rows().enumerate().filter(|(index, _)| !self.members[*index].is_empty())
        {
            let similarity = dot(head, vector);
            let place = nearest.partition_point(|(other, _)| *other >= similarity);
            if place < GROUPS_SEARCHED {
                nearest[place..].rotate_right(1);
                nearest[place] = (similarity, index);
            }
        }
        let found = nearest.into_iter().filter(|(similarity, _)| *similarity > f32::NEG_INFINITY);
        found.flat_map(|(_, group)| self.members[group].iter().copied())
    }
}

/// The result of a thread; its panic goes on in the caller.
pub(super) fn join<R>(thread: thread::ScopedJoinHandle<'_, R>) -> R {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn threads_for(products: usize) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    (products / PRODUCTS_PER_THREAD_MIN).clamp(1, processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(count: usize, dimension: usize) -> Matrix {
        let mut state = 1u32;
        let mut points = Matrix::new(dimension);
        for _ in 0..count {
            let row: Vec<f32> = (0..dimension)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect();
            points.push(&unit(&row));
        }
        points
    }

    #[test]
    fn nearest_is_by_angle_and_the_first_of_equals() {
        let mut centres = Matrix::new(2);
        for row in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 1.0]] {
            centres.push(&row);
        }
        let rows: [&[f32]; 4] = [&[50.0, 1.0], &[0.1, 0.2], &[-3.0, 0.5], &[0.0, 0.0]];
        let found = Finder::exact(&centres).nearest_of_directions(&rows, &CancelToken::new()).unwrap();
        assert_eq!(found.iter().map(|nearest| nearest.index).collect::<Vec<_>>(), [0, 1, 2, 0]);
    }

    #[test]
    fn threads_find_what_one_thread_finds() {
        let (centres, rows) = (points(200, 64), points(2_000, 64));
        let rows: Vec<&[f32]> = rows.rows().collect();
        let finder = Finder::exact(&centres);
        let together = finder.nearest_of_rows(&rows, &CancelToken::new()).unwrap();
        let alone: Vec<Nearest> = rows.iter().map(|row| finder.nearest(row)).collect();
        assert_eq!(together, alone);
    }

    #[test]
    fn groups_hardly_miss() {
        let (centres, rows) = (points(400, 16), points(2_000, 16));
        let rows: Vec<&[f32]> = rows.rows().collect();
        let cancel = CancelToken::new();
        let finder = Finder::new(&centres, rows.len(), &cancel).unwrap();
        assert!(finder.groups.is_some());
        let fast = finder.nearest_of_rows(&rows, &cancel).unwrap();
        let exact = Finder::exact(&centres).nearest_of_rows(&rows, &cancel).unwrap();
        let equal = fast.iter().zip(&exact).filter(|(fast, exact)| fast.index == exact.index).count();
        assert!(equal > 1_600, "{equal} of 2,000 equal");
        let lost: f32 = fast.iter().zip(&exact).map(|(fast, exact)| exact.similarity - fast.similarity).sum();
        assert!(lost / 2_000.0 < 0.02, "mean loss {}", lost / 2_000.0);
    }

    #[test]
    fn few_rows_are_not_worth_groups() {
        let centres = points(400, 16);
        assert!(Finder::new(&centres, 100, &CancelToken::new()).unwrap().groups.is_none());
    }

    #[test]
    fn a_raised_token_ends_the_work() {
        let centres = points(1, 2);
        let cancel = CancelToken::new();
        cancel.cancel();
        let error = Finder::exact(&centres).nearest_of_rows(&[&[1.0, 1.0]], &cancel).unwrap_err();
        assert_eq!(error.code(), crate::ErrorCode::Cancelled);
    }
}
