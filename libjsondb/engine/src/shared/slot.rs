//! One slot of the shared log: a file with the transactions of one group commit, or a note to all writers.
//!
//! A slot does not say which it is: it is written before its number is known, and the name it is given then is the number. So an
//! attempt that loses its number to another writer is made again with the same file.

use uuid::Uuid;

use crate::bytes::{Put, Reader, is_intact};

const MAGIC: &[u8; 8] = b"SOPSLOT\n";
const VERSION: u16 = 1;
/// magic 8, version 2, kind 2, count 4, id 16, database 16, body length 8, CRC of the body 4, of the header 4.
pub(crate) const SLOT_HEADER_LEN: usize = 64;

/// Whose slot it is, and a number that its writer never uses again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId {
    pub(crate) owner: u64,
    pub(crate) number: u64,
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotKind {
    /// The transactions of one group commit. All have the number of the slot: they were validated against each other.
    Commit,
    /// A new manifest and the one it follows. Takes effect only when that one is still in force.
    Checkpoint,
    /// Ids of processes that are taken for dead, 8 bytes each. What they wrote before they read this may be gone, so they begin anew. Without
    /// any: the log ends here, for everybody.
    Fence,
}

/// A slot's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) kind: SlotKind,
    pub(crate) id: SlotId,
    /// Number of transactions.
    pub(crate) count: u32,
    pub(crate) database: Uuid,
}

impl Slot {
    /// The bytes of the file. `buffer` holds [`SLOT_HEADER_LEN`] free bytes and then the body.
    pub(crate) fn seal(&self, buffer: &mut [u8]) {
        let body = buffer.get(SLOT_HEADER_LEN..).unwrap_or_default();
        let mut out = Vec::with_capacity(SLOT_HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(match self.kind {
            SlotKind::Commit => 1,
            SlotKind::Checkpoint => 2,
            SlotKind::Fence => 3,
        });
        out.put_u32(self.count);
        out.put_u64(self.id.owner);
        out.put_u64(self.id.number);
        out.extend_from_slice(self.database.as_bytes());
        out.put_u64(body.len() as u64);
        out.put_u32(crc32fast::hash(body));
        out.put_u32(crc32fast::hash(&out));
        if let Some(header) = buffer.get_mut(..SLOT_HEADER_LEN) {
            header.copy_from_slice(&out);
        }
    }

    /// The header and the body; None when these are not the bytes of a slot.
    pub(crate) fn open(bytes: &[u8]) -> Option<(Slot, &[u8])> {
        let (header, body) = bytes.split_at_checked(SLOT_HEADER_LEN)?;
        let mut reader = Reader::new(header);
        if reader.take(8)? != MAGIC || reader.u16()? != VERSION {
            return None;
        }
        let kind = match reader.u16()? {
            1 => SlotKind::Commit,
            2 => SlotKind::Checkpoint,
            3 => SlotKind::Fence,
            _ => return None,
        };
        let count = reader.u32()?;
        let id = SlotId { owner: reader.u64()?, number: reader.u64()? };
        let database = Uuid::from_slice(reader.take(16)?).ok()?;
        let (body_len, body_crc, crc) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let is_whole = body_len == body.len() as u64
            && is_intact(header.get(..SLOT_HEADER_LEN - 4)?, crc)
            && is_intact(body, body_crc);
        is_whole.then_some((Slot { kind, id, count, database }, body))
    }
}

/// The body of a fence around these processes.
pub(crate) fn encode_fence(owners: &[u64]) -> Vec<u8> {
    owners.iter().flat_map(|owner| owner.to_le_bytes()).collect()
}

/// Whom a fence is around; None when this is not the body of one.
pub(crate) fn decode_fence(body: &[u8]) -> Option<Vec<u64>> {
    let (owners, rest) = body.as_chunks::<8>();
    rest.is_empty().then(|| owners.iter().map(|owner| u64::from_le_bytes(*owner)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_byte_is_noticed() {
        let id = SlotId { owner: 7, number: 8 };
        let slot = Slot { kind: SlotKind::Fence, id, count: 0, database: Uuid::from_u128(9) };
        let mut bytes = vec![0; SLOT_HEADER_LEN];
        bytes.extend(encode_fence(&[1, 2]));
        slot.seal(&mut bytes);
        assert_eq!(Slot::open(&bytes), Some((slot, &bytes[SLOT_HEADER_LEN..])));
        assert_eq!(decode_fence(&bytes[SLOT_HEADER_LEN..]), Some(vec![1, 2]));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(Slot::open(&damaged), None, "{index}");
        }
        assert_eq!(Slot::open(&bytes[..bytes.len() - 1]), None);
    }
}
