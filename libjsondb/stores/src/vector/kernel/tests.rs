//! Every form that this machine has computes what the scalar form computes.

use super::*;

/// Numbers from -1 to 1, the same for the same seed.
pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 40_503) % 1_000) as f32 / 500.0 - 1.0)
        .collect()
}

fn dimensions() -> impl Iterator<Item = usize> {
    (1..=200).chain([384, 768, 1_024, 1_536, 3_072])
}

/// Relative to the sum of magnitudes, for sums of up to 3,072 terms in f32.
const TOLERANCE: f64 = 4e-6;

#[test]
fn this_machine_is_tested_in_its_widest_form() {
    let forms: Vec<&str> = available().map(|kernels| kernels.name).collect();
    assert_eq!(forms.last(), Some(&"scalar"));
    assert_eq!(forms[0], kernels().name);
    assert!(forms.len() > 1 || !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")), "{forms:?}");
}

#[test]
fn products_and_distances_agree_with_f64_at_every_length_and_address() {
    for kernels in available() {
        for dimension in dimensions() {
            for offset in [0, 1, 2, 3, 4, 7] {
                let (a, b) = (numbers(dimension, 1), numbers(dimension, 2));
                let mut stored = vec![0; offset];
                stored.extend(
                    encode(&b)
                        .chunks(4)
                        .flat_map(|number| f32::from_le_bytes(number.try_into().unwrap()).to_ne_bytes()),
                );
                let stored = stored[offset..].as_chunks().0;
                let pairs = || a.iter().zip(&b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
                // SAFETY: only forms that this machine has.
                let (dot, distance) =
                    unsafe { ((kernels.dot)(&a, stored), (kernels.distance_squared)(&a, stored)) };
                let magnitude: f64 = pairs().map(|(x, y)| (x * y).abs()).sum();
                let expected: f64 = pairs().map(|(x, y)| x * y).sum();
                let name = kernels.name;
                assert!((f64::from(dot) - expected).abs() <= magnitude * TOLERANCE, "{name} {dimension}");
                let expected: f64 = pairs().map(|(x, y)| (x - y) * (x - y)).sum();
                assert!((f64::from(distance) - expected).abs() <= expected * TOLERANCE, "{name} {dimension}");
            }
        }
    }
}

#[test]
fn stored_and_plain_vectors_give_the_same_bits() {
    for dimension in dimensions() {
        let (a, b) = (numbers(dimension, 3), numbers(dimension, 4));
        let mut bytes = vec![0];
        bytes.extend(encode(&b));
        assert_eq!(dot(&a, &b).to_bits(), dot_bytes(&a, &bytes[1..]).to_bits());
        assert_eq!(distance_squared(&a, &b).to_bits(), distance_squared_bytes(&a, &bytes[1..]).to_bits());
    }
}

#[test]
fn vectors_of_different_length_are_cut_to_the_shorter() {
    let (a, b) = (numbers(40, 1), numbers(70, 2));
    for kernels in available() {
        // SAFETY: only forms that this machine has.
        let (dot, cut) = unsafe { ((kernels.dot)(&a, floats(&b)), (kernels.dot)(&a, floats(&b[..40]))) };
        assert_eq!(dot.to_bits(), cut.to_bits());
    }
}

#[test]
fn hadamard_is_the_same_in_every_form_and_its_own_inverse() {
    for dimension in (0..=12).map(|power| 1 << power) {
        let vector = numbers(dimension, 5);
        let mut expected = vector.clone();
        scalar::hadamard(&mut expected);
        for kernels in available() {
            let mut got = vector.clone();
            // SAFETY: only forms that this machine has.
            unsafe { (kernels.hadamard)(&mut got) };
            assert_eq!(got, expected, "{} {dimension}", kernels.name);
        }
        hadamard(&mut expected);
        for (twice, once) in expected.iter().zip(&vector) {
            assert!((twice / dimension as f32 - once).abs() < 1e-5);
        }
    }
}

#[test]
fn int8_numbers_are_the_same_in_every_form_and_rounded() {
    for dimension in dimensions() {
        let vector: Vec<f32> = numbers(dimension, 11).iter().map(|number| number * 1e20).collect();
        let mut expected = vec![0; dimension];
        let scale = scalar::int8_numbers(&vector, &mut expected);
        for (number, byte) in vector.iter().zip(&expected) {
            assert!((number / scale - (f32::from(*byte) - 128.0)).abs() < 0.501);
        }
        for kernels in available() {
            let mut got = vec![0; dimension];
            // SAFETY: only forms that this machine has.
            let got_scale = unsafe { (kernels.int8_numbers)(&vector, &mut got) };
            assert_eq!((got_scale, &got), (scale, &expected), "{} {dimension}", kernels.name);
        }
    }
}

#[test]
fn int8_scores_are_the_same_in_every_form() {
    for dimension in dimensions() {
        let mut rows = Int8Rows::new(dimension);
        for row in 0..83 {
            rows.push_with(&numbers(dimension, row), row as f32);
        }
        let queries: Vec<Int8Query> =
            (0..11).map(|query| Int8Query::new(&numbers(dimension, 100 + query))).collect();
        let expected = scores(&scalar::KERNELS, &rows, &queries);
        for kernels in available() {
            assert_eq!(scores(kernels, &rows, &queries), expected, "{} {dimension}", kernels.name);
        }
    }
}

fn scores(kernels: &Kernels, rows: &Int8Rows, queries: &[Int8Query]) -> Vec<u32> {
    let mut out = vec![0.0; queries.len() * rows.padded_len()];
    rows.check(queries, &out);
    // SAFETY: only forms that this machine has; the lengths were checked.
    unsafe { (kernels.int8_scores)(rows, queries, &mut out) };
    out.into_iter().map(f32::to_bits).collect()
}

#[test]
fn extreme_int8_numbers_do_not_saturate() {
    let dimension = 3_072;
    let mut rows = Int8Rows::new(dimension);
    [1.0, -1.0].iter().for_each(|number| rows.push(&vec![*number; dimension]));
    let queries = [1.0, -1.0].map(|number| Int8Query::new(&vec![number; dimension]));
    for kernels in available() {
        let got: Vec<f32> = scores(kernels, &rows, &queries).into_iter().map(f32::from_bits).collect();
        for (got, expected) in [got[0], got[1], got[16], got[17]].iter().zip([1.0, -1.0, -1.0, 1.0]) {
            assert!((got / dimension as f32 - expected).abs() < 1e-5, "{}: {got}", kernels.name);
        }
    }
}

#[test]
fn residuals_are_the_same_in_every_form() {
    for dimension in (1..=48).map(|words| words * 64) {
        let (vector, centroid) = (numbers(dimension, 6), numbers(dimension, 7));
        let mut expected = vec![0.0; dimension];
        // SAFETY: the scalar form asks for nothing; the lengths are multiples of 64.
        let scalar = unsafe { (scalar::KERNELS.residual)(&vector, &centroid, &mut expected) };
        for kernels in available() {
            let mut out = vec![0.0; dimension];
            // SAFETY: only forms that this machine has; the lengths are multiples of 64.
            let got = unsafe { (kernels.residual)(&vector, &centroid, &mut out) };
            assert_eq!((&out, got.max), (&expected, scalar.max), "{} {dimension}", kernels.name);
            let magnitude = f64::from(scalar.norm_squared) * 10.0 * TOLERANCE;
            assert!(f64::from((got.norm_squared - scalar.norm_squared).abs()) <= magnitude);
            assert!(f64::from((got.dot - scalar.dot).abs()) <= magnitude);
        }
    }
}

#[test]
fn bits_and_estimates_are_the_same_in_every_form() {
    for words in 1..=48 {
        let residual = numbers(words * 64, 8);
        let (add, scale) = (numbers(24, 9), numbers(24, 10));
        let mut state = words as u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 31
        };
        let mut codes: Vec<u64> = (0..24 * words).map(|_| next()).collect();
        codes[..8].fill(u64::MAX);
        let run = |kernels: &Kernels| {
            let mut planes = vec![Planes::default(); words];
            let mut out = vec![0.0; 24];
            // SAFETY: only forms that this machine has; the lengths fit.
            unsafe {
                let sum = (kernels.quantize)(&residual, 7.0, &mut planes);
                let how = Scale { base: 0.3, step: 0.14, sum };
                (kernels.estimate)(&planes, how, Codes { bits: &codes, add: &add, scale: &scale }, &mut out);
                (planes, sum, out.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            }
        };
        let expected = run(&scalar::KERNELS);
        for kernels in available() {
            assert_eq!(run(kernels), expected, "{} {words}", kernels.name);
        }
    }
}

#[test]
fn fine_products_are_the_same_in_every_form() {
    for dimension in (1..=24).map(|words| words * 64) {
        let query = numbers(dimension, 8);
        let code: Vec<u8> = (0..dimension / 2).map(|at| (at * 37 + at / 16) as u8).collect();
        let level = |at: usize| {
            let byte = code[at / 32 * 16 + at % 16];
            f64::from(if at % 32 < 16 { byte & 15 } else { byte >> 4 }) - 7.5
        };
        let expected: f64 = query.iter().enumerate().map(|(at, number)| f64::from(*number) * level(at)).sum();
        for kernels in available() {
            // SAFETY: only forms that this machine has; the lengths fit.
            let found = unsafe { (kernels.fine_product)(&query, &code) };
            let name = kernels.name;
            assert!(
                (f64::from(found) - expected).abs() < 8.0 * dimension as f64 * TOLERANCE,
                "{name} {dimension}"
            );
            assert_eq!(found.to_bits(), fine_product(&query, &code).to_bits(), "{name} {dimension}");
        }
    }
}

#[test]
fn numbers_that_are_none_do_no_harm() {
    let strange: Vec<f32> =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, -0.0, 1.0].repeat(8);
    let run = |kernels: &Kernels| {
        let mut planes = vec![Planes::default(); 1];
        // SAFETY: only forms that this machine has; 64 numbers make one of the planes.
        let sum = unsafe { (kernels.quantize)(&strange, 1e30, &mut planes) };
        (planes, sum)
    };
    let expected = run(&scalar::KERNELS);
    for kernels in available() {
        assert_eq!(run(kernels), expected, "{}", kernels.name);
    }
    let mut rows = Int8Rows::new(64);
    rows.push(&strange);
    rows.push(&[f32::MAX; 64]);
    rows.push(&[1e-45; 64]);
    let mut out = Vec::new();
    rows.scores(&Int8Query::new(&[1e-40; 64]), &mut out);
    assert_eq!((rows.len(), out.len()), (3, 3));
    assert!(out[1..].iter().all(|score| score.is_finite()));
}

#[test]
fn int8_products_have_the_error_that_is_told() {
    let dimension = 384;
    let mut rows = Int8Rows::new(dimension);
    let vectors: Vec<Vec<f32>> = (0..50).map(|row| numbers(dimension, row)).collect();
    vectors.iter().for_each(|vector| rows.push(vector));
    let query = numbers(dimension, 99);
    let mut out = Vec::new();
    rows.scores(&Int8Query::new(&query), &mut out);
    let expected = rows.standard_error(&Int8Query::new(&query));
    let errors: Vec<f32> =
        vectors.iter().zip(out).map(|(vector, score)| dot(vector, &query) - score).collect();
    let deviation = (errors.iter().map(|error| error * error).sum::<f32>() / 50.0).sqrt();
    assert!((0.5..1.5).contains(&(deviation / expected)), "{deviation} instead of {expected}");
    assert!(expected < 0.005 * f64::hypot(norm(&query), norm(&vectors[0])) as f32);
}
