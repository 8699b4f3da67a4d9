//! Committing: a queue, a leader, validation, one write and one sync for the whole group.
//!
//! What conflicts with what, for a transaction with snapshot R, against every commit after R (I5 in libjsondb/docs/protocol.md):
//!
//! | it did               | a later commit wrote the key | a later commit only read it |
//! |----------------------|------------------------------|-----------------------------|
//! | wrote the key        | conflict                     | -                           |
//! | read or missed it    | conflict                     | -                           |
//! | scanned over it      | conflict                     | -                           |
//! | ensured the store    | conflict unless it wrote the same bytes | -                |
//! | added to a counter   | -                            | -                           |

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::database::Inner;
use crate::log::frame::{FrameKind, HEADER_LEN};
use crate::log::tail::Tail;
use crate::log::wal::{Found, Wal, WalHeader};
use crate::log::{CheckpointRecord, Position, record};
use crate::os::{self, File};
use crate::read_set::ReadSet;
use crate::replica::Replica;
use crate::snapshot::WriteSet;
use crate::{CancelToken, Error, ErrorKind, Result, Seq, Value, catalog};

/// Largest group: more waits for the next sync.
const GROUP_TRANSACTIONS_MAX: usize = 1024;
const GROUP_BYTES_MAX: u64 = 8 << 20;
/// How often a waiting call looks at its cancel token and deadline.
const POLL: Duration = Duration::from_millis(20);
/// Shortest and longest pause between two tries of another process's lock.
const LOCK_PAUSE_MIN: Duration = Duration::from_micros(20);
const LOCK_PAUSE_MAX: Duration = Duration::from_micros(200);
/// A log file is closed at a checkpoint once it holds this much, or a memtable's worth if that is less.
const ROTATE_BYTES: u64 = 4 << 20;

/// A transaction ready to commit.
pub(crate) struct Prepared {
    pub(crate) snapshot: Seq,
    pub(crate) writes: WriteSet,
    /// Stores to create: catalog key and entry.
    pub(crate) ensures: BTreeMap<Box<[u8]>, Vec<u8>>,
    pub(crate) counters: BTreeMap<Box<[u8]>, i64>,
    pub(crate) reads: ReadSet,
    pub(crate) bytes: u64,
    pub(crate) cancel: CancelToken,
    pub(crate) deadline: Option<Instant>,
}

impl Prepared {
    /// Fails once the caller gave up or the time is over.
    fn check(&self) -> Result<()> {
        self.cancel.check()?;
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the time limit passed while the commit waited for other commits; nothing was stored",
            ));
        }
        Ok(())
    }
}

struct Request {
    ticket: u64,
    prepared: Prepared,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Request>,
    leading: bool,
    next_ticket: u64,
    results: HashMap<u64, Result<Seq>>,
}

/// Transactions of this process that wait for a group.
#[derive(Default)]
pub(crate) struct CommitQueue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

impl CommitQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn take_group(&mut self) -> Vec<Request> {
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            bytes += next.prepared.bytes;
            if !group.is_empty() && (group.len() >= GROUP_TRANSACTIONS_MAX || bytes > GROUP_BYTES_MAX) {
                break;
            }
            group.extend(self.waiting.pop_front());
        }
        group
    }
}

/// Ends a leader's turn, also when it panics: its group must not wait for ever.
struct Turn<'a> {
    inner: &'a Inner,
    tickets: Vec<u64>,
    results: Vec<Result<Seq>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let lost = || Err(Error::new(ErrorKind::Internal, "the commit was interrupted by a panic"));
        if std::thread::panicking() {
            self.inner.poison(Error::new(ErrorKind::Internal, "a panic interrupted a commit"));
        }
        let queue = &self.inner.queue;
        let mut state = queue.lock();
        let results = std::mem::take(&mut self.results).into_iter().chain(std::iter::repeat_with(lost));
        state.results.extend(self.tickets.iter().copied().zip(results));
        state.leading = false;
        drop(state);
        queue.wake.notify_all();
    }
}

impl Inner {
    /// Commits; returns when it is durable and visible, or when it is known that nothing was stored.
    pub(crate) fn commit(self: &Arc<Inner>, prepared: Prepared) -> Result<Seq> {
        self.make_room()?;
        let (cancel, deadline) = (prepared.cancel.clone(), prepared.deadline);
        let mut state = self.queue.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Request { ticket, prepared });
        loop {
            if let Some(result) = state.results.remove(&ticket) {
                drop(state);
                self.checkpoint_when_full();
                return result;
            }
            if !state.leading {
                state.leading = true;
                let group = state.take_group();
                drop(state);
                self.lead(group);
                state = self.queue.lock();
                continue;
            }
            state = self.queue.wake.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
            // Still queued: may be withdrawn. Taken by a leader: its outcome decides.
            if (cancel.is_cancelled() || deadline.is_some_and(|deadline| Instant::now() >= deadline))
                && let Some(index) = state.waiting.iter().position(|request| request.ticket == ticket)
                && let Some(request) = state.waiting.remove(index)
            {
                return request.prepared.check().and(Err(Error::new(ErrorKind::Timeout, "withdrawn")));
            }
        }
    }

    fn lead(&self, group: Vec<Request>) {
        let tickets = group.iter().map(|request| request.ticket).collect();
        let mut turn = Turn { inner: self, tickets, results: Vec::new() };
        let group: Vec<Prepared> = group.into_iter().map(|request| request.prepared).collect();
        turn.results = match self.append_group(&group) {
            Ok(results) => results,
            Err(error) => group.iter().map(|_| Err(error.clone())).collect(),
        };
    }

    fn append_group(&self, group: &[Prepared]) -> Result<Vec<Result<Seq>>> {
        let log = self.lock_log(|| {
            // One member that gave up does not hold the others back; when all did, the group ends.
            group.iter().map(Prepared::check).find(Result::is_ok).unwrap_or_else(|| match group.first() {
                Some(first) => first.check(),
                None => Ok(()),
            })
        })?;
        let (position, verdicts) = {
            let replica = self.lock_replica();
            (replica.position.clone(), self.validate(&replica, group))
        };
        let mut buffer = vec![0; HEADER_LEN];
        let mut count = 0;
        let mut results = Vec::with_capacity(group.len());
        for (prepared, verdict) in group.iter().zip(verdicts) {
            results.push(verdict.map(|new_stores| {
                encode(prepared, &new_stores, &mut buffer);
                count += 1;
                Seq(position.next_seq.0 + u64::from(count) - 1)
            }));
        }
        if count > 0 {
            log.append(&position, FrameKind::Commit, count, buffer)?;
        }
        Ok(results)
    }

    /// For each member: the stores it creates, or why it cannot commit.
    fn validate(&self, replica: &Replica, group: &[Prepared]) -> Vec<Result<Vec<Box<[u8]>>>> {
        let mut earlier = Earlier::default();
        group
            .iter()
            .map(|prepared| {
                prepared.check()?;
                if prepared.snapshot < replica.floor() {
                    let what = "the transaction is older than the commits still in memory; run it again";
                    return Err(Error::new(ErrorKind::SnapshotTooOld, what));
                }
                if let Some(key) = find_conflict(replica, &earlier, prepared) {
                    return Err(self.conflict_error(&key));
                }
                let new_stores = self.check_ensures(&earlier, prepared)?;
                earlier.add(prepared, &new_stores);
                Ok(new_stores)
            })
            .collect()
    }

    /// Which of the stores to create are not there yet. Another entry under the same key is a conflict: a retry sees it.
    fn check_ensures(&self, earlier: &Earlier<'_>, prepared: &Prepared) -> Result<Vec<Box<[u8]>>> {
        let current = self.current.load();
        let mut missing = Vec::new();
        for (key, entry) in &prepared.ensures {
            let found = match earlier.ensures.get(key.as_ref()) {
                Some(found) => Some(Value::Inline(found.as_slice().into())),
                // Dropped (or dropped and made again) by an earlier member.
                None if earlier.writes.contains(key.as_ref()) => return Err(self.conflict_error(key)),
                None => current.get(&self.pages, key)?,
            };
            match found {
                None => missing.push(key.clone()),
                Some(Value::Inline(found)) if *found == **entry => {}
                Some(_) => return Err(self.conflict_error(key)),
            }
        }
        Ok(missing)
    }

    fn conflict_error(&self, key: &[u8]) -> Error {
        let (store, key) = catalog::describe(&self.current.load(), &self.pages, key);
        let message = format!(
            "conflict in store \"{store}\": another transaction committed first to something this one read or wrote; run it again"
        );
        Error::conflict(store, key, message)
    }

    /// Appends a checkpoint record and starts a new log file when this one has grown.
    pub(crate) fn append_checkpoint(&self, record: &CheckpointRecord) -> Result<()> {
        let log = self.lock_log(|| Ok(()))?;
        let position = self.lock_replica().position.clone();
        let mut buffer = vec![0; HEADER_LEN];
        record.put(&mut buffer);
        log.append(&position, FrameKind::Checkpoint, 0, buffer)?;
        log.rotate_when_grown()
    }

    /// Takes the log lock of the folder and reads what others appended. `still_wanted` is asked while waiting.
    pub(crate) fn lock_log(&self, still_wanted: impl Fn() -> Result<()>) -> Result<LockedLog<'_>> {
        self.check_usable()?;
        let file = self.log_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lock) = file.as_ref() else {
            let what = format!("{} cannot be written: it was opened for reading only", self.folder.display());
            return Err(Error::new(ErrorKind::ReadOnlyFolder, what));
        };
        acquire(lock, self.options.lock_timeout, still_wanted)?;
        let log = LockedLog { inner: self, file };
        log.catch_up()?;
        Ok(log)
    }
}

/// When a timeout that begins now is over; None: never, it is longer than the clock reaches.
pub(crate) fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Waits for a whole-file lock that another process may hold.
pub(crate) fn acquire(lock: &File, timeout: Duration, still_wanted: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = after(timeout);
    let mut pause = LOCK_PAUSE_MIN;
    while !lock.try_lock()? {
        still_wanted()?;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let what = format!("another process holds {} for over {timeout:?}", lock.path().display());
            return Err(Error::new(ErrorKind::Locked, what));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOCK_PAUSE_MAX);
    }
    Ok(())
}

/// The folder's log lock, held; the replica is at the end of the log.
pub(crate) struct LockedLog<'a> {
    inner: &'a Inner,
    file: MutexGuard<'a, Option<File>>,
}

impl Drop for LockedLog<'_> {
    fn drop(&mut self) {
        if let Some(lock) = self.file.as_ref() {
            // The kernel releases it with the file at the latest.
            let _ = lock.unlock();
        }
    }
}

impl LockedLog<'_> {
    /// Reads up to the announced end, then takes over what a writer that died left beyond it.
    fn catch_up(&self) -> Result<()> {
        let inner = self.inner;
        let tail = inner.tail()?.read()?;
        let mut replica = inner.lock_replica();
        let before = replica.position.end();
        inner.follow(&mut replica, tail.map_or(before, |tail| tail.end))?;
        let orderly = tail.is_some_and(|tail| !tail.rotating && tail.end == replica.position.end());
        // A power cut may have set the announcement back to any earlier one: even one that looks orderly may not name the newest
        // file. Every handle looks for itself, as another may have opened the folder first and not have come to it yet.
        let trusted = inner.log_checked.load(Ordering::Acquire);
        if !trusted {
            // Whoever made the database or its newest log file may have died before the name was durable.
            os::sync_folder(&inner.folders.log.path)?;
            os::sync_folder(&inner.folder)?;
        }
        if !trusted || !orderly || !matches!(replica.position.look()?, Found::End) {
            self.take_over(&mut replica, !orderly)?;
        }
        inner.log_checked.store(true, Ordering::Release);
        if replica.position.end() != before {
            inner.publish(&mut replica);
        }
        Ok(())
    }

    /// Makes frames durable that nobody announced: written once more, so that this sync covers them whatever became of the sync
    /// of their writer, then applied. `search`: also look for whole frames behind a gap, which prove damage.
    fn take_over(&self, replica: &mut Replica, search: bool) -> Result<()> {
        loop {
            let mut end = replica.position.clone();
            let torn = loop {
                match end.look()? {
                    Found::Frame(frame) if end.wal.body(&frame.header)?.is_some() => end.step(&frame),
                    Found::End => break false,
                    Found::Frame(_) | Found::Bad => break true,
                }
            };
            let (from, to) = (replica.position.offset, end.offset);
            if to > from {
                self.guarded(end.wal.rewrite(from, to - from).and_then(|()| end.wal.sync()))?;
                self.inner.follow(replica, end.end())?;
            }
            if let Some(next) = replica.position.next_file(&self.inner.folders.log)? {
                // Its maker may have died before the name was durable.
                self.guarded(os::sync_folder(&self.inner.folders.log.path))?;
                replica.position = next;
                continue;
            }
            if (torn || search) && end.wal.has_frame_after(end.offset, end.next_seq)? {
                return Err(end.corrupt("a frame that had been stored"));
            }
            return self.announce(replica, false);
        }
    }

    /// Writes a frame at the end of the log, makes it durable, announces and applies it. `buffer` as for `seal_frame`.
    fn append(&self, position: &Position, kind: FrameKind, count: u32, mut buffer: Vec<u8>) -> Result<()> {
        let frame = position.seal_frame(kind, count, &mut buffer);
        position.wal.write(&buffer, position.offset)?;
        self.guarded(position.wal.sync())?;
        let mut replica = self.inner.lock_replica();
        let body_end = HEADER_LEN + frame.header.body_len as usize;
        let body = buffer.get(HEADER_LEN..body_end).unwrap_or_default();
        // From here on the commit is durable: a failure to apply it must not be reported as a failed commit of others.
        self.guarded(replica.apply(&frame, body))?;
        self.announce(&replica, false)?;
        self.inner.publish(&mut replica);
        Ok(())
    }

    /// Tells other processes how far the log is durable.
    fn announce(&self, replica: &Replica, rotating: bool) -> Result<()> {
        let position = &replica.position;
        let tail = Tail { end: position.end(), seq: position.last_seq(), rotating };
        self.guarded(self.inner.tail()?.write(&tail))
    }

    fn rotate_when_grown(&self) -> Result<()> {
        let mut replica = self.inner.lock_replica();
        let position = &replica.position;
        let grown = ROTATE_BYTES.min(self.inner.options.memtable_bytes);
        if position.offset < grown || position.next_seq == position.wal.header.first_seq {
            return Ok(());
        }
        let header = WalHeader {
            id: crate::random_u64(),
            first_seq: position.next_seq,
            previous: Some(position.as_previous()),
            manifest: replica.manifest().name,
        };
        let log = &self.inner.folders.log;
        self.announce(&replica, true)?;
        match Wal::create(&log.path, &staging_path(log, "wal"), &header) {
            Ok(wal) => replica.position = Position::at_start(wal),
            Err(error) => {
                let name = crate::log::wal::path(&log.path, header.first_seq);
                if os::identity_of(&name).is_some() {
                    // The name may or may not be durable: writing on here could lose commits. The announcement tells
                    // the next writer to look.
                    return self.guarded(Err(error));
                }
                // Not created: the old file goes on, the next checkpoint tries again.
            }
        }
        self.announce(&replica, false)?;
        self.inner.publish(&mut replica);
        Ok(())
    }

    /// After a failed sync or announcement nobody knows what is on disk: this process writes no more.
    fn guarded<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.inner.poison(error))
    }
}

/// A name in the staging folder that says whose it is.
fn staging_path(log: &crate::log::LogFolder, what: &str) -> PathBuf {
    log.staging.join(format!("{:016x}-{what}", log.owner))
}

fn encode(prepared: &Prepared, new_stores: &[Box<[u8]>], buffer: &mut Vec<u8>) {
    let counters = prepared.counters.iter().map(|(key, delta)| (key.as_ref(), *delta));
    if new_stores.is_empty() {
        let writes = prepared.writes.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        record::encode(writes, counters, buffer);
        return;
    }
    let entries: BTreeMap<&[u8], Value> = new_stores
        .iter()
        .filter_map(|key| Some((key.as_ref(), Value::Inline(prepared.ensures.get(key)?.as_slice().into()))))
        .collect();
    let mut writes: BTreeMap<&[u8], Option<&Value>> =
        prepared.writes.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).collect();
    writes.extend(entries.iter().map(|(key, value)| (*key, Some(value))));
    record::encode(writes.into_iter(), counters, buffer);
}

/// What earlier members of the same group write.
#[derive(Default)]
struct Earlier<'a> {
    writes: HashSet<&'a [u8]>,
    sorted: BTreeMap<&'a [u8], ()>,
    ensures: HashMap<&'a [u8], &'a Vec<u8>>,
}

impl<'a> Earlier<'a> {
    fn add(&mut self, prepared: &'a Prepared, new_stores: &[Box<[u8]>]) {
        let created = prepared.ensures.iter().filter(|(key, _)| new_stores.contains(key));
        for (key, entry) in created {
            self.ensures.insert(key, entry);
            self.sorted.insert(key, ());
            self.writes.insert(key);
        }
        for key in prepared.writes.keys() {
            self.writes.insert(key);
            self.sorted.insert(key, ());
        }
    }
}

/// A key that the transaction wrote, read, missed or scanned over and that was written after its snapshot.
fn find_conflict(replica: &Replica, earlier: &Earlier<'_>, prepared: &Prepared) -> Option<Vec<u8>> {
    let snapshot = prepared.snapshot;
    let written = |key: &[u8]| {
        earlier.writes.contains(key)
            || replica.memtables_after(snapshot).any(|memtable| memtable.newest_of(key) > Some(snapshot))
    };
    let mut keys = prepared.writes.keys().map(AsRef::as_ref).chain(prepared.reads.keys());
    if let Some(key) = keys.find(|key| written(key)) {
        return Some(key.to_vec());
    }
    prepared.reads.ranges().find_map(|(start, end)| {
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        if let Some((key, ())) = earlier.sorted.range::<[u8], _>((Bound::Included(start), upper)).next() {
            return Some(key.to_vec());
        }
        replica.memtables_after(snapshot).find_map(|memtable| memtable.written_after(start, end, snapshot))
    })
}
