//! Making the log durable: one sync at a time on a folder, for the frames of all its processes.
//!
//! While one runs others append; the next one covers what they wrote. Whoever waits looks first whether somebody else's sync has
//! covered its frame already.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::database::Inner;
use crate::log::tail::{Durable, Tail};
use crate::log::{FilePosition, LogEnd};
use crate::os::File;
use crate::planted::{Bug, is_planted};
use crate::tree::Wait;
use crate::wait::{acquire, acquire_unless};
use crate::{Error, ErrorKind, Result};

/// The folder's sync lock, as the threads of this process share it.
pub(crate) struct SyncLock {
    state: Mutex<SyncState>,
    ended: Condvar,
}

struct SyncState {
    /// None when the folder cannot be written, or the lock was given up.
    file: Option<Arc<File>>,
    /// A thread has it, or waits for other processes to give it.
    taken: bool,
    /// Threads that sleep until it is given back.
    sleeping: usize,
}

impl SyncLock {
    pub(crate) fn new(file: Option<File>) -> SyncLock {
        let state = SyncState { file: file.map(Arc::new), taken: false, sleeping: 0 };
        SyncLock { state: Mutex::new(state), ended: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, SyncState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until a thread gives the lock back.
    fn sleep<'a>(&'a self, mut state: MutexGuard<'a, SyncState>) -> MutexGuard<'a, SyncState> {
        state.sleeping += 1;
        state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.sleeping -= 1;
        state
    }
}

/// This thread's turn to take the folder's sync lock; given back when it is dropped.
pub(crate) struct SyncTurn<'a> {
    inner: &'a Inner,
    file: Arc<File>,
    /// The lock is held among processes, too.
    is_locked: bool,
}

impl Drop for SyncTurn<'_> {
    fn drop(&mut self) {
        let unlocked = if self.is_locked { self.file.unlock() } else { Ok(()) };
        let lock = &self.inner.sync_lock;
        let mut state = lock.lock();
        state.taken = false;
        if let Err(error) = unlocked {
            // Closing the file releases the lock for others; without it this handle cannot write.
            self.inner.poison(error);
            state.file = None;
        }
        let awaited = state.sleeping > 0;
        drop(state);
        if awaited {
            lock.ended.notify_all();
        }
    }
}

impl Inner {
    /// Returns once everything up to `position` is durable and visible. When it fails the outcome is unknown, and the handle ends.
    pub(crate) fn make_durable(&self, position: &FilePosition) -> Result<()> {
        self.sync_up_to(position)?;
        self.refresh(Wait::AsLongAsNeeded).map(drop).map_err(|error| self.poison(error))
    }

    /// Keeps all others from syncing, after the sync that is under way.
    pub(crate) fn lock_sync(&self) -> Result<SyncTurn<'_>> {
        let mut state = self.sync_lock.lock();
        while state.taken {
            state = self.sync_lock.sleep(state);
        }
        let mut turn = self.take_turn(state)?;
        acquire(&turn.file, self.options.lock_timeout, || Ok(()))?;
        turn.is_locked = true;
        Ok(turn)
    }

    fn take_turn(&self, mut state: MutexGuard<'_, SyncState>) -> Result<SyncTurn<'_>> {
        let Some(file) = state.file.clone() else {
            return Err(self.check_usable().err().unwrap_or_else(|| self.read_only()));
        };
        state.taken = true;
        Ok(SyncTurn { inner: self, file, is_locked: false })
    }

    /// As [`Inner::make_durable`], but shows nothing.
    pub(crate) fn sync_up_to(&self, position: &FilePosition) -> Result<()> {
        let end = position.end();
        let locked = match self.lock_sync_unless_durable(end) {
            Ok(Some(locked)) => locked,
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.poison(error)),
        };
        let synced = match self.tail().and_then(|tail| tail.read()) {
            Ok(Some(tail)) if tail.durable.mark.end >= end => Ok(()),
            Ok(Some(tail)) => self.sync_log(position, tail),
            // Without a whole announcement nobody knows what the sync has to cover. It is no damage: the next one to open the folder makes
            // it anew. (Where locks are lost two processes may write it at a time.)
            Ok(None) => Err(Error::new(ErrorKind::Io, "log/TAIL does not say where the log ends")),
            Err(error) => Err(error),
        };
        drop(locked);
        synced.map_err(|error| self.poison(error))
    }

    /// None when the log is durable up to `end` without a further sync.
    fn lock_sync_unless_durable(&self, end: LogEnd) -> Result<Option<SyncTurn<'_>>> {
        let is_durable = || Ok(self.tail()?.read()?.is_some_and(|tail| tail.durable.mark.end >= end));
        let mut state = self.sync_lock.lock();
        loop {
            if is_durable()? {
                return Ok(None);
            }
            self.check_not_failed()?;
            if !state.taken {
                break;
            }
            state = self.sync_lock.sleep(state);
        }
        let mut turn = self.take_turn(state)?;
        turn.is_locked = acquire_unless(&turn.file, self.options.lock_timeout, is_durable)?;
        Ok(turn.is_locked.then_some(turn))
    }

    /// Syncs everything that is announced as written. A new file is started only when all is durable, so all that is not lies in
    /// the file of `position`.
    fn sync_log(&self, position: &FilePosition, tail: Tail) -> Result<()> {
        let (file, durable, written) = (self.tail()?, tail.durable.mark, tail.appended.written);
        if tail.durable.syncing && !is_planted(Bug::TrustFailedSync) {
            // A kernel reports a failed sync only once, and may have dropped the bytes: these are written by a process that lives.
            let from = position.durable_offset(durable.end);
            position.wal.check_frames(from, written.end.offset)?;
            position.wal.rewrite(from, written.end.offset.saturating_sub(from))?;
        }
        file.write_durable(&Durable { mark: durable, syncing: true })?;
        if is_planted(Bug::DurableMarkBeforeSync) {
            file.write_durable(&Durable { mark: written, syncing: true })?;
        }
        if !is_planted(Bug::AcknowledgeBeforeSync) {
            position.wal.sync()?;
        }
        let covered = if is_planted(Bug::CoverLaterFrames) {
            file.read()?.map_or(written, |tail| tail.appended.written)
        } else {
            written
        };
        file.write_durable(&Durable { mark: covered, syncing: false })
    }
}
