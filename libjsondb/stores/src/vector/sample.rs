//! Uniform samples of rows.

use super::kernel::{Matrix, make_unit};
use super::kmeans::cluster_count;
use super::random::Random;

const SAMPLE_ROWS_MAX: u64 = 50_000;
const SAMPLE_ROWS_MIN: u64 = 4_096;
const SAMPLE_ROWS_PER_CLUSTER: u64 = 40;
/// 128 MiB of f32.
const SAMPLE_NUMBERS_MAX: u64 = 32 << 20;

/// How many of `rows` rows are enough to find their clusters.
pub(super) fn sample_size(rows: u64, dimension: usize) -> usize {
    let wanted =
        (cluster_count(rows) as u64 * SAMPLE_ROWS_PER_CLUSTER).clamp(SAMPLE_ROWS_MIN, SAMPLE_ROWS_MAX);
    let fitting = (SAMPLE_NUMBERS_MAX / dimension.max(1) as u64).max(1);
    usize::try_from(wanted.min(fitting).min(rows)).unwrap_or(0)
}

/// A uniform sample of a stream of unknown length, the same for the same stream.
pub(super) struct Sample {
    size: usize,
    seen: u64,
    random: Random,
    rows: Matrix,
}

impl Sample {
    pub(super) fn new(dimension: usize, size: usize) -> Self {
        Self { size, seen: 0, random: Random::default(), rows: Matrix::new(dimension) }
    }

    /// Offers a row; its direction is kept, its length is not.
    pub(super) fn offer(&mut self, row: &[f32]) {
        self.seen += 1;
        let slot = if self.rows.len() < self.size {
            self.rows.push(row);
            self.rows.len() - 1
        } else {
            let slot = self.random.below(self.seen);
            match usize::try_from(slot).ok().filter(|slot| *slot < self.size) {
                Some(slot) => {
                    self.rows.row_mut(slot).copy_from_slice(row);
                    slot
                }
                None => return,
            }
        };
        make_unit(self.rows.row_mut(slot));
    }

    /// Rows offered so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn into_rows(self) -> Matrix {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_bounded() {
        assert_eq!(sample_size(1_000, 384), 1_000);
        assert_eq!(sample_size(10_000_000, 384), 50_000);
        assert_eq!(sample_size(10_000_000, 1 << 20), 32);
        let mut sample = Sample::new(2, 10);
        (0..1_000).for_each(|i| sample.offer(&[i as f32, 1.0]));
        assert_eq!((sample.seen(), sample.into_rows().len()), (1_000, 10));
    }

    #[test]
    fn a_sample_is_uniform() {
        let mut sample = Sample::new(2, 2_000);
        (0..20_000).for_each(|i| sample.offer(&[1.0, if i < 10_000 { 0.0 } else { 1.0 }]));
        let first_half = sample.into_rows().rows().filter(|row| row[1] == 0.0).count();
        assert!((800..1_200).contains(&first_half), "{first_half} of 2,000");
    }
}
