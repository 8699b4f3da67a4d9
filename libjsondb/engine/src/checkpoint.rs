//! Checkpoints: what the memtables hold goes into a new tree in new files, then a record in the log puts it in force.
//!
//! One process of a folder makes one at a time (a lock, for economy: correctness comes from the record's base, I7 in
//! libjsondb/docs/protocol.md). It runs on a thread that starts when a memtable is full and ends with the checkpoint.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::append::ROTATE_BYTES;
use crate::collect;
use crate::commit::POLL;
use crate::database::Inner;
use crate::folder;
use crate::log::{CheckpointRecord, LogFolder};
use crate::manifest::{Manifest, ManifestRef, SegmentUse};
use crate::memtable::Memtable;
use crate::os::{self, File};
use crate::planted::{Bug, is_planted};
use crate::run::Run;
use crate::segment::{SEGMENT_BYTES, SegmentId};
use crate::snapshot::{Merge, Snapshot, Source};
use crate::tree::build::{Accounting, Builder, Built};
use crate::tree::changes::{Change, Changes, WholeLeaf};
use crate::wait::acquire;
use crate::{CancelToken, Direction, Error, ErrorKind, Result, Seq, ValueRef};

/// New commits wait for the running checkpoint once this many memtables are pending.
const PENDING_MEMTABLES_MAX: u64 = 4;
/// As many runs: a reader looks for a key in each.
const PENDING_RUNS_MAX: usize = 64;
/// What is left to the next to open the folder: commits that no tree holds, or a log, of fewer bytes. (The histories that
/// the engine's own campaigns cut off are small.)
const LEFT_BYTES_MAX: u64 = if cfg!(test) { 8 << 10 } else { 64 << 10 };

/// Why a checkpoint is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A memtable is full: left to another process that is making one.
    Background,
    /// Writers that died left a long log, which the next one to open the folder is not to read again.
    Opened,
    /// A commit waits: one that another process made meanwhile will do.
    Room,
    /// The caller wants one.
    Asked,
    /// The log is about to become one of slots. Nothing is swept: another machine may have been quicker, and others be at work.
    Switching,
    /// This process, the only one that has the folder open, is about to close it: nobody needs the log from before. A tree is made
    /// only when much would be left to read; what nobody needs is removed in any case.
    Closing,
}

/// The thread that makes checkpoints for this process, while there is one.
#[derive(Default)]
pub(crate) struct Background {
    threads: Mutex<Threads>,
    ended: Condvar,
}

#[derive(Default)]
struct Threads {
    /// One makes checkpoints: it sees what is committed from now on.
    is_working: bool,
    /// Those that hold the open folder: one that ends does so a little longer.
    holding: usize,
}

impl Background {
    fn lock(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no checkpoint runs on it, and no thread of it holds the open folder.
    pub(crate) fn wait(&self) {
        // It is wanted in any case.
        let _ = self.wait_while(|threads| threads.holding > 0, || Ok(()));
    }

    /// As [`Background::wait`], as long as the answer is Ok.
    fn wait_while(
        &self,
        is_busy: impl Fn(&Threads) -> bool,
        still_wanted: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let mut threads = self.lock();
        while is_busy(&threads) {
            still_wanted()?;
            threads = self.ended.wait_timeout(threads, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// The thread. It lets go of the folder before it is marked as ended: what waits for that may have closed it.
struct Running {
    inner: Arc<Inner>,
    purpose: Purpose,
    end: End,
}

/// Marks a thread as ended, also when it panics.
struct End {
    background: Arc<Background>,
    works_no_more: bool,
}

impl Running {
    fn work(mut self) {
        loop {
            let known = self.inner.current.load().manifest.name;
            let purpose = std::mem::replace(&mut self.purpose, Purpose::Background);
            if purpose == Purpose::Opened || self.inner.lock_replica().is_full() {
                // What fails here fails again in `make_room`, where somebody is told.
                let _ = self.inner.checkpoint(purpose, || Ok(()));
            }
            let unused = self.inner.lock_replica().take_unused();
            drop(unused);
            os::give_memory_back();
            if self.ends_after(known) {
                return;
            }
        }
    }

    /// True unless what was committed meanwhile is worth another checkpoint: no later commit may come to ask for it. (One that cannot be
    /// made, or that another process makes, is not tried again.)
    fn ends_after(&mut self, known: ManifestRef) -> bool {
        // Under the lock: a commit that found the thread running is seen here.
        let mut threads = self.end.background.lock();
        threads.is_working =
            self.inner.current.load().manifest.name != known && self.inner.lock_replica().is_full();
        self.end.works_no_more = !threads.is_working;
        self.end.works_no_more
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut threads = self.background.lock();
        if !self.works_no_more {
            threads.is_working = false;
        }
        threads.holding -= 1;
        drop(threads);
        self.background.ended.notify_all();
    }
}

impl Inner {
    /// Starts a thread when it is time for a checkpoint, or when there are memtables to be freed, and none runs.
    pub(crate) fn checkpoint_when_full(self: &Arc<Inner>) {
        let has_work = {
            let replica = self.lock_replica();
            replica.is_full() || replica.has_unused()
        };
        if has_work && self.check_usable().is_ok() {
            self.start_background(Purpose::Background);
        }
    }

    /// After opening: starts a thread when processes that died have left a long log. (The checkpoint sweeps what is left of them, so it
    /// is made once.)
    pub(crate) fn checkpoint_what_was_left(self: &Arc<Inner>) {
        let is_long = self.pin.is_some() && self.lock_replica().leaves_log(ROTATE_BYTES);
        // What cannot be looked at here is no reason not to open.
        if is_long && self.survey_pins().is_ok_and(|pins| !pins.dead.is_empty()) {
            self.start_background(Purpose::Opened);
        }
    }

    fn start_background(self: &Arc<Inner>, purpose: Purpose) {
        let mut threads = self.background.lock();
        if threads.is_working {
            return;
        }
        threads.is_working = true;
        threads.holding += 1;
        drop(threads);
        let end = End { background: Arc::clone(&self.background), works_no_more: false };
        let thread = Running { inner: Arc::clone(self), purpose, end };
        // When no thread can be had, the next commit tries again, and `make_room` works without one.
        let _ = os::start_thread("sop-checkpoint", move || thread.work());
    }

    /// Before a commit: waits for the checkpoint when too much is pending, and reports why it cannot be made. `still_wanted` is
    /// asked while waiting.
    pub(crate) fn make_room(&self, still_wanted: impl Fn() -> Result<()>) -> Result<()> {
        if self.has_room() {
            return Ok(());
        }
        self.background.wait_while(|threads| threads.is_working, &still_wanted)?;
        if self.has_room() {
            return Ok(());
        }
        match self.checkpoint(Purpose::Room, still_wanted) {
            // The tree was made; what could not be swept is left for the next one.
            Err(_) if self.has_room() => Ok(()),
            made => made,
        }
    }

    /// True when a commit does not have to wait for a checkpoint.
    pub(crate) fn has_room(&self) -> bool {
        let current = self.current.load();
        let sum = |bytes: fn(&Memtable) -> u64| -> u64 {
            current.memtables.iter().map(|memtable| bytes(memtable)).sum()
        };
        let runs = current.runs().count();
        runs < PENDING_RUNS_MAX
            && sum(Memtable::bytes) < PENDING_MEMTABLES_MAX * self.options.memtable_bytes
            && sum(Memtable::blob_bytes) < PENDING_MEMTABLES_MAX * SEGMENT_BYTES
    }

    /// Before the log of files becomes one of slots.
    pub(crate) fn checkpoint_to_switch(&self) -> Result<()> {
        self.checkpoint(Purpose::Switching, || Ok(()))
    }

    pub(crate) fn checkpoint_now(&self) -> Result<()> {
        self.check_writable()?;
        self.checkpoint(Purpose::Asked, || Ok(()))
    }

    /// Before closing: leaves the next one to open the folder little to read, and no garbage. The last process to close it does this.
    pub(crate) fn tidy(&self) -> Result<()> {
        // A checkpoint that is being made here may take longer than a lock is waited for.
        self.background.wait();
        let is_worth_it = self.leaves_much_to_read() || collect::leaves_garbage(self)?;
        let is_alone = || Ok(self.survey_pins()?.alive.len() <= 1);
        if is_worth_it && is_alone()? { self.checkpoint(Purpose::Closing, || Ok(())) } else { Ok(()) }
    }

    /// True when the next one to open the folder had to read many commits, or to begin in an older log file.
    fn leaves_much_to_read(&self) -> bool {
        let replica = self.lock_replica();
        replica.pending_bytes() >= LEFT_BYTES_MAX || replica.leaves_log(LEFT_BYTES_MAX)
    }

    /// On the first copy that can be written, of a database that is several: the lock is for economy. None: another process has it.
    fn checkpoint_lock(
        &self,
        purpose: Purpose,
        still_wanted: impl Fn() -> Result<()>,
    ) -> Result<Option<File>> {
        let lock = |log: &LogFolder| {
            let lock = File::open_or_create_to_lock(&log.path.join(folder::CHECKPOINT_LOCK))?;
            if matches!(purpose, Purpose::Background | Purpose::Opened) {
                return Ok(lock.try_lock()?.then_some(lock));
            }
            let check = || self.check_usable().and_then(|()| still_wanted());
            acquire(&lock, self.options.lock_timeout, check).map(|()| Some(lock))
        };
        match &self.folders.copies {
            None => lock(&self.folders.log),
            Some(copies) => copies.first_that(|copy| lock(&copy.log)),
        }
    }

    /// Makes one checkpoint, unless its purpose is reached without. `still_wanted` is asked while waiting for another process.
    fn checkpoint(&self, purpose: Purpose, still_wanted: impl Fn() -> Result<()>) -> Result<()> {
        let known = self.current.load().manifest.name;
        let Some(_lock) = self.checkpoint_lock(purpose, &still_wanted)? else { return Ok(()) };
        // Commits and checkpoints of others up to here, which are durable before the tree is made of them. Most of them before the lock
        // is taken: nobody commits while it is.
        self.flush()?;
        if self.shared.is_none() {
            self.lock_log(&still_wanted)?.make_durable()?;
        }
        if purpose == Purpose::Room && self.current.load().manifest.name != known {
            // A second one could make the waiting transaction too old.
            return Ok(());
        }
        let frozen = {
            let mut replica = self.lock_replica();
            replica.rotate();
            replica.snapshot()
        };
        let (manifest, seq) = (frozen.manifest.name, frozen.seq);
        match self.checkpoint_of(frozen, purpose, still_wanted) {
            Err(error) if error.is_missing_file() && self.is_overtaken(manifest, seq)? => {
                let what = "others took this process for dead, or made a checkpoint meanwhile: try again";
                Err(Error::new(ErrorKind::SnapshotTooOld, what))
            }
            made => made.map_err(|error| self.explain_missing(error)),
        }
    }

    fn checkpoint_of(
        &self,
        frozen: Snapshot,
        purpose: Purpose,
        still_wanted: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let sweep = collect::Sweep::survey(self)?;
        let base = frozen.manifest.name.checkpoint;
        if is_planted(Bug::TrimLogBeforeCheckpoint) {
            collect::trim_log(self, frozen.seq)?;
        }
        let is_due = frozen.seq > base && (purpose != Purpose::Closing || self.leaves_much_to_read());
        let replaced = match is_due.then(|| self.replace_tree_in_space(&frozen, &sweep)) {
            // Another machine's took effect first.
            Some(Err(error)) if error.kind() == ErrorKind::SnapshotTooOld => Ok(()),
            replaced => replaced.unwrap_or(Ok(())),
        };
        let mut kept = if is_planted(Bug::TrimLogOneCheckpointEarly) { frozen.seq } else { base };
        if purpose == Purpose::Closing && replaced.is_ok() {
            // Whatever checkpoint is in force by now: nobody is late.
            kept = Seq(u64::MAX);
            if self.shared.is_none() {
                self.lock_log(still_wanted)?.rotate_when_grown(LEFT_BYTES_MAX)?;
            }
        }
        drop(frozen);
        // Also when no tree could be made: what is removed here may be the space it needs.
        let swept = if purpose == Purpose::Switching { Ok(()) } else { sweep.run(self, kept) };
        replaced.and(swept)
    }

    /// On a full disk moves less and less: a checkpoint that moves nothing needs the least space, and frees some.
    fn replace_tree_in_space(&self, frozen: &Snapshot, sweep: &collect::Sweep) -> Result<()> {
        let mut victims = collect::choose_victims(&frozen.manifest, collect::RELOCATE_BYTES_MAX);
        let mut budget = collect::RELOCATE_BYTES_MAX;
        loop {
            match self.replace_tree(frozen, sweep, &victims) {
                Err(error)
                    if error.kind() == ErrorKind::DiskFull
                        && !victims.is_empty()
                        && self.check_usable().is_ok() =>
                {
                    let tried = victims.len();
                    while victims.len() == tried {
                        budget /= 8;
                        victims = collect::choose_victims(&frozen.manifest, budget);
                    }
                }
                replaced => return replaced,
            }
        }
    }

    pub(crate) fn replace_tree(
        &self,
        frozen: &Snapshot,
        sweep: &collect::Sweep,
        victims: &[SegmentId],
    ) -> Result<()> {
        let changes = self.changes(frozen, victims)?;
        let cancel = CancelToken::new();
        let victims: HashSet<SegmentId> = victims.iter().copied().collect();
        let built = Builder::new(&self.pages, changes, &victims, &cancel).build(frozen.manifest.root)?;
        let written: Vec<SegmentId> = built.segments.iter().map(|(id, _)| *id).collect();
        let published = self.publish_tree(frozen, built, sweep);
        if published.is_err() && self.check_usable().is_ok() {
            // No record names them, and nobody sweeps the files of a living process. (When the outcome is unknown they stay.)
            for id in written {
                let _ = self.pages.segments().remove(id);
            }
        }
        published
    }

    fn publish_tree(&self, frozen: &Snapshot, built: Built, sweep: &collect::Sweep) -> Result<()> {
        let manifest = self.next_manifest(frozen, built, sweep)?;
        self.folders.store_manifest(&manifest)?;
        self.flush()?;
        self.append_checkpoint(&CheckpointRecord { manifest: manifest.name, base: frozen.manifest.name })
    }

    /// Everything that changes the tree, in key order: the newest versions in the memtables, counters, and keys whose blobs lie
    /// in a victim.
    fn changes<'a>(&'a self, frozen: &'a Snapshot, victims: &[SegmentId]) -> Result<MergedChanges<'a>> {
        let mut extra: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
        for victim in victims {
            extra.extend(
                self.pages.segments().index_keys(*victim)?.into_iter().map(|key| (key, Change::Relocate)),
            );
        }
        for (key, delta) in frozen.counter_changes() {
            extra.insert(key, Change::Add(delta));
        }
        let memtables: Vec<Source<'a>> = frozen.memtable_sources(&self.pages).collect();
        let merge = Merge::new(memtables, Bound::Unbounded, Direction::Forward)?;
        Ok(MergedChanges { merge, extra: extra.into_iter().rev().collect(), entangled: entangled(frozen) })
    }

    fn next_manifest(&self, frozen: &Snapshot, built: Built, sweep: &collect::Sweep) -> Result<Manifest> {
        let base = &frozen.manifest;
        let name = ManifestRef { id: self.pages.segments().new_id(), checkpoint: frozen.seq };
        let mut segments = base.segments.clone();
        segments
            .extend(built.segments.iter().map(|(id, total)| (*id, SegmentUse { total: *total, live: 0 })));
        self.account(&mut segments, &built.accounting)?;
        // Value segments of transactions whose values were all overwritten, or moved into leaves, since.
        let mut unused: BTreeSet<SegmentId> = frozen
            .memtables
            .iter()
            .flat_map(|memtable| memtable.value_segments(frozen.window()))
            .filter(|id| !segments.contains_key(id))
            .collect();
        unused.extend(segments.iter().filter(|(_, usage)| usage.live == 0).map(|(id, _)| *id));
        segments.retain(|_, usage| usage.live > 0);
        let mut retired: Vec<(SegmentId, Seq)> =
            base.retired.iter().filter(|(id, _)| sweep.exists(*id)).copied().collect();
        retired.extend(unused.into_iter().map(|id| (id, name.checkpoint)));
        Ok(Manifest { name, root: built.root, segments, retired })
    }

    fn account(&self, segments: &mut BTreeMap<SegmentId, SegmentUse>, accounting: &Accounting) -> Result<()> {
        for (id, bytes) in &accounting.added {
            let usage = match segments.get_mut(id) {
                Some(usage) => usage,
                None => {
                    // A value segment that a transaction wrote: the tree refers to it from now on.
                    let total = self.pages.segments().len(*id)?;
                    segments.entry(*id).or_insert(SegmentUse { total, live: 0 })
                }
            };
            usage.live += bytes;
        }
        for (id, bytes) in &accounting.freed {
            let usage = segments.get_mut(id);
            let left = usage.as_ref().and_then(|usage| usage.live.checked_sub(*bytes));
            match (usage, left) {
                (Some(usage), Some(left)) => usage.live = left,
                _ => {
                    let what = format!("segment {id} has fewer live bytes than were freed");
                    return Err(Error::new(ErrorKind::Internal, what));
                }
            }
        }
        Ok(())
    }
}

fn entangled(frozen: &Snapshot) -> HashSet<(SegmentId, u64)> {
    let runs: Vec<&Arc<Run>> = frozen.runs().collect();
    let meets_others = |run: &&&Arc<Run>| runs.iter().any(|other| run.root != other.root && run.meets(other));
    runs.iter().filter(meets_others).map(|run| run.root.place()).collect()
}

/// Merges two sorted rows of changes; where both have a key, a write wins over a relocation.
struct MergedChanges<'a> {
    merge: Merge<'a>,
    /// Highest key first.
    extra: Vec<(Vec<u8>, Change)>,
    /// Roots of runs that meet others: few of their leaves can be taken over, and those would keep whole segments.
    entangled: HashSet<(SegmentId, u64)>,
}

impl Changes for MergedChanges<'_> {
    fn key(&self) -> Option<&[u8]> {
        let written = self.merge.current().map(|(key, _)| key);
        let extra = self.extra.last().map(|(key, _)| key.as_slice());
        match (written, extra) {
            (Some(written), Some(extra)) => Some(written.min(extra)),
            (written, extra) => written.or(extra),
        }
    }

    fn is_relocation(&self) -> bool {
        let Some((extra, Change::Relocate)) = self.extra.last() else { return false };
        self.merge.current().is_none_or(|(key, _)| extra.as_slice() < key)
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, Change)>> {
        let Some((key, value)) = self.merge.current() else { return Ok(self.extra.pop()) };
        match self.extra.last() {
            Some((extra, _)) if extra.as_slice() < key => return Ok(self.extra.pop()),
            Some((extra, _)) if extra.as_slice() == key => drop(self.extra.pop()),
            _ => {}
        }
        let change = match value {
            Some(value) => Change::Put(ValueRef::to_value(value)),
            None => Change::Delete,
        };
        let key = key.to_vec();
        self.merge.advance()?;
        Ok(Some((key, change)))
    }

    fn leaf(&self) -> Option<WholeLeaf> {
        let leaf = self.merge.leaf(|run| !self.entangled.contains(&run.root.place()))?;
        self.extra.last().is_none_or(|(key, _)| *key > leaf.last).then_some(leaf)
    }

    fn skip_leaf(&mut self) -> Result<()> {
        self.merge.skip_leaf()
    }
}
