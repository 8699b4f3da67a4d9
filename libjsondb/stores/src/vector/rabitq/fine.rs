//! Codes of four bits per number, for rows whose estimate is looked at twice: a seventh of the error of one bit.

use super::Query;
use crate::vector::kernel::{FINE_MIDDLE, fine_product};

/// Width of a step, in standard deviations of the numbers: the best one for 16 steps.
const STEP: f32 = 0.335;

/// Rows relative to one point, in the order in which they came.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::vector) struct FineCodes {
    /// Of a row.
    code_bytes: usize,
    codes: Vec<u8>,
    factors: Vec<Factors>,
}

/// What a row keeps beside its code.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Factors {
    /// As that of the code of one bit.
    add: f32,
    /// Squared length of the residual / product of residual and code.
    scale: f32,
    /// Standard error of an estimate, per unit of the length of the query's residual.
    error: f32,
}

impl FineCodes {
    /// Of no rows. `words`: those of a code of one bit.
    pub(in crate::vector) fn new(words: usize) -> Self {
        Self { code_bytes: words * 32, codes: Vec::new(), factors: Vec::new() }
    }

    /// Bytes that a row takes.
    pub(in crate::vector) fn row_bytes(words: usize) -> usize {
        words * 32 + size_of::<Factors>()
    }

    /// Adds the code of a rotated vector relative to a rotated point. `add` is that of its code of one bit.
    pub(in crate::vector) fn push(&mut self, rotated: &[f32], centroid: &[f32], add: f32) {
        let residual: Vec<f32> = rotated.iter().zip(centroid).map(|(x, c)| x - c).collect();
        let dimension = residual.len() as f64;
        let norm_squared: f64 = residual.iter().map(|number| f64::from(*number).powi(2)).sum();
        let step = STEP * (norm_squared / dimension).sqrt() as f32;
        // Of a row that lies on the point every number is in the middle.
        let inverse = if step >= f32::MIN_POSITIVE { 1.0 / step } else { 0.0 };
        let (mut product, mut code_squared) = (0f64, 0f64);
        let mut code_of = |number: f32| -> u8 {
            let code = (number * inverse + 8.0).clamp(0.0, 15.0).floor();
            product += f64::from((code - FINE_MIDDLE) * number);
            code_squared += f64::from((code - FINE_MIDDLE) * (code - FINE_MIDDLE));
            code as u8
        };
        for numbers in residual.as_chunks::<32>().0 {
            let (low, high) = numbers.split_at(16);
            self.codes.extend(low.iter().zip(high).map(|(low, high)| code_of(*low) | code_of(*high) << 4));
        }
        let (mut scale, mut error) = (0.0, 0.0);
        if inverse > 0.0 && product > 0.0 {
            scale = norm_squared / product;
            // The part of scale * code that is at a right angle to the residual.
            let across = (scale * scale * code_squared - norm_squared).max(0.0);
            error = (across / dimension).sqrt();
        }
        let (scale, error) = (scale as f32, error as f32);
        self.factors.push(Factors { add, scale, error });
    }

    /// Adds a row of others of the same dimension and point.
    pub(in crate::vector) fn push_from(&mut self, other: &FineCodes, index: usize) {
        self.codes.extend_from_slice(other.code(index));
        self.factors.push(other.factors[index]);
    }

    /// The product of the query, as it looks from the point, with a row, and so many standard errors.
    pub(in crate::vector) fn bound(&self, index: usize, query: &Query, errors: f32) -> f32 {
        let Factors { add, scale, error } = self.factors[index];
        let product = fine_product(&query.residual, self.code(index));
        query.centroid_dot + add + scale * product + errors * error * query.distance
    }

    fn code(&self, index: usize) -> &[u8] {
        &self.codes[index * self.code_bytes..][..self.code_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::kernel::{dot, unit};
    use crate::vector::rabitq::{Rotation, encode};
    use crate::vector::random::Random;

    const DIMENSION: usize = 200;

    fn vector(seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        let vector = unit(&(0..DIMENSION).map(|_| random.below(2_001) as f32 - 1_000.0).collect::<Vec<_>>());
        let rotation = Rotation::new(DIMENSION);
        let mut out = vec![0.0; rotation.padded()];
        rotation.apply(&vector, &mut out);
        out
    }

    fn codes(vectors: &[Vec<f32>], centroid: &[f32]) -> FineCodes {
        let words = centroid.len() / 64;
        let (mut codes, mut code) = (FineCodes::new(words), vec![0; words]);
        for vector in vectors {
            let add = encode(vector, centroid, &mut code).add;
            codes.push(vector, centroid, add);
        }
        assert_eq!(codes.codes.len() + vectors.len() * 12, vectors.len() * FineCodes::row_bytes(words));
        codes
    }

    #[test]
    fn estimates_are_unbiased_and_their_errors_are_those_promised() {
        let vectors: Vec<Vec<f32>> = (0..4_000).map(vector).collect();
        let centroid: Vec<f32> = vector(1_000_000).iter().map(|number| number * 0.5).collect();
        let (codes, rotated) = (codes(&vectors, &centroid), vector(1_000_001));
        let query = Query::new(&rotated, &centroid);
        let (mut sum, mut squares) = (0.0, 0.0);
        for (index, vector) in vectors.iter().enumerate() {
            let estimate = codes.bound(index, &query, 0.0);
            let error = codes.bound(index, &query, 1.0) - estimate;
            assert!(error < 0.015, "one bit has 0.05: {error}");
            let off = f64::from((estimate - dot(vector, &rotated)) / error);
            assert!(off.abs() < 5.0);
            (sum, squares) = (sum + off, squares + off * off);
        }
        let (mean, deviation) = (sum / vectors.len() as f64, (squares / vectors.len() as f64).sqrt());
        assert!(mean.abs() < 0.1, "mean {mean}");
        assert!((0.9..1.1).contains(&deviation), "deviation {deviation}");
    }

    #[test]
    fn the_row_that_is_the_point_is_exact() {
        let (centroid, rotated) = (vector(1), vector(2));
        let codes = codes(std::slice::from_ref(&centroid), &centroid);
        let bound = codes.bound(0, &Query::new(&rotated, &centroid), 5.0);
        assert!((bound - dot(&centroid, &rotated)).abs() < 1e-5);
    }

    #[test]
    fn rows_taken_over_are_those_they_were() {
        let (centroid, vectors) = (vector(1), (2..6).map(vector).collect::<Vec<_>>());
        let all = codes(&vectors, &centroid);
        let mut taken = FineCodes::new(centroid.len() / 64);
        [1, 3].iter().for_each(|index| taken.push_from(&all, *index));
        assert_eq!(taken, codes(&[vectors[1].clone(), vectors[3].clone()], &centroid));
    }
}
