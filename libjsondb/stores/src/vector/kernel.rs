//! Arithmetic on vectors, written so that the compiler vectorises it: fixed-width chunks, independent sums.

const LANES: usize = 16;

/// Norms outside of these lose precision or overflow when squared in f32; such rows are rare and scored in
/// f64.
const NORM_MIN: f64 = 1e-15;
const NORM_MAX: f64 = 1e15;

/// Vectors of one dimension, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matrix {
    dimension: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// No rows yet. `dimension` is at least 1.
    pub(super) fn new(dimension: usize) -> Self {
        Self { dimension, data: Vec::new() }
    }

    pub(super) fn zeros(dimension: usize, rows: usize) -> Self {
        Self { dimension, data: vec![0.0; dimension * rows] }
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.data.len().checked_div(self.dimension).unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.dimension..][..self.dimension]
    }

    pub(super) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.data[index * self.dimension..][..self.dimension]
    }

    pub(super) fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.dimension.max(1))
    }

    pub(super) fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.dimension);
        self.data.extend_from_slice(row);
    }

    /// Adds a row stored by [`encode`]; false, and nothing added, when it has another dimension.
    pub(super) fn push_encoded(&mut self, bytes: &[u8]) -> bool {
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() || numbers.len() != self.dimension {
            return false;
        }
        self.data.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
        true
    }

    pub(super) fn push_zeros(&mut self) {
        self.data.resize(self.data.len() + self.dimension, 0.0);
    }

    pub(super) fn clear(&mut self) {
        self.data.clear();
    }
}

/// A vector as it is stored: f32, little endian.
pub(super) fn encode(vector: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vector.len() * 4);
    for number in vector {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// The vector in bytes made by [`encode`]; None when their length is not a multiple of four.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// Sum of products. Both sides have the same length.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + rest
}

fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Euclidean length.
pub(super) fn norm(vector: &[f32]) -> f64 {
    let fast = f64::from(dot(vector, vector)).sqrt();
    if (NORM_MIN..NORM_MAX).contains(&fast) { fast } else { dot_f64(vector, vector).sqrt() }
}

/// The vector scaled to length 1; the zero vector stays as it is.
pub(super) fn unit(vector: &[f32]) -> Vec<f32> {
    let mut scaled = vector.to_vec();
    make_unit(&mut scaled);
    scaled
}

/// Scales a vector to length 1; the zero vector stays as it is.
pub(super) fn make_unit(vector: &mut [f32]) {
    let length = norm(vector);
    if length > 0.0 {
        for number in vector {
            *number = (f64::from(*number) / length) as f32;
        }
    }
}

/// Cosine similarity of a unit vector and a vector of length `norm`: -1 to 1, and 0 for a zero vector.
pub(super) fn cosine(unit: &[f32], vector: &[f32], norm: f64) -> f32 {
    if norm == 0.0 {
        return 0.0;
    }
    let product = if (NORM_MIN..NORM_MAX).contains(&norm) {
        f64::from(dot(unit, vector))
    } else {
        dot_f64(unit, vector)
    };
    // Adding zero turns -0.0 into 0.0, so that equal scores are equal bits.
    ((product / norm) as f32).clamp(-1.0, 1.0) + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 40_503) % 1_000) as f32 / 500.0 - 1.0)
            .collect()
    }

    #[test]
    fn dot_agrees_with_f64_at_every_length() {
        for count in 0..70 {
            let (a, b) = (numbers(count, 1), numbers(count, 2));
            assert!((f64::from(dot(&a, &b)) - dot_f64(&a, &b)).abs() < 1e-4, "length {count}");
        }
    }

    #[test]
    fn stored_vectors_come_back_bit_for_bit() {
        let vector = [0.1, -0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, -3.5];
        let decoded = decode(&encode(&vector)).unwrap();
        assert_eq!(
            vector.map(f32::to_bits).as_slice(),
            decoded.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!(decode(&[1, 2, 3]), None);
        let mut matrix = Matrix::new(6);
        assert!(matrix.push_encoded(&encode(&vector)));
        assert!(!matrix.push_encoded(&encode(&vector[1..])));
        assert_eq!(matrix.len(), 1);
    }

    #[test]
    fn cosine_survives_extreme_magnitudes() {
        let base = numbers(40, 3);
        let query = unit(&numbers(40, 4));
        let expected = cosine(&query, &base, norm(&base));
        for scale in [1e-44, 1e-30, 1e-10, 1.0, 1e10, 1e30, 3e38] {
            let scaled: Vec<f32> = base.iter().map(|x| (f64::from(*x) * scale) as f32).collect();
            let score = cosine(&query, &scaled, norm(&scaled));
            let tolerance = if scale < 1e-38 { 0.05 } else { 1e-5 };
            assert!((score - expected).abs() < tolerance, "scale {scale}: {score} instead of {expected}");
            let length = norm(&unit(&scaled));
            assert!((length - 1.0).abs() < 1e-3, "scale {scale}: unit length {length}");
        }
    }

    #[test]
    fn zero_vectors_score_zero() {
        let zero = vec![0.0; 8];
        assert_eq!(cosine(&unit(&numbers(8, 1)), &zero, norm(&zero)), 0.0);
        assert_eq!(cosine(&unit(&zero), &numbers(8, 1), 1.0).to_bits(), 0);
        assert_eq!(unit(&zero), zero);
    }

    #[test]
    fn scores_stay_within_one() {
        for seed in 0..200 {
            let vector = numbers(33, seed);
            let score = cosine(&unit(&vector), &vector, norm(&vector));
            assert!((0.999..=1.0).contains(&score), "{score}");
        }
    }
}
