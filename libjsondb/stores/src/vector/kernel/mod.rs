//! Arithmetic on vectors, in the widest form this processor has.
//!
//! Each form fills one table of functions; the table is chosen once, when it is first needed. The scalar form says what
//! the others compute: bits and integers are equal to the last one, sums of floats differ in their rounding.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod int8;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod norm;
mod scalar;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

pub(super) use int8::{Int8Query, Int8Rows};
pub(super) use matrix::{Matrix, decode, encode};
#[cfg(test)]
pub(super) use norm::unit;
pub(super) use norm::{cosine, make_unit, norm};

/// The bytes of an f32 at any address, in the order of this processor.
type Float = [u8; 4];

/// 64 numbers of 4 bits, in two's complement: bit i of plane p is bit p of number i.
pub(super) type Planes = [u64; 4];

/// What [`residual`] finds beside the residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Residual {
    /// Product of vector and centroid.
    pub(super) dot: f32,
    /// Squared length of the residual.
    pub(super) norm_squared: f32,
    /// Largest magnitude in the residual.
    pub(super) max: f32,
}

/// How [`estimate`] turns sums of bits into scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Added to every score.
    pub(super) base: f32,
    /// What 1 of the 4-bit numbers stands for.
    pub(super) step: f32,
    /// Sum of the 4-bit numbers.
    pub(super) sum: i32,
}

/// Rows as [`estimate`] reads them, a multiple of 8.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codes<'a> {
    /// In groups of 8 rows: word w of the 8 side by side, then word w + 1.
    pub(super) bits: &'a [u64],
    pub(super) add: &'a [f32],
    pub(super) scale: &'a [f32],
}

/// One form of each function. They are unsafe to call because the processor must have what their module asks for.
struct Kernels {
    #[cfg(test)]
    name: &'static str,
    dot: unsafe fn(&[f32], &[Float]) -> f32,
    distance_squared: unsafe fn(&[f32], &[Float]) -> f32,
    hadamard: unsafe fn(&mut [f32]),
    int8_numbers: unsafe fn(&[f32], &mut [u8]) -> f32,
    int8_scores: unsafe fn(&Int8Rows, &[Int8Query], &mut [f32]),
    residual: unsafe fn(&[f32], &[f32], &mut [f32]) -> Residual,
    quantize: unsafe fn(&[f32], f32, &mut [Planes]) -> i32,
    estimate: unsafe fn(&[Planes], Scale, Codes<'_>, &mut [f32]),
    fine_product: unsafe fn(&[f32], &[u8]) -> f32,
}

fn kernels() -> &'static Kernels {
    static CHOSEN: OnceLock<&Kernels> = OnceLock::new();
    CHOSEN.get_or_init(|| available().next().unwrap_or(&scalar::KERNELS))
}

/// The forms that this processor has, the widest first.
fn available() -> impl Iterator<Item = &'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    let vector = [
        (avx512::is_available as fn() -> bool, &avx512::KERNELS),
        (avx2::is_available as fn() -> bool, &avx2::KERNELS),
    ];
    #[cfg(target_arch = "aarch64")]
    let vector = [(neon::is_available as fn() -> bool, &neon::KERNELS)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let vector: [(fn() -> bool, &Kernels); 0] = [];
    vector
        .into_iter()
        .filter(|(is_available, _)| is_available())
        .map(|(_, kernels)| kernels)
        .chain([&scalar::KERNELS])
}

/// Sum of products. Both sides have the same length.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: the table holds only what this processor has.
    unsafe { (kernels().dot)(a, floats(b)) }
}

/// Squared Euclidean distance. Both sides have the same length.
pub(super) fn distance_squared(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: the table holds only what this processor has.
    unsafe { (kernels().distance_squared)(a, floats(b)) }
}

/// [`dot`] with a vector as it is stored: f32, little endian, at any address.
pub(super) fn dot_bytes(a: &[f32], b: &[u8]) -> f32 {
    if cfg!(target_endian = "big") {
        return dot(a, &decode(b).unwrap_or_default());
    }
    // SAFETY: the table holds only what this processor has.
    unsafe { (kernels().dot)(a, b.as_chunks().0) }
}

/// [`distance_squared`] to a vector as it is stored: f32, little endian, at any address.
pub(super) fn distance_squared_bytes(a: &[f32], b: &[u8]) -> f32 {
    if cfg!(target_endian = "big") {
        return distance_squared(a, &decode(b).unwrap_or_default());
    }
    // SAFETY: the table holds only what this processor has.
    unsafe { (kernels().distance_squared)(a, b.as_chunks().0) }
}

/// The Hadamard transform in place, not scaled: lengths grow by the root of the dimension, which is a power of two.
pub(super) fn hadamard(vector: &mut [f32]) {
    assert!(vector.len().is_power_of_two(), "the Hadamard transform takes a power of two");
    // SAFETY: the table holds only what this processor has.
    unsafe { (kernels().hadamard)(vector) }
}

/// `out` = `vector` - `centroid`; all have the same length, a multiple of 64.
pub(super) fn residual(vector: &[f32], centroid: &[f32], out: &mut [f32]) -> Residual {
    assert!(vector.len().is_multiple_of(64) && vector.len() == centroid.len() && vector.len() == out.len());
    // SAFETY: the table holds only what this processor has; the lengths were just checked.
    unsafe { (kernels().residual)(vector, centroid, out) }
}

/// Rounds the numbers times `inverse_step`, which gives -7 to 7, to 4 bits; 64 of them make one of `planes`. Gives
/// their sum.
pub(super) fn quantize(numbers: &[f32], inverse_step: f32, planes: &mut [Planes]) -> i32 {
    assert_eq!(numbers.len(), planes.len() * 64);
    // SAFETY: the table holds only what this processor has; the lengths were just checked.
    unsafe { (kernels().quantize)(numbers, inverse_step, planes) }
}

/// Scores of rows known by their signs: base + add + scale * step * (2 * sum of the query's numbers where the code has
/// a 1 - sum of all).
pub(super) fn estimate(query: &[Planes], how: Scale, codes: Codes<'_>, out: &mut [f32]) {
    let rows = out.len();
    assert!(rows.is_multiple_of(8) && codes.add.len() == rows && codes.scale.len() == rows);
    assert_eq!(codes.bits.len(), rows * query.len());
    // SAFETY: the table holds only what this processor has; the lengths were just checked.
    unsafe { (kernels().estimate)(query, how, codes, out) }
}

/// What is taken from a number of 4 bits: so they lie about zero.
pub(super) const FINE_MIDDLE: f32 = 7.5;

/// Product of a query with a code of 4 bits per number: of 32 numbers, the first 16 are the low halves of 16 bytes.
pub(super) fn fine_product(query: &[f32], code: &[u8]) -> f32 {
    assert!(query.len().is_multiple_of(32) && code.len() * 2 == query.len());
    // SAFETY: the table holds only what this processor has; the lengths were just checked.
    unsafe { (kernels().fine_product)(query, code) }
}

/// Writes the numbers divided by their scale, which gives -127 to 127, plus 128. Gives the scale.
fn int8_numbers(vector: &[f32], out: &mut [u8]) -> f32 {
    // SAFETY: the table holds only what this processor has.
    unsafe { (kernels().int8_numbers)(vector, out) }
}

/// Scores of all `rows` for each query, one after the other, each filled up to a multiple of 16.
fn int8_scores(rows: &Int8Rows, queries: &[Int8Query], out: &mut [f32]) {
    rows.check(queries, out);
    // SAFETY: the table holds only what this processor has; the lengths were just checked.
    unsafe { (kernels().int8_scores)(rows, queries, out) }
}

/// Asks for memory that is read soon, without waiting for it: what lies anywhere takes longer to come than to work on.
pub(super) fn prefetch<T>(data: &[T]) {
    prefetch_bytes(data.as_ptr().cast(), size_of_val(data));
}

/// As [`prefetch`], for a value that may not be there: nothing is read.
pub(super) fn prefetch_at<T>(value: *const T) {
    prefetch_bytes(value.cast(), size_of::<T>());
}

fn prefetch_bytes(start: *const i8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..len).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every such processor has it; it reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len);
}

fn floats(numbers: &[f32]) -> &[Float] {
    // SAFETY: four bytes each, readable as bytes at any alignment, for as long as `numbers` is.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len()) }
}
