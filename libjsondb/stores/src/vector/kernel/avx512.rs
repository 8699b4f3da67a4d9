//! The kernels with AVX-512: 16 floats, 64 bytes or 8 words at a time.

use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::*;

use super::int8::{Block, Factors, GROUP, Int8Query, Int8Rows};
use super::{Codes, Float, Kernels, Planes, Residual, Scale, scalar};

pub(super) static KERNELS: Kernels = Kernels {
    #[cfg(test)]
    name: "avx512",
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

/// Ice Lake, Zen 4 and later. What came before, or has a part of it, does as well with AVX2.
pub(super) fn is_available() -> bool {
    has!("avx512f")
        && has!("avx512bw")
        && has!("avx512dq")
        && has!("avx512vl")
        && has!("avx512vnni")
        && has!("avx512vpopcntdq")
}

const LANES: usize = 16;

#[target_feature(enable = "avx512f")]
fn dot(a: &[f32], b: &[Float]) -> f32 {
    sum::<false>(a, b)
}

#[target_feature(enable = "avx512f")]
fn distance_squared(a: &[f32], b: &[Float]) -> f32 {
    sum::<true>(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sum<const DISTANCE: bool>(a: &[f32], b: &[Float]) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (a.as_ptr(), b.as_ptr().cast::<f32>());
    let mut sums = [_mm512_setzero_ps(); 4];
    let mut at = 0;
    while at + 4 * LANES <= len {
        for (part, sum) in sums.iter_mut().enumerate() {
            let from = at + part * LANES;
            // SAFETY: the 16 floats from here are below `len`, the length of the shorter slice; any address will do.
            let (x, y) = unsafe { (_mm512_loadu_ps(a.add(from)), _mm512_loadu_ps(b.add(from))) };
            *sum = add_term::<DISTANCE>(*sum, x, y);
        }
        at += 4 * LANES;
    }
    while at < len {
        let mask = u16::MAX >> (LANES - (len - at).min(LANES));
        // SAFETY: the mask leaves out what is not below `len`, and what is left out is not read.
        let (x, y) =
            unsafe { (_mm512_maskz_loadu_ps(mask, a.add(at)), _mm512_maskz_loadu_ps(mask, b.add(at))) };
        sums[0] = add_term::<DISTANCE>(sums[0], x, y);
        at += LANES;
    }
    let [s0, s1, s2, s3] = sums;
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_term<const DISTANCE: bool>(sum: __m512, x: __m512, y: __m512) -> __m512 {
    if DISTANCE {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, sum)
    } else {
        _mm512_fmadd_ps(x, y, sum)
    }
}

#[target_feature(enable = "avx512f")]
fn hadamard(vector: &mut [f32]) {
    let (chunks, rest) = vector.as_chunks_mut::<LANES>();
    if !rest.is_empty() {
        return scalar::hadamard(vector);
    }
    for chunk in chunks.iter_mut() {
        let mut x = load(chunk);
        x = butterfly(x, _mm512_permute_ps::<0b10_11_00_01>(x), 0xaaaa);
        x = butterfly(x, _mm512_permute_ps::<0b01_00_11_10>(x), 0xcccc);
        x = butterfly(x, _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x), 0xf0f0);
        x = butterfly(x, _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x), 0xff00);
        store(chunk, x);
    }
    let mut half = 1;
    while half < chunks.len() {
        for block in chunks.chunks_exact_mut(half * 2) {
            let (low, high) = block.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                let (a, b) = (load(low), load(high));
                store(low, _mm512_add_ps(a, b));
                store(high, _mm512_sub_ps(a, b));
            }
        }
        half *= 2;
    }
}

/// Sums of each lane and its partner; in the lanes of `mask`, partner less lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn butterfly(x: __m512, partners: __m512, mask: __mmask16) -> __m512 {
    _mm512_mask_sub_ps(_mm512_add_ps(x, partners), mask, partners, x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 floats can be read there.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [f32; LANES], x: __m512) {
    // SAFETY: 16 floats can be written there.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn int8_numbers(vector: &[f32], out: &mut [u8]) -> f32 {
    scalar::int8_numbers(vector, out)
}

/// Queries and groups that one pass holds in registers.
const QUERIES_TOGETHER: usize = 8;
const GROUPS_TOGETHER: usize = 8;

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_scores(rows: &Int8Rows, queries: &[Int8Query], out: &mut [f32]) {
    let (many, few) = queries.as_chunks::<QUERIES_TOGETHER>();
    let (out_many, out_few) = out.split_at_mut(many.len() * QUERIES_TOGETHER * rows.padded_len());
    let groups = rows.factors.len();
    if groups == 0 {
        return;
    }
    for (queries, out) in many.iter().zip(out_many.chunks_exact_mut(QUERIES_TOGETHER * rows.padded_len())) {
        for group in 0..groups {
            int8_tile::<QUERIES_TOGETHER, 1>(queries, rows, group, out);
        }
    }
    for (query, out) in few.as_chunks::<1>().0.iter().zip(out_few.chunks_exact_mut(rows.padded_len())) {
        let mut group = 0;
        while group + GROUPS_TOGETHER <= groups {
            int8_tile::<1, GROUPS_TOGETHER>(query, rows, group, out);
            group += GROUPS_TOGETHER;
        }
        for group in group..groups {
            int8_tile::<1, 1>(query, rows, group, out);
        }
    }
}

/// Scores of `G` groups of rows from `first` on for each of `Q` queries.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_tile<const Q: usize, const G: usize>(
    queries: &[Int8Query; Q],
    rows: &Int8Rows,
    first: usize,
    out: &mut [f32],
) {
    let blocks: [&[Block]; G] = std::array::from_fn(|group| rows.blocks(first + group));
    let factors: [&Factors; G] = std::array::from_fn(|group| &rows.factors[first + group]);
    let numbers = queries.each_ref().map(|query| query.numbers.as_slice());
    let mut products = [[_mm512_setzero_si512(); G]; Q];
    for at in 0..blocks[0].len() {
        // No closure: what takes one is not compiled for this processor, and calls it for every block.
        let mut loaded = [_mm512_setzero_si512(); G];
        for (loaded, blocks) in loaded.iter_mut().zip(blocks) {
            // SAFETY: blocks are 64 bytes; `Int8Rows::check` saw that all have as many of them as a query has numbers.
            *loaded = unsafe { _mm512_load_si512(blocks.as_ptr().add(at).cast()) };
        }
        for (query, products) in products.iter_mut().enumerate() {
            // SAFETY: as above.
            let four = _mm512_set1_epi32(i32::from_ne_bytes(unsafe { *numbers[query].get_unchecked(at) }));
            for (product, block) in products.iter_mut().zip(loaded) {
                *product = _mm512_dpbusd_epi32(*product, four, block);
            }
        }
    }
    for (query, products) in products.iter().enumerate() {
        let out = &mut out[query * rows.padded_len() + first * GROUP..][..G * GROUP];
        for ((products, factors), out) in products.iter().zip(factors).zip(out.as_chunks_mut().0) {
            // SAFETY: a bias for each of 16 rows.
            let bias = unsafe { _mm512_load_si512(factors.bias.as_ptr().cast()) };
            let products = _mm512_cvtepi32_ps(_mm512_add_epi32(*products, bias));
            let scaled = _mm512_mul_ps(products, load(&factors.scale));
            let scaled = _mm512_mul_ps(scaled, _mm512_set1_ps(queries[query].scale));
            store(out, _mm512_add_ps(scaled, load(&factors.add)));
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn residual(vector: &[f32], centroid: &[f32], out: &mut [f32]) -> Residual {
    let (mut dot, mut norm, mut max) = (_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps());
    let centroid = centroid.as_chunks().0;
    for ((x, c), out) in vector.as_chunks().0.iter().zip(centroid).zip(out.as_chunks_mut().0) {
        let (x, c) = (load(x), load(c));
        let difference = _mm512_sub_ps(x, c);
        store(out, difference);
        dot = _mm512_fmadd_ps(x, c, dot);
        norm = _mm512_fmadd_ps(difference, difference, norm);
        max = _mm512_max_ps(_mm512_abs_ps(difference), max);
    }
    Residual {
        dot: _mm512_reduce_add_ps(dot),
        norm_squared: _mm512_reduce_add_ps(norm),
        max: _mm512_reduce_max_ps(max),
    }
}

#[target_feature(enable = "avx512f")]
fn quantize(numbers: &[f32], inverse_step: f32, planes: &mut [Planes]) -> i32 {
    let inverse_step = _mm512_set1_ps(inverse_step);
    let mut sum = _mm512_setzero_si512();
    for (numbers, planes) in numbers.as_chunks::<64>().0.iter().zip(planes) {
        *planes = Planes::default();
        for (part, numbers) in numbers.as_chunks().0.iter().enumerate() {
            // In the same steps as the scalar form, without a fused one.
            let shifted = _mm512_add_ps(_mm512_mul_ps(load(numbers), inverse_step), _mm512_set1_ps(8.5));
            let limited = _mm512_min_ps(_mm512_max_ps(shifted, _mm512_set1_ps(1.0)), _mm512_set1_ps(15.0));
            let rounded = _mm512_sub_epi32(_mm512_cvttps_epi32(limited), _mm512_set1_epi32(8));
            sum = _mm512_add_epi32(sum, rounded);
            for (plane, word) in planes.iter_mut().enumerate() {
                let bits = _mm512_test_epi32_mask(rounded, _mm512_set1_epi32(1 << plane));
                *word |= u64::from(bits) << (part * LANES);
            }
        }
    }
    _mm512_reduce_add_epi32(sum)
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512vpopcntdq,avx")]
fn estimate(query: &[Planes], how: Scale, codes: Codes<'_>, out: &mut [f32]) {
    let (base, step) = (_mm256_set1_ps(how.base), _mm256_set1_ps(how.step));
    let query_sum = _mm512_set1_epi64(how.sum.into());
    let groups = codes.bits.chunks_exact(query.len() * 8).zip(codes.add.as_chunks::<8>().0);
    let groups = groups.zip(codes.scale.as_chunks::<8>().0).zip(out.as_chunks_mut::<8>().0);
    for (((bits, add), scale), out) in groups {
        let mut counts = [_mm512_setzero_si512(); 4];
        for (planes, words) in query.iter().zip(bits.as_chunks::<8>().0) {
            // SAFETY: 8 words can be read there.
            let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
            for (count, plane) in counts.iter_mut().zip(planes) {
                let ones = _mm512_and_si512(words, _mm512_set1_epi64(*plane as i64));
                *count = _mm512_add_epi64(*count, _mm512_popcnt_epi64(ones));
            }
        }
        let [ones, twos, fours, eights] = counts;
        let low = _mm512_add_epi64(ones, _mm512_slli_epi64::<1>(twos));
        let high = _mm512_sub_epi64(fours, _mm512_slli_epi64::<1>(eights));
        let sum = _mm512_add_epi64(low, _mm512_slli_epi64::<2>(high));
        let sum = _mm512_sub_epi64(_mm512_slli_epi64::<1>(sum), query_sum);
        let product = _mm256_mul_ps(step, _mm512_cvtepi64_ps(sum));
        // SAFETY: 8 floats can be read from each.
        let (add, scale) = unsafe { (_mm256_loadu_ps(add.as_ptr()), _mm256_loadu_ps(scale.as_ptr())) };
        let score = _mm256_add_ps(_mm256_add_ps(base, add), _mm256_mul_ps(scale, product));
        // SAFETY: 8 floats can be written there.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), score) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn fine_product(query: &[f32], code: &[u8]) -> f32 {
    scalar::fine_product(query, code)
}
