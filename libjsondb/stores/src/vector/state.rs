//! What holds for a whole store: its configuration, the state of its index, and what each version of the index changed.

use engine::{Placement, StoreId, Transaction};

use super::keys::{self, ClusterId, damaged, load};
use super::types::{Metric, UsageMode};
use crate::Result;

const CONFIG_BYTES: usize = 14;
/// Versions whose changes are kept for those who know an older one.
const CHANGES_KEPT: u64 = 256;

/// Written with the first row, and never again: all writers read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Numbers per vector.
    pub(super) dimension: u32,
    pub(super) metric: Metric,
    pub(super) usage_mode: UsageMode,
    /// Drawn at random: tells this store from all others.
    pub(super) id: u64,
}

impl Config {
    pub(super) fn to_bytes(self) -> [u8; CONFIG_BYTES] {
        let mut bytes = [0; CONFIG_BYTES];
        bytes[..4].copy_from_slice(&self.dimension.to_le_bytes());
        bytes[4..6].copy_from_slice(&[self.metric as u8, self.usage_mode as u8]);
        bytes[6..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let [a, b, c, d, metric, usage_mode, id @ ..]: [u8; CONFIG_BYTES] =
            bytes.try_into().map_err(|_| damaged("the configuration has the wrong length"))?;
        let dimension = u32::from_le_bytes([a, b, c, d]);
        if dimension == 0 {
            return Err(damaged("its dimension is 0"));
        }
        Ok(Self {
            dimension,
            metric: Metric::from_number(i32::from(metric)).map_err(|_| damaged("its metric is unknown"))?,
            usage_mode: UsageMode::from_number(i32::from(usage_mode))
                .map_err(|_| damaged("its usage mode is unknown"))?,
            id: u64::from_le_bytes(id),
        })
    }

    pub(super) fn read(t: &mut Transaction, store: StoreId) -> Result<Option<Self>> {
        t.get_with(store, keys::CONFIG, |bytes| bytes.map(Self::from_bytes).transpose())?
    }

    pub(super) fn write(&self, t: &mut Transaction, store: StoreId) -> Result<()> {
        Ok(t.put(store, keys::CONFIG, &self.to_bytes(), Placement::Auto)?)
    }
}

/// How far a search goes, the nearest centroids first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reach {
    /// It ends at a centroid that is farther: (k-th estimate - centroid's score) above this many distances of query and centroid.
    pub(super) slack: f32,
    /// And, for 10 rows, after so many lists.
    pub(super) lists: f32,
}

impl Reach {
    /// Over all lists.
    pub(super) const ALL: Reach = Reach { slack: f32::INFINITY, lists: f32::INFINITY };
}

/// Recalls for which the reach is learned.
pub(super) const RECALLS: [f32; 3] = [0.9, 0.95, 0.99];

/// The state of the index. Index transactions read and write it, so that of two that overlap one fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct IndexState {
    /// Counts index transactions, from 1; 0 before the first.
    pub(super) version: u64,
    /// Drawn at random for each version: tells apart what was read in transactions that rolled back.
    pub(super) stamp: u64,
    /// Counts builds from scratch.
    pub(super) generation: u32,
    /// The next cluster's id. Ids are not used twice.
    pub(super) next_cluster: ClusterId,
    pub(super) clusters: u32,
    /// Rows in clusters, dead ones included.
    pub(super) indexed: u64,
    /// Rows in clusters when the reach was learned.
    pub(super) learned: u64,
    /// For [`RECALLS`].
    pub(super) reach: [Reach; 3],
}

impl Default for IndexState {
    fn default() -> Self {
        let reach = [Reach::ALL; 3];
        Self {
            version: 0,
            stamp: 0,
            generation: 0,
            next_cluster: 1,
            clusters: 0,
            indexed: 0,
            learned: 0,
            reach,
        }
    }
}

const STATE_BYTES: usize = 68;

impl IndexState {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STATE_BYTES);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.stamp.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.next_cluster.to_le_bytes());
        bytes.extend_from_slice(&self.clusters.to_le_bytes());
        bytes.extend_from_slice(&self.indexed.to_le_bytes());
        bytes.extend_from_slice(&self.learned.to_le_bytes());
        for reach in self.reach {
            bytes.extend_from_slice(&reach.slack.to_le_bytes());
            bytes.extend_from_slice(&reach.lists.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; STATE_BYTES] =
            bytes.try_into().map_err(|_| damaged("the state of the index has the wrong length"))?;
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        Ok(Self {
            version: long(0),
            stamp: long(8),
            generation: short(16),
            next_cluster: short(20),
            clusters: short(24),
            indexed: long(28),
            learned: long(36),
            reach: [44, 52, 60]
                .map(|at| Reach { slack: f32::from_bits(short(at)), lists: f32::from_bits(short(at + 4)) }),
        })
    }

    pub(super) fn read(t: &mut Transaction, store: StoreId) -> Result<Self> {
        let state = t.get_with(store, keys::STATE, |bytes| bytes.map(Self::from_bytes).transpose())??;
        Ok(state.unwrap_or_default())
    }

    /// Ends an index transaction: makes the state that of the next version and says what it changed.
    pub(super) fn advance(&mut self, t: &mut Transaction, store: StoreId, change: &Change) -> Result<()> {
        self.version += 1;
        self.stamp = uuid::Uuid::new_v4().as_u64_pair().1;
        t.put(store, keys::STATE, &self.to_bytes(), Placement::Auto)?;
        t.put(store, &keys::change(self.version), &change.to_bytes(self.stamp), Placement::Auto)?;
        if let Some(old) = self.version.checked_sub(CHANGES_KEPT) {
            t.delete(store, &keys::change(old))?;
        }
        Ok(())
    }
}

/// What one index transaction changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Everything: nothing known before is of use.
    pub(super) is_rebuild: bool,
    /// Clusters that are new or gone.
    pub(super) centroids: Vec<ClusterId>,
    /// Clusters whose lists differ, those of `centroids` not included.
    pub(super) lists: Vec<ClusterId>,
}

impl Change {
    pub(super) fn to_bytes(&self, stamp: u64) -> Vec<u8> {
        let mut bytes = stamp.to_le_bytes().to_vec();
        bytes.push(u8::from(self.is_rebuild));
        bytes.extend_from_slice(&(self.centroids.len() as u32).to_le_bytes());
        for cluster in self.centroids.iter().chain(&self.lists) {
            bytes.extend_from_slice(&cluster.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<(u64, Self)> {
        let wrong = || damaged("a change of the index has the wrong length");
        let (stamp, rest) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        let (is_rebuild, rest) = rest.split_first().ok_or_else(wrong)?;
        let (centroids, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (clusters, rest) = rest.as_chunks::<4>();
        let clusters: Vec<ClusterId> = clusters.iter().map(|cluster| u32::from_le_bytes(*cluster)).collect();
        let (centroids, lists) =
            clusters.split_at_checked(u32::from_le_bytes(*centroids) as usize).ok_or_else(wrong)?;
        if !rest.is_empty() {
            return Err(wrong());
        }
        let change =
            Self { is_rebuild: *is_rebuild != 0, centroids: centroids.to_vec(), lists: lists.to_vec() };
        Ok((u64::from_le_bytes(*stamp), change))
    }

    /// What made this version, and its stamp; None when that is no longer kept.
    pub(super) fn read(t: &mut Transaction, store: StoreId, version: u64) -> Result<Option<(u64, Self)>> {
        load(t, store, &keys::change(version))?.map(|bytes| Self::from_bytes(&bytes)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn bytes_round_trip_and_others_are_told() {
        let config = Config { dimension: 384, metric: Metric::L2, usage_mode: UsageMode::Dynamic, id: 7 };
        assert_eq!(Config::from_bytes(&config.to_bytes()).unwrap(), config);
        let state = IndexState {
            version: 1 << 40,
            stamp: 2,
            generation: 3,
            next_cluster: 4,
            clusters: 5,
            indexed: 6,
            learned: 7,
            reach: [Reach { slack: -0.5, lists: 7.0 }, Reach { slack: 1.0, lists: 90.0 }, Reach::ALL],
        };
        assert_eq!(IndexState::from_bytes(&state.to_bytes()).unwrap(), state);
        let change = Change { is_rebuild: false, centroids: vec![1, 70_000], lists: vec![5] };
        assert_eq!(Change::from_bytes(&change.to_bytes(9)).unwrap(), (9, change));
        for bytes in [&b""[..], b"12345", b"\0\0\0\0\0\0", b"\x01\0\0\0\x09\0"] {
            assert_eq!(Config::from_bytes(bytes).unwrap_err().code(), ErrorCode::Corruption);
            assert_eq!(IndexState::from_bytes(bytes).unwrap_err().code(), ErrorCode::Corruption);
            assert_eq!(Change::from_bytes(bytes).unwrap_err().code(), ErrorCode::Corruption);
        }
    }
}
