//! How a blob is stored: as it is, or compressed where that is shorter.
//!
//! The last byte of a stored blob says which. It stands at the end so that what was not compressed is read in place.

use lz4_flex::block;

use crate::bytes::{Put, Reader};
use crate::catalog::VALUE_MAX;

const RAW: u8 = 0;
/// An LZ4 block, then the length of what it holds (4).
const LZ4: u8 = 1;
const LZ4_TRAILER_LEN: usize = 5;

/// Shorter blobs are not worth it.
const COMPRESS_MIN: usize = 64;
/// Of a longer blob a sample is compressed first: most that are so long are compressed already.
const SAMPLE_MIN: usize = 64 << 10;
const SAMPLE_LEN: usize = 8 << 10;
/// No LZ4 block holds more than so many times its length.
const EXPANSION_MAX: usize = 255;

/// Appends the stored form of `bytes` to `out`. False: appends nothing, it is `bytes` and then [`raw_end`].
pub(super) fn pack_shorter(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    if bytes.len() < COMPRESS_MIN || !is_sample_shorter(bytes) {
        return false;
    }
    let start = out.len();
    out.resize(start + block::get_maximum_output_size(bytes.len()), 0);
    let packed = out.get_mut(start..).map_or(Ok(usize::MAX), |space| block::compress_into(bytes, space));
    match packed {
        Ok(len) if len + LZ4_TRAILER_LEN <= bytes.len() => {
            out.truncate(start + len);
            out.put_u32(bytes.len() as u32);
            out.put_u8(LZ4);
            true
        }
        _ => {
            out.truncate(start);
            false
        }
    }
}

/// What follows a blob that is stored as it is.
pub(super) const fn raw_end() -> [u8; 1] {
    [RAW]
}

fn is_sample_shorter(bytes: &[u8]) -> bool {
    if bytes.len() < SAMPLE_MIN {
        return true;
    }
    let middle = bytes.len() / 2;
    let sample = bytes.get(middle..middle + SAMPLE_LEN).unwrap_or_default();
    block::compress(sample).len() < SAMPLE_LEN - SAMPLE_LEN / 16
}

/// The blob; None for bytes that are no stored one. What it would take in memory is checked before it is taken.
pub(super) fn unpack(mut stored: Vec<u8>) -> Option<Vec<u8>> {
    match stored.pop()? {
        RAW => Some(stored),
        LZ4 => {
            let (packed, len) = stored.split_last_chunk::<4>()?;
            let len = Reader::new(len).u32()? as usize;
            if len > VALUE_MAX || len > packed.len().saturating_mul(EXPANSION_MAX) {
                return None;
            }
            let mut bytes = vec![0; len];
            block::decompress_into(packed, &mut bytes).is_ok_and(|found| found == len).then_some(bytes)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if !pack_shorter(bytes, &mut out) {
            out.extend_from_slice(bytes);
            out.extend_from_slice(&raw_end());
        }
        out
    }

    /// Bytes that no compressor makes shorter.
    fn noise(len: usize) -> Vec<u8> {
        let next = |seed: &mut u64| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((*seed >> 33) as u8)
        };
        std::iter::repeat(()).scan(7u64, |seed, ()| next(seed)).take(len).collect()
    }

    #[test]
    fn every_blob_comes_back_and_none_grows_by_more_than_a_byte() {
        for len in [0, 1, 63, 64, 5000, 64 << 10, 300 << 10] {
            for bytes in [vec![b'x'; len], noise(len)] {
                let stored = pack(&bytes);
                assert!(stored.len() <= bytes.len() + 1, "{len}");
                assert_eq!(unpack(stored).as_deref(), Some(bytes.as_slice()), "{len}");
            }
        }
        assert!(pack(&vec![b'x'; 5000]).len() < 100);
        assert_eq!(pack(&noise(5000)).len(), 5001);
    }

    #[test]
    fn a_length_that_damage_made_large_is_refused_before_it_is_allocated() {
        let mut stored = pack(&vec![b'x'; 5000]);
        let at = stored.len() - 2;
        stored[at] = 0xff;
        assert_eq!(unpack(stored), None);
    }

    #[test]
    fn whatever_is_no_stored_blob_is_refused() {
        let stored = pack(&vec![b'x'; 5000]);
        for len in 0..stored.len() {
            assert_ne!(unpack(stored[..len].to_vec()).map(|bytes| bytes.len()), Some(5000), "{len}");
        }
        assert_eq!(unpack(vec![1, 2, 3, 9]), None);
        assert_eq!(unpack(vec![LZ4]), None);
    }
}
