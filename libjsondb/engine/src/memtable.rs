//! Commits that no checkpoint has taken yet: an ordered map from (key, newest first) to value, read without locks.

use std::borrow::Borrow;
use std::cmp::Ordering as Order;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;

use crate::key_filter::KeyFilter;
use crate::run::Run;
use crate::segment::SegmentId;
use crate::{Seq, Value};

/// Bytes of a key that are compared as three numbers: no jump to where the key lies, for most of the keys that a search meets.
const HEAD_LEN: usize = 24;

/// The first bytes of a key, zeros behind a shorter one. Of two that differ, the smaller belongs to the smaller key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head([u64; 3]);

impl Head {
    fn of(key: &[u8]) -> Head {
        let mut bytes = [0; HEAD_LEN];
        let len = key.len().min(HEAD_LEN);
        bytes[..len].copy_from_slice(&key[..len]);
        let word = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_be_bytes(*word))
        };
        Head([word(0), word(8), word(16)])
    }
}

/// A key at the commit that wrote it. Orders by key, then newest first.
#[derive(Debug)]
pub(crate) struct VersionedKey {
    head: Head,
    key: Box<[u8]>,
    seq: Seq,
}

/// As a [`VersionedKey`], of a key that is somebody else's.
struct Probe<'a> {
    head: Head,
    key: &'a [u8],
    seq: Seq,
}

impl<'a> Probe<'a> {
    fn new(key: &'a [u8], seq: Seq) -> Probe<'a> {
        Probe { head: Head::of(key), key, seq }
    }
}

/// What both an owned and a borrowed versioned key show, so that look-ups allocate nothing.
trait KeyView {
    fn view(&self) -> (&Head, &[u8], Seq);
}

impl KeyView for VersionedKey {
    fn view(&self) -> (&Head, &[u8], Seq) {
        (&self.head, &self.key, self.seq)
    }
}

impl KeyView for Probe<'_> {
    fn view(&self) -> (&Head, &[u8], Seq) {
        (&self.head, self.key, self.seq)
    }
}

impl PartialEq for dyn KeyView + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for dyn KeyView + '_ {}

impl PartialOrd for dyn KeyView + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn KeyView + '_ {
    fn cmp(&self, other: &Self) -> Order {
        let ((head, key, seq), (other_head, other_key, other_seq)) = (self.view(), other.view());
        head.cmp(other_head).then_with(|| key.cmp(other_key)).then(other_seq.cmp(&seq))
    }
}

impl PartialEq for VersionedKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for VersionedKey {}

impl PartialOrd for VersionedKey {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for VersionedKey {
    fn cmp(&self, other: &Self) -> Order {
        (self as &dyn KeyView).cmp(other as &dyn KeyView)
    }
}

impl<'a> Borrow<dyn KeyView + 'a> for VersionedKey {
    fn borrow(&self) -> &(dyn KeyView + 'a) {
        self
    }
}

type Map = SkipMap<VersionedKey, Option<Value>>;
pub(crate) type MemEntry<'a> = Entry<'a, VersionedKey, Option<Value>>;

/// Sum of a counter's additions inside one memtable, after each commit that added to it.
type CounterHistory = Vec<(Seq, i64)>;

/// A stretch of consecutive commits.
#[derive(Default)]
pub(crate) struct Memtable {
    map: Map,
    /// Of the keys in the map.
    filter: KeyFilter,
    /// Runs of the first of its commits, newest first. They lie under the map.
    runs: Vec<Arc<Run>>,
    runs_seq: Seq,
    counters: Mutex<HashMap<Box<[u8]>, CounterHistory>>,
    /// Segments that transactions wrote, with the commit that brought them.
    value_segments: Mutex<BTreeMap<SegmentId, Seq>>,
    bytes: AtomicU64,
    /// Bytes of values in those segments: on disk already, but garbage once overwritten.
    blob_bytes: AtomicU64,
    newest: AtomicU64,
}

/// Of a key's versions, so many are stepped over one by one; the rest, which may be very many, is jumped over.
const VERSIONS_STEPPED: usize = 8;
/// Estimated cost of an entry beyond its key and value bytes.
const ENTRY_OVERHEAD: u64 = 120;

impl Window {
    /// All commits after one.
    pub(crate) fn after(seq: Seq) -> Window {
        Window { after: seq, upto: Seq(u64::MAX) }
    }
}

impl Memtable {
    /// Begins with a commit that wrote runs, given oldest first.
    pub(crate) fn over(runs: Vec<Run>, seq: Seq) -> Memtable {
        let memtable = Memtable {
            runs_seq: seq,
            newest: AtomicU64::new(seq.0),
            blob_bytes: AtomicU64::new(runs.iter().map(|run| run.bytes).sum()),
            ..Memtable::default()
        };
        let segments = runs.iter().flat_map(|run| &run.segments).map(|id| (*id, seq)).collect();
        Memtable {
            value_segments: Mutex::new(segments),
            runs: runs.into_iter().rev().map(Arc::new).collect(),
            ..memtable
        }
    }

    /// Runs of a commit inside `window`, newest first.
    pub(crate) fn runs(&self, window: Window) -> &[Arc<Run>] {
        let is_inside = self.runs_seq > window.after && self.runs_seq <= window.upto;
        if is_inside { &self.runs } else { &[] }
    }

    /// Adds one write. Only the thread that applies commits calls this, in order of `seq`.
    pub(crate) fn insert(&self, key: &[u8], seq: Seq, value: Option<Value>) {
        let value_bytes = match &value {
            Some(Value::Inline(bytes)) => bytes.len() as u64,
            Some(Value::Blob(blob)) => {
                self.value_segments.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.segment, seq);
                self.blob_bytes.fetch_add(u64::from(blob.stored_len), Ordering::Relaxed);
                0
            }
            None => 0,
        };
        self.bytes.fetch_add(key.len() as u64 + value_bytes + ENTRY_OVERHEAD, Ordering::Relaxed);
        self.newest.store(seq.0, Ordering::Release);
        self.filter.add(key);
        self.map.insert(VersionedKey { head: Head::of(key), key: key.into(), seq }, value);
    }

    /// Adds to a counter.
    pub(crate) fn add_to_counter(&self, key: &[u8], seq: Seq, delta: i64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let history = match counters.get_mut(key) {
            Some(history) => history,
            None => counters.entry(key.into()).or_default(),
        };
        let sum = history.last().map_or(0, |(_, sum)| *sum).wrapping_add(delta);
        history.push((seq, sum));
        self.bytes.fetch_add(16, Ordering::Relaxed);
        self.newest.store(seq.0, Ordering::Release);
    }

    /// Sum of the additions up to and including `snapshot`.
    pub(crate) fn counter(&self, key: &[u8], snapshot: Seq) -> i64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(history) = counters.get(key) else { return 0 };
        let later = history.partition_point(|(seq, _)| *seq <= snapshot);
        later.checked_sub(1).and_then(|index| history.get(index)).map_or(0, |(_, sum)| *sum)
    }

    /// Keys of all counters that were added to.
    pub(crate) fn counter_keys(&self) -> Vec<Box<[u8]>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The newest version of a key inside `window`, value or tombstone; None when this memtable has none.
    pub(crate) fn find(&self, key: &[u8], window: Window) -> Option<MemEntry<'_>> {
        if !self.filter.may_hold(key) {
            return None;
        }
        let bound = Probe::new(key, window.upto);
        let entry = self.map.lower_bound(Bound::Included(&bound as &dyn KeyView))?;
        let found = entry.key();
        (&*found.key == key && found.seq > window.after).then_some(entry)
    }

    /// The commit that last wrote a key, if this memtable holds one.
    pub(crate) fn newest_of(&self, key: &[u8]) -> Option<Seq> {
        if !self.filter.may_hold(key) {
            return None;
        }
        let bound = Probe::new(key, Seq(u64::MAX));
        let entry = self.map.lower_bound(Bound::Included(&bound as &dyn KeyView))?;
        (&*entry.key().key == key).then(|| entry.key().seq)
    }

    /// Commit of the last write.
    pub(crate) fn newest(&self) -> Seq {
        Seq(self.newest.load(Ordering::Acquire))
    }

    /// Estimated memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that transactions wrote to segments of their own.
    pub(crate) fn blob_bytes(&self) -> u64 {
        self.blob_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest() == Seq(0)
    }

    /// Segments that commits inside `window` brought.
    pub(crate) fn value_segments(&self, window: Window) -> Vec<SegmentId> {
        let segments = self.value_segments.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |seq: &Seq| *seq > window.after && *seq <= window.upto;
        segments.iter().filter(|(_, seq)| inside(seq)).map(|(id, _)| *id).collect()
    }

    /// Walks the newest versions inside `window`, one per key.
    pub(crate) fn cursor(&self, window: Window) -> MemCursor<'_> {
        MemCursor { map: &self.map, window, current: None }
    }
}

/// The commits a snapshot takes from memtables: those after its checkpoint, up to its own sequence number. What a memtable
/// holds from before the checkpoint is in the tree, and its value segments may be gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) after: Seq,
    pub(crate) upto: Seq,
}

/// A position in a memtable. Sees the newest version inside its window of every key, tombstones included.
pub(crate) struct MemCursor<'a> {
    map: &'a Map,
    window: Window,
    current: Option<MemEntry<'a>>,
}

impl<'a> MemCursor<'a> {
    /// Key, and value or tombstone.
    pub(crate) fn current(&self) -> Option<(&[u8], Option<&Value>)> {
        self.current.as_ref().map(|entry| (&*entry.key().key, entry.value().as_ref()))
    }

    /// Moves to the first key at or after (after: when excluded) the bound.
    pub(crate) fn seek_forward(&mut self, bound: Bound<&[u8]>) {
        let entry = match bound {
            Bound::Unbounded => self.map.front(),
            Bound::Included(key) => self.from(key, Seq(u64::MAX), true),
            // The oldest version of the key sorts last: start behind it.
            Bound::Excluded(key) => self.from(key, Seq(0), false),
        };
        self.current = self.first_visible(entry);
    }

    /// Moves to the last key at or before (before: when excluded) the bound.
    pub(crate) fn seek_backward(&mut self, bound: Bound<&[u8]>) {
        let entry = match bound {
            Bound::Unbounded => self.map.back(),
            Bound::Included(key) => self.before(key, Seq(0)),
            Bound::Excluded(key) => self.before(key, Seq(u64::MAX)),
        };
        self.current = self.last_visible(entry);
    }

    pub(crate) fn forward(&mut self) {
        let Some(entry) = self.current.take() else { return };
        let mut next = entry.next();
        let mut steps = 0;
        while let Some(found) = next.take_if(|next| next.key().key == entry.key().key) {
            steps += 1;
            next = if steps < VERSIONS_STEPPED { found.next() } else { self.behind(&found) };
        }
        self.current = self.first_visible(next);
    }

    pub(crate) fn backward(&mut self) {
        let Some(entry) = self.current.take() else { return };
        let previous = self.before(&entry.key().key, Seq(u64::MAX));
        self.current = self.last_visible(previous);
    }

    /// The first entry of the next key.
    fn behind(&self, entry: &MemEntry<'a>) -> Option<MemEntry<'a>> {
        self.from(&entry.key().key, Seq(0), false)
    }

    fn from(&self, key: &[u8], seq: Seq, included: bool) -> Option<MemEntry<'a>> {
        let bound = Probe::new(key, seq);
        let view = &bound as &dyn KeyView;
        self.map.lower_bound(if included { Bound::Included(view) } else { Bound::Excluded(view) })
    }

    fn before(&self, key: &[u8], seq: Seq) -> Option<MemEntry<'a>> {
        let bound = Probe::new(key, seq);
        let view = &bound as &dyn KeyView;
        self.map.upper_bound(if seq == Seq(0) { Bound::Included(view) } else { Bound::Excluded(view) })
    }

    /// From `entry` on, the first version inside the window; within a key that is its newest there.
    fn first_visible(&self, mut entry: Option<MemEntry<'a>>) -> Option<MemEntry<'a>> {
        let mut steps = 0;
        while let Some(found) = entry {
            let VersionedKey { key, seq, .. } = found.key();
            steps += 1;
            entry = if *seq > self.window.upto {
                if steps < VERSIONS_STEPPED { found.next() } else { self.from(key, self.window.upto, true) }
            } else if *seq > self.window.after {
                return Some(found);
            } else {
                if steps < VERSIONS_STEPPED { found.next() } else { self.behind(&found) }
            };
        }
        None
    }

    /// From `entry`, the oldest version of a key, backwards: the nearest key with a version inside the window, at its newest
    /// there.
    fn last_visible(&self, mut entry: Option<MemEntry<'a>>) -> Option<MemEntry<'a>> {
        while let Some(oldest) = entry {
            let key = &oldest.key().key;
            let newest = self.from(key, self.window.upto, true).filter(|found| found.key().key == *key);
            if let Some(found) = newest.filter(|found| found.key().seq > self.window.after) {
                return Some(found);
            }
            entry = self.before(key, Seq(u64::MAX));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<Value> {
        Some(Value::Inline(text.as_bytes().into()))
    }

    fn walk(table: &Memtable, snapshot: u64, backward: bool) -> Vec<String> {
        let mut cursor = table.cursor(Window { after: Seq(0), upto: Seq(snapshot) });
        if backward {
            cursor.seek_backward(Bound::Unbounded)
        } else {
            cursor.seek_forward(Bound::Unbounded)
        }
        let mut keys = Vec::new();
        while let Some((key, value)) = cursor.current() {
            let text = match value {
                Some(Value::Inline(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                _ => "-".to_owned(),
            };
            keys.push(format!("{}={text}", String::from_utf8_lossy(key)));
            if backward { cursor.backward() } else { cursor.forward() }
        }
        keys
    }

    #[test]
    fn a_snapshot_sees_the_newest_version_not_after_it() {
        let table = Memtable::default();
        table.insert(b"a", Seq(1), value("1"));
        table.insert(b"b", Seq(2), value("2"));
        table.insert(b"a", Seq(3), value("3"));
        table.insert(b"c", Seq(4), value("4"));
        table.insert(b"b", Seq(5), None);
        assert_eq!(walk(&table, 0, false), Vec::<String>::new());
        assert_eq!(walk(&table, 2, false), ["a=1", "b=2"]);
        assert_eq!(walk(&table, 4, false), ["a=3", "b=2", "c=4"]);
        assert_eq!(walk(&table, 9, false), ["a=3", "b=-", "c=4"]);
        assert_eq!(walk(&table, 3, true), ["b=2", "a=3"]);
        assert_eq!(walk(&table, 9, true), ["c=4", "b=-", "a=3"]);
        let find = |key: &[u8], window| table.find(key, window).map(|entry| entry.value().clone());
        let get = |key, upto| find(key, Window { after: Seq(0), upto: Seq(upto) });
        assert_eq!(get(b"a", 2), Some(value("1")));
        assert_eq!(get(b"b", 5), Some(None));
        assert_eq!(get(b"c", 3), None);
        assert_eq!(find(b"a", Window { after: Seq(3), upto: Seq(9) }), None);
        let mut cursor = table.cursor(Window { after: Seq(3), upto: Seq(9) });
        cursor.seek_forward(Bound::Unbounded);
        assert_eq!(cursor.current().unwrap().0, b"b");
        cursor.backward();
        assert!(cursor.current().is_none());
        assert_eq!(table.newest_of(b"a"), Some(Seq(3)));
    }

    #[test]
    fn many_versions_of_one_key_are_jumped_over() {
        let table = Memtable::default();
        table.insert(b"a", Seq(1), value("1"));
        (2..200).for_each(|seq| table.insert(b"b", Seq(seq), value("2")));
        table.insert(b"c", Seq(200), value("3"));
        (201..400).for_each(|seq| table.insert(b"b", Seq(seq), value("4")));
        assert_eq!(walk(&table, 1, false), ["a=1"]);
        assert_eq!(walk(&table, 150, false), ["a=1", "b=2"]);
        assert_eq!(walk(&table, 200, false), ["a=1", "b=2", "c=3"]);
        assert_eq!(walk(&table, 400, false), ["a=1", "b=4", "c=3"]);
        assert_eq!(walk(&table, 400, true), ["c=3", "b=4", "a=1"]);
        let mut cursor = table.cursor(Window { after: Seq(399), upto: Seq(400) });
        cursor.seek_forward(Bound::Unbounded);
        assert!(cursor.current().is_none());
    }

    #[test]
    fn seeks_with_bounds() {
        let table = Memtable::default();
        for (seq, key) in [b"a", b"c", b"e"].into_iter().enumerate() {
            table.insert(key, Seq(seq as u64 + 1), value("x"));
        }
        let mut cursor = table.cursor(Window { after: Seq(0), upto: Seq(9) });
        cursor.seek_forward(Bound::Excluded(b"a"));
        assert_eq!(cursor.current().unwrap().0, b"c");
        cursor.seek_forward(Bound::Included(b"c"));
        assert_eq!(cursor.current().unwrap().0, b"c");
        cursor.seek_backward(Bound::Excluded(b"c"));
        assert_eq!(cursor.current().unwrap().0, b"a");
        cursor.seek_backward(Bound::Included(b"d"));
        assert_eq!(cursor.current().unwrap().0, b"c");
    }

    #[test]
    fn counters_sum_up_to_a_snapshot() {
        let table = Memtable::default();
        table.add_to_counter(b"n", Seq(1), 5);
        table.add_to_counter(b"n", Seq(3), -2);
        assert_eq!(table.counter(b"n", Seq(0)), 0);
        assert_eq!(table.counter(b"n", Seq(2)), 5);
        assert_eq!(table.counter(b"n", Seq(3)), 3);
        assert_eq!(table.counter(b"other", Seq(3)), 0);
    }
}
