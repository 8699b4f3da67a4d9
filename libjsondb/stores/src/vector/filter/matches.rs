//! The rows that pass a filter, found once per version of the index and kept in memory.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use engine::{PerProcess, Seq, StoreId, Transaction};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::row_set::RowSet;
use super::{Filter, postings};
use crate::Result;
use crate::vector::entry;
use crate::vector::flat::Flat;
use crate::vector::keys::{self, RowId};

/// Bytes of match sets kept in memory, of all stores of the process; as many again of the newest of each filter. A single set may be larger: 16 bytes
/// for each block of vectors that it has rows of.
const BYTES_MAX: u64 = 16 << 20;
/// What the cache counts of a set at the most: it keeps none that is as large as all its room.
const WEIGHT_MAX: u64 = BYTES_MAX / 10 * 9;
/// Match sets kept in memory, about.
const SETS: usize = 256;
/// Up to so many rows, and bytes of codes of one bit, their codes are kept with them; fine ones, too, up to so many bytes in all.
const CODES_MAX: u64 = 32_768;
const CODES_BYTES_MAX: u64 = BYTES_MAX / 4;
const FINE_BYTES_MAX: u64 = BYTES_MAX / 2;

/// All indexed rows that pass a filter, and perhaps some that were deleted or came since. Whoever finds a row in it looks whether it has
/// an entry.
#[derive(Debug)]
pub(in crate::vector) struct Matches {
    rows: RowSet,
    /// The snapshot that it was found in: rows deleted before may be missing.
    seen: Seq,
    /// Of the rows, where they are few.
    codes: OnceLock<Arc<Codes>>,
    /// What was gathered for another version of the index.
    before: Mutex<Option<Arc<Codes>>>,
    has_codes: bool,
    has_fine_codes: bool,
    /// Words of a code.
    words: usize,
    /// Bytes it takes, with codes.
    bytes: u64,
}

/// Codes of rows relative to `base`, by rising row.
#[derive(Debug)]
struct Codes {
    base: Arc<[f32]>,
    rows: Arc<Flat>,
}

impl Matches {
    /// The rows that pass, as the snapshot of `t` has them, in which the index has the version of this stamp. `id` is the store's own among
    /// all there are; its codes have `words` words. Reads do not count.
    pub(in crate::vector) fn find(
        t: &mut Transaction,
        store: StoreId,
        (id, stamp): (u64, u64),
        filter: &Filter,
        words: usize,
    ) -> Result<Arc<Self>> {
        // Only itself sees what a transaction has written, and stamp 0 is that of every index before its first version.
        let is_shared = stamp != 0 && !t.has_writes();
        let (known, key) = (KNOWN.get(), (stamp, filter.text.clone()));
        if is_shared && let Some(found) = known.sets.get(&key).filter(|found| found.seen <= t.snapshot()) {
            return Ok(found);
        }
        let newest = (id, filter.text.clone());
        let before = known.newest.get(&newest).and_then(|before| before.gathered());
        let rows = t.untracked(|t| rows(t, store, filter))?;
        let found = Arc::new(Self::new(rows, t.snapshot(), words, before));
        if is_shared {
            known.sets.insert(key, Arc::clone(&found));
            if found.has_codes {
                known.newest.insert(newest, Arc::clone(&found));
            }
        }
        Ok(found)
    }

    fn new(rows: RowSet, seen: Seq, words: usize, before: Option<Arc<Codes>>) -> Self {
        let bytes_of_codes = |is_fine| rows.len() * Flat::row_bytes(words, is_fine) as u64;
        let has_codes = rows.len() <= CODES_MAX && bytes_of_codes(false) <= CODES_BYTES_MAX;
        let has_fine_codes = has_codes && bytes_of_codes(true) <= FINE_BYTES_MAX;
        let bytes = rows.bytes() as u64 + if has_codes { bytes_of_codes(has_fine_codes) } else { 0 };
        let (codes, before) = (OnceLock::new(), Mutex::new(before));
        Self { rows, seen, codes, before, has_codes, has_fine_codes, words, bytes }
    }

    /// The codes of all of the rows relative to `base`; None when the rows are too many. Those that are not known yet `gather` adds in the order of the
    /// rows.
    pub(in crate::vector) fn codes(
        &self,
        base: &Arc<[f32]>,
        gather: impl FnOnce(&mut Flat, &mut dyn Iterator<Item = RowId>) -> Result<()>,
    ) -> Result<Option<Arc<Flat>>> {
        if !self.has_codes {
            return Ok(None);
        }
        if let Some(known) = self.codes.get() {
            return Ok(Some(Arc::clone(&known.rows)));
        }
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut rows = Flat::new(self.words, self.has_fine_codes);
        match before
            .as_deref()
            .filter(|before| before.base == *base && before.rows.is_fine() == rows.is_fine())
        {
            Some(Codes { rows: known, .. }) => {
                let here: RowSet = (0..known.list().len()).map(|index| known.list().row(index)).collect();
                gather(&mut rows, &mut self.rows.rows().filter(|row| !here.contains(*row)))?;
                rows = known.merged(&rows, |row| self.rows.contains(row));
            }
            None => gather(&mut rows, &mut self.rows.rows())?,
        }
        let gathered = Arc::new(Codes { base: Arc::clone(base), rows: Arc::new(rows) });
        Ok(Some(Arc::clone(&self.codes.get_or_init(|| gathered).rows)))
    }

    /// The codes, or those that they will be made from.
    fn gathered(&self) -> Option<Arc<Codes>> {
        let before = || self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.codes.get().cloned().or_else(before)
    }

    pub(in crate::vector) fn contains(&self, row: RowId) -> bool {
        self.rows.contains(row)
    }
}

/// By stamp of the index version, which no other index has, or by the store's id; and by the text of the filter.
type Key = (u64, String);
type Sets = Cache<Key, Arc<Matches>, Bytes>;

struct Known {
    sets: Sets,
    /// Of each filter and store the set found last, to take codes over from.
    newest: Sets,
}

impl Default for Known {
    fn default() -> Self {
        Self { sets: sets(), newest: sets() }
    }
}

fn sets() -> Sets {
    // One shard: with several, each would have room for small sets only.
    let options = OptionsBuilder::new()
        .estimated_items_capacity(SETS)
        .weight_capacity(BYTES_MAX)
        .shards(1)
        .build()
        .unwrap_or_else(|error| unreachable!("all options are given: {error}"));
    Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<Matches>> for Bytes {
    fn weight(&self, key: &Key, matches: &Arc<Matches>) -> u64 {
        // Were a large one not kept, every query would find it anew.
        (key.1.len() as u64 + matches.bytes + 128).min(WEIGHT_MAX)
    }
}

static KNOWN: PerProcess<Known> = PerProcess::new();

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
    let mut passed = RowSet::default();
    entry::visit(t, store, |row, entry| {
        if passes(filter, entry)? {
            passed.add(row);
        }
        Ok(())
    })?;
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
    use crate::vector::list::Coded;
    use crate::vector::rabitq::Factors;

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
        let found = Matches::find(t, store, (7, stamp), &filter(value), 6).unwrap();
        found.rows.rows().map(|row| row.0).collect()
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

    /// Adds codes that say which rows they are of, and when they were made.
    fn code(codes: &mut Flat, rows: &mut dyn Iterator<Item = RowId>, time: f32) -> Result<()> {
        for row in rows {
            let factors = Factors { add: row.0 as f32, scale: time };
            codes.push(Coded { row, is_primary: true, factors, code: &[row.0; 6] }, &[0.0; 384], &[0.0; 384]);
        }
        Ok(())
    }

    #[test]
    fn codes_are_gathered_once_and_not_for_too_many() {
        let (_folder, database) = subject();
        let mut t = database.begin(Mode::Read).unwrap();
        let store = t.store("v").unwrap().unwrap().0;
        let base: Arc<[f32]> = vec![0.0; 4].into();
        let matches = Matches::find(&mut t, store, (8, 75), &filter(json!({"n": 1})), 6).unwrap();
        let gathered = matches.codes(&base, |codes, rows| code(codes, rows, 1.0)).unwrap().unwrap();
        let again = matches.codes(&base, |_, _| panic!("gathered twice")).unwrap().unwrap();
        assert!(Arc::ptr_eq(&gathered, &again));
        assert!(matches.contains(RowId(1)) && !matches.contains(RowId(2)));
        for (count, words) in [(CODES_MAX + 1, 6), (CODES_MAX, 64)] {
            let rows: RowSet = (0..count).map(RowId).collect();
            let many = Matches::new(rows, t.snapshot(), words, None);
            assert!(many.codes(&base, |_, _| panic!("too many")).unwrap().is_none());
        }
    }

    #[test]
    fn the_largest_set_with_codes_is_kept() {
        let rows: RowSet = (0..CODES_MAX).map(|row| RowId(row * 64)).collect();
        let largest = Arc::new(Matches::new(rows, Seq(0), 6, None));
        let sets = sets();
        sets.insert((1, String::new()), Arc::clone(&largest));
        assert!(largest.has_codes && sets.get(&(1, String::new())).is_some());
    }

    /// Every query would find it anew.
    #[test]
    fn a_set_larger_than_the_room_for_all_is_kept() {
        let rows: RowSet = (0..BYTES_MAX / 16 + 1000).map(|row| RowId(row * 64)).collect();
        let huge = Arc::new(Matches::new(rows, Seq(0), 6, None));
        assert!(huge.bytes > BYTES_MAX);
        let sets = sets();
        sets.insert((1, String::new()), Arc::clone(&huge));
        assert!(sets.get(&(1, String::new())).is_some());
        sets.insert((2, String::new()), huge);
        assert!(sets.get(&(1, String::new())).is_none(), "it takes the place of all others");
        assert!(sets.get(&(2, String::new())).is_some());
    }

    #[test]
    fn a_new_version_of_the_index_takes_over_the_codes_it_can() {
        let (_folder, database) = subject();
        let base: Arc<[f32]> = vec![0.0; 4].into();
        let ask = |stamp, base: &Arc<[f32]>, time: f32| {
            let mut t = database.begin(Mode::Read).unwrap();
            let store = t.store("v").unwrap().unwrap().0;
            let wanted = filter(json!({"n": {"$gte": 3}}));
            let matches = Matches::find(&mut t, store, (9, stamp), &wanted, 6).unwrap();
            let codes = matches.codes(base, |codes, rows| code(codes, rows, time)).unwrap().unwrap();
            let list = codes.list();
            (0..list.len())
                .map(|index| {
                    let mut code = [0; 6];
                    list.copy_code(index, &mut code);
                    assert_eq!(code, [list.row(index).0; 6]);
                    (list.row(index).0, list.factors(index).scale)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(ask(81, &base, 1.0).len(), 7);
        write(&database, |t, store| {
            postings::retain(t, store, |row| row.0 != 5).unwrap();
            for row in [10, 12] {
                let payload = json!({ "n": row }).to_string();
                put(t, store, row, &payload);
                postings::add(t, store, [(RowId(row), payload)]).unwrap();
            }
        });
        let old = |row| (row, 1.0);
        let expected = [old(3), old(4), old(6), old(7), old(8), old(9), (10, 2.0), (12, 2.0)];
        assert_eq!(ask(82, &base, 2.0), expected);
        // Of an index that was built anew, with another base, nothing can be taken over.
        let other: Arc<[f32]> = vec![1.0; 4].into();
        assert!(ask(83, &other, 3.0).iter().all(|(_, time)| *time == 3.0));
    }
}
