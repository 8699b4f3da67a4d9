//! Counting rows: engine counters add up, so writers that count at the same time do not conflict.

use engine::{StoreId, Transaction};

use super::keys::damaged;
use crate::Result;
use crate::maintenance::Audit;

const LIVE: &[u8] = b"n";
const FRESH: &[u8] = b"w";
const DEAD: &[u8] = b"d";
const ADDED: &[u8] = b"u";

/// Live rows.
pub(super) fn rows(t: &Transaction, store: StoreId) -> Result<u64> {
    count(t, store, LIVE)
}

/// Rows in no cluster yet, dead ones included.
pub(super) fn fresh(t: &Transaction, store: StoreId) -> Result<u64> {
    count(t, store, FRESH)
}

/// Rows ever added. With the index's version it names a committed set of fresh rows.
pub(super) fn added(t: &Transaction, store: StoreId) -> Result<u64> {
    count(t, store, ADDED)
}

/// Deleted rows whose vectors and codes are still there.
pub(super) fn dead(t: &Transaction, store: StoreId) -> Result<u64> {
    count(t, store, DEAD)
}

/// How many live rows were given each centroid_id, in order of id.
pub(super) fn explicit(t: &mut Transaction, store: StoreId) -> Result<Vec<(u64, u64)>> {
    let mut counts = Vec::new();
    for (name, count) in t.counters(store)? {
        if let [b'e', id @ ..] = name.as_slice()
            && let Ok(id) = id.try_into()
        {
            counts.push((u64::from_be_bytes(id), checked(count)?));
        }
    }
    Ok(counts)
}

fn explicit_name(centroid_id: u64) -> [u8; 9] {
    let mut name = [b'e'; 9];
    name[1..].copy_from_slice(&centroid_id.to_be_bytes());
    name
}

fn count(t: &Transaction, store: StoreId, name: &[u8]) -> Result<u64> {
    checked(t.counter(store, name)?)
}

fn checked(count: i64) -> Result<u64> {
    u64::try_from(count).map_err(|_| damaged("a count of rows is negative"))
}

/// Changes of the counters, added up so that a batch touches each once.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) added: i64,
    pub(super) live: i64,
    pub(super) fresh: i64,
    pub(super) dead: i64,
    explicit: std::collections::BTreeMap<u64, i64>,
}

impl Counts {
    /// Rows in no cluster, and marks of dead rows, of which so many went.
    pub(super) fn gone(fresh: usize, dead: usize) -> Self {
        Self { fresh: -(fresh as i64), dead: -(dead as i64), ..Self::default() }
    }

    /// A row of this centroid_id (0: none) came (1) or went (-1).
    pub(super) fn explicit(&mut self, centroid_id: u64, delta: i64) {
        if centroid_id != 0 {
            *self.explicit.entry(centroid_id).or_default() += delta;
        }
    }

    pub(super) fn store(self, t: &mut Transaction, store: StoreId) -> Result<()> {
        for (name, delta) in [(ADDED, self.added), (LIVE, self.live), (FRESH, self.fresh), (DEAD, self.dead)]
        {
            if delta != 0 {
                t.add_to_counter(store, name, delta)?;
            }
        }
        for (centroid_id, delta) in self.explicit.into_iter().filter(|(_, delta)| *delta != 0) {
            t.add_to_counter(store, &explicit_name(centroid_id), delta)?;
        }
        Ok(())
    }
}

/// What a store's keys say, against its counters: each row has an id and an entry.
pub(crate) fn audit(contents: &engine::StoreContents) -> Audit {
    let keys = |kind: u8| contents.entries.get(&kind).copied().unwrap_or_default();
    let (items, entries) = (keys(b'i'), keys(b'p'));
    let counted = contents.counters.get(LIVE).copied().unwrap_or_default();
    let dead = contents.counters.get(DEAD).copied().unwrap_or_default();
    let difference = if u64::try_from(counted) != Ok(items) {
        Some(format!("its count is {counted}, but it holds {items} items"))
    } else if entries != items {
        Some(format!("it holds {items} ids and {entries} entries"))
    } else if u64::try_from(dead) != Ok(keys(b'x')) {
        Some(format!("its count of deleted rows is {dead}, but it holds {} marks", keys(b'x')))
    } else {
        None
    };
    Audit { items, difference }
}
