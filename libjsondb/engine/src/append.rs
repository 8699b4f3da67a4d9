//! The log under its lock: catching up with other processes, taking over what a dead one left, appending, starting a new
//! file. Making it durable is another step, under another lock: [`crate::sync`].

use std::sync::{MutexGuard, PoisonError, TryLockError};

use crate::database::Inner;
use crate::log::frame::{FrameKind, HEADER_LEN};
use crate::log::tail::{Appended, Durable, Mark, Tail};
use crate::log::wal::{self, Wal, WalHeader};
use crate::log::{CheckpointRecord, FilePosition, Position};
use crate::memtable::Window;
use crate::os::{self, File};
use crate::replica::{ReadLimit, Replica};
use crate::tree::Wait;
use crate::wait::acquire;
use crate::{Durability, Error, ErrorKind, Result, Seq};

/// A log file is closed at a checkpoint once it holds this much, or a memtable's worth if that is less.
pub(crate) const ROTATE_BYTES: u64 = 1 << 20;

impl Inner {
    /// Appends a checkpoint record and starts a new log file when this one has grown.
    pub(crate) fn append_checkpoint(&self, record: &CheckpointRecord) -> Result<()> {
        if let Some(shared) = &self.shared {
            return self.append_checkpoint_slot(shared, record);
        }
        let mut log = self.lock_log(|| Ok(()))?;
        // It is put in force over durable commits only.
        log.make_durable()?;
        let position = self.lock_replica().file()?.clone();
        let mut buffer = vec![0; HEADER_LEN];
        record.put(&mut buffer);
        log.append(&position, FrameKind::Checkpoint, 0, buffer, Durability::Full)?;
        log.make_durable()?;
        log.rotate_when_grown(ROTATE_BYTES.min(self.options.memtable_bytes))
    }

    /// Takes the log lock of the folder and reads what others appended. `still_wanted` is asked while waiting.
    pub(crate) fn lock_log(&self, still_wanted: impl Fn() -> Result<()>) -> Result<LockedLog<'_>> {
        self.check_usable()?;
        let mut log = self.acquire_log(still_wanted)?;
        log.catch_up(Trust::Announcement)?;
        Ok(log)
    }

    /// As [`Inner::lock_log`], for a relaxed commit that takes its turn at once. None when others hold the lock, or when it would not be
    /// visible before a sync; with [`Wait::Never`] also when others appended what was not read yet.
    pub(crate) fn try_lock_log(&self, wait: Wait) -> Result<Option<LockedLog<'_>>> {
        self.check_usable()?;
        let file = match self.log_lock.try_lock() {
            Ok(file) => file,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if !self.lock_file(&file)?.try_lock()? {
            return Ok(None);
        }
        let mut log = LockedLog { inner: self, file, tail: Tail::default() };
        let has_read_all = match wait {
            Wait::Never => log.is_caught_up()?,
            Wait::AsLongAsNeeded => log.catch_up(Trust::Announcement).map(|()| true)?,
        };
        Ok((has_read_all && log.is_all_visible()).then_some(log))
    }

    /// What every handle does first, and who removes files of the dead: from then on, what a dead writer left is either stored or gone.
    pub(crate) fn settle_log(&self) -> Result<()> {
        self.acquire_log(|| Ok(()))?.catch_up(Trust::Nothing)
    }

    fn acquire_log(&self, still_wanted: impl Fn() -> Result<()>) -> Result<LockedLog<'_>> {
        let file = self.log_lock.lock().unwrap_or_else(PoisonError::into_inner);
        acquire(self.lock_file(&file)?, self.options.lock_timeout, still_wanted)?;
        Ok(LockedLog { inner: self, file, tail: Tail::default() })
    }

    /// The file of a lock, unless it was given up a moment ago, or never had.
    pub(crate) fn lock_file<'a>(&self, file: &'a Option<File>) -> Result<&'a File> {
        match file {
            Some(file) => Ok(file),
            None => Err(self.check_usable().err().unwrap_or_else(|| self.read_only())),
        }
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

impl Inner {
    /// True when the announcement, although it is not to be believed, is right, so that there is nothing to take over: everything up
    /// to the place it names was read, it calls all of that durable, and nothing stands behind. The names are durable then, too: they
    /// were made so before the announcement named the file.
    fn is_in_good_order(&self, replica: &Replica, tail: &Tail) -> Result<bool> {
        let here = replica.file()?;
        let is_announced = !tail.appended.rotating && tail.appended.written == here.mark();
        Ok(is_announced
            && tail.durable == Durable { mark: here.mark(), syncing: false }
            && wal::list(&self.folders.log.path)?.last() == Some(&here.end().wal)
            && here.wal.is_blank_from(here.offset)?)
    }
}

/// The folder's log lock, held; the replica is at the end of the log.
pub(crate) struct LockedLog<'a> {
    inner: &'a Inner,
    file: MutexGuard<'a, Option<File>>,
    /// As it was when the lock was taken, and as this one changed it; only its durable end may have moved on since.
    tail: Tail,
}

impl Drop for LockedLog<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inner.poison(Error::new(ErrorKind::Internal, "a panic interrupted a commit"));
        }
        if let Some(Err(error)) = self.file.as_ref().map(File::unlock) {
            // Closing the file releases the lock for others; without it this handle cannot write.
            self.inner.poison(error);
            *self.file = None;
        }
    }
}

impl LockedLog<'_> {
    /// True when there is nothing to read and nothing to take over.
    fn is_caught_up(&mut self) -> Result<bool> {
        let Some(tail) = self.inner.tail()?.read()? else { return Ok(false) };
        self.tail = tail;
        let Some(replica) = self.inner.try_lock_replica() else { return Ok(false) };
        Ok(!tail.appended.rotating && replica.position.end() == tail.appended.written.end)
    }

    /// True when a commit that takes `bytes` in the log, on this snapshot, reads no file, and makes none grow.
    pub(crate) fn takes_no_wait(&self, snapshot: Seq, bytes: u64) -> bool {
        let replica = self.inner.lock_replica();
        let mut later = replica.memtables_after(snapshot);
        later.all(|memtable| memtable.runs(Window::after(snapshot)).is_empty())
            && replica.file().is_ok_and(|position| position.has_room(bytes))
    }

    /// Reads up to the announced end; when that cannot be believed, takes over what stands in the log.
    fn catch_up(&mut self, trust: Trust) -> Result<()> {
        let inner = self.inner;
        let tail = inner.tail()?.read()?;
        let mut replica = inner.lock_replica();
        if let (Trust::Nothing, Some(tail)) = (trust, tail) {
            // Others may have gone on since this process read it. What it calls durable is there whatever happened.
            let durable = tail.durable.mark.end;
            inner.follow(&mut replica, durable, durable)?;
        }
        match tail {
            Some(tail) if trust == Trust::Announcement && !tail.appended.rotating => {
                // No power cut since this handle looked: what was announced is there.
                let written = tail.appended.written;
                inner.follow(&mut replica, written.end, written.end)?;
                self.tail = tail;
                if replica.position.end() != written.end {
                    self.take_over(&mut replica, tail.durable.mark)?;
                }
            }
            Some(tail) if trust == Trust::Nothing && inner.is_in_good_order(&replica, &tail)? => {
                self.tail = tail
            }
            tail => {
                if trust == Trust::Nothing {
                    // Whoever made the database may have died before its name was durable.
                    os::sync_folder(&inner.folder)?;
                }
                self.take_over(&mut replica, tail.unwrap_or_default().durable.mark)?;
            }
        }
        replica.show(self.tail.visible());
        inner.publish_if_newer(&mut replica);
        Ok(())
    }

    /// Reads all that stands in the log and makes it durable: written once more, so that this sync covers it whatever became of the
    /// sync of its writer. What stands behind the last whole frame was never acknowledged as durable, and goes.
    fn take_over(&mut self, replica: &mut Replica, known: Mark) -> Result<()> {
        let inner = self.inner;
        // A sync that is under way ends first. What it made durable was acknowledged and seen: the durable end never goes back.
        let _sync = inner.lock_sync()?;
        let known = inner.tail()?.read()?.map_or(known, |tail| tail.durable.mark.max(known));
        let durable = known.end;
        // The maker of the newest file may have died before its name was durable.
        self.guarded(os::sync_folder(&inner.folders.log.path))?;
        if !replica.catch_up(ReadLimit::Everything { durable })? {
            inner.read_anew(replica, ReadLimit::Everything { durable })?;
        }
        let end = replica.file()?;
        let from = end.durable_offset(durable);
        let wiped = self.guarded(end.wal.wipe(end.offset))?;
        if wiped || end.offset > from {
            // Should this sync fail, the next process has it all to write again.
            self.guarded(inner.tail()?.write_durable(&Durable { mark: known, syncing: true }))?;
            self.guarded(end.wal.rewrite(from, end.offset.saturating_sub(from)))?;
            self.guarded(end.wal.sync())?;
        }
        self.tail = Tail::settled(end.mark());
        self.guarded(inner.tail()?.write(&self.tail))
    }

    /// Writes a frame at the end of the log, applies it and announces it: from then on it is in the way of what conflicts with it. A
    /// relaxed one is visible at once, unless others before it are not; True when it is. `buffer` as for `seal_frame`.
    pub(crate) fn append(
        &mut self,
        position: &FilePosition,
        kind: FrameKind,
        count: u32,
        mut buffer: Vec<u8>,
        durability: Durability,
    ) -> Result<bool> {
        let visible = self.tail.visible();
        let shown = durability == Durability::Relaxed && visible.end == position.end();
        if !shown {
            position.wal.check_named()?;
        }
        let frame = position.seal_frame(kind, count, self.tail.durable.mark.end, &mut buffer);
        position.wal.write(&buffer, position.offset)?;
        let mut replica = self.inner.lock_replica();
        let body_end = HEADER_LEN + frame.header.body_len as usize;
        let body = buffer.get(HEADER_LEN..body_end).unwrap_or_default();
        // From here on the commit may be taken over: a failure must not be reported as one that stored nothing.
        self.guarded(replica.apply(&frame, body))?;
        let written = replica.position.mark();
        let shown_mark = if shown { written } else { visible };
        self.announce(Appended { written, shown: shown_mark, rotating: false })?;
        if shown {
            replica.show(written);
            self.inner.publish_if_newer(&mut replica);
        }
        Ok(shown)
    }

    /// What is in the log, whoever appended it, becomes durable and visible.
    pub(crate) fn make_durable(&mut self) -> Result<()> {
        let position = self.inner.lock_replica().file()?.clone();
        if self.tail.durable.mark.end < position.end() {
            self.inner.sync_up_to(&position)?;
            self.tail.durable.mark = position.mark();
            let mut replica = self.inner.lock_replica();
            replica.show(position.mark());
            self.inner.publish_if_newer(&mut replica);
        }
        Ok(())
    }

    /// True when readers see all that is written.
    pub(crate) fn is_all_visible(&self) -> bool {
        self.tail.visible() >= self.tail.appended.written
    }

    /// Tells other processes where the log ends.
    fn announce(&mut self, appended: Appended) -> Result<()> {
        self.tail.appended = appended;
        self.guarded(self.inner.tail()?.write_appended(&appended))
    }

    /// Starts a new log file when this one holds so many bytes.
    pub(crate) fn rotate_when_grown(&mut self, bytes: u64) -> Result<()> {
        // What is not durable lies in the newest file (I11).
        self.make_durable()?;
        let mut replica = self.inner.lock_replica();
        let position = replica.file()?;
        if position.offset < bytes || position.next_seq == position.wal.header.first_seq {
            return Ok(());
        }
        let header = WalHeader {
            id: crate::random_u64(),
            first_seq: position.next_seq,
            previous: Some(position.as_previous()),
            manifest: replica.manifest().name,
        };
        let log = &self.inner.folders.log;
        // The sync's part of the announcement is written here, too. The checkpoint is in force by now: without the lock the next one
        // tries again.
        let Ok(_sync) = self.inner.lock_sync() else { return Ok(()) };
        self.announce(Appended { rotating: true, ..self.tail.appended })?;
        match Wal::create(&log.path, &log.staged("wal"), &header) {
            Ok(wal) => replica.position = Position::at_start(wal),
            Err(error) => {
                let name = wal::path(&log.path, header.first_seq);
                if !matches!(os::identity_of(&name), Ok(None)) {
                    // The file may be there, and its name durable or not: writing on here could lose commits. The announcement tells
                    // the next writer to look.
                    return self.guarded(Err(error));
                }
                // Not created: the old file goes on, the next checkpoint tries again.
            }
        }
        let mark = replica.position.mark();
        self.tail = Tail::settled(mark);
        self.guarded(self.inner.tail()?.write(&self.tail))?;
        replica.show(mark);
        self.inner.publish_if_newer(&mut replica);
        Ok(())
    }

    /// After a failed sync or announcement nobody knows what is on disk: this process writes no more.
    fn guarded<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.inner.poison(error))
    }
}
