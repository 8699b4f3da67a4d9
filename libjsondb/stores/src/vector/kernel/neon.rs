//! The kernels with NEON: 4 floats, 16 bytes or 2 words at a time.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected as has;

use super::int8::{Block, GROUP, Int8Query, Int8Rows};
use super::{Codes, Float, Kernels, Planes, Residual, Scale, scalar};

pub(super) static KERNELS: Kernels = Kernels {
    #[cfg(test)]
    name: "neon",
    dot,
    distance_squared,
    hadamard,
    int8_numbers: scalar::int8_numbers,
    int8_scores,
    residual,
    quantize,
    estimate,
    fine_product: scalar::fine_product,
};

pub(super) fn is_available() -> bool {
    has!("neon")
}

const LANES: usize = 4;

#[target_feature(enable = "neon")]
fn dot(a: &[f32], b: &[Float]) -> f32 {
    sum::<false>(a, b)
}

#[target_feature(enable = "neon")]
fn distance_squared(a: &[f32], b: &[Float]) -> f32 {
    sum::<true>(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn sum<const DISTANCE: bool>(a: &[f32], b: &[Float]) -> f32 {
    let len = a.len().min(b.len());
    let whole = len - len % LANES;
    let (a_start, b_start) = (a.as_ptr(), b.as_ptr().cast::<u8>());
    let mut sums = [vdupq_n_f32(0.0); 4];
    let mut at = 0;
    while at < whole {
        // SAFETY: the 4 floats from here are below `len`, the length of the shorter slice; bytes have no alignment.
        let (x, y) =
            unsafe { (vld1q_f32(a_start.add(at)), vreinterpretq_f32_u8(vld1q_u8(b_start.add(at * 4)))) };
        // Four sums in turn, because an addition has to wait for the one before it.
        sums.rotate_left(1);
        sums[0] = if DISTANCE {
            let difference = vsubq_f32(x, y);
            vfmaq_f32(sums[0], difference, difference)
        } else {
            vfmaq_f32(sums[0], x, y)
        };
        at += LANES;
    }
    let rest = a[whole..len].iter().zip(&b[whole..len]).map(|(x, y)| {
        let y = f32::from_ne_bytes(*y);
        if DISTANCE { (x - y) * (x - y) } else { x * y }
    });
    let [s0, s1, s2, s3] = sums;
    vaddvq_f32(vaddq_f32(vaddq_f32(s0, s1), vaddq_f32(s2, s3))) + rest.sum::<f32>()
}

#[target_feature(enable = "neon")]
fn hadamard(vector: &mut [f32]) {
    let (chunks, rest) = vector.as_chunks_mut::<LANES>();
    if !rest.is_empty() {
        return scalar::hadamard(vector);
    }
    for chunk in chunks.iter_mut() {
        let mut x = load(chunk);
        x = butterfly(x, vrev64q_f32(x), [0, !0, 0, !0]);
        x = butterfly(x, vextq_f32::<2>(x, x), [0, 0, !0, !0]);
        store(chunk, x);
    }
    let mut half = 1;
    while half < chunks.len() {
        for block in chunks.chunks_exact_mut(half * 2) {
            let (low, high) = block.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                let (a, b) = (load(low), load(high));
                store(low, vaddq_f32(a, b));
                store(high, vsubq_f32(a, b));
            }
        }
        half *= 2;
    }
}

/// Sums of each lane and its partner; in the lanes of `mask`, partner less lane.
#[inline]
#[target_feature(enable = "neon")]
fn butterfly(x: float32x4_t, partners: float32x4_t, mask: [u32; LANES]) -> float32x4_t {
    // SAFETY: 4 integers can be read there.
    let mask = unsafe { vld1q_u32(mask.as_ptr()) };
    vbslq_f32(mask, vsubq_f32(partners, x), vaddq_f32(x, partners))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[f32; LANES]) -> float32x4_t {
    // SAFETY: 4 floats can be read there.
    unsafe { vld1q_f32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [f32; LANES], x: float32x4_t) {
    // SAFETY: 4 floats can be written there.
    unsafe { vst1q_f32(to.as_mut_ptr(), x) }
}

#[target_feature(enable = "neon")]
fn int8_scores(rows: &Int8Rows, queries: &[Int8Query], out: &mut [f32]) {
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows.padded_len().max(GROUP))) {
        for (group, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let factors = &rows.factors[group];
            let products = int8_products(&query.numbers, rows.blocks(group));
            for (quarter, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                let scaled =
                    vmulq_f32(vcvtq_f32_s32(products[quarter]), load(&factors.scale.as_chunks().0[quarter]));
                let scaled = vmulq_f32(scaled, vdupq_n_f32(query.scale));
                store(out, vaddq_f32(scaled, load(&factors.add.as_chunks().0[quarter])));
            }
        }
    }
}

/// Products with the 16 rows of a group, 4 at a time. Both sides are signed here, so that no bias is needed.
#[inline]
#[target_feature(enable = "neon")]
fn int8_products(query: &[[u8; 4]], blocks: &[Block]) -> [int32x4_t; 4] {
    let mut pairs = [vdupq_n_s32(0); 8];
    for (numbers, block) in query.iter().zip(blocks) {
        let signed = u32::from_ne_bytes(*numbers) ^ 0x8080_8080;
        let four_twice = vreinterpret_s8_u32(vdup_n_u32(signed));
        for (sum, two_rows) in pairs.iter_mut().zip(block.0.as_chunks::<8>().0) {
            // SAFETY: 8 bytes can be read there.
            let two_rows = unsafe { vld1_s8(two_rows.as_ptr()) };
            *sum = vpadalq_s16(*sum, vmull_s8(two_rows, four_twice));
        }
    }
    let [p0, p1, p2, p3, p4, p5, p6, p7] = pairs;
    [vpaddq_s32(p0, p1), vpaddq_s32(p2, p3), vpaddq_s32(p4, p5), vpaddq_s32(p6, p7)]
}

#[target_feature(enable = "neon")]
fn residual(vector: &[f32], centroid: &[f32], out: &mut [f32]) -> Residual {
    let (mut dot, mut norm, mut max) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0), vdupq_n_f32(0.0));
    let centroid = centroid.as_chunks().0;
    for ((x, c), out) in vector.as_chunks().0.iter().zip(centroid).zip(out.as_chunks_mut().0) {
        let (x, c) = (load(x), load(c));
        let difference = vsubq_f32(x, c);
        store(out, difference);
        dot = vfmaq_f32(dot, x, c);
        norm = vfmaq_f32(norm, difference, difference);
        max = vmaxnmq_f32(vabsq_f32(difference), max);
    }
    Residual { dot: vaddvq_f32(dot), norm_squared: vaddvq_f32(norm), max: vmaxnmvq_f32(max) }
}

#[target_feature(enable = "neon")]
fn quantize(numbers: &[f32], inverse_step: f32, planes: &mut [Planes]) -> i32 {
    let inverse_step = vdupq_n_f32(inverse_step);
    let places: [i32; LANES] = [0, 1, 2, 3];
    // SAFETY: 4 integers can be read there.
    let places = unsafe { vld1q_s32(places.as_ptr()) };
    let mut sum = vdupq_n_s32(0);
    for (numbers, planes) in numbers.as_chunks::<64>().0.iter().zip(planes) {
        *planes = Planes::default();
        for (part, numbers) in numbers.as_chunks().0.iter().enumerate() {
            // In the same steps as the scalar form, without a fused one.
            let shifted = vaddq_f32(vmulq_f32(load(numbers), inverse_step), vdupq_n_f32(8.5));
            let limited = vminnmq_f32(vmaxnmq_f32(shifted, vdupq_n_f32(1.0)), vdupq_n_f32(15.0));
            let rounded = vsubq_s32(vcvtq_s32_f32(limited), vdupq_n_s32(8));
            sum = vaddq_s32(sum, rounded);
            let mut bits = vreinterpretq_u32_s32(rounded);
            for word in planes.iter_mut() {
                let lowest = vandq_u32(bits, vdupq_n_u32(1));
                *word |= u64::from(vaddvq_u32(vshlq_u32(lowest, places))) << (part * LANES);
                bits = vshrq_n_u32::<1>(bits);
            }
        }
    }
    vaddvq_s32(sum)
}

#[target_feature(enable = "neon")]
fn estimate(query: &[Planes], how: Scale, codes: Codes<'_>, out: &mut [f32]) {
    let groups = codes.bits.chunks_exact(query.len() * 8).zip(codes.add.as_chunks::<8>().0);
    let groups = groups.zip(codes.scale.as_chunks::<8>().0).zip(out.as_chunks_mut::<8>().0);
    for (((bits, add), scale), out) in groups {
        let mut sums = [vdupq_n_s64(0); 4];
        for (planes, words) in query.iter().zip(bits.as_chunks::<8>().0) {
            for (sum, words) in sums.iter_mut().zip(words.as_chunks::<2>().0) {
                // SAFETY: 2 words can be read there.
                let words = unsafe { vld1q_u64(words.as_ptr()) };
                *sum = vaddq_s64(*sum, weighted_count(planes, words));
            }
        }
        let parts = add.as_chunks().0.iter().zip(scale.as_chunks().0).zip(out.as_chunks_mut().0);
        for (((add, scale), out), sums) in parts.zip(sums.as_chunks::<2>().0) {
            let sum = vcombine_s32(vmovn_s64(sums[0]), vmovn_s64(sums[1]));
            let product = vcvtq_f32_s32(vsubq_s32(vshlq_n_s32::<1>(sum), vdupq_n_s32(how.sum)));
            let product = vmulq_f32(vdupq_n_f32(how.step), product);
            let added = vaddq_f32(vdupq_n_f32(how.base), load(add));
            store(out, vaddq_f32(added, vmulq_f32(load(scale), product)));
        }
    }
}

/// Sum of the 4-bit numbers where a word has a 1, for each of 2 words.
#[inline]
#[target_feature(enable = "neon")]
fn weighted_count(planes: &Planes, words: uint64x2_t) -> int64x2_t {
    let [ones, twos, fours, eights] = [
        count_bytes(words, planes[0]),
        count_bytes(words, planes[1]),
        count_bytes(words, planes[2]),
        count_bytes(words, planes[3]),
    ];
    // At most 8 * 7 in a byte.
    let low = vaddq_u8(ones, vaddq_u8(vshlq_n_u8::<1>(twos), vshlq_n_u8::<2>(fours)));
    let high = vshlq_n_u8::<3>(eights);
    let total = |bytes| vreinterpretq_s64_u64(vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes))));
    vsubq_s64(total(low), total(high))
}

/// Ones in each byte that the plane has, too.
#[inline]
#[target_feature(enable = "neon")]
fn count_bytes(words: uint64x2_t, plane: u64) -> uint8x16_t {
    vcntq_u8(vreinterpretq_u8_u64(vandq_u64(words, vdupq_n_u64(plane))))
}
