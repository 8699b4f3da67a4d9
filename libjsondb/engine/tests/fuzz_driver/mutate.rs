//! Inputs that are almost valid.

use crate::common::Random;

/// Inputs grow up to this.
const LEN_MAX: usize = 64 << 10;
/// Changes to one input: mostly one, so that the rest stays valid.
const CHANGES_MAX: u64 = 6;

/// Values where widths, signs and lengths turn over.
const BOUNDARIES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 53,
    1 << 60,
    i64::MAX as u64,
    u64::MAX - 7,
    u64::MAX,
];

/// One of `bases`, changed in some places.
pub fn mutate(random: &mut Random, bases: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pick(random, bases).to_vec();
    let changes = 1 + random.below(CHANGES_MAX).min(random.below(CHANGES_MAX));
    for _ in 0..changes {
        change(random, &mut input, bases);
    }
    input.truncate(LEN_MAX);
    input
}

fn pick<'a>(random: &mut Random, bases: &'a [Vec<u8>]) -> &'a [u8] {
    bases.get(below(random, bases.len())).map_or(&[], Vec::as_slice)
}

fn below(random: &mut Random, limit: usize) -> usize {
    random.below(limit.max(1) as u64) as usize
}

/// A stretch of the input, mostly a short one.
fn stretch(random: &mut Random, len: usize) -> std::ops::Range<usize> {
    let start = below(random, len);
    let longest = if random.one_in(4) { len } else { 16 };
    start..(start + 1 + below(random, longest)).min(len)
}

fn change(random: &mut Random, input: &mut Vec<u8>, bases: &[Vec<u8>]) {
    let (at, part) = (below(random, input.len()), stretch(random, input.len()));
    match random.below(10) {
        0 | 1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        2 | 3 if !input.is_empty() => input[at] = random.next() as u8,
        4 | 5 => overwrite(random, input, at),
        6 => drop(input.drain(part)),
        7 => {
            let copy = input[part].to_vec();
            input.splice(at..at, copy);
        }
        8 if random.one_in(2) => input.truncate(at),
        8 => {
            let other = pick(random, bases);
            let from = stretch(random, other.len());
            input.splice(part, other[from].iter().copied());
        }
        _ => input.insert(at, random.next() as u8),
    }
}

/// Writes a boundary value in one of its widths and byte orders, or a small step away from what is there.
fn overwrite(random: &mut Random, input: &mut [u8], at: usize) {
    let width = 1 << random.below(4);
    let Some(place) = input.get_mut(at..at + width) else { return };
    let mut bytes = BOUNDARIES[below(random, BOUNDARIES.len())].to_le_bytes();
    if random.one_in(3) {
        let mut before = [0; 8];
        before[..width].copy_from_slice(place);
        bytes = u64::from_le_bytes(before).wrapping_add(random.below(17)).wrapping_sub(8).to_le_bytes();
    }
    place.copy_from_slice(&bytes[..width]);
    if random.one_in(3) {
        place.reverse();
    }
}
