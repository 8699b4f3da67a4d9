//! What is kept of a row beside its vector. A row without an entry is gone, whatever else still names it.

use engine::{Direction, StoreId, Transaction, ValueRef};
use serde_json::value::RawValue;

use super::keys::{self, KeyRange, RowId, damaged};
use crate::{Error, ErrorCode, Result, walk};

/// Set in the length of the id when a centroid_id follows.
const EXPLICIT: u16 = 1 << 15;

/// Layout: length of the id (u16, little endian; its highest bit: a centroid_id follows), the centroid_id (u64, little endian), the id, the payload as
/// JSON text (empty: null).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// 0: none.
    pub(super) centroid_id: u64,
    pub(super) payload: Vec<u8>,
}

impl Entry {
    pub(super) fn encode(id: &str, centroid_id: u64, payload: &[u8]) -> Result<Vec<u8>> {
        let len = u16::try_from(id.len()).ok().filter(|len| *len < EXPLICIT);
        let len = len.ok_or_else(|| Error::new(ErrorCode::Internal, "an item id that was not checked"))?;
        let mut bytes = Vec::with_capacity(10 + id.len() + payload.len());
        if centroid_id == 0 {
            bytes.extend_from_slice(&len.to_le_bytes());
        } else {
            bytes.extend_from_slice(&(len | EXPLICIT).to_le_bytes());
            bytes.extend_from_slice(&centroid_id.to_le_bytes());
        }
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(payload);
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let (id, centroid_id, payload) = parts(bytes)?;
        Ok(Self { id: id.to_owned(), centroid_id, payload: payload.to_vec() })
    }

    /// The entry of a row; None when it is gone.
    pub(super) fn load(t: &mut Transaction, store: StoreId, row: RowId) -> Result<Option<Self>> {
        t.get_with(store, &keys::entry(row), |bytes| bytes.map(Self::decode).transpose())?
    }
}

/// Shows the entries of all rows to `look`: those that lie beside their keys by rising row, then the large ones.
pub(super) fn visit(
    t: &mut Transaction,
    store: StoreId,
    mut look: impl FnMut(RowId, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut large = Vec::new();
    walk::visit(t, store, KeyRange::all(b'p').span(), Direction::Forward, |key, entry| {
        let row = RowId(keys::number_of(key)?);
        match entry {
            ValueRef::Inline(entry) => look(row, entry)?,
            // Not to be read while the walk holds its pages.
            blob @ ValueRef::Blob(_) => large.push((row, blob.to_value())),
        }
        Ok(true)
    })?;
    large.into_iter().try_for_each(|(row, entry)| look(row, &t.load(&entry)?))
}

/// Item id, centroid_id and payload of an entry.
pub(super) fn parts(bytes: &[u8]) -> Result<(&str, u64, &[u8])> {
    let short = || damaged("an entry is short");
    let (len, rest) = bytes.split_first_chunk::<2>().ok_or_else(short)?;
    let len = u16::from_le_bytes(*len);
    let (centroid_id, rest) = match len & EXPLICIT {
        0 => (0, rest),
        _ => rest
            .split_first_chunk::<8>()
            .map(|(id, rest)| (u64::from_le_bytes(*id), rest))
            .ok_or_else(short)?,
    };
    if len & EXPLICIT != 0 && centroid_id == 0 {
        return Err(damaged("an entry has an impossible centroid_id"));
    }
    let (id, payload) = rest.split_at_checked(usize::from(len & !EXPLICIT)).ok_or_else(short)?;
    let id = std::str::from_utf8(id).map_err(|_| damaged("an item id is not UTF-8"))?;
    Ok((id, centroid_id, payload))
}

/// A stored payload as JSON; None for null.
pub(super) fn payload(text: Vec<u8>) -> Result<Option<Box<RawValue>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(text).map_err(|_| damaged("a payload is not UTF-8"))?;
    RawValue::from_string(text).map(Some).map_err(|_| damaged("a payload is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        for (id, centroid_id, payload) in [("naïve", 0, "{}"), ("a", 7, ""), ("b", u64::MAX, "[1]")] {
            let bytes = Entry::encode(id, centroid_id, payload.as_bytes()).unwrap();
            assert_eq!(parts(&bytes).unwrap(), (id, centroid_id, payload.as_bytes()));
        }
        for bytes in [&b""[..], b"\x05\x00ab", b"\x01\x80a", b"\x01\x00\xff"] {
            assert_eq!(Entry::decode(bytes).unwrap_err().code(), ErrorCode::Corruption, "{bytes:?}");
        }
    }
}
