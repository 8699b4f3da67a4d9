//! The rows that pass a filter, found once per version of the index and kept in memory.

use std::sync::{Arc, OnceLock};

use engine::{Direction, PerProcess, Seq, StoreId, Transaction, ValueRef};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::row_set::RowSet;
use super::{Filter, postings};
use crate::vector::entry;
use crate::vector::keys::{self, KeyRange, RowId};
use crate::vector::list::List;
use crate::{Result, walk};

/// Bytes of match sets kept in memory, of all stores of the process.
const BYTES_MAX: u64 = 16 << 20;
/// Match sets kept in memory, about.
const SETS: usize = 256;
/// Up to so many rows their codes are kept with them.
const CODES_MAX: u64 = 32_768;

/// All indexed rows that pass a filter, and perhaps some that were deleted or came since. Whoever finds a row in it looks whether it has
/// an entry.
#[derive(Debug)]
pub(in crate::vector) struct Matches {
    rows: RowSet,
    /// The snapshot that it was found in: rows deleted before may be missing.
    seen: Seq,
    /// Of the rows, where they are few.
    codes: OnceLock<Arc<List>>,
    /// Bytes they take, with codes.
    bytes: u64,
}

impl Matches {
    /// The rows that pass, as the snapshot of `t` has them, in which the index has the version of this stamp. Codes have `words` words.
    /// Reads do not count.
    pub(in crate::vector) fn find(
        t: &mut Transaction,
        store: StoreId,
        stamp: u64,
        filter: &Filter,
        words: usize,
    ) -> Result<Arc<Self>> {
        // Only itself sees what a transaction has written, and stamp 0 is that of every index before its first version.
        let is_shared = stamp != 0 && !t.has_writes();
        let (cache, key) = (CACHE.get(), (stamp, filter.text.clone()));
        if is_shared && let Some(known) = cache.0.get(&key).filter(|known| known.seen <= t.snapshot()) {
            return Ok(known);
        }
        let rows = t.untracked(|t| rows(t, store, filter))?;
        let codes = if rows.len() <= CODES_MAX { rows.len() * List::row_bytes(words) as u64 } else { 0 };
        let bytes = rows.bytes() as u64 + codes;
        let found = Arc::new(Self { rows, seen: t.snapshot(), codes: OnceLock::new(), bytes });
        if is_shared {
            cache.0.insert(key, Arc::clone(&found));
        }
        Ok(found)
    }

    /// The codes of all of the rows in one list, made by `gather` when they are first asked for; None when the rows are too many.
    pub(in crate::vector) fn codes(
        &self,
        gather: impl FnOnce() -> Result<List>,
    ) -> Result<Option<Arc<List>>> {
        if self.rows.len() > CODES_MAX {
            return Ok(None);
        }
        if let Some(known) = self.codes.get() {
            return Ok(Some(Arc::clone(known)));
        }
        let codes = Arc::new(gather()?);
        Ok(Some(Arc::clone(self.codes.get_or_init(|| codes))))
    }

    pub(in crate::vector) fn contains(&self, row: RowId) -> bool {
        self.rows.contains(row)
    }

    /// The rows, rising.
    pub(in crate::vector) fn rows(&self) -> impl Iterator<Item = RowId> + '_ {
        self.rows.rows()
    }
}

/// By stamp of the index version, which no other index has, and text of the filter.
type Key = (u64, String);

struct Known(Cache<Key, Arc<Matches>, Bytes>);

impl Default for Known {
    fn default() -> Self {
        Self(Cache::with_weighter(SETS, BYTES_MAX, Bytes))
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<Matches>> for Bytes {
    fn weight(&self, key: &Key, matches: &Arc<Matches>) -> u64 {
        key.1.len() as u64 + matches.bytes + 128
    }
}

static CACHE: PerProcess<Known> = PerProcess::new();

/// By the postings, else by a look at all payloads.
fn rows(t: &mut Transaction, store: StoreId, filter: &Filter) -> Result<RowSet> {
    match postings::find(t, store, filter)? {
        Some(found) if found.is_exact => Ok(found.rows),
        Some(found) => check(t, store, filter, &found.rows),
        None => look_at_all(t, store, filter),
    }
}

/// Those rows whose payloads pass.
fn check(t: &mut Transaction, store: StoreId, filter: &Filter, rows: &RowSet) -> Result<RowSet> {
    let mut passed = RowSet::default();
    for row in rows.rows() {
        let passes = |entry: Option<&[u8]>| entry.map_or(Ok(false), |entry| passes(filter, entry));
        if t.get_with(store, &keys::entry(row), passes)?? {
            passed.add(row);
        }
    }
    Ok(passed)
}

fn look_at_all(t: &mut Transaction, store: StoreId, filter: &Filter) -> Result<RowSet> {
    let (mut passed, mut large) = (RowSet::default(), Vec::new());
    walk::visit(t, store, KeyRange::all(b'p').span(), Direction::Forward, |key, entry| {
        let row = RowId(keys::number_of(key)?);
        match entry {
            ValueRef::Inline(entry) if passes(filter, entry)? => passed.add(row),
            ValueRef::Inline(_) => {}
            // Not to be read while the walk holds its pages.
            blob @ ValueRef::Blob(_) => large.push((row, blob.to_value())),
        }
        Ok(true)
    })?;
    for (row, entry) in large {
        if passes(filter, &t.load(&entry)?)? {
            passed.add(row);
        }
    }
    Ok(passed)
}

fn passes(filter: &Filter, entry: &[u8]) -> Result<bool> {
    let (_, _, payload) = entry::parts(entry)?;
    Ok(filter.matches(payload))
}

#[cfg(test)]
mod tests {
    use engine::{Database, Mode, Options, Placement};
    use serde_json::json;

    use super::*;

    fn put(t: &mut Transaction, store: StoreId, row: u64, payload: &str) {
        let bytes = entry::Entry::encode("id", 0, payload.as_bytes()).unwrap();
        t.put(store, &keys::entry(RowId(row)), &bytes, Placement::Auto).unwrap();
    }

    fn write(database: &Database, work: impl FnOnce(&mut Transaction, StoreId)) {
        let mut t = database.begin(Mode::Write).unwrap();
        let store = t.ensure_store("v", b"").unwrap();
        work(&mut t, store);
        t.commit().unwrap();
    }

    fn filter(value: serde_json::Value) -> Filter {
        Filter::parse(Some(&value)).unwrap().unwrap()
    }

    fn rows_of(t: &mut Transaction, stamp: u64, value: serde_json::Value) -> Vec<u64> {
        let store = t.store("v").unwrap().unwrap().0;
        let found = Matches::find(t, store, stamp, &filter(value), 6).unwrap();
        assert_eq!(found.rows.len(), found.rows().count() as u64);
        found.rows().map(|row| row.0).collect()
    }

    /// Ten rows, of which the last is too large to lie beside its key.
    fn subject() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path(), &Options::default()).unwrap();
        let payload = |row: u64| {
            let text = "x".repeat(if row == 9 { 100_000 } else { 70 });
            json!({"n": row, "list": [row % 2], "text": text}).to_string()
        };
        write(&database, |t, store| {
            (0..10).for_each(|row| put(t, store, row, &payload(row)));
            postings::add(t, store, (0..10).map(|row| (RowId(row), payload(row)))).unwrap();
        });
        (folder, database)
    }

    #[test]
    fn rows_that_postings_cannot_tell_are_checked() {
        let (_folder, database) = subject();
        let mut t = database.begin(Mode::Read).unwrap();
        let mut find = |value| rows_of(&mut t, 71, value);
        assert_eq!(find(json!({"n": {"$gt": 7}})), [8, 9]);
        assert_eq!(find(json!({"list": [1]})), [1, 3, 5, 7, 9]);
        assert_eq!(find(json!({"$not": {"list": [1]}})), [0, 2, 4, 6, 8]);
        assert_eq!(find(json!({"$not": {"text": "x".repeat(70)}})), [9]);
        assert_eq!(find(json!({"text": {"$gte": "x".repeat(71)}})), [9]);
        assert!(find(json!({"n": "none"})).is_empty());
    }

    /// A set that a later snapshot made lacks rows that an earlier one still has.
    #[test]
    fn an_earlier_snapshot_misses_no_row_that_was_deleted_since() {
        let (_folder, database) = subject();
        let looks_at_payloads = || json!({"list": [1]});
        let mut before = database.begin(Mode::Read).unwrap();
        write(&database, |t, store| t.delete(store, &keys::entry(RowId(3))).unwrap());
        let mut after = database.begin(Mode::Read).unwrap();
        assert_eq!(rows_of(&mut after, 72, looks_at_payloads()), [1, 5, 7, 9]);
        assert_eq!(rows_of(&mut before, 72, looks_at_payloads()), [1, 3, 5, 7, 9]);
        // A later snapshot may do with what an earlier one found.
        assert!(rows_of(&mut after, 72, looks_at_payloads()).len() >= 4);
    }

    #[test]
    fn what_a_transaction_wrote_is_seen_by_no_other() {
        let (_folder, database) = subject();
        let mut t = database.begin(Mode::Write).unwrap();
        let store = t.store("v").unwrap().unwrap().0;
        t.delete(store, &keys::entry(RowId(1))).unwrap();
        assert_eq!(rows_of(&mut t, 73, json!({"list": [1]})), [3, 5, 7, 9]);
        t.rollback();
        let mut t = database.begin(Mode::Read).unwrap();
        assert_eq!(rows_of(&mut t, 73, json!({"list": [1]})), [1, 3, 5, 7, 9]);
    }

    #[test]
    fn finding_counts_as_reading_nothing() {
        let (_folder, database) = subject();
        let mut t = database.begin(Mode::Write).unwrap();
        rows_of(&mut t, 74, json!({"$not": {"list": [1]}}));
        let store = t.store("v").unwrap().unwrap().0;
        write(&database, |t, store| put(t, store, 1, "{}"));
        t.put(store, b"other", b"", Placement::Auto).unwrap();
        t.commit().unwrap();
    }

    #[test]
    fn codes_are_gathered_once_and_not_for_too_many() {
        let (_folder, database) = subject();
        let mut t = database.begin(Mode::Read).unwrap();
        let store = t.store("v").unwrap().unwrap().0;
        let matches = Matches::find(&mut t, store, 75, &filter(json!({"n": 1})), 6).unwrap();
        let gathered = matches.codes(|| Ok(List::new(6))).unwrap().unwrap();
        let again = matches.codes(|| panic!("gathered twice")).unwrap().unwrap();
        assert!(Arc::ptr_eq(&gathered, &again));
        assert!(matches.contains(RowId(1)) && !matches.contains(RowId(2)));
        let mut rows = RowSet::default();
        (0..CODES_MAX + 1).for_each(|row| rows.add(RowId(row)));
        let many = Matches { rows, seen: t.snapshot(), codes: OnceLock::new(), bytes: 0 };
        assert!(many.codes(|| panic!("too many")).unwrap().is_none());
    }
}
