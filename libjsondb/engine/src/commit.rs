//! Committing: a queue, a leader, validation, one write for the whole group; then each waits for the sync that covers it.
//!
//! What conflicts with what: [`crate::validate`]. The log under its lock: [`crate::append`]. The sync: [`crate::sync`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::append::LockedLog;
use crate::database::Inner;
use crate::log::FilePosition;
use crate::log::frame::{FrameKind, HEADER_LEN};
use crate::log::record;
use crate::read_set::ReadSet;
use crate::run::Run;
use crate::shared::SharedLog;
use crate::shared::driver::Draft;
use crate::shared::slot::SlotKind;
use crate::tree::Wait;
use crate::wait;
use crate::write_set::WriteSet;
use crate::{CancelToken, Durability, Error, ErrorKind, Result, Seq, ValueRef};

/// Largest group: more waits for the next sync.
const GROUP_TRANSACTIONS_MAX: usize = 1024;
const GROUP_BYTES_MAX: u64 = 8 << 20;
/// A transaction with runs counts as so many: it makes a group of its own, as groups are validated key by key.
pub(crate) const ALONE_BYTES: u64 = GROUP_BYTES_MAX + 1;
/// For lengths and counters beside the keys and values of a small group, so that its frame is allocated once.
const SPARE_BYTES: usize = 128;
/// How often a waiting call looks at its cancel token and deadline.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A transaction ready to commit.
pub(crate) struct Prepared {
    pub(crate) snapshot: Seq,
    /// What it wrote first, if that was much: oldest first.
    pub(crate) runs: Vec<Arc<Run>>,
    /// What it wrote last.
    pub(crate) writes: WriteSet,
    /// Stores to create: catalog key and entry.
    pub(crate) ensures: BTreeMap<Box<[u8]>, Vec<u8>>,
    pub(crate) counters: BTreeMap<Box<[u8]>, i64>,
    pub(crate) reads: ReadSet,
    pub(crate) bytes: u64,
    pub(crate) cancel: CancelToken,
    pub(crate) deadline: Option<Instant>,
    pub(crate) durability: Durability,
}

impl Prepared {
    /// Fails once the caller gave up or the time is over.
    pub(crate) fn check(&self) -> Result<()> {
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

/// What became of a transaction under the log's lock.
struct Appended {
    /// Its place in the order of commits, or why it has none.
    result: Result<Seq>,
    /// Readers see it once the log is durable up to here. Of a conflict: what it lost against, which its retry is to see.
    pending: Option<FilePosition>,
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
    /// Threads that sleep until a leader ends.
    sleeping: usize,
    /// By ticket; few at a time.
    results: Vec<(u64, Appended)>,
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
    results: Vec<Appended>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let lost = || Appended {
            result: Err(Error::new(ErrorKind::Internal, "the commit was interrupted by a panic")),
            pending: None,
        };
        let queue = &self.inner.queue;
        let mut state = queue.lock();
        let results = std::mem::take(&mut self.results).into_iter().chain(std::iter::repeat_with(lost));
        state.results.extend(self.tickets.iter().copied().zip(results));
        state.leading = false;
        let awaited = state.sleeping > 0;
        drop(state);
        if awaited {
            queue.wake.notify_all();
        }
    }
}

impl Inner {
    /// Commits; returns when it is visible and as durable as it is to be, or when it is known that nothing was stored.
    pub(crate) fn commit(self: &Arc<Inner>, mut prepared: Prepared) -> Result<Seq> {
        prepared.deadline = prepared.deadline.or_else(|| wait::after(self.options.lock_timeout));
        self.make_room(|| prepared.check())?;
        let Appended { result, pending } = self.enqueue(prepared)?;
        match (&result, pending) {
            (Ok(_), Some(end)) => self.make_durable(&end)?,
            // Its own error is told, whatever becomes of what it lost against.
            (Err(_), Some(end)) => drop(self.make_durable(&end)),
            (_, None) => {}
        }
        self.checkpoint_when_full();
        result
    }

    /// The log for a relaxed commit that takes its turn at once, alone. None when it is to be queued, or would have to wait.
    pub(crate) fn try_turn(&self, wait: Wait) -> Result<Option<LockedLog<'_>>> {
        // Who is queued comes first.
        let is_free = {
            let queue = self.queue.lock();
            !queue.leading && queue.waiting.is_empty()
        };
        if is_free && self.shared.is_none() && self.has_room() { self.try_lock_log(wait) } else { Ok(None) }
    }

    /// Commits a relaxed transaction without runs under the log lock that [`Inner::try_turn`] gave.
    pub(crate) fn commit_in_turn(self: &Arc<Inner>, log: LockedLog<'_>, prepared: &Prepared) -> Result<Seq> {
        let appended = self.append_under(log, std::slice::from_ref(prepared))?;
        self.checkpoint_when_full();
        let lost = || Err(Error::new(ErrorKind::Internal, "a commit without an outcome"));
        appended.into_iter().next().map_or_else(lost, |appended| appended.result)
    }

    /// What a process does that dies before the sync.
    #[cfg(test)]
    pub(crate) fn append_only(&self, prepared: Prepared) -> Result<()> {
        self.enqueue(prepared)?.result.map(drop)
    }

    /// Waits until a leader, this thread or another, has appended the transaction or refused it.
    fn enqueue(&self, prepared: Prepared) -> Result<Appended> {
        let mut state = self.queue.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Request { ticket, prepared });
        loop {
            if let Some(index) = state.results.iter().position(|(found, _)| *found == ticket) {
                return Ok(state.results.swap_remove(index).1);
            }
            if !state.leading {
                state.leading = true;
                let group = state.take_group();
                drop(state);
                self.lead(group);
                state = self.queue.lock();
                continue;
            }
            state.sleeping += 1;
            state = self.queue.wake.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
            state.sleeping -= 1;
            // Still queued: may be withdrawn. Taken by a leader: its outcome decides.
            if let Some(index) = state.waiting.iter().position(|request| request.ticket == ticket)
                && let Some(Err(given_up)) = state.waiting.get(index).map(|request| request.prepared.check())
            {
                state.waiting.remove(index);
                return Err(given_up);
            }
        }
    }

    fn lead(&self, group: Vec<Request>) {
        let tickets = group.iter().map(|request| request.ticket).collect();
        let mut turn = Turn { inner: self, tickets, results: Vec::new() };
        let group: Vec<Prepared> = group.into_iter().map(|request| request.prepared).collect();
        turn.results = match self.append_group(&group) {
            Ok(results) => results,
            Err(error) => {
                group.iter().map(|_| Appended { result: Err(error.clone()), pending: None }).collect()
            }
        };
    }

    fn append_group(&self, group: &[Prepared]) -> Result<Vec<Appended>> {
        if let Some(shared) = &self.shared {
            return self.append_group_to_slots(shared, group);
        }
        let log = self.lock_log(|| {
            // One member that gave up does not hold the others back; when all did, the group ends.
            group.iter().map(Prepared::check).find(Result::is_ok).unwrap_or_else(|| match group.first() {
                Some(first) => first.check(),
                None => Ok(()),
            })
        })?;
        self.append_under(log, group)
    }

    /// Validates the group, appends those that may commit, and gives the lock up.
    fn append_under(&self, mut log: LockedLog<'_>, group: &[Prepared]) -> Result<Vec<Appended>> {
        let (position, verdicts) = {
            let replica = self.lock_replica();
            (replica.file()?.clone(), self.validate(&replica, group))
        };
        let body_bytes: u64 = group.iter().map(|prepared| prepared.bytes).sum();
        let mut buffer =
            Vec::with_capacity(HEADER_LEN + body_bytes.min(GROUP_BYTES_MAX) as usize + SPARE_BYTES);
        buffer.resize(HEADER_LEN, 0);
        let mut count = 0;
        let mut durability = Durability::Relaxed;
        let mut results = Vec::with_capacity(group.len());
        for (prepared, verdict) in group.iter().zip(verdicts) {
            results.push(verdict.map(|new_stores| {
                encode(prepared, &new_stores, &mut buffer);
                count += 1;
                if prepared.durability == Durability::Full {
                    durability = Durability::Full;
                }
                Seq(position.next_seq.0 + u64::from(count) - 1)
            }));
        }
        let mut all_visible = log.is_all_visible();
        if count > 0 {
            all_visible = log.append(&position, FrameKind::Commit, count, buffer, durability)?;
        }
        let end = if all_visible { None } else { Some(self.lock_replica().file()?.clone()) };
        drop(log);
        let is_awaited = |result: &Result<Seq>| match result {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::Conflict,
        };
        let appended = |result| Appended { pending: end.clone().filter(|_| is_awaited(&result)), result };
        Ok(results.into_iter().map(appended).collect())
    }
}

impl Inner {
    /// As `append_under`, to a shared log: all that commit have the number of the slot.
    fn append_group_to_slots(&self, shared: &SharedLog, group: &[Prepared]) -> Result<Vec<Appended>> {
        let body_bytes: u64 = group.iter().map(|prepared| prepared.bytes).sum();
        let mut verdicts = Vec::new();
        let slot = self.append_slot(shared, |replica| {
            let mut bytes = Draft::buffer(body_bytes.min(GROUP_BYTES_MAX) as usize + SPARE_BYTES);
            let mut count = 0;
            verdicts = self.validate(replica, group);
            for (prepared, new_stores) in group.iter().zip(&verdicts) {
                if let Ok(new_stores) = new_stores {
                    encode(prepared, new_stores, &mut bytes);
                    count += 1;
                }
            }
            Ok((count > 0).then_some(Draft { kind: SlotKind::Commit, count, bytes }))
        })?;
        let lost = || Err(Error::new(ErrorKind::Internal, "a commit without a slot"));
        let result = |verdict: Result<_>| verdict.and_then(|_| slot.map_or_else(lost, Ok));
        Ok(verdicts.into_iter().map(|verdict| Appended { result: result(verdict), pending: None }).collect())
    }
}

fn encode(prepared: &Prepared, new_stores: &[Box<[u8]>], buffer: &mut Vec<u8>) {
    let counters = prepared.counters.iter().map(|(key, delta)| (key.as_ref(), *delta));
    let runs = &prepared.runs;
    if new_stores.is_empty() {
        record::encode(runs, prepared.writes.len(), prepared.writes.iter(), counters, buffer);
        return;
    }
    let mut writes: BTreeMap<&[u8], Option<ValueRef<'_>>> = prepared.writes.iter().collect();
    for key in new_stores {
        let entry = prepared.ensures.get(key).map(|entry| ValueRef::Inline(entry));
        writes.insert(key, entry);
    }
    record::encode(runs, writes.len(), writes.into_iter(), counters, buffer);
}
