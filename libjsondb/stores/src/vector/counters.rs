//! Counting rows: engine counters add up, so writers that count at the same time do not conflict.

use std::collections::BTreeMap;

use engine::{StoreId, Transaction};

use super::config::Config;
use super::layout::{ClusterId, damaged};
use crate::Result;
use crate::maintenance::Audit;

const COUNTER_OF_ALL: &[u8] = b"n";
const COUNTER_OF_EXPLICIT: &[u8] = b"e";

/// Live rows of the store.
pub(super) fn row_count(t: &Transaction, store: StoreId) -> Result<u64> {
    count(t, store, COUNTER_OF_ALL)
}

pub(super) fn add_to_row_count(t: &mut Transaction, store: StoreId, delta: i64) -> Result<()> {
    Ok(t.add_to_counter(store, COUNTER_OF_ALL, delta)?)
}

/// What a store's keys say, against its counter: each row has an id, a vector and a payload.
pub(crate) fn audit(contents: &engine::StoreContents) -> Audit {
    let keys = |kind: u8| contents.entries.get(&kind).copied().unwrap_or_default();
    let (items, vectors, payloads) = (keys(b'i'), keys(b'v'), keys(b'p'));
    let counted = contents.counters.get(COUNTER_OF_ALL).copied().unwrap_or_default();
    let difference = if u64::try_from(counted) != Ok(items) {
        Some(format!("its count is {counted}, but it holds {items} items"))
    } else if (vectors, payloads) != (items, items) {
        Some(format!("it holds {items} ids, {vectors} vectors and {payloads} payloads"))
    } else {
        None
    };
    Audit { items, difference }
}

/// Explicit clusters made so far. With the configuration's version it names a committed set of explicit
/// centroids.
pub(super) fn explicit_count(t: &Transaction, store: StoreId) -> Result<i64> {
    Ok(t.counter(store, COUNTER_OF_EXPLICIT)?)
}

pub(super) fn count_new_explicit(t: &mut Transaction, store: StoreId) -> Result<()> {
    Ok(t.add_to_counter(store, COUNTER_OF_EXPLICIT, 1)?)
}

/// Live rows of a cluster, where they are tracked. A new clustering's counters take over those of the last
/// one.
pub(super) fn cluster_count(t: &Transaction, store: StoreId, cluster: ClusterId) -> Result<u64> {
    count(t, store, &cluster_counter(cluster))
}

pub(super) fn add_to_cluster_count(
    t: &mut Transaction,
    store: StoreId,
    cluster: ClusterId,
    delta: i64,
) -> Result<()> {
    Ok(t.add_to_counter(store, &cluster_counter(cluster), delta)?)
}

fn cluster_counter(cluster: ClusterId) -> Vec<u8> {
    [COUNTER_OF_ALL, &cluster.counter_suffix()].concat()
}

fn count(t: &Transaction, store: StoreId, name: &[u8]) -> Result<u64> {
    u64::try_from(t.counter(store, name)?).map_err(|_| damaged("a count of rows is negative"))
}

/// Changes of the row counters, added up so that a batch touches each once.
pub(super) struct Counts {
    all: i64,
    per_cluster: Option<BTreeMap<ClusterId, i64>>,
}

impl Counts {
    pub(super) fn new(config: &Config) -> Self {
        Self { all: 0, per_cluster: config.tracks_clusters().then(BTreeMap::new) }
    }

    pub(super) fn added(&mut self, cluster: ClusterId) {
        self.change(cluster, 1);
    }

    pub(super) fn removed(&mut self, cluster: ClusterId) {
        self.change(cluster, -1);
    }

    fn change(&mut self, cluster: ClusterId, delta: i64) {
        self.all += delta;
        if let Some(counts) = &mut self.per_cluster {
            *counts.entry(cluster).or_default() += delta;
        }
    }

    pub(super) fn store(self, t: &mut Transaction, store: StoreId) -> Result<()> {
        if self.all != 0 {
            add_to_row_count(t, store, self.all)?;
        }
        for (cluster, delta) in self.per_cluster.into_iter().flatten().filter(|(_, delta)| *delta != 0) {
            add_to_cluster_count(t, store, cluster, delta)?;
        }
        Ok(())
    }
}
