//! From a log of files to one of slots, and back: opening a Standalone folder as Clustered, or the other way round.
//!
//! The boundary says which it is, and a claim on it decides ([`super::boundary`]): that is the switch. All commits are in a checkpoint by then, and the
//! numbers go on. Nobody has the folder open in the other way (the pins tell). Who was wrongly taken for dead, and sleeps in the middle of a
//! switch, finds when it wakes that the claim is another one's: also where it had been taken for dead by who opened the folder as it was.

use std::cell::Cell;
use std::path::Path;

use super::SharedLog;
use super::boundary::{Boundary, LogKind, Reach};
use super::driver::Draft;
use super::folder::{SlotFolder, newest_reach, read_boundary};
use super::slot::SlotKind;
use crate::database::Inner;
use crate::folder::{self, Format};
use crate::log::tail::TailFile;
use crate::log::wal::{self, Wal, WalHeader};
use crate::manifest::{Manifest, ManifestRef};
use crate::os::{self, File};
use crate::pin::{Pin, PinSurvey, Sharing};
use crate::replica::ReplicaFolders;
use crate::wait::acquire;
use crate::{Error, ErrorKind, Options, Result, Seq};

/// Commits of others may come between a checkpoint and the end of the log so often.
const ATTEMPTS: usize = 20;

/// Makes the log what it is to be, and says how often that was decided by then. The caller's pin is there, and `pins` shows nobody who lives and
/// wants it otherwise. An opening stays with a log of files once at most, however often it is tried: `has_stayed`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn to(
    path: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    wanted: LogKind,
    sharing: Sharing,
    format: &Format,
    pins: &PinSurvey,
    has_stayed: &Cell<bool>,
) -> Result<u64> {
    let slots = SlotFolder::new(folders.log.clone(), format.uuid);
    slots.settle_claim()?;
    begin_files(folders, options)?;
    if current(folders)?.log != wanted {
        switch(path, folders, options, sharing, format, wanted)?;
        begin_files(folders, options)?;
    } else if wanted == LogKind::Files && pins.has_dead_machine() && !has_stayed.get() {
        stay_with_files(path, folders, &slots)?;
        has_stayed.set(true);
    }
    Ok(current(folders)?.switches)
}

fn switch(
    path: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    sharing: Sharing,
    format: &Format,
    wanted: LogKind,
) -> Result<()> {
    let switching = File::open_or_create_to_lock(&folders.log.path.join("SWITCH"))?;
    acquire(&switching, options.lock_timeout, || Ok(()))?;
    let before = current(folders)?;
    if before.log == wanted {
        return Ok(());
    }
    // Known before anything is done: who sleeps here and wakes after others decided claims what is theirs.
    let switches = before.switches + 1;
    let format = Format {
        file: File::open(&folder::format_path(path))?.ok_or_else(|| Error::missing(path))?,
        ..*format
    };
    // With a process id and a pin of its own: what it writes is told from what the caller writes.
    let owner = crate::random_u64();
    let log = crate::log::LogFolder { owner, ..folders.log.clone() };
    let folders = ReplicaFolders::single(log, folders.manifests.clone());
    let pin = Pin::create(&folder::pin_folder(path), &folders.log.staging, owner, sharing)?;
    match wanted {
        LogKind::Slots => {
            let opened = folder::over_files(path, &folders, options, format, pin.into())?;
            to_slots(&Inner::over(path, options, opened)?, switches)
        }
        LogKind::Files => {
            let slots = SlotFolder::new(folders.log.clone(), format.uuid);
            let opened = folder::over_slots(path, &folders, options, format, slots, Some(pin.into()))?;
            to_files(&Inner::over(path, options, opened)?, switches)
        }
    }
}

/// What kind of log there is.
pub(crate) fn current(folders: &ReplicaFolders) -> Result<Reach> {
    Ok(newest_reach(&folders.log.path)?.unwrap_or_default())
}

/// Decides once more for the log of files that there is: a switch that somebody sleeps in then comes too late.
fn stay_with_files(path: &Path, folders: &ReplicaFolders, slots: &SlotFolder) -> Result<()> {
    // Where files get no second name nobody switches.
    if slots.check_links().is_err() {
        return Ok(());
    }
    let before = read_boundary(&folders.log.path)?.unwrap_or_else(Boundary::of_a_new_folder);
    let reach = Reach { switches: before.reach.switches + 1, ..before.reach };
    if reach.log == LogKind::Files && slots.claim(&Boundary { reach, ..before })? {
        return Ok(());
    }
    Err(changing(path))
}

fn to_slots(inner: &Inner, switches: u64) -> Result<()> {
    let slots = SlotFolder::new(inner.folders.log.clone(), inner.format.uuid);
    slots.check_links()?;
    for _ in 0..ATTEMPTS {
        inner.checkpoint_to_switch()?;
        // Until the files are gone nobody who was taken for dead appends to them.
        let _log = inner.lock_log(|| Ok(()))?;
        let (manifest, last) = {
            let replica = inner.lock_replica();
            (replica.manifest().name, replica.position.last_seq())
        };
        if manifest.checkpoint == last {
            // Slots of an earlier time as a shared folder are behind the boundary, once it is written.
            let reach = Reach { switches, seq: last, log: LogKind::Slots };
            let is_done = slots.claim(&Boundary { reach, manifest })?;
            return if is_done { remove_files(inner, Seq(last.0 + 1)) } else { Err(changing(&inner.folder)) };
        }
    }
    Err(changing(&inner.folder))
}

fn to_files(inner: &Inner, switches: u64) -> Result<()> {
    let Some(shared) = &inner.shared else { return Err(crate::log::not_files()) };
    for _ in 0..ATTEMPTS {
        inner.append_nothing(shared)?;
        inner.checkpoint_now()?;
        // The checkpoint's own record is the last slot, and the one behind all that it holds: then the log can end behind it.
        let mut sealed = None;
        let end = inner.append_slot(shared, |replica| {
            let (manifest, last) = (replica.manifest(), replica.position.last_seq());
            let holds_all = Seq(manifest.name.checkpoint.0 + 1) == last;
            let is_last = holds_all && shared.last_effective() == Some((last, manifest.name));
            sealed = is_last.then(|| std::sync::Arc::clone(manifest));
            Ok(is_last.then(|| Draft { kind: SlotKind::Fence, count: 0, bytes: Draft::buffer(0) }))
        })?;
        if let (Some(end), Some(manifest)) = (end, sealed) {
            return end_slots(inner, shared, Reach { switches, seq: end, log: LogKind::Files }, &manifest);
        }
    }
    Err(changing(&inner.folder))
}

/// Decides for a log of files behind the last slot, which the tree holds.
fn end_slots(inner: &Inner, shared: &SharedLog, reach: Reach, manifest: &Manifest) -> Result<()> {
    let manifest = Manifest {
        name: ManifestRef { id: inner.pages.segments().new_id(), checkpoint: reach.seq },
        root: manifest.root,
        segments: manifest.segments.clone(),
        retired: manifest.retired.clone(),
    };
    manifest.store(&inner.folders.manifests, &inner.folders.log.staging)?;
    let slots = shared.view();
    if !slots.reader().claim(&Boundary { reach, manifest: manifest.name })? {
        // Another machine has opened it as Clustered, or was quicker.
        return Err(changing(&inner.folder));
    }
    remove_files(inner, reach.seq)?;
    slots.reader().remove(reach.seq)
}

/// Makes the first file of a log of files that was decided for, unless it is there: who decided died, or sleeps.
fn begin_files(folders: &ReplicaFolders, options: &Options) -> Result<()> {
    let log = &folders.log;
    let has_begun = |first: Seq| Ok(wal::list(&log.path)?.last().is_some_and(|newest| *newest >= first));
    let Some(boundary) = read_boundary(&log.path)? else { return Ok(()) };
    let first = Seq(boundary.reach.seq.0 + 1);
    if boundary.reach.log == LogKind::Slots || has_begun(first)? {
        return Ok(());
    }
    let lock = File::open_or_create_to_lock(&log.path.join("LOCK"))?;
    acquire(&lock, options.lock_timeout, || Ok(()))?;
    let tail = TailFile::open_or_create(&log.path.join("TAIL"))?.read()?.unwrap_or_default();
    // It was there if it was announced, and then it is damage that it is not.
    if !has_begun(first)? && tail.durable.mark.end.wal < first {
        let (id, manifest) = (crate::random_u64(), boundary.manifest);
        let header = WalHeader { id, first_seq: first, previous: None, manifest };
        Wal::create_once(&log.path, &log.staged("wal"), &header)?;
    }
    lock.unlock()
}

/// Removes the files of a log up to the one that begins at `upto`: not those that others began later.
fn remove_files(inner: &Inner, upto: Seq) -> Result<()> {
    let log = &inner.folders.log.path;
    for file in wal::list(log)?.into_iter().filter(|file| *file <= upto) {
        os::remove(&wal::path(log, file))?;
    }
    Ok(())
}

/// What kind of log there is was decided by another process meanwhile.
pub(crate) fn changing(folder: &Path) -> Error {
    let what = format!("{} changes too quickly to be opened: try again", folder.display());
    Error::new(ErrorKind::Locked, what)
}
