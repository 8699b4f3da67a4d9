//! What the engine's keys of a vector store mean; see libjsondb/docs/vectors.md.

use std::ops::Bound;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::{StoreId, Transaction};

use crate::{Error, ErrorCode, Result};

/// Metadata of the engine store: the format only, so that a store opens whatever options are asked for.
pub(super) const METADATA: &[u8] = br#"{"format":3}"#;

/// Longest item id in bytes.
pub(super) const ID_BYTES_MAX: usize = 1024;

pub(super) const CONFIG: &[u8] = b"m";
pub(super) const STATE: &[u8] = b"s";
pub(super) const LEASE: &[u8] = b"o";

/// Bits of a row that name its slot in a block.
const SLOT_BITS: u32 = 6;
/// Rows a block can hold.
pub(super) const SLOTS: usize = 1 << SLOT_BITS;
/// Random bits of a block number; the rest are milliseconds.
const RANDOM_BITS: u32 = 16;

/// A row: the block its vector is in, and its slot there. Never used again after the row is gone. Bit 63 is free for the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowId(pub(super) u64);

impl RowId {
    pub(super) fn new(block: u64, slot: usize) -> Self {
        debug_assert!(slot < SLOTS);
        Self(block << SLOT_BITS | slot as u64)
    }

    pub(super) fn block(self) -> u64 {
        self.0 >> SLOT_BITS
    }

    pub(super) fn slot(self) -> usize {
        (self.0 & (SLOTS as u64 - 1)) as usize
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(Self(number(bytes)?))
    }
}

/// A block number that later ones are above of: milliseconds and random bits, so that concurrent writers seldom pick the same.
pub(super) fn new_block() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = since.as_millis() as u64 & ((1 << 41) - 1);
    let random = uuid::Uuid::new_v4().as_u128() as u64 & ((1 << RANDOM_BITS) - 1);
    millis << RANDOM_BITS | random
}

/// A cluster: 0 is no cluster, its centroid is the mean of all rows.
pub(super) type ClusterId = u32;

/// The centroid that codes outside of clusters are relative to.
pub(super) const BASE: ClusterId = 0;

/// Whose codes a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ListKey {
    /// The rows of a cluster.
    Cluster(ClusterId),
    /// The rows a caller gave this centroid_id.
    Explicit(u64),
}

impl ListKey {
    fn prefix(self) -> Vec<u8> {
        match self {
            ListKey::Cluster(cluster) => joined(b'k', &cluster.to_be_bytes()),
            ListKey::Explicit(id) => joined(b'e', &id.to_be_bytes()),
        }
    }

    /// Codes packed into a block.
    pub(super) fn packed(self, block: u32) -> Vec<u8> {
        let mut key = self.prefix();
        key.push(0);
        key.extend_from_slice(&block.to_be_bytes());
        key
    }

    /// The code of one row.
    pub(super) fn loose(self, row: RowId) -> Vec<u8> {
        let mut key = self.prefix();
        key.push(1);
        key.extend_from_slice(&row.0.to_be_bytes());
        key
    }

    /// Whether the rest of a key of the list, behind what all its keys share, is that of one row.
    pub(super) fn is_loose(rest: &[u8]) -> bool {
        rest.first() == Some(&1)
    }

    /// All its codes.
    pub(super) fn range(self) -> KeyRange {
        KeyRange::of_prefix(self.prefix())
    }
}

pub(super) fn change(version: u64) -> Vec<u8> {
    joined(b'h', &version.to_be_bytes())
}

pub(super) fn centroid(cluster: ClusterId) -> Vec<u8> {
    joined(b'c', &cluster.to_be_bytes())
}

/// The cluster in a key made by [`centroid`].
pub(super) fn cluster_of_centroid(key: &[u8]) -> Result<ClusterId> {
    let rest = key.strip_prefix(b"c").and_then(|rest| rest.try_into().ok());
    rest.map(u32::from_be_bytes).ok_or_else(|| damaged("the key of a centroid has the wrong length"))
}

/// The cluster in a key of one of its codes.
pub(super) fn cluster_of_list(key: &[u8]) -> Result<ClusterId> {
    let cluster = key.strip_prefix(b"k").and_then(<[u8]>::first_chunk);
    cluster.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(|| damaged("the key of a list is short"))
}

pub(super) fn fresh(block: u64) -> Vec<u8> {
    joined(b'n', &block.to_be_bytes())
}

pub(super) fn vectors(block: u64) -> Vec<u8> {
    joined(b'v', &block.to_be_bytes())
}

pub(super) fn item(id: &str) -> Vec<u8> {
    joined(b'i', id.as_bytes())
}

pub(super) fn entry(row: RowId) -> Vec<u8> {
    joined(b'p', &row.0.to_be_bytes())
}

pub(super) fn dead(row: RowId) -> Vec<u8> {
    joined(b'x', &row.0.to_be_bytes())
}

/// The number behind the prefix of a key whose rest is one.
pub(super) fn number_of(key: &[u8]) -> Result<u64> {
    number(key.get(1..).unwrap_or_default())
}

/// The number of the block in a key made by [`ListKey::packed`].
pub(super) fn number_of_packed(key: &[u8]) -> Result<u32> {
    let number = key.last_chunk::<4>().ok_or_else(|| damaged("the key of a list is short"))?;
    Ok(u32::from_be_bytes(*number))
}

fn number(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| damaged("a number in a key has the wrong length"))?;
    Ok(u64::from_be_bytes(bytes))
}

fn joined(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + rest.len() + 9);
    bytes.push(prefix);
    bytes.extend_from_slice(rest);
    bytes
}

/// Keys from `start`, inclusive, to `end`, exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
}

impl KeyRange {
    pub(super) fn of_prefix(start: Vec<u8>) -> Self {
        let mut end = start.clone();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self { start, end }
    }

    /// All keys of one prefix byte.
    pub(super) fn all(prefix: u8) -> Self {
        Self::of_prefix(vec![prefix])
    }

    pub(super) fn span(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.start), Bound::Excluded(&self.end))
    }
}

/// The bytes of a key's value, if it exists.
pub(super) fn load(t: &mut Transaction, store: StoreId, key: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(t.get_with(store, key, |value| value.map(<[u8]>::to_vec))?)
}

/// A key as users know what it stands for, in errors about conflicts.
pub(super) fn describe(key: &[u8]) -> serde_json::Value {
    match key.split_first() {
        Some((b'i', id)) => String::from_utf8_lossy(id).into(),
        Some((b'p', _)) => "a row".into(),
        Some((b'm', _)) => "the store's first row".into(),
        _ => "the index".into(),
    }
}

/// Bytes read from the database that its writers never write.
pub(super) fn damaged(what: &str) -> Error {
    Error::new(ErrorCode::Corruption, format!("a vector store is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_blocks_and_slots() {
        let row = RowId::new(new_block(), 63);
        assert_eq!((RowId::new(row.block(), 63), row.slot()), (row, 63));
        assert!(row.0 < 1 << 63, "bit 63 is for the lists");
        assert_eq!(RowId::from_bytes(&row.0.to_be_bytes()).unwrap(), row);
        assert!(RowId::from_bytes(b"short").is_err());
    }

    #[test]
    fn a_list_has_its_keys_to_itself() {
        for (list, next) in [
            (ListKey::Cluster(1), ListKey::Cluster(2)),
            (ListKey::Cluster(u32::MAX - 1), ListKey::Cluster(u32::MAX)),
            (ListKey::Explicit(255), ListKey::Explicit(256)),
        ] {
            let range = list.range();
            let holds = |key: &[u8]| range.start.as_slice() <= key && key < range.end.as_slice();
            assert!(holds(&list.packed(0)) && holds(&list.packed(u32::MAX)));
            assert!(holds(&list.loose(RowId(0))) && holds(&list.loose(RowId(u64::MAX))));
            assert!(list.packed(u32::MAX) < list.loose(RowId(0)));
            assert!(!holds(&next.packed(0)));
        }
    }

    #[test]
    fn numbers_of_keys_round_trip() {
        assert_eq!(cluster_of_centroid(&centroid(70_000)).unwrap(), 70_000);
        assert_eq!(number_of(&vectors(9)).unwrap(), 9);
        assert_eq!(cluster_of_list(&ListKey::Cluster(70_000).packed(3)).unwrap(), 70_000);
        assert_eq!(cluster_of_list(b"k12").unwrap_err().code(), ErrorCode::Corruption);
        assert_eq!(number_of(b"v").unwrap_err().code(), ErrorCode::Corruption);
        assert_eq!(cluster_of_centroid(b"c12").unwrap_err().code(), ErrorCode::Corruption);
    }
}
