//! Uniform samples of rows.

use crate::vector::kernel::Matrix;
use crate::vector::random::Random;

/// 256 MiB of f32.
const SAMPLE_NUMBERS_MAX: u64 = 64 << 20;

/// How many of `rows` rows to find centroids from: all that fit in 256 MiB.
pub(in crate::vector) fn sample_size(rows: u64, dimension: usize) -> usize {
    let fitting = (SAMPLE_NUMBERS_MAX / dimension.max(1) as u64).max(1);
    usize::try_from(rows.min(fitting)).unwrap_or(usize::MAX)
}

/// A uniform sample of a stream of unknown length, the same for the same stream.
pub(in crate::vector) struct Sample {
    size: usize,
    seen: u64,
    random: Random,
    rows: Matrix,
}

impl Sample {
    pub(in crate::vector) fn new(dimension: usize, size: usize) -> Self {
        Self { size, seen: 0, random: Random::default(), rows: Matrix::new(dimension) }
    }

    /// Offers a row.
    pub(in crate::vector) fn offer(&mut self, row: &[f32]) {
        self.seen += 1;
        if self.rows.len() < self.size {
            return self.rows.push(row);
        }
        let slot = self.random.below(self.seen);
        if let Some(slot) = usize::try_from(slot).ok().filter(|slot| *slot < self.size) {
            self.rows.row_mut(slot).copy_from_slice(row);
        }
    }

    /// Rows offered so far.
    pub(in crate::vector) fn seen(&self) -> u64 {
        self.seen
    }

    pub(in crate::vector) fn into_rows(self) -> Matrix {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_bounded() {
        assert_eq!(sample_size(1_000, 384), 1_000);
        assert_eq!(sample_size(10_000_000, 384), 174_762);
        assert_eq!(sample_size(10_000_000, 1 << 30), 1);
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
