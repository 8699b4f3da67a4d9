//! How a blob is stored: as it is, or compressed where that is shorter by a sixteenth: what is hardly shorter only takes longer to read. A blob that is
//! shorter in its file is compressed.

use lz4_flex::block;

/// Shorter blobs are not worth it.
const COMPRESS_MIN: usize = 64;
/// Of a longer blob a sample is compressed first: most that are so long are compressed already.
const SAMPLE_MIN: usize = 16 << 10;
const SAMPLE_LEN: usize = 8 << 10;
/// No LZ4 block holds more than so many times its length.
const EXPANSION_MAX: usize = 255;

/// Appends `bytes`, compressed, to `out`; or nothing, when that is not worth it.
pub(super) fn pack_shorter(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    if bytes.len() < COMPRESS_MIN || !is_sample_shorter(bytes) {
        return false;
    }
    let start = out.len();
    out.resize(start + block::get_maximum_output_size(bytes.len()), 0);
    let packed = out.get_mut(start..).map_or(Ok(usize::MAX), |space| block::compress_into(bytes, space));
    let shorter = packed.ok().filter(|len| is_worth_it(*len, bytes.len()));
    out.truncate(start + shorter.unwrap_or(0));
    shorter.is_some()
}

fn is_worth_it(packed: usize, len: usize) -> bool {
    packed < len - len / 16
}

fn is_sample_shorter(bytes: &[u8]) -> bool {
    if bytes.len() < SAMPLE_MIN {
        return true;
    }
    let middle = bytes.len() / 2;
    let sample = bytes.get(middle..middle + SAMPLE_LEN).unwrap_or_default();
    is_worth_it(block::compress(sample).len(), SAMPLE_LEN)
}

/// The blob of length `len`; None when this is not its stored form. What it would take in memory is checked before it is taken.
pub(super) fn unpack(stored: Vec<u8>, len: u32) -> Option<Vec<u8>> {
    let len = len as usize;
    if stored.len() >= len {
        return (stored.len() == len).then_some(stored);
    }
    if len > stored.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut bytes = vec![0; len];
    block::decompress_into(&stored, &mut bytes).is_ok_and(|found| found == len).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if !pack_shorter(bytes, &mut out) {
            out.extend_from_slice(bytes);
        }
        out
    }

    #[test]
    fn every_blob_comes_back_and_none_grows() {
        let mut random = crate::common::Random::new(1);
        for len in [0, 1, 63, 64, 5000, 64 << 10, 300 << 10] {
            for bytes in [vec![b'x'; len], random.bytes(len)] {
                let stored = pack(&bytes);
                assert!(stored.len() <= bytes.len(), "{len}");
                assert_eq!(unpack(stored, len as u32), Some(bytes), "{len}");
            }
        }
        assert!(pack(&vec![b'x'; 5000]).len() < 100);
    }

    #[test]
    fn what_is_hardly_shorter_is_stored_as_it_is() {
        let mut bytes = crate::common::Random::new(2).bytes(8 << 10);
        bytes[..300].fill(0);
        assert_eq!(pack(&bytes).len(), bytes.len());
        bytes[..1000].fill(0);
        assert!(pack(&bytes).len() < bytes.len());
    }

    #[test]
    fn a_length_that_damage_made_large_is_refused_before_it_is_allocated() {
        let stored = pack(&vec![b'x'; 5000]);
        assert_eq!(unpack(stored, u32::MAX), None);
    }

    #[test]
    fn whatever_is_not_stored_whole_is_refused() {
        let stored = pack(&vec![b'x'; 5000]);
        for len in 0..stored.len() {
            assert_eq!(unpack(stored[..len].to_vec(), 5000), None, "{len}");
        }
        assert_eq!(unpack(vec![1, 2, 3], 2), None);
    }
}
