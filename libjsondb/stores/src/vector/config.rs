//! What holds for a whole vector store.

use engine::{Placement, StoreId, Transaction};
use uuid::Uuid;

use super::layout::{damaged, load};
use super::types::UsageMode;
use crate::Result;

const CONFIG_KEY: &[u8] = b"m";
const CONFIG_BYTES: usize = 29;

/// What holds for the whole store. Written with the first row and by a clustering, read by every writer: that
/// is how a writer notices that the clusters it chose from are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Numbers per vector.
    pub(super) dimension: u32,
    pub(super) usage_mode: UsageMode,
    /// Number of the clustering; 0 before the first.
    pub(super) generation: u32,
    /// Automatic centroids of this clustering.
    pub(super) centroid_count: u32,
    /// Differs between any two clusterings ever made, rolled back ones included.
    pub(super) version: Uuid,
}

impl Config {
    pub(super) fn new(dimension: u32, usage_mode: UsageMode) -> Self {
        Self { dimension, usage_mode, generation: 0, centroid_count: 0, version: crate::ids::new() }
    }

    /// The configuration after a clustering into `centroid_count` clusters.
    pub(super) fn next_clustering(self, centroid_count: u32) -> Self {
        Self { generation: self.generation + 1, centroid_count, version: crate::ids::new(), ..self }
    }

    /// True when every writer counts rows per cluster.
    pub(super) fn tracks_clusters(&self) -> bool {
        match self.usage_mode {
            UsageMode::DynamicWithVectorCountTracking => true,
            UsageMode::BuildOnceQueryMany => self.generation == 0,
            UsageMode::Dynamic => false,
        }
    }

    pub(super) fn to_bytes(self) -> [u8; CONFIG_BYTES] {
        let mut bytes = [0; CONFIG_BYTES];
        bytes[0] = self.usage_mode as u8;
        bytes[1..5].copy_from_slice(&self.dimension.to_be_bytes());
        bytes[5..9].copy_from_slice(&self.generation.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.centroid_count.to_be_bytes());
        bytes[13..].copy_from_slice(self.version.as_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes: [u8; CONFIG_BYTES] =
            bytes.try_into().map_err(|_| damaged("the configuration has the wrong length"))?;
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut version = [0; 16];
        version.copy_from_slice(&bytes[13..]);
        Ok(Self {
            usage_mode: UsageMode::from_number(i32::from(bytes[0]))
                .map_err(|_| damaged("the configuration has an unknown usage mode"))?,
            dimension: number(1),
            generation: number(5),
            centroid_count: number(9),
            version: Uuid::from_bytes(version),
        })
    }
}

pub(super) fn read_config(t: &mut Transaction, store: StoreId) -> Result<Option<Config>> {
    match load(t, store, CONFIG_KEY)? {
        Some(bytes) => Config::from_bytes(&bytes).map(Some),
        None => Ok(None),
    }
}

pub(super) fn write_config(t: &mut Transaction, store: StoreId, config: &Config) -> Result<()> {
    Ok(t.put(store, CONFIG_KEY, &config.to_bytes(), Placement::Auto)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn config_round_trips_and_rejects_other_bytes() {
        let config = Config::new(384, UsageMode::Dynamic).next_clustering(141);
        assert_eq!(Config::from_bytes(&config.to_bytes()).unwrap(), config);
        assert_eq!(Config::from_bytes(b"short").unwrap_err().code(), ErrorCode::Corruption);
        let mut bytes = config.to_bytes();
        bytes[0] = 9;
        assert_eq!(Config::from_bytes(&bytes).unwrap_err().code(), ErrorCode::Corruption);
    }
}
