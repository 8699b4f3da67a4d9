//! The kernels without SIMD: what the others must agree with.

use super::int8::{GROUP, Int8Query, Int8Rows};
use super::{Codes, FINE_MIDDLE, Float, Kernels, Planes, Residual, Scale};

pub(super) static KERNELS: Kernels = Kernels {
    #[cfg(test)]
    name: "scalar",
    dot,
    distance_squared,
    hadamard,
    int8_numbers,
    int8_scores,
    residual,
    quantize,
    estimate,
    fine_product,
};

/// Independent sums, so that the compiler can add several at once.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[Float]) -> f32 {
    sum(a, b, |x, y| x * y)
}

fn distance_squared(a: &[f32], b: &[Float]) -> f32 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

fn sum(a: &[f32], b: &[Float], term: impl Fn(f32, f32) -> f32) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], f32::from_ne_bytes(y[lane]));
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| term(*x, f32::from_ne_bytes(*y))).sum();
    sums.iter().sum::<f32>() + rest
}

pub(super) fn hadamard(vector: &mut [f32]) {
    let mut half = 1;
    while half < vector.len() {
        for block in vector.chunks_exact_mut(half * 2) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Inlined into the other forms, where the compiler makes the most of what the processor has.
#[inline(always)]
pub(super) fn int8_numbers(vector: &[f32], out: &mut [u8]) -> f32 {
    // Magnitudes compare as their bits do, and integers are compared several at once.
    let magnitude = |number: &f32| number.to_bits() & (u32::MAX >> 1);
    let scale = f32::from_bits(vector.iter().map(magnitude).max().unwrap_or(0)) / 127.0;
    // Of a vector too small for a scale, every number counts as zero.
    let inverse = if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
    // Added to 1.5 * 2^23, a number lies in the lowest bits, rounded.
    let rounded = |number: &f32| (number * inverse + (12_582_912.0 + 128.0)).to_bits() as u8;
    out.iter_mut().zip(vector).for_each(|(to, number)| *to = rounded(number));
    scale
}

fn int8_scores(rows: &Int8Rows, queries: &[Int8Query], out: &mut [f32]) {
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows.padded_len().max(GROUP))) {
        for (group, out) in out.chunks_exact_mut(GROUP).enumerate() {
            let factors = &rows.factors[group];
            let mut products = factors.bias;
            for (numbers, block) in query.numbers.iter().zip(rows.blocks(group)) {
                for (product, row) in products.iter_mut().zip(block.0.as_chunks::<4>().0) {
                    for (x, y) in numbers.iter().zip(row) {
                        *product += i32::from(*x) * i32::from(*y);
                    }
                }
            }
            for row in 0..GROUP {
                out[row] = products[row] as f32 * factors.scale[row] * query.scale + factors.add[row];
            }
        }
    }
}

fn residual(vector: &[f32], centroid: &[f32], out: &mut [f32]) -> Residual {
    let (mut dot, mut norm_squared, mut max) = (0.0, 0.0, 0f32);
    for ((x, c), out) in vector.iter().zip(centroid).zip(out) {
        *out = x - c;
        dot += x * c;
        norm_squared += *out * *out;
        max = max.max(out.abs());
    }
    Residual { dot, norm_squared, max }
}

fn quantize(numbers: &[f32], inverse_step: f32, planes: &mut [Planes]) -> i32 {
    let mut sum = 0;
    for (numbers, planes) in numbers.as_chunks::<64>().0.iter().zip(planes) {
        *planes = Planes::default();
        for (bit, number) in numbers.iter().enumerate() {
            // The addition makes it positive, so that cutting off rounds to the nearest.
            let shifted = number * inverse_step + 8.5;
            let limited = if shifted >= 1.0 { shifted.min(15.0) } else { 1.0 };
            let rounded = limited as i32 - 8;
            sum += rounded;
            for (plane, word) in planes.iter_mut().enumerate() {
                *word |= u64::from(rounded as u32 >> plane & 1) << bit;
            }
        }
    }
    sum
}

fn estimate(query: &[Planes], how: Scale, codes: Codes<'_>, out: &mut [f32]) {
    for (group, bits) in codes.bits.chunks_exact(query.len() * 8).enumerate() {
        let mut sums = [0i32; 8];
        for (planes, words) in query.iter().zip(bits.as_chunks::<8>().0) {
            for (sum, word) in sums.iter_mut().zip(words) {
                let [ones, twos, fours, eights] = planes.map(|plane| (plane & word).count_ones() as i32);
                *sum += ones + 2 * twos + 4 * fours - 8 * eights;
            }
        }
        for (lane, sum) in sums.iter().enumerate() {
            let row = group * 8 + lane;
            out[row] =
                (how.base + codes.add[row]) + codes.scale[row] * (how.step * (2 * sum - how.sum) as f32);
        }
    }
}

/// Inlined into the other forms, where the compiler makes the most of what the processor has.
#[inline(always)]
pub(super) fn fine_product(query: &[f32], code: &[u8]) -> f32 {
    let mut sums = [0f32; LANES];
    for (numbers, code) in query.as_chunks::<{ 2 * LANES }>().0.iter().zip(code.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += numbers[lane] * (f32::from(code[lane] & 15) - FINE_MIDDLE);
        }
        for lane in 0..LANES {
            sums[lane] += numbers[LANES + lane] * (f32::from(code[lane] >> 4) - FINE_MIDDLE);
        }
    }
    sums.iter().sum()
}
