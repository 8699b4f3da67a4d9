//! The random rotation in front of the codes.

use crate::vector::kernel::hadamard;
use crate::vector::random::Random;

/// After four rounds the numbers of any vector are spread like those of a random one.
const ROUNDS: usize = 4;

const SEED: u64 = 0x5eed_0000_0207_a710;

/// A fixed orthogonal map, the same for the same dimension everywhere: lengths and products stay what they are.
///
/// A round flips signs at random and applies the Hadamard transform to as many numbers as the largest power of two, in
/// turn at the front and at the back. Where that leaves some out, it also adds and subtracts the two halves. (As the
/// RaBitQ library does; d log d steps, no matrix.)
#[derive(Clone, Debug)]
pub(in crate::vector) struct Rotation {
    padded: usize,
    /// Length of the Hadamard transform.
    window: usize,
    /// The signs, times what keeps the length.
    factors: [Vec<f32>; ROUNDS],
}

impl Rotation {
    pub(in crate::vector) fn new(dimension: usize) -> Self {
        let padded = dimension.next_multiple_of(64).max(64);
        let window = 1 << padded.ilog2();
        let mut random = Random::new(SEED);
        let mut round = 0;
        let factors = [(); ROUNDS].map(|()| {
            let start = window_start(round, padded, window);
            round += 1;
            (0..padded).map(|at| factor(at, start, padded, window, &mut random)).collect()
        });
        Self { padded, window, factors }
    }

    /// Numbers of a rotated vector: the dimension, rounded up to a multiple of 64.
    pub(in crate::vector) fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates `vector`, filled up with zeros, into `out` of [`Rotation::padded`] numbers.
    pub(in crate::vector) fn apply(&self, vector: &[f32], out: &mut [f32]) {
        out[..vector.len()].copy_from_slice(vector);
        out[vector.len()..].fill(0.0);
        for (round, factors) in self.factors.iter().enumerate() {
            out.iter_mut().zip(factors).for_each(|(number, factor)| *number *= factor);
            let start = window_start(round, self.padded, self.window);
            hadamard(&mut out[start..][..self.window]);
            if self.window < self.padded {
                add_and_subtract_halves(out);
            }
        }
    }
}

/// Where the transform of a round begins.
fn window_start(round: usize, padded: usize, window: usize) -> usize {
    if round.is_multiple_of(2) { 0 } else { padded - window }
}

/// A random sign, divided by what the steps of the round multiply lengths by.
fn factor(at: usize, start: usize, padded: usize, window: usize, random: &mut Random) -> f32 {
    let sign = if random.next() >> 63 == 0 { 1.0 } else { -1.0 };
    let transformed = if (start..start + window).contains(&at) { window as f64 } else { 1.0 };
    let halves = if window < padded { 2.0 } else { 1.0 };
    (sign / f64::sqrt(transformed * halves)) as f32
}

fn add_and_subtract_halves(numbers: &mut [f32]) {
    let (low, high) = numbers.split_at_mut(numbers.len() / 2);
    for (a, b) in low.iter_mut().zip(high) {
        (*a, *b) = (*a + *b, *a - *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::kernel::{dot, norm};

    fn rotated(rotation: &Rotation, vector: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; rotation.padded()];
        rotation.apply(vector, &mut out);
        out
    }

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..count).map(|_| random.below(2_001) as f32 / 1_000.0 - 1.0).collect()
    }

    #[test]
    fn lengths_and_products_are_kept() {
        for dimension in (1..=200).chain([384, 768, 1_024, 1_536, 3_072]) {
            let rotation = Rotation::new(dimension);
            assert_eq!(rotation.padded(), dimension.div_ceil(64) * 64);
            let (a, b) = (numbers(dimension, 1), numbers(dimension, 2));
            let (x, y) = (rotated(&rotation, &a), rotated(&rotation, &b));
            assert!((norm(&a) - norm(&x)).abs() < 1e-5 * norm(&a), "{dimension}");
            assert!(f64::from((dot(&a, &b) - dot(&x, &y)).abs()) < 1e-5 * norm(&a) * norm(&b), "{dimension}");
        }
    }

    #[test]
    fn a_single_number_is_spread_over_all() {
        for dimension in [64, 100, 384, 768, 1_000, 1_536] {
            let rotation = Rotation::new(dimension);
            for at in [0, dimension / 2, dimension - 1] {
                let mut vector = vec![0.0; dimension];
                vector[at] = 1.0;
                let out = rotated(&rotation, &vector);
                let max = out.iter().fold(0f32, |max, number| max.max(number.abs()));
                assert!(max < 6.0 / (rotation.padded() as f32).sqrt(), "{dimension} {at}: {max}");
            }
        }
    }

    #[test]
    fn the_rotation_never_changes() {
        let out = rotated(&Rotation::new(100), &numbers(100, 3));
        let sum = |numbers: &[f32]| numbers.iter().map(|number| f64::from(*number)).sum::<f64>();
        let again = rotated(&Rotation::new(100), &numbers(100, 3));
        assert_eq!(out, again);
        // Codes on disk depend on it.
        assert!((sum(&out[..64]) - FIRST_HALF).abs() < 1e-4, "{}", sum(&out[..64]));
    }

    const FIRST_HALF: f64 = 1.714_312_2;
}
