//! The kernels with AVX2 and FMA: 8 floats, 32 bytes or 4 words at a time.

use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::*;

use super::int8::{Block, GROUP, Int8Query, Int8Rows};
use super::{Codes, Float, Kernels, Planes, Residual, Scale, scalar};

pub(super) static KERNELS: Kernels = Kernels {
    #[cfg(test)]
    name: "avx2",
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

pub(super) fn is_available() -> bool {
    has!("avx2") && has!("fma")
}

const LANES: usize = 8;

#[target_feature(enable = "avx2,fma")]
fn dot(a: &[f32], b: &[Float]) -> f32 {
    sum::<false>(a, b)
}

#[target_feature(enable = "avx2,fma")]
fn distance_squared(a: &[f32], b: &[Float]) -> f32 {
    sum::<true>(a, b)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum<const DISTANCE: bool>(a: &[f32], b: &[Float]) -> f32 {
    let len = a.len().min(b.len());
    let whole = len - len % LANES;
    let (a_start, b_start) = (a.as_ptr(), b.as_ptr().cast::<f32>());
    let mut sums = [_mm256_setzero_ps(); 4];
    let mut at = 0;
    while at < whole {
        // SAFETY: the 8 floats from here are below `len`, the length of the shorter slice; any address will do.
        let (x, y) = unsafe { (_mm256_loadu_ps(a_start.add(at)), _mm256_loadu_ps(b_start.add(at))) };
        // Four sums in turn, because an addition has to wait for the one before it.
        sums.rotate_left(1);
        sums[0] = add_term::<DISTANCE>(sums[0], x, y);
        at += LANES;
    }
    let rest = a[whole..len].iter().zip(&b[whole..len]).map(|(x, y)| {
        let y = f32::from_ne_bytes(*y);
        if DISTANCE { (x - y) * (x - y) } else { x * y }
    });
    let [s0, s1, s2, s3] = sums;
    add_lanes(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3))) + rest.sum::<f32>()
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_term<const DISTANCE: bool>(sum: __m256, x: __m256, y: __m256) -> __m256 {
    if DISTANCE {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, sum)
    } else {
        _mm256_fmadd_ps(x, y, sum)
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes(x: __m256) -> f32 {
    let mut lanes = [0f32; LANES];
    store(&mut lanes, x);
    lanes.iter().sum()
}

#[target_feature(enable = "avx2")]
fn hadamard(vector: &mut [f32]) {
    let (chunks, rest) = vector.as_chunks_mut::<LANES>();
    if !rest.is_empty() {
        return scalar::hadamard(vector);
    }
    for chunk in chunks.iter_mut() {
        let mut x = load(chunk);
        x = butterfly::<0b1010_1010>(x, _mm256_permute_ps::<0b10_11_00_01>(x));
        x = butterfly::<0b1100_1100>(x, _mm256_permute_ps::<0b01_00_11_10>(x));
        x = butterfly::<0b1111_0000>(x, _mm256_permute2f128_ps::<1>(x, x));
        store(chunk, x);
    }
    let mut half = 1;
    while half < chunks.len() {
        for block in chunks.chunks_exact_mut(half * 2) {
            let (low, high) = block.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                let (a, b) = (load(low), load(high));
                store(low, _mm256_add_ps(a, b));
                store(high, _mm256_sub_ps(a, b));
            }
        }
        half *= 2;
    }
}

/// Sums of each lane and its partner; in the lanes of `MASK`, partner less lane.
#[inline]
#[target_feature(enable = "avx2")]
fn butterfly<const MASK: i32>(x: __m256, partners: __m256) -> __m256 {
    _mm256_blend_ps::<MASK>(_mm256_add_ps(x, partners), _mm256_sub_ps(partners, x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[f32; LANES]) -> __m256 {
    // SAFETY: 8 floats can be read there.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [f32; LANES], x: __m256) {
    // SAFETY: 8 floats can be written there.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), x) }
}

#[target_feature(enable = "avx2")]
fn int8_numbers(vector: &[f32], out: &mut [u8]) -> f32 {
    scalar::int8_numbers(vector, out)
}

#[target_feature(enable = "avx2")]
fn int8_scores(rows: &Int8Rows, queries: &[Int8Query], out: &mut [f32]) {
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows.padded_len().max(GROUP))) {
        for (group, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let factors = &rows.factors[group];
            let products = int8_products(&query.numbers, rows.blocks(group));
            for (half, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                // SAFETY: a bias for each of 8 rows.
                let bias =
                    unsafe { _mm256_loadu_si256(factors.bias[half * LANES..][..LANES].as_ptr().cast()) };
                let products = _mm256_cvtepi32_ps(_mm256_add_epi32(products[half], bias));
                let scaled = _mm256_mul_ps(products, load(&factors.scale.as_chunks().0[half]));
                let scaled = _mm256_mul_ps(scaled, _mm256_set1_ps(query.scale));
                store(out, _mm256_add_ps(scaled, load(&factors.add.as_chunks().0[half])));
            }
        }
    }
}

/// Products with rows 0..8 and 8..16 of a group. Bytes are widened first: the instruction that multiplies them as they
/// are cuts sums off at 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn int8_products(query: &[[u8; 4]], blocks: &[Block]) -> [__m256i; 2] {
    let mut pairs = [_mm256_setzero_si256(); 4];
    for (numbers, block) in query.iter().zip(blocks) {
        let four = _mm_cvtepu8_epi16(_mm_cvtsi32_si128(i32::from_ne_bytes(*numbers)));
        let four = _mm256_broadcastq_epi64(four);
        for (sum, four_rows) in pairs.iter_mut().zip(block.0.as_chunks::<16>().0) {
            // SAFETY: 16 bytes can be read there.
            let four_rows = unsafe { _mm_loadu_si128(four_rows.as_ptr().cast()) };
            let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(four_rows), four);
            *sum = _mm256_add_epi32(*sum, products);
        }
    }
    let [p0, p1, p2, p3] = pairs;
    // The addition of neighbours takes halves in turn: 0, 1, 4, 5 of the rows, then 2, 3, 6, 7.
    [
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(p0, p1)),
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(p2, p3)),
    ]
}

#[target_feature(enable = "avx2,fma")]
fn residual(vector: &[f32], centroid: &[f32], out: &mut [f32]) -> Residual {
    let (mut dot, mut norm, mut max) = (_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps());
    let centroid = centroid.as_chunks().0;
    for ((x, c), out) in vector.as_chunks().0.iter().zip(centroid).zip(out.as_chunks_mut().0) {
        let (x, c) = (load(x), load(c));
        let difference = _mm256_sub_ps(x, c);
        store(out, difference);
        dot = _mm256_fmadd_ps(x, c, dot);
        norm = _mm256_fmadd_ps(difference, difference, norm);
        max = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0), difference), max);
    }
    let mut lanes = [0f32; LANES];
    store(&mut lanes, max);
    Residual {
        dot: add_lanes(dot),
        norm_squared: add_lanes(norm),
        max: lanes.into_iter().fold(0.0, f32::max),
    }
}

#[target_feature(enable = "avx2")]
fn quantize(numbers: &[f32], inverse_step: f32, planes: &mut [Planes]) -> i32 {
    let inverse_step = _mm256_set1_ps(inverse_step);
    let mut sum = _mm256_setzero_si256();
    for (numbers, planes) in numbers.as_chunks::<64>().0.iter().zip(planes) {
        *planes = Planes::default();
        for (part, numbers) in numbers.as_chunks().0.iter().enumerate() {
            // In the same steps as the scalar form, without a fused one.
            let shifted = _mm256_add_ps(_mm256_mul_ps(load(numbers), inverse_step), _mm256_set1_ps(8.5));
            let limited = _mm256_min_ps(_mm256_max_ps(shifted, _mm256_set1_ps(1.0)), _mm256_set1_ps(15.0));
            let rounded = _mm256_sub_epi32(_mm256_cvttps_epi32(limited), _mm256_set1_epi32(8));
            sum = _mm256_add_epi32(sum, rounded);
            // Bit 3 is moved to where signs are collected from, then those below it.
            let mut shifted = _mm256_slli_epi32::<28>(rounded);
            for word in planes.iter_mut().rev() {
                let bits = _mm256_movemask_ps(_mm256_castsi256_ps(shifted)) as u32;
                *word |= u64::from(bits) << (part * LANES);
                shifted = _mm256_slli_epi32::<1>(shifted);
            }
        }
    }
    let mut lanes = [0i32; LANES];
    // SAFETY: 8 integers can be written there.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
    lanes.iter().sum()
}

#[target_feature(enable = "avx2")]
fn estimate(query: &[Planes], how: Scale, codes: Codes<'_>, out: &mut [f32]) {
    let groups = codes.bits.chunks_exact(query.len() * 8).zip(codes.add.as_chunks().0);
    let groups = groups.zip(codes.scale.as_chunks().0).zip(out.as_chunks_mut().0);
    for (((bits, add), scale), out) in groups {
        let mut sums = [_mm256_setzero_si256(); 2];
        for (planes, words) in query.iter().zip(bits.as_chunks::<8>().0) {
            for (sum, words) in sums.iter_mut().zip(words.as_chunks::<4>().0) {
                // SAFETY: 4 words can be read there.
                let words = unsafe { _mm256_loadu_si256(words.as_ptr().cast()) };
                *sum = _mm256_add_epi64(*sum, weighted_count(planes, words));
            }
        }
        // The low halves of the 64-bit sums, which hold all of them.
        let halves = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
        let [low, high] = sums;
        let low = _mm256_permutevar8x32_epi32(low, halves);
        let high = _mm256_permutevar8x32_epi32(high, halves);
        let sum = _mm256_slli_epi32::<1>(_mm256_blend_epi32::<0b1111_0000>(low, high));
        let product = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32(how.sum)));
        let product = _mm256_mul_ps(_mm256_set1_ps(how.step), product);
        let added = _mm256_add_ps(_mm256_set1_ps(how.base), load(add));
        store(out, _mm256_add_ps(added, _mm256_mul_ps(load(scale), product)));
    }
}

/// Sum of the 4-bit numbers where a word has a 1, for each of 4 words.
#[inline]
#[target_feature(enable = "avx2")]
fn weighted_count(planes: &Planes, words: __m256i) -> __m256i {
    let [ones, twos, fours, eights] = [
        count_bytes(words, planes[0]),
        count_bytes(words, planes[1]),
        count_bytes(words, planes[2]),
        count_bytes(words, planes[3]),
    ];
    let double = |counts| _mm256_add_epi8(counts, counts);
    // At most 8 * 7 in a byte.
    let low = _mm256_add_epi8(ones, double(_mm256_add_epi8(twos, double(fours))));
    let high = double(double(double(eights)));
    let zero = _mm256_setzero_si256();
    _mm256_sub_epi64(_mm256_sad_epu8(low, zero), _mm256_sad_epu8(high, zero))
}

/// Ones in each byte that the plane has, too, by looking up both its halves.
#[inline]
#[target_feature(enable = "avx2")]
fn count_bytes(words: __m256i, plane: u64) -> __m256i {
    let words = _mm256_and_si256(words, _mm256_set1_epi64x(plane as i64));
    let counts = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let half = _mm256_set1_epi8(0x0f);
    let low = _mm256_shuffle_epi8(counts, _mm256_and_si256(words, half));
    let high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16::<4>(words), half));
    _mm256_add_epi8(low, high)
}

#[target_feature(enable = "avx2,fma")]
fn fine_product(query: &[f32], code: &[u8]) -> f32 {
    scalar::fine_product(query, code)
}
