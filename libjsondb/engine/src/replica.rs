//! This process's copy of the committed state: it reads the log in order and applies each frame.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bytes::Reader;
use crate::copies::Copies;
use crate::log::frame::FrameKind;
use crate::log::record::{self, RecordVisitor};
use crate::log::tail::Mark;
use crate::log::wal::{Found, Frame, Wal};
use crate::log::{CheckpointRecord, FilePosition, LogEnd, LogFolder, Position, wal};
use crate::manifest::{Manifest, ManifestRef};
use crate::memtable::{Batch, Memtable, Window};
use crate::os;
use crate::run::Run;
use crate::segment::{SEGMENT_BYTES, SegmentId};
use crate::snapshot::Snapshot;
use crate::{Error, ErrorKind, Result, Seq, ValueRef};

/// A folder whose files are replaced while it is being opened is looked at this often.
const OPEN_ATTEMPTS: usize = 20;

/// With so many runs that no tree holds it is time for a checkpoint.
const RUNS_MAX: usize = 8;

/// With so many slots that no tree holds: each is a file.
const SLOTS_MAX: u64 = 4096;
/// So many are left to the next one to open the folder.
pub(crate) const SLOTS_LEFT: u64 = 64;

/// What the applied frames amount to.
pub(crate) struct Replica {
    folders: ReplicaFolders,
    /// Frames up to here are applied, durable or not: what the next commit is validated against.
    pub(crate) position: Position,
    /// Readers see the commits up to here.
    pub(crate) visible: Mark,
    manifest: Arc<Manifest>,
    /// The checkpoint before the one in force.
    base: Seq,
    /// Newest first. The first takes new commits.
    memtables: VecDeque<Arc<Memtable>>,
    /// Memtables that the tree has taken, newest first, kept while transactions may have to be validated against them.
    history: VecDeque<Arc<Memtable>>,
    /// Memtables that only open snapshots still need.
    forgotten: Vec<Arc<Memtable>>,
    /// Transactions that began before this commit can no longer be validated.
    floor: Seq,
    /// A memtable is closed at this size.
    memtable_bytes: u64,
    /// What the transaction writes that is being applied.
    batch: Batch,
}

#[derive(Clone)]
pub(crate) struct ReplicaFolders {
    pub(crate) log: LogFolder,
    pub(crate) manifests: PathBuf,
    /// Where the database is several folders: then the two above are not used.
    pub(crate) copies: Option<Arc<Copies>>,
}

impl ReplicaFolders {
    /// Of a database that is one folder.
    pub(crate) fn single(log: LogFolder, manifests: PathBuf) -> ReplicaFolders {
        ReplicaFolders { log, manifests, copies: None }
    }

    /// As [`Manifest::load`], from the first copy that has it.
    pub(crate) fn load_manifest(&self, name: &ManifestRef) -> Result<Option<Manifest>> {
        match &self.copies {
            None => Manifest::load(&self.manifests, name),
            Some(copies) => copies.find(|copy| Manifest::load(&copy.manifests(), name)),
        }
    }

    /// As [`Manifest::store`], on every copy.
    pub(crate) fn store_manifest(&self, manifest: &Manifest) -> Result<()> {
        match &self.copies {
            None => manifest.store(&self.manifests, &self.log.staging),
            Some(copies) => copies.on_members(|copy| manifest.store(&copy.manifests(), &copy.log.staging)),
        }
    }

    /// The time it is for whoever keeps the files.
    pub(crate) fn clock(&self) -> Result<Duration> {
        let clock = |log: &LogFolder| os::file_clock(&log.staged("clock"));
        match &self.copies {
            None => clock(&self.log),
            Some(copies) => copies.first_that(|copy| clock(&copy.log)),
        }
    }

    /// Does something to every folder that holds metadata: the database's, or its copies'.
    pub(crate) fn each(&self, act: impl Fn(&Path, &LogFolder) -> Result<()>) -> Result<()> {
        match &self.copies {
            None => act(self.log.path.parent().unwrap_or(&self.log.path), &self.log),
            Some(copies) => copies.on_members(|copy| act(&copy.path, &copy.log)),
        }
    }
}

/// How far a reader may trust the log. What is not whole before `durable` is damaged, not torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadLimit {
    /// Up to the announced `end`.
    Announced { end: LogEnd, durable: LogEnd },
    /// Every whole frame, as nobody writes. The announcement may be an old one; but what it calls durable is there.
    Everything { durable: LogEnd },
}

impl ReadLimit {
    /// Up to here nobody changes the log.
    fn end(self) -> LogEnd {
        match self {
            ReadLimit::Announced { end, .. } => end,
            ReadLimit::Everything { .. } => LogEnd { wal: Seq(u64::MAX), offset: 0 },
        }
    }

    fn durable(self) -> LogEnd {
        match self {
            ReadLimit::Announced { durable, .. } | ReadLimit::Everything { durable } => durable,
        }
    }
}

impl Replica {
    /// Builds the state from disk: a manifest, then the log behind it up to `limit`. The manifest that was in force when the newest log
    /// file began is tried first, as there is none newer most of the time: so that file is read once.
    pub(crate) fn open(folders: ReplicaFolders, limit: ReadLimit, memtable_bytes: u64) -> Result<Replica> {
        for attempt in 0..OPEN_ATTEMPTS {
            let start = match attempt {
                0 => Replica::at_newest_file(&folders, limit.durable(), memtable_bytes)?,
                _ => Replica::at_newest_manifest(&folders, limit.durable(), memtable_bytes)?,
            };
            if let Some(mut replica) = start
                && replica.catch_up(limit)?
            {
                replica.visible = replica.position.mark();
                return Ok(replica);
            }
        }
        let what = format!("{} changes too quickly to be opened: try again", folders.log.path.display());
        Err(Error::new(ErrorKind::Locked, what))
    }

    /// The state of the manifest that was in force when the newest log file began. None when that is not to be had, or older log files
    /// are needed as well.
    fn at_newest_file(
        folders: &ReplicaFolders,
        durable: LogEnd,
        memtable_bytes: u64,
    ) -> Result<Option<Replica>> {
        let log = &folders.log.path;
        let Some(newest) = wal::list(log)?.last().copied().filter(|newest| *newest >= durable.wal) else {
            return Ok(None);
        };
        let Some(wal) = Wal::open(log, newest)? else { return Ok(None) };
        let name = wal.header.manifest;
        // A checkpoint in the file may have taken its place: then whatever is wrong with it does not matter.
        let manifest = Manifest::load(&folders.manifests, &name).ok().flatten();
        let is_enough = newest.0 <= name.checkpoint.0.saturating_add(1);
        Ok(manifest
            .filter(|_| is_enough)
            .map(|manifest| Replica::at(folders, name, manifest, Position::at_start(wal), memtable_bytes)))
    }

    /// The state of the newest manifest, before any later commit. None when a file vanished meanwhile.
    fn at_newest_manifest(
        folders: &ReplicaFolders,
        durable: LogEnd,
        memtable_bytes: u64,
    ) -> Result<Option<Replica>> {
        let log = &folders.log.path;
        let files = wal::list(log)?;
        let newest = match files.last() {
            Some(newest) if *newest >= durable.wal => *newest,
            // The newest file is never removed.
            _ => return Err(Error::missing(&wal::path(log, durable.wal.max(Seq(1))))),
        };
        let Some(wal) = Wal::open(log, newest)? else { return Ok(None) };
        let name = newest_manifest(wal, durable)?;
        let Some(manifest) = Manifest::load(&folders.manifests, &name)? else {
            return gone(folders, &files, &name, &folders.manifests.join(name.file_name()));
        };
        // The file that holds the first commit after the checkpoint.
        let first = Seq(name.checkpoint.0.saturating_add(1));
        let Some(start) = files.iter().rev().find(|file| **file <= first) else {
            return gone(
                folders,
                &files,
                &name,
                &file_before(log, files.first().copied().unwrap_or(newest))?,
            );
        };
        let Some(wal) = Wal::open(&folders.log.path, *start)? else { return Ok(None) };
        Ok(Some(Replica::at(folders, name, manifest, Position::at_start(wal), memtable_bytes)))
    }

    /// The state of a manifest, before any commit behind it.
    pub(crate) fn at(
        folders: &ReplicaFolders,
        name: ManifestRef,
        manifest: Manifest,
        position: Position,
        memtable_bytes: u64,
    ) -> Replica {
        Replica {
            folders: folders.clone(),
            position,
            visible: Mark::default(),
            base: name.checkpoint,
            floor: name.checkpoint,
            manifest: Arc::new(manifest),
            memtables: VecDeque::from([Arc::default()]),
            history: VecDeque::new(),
            forgotten: Vec::new(),
            memtable_bytes,
            batch: Batch::default(),
        }
    }

    /// Reads and applies frames up to the limit. False when a file on the way was removed by a later checkpoint: open anew.
    pub(crate) fn catch_up(&mut self, limit: ReadLimit) -> Result<bool> {
        let mut ahead = self.file()?.read_ahead(limit.end());
        loop {
            if let ReadLimit::Announced { end, .. } = limit
                && self.position.end() >= end
            {
                return Ok(true);
            }
            match self.file()?.look(&mut ahead)? {
                Found::Frame(frame) => match self.file()?.wal.body(&mut ahead, &frame.header)? {
                    Some(body) => match self.apply(&frame, body) {
                        Err(error) if error.kind() == ErrorKind::SnapshotTooOld => return Ok(false),
                        applied => applied?,
                    },
                    None => return self.check_end(limit.durable()),
                },
                Found::End | Found::Bad => match self.file()?.next_file(&self.folders.log)? {
                    Some(next) => {
                        ahead = next.read_ahead(limit.end());
                        self.position = Position::File(next);
                    }
                    None => return self.check_end(limit.durable()),
                },
            }
        }
    }

    /// No whole frame follows: the log ends here, or what follows is damaged. It had been stored when it was announced as durable, or when
    /// a frame that says so or a file lies behind it. False when a checkpoint removed files between this one and the next: open anew.
    pub(crate) fn check_end(&self, durable: LogEnd) -> Result<bool> {
        let (position, log) = (self.file()?, &self.folders.log.path);
        let here = position.end();
        let files = wal::list(log)?;
        match files.iter().find(|file| **file > here.wal) {
            Some(later) if files.first() == Some(later) => Ok(false),
            Some(later) => match file_before(log, *later)? {
                this if this == position.wal.path() => {
                    Err(position.corrupt("the log ends before its next file begins"))
                }
                between => Err(Error::missing(&between)),
            },
            None if durable.wal > here.wal => Err(Error::missing(&wal::path(log, durable.wal))),
            None if durable > here => Err(position.corrupt("the log ends before its announced end")),
            None if position.wal.proof_after(here.offset, position.next_seq)?.is_some() => {
                Err(position.corrupt("a frame that had been stored"))
            }
            None => Ok(true),
        }
    }

    /// Applies a frame that stands at the position.
    pub(crate) fn apply(&mut self, frame: &Frame, body: &[u8]) -> Result<()> {
        let header = &frame.header;
        let first = header.first_seq.0;
        let applied = match header.kind {
            FrameKind::Commit => self.apply_commit((first..).map(Seq), header.count, body),
            FrameKind::Checkpoint => self.apply_checkpoint(body)?,
        };
        let what = applied.err();
        let position = self.file_mut()?;
        match what {
            Some(what) => Err(position.corrupt(what)),
            None => {
                position.step(frame);
                Ok(())
            }
        }
    }

    /// Applies the transactions of one group, each at its sequence number. What is wrong with the body, when it is damaged.
    pub(crate) fn apply_commit(
        &mut self,
        seqs: impl Iterator<Item = Seq>,
        count: u32,
        body: &[u8],
    ) -> std::result::Result<(), &'static str> {
        let mut reader = Reader::new(body);
        for seq in seqs.take(count as usize) {
            let applied = if seq > self.manifest.name.checkpoint {
                self.apply_transaction(&mut reader, seq)
            } else {
                record::decode(&mut reader, &mut Skip)
            };
            applied.ok_or("the body of a commit")?;
        }
        if reader.is_empty() { Ok(()) } else { Err("the length of a commit") }
    }

    /// Puts a checkpoint in force, if it was made from the one that is. What is wrong with the body, when it is damaged.
    pub(crate) fn apply_checkpoint(&mut self, body: &[u8]) -> Result<std::result::Result<(), &'static str>> {
        let Some(record) = CheckpointRecord::decode(body) else {
            return Ok(Err("the body of a checkpoint record"));
        };
        if record.base == self.manifest.name {
            self.adopt(&record.manifest)?;
        }
        Ok(Ok(()))
    }

    fn apply_transaction(&mut self, reader: &mut Reader<'_>, seq: Seq) -> Option<()> {
        let (memtables, batch) = (&mut self.memtables, &mut self.batch);
        batch.clear();
        record::decode(reader, &mut Insert { memtables, batch, seq })?;
        if let Some(memtable) = self.memtables.front() {
            memtable.add(seq, &self.batch);
        }
        Some(())
    }

    /// A checkpoint takes effect: its tree holds what the older memtables held.
    fn adopt(&mut self, name: &ManifestRef) -> Result<()> {
        let manifest = self.folders.load_manifest(name)?.ok_or_else(|| {
            Error::new(ErrorKind::SnapshotTooOld, "a newer checkpoint took the place of the one being read")
        })?;
        self.base = self.manifest.name.checkpoint;
        self.manifest = Arc::new(manifest);
        self.rotate();
        while self.memtables.back().is_some_and(|oldest| oldest.newest() <= name.checkpoint) {
            if let Some(oldest) = self.memtables.pop_back().filter(|oldest| !oldest.is_empty()) {
                self.history.push_front(oldest);
            }
        }
        if self.memtables.is_empty() {
            self.memtables.push_front(Arc::default());
        }
        Ok(())
    }

    /// Closes the newest memtable, if anything is in it.
    pub(crate) fn rotate(&mut self) {
        if self.memtables.front().is_none_or(|memtable| !memtable.is_empty()) {
            self.memtables.push_front(Arc::default());
        }
    }

    /// Forgets memtables kept for validation: those no open transaction needs, and the oldest beyond `bytes_max`. As in the log,
    /// what the last checkpoint took stays: it makes no transaction too old that began before.
    pub(crate) fn forget_history(&mut self, oldest_transaction: Seq, bytes_max: u64) {
        let mut bytes: u64 = self.history.iter().map(|memtable| memtable.bytes()).sum();
        while let Some(oldest) = self.history.back() {
            let kept = bytes <= bytes_max || oldest.newest() > self.base;
            if kept && oldest.newest() > oldest_transaction {
                break;
            }
            bytes = bytes.saturating_sub(oldest.bytes());
            self.floor = self.floor.max(oldest.newest());
            self.forgotten.extend(self.history.pop_back());
        }
    }

    /// Bytes of commits that the tree does not hold, in memory and in segments of their own.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.bytes() + memtable.blob_bytes()).sum()
    }

    /// True when there are memtables that nobody needs any more.
    pub(crate) fn has_unused(&self) -> bool {
        self.forgotten.iter().any(is_unused)
    }

    /// Gives those memtables, to be dropped where nobody waits: to free a hundred thousand entries takes tens of milliseconds.
    pub(crate) fn take_unused(&mut self) -> Vec<Arc<Memtable>> {
        self.forgotten.extract_if(.., |memtable| is_unused(memtable)).collect()
    }

    /// Where the log of files was read up to.
    pub(crate) fn file(&self) -> Result<&FilePosition> {
        self.position.file()
    }

    fn file_mut(&mut self) -> Result<&mut FilePosition> {
        match &mut self.position {
            Position::File(position) => Ok(position),
            Position::Slot(_) => Err(crate::log::not_files()),
        }
    }

    /// True when who opens the folder has to read so much of the log, or to begin in an older file of it.
    pub(crate) fn leaves_log(&self, bytes: u64) -> bool {
        let checkpoint = self.manifest.name.checkpoint;
        match &self.position {
            Position::File(position) => {
                position.offset >= bytes || position.wal.header.first_seq.0 > checkpoint.0 + 1
            }
            Position::Slot(next) => next.0 > checkpoint.0 + SLOTS_LEFT,
        }
    }

    /// True when it is time for a checkpoint: memory, the log, runs, or value segments that nobody can remove before it.
    pub(crate) fn is_full(&self) -> bool {
        let Some(newest) = self.memtables.front() else { return false };
        newest.bytes() >= self.memtable_bytes
            || self.pending_runs() >= RUNS_MAX
            || newest.blob_bytes() >= SEGMENT_BYTES
            || self.has_long_log()
    }

    fn has_long_log(&self) -> bool {
        match &self.position {
            Position::File(position) => position.offset >= 2 * self.memtable_bytes.max(16 << 20),
            Position::Slot(next) => next.0 > self.manifest.name.checkpoint.0 + SLOTS_MAX,
        }
    }

    /// Runs that no tree holds: each is one more place to look for a key.
    fn pending_runs(&self) -> usize {
        let window = Window::after(self.manifest.name.checkpoint);
        self.memtables.iter().map(|memtable| memtable.runs(window).len()).sum()
    }

    pub(crate) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    /// Transactions that began before this commit can no longer be validated.
    pub(crate) fn refuse_before(&mut self, seq: Seq) {
        self.floor = self.floor.max(seq);
    }

    /// Memtables with a commit after `snapshot`.
    pub(crate) fn memtables_after(&self, snapshot: Seq) -> impl Iterator<Item = &Arc<Memtable>> {
        self.memtables.iter().chain(&self.history).filter(move |memtable| memtable.newest() > snapshot)
    }

    /// Value segments of commits that the tree does not hold yet.
    pub(crate) fn value_segments(&self) -> BTreeSet<SegmentId> {
        let window = Window { after: self.manifest.name.checkpoint, upto: Seq(u64::MAX) };
        self.memtables.iter().flat_map(|memtable| memtable.value_segments(window)).collect()
    }

    /// Readers may see what is applied up to `mark` from now on.
    pub(crate) fn show(&mut self, mark: Mark) {
        self.visible = self.visible.max(mark.min(self.position.mark()));
    }

    /// The state readers take.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_at(self.visible)
    }

    /// The state that the next commit follows, visible or not.
    pub(crate) fn newest(&self) -> Snapshot {
        self.snapshot_at(self.position.mark())
    }

    fn snapshot_at(&self, mark: Mark) -> Snapshot {
        Snapshot {
            manifest: Arc::clone(&self.manifest),
            memtables: self.memtables.iter().cloned().collect(),
            seq: mark.seq.max(self.manifest.name.checkpoint),
            log_end: mark.end,
        }
    }

    /// A replica read anew takes this one's place; transactions that began earlier cannot be validated any more. It may have been read
    /// further than readers see.
    pub(crate) fn replace_with(&mut self, mut newer: Replica) {
        newer.visible = self.visible;
        newer.floor = newer.floor.max(newer.manifest.name.checkpoint);
        *self = newer;
    }
}

/// True for a memtable that no snapshot holds any more.
fn is_unused(forgotten: &Arc<Memtable>) -> bool {
    Arc::strong_count(forgotten) == 1
}

/// Follows the checkpoint records of the newest log file, which reaches at least to the durable end.
fn newest_manifest(wal: Wal, durable: LogEnd) -> Result<ManifestRef> {
    let mut name = wal.header.manifest;
    let mut position = FilePosition::at_start(wal);
    let mut ahead = position.read_ahead(durable);
    while let Found::Frame(frame) = position.look(&mut ahead)? {
        if frame.header.kind == FrameKind::Checkpoint {
            let Some(record) =
                position.wal.body(&mut ahead, &frame.header)?.and_then(CheckpointRecord::decode)
            else {
                break;
            };
            if record.base == name {
                name = record.manifest;
            }
        }
        position.step(&frame);
    }
    if position.end() < durable {
        return Err(position.corrupt("the log ends before its announced end"));
    }
    Ok(name)
}

/// Name of the log file before this one.
fn file_before(log: &Path, file: Seq) -> Result<PathBuf> {
    let previous = Wal::open(log, file)?.and_then(|wal| wal.header.previous);
    Ok(wal::path(log, previous.map_or(Seq(1), |previous| previous.first_seq)))
}

/// A file that the log needs is not there: None, to try again, when the folder changed meanwhile; else it is missing.
fn gone(folders: &ReplicaFolders, files: &[Seq], name: &ManifestRef, path: &Path) -> Result<Option<Replica>> {
    let unchanged = wal::list(&folders.log.path)? == files;
    let still_named = match files.last().map(|newest| Wal::open(&folders.log.path, *newest)).transpose()? {
        Some(Some(wal)) => newest_manifest(wal, LogEnd::default())? == *name,
        _ => false,
    };
    if unchanged && still_named { Err(Error::missing(path)) } else { Ok(None) }
}

struct Insert<'a> {
    memtables: &'a mut VecDeque<Arc<Memtable>>,
    batch: &'a mut Batch,
    seq: Seq,
}

impl RecordVisitor for Insert<'_> {
    fn runs(&mut self, runs: Vec<Run>) {
        self.memtables.push_front(Arc::new(Memtable::over(runs, self.seq)));
    }

    fn write(&mut self, key: &[u8], value: Option<ValueRef<'_>>) {
        self.batch.add(key, value);
    }

    fn add_to_counter(&mut self, key: &[u8], delta: i64) {
        if let Some(memtable) = self.memtables.front() {
            memtable.add_to_counter(key, self.seq, delta);
        }
    }
}

struct Skip;

impl RecordVisitor for Skip {
    fn runs(&mut self, _runs: Vec<Run>) {}

    fn write(&mut self, _key: &[u8], _value: Option<ValueRef<'_>>) {}

    fn add_to_counter(&mut self, _key: &[u8], _delta: i64) {}
}
