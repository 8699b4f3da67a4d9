//! The log under its lock: catching up with other processes, taking over what a dead one left, appending, starting a new
//! file.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::database::Inner;
use crate::log::frame::{FrameKind, HEADER_LEN};
use crate::log::tail::Tail;
use crate::log::wal::{Found, Frame, Wal, WalHeader};
use crate::log::{CheckpointRecord, LogEnd, Position};
use crate::os::{self, File};
use crate::planted::{Bug, is_planted};
use crate::replica::Replica;
use crate::{Error, ErrorKind, Result};

/// Shortest and longest pause between two tries of another process's lock.
const LOCK_PAUSE_MIN: Duration = Duration::from_micros(20);
const LOCK_PAUSE_MAX: Duration = Duration::from_micros(200);
/// A log file is closed at a checkpoint once it holds this much, or a memtable's worth if that is less.
const ROTATE_BYTES: u64 = 4 << 20;

impl Inner {
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
        let log = self.acquire_log(still_wanted)?;
        log.catch_up(Trust::Announcement)?;
        Ok(log)
    }

    /// What every handle does first: from then on, what a dead writer left is either stored or gone.
    pub(crate) fn settle_log(&self) -> Result<()> {
        self.acquire_log(|| Ok(()))?.catch_up(Trust::Nothing)
    }

    fn acquire_log(&self, still_wanted: impl Fn() -> Result<()>) -> Result<LockedLog<'_>> {
        let file = self.log_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lock) = file.as_ref() else {
            // Given up a moment ago, or never had.
            self.check_usable()?;
            return Err(self.read_only());
        };
        acquire(lock, self.options.lock_timeout, still_wanted)?;
        Ok(LockedLog { inner: self, file })
    }
}

/// What is believed of the log's announced end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// This handle has once looked behind it: it is kept up to date since.
    Announcement,
    /// A power cut may have set it back to any earlier one: even one that looks orderly may not name the newest file.
    Nothing,
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
            let path = lock.path().display();
            let what = format!(
                "another process holds {path} for over {timeout:?}: if it is stopped, let it go on or end it"
            );
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
        if let Some(Err(error)) = self.file.as_ref().map(File::unlock) {
            // Closing the file releases the lock for others; without it this handle cannot write.
            self.inner.poison(error);
            *self.file = None;
        }
    }
}

impl LockedLog<'_> {
    /// Reads up to the announced end, then takes over what a writer that died left beyond it.
    fn catch_up(&self, trust: Trust) -> Result<()> {
        let inner = self.inner;
        let tail = inner.tail()?.read()?;
        let mut replica = inner.lock_replica();
        let before = replica.position.end();
        inner.follow(&mut replica, tail.map_or(before, |tail| tail.end))?;
        let orderly = tail.is_some_and(|tail| !tail.rotating && tail.end == replica.position.end());
        if trust == Trust::Nothing {
            // Whoever made the database or its newest log file may have died before the name was durable.
            os::sync_folder(&inner.folders.log.path)?;
            os::sync_folder(&inner.folder)?;
        }
        let doubtful = trust == Trust::Nothing || !orderly;
        if doubtful || !matches!(replica.position.look()?, Found::End) {
            self.take_over(&mut replica, doubtful)?;
        }
        if replica.position.end() != before {
            inner.publish(&mut replica);
        }
        Ok(())
    }

    /// Makes frames durable that nobody announced: written once more, so that this sync covers them whatever became of the sync
    /// of their writer, then applied. `search`: also look for whole frames or files behind a gap, which prove damage.
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
            if (torn || search) && !replica.check_end(LogEnd::default())? {
                self.inner.read_anew(replica, LogEnd::default())?;
                continue;
            }
            return self.announce(replica, false);
        }
    }

    /// Writes a frame at the end of the log, makes it durable, announces and applies it. `buffer` as for `seal_frame`.
    pub(crate) fn append(
        &self,
        position: &Position,
        kind: FrameKind,
        count: u32,
        mut buffer: Vec<u8>,
    ) -> Result<()> {
        let frame = position.seal_frame(kind, count, &mut buffer);
        position.wal.write(&buffer, position.offset)?;
        if is_planted(Bug::UnlockBeforeSync) {
            self.announce_unsynced(position, &frame)?;
        }
        if !is_planted(Bug::AcknowledgeBeforeSync) {
            self.guarded(position.wal.sync())?;
        }
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

    /// What [`Bug::UnlockBeforeSync`] does too early.
    fn announce_unsynced(&self, position: &Position, frame: &Frame) -> Result<()> {
        let mut end = position.clone();
        end.step(frame);
        let tail = Tail { end: end.end(), seq: end.last_seq(), rotating: false };
        self.guarded(self.inner.tail()?.write(&tail))?;
        self.file.as_ref().map_or(Ok(()), File::unlock)
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
        match Wal::create(&log.path, &log.staged("wal"), &header) {
            Ok(wal) => replica.position = Position::at_start(wal),
            Err(error) => {
                let name = crate::log::wal::path(&log.path, header.first_seq);
                if !matches!(os::identity_of(&name), Ok(None)) {
                    // The file may be there, and its name durable or not: writing on here could lose commits. The announcement tells
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
