//! Making the log durable: one sync at a time on a folder, for the frames of all its processes.
//!
//! While one runs others append; the next one covers what they wrote. Whoever waits looks first whether somebody else's sync has
//! covered its frame already.

use std::sync::{MutexGuard, PoisonError};

use crate::database::Inner;
use crate::log::tail::{Durable, Tail};
use crate::log::{LogEnd, Position};
use crate::os::File;
use crate::planted::{Bug, is_planted};
use crate::tree::Wait;
use crate::wait::{acquire, acquire_unless};
use crate::{Error, Result};

/// The folder's sync lock, held.
pub(crate) struct LockedSync<'a> {
    inner: &'a Inner,
    file: MutexGuard<'a, Option<File>>,
}

impl Drop for LockedSync<'_> {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.file.as_ref().map(File::unlock) {
            // Closing the file releases the lock for others; without it this handle cannot write.
            self.inner.poison(error);
            *self.file = None;
        }
    }
}

impl Inner {
    /// Returns once everything up to `position` is durable and visible. When it fails the outcome is unknown, and the handle ends.
    pub(crate) fn make_durable(&self, position: &Position) -> Result<()> {
        self.sync_up_to(position)?;
        self.refresh(Wait::AsLongAsNeeded).map(drop).map_err(|error| self.poison(error))
    }

    /// Keeps all others from syncing, after the sync that is under way.
    pub(crate) fn lock_sync(&self) -> Result<LockedSync<'_>> {
        let file = self.sync_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = self.lock_file(&file)?;
        acquire(lock, self.options.lock_timeout, || Ok(()))?;
        Ok(LockedSync { inner: self, file })
    }

    /// As [`Inner::make_durable`], but shows nothing.
    pub(crate) fn sync_up_to(&self, position: &Position) -> Result<()> {
        let end = position.end();
        let locked = match self.lock_sync_unless_durable(end) {
            Ok(Some(locked)) => locked,
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.poison(error)),
        };
        let synced = match self.tail().and_then(|tail| tail.read()) {
            Ok(Some(tail)) if tail.durable.mark.end >= end => Ok(()),
            Ok(Some(tail)) => self.sync_log(position, tail),
            // Without a whole announcement nobody knows what the sync has to cover.
            Ok(None) => Err(Error::corrupt(&self.folders.log.path.join("TAIL"), 0, "the announced end")),
            Err(error) => Err(error),
        };
        drop(locked);
        synced.map_err(|error| self.poison(error))
    }

    /// None when the log is durable up to `end` without a further sync.
    fn lock_sync_unless_durable(&self, end: LogEnd) -> Result<Option<LockedSync<'_>>> {
        let file = self.sync_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_durable = || Ok(self.tail()?.read()?.is_some_and(|tail| tail.durable.mark.end >= end));
        if is_durable()? {
            return Ok(None);
        }
        self.check_not_failed()?;
        let lock = self.lock_file(&file)?;
        if !acquire_unless(lock, self.options.lock_timeout, is_durable)? {
            return Ok(None);
        }
        Ok(Some(LockedSync { inner: self, file }))
    }

    /// Syncs everything that is announced as written. A new file is started only when all is durable, so all that is not lies in
    /// the file of `position`.
    fn sync_log(&self, position: &Position, tail: Tail) -> Result<()> {
        let (file, durable, written) = (self.tail()?, tail.durable.mark, tail.appended.written);
        if tail.durable.syncing && !is_planted(Bug::TrustFailedSync) {
            // A kernel reports a failed sync only once, and may have dropped the bytes: these are written by a process that lives.
            let from = position.durable_offset(durable.end);
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
