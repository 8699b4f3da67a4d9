//! A consistent copy of a database while others use it: one snapshot, its segments, and the log behind its checkpoint.
//!
//! The copy is a folder that no library opens until everything in it is durable and checked; FORMAT comes last.

use std::path::{Path, PathBuf};

use crate::database::{Hold, Inner};
use crate::folder;
use crate::log::frame::{FrameKind, HEADER_LEN};
use crate::log::tail::{Tail, TailFile};
use crate::log::wal::{self, Found, Wal, WalHeader};
use crate::log::{FilePosition, LogEnd, LogFolder};
use crate::os::{self, File};
use crate::segment::SegmentId;
use crate::shared::folder::SlotFolder;
use crate::shared::log::Slots as _;
use crate::shared::slot::SlotKind;
use crate::snapshot::Snapshot;
use crate::verify::verify_contents;
use crate::{Database, Error, ErrorKind, Mode, Progress, Result, Seq};

const COPY_BYTES: usize = 1 << 20;
/// The log may be trimmed between taking a snapshot and reading it: then a newer one is taken.
const ATTEMPTS: usize = 20;

/// Whether a copy is read back before it becomes a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupCheck {
    /// All of it is verified.
    Full,
    /// It is taken for good once it is durable.
    None,
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// The last commit in it.
    pub seq: Seq,
    /// Its size on disk.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
}

impl Database {
    /// Copies the newest committed state to `target`, a folder that is missing or empty. When this returns, the copy is durable and
    /// a database of its own; when it fails or is interrupted, the target is none.
    pub fn backup(&self, target: &Path, check: BackupCheck, progress: &mut Progress<'_>) -> Result<Backup> {
        let target = claim(target)?;
        let backup = self.inner.backup_into(&target, check, progress);
        if backup.is_err() {
            // What cannot be removed is not taken for a database.
            let _ = os::empty_folder(&target);
        }
        backup
    }
}

/// The target, made or found empty; from now on it is a backup that was not finished, and no other one's target.
fn claim(target: &Path) -> Result<PathBuf> {
    if !os::is_missing_or_empty(target)? {
        let what =
            format!("{} exists and is not empty: give another folder for the backup", target.display());
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    os::create_folder(target)?;
    folder::write_unfinished(target)?;
    os::canonical(target)
}

/// A log of one file for the commits behind the snapshot's checkpoint.
fn begin_log(snapshot: &Snapshot, log: &LogFolder) -> Result<FilePosition> {
    let manifest = snapshot.manifest.name;
    let first_seq = Seq(manifest.checkpoint.0 + 1);
    let header = WalHeader { id: crate::random_u64(), first_seq, previous: None, manifest };
    Ok(FilePosition::at_start(Wal::create(&log.path, &log.staged("wal"), &header)?))
}

/// Writes the transactions of a group to it.
fn append_copy(to: &mut FilePosition, count: u32, body: &[u8]) -> Result<()> {
    let mut buffer = vec![0; HEADER_LEN];
    buffer.extend_from_slice(body);
    let copy = to.seal_frame(FrameKind::Commit, count, LogEnd::default(), &mut buffer);
    to.wal.write(&buffer, to.offset)?;
    to.step(&copy);
    Ok(())
}

/// Makes it durable; true.
fn end_log(to: &FilePosition, log: &LogFolder) -> Result<bool> {
    to.wal.sync()?;
    // Else the first to open the copy had to make it, which takes space.
    TailFile::open_or_create(&log.path.join("TAIL"))?.write(&Tail::settled(to.mark()))?;
    Ok(true)
}

/// As [`Inner::copy_log`], of a log of slots. In the copy each transaction has a number of its own, as in every log of files.
fn copy_slots(slots: &SlotFolder, snapshot: &Snapshot, log: &LogFolder) -> Result<bool> {
    let mut to = begin_log(snapshot, log)?;
    for seq in (snapshot.manifest.name.checkpoint.0 + 1..=snapshot.seq.0).map(Seq) {
        let Some(bytes) = slots.read(seq)? else {
            return if slots.trimmed()? >= seq { Ok(false) } else { Err(Error::missing(&slots.path(seq))) };
        };
        let (header, body) = slots.open(seq, &bytes)?;
        if header.kind == SlotKind::Commit {
            append_copy(&mut to, header.count, body)?;
        }
    }
    end_log(&to, log)
}

impl Inner {
    fn backup_into(&self, target: &Path, check: BackupCheck, progress: &mut Progress<'_>) -> Result<Backup> {
        let log = LogFolder {
            path: target.join("log"),
            staging: folder::staging_folder(target),
            owner: self.folders.log.owner,
        };
        let folders = [folder::manifest_folder(target), folder::segment_folder(target)];
        for path in folders.iter().chain([&log.path, &log.staging]) {
            os::create_folder(path)?;
        }
        let snapshot = self.snapshot_with_log(&log)?;
        let copied = self.copy_files(&snapshot, target, &log, progress);
        let seq = snapshot.seq;
        self.release(snapshot, Mode::Read, Hold::Pinned);
        let (files, bytes) = copied?;
        if check == BackupCheck::Full
            && let Some(finding) = verify_contents(target, progress)?.findings.first()
        {
            return Err(Error::corrupt(&target.join(&finding.file), finding.offset, &finding.what));
        }
        // The last chance to stop it.
        progress.report()?;
        folder::write_format(target, &log, self.format.uuid)?;
        if let Some(parent) = target.parent() {
            os::sync_folder(parent)?;
        }
        Ok(Backup { seq, bytes, files })
    }

    /// A snapshot whose log is copied. To be given back with `release`: its pin keeps all its files in place meanwhile.
    fn snapshot_with_log(&self, log: &LogFolder) -> Result<std::sync::Arc<Snapshot>> {
        for _ in 0..ATTEMPTS {
            let snapshot = self.newest_snapshot(Mode::Read, Hold::Pinned)?;
            match self.copy_log(&snapshot, log) {
                Ok(true) => return Ok(snapshot),
                copied => {
                    self.release(snapshot, Mode::Read, Hold::Pinned);
                    copied?;
                }
            }
        }
        let what =
            format!("the log of {} changes too quickly to be copied: try again", self.folder.display());
        Err(Error::new(ErrorKind::Locked, what))
    }

    /// Writes a log of one file with the commits after the snapshot's checkpoint. False when they were trimmed meanwhile.
    fn copy_log(&self, snapshot: &Snapshot, log: &LogFolder) -> Result<bool> {
        for earlier in wal::list(&log.path)? {
            os::remove(&wal::path(&log.path, earlier))?;
        }
        let manifest = snapshot.manifest.name;
        let first_seq = Seq(manifest.checkpoint.0 + 1);
        if let Some(shared) = &self.shared {
            return copy_slots(shared.view().reader(), snapshot, log);
        }
        let files = wal::list(&self.folders.log.path)?;
        let Some(start) = files.iter().rev().find(|file| **file <= first_seq) else { return Ok(false) };
        let Some(wal) = Wal::open(&self.folders.log.path, *start)? else { return Ok(false) };
        let mut from = FilePosition::at_start(wal);
        let mut to = begin_log(snapshot, log)?;
        let mut ahead = from.read_ahead(snapshot.log_end);
        while from.end() < snapshot.log_end {
            let Found::Frame(frame) = from.look(&mut ahead)? else {
                match from.next_file(&self.folders.log)? {
                    Some(next) => {
                        from = next;
                        ahead = from.read_ahead(snapshot.log_end);
                    }
                    None => return self.log_ends_early(&from),
                }
                continue;
            };
            let Some(body) = from.wal.body(&mut ahead, &frame.header)? else {
                return Err(from.corrupt("checksum of a frame"));
            };
            // Checkpoints up to the snapshot's own are behind it; a later one is not part of it.
            if frame.header.kind == FrameKind::Commit && frame.header.first_seq >= first_seq {
                append_copy(&mut to, frame.header.count, body)?;
            }
            from.step(&frame);
        }
        end_log(&to, log)
    }

    /// The log goes on, but not here: its next file was trimmed, or it is damaged.
    fn log_ends_early(&self, at: &FilePosition) -> Result<bool> {
        if wal::list(&self.folders.log.path)?.contains(&at.wal.header.first_seq) {
            return Err(at.corrupt("the log ends before its announced end"));
        }
        Ok(false)
    }

    /// Copies segments and manifest; gives the number of files of the copy, and their bytes.
    fn copy_files(
        &self,
        snapshot: &Snapshot,
        target: &Path,
        log: &LogFolder,
        progress: &mut Progress<'_>,
    ) -> Result<(u64, u64)> {
        let mut sizes = Vec::new();
        for id in snapshot.segments() {
            sizes.push((id, self.pages.segments().len(id)?));
        }
        let bytes: u64 = sizes.iter().map(|(_, len)| len).sum();
        progress.expect(bytes);
        let folder = folder::segment_folder(target);
        for (id, len) in &sizes {
            let copy = File::create_new(&folder.join(format!("{id}.seg")))?;
            self.copy_segment(*id, *len, &copy, progress)?;
            copy.sync()?;
        }
        os::sync_folder(&folder)?;
        let manifests = folder::manifest_folder(target);
        snapshot.manifest.store(&manifests, &log.staging)?;
        for path in [&log.path, &manifests, target] {
            os::sync_folder(path)?;
        }
        let small = [os::list(&log.path)?, os::list(&manifests)?].concat();
        let small_bytes: u64 = small.iter().map(|(_, len)| len).sum();
        Ok(((sizes.len() + small.len()) as u64, bytes + small_bytes))
    }

    fn copy_segment(&self, id: SegmentId, len: u64, to: &File, progress: &mut Progress<'_>) -> Result<()> {
        let from = self.pages.segments().file(id)?;
        let mut block = vec![0; COPY_BYTES];
        let mut at = 0;
        while at < len {
            let part = block.len().min((len - at) as usize);
            let bytes = block.get_mut(..part).unwrap_or_default();
            from.read_exact_at(bytes, at)?;
            to.write_all_at(bytes, at)?;
            at += part as u64;
            progress.advance(part as u64)?;
        }
        Ok(())
    }
}
