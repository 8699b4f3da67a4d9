//! One frame of the log: a header that names its place and its predecessor, and a checked body.

use crate::Seq;
use crate::bytes::{Put, Reader, is_intact};

const MAGIC: u32 = u32::from_le_bytes(*b"SOPF");
const VERSION: u16 = 1;
/// Bytes of a frame's header.
pub(crate) const HEADER_LEN: usize = 64;
/// Frames begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;

/// What a frame's body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The transactions of one group commit.
    Commit,
    /// A new manifest and the one it follows. Takes effect only when that one is still in force.
    Checkpoint,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) body_len: u64,
    pub(crate) body_crc: u32,
    /// Sequence number of the first transaction; of the next one for frames without transactions.
    pub(crate) first_seq: Seq,
    /// Number of transactions.
    pub(crate) count: u32,
    /// Checksum of the previous frame's header, or of the file's header for the first frame.
    pub(crate) chain: u32,
    /// Up to here the file was durable when this frame was written: what is not whole before is damaged, not torn.
    pub(crate) durable: u64,
    /// Own place: a frame found anywhere else is not one.
    pub(crate) offset: u64,
    pub(crate) wal_id: u64,
}

impl FrameHeader {
    /// The header's bytes and their checksum, which the next frame names.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.put_u32(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(match self.kind {
            FrameKind::Commit => 1,
            FrameKind::Checkpoint => 2,
        });
        out.put_u64(self.body_len);
        out.put_u64(self.first_seq.0);
        out.put_u32(self.count);
        out.put_u32(self.body_crc);
        out.put_u32(self.chain);
        out.put_u64(self.durable);
        out.put_u64(self.offset);
        out.put_u64(self.wal_id);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        (out, crc)
    }

    /// The header and its checksum; None when these bytes are not a whole header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(FrameHeader, u32)> {
        let bytes = bytes.get(..HEADER_LEN)?;
        let mut reader = Reader::new(bytes);
        if reader.u32()? != MAGIC || reader.u16()? != VERSION {
            return None;
        }
        let kind = match reader.u16()? {
            1 => FrameKind::Commit,
            2 => FrameKind::Checkpoint,
            _ => return None,
        };
        let (body_len, first_seq, count, body_crc) =
            (reader.u64()?, reader.u64()?, reader.u32()?, reader.u32()?);
        let (chain, durable) = (reader.u32()?, reader.u64()?);
        let (offset, wal_id) = (reader.u64()?, reader.u64()?);
        let crc = reader.u32()?;
        // After the cheap looks: searches try every place.
        if !is_intact(bytes.get(..HEADER_LEN - 4)?, crc) {
            return None;
        }
        let first_seq = Seq(first_seq);
        let header =
            FrameHeader { kind, body_len, body_crc, first_seq, count, chain, durable, offset, wal_id };
        Some((header, crc))
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset
            .checked_add(HEADER_LEN as u64)?
            .checked_add(self.body_len)?
            .checked_next_multiple_of(ALIGNMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_byte_is_noticed() {
        let header = FrameHeader {
            kind: FrameKind::Commit,
            body_len: 100,
            body_crc: 1,
            first_seq: Seq(2),
            count: 3,
            chain: 4,
            durable: 4096,
            offset: 4096,
            wal_id: 5,
        };
        let (bytes, crc) = header.encode();
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(FrameHeader::decode(&bytes), Some((header, crc)));
        assert_eq!(header.end(), Some(4096 + 64 + 104));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(FrameHeader::decode(&damaged), None, "{index}");
        }
    }
}
