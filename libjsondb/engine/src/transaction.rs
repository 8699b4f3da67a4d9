//! A snapshot, a write set, and what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::catalog::{self, KEY_MAX, STORE_LEN, VALUE_MAX};
use crate::commit::{ALONE_BYTES, Prepared};
use crate::database::{Hold, Inner};
use crate::gap::Gaps;
use crate::range::{FullRange, successor};
use crate::read_set::ReadSet;
use crate::run::{Run, RunWriter, Sought, Spill, Written};
use crate::segment::{BlobKind, SegmentId, SegmentWriter};
use crate::shared::coordinator::Turn;
use crate::snapshot::{Merge, Snapshot, Source};
use crate::tree::shared_cache::CacheDurations;
use crate::tree::{Keep, Wait};
use crate::write_set::{Place, WriteSet};
use crate::{
    BlobRef, CancelToken, Direction, Durability, Entry, Error, ErrorKind, Mode, Placement, Result, Seq,
    StoreId, Value, ValueRef,
};

/// Values above this go to a value segment when they are put, and are not written to the log.
const LOG_VALUE_MAX: usize = 64 << 10;
/// Writes that take more than this part of a write set's memory are committed as a run; fewer cost less in the log.
const LOG_WRITES_PART: u64 = 16;
/// A relaxed transaction that writes more is queued.
const AT_ONCE_BYTES: u64 = 64 << 10;
/// In the log beside a counter's key, and beside all keys, values and counters, at the most.
const COUNTER_BYTES: u64 = 16;
const LOG_SPARE_BYTES: u64 = 128;
/// Of rising keys this part of a write set's memory is enough to hand it over.
const EARLY_PART: u64 = 8;
/// What a write takes in a write set beside key and value, at the most.
const SPARE_BYTES: u64 = 128;
/// A scan looks at its cancel token every so many entries.
const CANCEL_EVERY: usize = 1024;

/// A transaction: sees one snapshot and its own writes. Dropped without commit, it leaves nothing behind.
pub struct Transaction {
    inner: Arc<Inner>,
    /// Taken by `drop`.
    snapshot: Option<Arc<Snapshot>>,
    mode: Mode,
    hold: Hold,
    /// What was written since the last write set was full.
    writes: WriteSet,
    /// What was written before.
    spill: Option<Spill>,
    ensures: BTreeMap<Box<[u8]>, Vec<u8>>,
    counters: BTreeMap<Box<[u8]>, i64>,
    reads: ReadSet,
    gaps: Gaps,
    /// False while reads do not count.
    tracks: bool,
    /// Pages that a walk leaves in memory.
    keep: Keep,
    values: Option<SegmentWriter>,
    cancel: CancelToken,
    deadline: Option<Instant>,
    durability: Durability,
    /// It did more than to open stores, or may not wait for others: its snapshot stays.
    is_settled: AtomicBool,
    /// With a key that others are after. Given back when the transaction has ended.
    turn: Option<Turn>,
}

/// What became of a commit that was not to wait.
pub enum Tried {
    /// It is as [`Transaction::commit`] leaves it.
    Committed(Seq),
    /// Nothing was done: [`Transaction::commit`] may have to wait.
    MustWait(Box<Transaction>),
}

impl Transaction {
    pub(crate) fn new(inner: Arc<Inner>, snapshot: Arc<Snapshot>, mode: Mode, hold: Hold) -> Transaction {
        let is_settled = AtomicBool::new(mode == Mode::Read || inner.shared.is_none());
        Transaction {
            inner,
            snapshot: Some(snapshot),
            mode,
            hold,
            writes: WriteSet::default(),
            spill: None,
            ensures: BTreeMap::new(),
            counters: BTreeMap::new(),
            reads: ReadSet::default(),
            gaps: Gaps::default(),
            tracks: true,
            keep: Keep::All,
            values: None,
            cancel: CancelToken::new(),
            deadline: None,
            durability: Durability::Full,
            is_settled,
            turn: None,
        }
    }

    pub(crate) fn state(&self) -> Result<&Arc<Snapshot>> {
        self.inner.check_open()?;
        self.snapshot.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "the transaction has ended"))
    }

    /// A file that is missing is no damage, if a checkpoint removed it and nothing kept it.
    fn explained<T>(&self, read: Result<T>) -> Result<T> {
        read.map_err(|error| match &self.snapshot {
            Some(snapshot) => self.inner.explain(snapshot, self.hold, error),
            None => error,
        })
    }

    /// Keeps the snapshot.
    fn settle(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
    }

    /// Before the first key is read or written. If others are after it, too, this transaction waits for its turn, and then begins behind
    /// them. False, and nothing was done, when that takes a wait that is not allowed.
    fn line_up(&mut self, store: StoreId, key: &[u8], wait: Wait) -> Result<bool> {
        if *self.is_settled.get_mut() || store == StoreId::CATALOG {
            return Ok(true);
        }
        let inner = Arc::clone(&self.inner);
        let Some(shared) = inner.shared.as_ref().filter(|shared| shared.peers.is_hot(key)) else {
            self.settle();
            return Ok(true);
        };
        if wait == Wait::Never {
            return Ok(false);
        }
        self.settle();
        self.turn = shared.peers.queue(key, &|| !self.cancel.is_cancelled() && !self.is_late());
        self.cancel.check()?;
        self.move_to_newest().map(|()| true)
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Takes the newest snapshot, if all that was read so far is the same in it. Nothing was written yet.
    fn move_to_newest(&mut self) -> Result<()> {
        let newest = self.inner.newest_snapshot(self.mode, self.hold)?;
        let is_same = self.ensures.is_empty()
            && self.reads.ranges().next().is_none()
            && self.inner.is_unchanged_since(self.snapshot_seq(), self.reads.keys()).unwrap_or(false);
        let left = if is_same { self.snapshot.replace(newest) } else { Some(newest) };
        if let Some(left) = left {
            self.inner.release(left, self.mode, self.hold);
        }
        Ok(())
    }

    /// Read or write.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The snapshot: everything up to this commit is seen, nothing after it.
    pub fn snapshot(&self) -> Seq {
        self.settle();
        self.snapshot_seq()
    }

    fn snapshot_seq(&self) -> Seq {
        self.snapshot.as_ref().map_or(Seq(0), |snapshot| snapshot.seq)
    }

    /// A transaction that reads the same snapshot, for another thread; None when this one has written, which only itself sees. It may not
    /// outlive this one, or files may be gone: SnapshotTooOld.
    pub fn reader(&self) -> Result<Option<Transaction>> {
        if self.has_writes() {
            return Ok(None);
        }
        self.settle();
        let snapshot = Arc::clone(self.state()?);
        let mut reader = Transaction::new(Arc::clone(&self.inner), snapshot, Mode::Read, Hold::Unpinned);
        reader.set_cancel(&self.cancel);
        Ok(Some(reader))
    }

    /// The token that long calls on this transaction look at from now on.
    pub fn set_cancel(&mut self, cancel: &CancelToken) {
        self.cancel = cancel.clone();
    }

    /// Latest moment at which a commit may still wait for locks; later it fails with Timeout. None waits as long as the options say.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// When the commit returns: once it is durable, which is the default, or once all processes see it.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    fn check_writable(&self) -> Result<()> {
        if self.mode == Mode::Read {
            self.inner.check_usable()?;
            let what = "the transaction only reads: begin it for writing to store or remove anything";
            return Err(Error::new(ErrorKind::ReadOnlyTransaction, what));
        }
        self.inner.check_writable()
    }

    fn is_tracked(&self, store: StoreId) -> bool {
        self.mode == Mode::Write && self.tracks && store != StoreId::CATALOG
    }

    /// Runs `work`, whose reads do not count: what others change of them does not make the commit fail. For what is no more than a
    /// hint to the caller, or is only changed together with a key that counts as read.
    pub fn untracked<R>(&mut self, work: impl FnOnce(&mut Transaction) -> R) -> R {
        let tracks = std::mem::replace(&mut self.tracks, false);
        let result = work(self);
        self.tracks = tracks;
        result
    }

    /// Runs `work`, whose walks leave no more of the database in memory than there was: for what the caller keeps in a form of its own.
    pub fn once<R>(&mut self, work: impl FnOnce(&mut Transaction) -> R) -> R {
        let keep = std::mem::replace(&mut self.keep, Keep::Branches);
        let result = work(self);
        self.keep = keep;
        result
    }

    /// Opens the store `name`, creating it with `metadata` when missing. Two transactions that create the same store
    /// with equal metadata at the same time both commit. Fails with Exists when it has other metadata.
    pub fn ensure_store(&mut self, name: &str, metadata: &[u8]) -> Result<StoreId> {
        let id = catalog::store_id(name)?;
        let key = catalog::entry_key(id);
        let entry = catalog::encode_entry(name, metadata);
        match self.catalog_entry(&key)? {
            Some(found) if found == entry => {
                if self.mode == Mode::Write && !self.ensures.contains_key(key.as_slice()) {
                    self.reads.add_key(&key);
                }
            }
            Some(found) => {
                let (other, _) = catalog::decode_entry(&found)?;
                let what = if other == name {
                    format!("the store \"{name}\" exists with other options")
                } else {
                    format!("the name \"{name}\" cannot be used beside \"{other}\": choose another one")
                };
                return Err(Error::new(ErrorKind::Exists, what));
            }
            None => {
                self.check_writable()?;
                if self.own(&key)?.is_some() {
                    // Dropped in this transaction: what takes its place is a write like any other.
                    self.write(&key, Some(ValueRef::Inline(&entry)))?;
                } else {
                    // Validated as an ensure: that it was missing may have been seen before.
                    self.reads.forget_key(&key);
                    self.ensures.insert(key.into(), entry);
                }
            }
        }
        Ok(id)
    }

    /// Finds a store by name; gives its metadata. A miss is None.
    pub fn store(&mut self, name: &str) -> Result<Option<(StoreId, Vec<u8>)>> {
        let id = catalog::store_id(name)?;
        let key = catalog::entry_key(id);
        let found = self.catalog_entry(&key)?;
        if self.mode == Mode::Write && !self.ensures.contains_key(key.as_slice()) {
            self.reads.add_key(&key);
        }
        let Some(entry) = found else { return Ok(None) };
        let (found, metadata) = catalog::decode_entry(&entry)?;
        Ok((found == name).then(|| (id, metadata.to_vec())))
    }

    fn catalog_entry(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(entry) = self.ensures.get(key) {
            return Ok(Some(entry.clone()));
        }
        let found = match self.own(key)? {
            Some(written) => written,
            None => self.explained(self.state()?.get(&self.inner.pages, key))?,
        };
        found.map(|value| self.load(&value)).transpose()
    }

    /// Removes a store with all its entries and counters. False when there is none of this name.
    pub fn drop_store(&mut self, name: &str) -> Result<bool> {
        self.check_writable()?;
        let Some((id, _)) = self.store(name)? else { return Ok(false) };
        let mut keys = Vec::new();
        self.visit(id, Bound::Unbounded, Bound::Unbounded, Direction::Forward, &mut |key, _| {
            keys.push(key.to_vec());
            Ok(true)
        })?;
        for key in keys {
            self.delete(id, &key)?;
        }
        for (name, sum) in self.counters(id)? {
            self.add_to_counter(id, &name, sum.wrapping_neg())?;
        }
        let key = catalog::entry_key(id);
        self.ensures.remove(key.as_slice());
        self.write(&key, None)?;
        Ok(true)
    }

    /// Names and sums of a store's counters that are not 0, in order of name. Reading them conflicts with nothing.
    pub fn counters(&mut self, store: StoreId) -> Result<Vec<(Vec<u8>, i64)>> {
        self.settle();
        let prefix = catalog::counters_prefix(store);
        let snapshot = Arc::clone(self.state()?);
        let mut keys: BTreeSet<Vec<u8>> =
            snapshot.counter_changes().into_keys().filter(|key| key.starts_with(&prefix)).collect();
        keys.extend(self.counters.keys().filter(|key| key.starts_with(&prefix)).map(|key| key.to_vec()));
        // Counters that only the tree knows.
        let name = prefix.get(STORE_LEN..).unwrap_or_default();
        self.visit(
            StoreId::CATALOG,
            Bound::Included(name),
            Bound::Unbounded,
            Direction::Forward,
            &mut |key, _| {
                let inside = key.starts_with(name);
                if inside {
                    keys.insert(catalog::full_key(StoreId::CATALOG, key));
                }
                Ok(inside)
            },
        )?;
        let mut sums = Vec::new();
        for key in keys {
            let name = key.get(prefix.len()..).unwrap_or_default().to_vec();
            let sum = self.counter(store, &name)?;
            if sum != 0 {
                sums.push((name, sum));
            }
        }
        Ok(sums)
    }

    /// Names of all stores whose name starts with `prefix`, in order of name.
    pub fn store_names(&mut self, prefix: &str) -> Result<Vec<String>> {
        let start = catalog::entries_prefix();
        let start = start.get(STORE_LEN..).unwrap_or_default();
        let mut entries = Vec::new();
        self.visit(
            StoreId::CATALOG,
            Bound::Included(start),
            Bound::Unbounded,
            Direction::Forward,
            &mut |key, value| {
                let inside = key.starts_with(start);
                if inside {
                    entries.push(value.to_value());
                }
                Ok(inside)
            },
        )?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = self.load(&entry)?;
            names.push(catalog::decode_entry(&entry)?.0.to_owned());
        }
        for entry in self.ensures.values() {
            names.push(catalog::decode_entry(entry)?.0.to_owned());
        }
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Sum of a store's counter as this transaction sees it: 0 when never added to. Reading it conflicts with nothing.
    pub fn counter(&self, store: StoreId, name: &[u8]) -> Result<i64> {
        self.settle();
        let key = catalog::counter_key(store, name);
        let own = self.counters.get(key.as_slice()).copied().unwrap_or(0);
        let committed = self.explained(self.state()?.counter(&self.inner.pages, &key))?;
        Ok(committed.wrapping_add(own))
    }

    /// Adds to a counter. Additions of concurrent transactions sum up and never conflict.
    pub fn add_to_counter(&mut self, store: StoreId, name: &[u8], delta: i64) -> Result<()> {
        self.check_writable()?;
        self.settle();
        if name.len() > KEY_MAX {
            let what = format!("the name of a counter has at most {KEY_MAX} bytes, not {}", name.len());
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        let sum = self.counters.entry(catalog::counter_key(store, name).into()).or_default();
        *sum = sum.wrapping_add(delta);
        Ok(())
    }

    /// The value of a key, or None. In write mode the key counts as read, present or not.
    pub fn get(&mut self, store: StoreId, key: &[u8]) -> Result<Option<Value>> {
        let mut found = None;
        self.find(store, key, Wait::AsLongAsNeeded, &mut |value| found = value.map(ValueRef::to_value))?;
        Ok(found)
    }

    /// As [`Transaction::get`], showing the value. False, and nothing is shown, when that takes a wait that is not allowed.
    pub(crate) fn find(
        &mut self,
        store: StoreId,
        key: &[u8],
        wait: Wait,
        show: &mut dyn FnMut(Option<ValueRef<'_>>),
    ) -> Result<bool> {
        catalog::with_full_key(store, key, |full| {
            if !self.line_up(store, full, wait)? {
                return Ok(false);
            }
            match self.find_own(full, wait, show)? {
                Sought::Shown => return Ok(true),
                Sought::MustWait => return Ok(false),
                Sought::Absent => {}
            }
            let is_shown = self.explained(self.state()?.find(&self.inner.pages, full, wait, show))?;
            if is_shown && self.is_tracked(store) {
                self.reads.add_key(full);
            }
            Ok(is_shown)
        })
    }

    /// Sets a key. Keys up to 16 KiB, values up to 1 GiB.
    pub fn put(&mut self, store: StoreId, key: &[u8], value: &[u8], placement: Placement) -> Result<()> {
        self.check_put(key, value)?;
        catalog::with_full_key(store, key, |full| {
            self.line_up(store, full, Wait::AsLongAsNeeded)?;
            let place = self.writes.place_of(full);
            self.put_at(place, full, value, placement)
        })
    }

    /// As [`Transaction::put`]; true when the key was not there before. It counts as written, not as read.
    pub fn upsert(&mut self, store: StoreId, key: &[u8], value: &[u8], placement: Placement) -> Result<bool> {
        self.upsert_unless(store, key, value, placement, Wait::AsLongAsNeeded)?
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a write that may wait was not made"))
    }

    /// As [`Transaction::upsert`]; None, and nothing was done, when that would take a look at the disk, a write to it, or a wait for a
    /// lock.
    pub fn try_upsert(&mut self, store: StoreId, key: &[u8], value: &[u8]) -> Result<Option<bool>> {
        if value.len() > LOG_VALUE_MAX || !self.has_room(key.len() + value.len()) {
            return Ok(None);
        }
        self.upsert_unless(store, key, value, Placement::Auto, Wait::Never)
    }

    /// True when the write set is not full either with a key and value of so many bytes.
    fn has_room(&self, bytes: usize) -> bool {
        self.writes.bytes() + bytes as u64 + SPARE_BYTES < self.inner.options.write_set_bytes / EARLY_PART
    }

    fn upsert_unless(
        &mut self,
        store: StoreId,
        key: &[u8],
        value: &[u8],
        placement: Placement,
        wait: Wait,
    ) -> Result<Option<bool>> {
        self.check_put(key, value)?;
        catalog::with_full_key(store, key, |full| {
            if !self.line_up(store, full, wait)? {
                return Ok(None);
            }
            let place = self.writes.place_of(full);
            let Some(was_there) = self.had_value(place, full, wait)? else { return Ok(None) };
            self.put_at(place, full, value, placement)?;
            Ok(Some(!was_there))
        })
    }

    fn check_put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_writable()?;
        if key.len() > KEY_MAX || value.len() > VALUE_MAX {
            let what = format!(
                "a key has at most {KEY_MAX} bytes and a value {VALUE_MAX}: these have {} and {}",
                key.len(),
                value.len()
            );
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        Ok(())
    }

    fn put_at(
        &mut self,
        place: std::result::Result<Place, Place>,
        key: &[u8],
        value: &[u8],
        placement: Placement,
    ) -> Result<()> {
        let value = if placement == Placement::Eager || value.len() > LOG_VALUE_MAX {
            let writer = self.values.get_or_insert_with(|| SegmentWriter::new(self.inner.pages.segments()));
            let written = writer.add(BlobKind::Value, key, value);
            ValueRef::Blob(self.explained(written)?)
        } else {
            ValueRef::Inline(value)
        };
        self.reads.forget_key(key);
        self.writes.insert_at(place, key, Some(value));
        self.spill_when_full()
    }

    /// Removes a key; true when it was there. Then it counts as written, else as read.
    pub fn remove(&mut self, store: StoreId, key: &[u8]) -> Result<bool> {
        self.remove_unless(store, key, Wait::AsLongAsNeeded)?
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a removal that may wait was not made"))
    }

    /// As [`Transaction::remove`]; None, and nothing was done, when that would take a look at the disk or a wait for a lock.
    pub fn try_remove(&mut self, store: StoreId, key: &[u8]) -> Result<Option<bool>> {
        if self.has_room(key.len()) { self.remove_unless(store, key, Wait::Never) } else { Ok(None) }
    }

    fn remove_unless(&mut self, store: StoreId, key: &[u8], wait: Wait) -> Result<Option<bool>> {
        self.check_writable()?;
        catalog::with_full_key(store, key, |full| {
            if !self.line_up(store, full, wait)? {
                return Ok(None);
            }
            let place = self.writes.place_of(full);
            let was_there = self.had_value(place, full, wait)?;
            match was_there {
                Some(true) => {
                    self.reads.forget_key(full);
                    self.writes.insert_at(place, full, None);
                    self.spill_when_full()?;
                }
                // What this transaction removed before is written, and need not be read.
                Some(false) if place.is_err() && self.is_tracked(store) => self.reads.add_key(full),
                _ => {}
            }
            Ok(was_there)
        })
    }

    /// Removes a key, present or not.
    pub fn delete(&mut self, store: StoreId, key: &[u8]) -> Result<()> {
        self.check_writable()?;
        let full = catalog::full_key(store, key);
        self.line_up(store, &full, Wait::AsLongAsNeeded)?;
        self.reads.forget_key(&full);
        self.write(&full, None)
    }

    fn write(&mut self, key: &[u8], value: Option<ValueRef<'_>>) -> Result<()> {
        self.settle();
        self.writes.insert(key, value);
        self.spill_when_full()
    }

    fn spill_when_full(&mut self) -> Result<()> {
        if self.writes.bytes() < self.write_set_max() {
            return Ok(());
        }
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::start(self.inner.pages.segments())?),
        };
        spill.add(std::mem::take(&mut self.writes))
    }

    /// So many bytes fill the write set. One whose keys rise is handed over early, so that the thread has work beside this one: that
    /// makes no run more.
    fn write_set_max(&self) -> u64 {
        let full = self.inner.options.write_set_bytes;
        let early = full / EARLY_PART;
        if self.writes.bytes() < early || !self.writes.rises() {
            return full;
        }
        let first = self.writes.first_key().unwrap_or_default();
        if self.spill.as_ref().is_none_or(|spill| spill.goes_on_with(first)) { early } else { full }
    }

    /// Shows what this transaction set a key to, None for a key that it removed.
    fn find_own(
        &mut self,
        key: &[u8],
        wait: Wait,
        show: &mut dyn FnMut(Option<ValueRef<'_>>),
    ) -> Result<Sought> {
        // In a forked child there is no thread that could answer.
        self.inner.check_open()?;
        if let Some(written) = self.writes.get(key) {
            show(written);
            return Ok(Sought::Shown);
        }
        self.find_spilled(key, wait, show)
    }

    /// As [`Transaction::find_own`], of what it wrote before the last write set was full.
    fn find_spilled(
        &mut self,
        key: &[u8],
        wait: Wait,
        show: &mut dyn FnMut(Option<ValueRef<'_>>),
    ) -> Result<Sought> {
        let Some(spill) = &mut self.spill else { return Ok(Sought::Absent) };
        if wait == Wait::Never && !spill.is_readable(key, Some(key)) {
            return Ok(Sought::MustWait);
        }
        for run in spill.runs(key, Some(key))?.iter().rev() {
            match run.find(&self.inner.pages, key, wait, show)? {
                Sought::Absent => {}
                sought => return Ok(sought),
            }
        }
        Ok(Sought::Absent)
    }

    /// Whether a key, whose place in the write set this is, has a value. None when telling takes a wait that is not allowed.
    fn had_value(
        &mut self,
        place: std::result::Result<Place, Place>,
        key: &[u8],
        wait: Wait,
    ) -> Result<Option<bool>> {
        if let Ok(place) = place {
            return Ok(Some(self.writes.has_value(place)));
        }
        let mut was_there = false;
        let mut look = |value: Option<ValueRef<'_>>| was_there = value.is_some();
        match self.find_spilled(key, wait, &mut look)? {
            Sought::Shown => return Ok(Some(was_there)),
            Sought::MustWait => return Ok(None),
            Sought::Absent if self.gaps.cover(key) => return Ok(Some(false)),
            Sought::Absent => {}
        }
        let is_told = self.explained(self.state()?.find(&self.inner.pages, key, wait, &mut look))?;
        if is_told && !was_there && self.gaps.miss() && wait == Wait::AsLongAsNeeded {
            let gap = self.explained(self.state()?.gap_around(&self.inner.pages, key))?;
            self.gaps.learn(gap);
        }
        Ok(is_told.then_some(was_there))
    }

    /// What this transaction set a key to: None when it did not write it, Some(None) when it removed it.
    fn own(&mut self, key: &[u8]) -> Result<Option<Option<Value>>> {
        let mut written = None;
        let mut keep = |value: Option<ValueRef<'_>>| written = Some(value.map(ValueRef::to_value));
        self.find_own(key, Wait::AsLongAsNeeded, &mut keep)?;
        Ok(written)
    }

    /// Walks the entries of `store` whose key lies in `start..end` (bounds in key order whatever the direction) until
    /// `visitor` returns false. In write mode the range walked over counts as read.
    pub fn visit(
        &mut self,
        store: StoreId,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
        visitor: &mut dyn FnMut(&[u8], ValueRef<'_>) -> Result<bool>,
    ) -> Result<()> {
        self.settle();
        let range = FullRange::new(store, start, end);
        if range.is_empty() {
            return Ok(());
        }
        let walked = self.walk(&range, direction, visitor);
        let stopped_at = self.explained(walked);
        if self.is_tracked(store) {
            let (first, end) = match (direction, &stopped_at) {
                (Direction::Forward, Ok(Some(key))) => (range.first(), Some(successor(key))),
                (Direction::Backward, Ok(Some(key))) => (key.clone(), range.open_end()),
                // Failed on the way: what the visitor was shown was read all the same.
                (_, Ok(None) | Err(_)) => (range.first(), range.open_end()),
            };
            self.reads.add_range(&first, end.as_deref());
        }
        stopped_at.map(drop)
    }

    /// Gives the key at which the visitor stopped; None when the range was walked to its end.
    fn walk(
        &mut self,
        range: &FullRange,
        direction: Direction,
        visitor: &mut dyn FnMut(&[u8], ValueRef<'_>) -> Result<bool>,
    ) -> Result<Option<Vec<u8>>> {
        self.inner.check_open()?;
        let runs: Vec<Arc<Run>> = match &mut self.spill {
            Some(spill) => spill.runs(&range.first(), range.open_end().as_deref())?.to_vec(),
            None => Vec::new(),
        };
        let (snapshot, pages) = (self.state()?, &self.inner.pages);
        let own = (!self.writes.is_empty()).then(|| Source::writes(&self.writes));
        let runs = runs.iter().rev().map(|run| Source::Run(run.cursor(pages)));
        let committed = snapshot.memtable_sources(pages).chain(snapshot.tree_source(pages, self.keep));
        let sources = own.into_iter().chain(runs).chain(committed).collect();
        let mut merge = match direction {
            Direction::Forward => Merge::new(sources, range.start(), direction)?,
            Direction::Backward => Merge::new(sources, range.end(), direction)?,
        };
        let mut steps = 0;
        while let Some((key, value)) = merge.current() {
            if range.is_behind(key, direction) {
                return Ok(None);
            }
            if let Some(value) = value
                && !visitor(key.get(STORE_LEN..).unwrap_or_default(), value)?
            {
                return Ok(Some(key.to_vec()));
            }
            merge.advance()?;
            steps += 1;
            if steps % CANCEL_EVERY == 0 {
                self.cancel.check()?;
            }
        }
        Ok(None)
    }

    /// As [`Transaction::visit`], collecting up to `limit` entries.
    pub fn scan(
        &mut self,
        store: StoreId,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if limit > 0 {
            self.visit(store, start, end, direction, &mut |key, value| {
                entries.push(Entry { key: key.to_vec(), value: value.to_value() });
                Ok(entries.len() < limit)
            })?;
        }
        Ok(entries)
    }

    /// How long what is read of a store is kept for other processes, where several machines share the folder and have a coordinator that
    /// keeps it. Of the last transaction of this process that said so.
    pub fn set_cache_durations(&self, store: StoreId, durations: CacheDurations) {
        if let Some(shared) = self.inner.pages.shared() {
            shared.set_durations(store, durations);
        }
    }

    /// The bytes of a value.
    pub fn load(&self, value: &Value) -> Result<Vec<u8>> {
        match value {
            Value::Inline(bytes) => Ok(bytes.to_vec()),
            Value::Blob(blob) => self.load_ref(ValueRef::Blob(*blob)),
        }
    }

    /// The bytes of a value met by a scan.
    pub fn load_ref(&self, value: ValueRef<'_>) -> Result<Vec<u8>> {
        match value {
            ValueRef::Inline(bytes) => Ok(bytes.to_vec()),
            ValueRef::Blob(blob) => match &self.values {
                Some(writer) => self.explained(writer.read(&blob)),
                None => self.explained(self.inner.pages.read_value(&blob)),
            },
        }
    }

    /// Reads a part of a blob into `out`; false when only the whole can be read.
    pub(crate) fn load_part(
        &self,
        blob: &BlobRef,
        offset: usize,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        if self.values.is_some() || blob.is_packed() {
            return Ok(false);
        }
        self.explained(self.inner.pages.segments().read_part(blob, offset, len, out)).map(|()| true)
    }

    /// True when something would be written by a commit.
    pub fn has_writes(&self) -> bool {
        !(self.writes.is_empty()
            && self.spill.is_none()
            && self.ensures.is_empty()
            && self.counters.values().all(|delta| *delta == 0))
    }

    /// Makes all writes visible together, or none, and durable as [`Transaction::set_durability`] says: by default they survive kill -9
    /// and power cut when it returns Ok. Conflict, Timeout, Cancelled, DiskFull: nothing was stored.
    /// Io: the sync failed, so whether it was stored is known only after the folder is opened again.
    pub fn commit(mut self) -> Result<Seq> {
        self.inner.check_usable()?;
        self.cancel.check()?;
        if !self.has_writes() {
            return Ok(self.snapshot());
        }
        if let Some(committed) = self.commit_at_once(Wait::AsLongAsNeeded)? {
            return Ok(committed);
        }
        let written = self.write_out();
        let written = self.explained(written)?;
        let prepared = self.prepare(written.runs);
        let committed = self.inner.commit(prepared);
        if committed.is_err() && self.inner.check_not_failed().is_ok() {
            self.remove_segments(&written.segments);
            // A run that it was to be compared with may be gone, as nothing kept it.
            return self.explained(committed);
        }
        committed
    }

    /// Commits a small relaxed transaction as [`Transaction::commit`] does, if that waits for nobody: no lock that is held, no sync, no
    /// file that is read or grows. Else nothing was done, and the transaction comes back.
    pub fn try_commit(mut self) -> Result<Tried> {
        self.inner.check_usable()?;
        self.cancel.check()?;
        if !self.has_writes() {
            return Ok(Tried::Committed(self.snapshot()));
        }
        match self.commit_at_once(Wait::Never)? {
            Some(committed) => Ok(Tried::Committed(committed)),
            None => Ok(Tried::MustWait(Box::new(self))),
        }
    }

    /// Commits a small relaxed transaction, if it is its turn. None, and nothing was done, when it is to be queued, or when that takes a
    /// wait that is not allowed.
    fn commit_at_once(&mut self, wait: Wait) -> Result<Option<Seq>> {
        if self.durability != Durability::Relaxed || !self.is_small() {
            return Ok(None);
        }
        let inner = Arc::clone(&self.inner);
        let Some(log) = inner.try_turn(wait)? else { return Ok(None) };
        let takes_no_wait =
            || self.ensures.is_empty() && log.takes_no_wait(self.snapshot(), self.log_bytes_max());
        if wait == Wait::Never && !takes_no_wait() {
            return Ok(None);
        }
        let prepared = self.prepare(Vec::new());
        self.explained(inner.commit_in_turn(log, &prepared)).map(Some)
    }

    /// True when all of it goes to the log, and is little.
    fn is_small(&self) -> bool {
        let bytes_max = AT_ONCE_BYTES.min(self.log_writes_max());
        self.values.is_none() && self.spill.is_none() && self.log_bytes_max() < bytes_max
    }

    /// What a transaction without runs, that creates no store, takes in the log at the most.
    fn log_bytes_max(&self) -> u64 {
        let counters: u64 = self.counters.keys().map(|key| key.len() as u64 + COUNTER_BYTES).sum();
        LOG_SPARE_BYTES + self.writes.bytes() + counters
    }

    /// Larger write sets are committed as runs.
    fn log_writes_max(&self) -> u64 {
        self.inner.options.write_set_bytes / LOG_WRITES_PART
    }

    /// As [`Transaction::commit`], but dies before it waits for the sync. For small values only.
    #[cfg(test)]
    pub(crate) fn append_only(mut self) -> Result<()> {
        let prepared = self.prepare(Vec::new());
        self.inner.append_only(prepared)
    }

    fn prepare(&mut self, runs: Vec<Arc<Run>>) -> Prepared {
        let bytes = if runs.is_empty() { self.writes.bytes() } else { ALONE_BYTES };
        let mut counters = std::mem::take(&mut self.counters);
        counters.retain(|_, delta| *delta != 0);
        Prepared {
            snapshot: self.snapshot_seq(),
            runs,
            writes: std::mem::take(&mut self.writes),
            ensures: std::mem::take(&mut self.ensures),
            counters,
            reads: std::mem::take(&mut self.reads),
            bytes,
            cancel: self.cancel.clone(),
            deadline: self.deadline,
            durability: self.durability,
        }
    }

    /// Writes what is too large for the log, and makes it durable. Gives the runs, and all segments that the commit refers to.
    fn write_out(&mut self) -> Result<Written> {
        let values = self.values.take().map(SegmentWriter::finish).transpose()?.unwrap_or_default();
        let values: Vec<SegmentId> = values.into_iter().map(|(id, _)| id).collect();
        let written = self.write_runs().inspect_err(|_| self.remove_segments(&values))?;
        let used: BTreeSet<SegmentId> = written
            .runs
            .iter()
            .flat_map(|run| run.segments.iter().copied())
            .chain(self.writes.iter().filter_map(|(_, value)| match value {
                Some(ValueRef::Blob(blob)) => Some(blob.segment),
                _ => None,
            }))
            .collect();
        let all = written.segments.into_iter().chain(values);
        // Their values were all overwritten in this transaction.
        let (segments, unused): (Vec<_>, Vec<_>) = all.partition(|id| used.contains(id));
        self.remove_segments(&unused);
        Ok(Written { runs: written.runs, segments })
    }

    fn write_runs(&mut self) -> Result<Written> {
        let writes = match self.spill {
            None if self.writes.bytes() <= self.log_writes_max() => return Ok(Written::default()),
            _ => std::mem::take(&mut self.writes),
        };
        match self.spill.take() {
            Some(mut spill) => {
                spill.add(writes)?;
                spill.finish()
            }
            None => {
                let mut writer = RunWriter::new(self.inner.pages.segments());
                writer.add(&writes)?;
                writer.finish()
            }
        }
    }

    /// Removes segments that no commit refers to. (When the outcome of a commit is unknown they stay: they are swept once
    /// this process is gone, if no commit names them.)
    fn remove_segments(&self, segments: &[SegmentId]) {
        for id in segments {
            // An orphan that cannot be removed now is swept once this process is gone.
            let _ = self.inner.pages.segments().remove(*id);
        }
    }

    /// Drops all writes. The same as dropping the transaction.
    pub fn rollback(self) {}
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.inner.release(snapshot, self.mode, self.hold);
        }
    }
}
