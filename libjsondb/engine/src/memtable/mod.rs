//! Commits that no checkpoint has taken yet: an ordered map from (key, newest first) to value, read without locks.

mod batch;
mod chunks;
mod cursor;
mod index;
mod insert;
#[cfg(test)]
mod model_tests;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use batch::Batch;
pub(crate) use cursor::MemCursor;
use index::{BLOCK_BYTES, Index, NODE_BYTES, VERSION_BYTES};
use insert::Writer;

use crate::run::Run;
use crate::segment::SegmentId;
use crate::{BlobRef, Seq, ValueRef};

/// Sum of a counter's additions inside one memtable, after each commit that added to it.
type CounterHistory = Vec<(Seq, i64)>;

/// A stretch of consecutive commits.
#[derive(Default)]
pub(crate) struct Memtable {
    index: Index,
    writer: Mutex<Writer>,
    /// Runs of the first of its commits, newest first. They lie under what the index holds.
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

    /// Adds what one commit wrote. Commits come in order, from one thread at a time.
    pub(crate) fn add(&self, seq: Seq, batch: &Batch) {
        if batch.is_empty() {
            return;
        }
        for blob in batch.blobs() {
            self.add_blob(seq, &blob);
        }
        self.newest.store(seq.0, Ordering::Release);
        let new_keys = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            self.index.add(&mut writer, seq, batch)
        };
        let bytes = BLOCK_BYTES + batch.bytes() + VERSION_BYTES * batch.len() + NODE_BYTES * new_keys;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_blob(&self, seq: Seq, blob: &BlobRef) {
        self.value_segments.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.segment, seq);
        self.blob_bytes.fetch_add(u64::from(blob.stored_len), Ordering::Relaxed);
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
    pub(crate) fn find(&self, key: &[u8], window: Window) -> Option<Option<ValueRef<'_>>> {
        let version = self.index.newest_upto(self.index.find(key)?, window.upto)?;
        (version.seq > window.after).then(|| self.index.value(&version))
    }

    /// The commit that last wrote a key, if this memtable holds one.
    pub(crate) fn newest_of(&self, key: &[u8]) -> Option<Seq> {
        self.index.newest(self.index.find(key)?).map(|version| version.seq)
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
        MemCursor::new(&self.index, window)
    }
}

/// The commits a snapshot takes from memtables: those after its checkpoint, up to its own sequence number. What a memtable
/// holds from before the checkpoint is in the tree, and its value segments may be gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) after: Seq,
    pub(crate) upto: Seq,
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::*;

    fn value(text: &str) -> Option<&str> {
        Some(text)
    }

    impl Memtable {
        fn insert(&self, key: &[u8], seq: Seq, value: Option<&str>) {
            let mut batch = Batch::default();
            batch.add(key, value.map(|text| ValueRef::Inline(text.as_bytes())));
            self.add(seq, &batch);
        }
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
                Some(ValueRef::Inline(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
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
        let find = |key: &[u8], window| {
            table.find(key, window).map(|value| match value {
                Some(ValueRef::Inline(bytes)) => Some(std::str::from_utf8(bytes).unwrap()),
                _ => None,
            })
        };
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
