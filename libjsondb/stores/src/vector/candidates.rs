//! The best rows met so far, and how they become hits.

use engine::{CancelToken, StoreId, Transaction};
use serde_json::value::RawValue;

use super::filter::Filter;
use super::layout::{Entry, RowId, damaged};
use super::types::Hit;
use crate::Result;

/// Rows of equal score kept beyond those wanted before the surplus is dropped.
const SLACK: usize = 256;

/// Entries read between two looks at the cancel token.
const ENTRIES_PER_CHECK: usize = 256;

/// Rows with their scores. Without a filter only the best are kept, with those that tie with the last of
/// them: which of those wins depends on their ids, which are not known yet. With a filter all are kept.
pub(super) struct Candidates {
    rows: Vec<(f32, RowId)>,
    /// Number of rows wanted; None keeps all.
    limit: Option<usize>,
    /// Rows below this score can't be among the best any more.
    floor: f32,
    prune_at: usize,
}

impl Candidates {
    /// Keeps the best `k` rows, at least 1, or all of them for a filter to choose from.
    pub(super) fn new(k: usize, filter: Option<&Filter>) -> Self {
        let limit = filter.is_none().then_some(k.max(1));
        let prune_at = k.saturating_mul(2).saturating_add(SLACK);
        Self { rows: Vec::new(), limit, floor: f32::NEG_INFINITY, prune_at }
    }

    #[inline]
    pub(super) fn push(&mut self, score: f32, row: RowId) {
        if score >= self.floor {
            self.rows.push((score, row));
            if self.rows.len() >= self.prune_at {
                self.prune();
            }
        }
    }

    fn prune(&mut self) {
        let Some(limit) = self.limit.filter(|limit| *limit < self.rows.len()) else {
            return;
        };
        self.rows.select_nth_unstable_by(limit - 1, |a, b| b.0.total_cmp(&a.0));
        self.floor = self.rows[limit - 1].0;
        let floor = self.floor;
        self.rows.retain(|row| row.0 >= floor);
        // Ties may leave many: wait until they have doubled, so that pruning stays cheap per row.
        self.prune_at = self.prune_at.max(self.rows.len() * 2);
    }

    /// The best `k` rows that pass the filter, by falling score, then by id. Forgets the rows.
    pub(super) fn take_best(
        &mut self,
        t: &mut Transaction,
        store: StoreId,
        k: usize,
        filter: Option<&Filter>,
        cancel: &CancelToken,
    ) -> Result<Vec<Hit>> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut hits = Vec::new();
        for ties in rows.chunk_by(|a, b| a.0 == b.0) {
            if hits.len() >= k {
                break;
            }
            best_ids(t, store, ties, k - hits.len(), filter, cancel, &mut hits)?;
        }
        Ok(hits)
    }
}

/// Adds the `wanted` rows with the lowest ids among rows of equal score.
fn best_ids(
    t: &mut Transaction,
    store: StoreId,
    ties: &[(f32, RowId)],
    wanted: usize,
    filter: Option<&Filter>,
    cancel: &CancelToken,
    hits: &mut Vec<Hit>,
) -> Result<()> {
    let mut found: Vec<Entry> = Vec::new();
    for (index, (_, row)) in ties.iter().enumerate() {
        if index % ENTRIES_PER_CHECK == 0 {
            cancel.check()?;
        }
        let entry = Entry::load(t, store, row)?;
        if filter.is_none_or(|filter| filter.matches(&entry.payload)) {
            found.push(entry);
            if found.len() >= wanted.saturating_mul(2).saturating_add(SLACK) {
                keep_lowest_ids(&mut found, wanted);
            }
        }
    }
    keep_lowest_ids(&mut found, wanted);
    let score = ties.first().map_or(0.0, |tie| tie.0);
    for entry in found {
        hits.push(Hit { id: entry.id, score, payload: payload(entry.payload)? });
    }
    Ok(())
}

fn keep_lowest_ids(entries: &mut Vec<Entry>, wanted: usize) {
    entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    entries.truncate(wanted);
}

/// A stored payload as JSON; None for null.
pub(super) fn payload(text: Vec<u8>) -> Result<Option<Box<RawValue>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(text).map_err(|_| damaged("a payload is not UTF-8"))?;
    RawValue::from_string(text).map(Some).map_err(|_| damaged("a payload is not JSON"))
}

/// Hits of several sets together: the best `k`, by falling score, then by id.
pub(super) fn keep_best_hits(hits: &mut Vec<Hit>, k: usize) {
    hits.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits.truncate(k);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u32) -> RowId {
        let mut row = [0; 16];
        row[12..].copy_from_slice(&number.to_be_bytes());
        row
    }

    #[test]
    fn pruning_keeps_the_best_and_their_ties() {
        let mut candidates = Candidates::new(3, None);
        for number in 0..100_000u32 {
            candidates.push((number % 1_000) as f32 / 1_000.0, row(number));
        }
        candidates.prune();
        assert_eq!(candidates.rows.len(), 100, "the best score and all of its ties");
        assert!(candidates.rows.iter().all(|row| row.0 == 0.999));
    }

    #[test]
    fn memory_stays_bounded_without_ties() {
        let mut candidates = Candidates::new(10, None);
        for number in 0..100_000u32 {
            candidates.push((number as f32).sin(), row(number));
            assert!(candidates.rows.len() <= 2 * 10 + SLACK);
        }
    }

    #[test]
    fn a_filter_keeps_everything() {
        let filter = Filter::parse(Some(&serde_json::json!({"a": 1}))).unwrap();
        let mut candidates = Candidates::new(1, filter.as_ref());
        (0..1_000).for_each(|number| candidates.push(-1.0, row(number)));
        assert_eq!(candidates.rows.len(), 1_000);
    }
}
