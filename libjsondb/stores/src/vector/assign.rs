//! Finding the nearest centroid of many vectors, on all processors.

use std::num::NonZero;
use std::thread;

use engine::CancelToken;

use super::kernel::{Matrix, dot, unit};
use crate::Result;

/// Products below which starting threads costs more than it saves.
const PRODUCTS_PER_THREAD_MIN: usize = 8 << 20;

/// Products between two looks at the cancel token: a few milliseconds.
const PRODUCTS_PER_CHECK: usize = 16 << 20;

/// Centroids prepared for distance computations.
pub(super) struct Targets<'a> {
    centroids: &'a Matrix,
    half_norms: Vec<f32>,
}

/// The centroid nearest to a vector, and half their squared distance (less half of the vector's own).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Nearest {
    pub(super) index: u32,
    pub(super) distance: f32,
}

impl<'a> Targets<'a> {
    pub(super) fn new(centroids: &'a Matrix) -> Self {
        let half_norms = centroids.rows().map(|row| dot(row, row) / 2.0).collect();
        Self { centroids, half_norms }
    }

    /// Half the squared Euclidean distance to each centroid, less half of the vector's own squared length.
    pub(super) fn distances<'b>(&'b self, vector: &'b [f32]) -> impl Iterator<Item = f32> + 'b {
        self.centroids.rows().zip(&self.half_norms).map(|(row, half_norm)| half_norm - dot(row, vector))
    }

    fn nearest(&self, vector: &[f32]) -> Nearest {
        let mut best = Nearest { index: 0, distance: f32::INFINITY };
        for (index, distance) in (0..).zip(self.distances(vector)) {
            if distance < best.distance {
                best = Nearest { index, distance };
            }
        }
        best
    }

    /// The nearest centroid of every row, whatever its length: rows are scaled to unit vectors first. There must be a centroid.
    pub(super) fn nearest_of_directions(
        &self,
        rows: &[&[f32]],
        cancel: &CancelToken,
    ) -> Result<Vec<Nearest>> {
        self.nearest_of(rows, |row| self.nearest(&unit(row)), cancel)
    }

    /// The nearest centroid of every row, taken as it is. There must be a centroid.
    pub(super) fn nearest_of_rows(&self, rows: &[&[f32]], cancel: &CancelToken) -> Result<Vec<Nearest>> {
        self.nearest_of(rows, |row| self.nearest(row), cancel)
    }

    fn nearest_of(
        &self,
        rows: &[&[f32]],
        find: impl Fn(&[f32]) -> Nearest + Sync,
        cancel: &CancelToken,
    ) -> Result<Vec<Nearest>> {
        let products_per_row = (self.centroids.len() * self.centroids.dimension()).max(1);
        let rows_per_check = (PRODUCTS_PER_CHECK / products_per_row).max(1);
        let mut found = vec![Nearest { index: 0, distance: 0.0 }; rows.len()];
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

    #[test]
    fn nearest_is_euclidean_and_the_first_of_equals() {
        let mut centroids = Matrix::new(2);
        for row in [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0]] {
            centroids.push(&row);
        }
        let targets = Targets::new(&centroids);
        let rows: [&[f32]; 4] = [&[0.1, 0.2], &[3.0, 0.5], &[1.0, 3.0], &[9.0, 1.0]];
        let found = targets.nearest_of_rows(&rows, &CancelToken::new()).unwrap();
        assert_eq!(found.iter().map(|nearest| nearest.index).collect::<Vec<_>>(), [0, 1, 2, 1]);
    }

    #[test]
    fn threads_find_what_one_thread_finds() {
        let value = |i: usize| ((i * 7_919) % 1_009) as f32 / 1_009.0;
        let mut centroids = Matrix::new(64);
        let mut rows = Matrix::new(64);
        (0..200).for_each(|row| centroids.push(&(0..64).map(|i| value(row * 64 + i)).collect::<Vec<_>>()));
        (0..2_000).for_each(|row| rows.push(&(0..64).map(|i| value(row * 31 + i * 3)).collect::<Vec<_>>()));
        let rows: Vec<&[f32]> = rows.rows().collect();
        let targets = Targets::new(&centroids);
        let together = targets.nearest_of_rows(&rows, &CancelToken::new()).unwrap();
        let alone: Vec<Nearest> = rows.iter().map(|row| targets.nearest(row)).collect();
        assert_eq!(together, alone);
    }

    #[test]
    fn a_raised_token_ends_the_work() {
        let centroids = Matrix::zeros(2, 1);
        let cancel = CancelToken::new();
        cancel.cancel();
        let error = Targets::new(&centroids).nearest_of_rows(&[&[1.0, 1.0]], &cancel).unwrap_err();
        assert_eq!(error.code(), crate::ErrorCode::Cancelled);
    }
}
