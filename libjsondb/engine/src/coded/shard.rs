//! The file of a shard: a header that says whose it is, units with a checksum each, a trailer that says how long the segment is.
//!
//! A unit's checksum begins with its place, so a unit that lies in the place of another one is noticed; so does the trailer's.

use super::layout::Layout;
use crate::bytes::{Put, Reader};
use crate::planted::{Bug, is_planted};
use crate::segment::SegmentId;

const HEADER_MAGIC: &[u8; 8] = b"SOPSHARD";
const TRAILER_MAGIC: &[u8; 8] = b"SOPSHEND";
const VERSION: u32 = 2;
/// magic 8, version 4, segment 16, index 1, data 1, parity 1, 0 1, unit 4, CRC 4.
pub(crate) const HEADER_LEN: u64 = 40;
/// magic 8, length of the segment 8, CRC 4.
pub(crate) const TRAILER_LEN: u64 = 20;
/// No segment is as long: they are closed once they hold 64 MiB, with a value of up to 1 GiB behind.
const SEGMENT_LEN_MAX: u64 = 1 << 32;
/// Behind each unit.
pub(crate) const UNIT_CRC_LEN: u64 = 4;

/// Which shard it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ShardName {
    pub(crate) segment: SegmentId,
    pub(crate) index: usize,
}

impl ShardName {
    pub(crate) fn file_name(&self) -> String {
        format!("{}.{}", self.segment, self.index)
    }

    /// The name in `<segment>.<index>`.
    pub(crate) fn from_file_name(name: &str) -> Option<ShardName> {
        let (segment, index) = name.split_once('.')?;
        let name = ShardName { segment: SegmentId::from_name(segment)?, index: index.parse().ok()? };
        Some(name).filter(|name| name.index < 256)
    }

    /// Checksum of a unit, or of the trailer.
    fn crc(&self, stripe: u64, bytes: &[u8]) -> u32 {
        let mut place = Vec::with_capacity(25);
        self.segment.put(&mut place);
        place.put_u8(self.index as u8);
        place.put_u64(stripe);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&place);
        hasher.update(bytes);
        hasher.finalize()
    }

    pub(crate) fn encode_header(&self, layout: &Layout) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN as usize);
        out.extend_from_slice(HEADER_MAGIC);
        out.put_u32(VERSION);
        self.segment.put(&mut out);
        out.put_u8(self.index as u8);
        out.put_u8(layout.data as u8);
        out.put_u8(layout.parity as u8);
        out.put_u8(0);
        out.put_u32(layout.unit as u32);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// The checksum that stands behind a unit.
    pub(crate) fn unit_crc(&self, stripe: u64, unit: &[u8]) -> [u8; UNIT_CRC_LEN as usize] {
        self.crc(stripe, unit).to_le_bytes()
    }

    /// Whether this is what was written of a unit, with its checksum behind.
    pub(crate) fn is_unit(&self, stripe: u64, stored: &[u8]) -> bool {
        let Some((unit, crc)) = stored.split_last_chunk() else { return false };
        self.unit_crc(stripe, unit) == *crc || is_planted(Bug::SkipUnitCrc)
    }

    pub(crate) fn encode_trailer(&self, segment_len: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_LEN as usize);
        out.extend_from_slice(TRAILER_MAGIC);
        out.put_u64(segment_len);
        out.put_u32(self.crc(u64::MAX, &out));
        out
    }

    /// The length of the segment; None when this is not this shard's trailer.
    pub(crate) fn decode_trailer(&self, bytes: &[u8]) -> Option<u64> {
        let mut reader = Reader::new(bytes);
        if reader.take(8)? != TRAILER_MAGIC {
            return None;
        }
        let len = reader.u64().filter(|len| *len <= SEGMENT_LEN_MAX)?;
        let is_right = reader.u32()? == self.crc(u64::MAX, bytes.get(..16)?);
        (is_right && reader.is_empty()).then_some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: ShardName = ShardName { segment: SegmentId { owner: 1, number: 2 << 56 | 3 }, index: 4 };

    #[test]
    fn names_come_back_and_others_are_none() {
        assert_eq!(ShardName::from_file_name(&NAME.file_name()), Some(NAME));
        for name in ["DRIVE", "1-2", "1-2.256", "1-2.x", "1-2.3.tmp", "x-2.3"] {
            assert_eq!(ShardName::from_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_unit_in_the_place_of_another_is_noticed() {
        let mut stored = b"unit".to_vec();
        stored.extend_from_slice(&NAME.unit_crc(7, b"unit"));
        assert!(NAME.is_unit(7, &stored));
        assert!(!NAME.is_unit(8, &stored));
        assert!(!ShardName { index: 5, ..NAME }.is_unit(7, &stored));
        for index in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[index] ^= 1;
            assert!(!NAME.is_unit(7, &damaged), "{index}");
        }
        assert!(!NAME.is_unit(7, &[0; 3]));
    }

    #[test]
    fn a_trailer_says_whose_it_is() {
        let trailer = NAME.encode_trailer(99);
        assert_eq!(trailer.len() as u64, TRAILER_LEN);
        assert_eq!(NAME.decode_trailer(&trailer), Some(99));
        assert_eq!(ShardName { index: 5, ..NAME }.decode_trailer(&trailer), None);
        for index in 0..trailer.len() {
            let mut damaged = trailer.clone();
            damaged[index] ^= 1;
            assert_eq!(NAME.decode_trailer(&damaged), None, "{index}");
        }
        assert_eq!(NAME.encode_header(&Layout { data: 2, parity: 1, unit: 8 }).len() as u64, HEADER_LEN);
    }
}
