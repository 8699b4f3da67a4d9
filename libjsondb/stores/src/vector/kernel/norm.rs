//! Lengths and angles of vectors of any finite magnitude.

use super::dot;

/// Norms outside of these lose precision or overflow when squared in f32; such rows are rare and scored in
/// f64.
const NORM_MIN: f64 = 1e-15;
const NORM_MAX: f64 = 1e15;

pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Euclidean length.
pub(in crate::vector) fn norm(vector: &[f32]) -> f64 {
    let fast = f64::from(dot(vector, vector)).sqrt();
    if (NORM_MIN..NORM_MAX).contains(&fast) { fast } else { dot_f64(vector, vector).sqrt() }
}

/// The vector scaled to length 1; the zero vector stays as it is.
#[cfg(test)]
pub(in crate::vector) fn unit(vector: &[f32]) -> Vec<f32> {
    let mut scaled = vector.to_vec();
    make_unit(&mut scaled);
    scaled
}

/// Scales a vector to length 1; the zero vector stays as it is.
pub(in crate::vector) fn make_unit(vector: &mut [f32]) {
    let length = norm(vector);
    if length > 0.0 {
        for number in vector {
            *number = (f64::from(*number) / length) as f32;
        }
    }
}

/// Cosine similarity of a unit vector and a vector of length `norm`: -1 to 1, and 0 for a zero vector.
pub(in crate::vector) fn cosine(unit: &[f32], vector: &[f32], norm: f64) -> f32 {
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
    use super::super::tests::numbers;
    use super::*;

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
