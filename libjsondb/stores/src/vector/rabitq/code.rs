//! Codes of rows, and what a query makes of them.

use crate::vector::kernel::{Codes, Planes, Scale, estimate, quantize, residual};

/// The standard error of an estimate, per unit of `scale` and of the length of the query's residual. It is the root of
/// 1 - s^2, s being the cosine between a residual and its signs: 0.8 for random directions.
const STANDARD_ERROR: f32 = 0.6;

/// The query's numbers are rounded to -7 to 7.
const STEPS: f32 = 7.0;

/// What a row keeps beside its code, for the product with a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::vector) struct Factors {
    /// Product of residual and centroid.
    pub(in crate::vector) add: f32,
    /// Length of the residual / (cosine between residual and signs * root of the dimension).
    pub(in crate::vector) scale: f32,
}

/// Writes the signs of `rotated` - `centroid` to `code`, one bit per number. Both are rotated, and as long as the code
/// has bits. A row that lies on the centroid gets a scale of 0: its estimate is exact.
pub(in crate::vector) fn encode(rotated: &[f32], centroid: &[f32], code: &mut [u64]) -> Factors {
    let (mut norm_squared, mut magnitude, mut add) = (0f64, 0f64, 0f64);
    let chunks = rotated.as_chunks::<64>().0.iter().zip(centroid.as_chunks::<64>().0);
    for (word, (numbers, centroid)) in code.iter_mut().zip(chunks) {
        let mut residual = [0f32; 64];
        for (to, (x, c)) in residual.iter_mut().zip(numbers.iter().zip(centroid)) {
            *to = x - c;
        }
        *word = signs(&residual);
        norm_squared += f64::from(sum(&residual, |x, _| x * x, centroid));
        magnitude += f64::from(sum(&residual, |x, _| x.abs(), centroid));
        add += f64::from(sum(&residual, |x, c| x * c, centroid));
    }
    // |r| / (<o, r/|r|> sqrt D), where <o, r> = sum of magnitudes / sqrt D.
    let scale = if magnitude > 0.0 { norm_squared / magnitude } else { 0.0 };
    Factors { add: add as f32, scale: scale as f32 }
}

/// Bit i is 1 where number i is not negative.
fn signs(numbers: &[f32; 64]) -> u64 {
    numbers.iter().enumerate().fold(0, |word, (bit, number)| word | u64::from(*number >= 0.0) << bit)
}

/// Sum of 64 terms, 8 at a time.
fn sum(residual: &[f32; 64], term: impl Fn(f32, f32) -> f32, centroid: &[f32; 64]) -> f32 {
    let mut sums = [0f32; 8];
    for (x, c) in residual.as_chunks::<8>().0.iter().zip(centroid.as_chunks::<8>().0) {
        for lane in 0..8 {
            sums[lane] += term(x[lane], c[lane]);
        }
    }
    sums.iter().sum()
}

/// A query as it looks from one centroid: its residual in 4 bits per number, one plane per bit.
#[derive(Clone, Debug, Default)]
pub(in crate::vector) struct Query {
    /// Product of query and centroid.
    pub(in crate::vector) centroid_dot: f32,
    /// Standard error of an estimate, per unit of the row's scale.
    pub(in crate::vector) error: f32,
    /// Distance of query and centroid.
    pub(in crate::vector) distance: f32,
    /// Query less centroid.
    pub(super) residual: Vec<f32>,
    planes: Vec<Planes>,
    step: f32,
    sum: i32,
}

impl Query {
    /// Both are rotated.
    pub(in crate::vector) fn new(rotated_query: &[f32], centroid: &[f32]) -> Self {
        let mut query = Self::default();
        query.prepare(rotated_query, centroid);
        query
    }

    /// As [`Query::new`], in the same memory.
    pub(in crate::vector) fn prepare(&mut self, rotated_query: &[f32], centroid: &[f32]) {
        self.residual.resize(rotated_query.len(), 0.0);
        self.planes.resize(rotated_query.len() / 64, Planes::default());
        let found = residual(rotated_query, centroid, &mut self.residual);
        self.centroid_dot = found.dot;
        self.distance = found.norm_squared.max(0.0).sqrt();
        self.step = found.max / STEPS;
        let inverse = if self.step >= f32::MIN_POSITIVE { 1.0 / self.step } else { 0.0 };
        self.sum = quantize(&self.residual, inverse, &mut self.planes);
        // Rounding adds a variance of 1/12 of a step for each number.
        let rounding = self.step * self.step * rotated_query.len() as f32 / 12.0;
        self.error = (STANDARD_ERROR * STANDARD_ERROR * found.norm_squared + rounding).sqrt();
    }

    /// Replaces `out` by the estimated product of the query with each row. `codes` are in groups of 8 rows: word w of
    /// the 8 side by side, then word w + 1; `add` and `scale` are the factors of the rows, a multiple of 8.
    pub(in crate::vector) fn estimate(&self, codes: &[u64], add: &[f32], scale: &[f32], out: &mut Vec<f32>) {
        out.resize(add.len(), 0.0);
        let how = Scale { base: self.centroid_dot, step: self.step, sum: self.sum };
        estimate(&self.planes, how, Codes { bits: codes, add, scale }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::kernel::{distance_squared, dot, unit};
    use crate::vector::rabitq::Rotation;
    use crate::vector::random::Random;

    const DIMENSION: usize = 200;

    fn vector(seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        // The sum of a few uniform numbers is about normal.
        let normal = |random: &mut Random| (0..6).map(|_| random.below(2_001) as f32 - 1_000.0).sum();
        let vector = unit(&(0..DIMENSION).map(|_| normal(&mut random)).collect::<Vec<f32>>());
        let rotation = Rotation::new(DIMENSION);
        let mut out = vec![0.0; rotation.padded()];
        rotation.apply(&vector, &mut out);
        out
    }

    struct Rows {
        codes: Vec<u64>,
        add: Vec<f32>,
        scale: Vec<f32>,
    }

    fn rows(vectors: &[Vec<f32>], centroid: &[f32]) -> Rows {
        let words = centroid.len() / 64;
        let mut rows = Rows { codes: vec![0; vectors.len() * words], add: Vec::new(), scale: Vec::new() };
        let mut code = vec![0; words];
        for (row, vector) in vectors.iter().enumerate() {
            let factors = encode(vector, centroid, &mut code);
            rows.add.push(factors.add);
            rows.scale.push(factors.scale);
            for (word, bits) in code.iter().enumerate() {
                rows.codes[(row / 8 * words + word) * 8 + row % 8] = *bits;
            }
        }
        rows
    }

    /// Error of each estimate in standard errors.
    fn errors(vectors: &[Vec<f32>], centroid: &[f32], query: &[f32]) -> Vec<f64> {
        let rows = rows(vectors, centroid);
        let prepared = Query::new(query, centroid);
        let mut out = Vec::new();
        prepared.estimate(&rows.codes, &rows.add, &rows.scale, &mut out);
        let estimates = out.iter().zip(&rows.scale).zip(vectors);
        estimates
            .map(|((estimate, scale), vector)| {
                f64::from(estimate - dot(vector, query)) / f64::from(prepared.error * scale)
            })
            .collect()
    }

    #[test]
    fn estimates_are_unbiased_and_their_errors_are_those_promised() {
        let vectors: Vec<Vec<f32>> = (0..4_000).map(vector).collect();
        let centroid: Vec<f32> = vector(1_000_000).iter().map(|number| number * 0.5).collect();
        let errors = errors(&vectors, &centroid, &vector(1_000_001));
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
        assert!(mean.abs() < 0.1, "mean {mean}");
        assert!((0.9..1.1).contains(&deviation), "deviation {deviation}");
        assert!(errors.iter().all(|error| error.abs() < 5.0));
    }

    #[test]
    fn the_row_that_is_the_centroid_is_exact() {
        let (centroid, query) = (vector(1), vector(2));
        let rows = rows(&vec![centroid.clone(); 8], &centroid);
        assert_eq!((rows.add[0], rows.scale[0]), (0.0, 0.0));
        let mut out = Vec::new();
        Query::new(&query, &centroid).estimate(&rows.codes, &rows.add, &rows.scale, &mut out);
        assert!((out[0] - dot(&centroid, &query)).abs() < 1e-5);
    }

    #[test]
    fn the_query_that_is_the_centroid_is_exact() {
        let centroid = vector(1);
        let vectors: Vec<Vec<f32>> = (0..8).map(vector).collect();
        let rows = rows(&vectors, &centroid);
        let query = Query::new(&centroid, &centroid);
        let mut out = Vec::new();
        query.estimate(&rows.codes, &rows.add, &rows.scale, &mut out);
        assert_eq!(query.error, 0.0);
        for (estimate, vector) in out.iter().zip(&vectors) {
            assert!((estimate - dot(&centroid, vector)).abs() < 1e-5);
        }
    }

    #[test]
    fn a_query_in_used_memory_is_that_in_new_memory() {
        let (centroid, vectors) = (vector(1), (10..18).map(vector).collect::<Vec<_>>());
        let rows = rows(&vectors, &centroid);
        let mut used = Query::new(&vector(2), &vector(3));
        used.prepare(&vector(4), &centroid);
        let (mut first, mut second) = (vec![1.0; 100], Vec::new());
        used.estimate(&rows.codes, &rows.add, &rows.scale, &mut first);
        Query::new(&vector(4), &centroid).estimate(&rows.codes, &rows.add, &rows.scale, &mut second);
        assert_eq!(first, second);
    }

    #[test]
    fn euclidean_distances_follow_from_products() {
        let (centroid, query) = (vector(1), vector(2));
        let vectors: Vec<Vec<f32>> = (10..18).map(vector).collect();
        let rows = rows(&vectors, &centroid);
        let prepared = Query::new(&query, &centroid);
        let mut out = Vec::new();
        prepared.estimate(&rows.codes, &rows.add, &rows.scale, &mut out);
        for ((product, scale), vector) in out.iter().zip(&rows.scale).zip(&vectors) {
            let estimated = dot(&query, &query) + dot(vector, vector) - 2.0 * product;
            let tolerance = 2.0 * 5.0 * scale * prepared.error;
            assert!((estimated - distance_squared(vector, &query)).abs() < tolerance);
        }
    }
}
