//! One open folder: its files, its newest snapshot, and what its threads share.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};

use arc_swap::ArcSwap;

use crate::checkpoint::Background;
use crate::commit::CommitQueue;
use crate::copies::is_failure;
use crate::copies::pins::{self, Pins};
use crate::folder::{self, Format};
use crate::log::LogEnd;
use crate::log::tail::TailFile;
use crate::manifest::{Manifest, ManifestRef};
use crate::os::{self, File, FileIdentity};
use crate::per_process::PerProcess;
use crate::pin::{self, PinSurvey, Sharing};
use crate::replica::{ReadLimit, Replica, ReplicaFolders};
use crate::shared::SharedLog;
use crate::shared::boundary::LogKind;
use crate::shared::coordinator::{Coordinator, Peers};
use crate::shared::folder::read_boundary;
use crate::snapshot::Snapshot;
use crate::sync::SyncLock;
use crate::tree::{Pages, Wait};
use crate::writers::Writers;
use crate::{Error, ErrorKind, Mode, Options, Result, Seq, Transaction};

/// Memory kept of commits that the tree already holds, to validate long transactions, as a multiple of a memtable.
const HISTORY_MEMTABLES: u64 = 4;

/// An open database folder. Cloning is cheap; all handles of one folder in a process share one state.
#[derive(Clone)]
pub struct Database {
    pub(crate) inner: Arc<Inner>,
}

/// Whether the files that a snapshot reads are kept for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// No process removes them.
    Pinned,
    /// A checkpoint may remove them; then the snapshot is too old.
    Unpinned,
}

/// Everything the handles of one folder share.
pub(crate) struct Inner {
    pub(crate) folder: PathBuf,
    pub(crate) folders: ReplicaFolders,
    pub(crate) options: Options,
    generation: u32,
    /// Its file is held open, so that no other file can take its identity while this handle lives.
    pub(crate) format: Format,
    identity: FileIdentity,
    tail: Option<TailFile>,
    /// None when the folder cannot be written.
    pub(crate) log_lock: Mutex<Option<File>>,
    pub(crate) sync_lock: SyncLock,
    /// The log, where several machines share the folder: then the three above are not used.
    pub(crate) shared: Option<SharedLog>,
    pub(crate) queue: CommitQueue,
    pub(crate) pages: Pages,
    replica: Mutex<Replica>,
    pub(crate) current: ArcSwap<Snapshot>,
    pub(crate) pin: Option<Pins>,
    sharing: Sharing,
    /// Manifests that some snapshot of this process may still read.
    manifests: Mutex<Vec<Weak<Manifest>>>,
    writers: Mutex<Writers>,
    pub(crate) background: Arc<Background>,
    failed: OnceLock<Error>,
    closed: AtomicBool,
}

/// Open folders of this process, those opened for reading only by themselves. A forked child starts with none: the locks of its parent are
/// not its own.
#[derive(Default)]
struct Registry(Mutex<HashMap<(PathBuf, bool), Arc<Slot>>>);

/// What is open of one folder. Locked while it is being opened, which may wait for another process: other folders do not.
#[derive(Default)]
struct Slot(Mutex<Option<Arc<Inner>>>);

static REGISTRY: PerProcess<Registry> = PerProcess::new();

impl Registry {
    fn slot(&self, folder: &Path, options: &Options) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry((folder.to_owned(), options.read_only)).or_default())
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Inner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database {
    /// Opens the folder, creating the database when it is missing. A second open of the same folder in this process
    /// returns the same state (the options of the first open stay); a folder that was removed and made anew is noticed, and a
    /// handle that failed or was closed is replaced. A folder that cannot be written opens for reading only, as do all with
    /// [`Options::read_only`].
    pub fn open(folder: &Path, options: &Options) -> Result<Database> {
        Database::open_as(folder, options, Sharing::Processes, None)
    }

    /// As [`Database::open`], for processes of several machines on one shared folder. What was made by [`Database::open`] is opened as
    /// it is, and the other way round, when nobody has it open in the other way: that is refused with [`ErrorKind::Locked`], which names the
    /// process. Fails with [`ErrorKind::Invalid`] on a file system without hard links. Every commit is durable: a relaxed one is as well.
    /// The coordinator, that of the first open, makes things faster; nothing depends on it.
    pub fn open_shared(
        folder: &Path,
        options: &Options,
        coordinator: Option<Arc<dyn Coordinator>>,
    ) -> Result<Database> {
        Database::open_as(folder, options, Sharing::Machines, coordinator)
    }

    fn open_as(
        folder: &Path,
        options: &Options,
        sharing: Sharing,
        coordinator: Option<Arc<dyn Coordinator>>,
    ) -> Result<Database> {
        let folder = if options.has_copies() {
            // It may be on a drive that is lost.
            os::canonical_or_absolute(folder)
        } else {
            match (folder.is_dir(), options.read_only) {
                (true, _) => {}
                (false, false) => os::create_folder(folder)?,
                (false, true) => return Err(folder::no_database(folder)),
            }
            os::canonical(folder)?
        };
        let slot = REGISTRY.get().slot(&folder, options);
        let mut open = slot.lock();
        if let Some(inner) = open.as_ref()
            && inner.check_usable().is_ok()
            && inner.is_still_there()?
        {
            if inner.sharing != sharing && inner.pin.is_some() {
                let holder = pin::Holder::this_process(inner.sharing);
                let what = format!("{holder} has the folder open: close it, or open it in the same way");
                return Err(Error::new(ErrorKind::Locked, what));
            }
            inner.check_folders(options)?;
            return Ok(Database { inner: Arc::clone(inner) });
        }
        *open = None;
        let inner = Arc::new(Inner::open_as(&folder, options, sharing, coordinator)?);
        inner.checkpoint_what_was_left();
        *open = Some(Arc::clone(&inner));
        Ok(Database { inner })
    }

    /// A handle that shares nothing with others of this process, as if it were in another one.
    #[cfg(test)]
    pub(crate) fn open_alone(folder: &Path, options: &Options) -> Result<Database> {
        Ok(Database { inner: Arc::new(Inner::open(&os::canonical_or_absolute(folder), options)?) })
    }

    /// As [`Database::open_alone`], of a folder that machines share.
    #[cfg(test)]
    pub(crate) fn open_shared_alone(folder: &Path, options: &Options) -> Result<Database> {
        Database::open_shared_alone_with(folder, options, None)
    }

    /// As [`Database::open_shared_alone`], with hints.
    #[cfg(test)]
    pub(crate) fn open_shared_alone_with(
        folder: &Path,
        options: &Options,
        coordinator: Option<Arc<dyn Coordinator>>,
    ) -> Result<Database> {
        let inner =
            Inner::open_as(&os::canonical_or_absolute(folder), options, Sharing::Machines, coordinator)?;
        Ok(Database { inner: Arc::new(inner) })
    }

    /// Starts a transaction on the newest committed state of all processes.
    pub fn begin(&self, mode: Mode) -> Result<Transaction> {
        let snapshot = self.inner.newest_snapshot(mode, Hold::Pinned)?;
        Ok(Transaction::new(Arc::clone(&self.inner), snapshot, mode, Hold::Pinned))
    }

    /// As [`Database::begin`], for a transaction that ends within milliseconds: it keeps no files from being removed, so it is cheaper
    /// to begin and end. Where a checkpoint has removed what it needs it fails with the retryable SnapshotTooOld.
    pub fn begin_brief(&self, mode: Mode) -> Result<Transaction> {
        let snapshot = self.inner.newest_snapshot(mode, Hold::Unpinned)?;
        Ok(Transaction::new(Arc::clone(&self.inner), snapshot, mode, Hold::Unpinned))
    }

    /// As [`Database::begin_brief`]; None when that takes a look at the disk or a wait for a lock.
    pub fn try_begin_brief(&self, mode: Mode) -> Result<Option<Transaction>> {
        self.inner.check_usable()?;
        if !self.inner.refresh(Wait::Never)? {
            return Ok(None);
        }
        let snapshot = self.inner.current_snapshot(mode);
        Ok(Some(Transaction::new(Arc::clone(&self.inner), snapshot, mode, Hold::Unpinned)))
    }

    /// As [`Database::try_begin_brief`], on the newest state that this process has seen, so that nothing has to be looked at. For a
    /// transaction that writes each key it reads: that no other process wrote one since is known when it commits.
    pub fn begin_blind(&self) -> Result<Transaction> {
        self.inner.check_usable()?;
        let snapshot = self.inner.current_snapshot(Mode::Write);
        Ok(Transaction::new(Arc::clone(&self.inner), snapshot, Mode::Write, Hold::Unpinned))
    }

    /// Moves everything committed so far into the tree and removes what is no longer needed. Waits for a checkpoint of another
    /// process.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner.checkpoint_now()
    }

    /// Makes every commit of every process so far durable, the relaxed ones included.
    pub fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    /// The folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// True when what is in the folder was last opened by [`Database::open_shared`]. Reads one small file, and changes nothing.
    pub fn is_shared_folder(folder: &Path) -> Result<bool> {
        let boundary = read_boundary(&folder.join("log"))?;
        Ok(boundary.is_some_and(|boundary| boundary.reach.log == LogKind::Slots))
    }

    /// True when it was opened by [`Database::open_shared`].
    pub fn is_shared(&self) -> bool {
        self.inner.sharing == Sharing::Machines
    }

    /// True when commits are possible: the folder can be written.
    pub fn is_writable(&self) -> bool {
        self.inner.pin.is_some()
    }

    /// True when it was opened so on purpose ([`Options::read_only`]): what another handle of this process does is not its own.
    pub fn is_read_only(&self) -> bool {
        self.inner.options.read_only
    }

    /// Waits for background work, makes relaxed commits durable, and forgets the folder in this process. Open transactions fail from now on with Closed.
    pub fn close(&self) -> Result<()> {
        self.inner.check_process()?;
        // What this cannot do is told; the handle is closed all the same.
        let settled =
            if self.inner.may_flush() { self.inner.flush().and_then(|()| self.inner.tidy()) } else { Ok(()) };
        let was_closed = self.inner.closed.swap(true, Ordering::AcqRel);
        self.inner.background.wait();
        let slot = REGISTRY.get().slot(&self.inner.folder, &self.inner.options);
        let mut open = slot.lock();
        if open.as_ref().is_some_and(|inner| Arc::ptr_eq(inner, &self.inner)) {
            *open = None;
        }
        // Another thread that closed it meanwhile was in the way, and is told.
        if was_closed { Ok(()) } else { settled }
    }
}

impl Inner {
    #[cfg(test)]
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Inner> {
        Inner::open_as(path, options, Sharing::Processes, None)
    }

    fn open_as(
        path: &Path,
        options: &Options,
        sharing: Sharing,
        coordinator: Option<Arc<dyn Coordinator>>,
    ) -> Result<Inner> {
        let mut opened = folder::open(path, options, sharing)?;
        if let Some(shared) = &mut opened.shared {
            shared.peers = Peers::new(coordinator, opened.format.uuid);
        }
        Inner::over(path, options, opened)
    }

    /// An open database over what was found in the folder.
    pub(crate) fn over(path: &Path, options: &Options, opened: folder::Opened) -> Result<Inner> {
        let shared_cache = opened.shared.as_ref().and_then(|shared| shared.peers.cache());
        let pages = Pages::new(opened.segments, options.page_cache_bytes).with_shared(shared_cache);
        let snapshot = opened.replica.snapshot();
        let manifests = Mutex::new(vec![Arc::downgrade(&snapshot.manifest)]);
        let identity = opened.format.file.identity().map_err(|error| match &opened.folders.copies {
            Some(copies) => copies.explain(error),
            None => error,
        })?;
        let inner = Inner {
            folder: path.to_owned(),
            folders: opened.folders,
            options: options.clone(),
            generation: os::process_generation(),
            identity,
            format: opened.format,
            tail: opened.tail,
            log_lock: Mutex::new(opened.log_lock),
            sync_lock: SyncLock::new(opened.sync_lock),
            shared: opened.shared,
            queue: CommitQueue::default(),
            pages,
            replica: Mutex::new(opened.replica),
            current: ArcSwap::from_pointee(snapshot),
            pin: opened.pin,
            sharing: opened.sharing,
            manifests,
            writers: Mutex::default(),
            background: Arc::default(),
            failed: OnceLock::new(),
            closed: AtomicBool::new(false),
        };
        if let Some(pin) = &inner.pin {
            if inner.shared.is_none() {
                inner.settle_log()?;
            }
            pin.leave()?;
        }
        Ok(inner)
    }

    /// Too few copies could be reached when they were opened: this one is read as it is.
    fn reads_one_of_several(&self) -> bool {
        self.folders.copies.as_ref().is_some_and(|copies| copies.refused().is_some())
    }

    /// Fails where this is opened already, with other copies: they would not be written.
    fn check_folders(&self, options: &Options) -> Result<()> {
        let known = |mirrors: &[PathBuf]| -> HashSet<PathBuf> {
            mirrors.iter().map(|mirror| os::canonical_or_absolute(mirror)).collect()
        };
        if self.options.mirrors == options.mirrors || known(&self.options.mirrors) == known(&options.mirrors)
        {
            return Ok(());
        }
        let what = format!(
            "this process has {} open with other stores_folders: give the same ones, or close it first",
            self.folder.display()
        );
        Err(Error::new(ErrorKind::Locked, what))
    }

    /// Whether what is in the folder is what this handle has opened.
    fn is_still_there(&self) -> Result<bool> {
        match &self.folders.copies {
            None => Ok(os::identity_of(&folder::format_path(&self.folder))? == Some(self.identity)),
            Some(copies) => Ok(copies.refused().is_none() && copies.are_there()),
        }
    }

    pub(crate) fn check_process(&self) -> Result<()> {
        if self.generation != os::process_generation() {
            let what = "this database was opened before a fork: open it again in this process";
            return Err(Error::new(ErrorKind::Forked, what));
        }
        Ok(())
    }

    /// Fails when this handle was closed or belongs to another process.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_process()?;
        if self.closed.load(Ordering::Acquire) {
            let what = format!("the database {} was closed: open it again", self.folder.display());
            return Err(Error::new(ErrorKind::Closed, what));
        }
        Ok(())
    }

    /// Fails when nothing new may be begun or written through this handle.
    pub(crate) fn check_usable(&self) -> Result<()> {
        self.check_open()?;
        match self.failed.get() {
            Some(error) => {
                let what = format!("an earlier error ended this handle ({error}): open the database again");
                Err(Error::new(ErrorKind::Closed, what))
            }
            None => Ok(()),
        }
    }

    /// Fails as well when it was opened for reading, or without the means to write.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_usable()?;
        if self.pin.is_some() { Ok(()) } else { Err(self.read_only()) }
    }

    /// Fails with the error that ended this handle.
    pub(crate) fn check_not_failed(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Nobody knows what is on disk: this process writes no more through this handle.
    pub(crate) fn poison(&self, error: Error) -> Error {
        let what =
            format!("{error}; whether the last commit was stored is known once the database is opened again");
        let promises_nothing =
            matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::ReadOnlyFolder | ErrorKind::DrivesLost);
        // Nobody is to run it again before that is known.
        let error = if promises_nothing || error.is_retryable() {
            Error::new(ErrorKind::Io, what)
        } else {
            error.with_message(what)
        };
        // The first error stays the reason.
        let _ = self.failed.set(error.clone());
        error
    }

    pub(crate) fn tail(&self) -> Result<&TailFile> {
        self.tail.as_ref().ok_or_else(|| self.read_only())
    }

    /// Why nothing can be written through this handle, when it was opened without the means to.
    pub(crate) fn read_only(&self) -> Error {
        if let Some(refused) = self.folders.copies.as_ref().and_then(|copies| copies.refused()) {
            return refused.clone();
        }
        if self.options.read_only {
            return folder::opened_for_reading(&self.folder);
        }
        let what = format!("{} cannot be written: it was opened for reading only", self.folder.display());
        Error::new(ErrorKind::ReadOnlyFolder, what)
    }

    pub(crate) fn lock_replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: another thread has it.
    pub(crate) fn try_lock_replica(&self) -> Option<MutexGuard<'_, Replica>> {
        match self.replica.try_lock() {
            Ok(replica) => Some(replica),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Everything committed by any process before this call. To be given back with [`Inner::release`].
    pub(crate) fn newest_snapshot(&self, mode: Mode, hold: Hold) -> Result<Arc<Snapshot>> {
        self.check_usable()?;
        if hold == Hold::Pinned
            && let Some(pin) = &self.pin
        {
            pin.enter(self.current.load().manifest.name.checkpoint)?;
        }
        if let Err(error) = self.refresh(Wait::AsLongAsNeeded) {
            self.leave_pin(hold);
            return Err(error);
        }
        Ok(self.current_snapshot(mode))
    }

    fn current_snapshot(&self, mode: Mode) -> Arc<Snapshot> {
        if mode == Mode::Read {
            return self.current.load_full();
        }
        // Entered while the snapshot is chosen, so that no commit forgets what it will be validated against.
        let mut writers = self.lock_writers();
        let snapshot = self.current.load_full();
        writers.enter(snapshot.seq);
        snapshot
    }

    fn leave_pin(&self, hold: Hold) {
        if hold == Hold::Pinned
            && let Some(pin) = &self.pin
        {
            // A pin that stays too old only keeps files longer.
            let _ = pin.leave();
        }
    }

    /// Shows what became visible since, whichever process committed it. False when that takes a wait that is not allowed.
    pub(crate) fn refresh(&self, wait: Wait) -> Result<bool> {
        if let Some(shared) = &self.shared {
            return match self.refresh_slots(shared, wait) {
                // Readers go on with what they have.
                Err(error) if error.kind() == ErrorKind::DrivesLost => Ok(true),
                Err(error) if self.reads_one_of_several() && is_failure(&error) => Ok(true),
                refreshed => refreshed,
            };
        }
        let Some(file) = &self.tail else { return Ok(true) };
        let announced = file.read()?;
        if announced.is_some_and(|tail| tail.visible().end <= self.current.load().log_end) {
            return Ok(true);
        }
        if wait == Wait::Never {
            return Ok(false);
        }
        let Some(tail) = announced else { return self.announce_anew().map(|()| true) };
        let visible = tail.visible();
        let mut replica = self.lock_replica();
        if visible.end > replica.position.end() {
            // A handle that only reads may be older than a power cut: it knows only what is durable.
            let certain = if self.pin.is_some() { visible.end } else { tail.durable.mark.end };
            self.follow(&mut replica, visible.end, certain)?;
        }
        replica.show(visible);
        self.publish_if_newer(&mut replica);
        Ok(true)
    }

    /// Why a read of a snapshot failed: of one that is not pinned, a checkpoint may have removed the files.
    pub(crate) fn explain(&self, snapshot: &Snapshot, hold: Hold, error: Error) -> Error {
        if self.reads_one_of_several() && is_failure(&error) {
            let what = format!("the copy that was read is lost as well: open the database again ({error})");
            return Error::new(ErrorKind::DrivesLost, what);
        }
        if !error.is_missing_file() {
            return error;
        }
        // Where machines share the folder, others may have taken this process for dead, and its pin with it.
        if hold == Hold::Pinned && self.sharing == Sharing::Processes {
            return self.explain_missing(error);
        }
        match self.is_overtaken(snapshot.manifest.name, snapshot.seq) {
            Ok(true) => {}
            Ok(false) => return self.explain_missing(error),
            // Then nobody knows whether it is damage.
            Err(unknown) => return unknown,
        }
        let what = "a checkpoint removed files that this transaction reads: run it again";
        Error::new(ErrorKind::SnapshotTooOld, what)
    }

    /// A file that is missing may be on a copy that is lost.
    pub(crate) fn explain_missing(&self, error: Error) -> Error {
        match &self.folders.copies {
            Some(copies) => copies.explain(error),
            None => error,
        }
    }

    /// True when files of a manifest, or that this process wrote after `seq`, may have been removed: once the checkpoint that does without them
    /// was announced, or because others took this process for dead.
    pub(crate) fn is_overtaken(&self, manifest: ManifestRef, seq: Seq) -> Result<bool> {
        let is_fenced = || self.shared.as_ref().is_some_and(|shared| shared.is_fenced_after(seq));
        if let Some(shared) = &self.shared {
            // A file is gone: what this process believes of the log's end may be wrong.
            shared.doubt_end();
        }
        self.refresh(Wait::AsLongAsNeeded)?;
        Ok(self.current.load().manifest.name != manifest || is_fenced())
    }

    /// As [`Database::flush`].
    pub(crate) fn flush(&self) -> Result<()> {
        if let Some(shared) = &self.shared {
            // Every commit is durable; those of others are read.
            return self.refresh_slots(shared, Wait::AsLongAsNeeded).map(drop);
        }
        let tail = self.tail()?.read()?;
        if tail.is_some_and(|tail| !tail.appended.rotating && tail.durable.mark >= tail.appended.written) {
            return self.check_usable();
        }
        drop(self.lock_log(|| Ok(()))?);
        let position = self.lock_replica().file()?.clone();
        // Others commit meanwhile: what waits for the disk may be much.
        self.make_durable(&position)
    }

    fn may_flush(&self) -> bool {
        self.pin.is_some() && self.check_usable().is_ok()
    }

    /// The announcement is damaged: what is in the log by now is read and announced under the lock.
    fn announce_anew(&self) -> Result<()> {
        if self.pin.is_some() { self.lock_log(|| Ok(())).map(drop) } else { Ok(()) }
    }

    /// Applies frames up to `end`, of which those up to `certain` are there unless the file is damaged; reads the state anew when the
    /// log in between was trimmed.
    pub(crate) fn follow(&self, replica: &mut Replica, end: LogEnd, certain: LogEnd) -> Result<()> {
        let limit = ReadLimit::Announced { end, durable: certain };
        if replica.catch_up(limit)? { Ok(()) } else { self.read_anew(replica, limit) }
    }

    /// Reads the state from the newest checkpoint on, up to `limit`.
    pub(crate) fn read_anew(&self, replica: &mut Replica, limit: ReadLimit) -> Result<()> {
        let newer = Replica::open(self.folders.clone(), limit, self.options.memtable_bytes)?;
        replica.replace_with(newer);
        Ok(())
    }

    /// Makes the replica's state what new transactions see, if that is more than they do.
    pub(crate) fn publish_if_newer(&self, replica: &mut Replica) {
        if replica.visible.end > self.current.load().log_end {
            self.publish(replica);
        }
    }

    /// Makes the replica's state what new transactions see.
    fn publish(&self, replica: &mut Replica) {
        let snapshot = replica.snapshot();
        let is_checkpoint = !Arc::ptr_eq(&self.current.load().manifest, &snapshot.manifest);
        if is_checkpoint {
            self.lock_manifests().push(Arc::downgrade(&snapshot.manifest));
            // A removed file takes space while it is open here.
            let (manifest, pending) = (&snapshot.manifest, replica.value_segments());
            self.pages.segments().close_others(|id| {
                manifest.segments.contains_key(id)
                    || pending.contains(id)
                    || manifest.retired.iter().any(|(retired, _)| retired == id)
            });
        }
        {
            let writers = self.lock_writers();
            self.current.store(Arc::new(snapshot));
            let oldest = writers.oldest().unwrap_or(Seq(u64::MAX));
            replica.forget_history(oldest, HISTORY_MEMTABLES * self.options.memtable_bytes);
        }
        if is_checkpoint {
            // A pin that stays too old only keeps files longer.
            let _ = self.publish_pin();
        }
    }

    fn lock_writers(&self) -> MutexGuard<'_, Writers> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_manifests(&self) -> MutexGuard<'_, Vec<Weak<Manifest>>> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has the folder open.
    pub(crate) fn survey_pins(&self) -> Result<PinSurvey> {
        let now = match &self.pin {
            Some(_) if self.sharing == Sharing::Machines => Some(self.folders.clock()?),
            _ => None,
        };
        let own = self.folders.log.owner;
        let mut survey = match &self.folders.copies {
            None => pin::survey(&folder::pin_folder(&self.folder), own, now)?,
            Some(copies) => pins::survey(copies, own, now)?,
        };
        if self.pin.is_some() {
            // Others may have removed its pin, and not told it yet.
            survey.alive.entry(own).or_default();
        }
        Ok(survey)
    }

    /// Tells other processes the oldest checkpoint that this one still reads.
    pub(crate) fn publish_pin(&self) -> Result<()> {
        let Some(pin) = &self.pin else { return Ok(()) };
        let mut manifests = self.lock_manifests();
        manifests.retain(|manifest| manifest.strong_count() > 0);
        let checkpoints = manifests.iter().filter_map(Weak::upgrade).map(|manifest| manifest.name.checkpoint);
        match checkpoints.min() {
            Some(oldest) => pin.publish(oldest),
            None => Ok(()),
        }
    }

    /// A transaction ended.
    pub(crate) fn release(&self, snapshot: Arc<Snapshot>, mode: Mode, hold: Hold) {
        if self.generation != os::process_generation() {
            return;
        }
        if mode == Mode::Write {
            self.lock_writers().leave(snapshot.seq);
        }
        let superseded = !Arc::ptr_eq(&snapshot.manifest, &self.current.load().manifest);
        drop(snapshot);
        self.leave_pin(hold);
        if superseded {
            // A pin that stays too old only keeps files longer.
            let _ = self.publish_pin();
        }
    }
}
