//! What the engine's keys of a vector store mean.
//!
//! | Key | Value |
//! |---|---|
//! | `m` | [`super::config::Config`] |
//! | `c` cluster (9 bytes) | centroid: f32, little endian |
//! | `v` cluster (9 bytes), row (16 bytes) | vector: f32, little endian |
//! | `i` item id | cluster (9 bytes), row (16 bytes) |
//! | `p` row (16 bytes) | length of the item id (u16, little endian), item id, payload as JSON text (empty: null) |
//!
//! A cluster is a space byte and a big-endian u64, so rows of one cluster are neighbours. Counters: `n` all
//! rows; `n` space byte, cluster number: rows of that cluster, where the usage mode tracks them; `e` explicit
//! clusters ever made.

use engine::{StoreId, Transaction, Value};

use crate::{Error, ErrorCode, Result};

/// Metadata of the engine store: the format only, so that a store opens whatever options are asked for.
pub(super) const METADATA: &[u8] = br#"{"format":1}"#;

/// Longest item id in bytes.
pub(super) const ID_BYTES_MAX: usize = 1024;

const CLUSTER_BYTES: usize = 9;
const ROW_BYTES: usize = 16;

/// Where a row lies: in clusters the store makes, or in those the caller names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Space {
    Automatic = 0,
    Explicit = 1,
}

/// A cluster. Automatic ones carry the generation of their clustering in the upper half, so that a new
/// clustering's rows lie behind the old one's and both can be there inside the transaction that moves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClusterId {
    space: Space,
    number: u64,
}

impl ClusterId {
    /// Rows that wait for a clustering.
    pub(super) const UNCLUSTERED: ClusterId = ClusterId { space: Space::Automatic, number: 0 };

    /// Cluster `index` (from 0) of a clustering.
    pub(super) fn automatic(generation: u32, index: u32) -> Self {
        Self { space: Space::Automatic, number: u64::from(generation) << 32 | (u64::from(index) + 1) }
    }

    /// The cluster a `centroid_id` names; None when it leaves the choice to the store.
    pub(super) fn explicit(centroid_id: i64) -> Option<Self> {
        u64::try_from(centroid_id)
            .ok()
            .filter(|id| *id > 0)
            .map(|number| Self { space: Space::Explicit, number })
    }

    /// As users see it: an explicit id, or the position in its clustering from 1.
    pub(super) fn user_number(self) -> u64 {
        match self.space {
            Space::Explicit => self.number,
            Space::Automatic => self.number & u64::from(u32::MAX),
        }
    }

    /// The space byte and [`ClusterId::user_number`], which stay the same from one clustering to the next.
    pub(super) fn counter_suffix(self) -> [u8; CLUSTER_BYTES] {
        Self { space: self.space, number: self.user_number() }.to_bytes()
    }

    pub(super) fn is_explicit(self) -> bool {
        self.space == Space::Explicit
    }

    fn to_bytes(self) -> [u8; CLUSTER_BYTES] {
        let mut bytes = [self.space as u8; CLUSTER_BYTES];
        bytes[1..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (space, number) = bytes.split_first().ok_or_else(|| damaged("a cluster id is empty"))?;
        let space = match space {
            0 => Space::Automatic,
            1 => Space::Explicit,
            _ => return Err(damaged("a cluster id has an unknown kind")),
        };
        let number = number.try_into().map_err(|_| damaged("a cluster id has the wrong length"))?;
        Ok(Self { space, number: u64::from_be_bytes(number) })
    }
}

/// Identity of a row inside the store: time-ordered and random, so that concurrent writers never pick the
/// same.
pub(super) type RowId = [u8; ROW_BYTES];

pub(super) fn new_row_id() -> RowId {
    crate::ids::new().into_bytes()
}

/// Where an item's vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowAddress {
    pub(super) cluster: ClusterId,
    pub(super) row: RowId,
}

impl RowAddress {
    pub(super) fn to_bytes(self) -> [u8; CLUSTER_BYTES + ROW_BYTES] {
        let mut bytes = [0; CLUSTER_BYTES + ROW_BYTES];
        bytes[..CLUSTER_BYTES].copy_from_slice(&self.cluster.to_bytes());
        bytes[CLUSTER_BYTES..].copy_from_slice(&self.row);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (cluster, row) =
            bytes.split_at_checked(CLUSTER_BYTES).ok_or_else(|| damaged("a row address is short"))?;
        let row = row.try_into().map_err(|_| damaged("a row address has the wrong length"))?;
        Ok(Self { cluster: ClusterId::from_bytes(cluster)?, row })
    }

    pub(super) fn vector_key(self) -> Vec<u8> {
        key(b'v', &self.to_bytes())
    }

    /// The address in a key made by [`RowAddress::vector_key`].
    pub(super) fn from_vector_key(key: &[u8]) -> Result<Self> {
        match key.split_first() {
            Some((b'v', address)) => Self::from_bytes(address),
            _ => Err(damaged("a vector key has an unknown prefix")),
        }
    }
}

pub(super) fn centroid_key(cluster: ClusterId) -> Vec<u8> {
    key(b'c', &cluster.to_bytes())
}

/// The cluster in a key made by [`centroid_key`].
pub(super) fn cluster_of_centroid_key(key: &[u8]) -> Result<ClusterId> {
    match key.split_first() {
        Some((b'c', cluster)) => ClusterId::from_bytes(cluster),
        _ => Err(damaged("a centroid key has an unknown prefix")),
    }
}

pub(super) fn item_key(id: &str) -> Vec<u8> {
    key(b'i', id.as_bytes())
}

pub(super) fn payload_key(row: &RowId) -> Vec<u8> {
    key(b'p', row)
}

fn key(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + rest.len());
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
    fn of_prefix(start: Vec<u8>) -> Self {
        let mut end = start.clone();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self { start, end }
    }

    /// Vectors of all rows.
    pub(super) fn all_vectors() -> Self {
        Self::of_prefix(vec![b'v'])
    }

    /// Vectors of one cluster.
    pub(super) fn vectors_of(cluster: ClusterId) -> Self {
        Self::of_prefix(key(b'v', &cluster.to_bytes()))
    }

    /// Vectors of all rows in one space.
    pub(super) fn vectors_in(space: Space) -> Self {
        Self::of_prefix(vec![b'v', space as u8])
    }

    /// Vectors of automatic clusters up to and including a generation.
    pub(super) fn vectors_up_to(generation: u32) -> Self {
        let last =
            ClusterId { space: Space::Automatic, number: u64::from(generation) << 32 | u64::from(u32::MAX) };
        let end = Self::vectors_of(last).end;
        Self { start: vec![b'v', Space::Automatic as u8], end }
    }

    /// Centroids of one space.
    pub(super) fn centroids_in(space: Space) -> Self {
        Self::of_prefix(vec![b'c', space as u8])
    }

    /// Addresses by item id.
    pub(super) fn all_items() -> Self {
        Self::of_prefix(vec![b'i'])
    }
}

/// Item id and payload of a row, as text; an empty payload is null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) payload: Vec<u8>,
}

impl Entry {
    pub(super) fn encode(id: &str, payload: &str) -> Result<Vec<u8>> {
        let id_len =
            u16::try_from(id.len()).map_err(|_| Error::new(ErrorCode::Internal, "an id passed unchecked"))?;
        let mut bytes = Vec::with_capacity(2 + id.len() + payload.len());
        bytes.extend_from_slice(&id_len.to_le_bytes());
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(payload.as_bytes());
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let (id_len, rest) =
            bytes.split_first_chunk::<2>().ok_or_else(|| damaged("a payload entry is short"))?;
        let (id, payload) = rest
            .split_at_checked(usize::from(u16::from_le_bytes(*id_len)))
            .ok_or_else(|| damaged("a payload entry is short"))?;
        let id = std::str::from_utf8(id).map_err(|_| damaged("an item id is not UTF-8"))?;
        Ok(Self { id: id.to_owned(), payload: payload.to_vec() })
    }

    /// The entry of a row that must be there.
    pub(super) fn load(t: &mut Transaction, store: StoreId, row: &RowId) -> Result<Self> {
        let bytes =
            load(t, store, &payload_key(row))?.ok_or_else(|| damaged("a row has no payload entry"))?;
        Self::decode(&bytes)
    }
}

/// Where the item `id` is, if it exists.
pub(super) fn find_item(t: &mut Transaction, store: StoreId, id: &str) -> Result<Option<RowAddress>> {
    match load(t, store, &item_key(id))? {
        Some(bytes) => RowAddress::from_bytes(&bytes).map(Some),
        None => Ok(None),
    }
}

/// The bytes of a key's value, if it exists.
pub(super) fn load(t: &mut Transaction, store: StoreId, key: &[u8]) -> Result<Option<Vec<u8>>> {
    match t.get(store, key)? {
        Some(Value::Inline(bytes)) => Ok(Some(bytes.to_vec())),
        Some(value) => Ok(Some(t.load(&value)?)),
        None => Ok(None),
    }
}

/// A key as users know what it stands for, in errors about conflicts.
pub(super) fn describe_key(key: &[u8]) -> serde_json::Value {
    match key.split_first() {
        Some((b'i', id)) => String::from_utf8_lossy(id).into(),
        Some((b'c', _)) => match cluster_of_centroid_key(key) {
            Ok(cluster) => format!("centroid {}", cluster.user_number()).into(),
            Err(_) => "a centroid".into(),
        },
        Some((b'm', _)) => "the clustering".into(),
        _ => "a row".into(),
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
    fn keys_of_clusters_sort_by_space_generation_index() {
        let ids = [
            ClusterId::UNCLUSTERED,
            ClusterId::automatic(1, 0),
            ClusterId::automatic(1, 70_000),
            ClusterId::automatic(2, 0),
            ClusterId::explicit(1).unwrap(),
            ClusterId::explicit(i64::MAX).unwrap(),
        ];
        for pair in ids.windows(2) {
            assert!(centroid_key(pair[0]) < centroid_key(pair[1]), "{pair:?}");
        }
        for id in ids {
            assert_eq!(cluster_of_centroid_key(&centroid_key(id)).unwrap(), id);
        }
    }

    #[test]
    fn zero_and_negative_centroid_ids_are_automatic() {
        assert_eq!(ClusterId::explicit(0), None);
        assert_eq!(ClusterId::explicit(-7), None);
        assert_eq!(ClusterId::explicit(i64::MIN), None);
    }

    #[test]
    fn addresses_and_entries_round_trip() {
        let address = RowAddress { cluster: ClusterId::automatic(3, 9), row: new_row_id() };
        assert_eq!(RowAddress::from_bytes(&address.to_bytes()).unwrap(), address);
        assert_eq!(RowAddress::from_vector_key(&address.vector_key()).unwrap(), address);
        let entry = Entry::decode(&Entry::encode("naïve", "{}").unwrap()).unwrap();
        assert_eq!((entry.id.as_str(), entry.payload.as_slice()), ("naïve", b"{}".as_slice()));
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let row = RowAddress { cluster: ClusterId::automatic(2, u32::MAX - 1), row: [255; 16] };
        let holds = |range: KeyRange, key: &[u8]| range.start.as_slice() <= key && key < range.end.as_slice();
        assert!(holds(KeyRange::vectors_up_to(2), &row.vector_key()));
        assert!(!holds(KeyRange::vectors_up_to(1), &row.vector_key()));
        assert!(holds(KeyRange::vectors_of(row.cluster), &row.vector_key()));
        assert!(holds(KeyRange::vectors_in(Space::Automatic), &row.vector_key()));
        assert!(!holds(KeyRange::vectors_in(Space::Explicit), &row.vector_key()));
        let pinned = RowAddress { cluster: ClusterId::explicit(i64::MAX).unwrap(), row: [255; 16] };
        assert!(holds(KeyRange::vectors_of(pinned.cluster), &pinned.vector_key()));
        assert!(holds(KeyRange::all_vectors(), &pinned.vector_key()));
    }
}
