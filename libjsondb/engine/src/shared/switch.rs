//! From a log of files to one of slots, and back: opening a Standalone folder as Clustered, or the other way round.
//!
//! The boundary says which it is; writing it is the switch. All commits are in a checkpoint by then, and the numbers go on. Nobody has
//! the folder open in the other way (the pins tell); should a process be wrongly taken for dead, it finds the fence or the boundary.

use std::path::Path;

use super::SharedLog;
use super::boundary::{Boundary, LogKind, Reach};
use super::driver::Draft;
use super::folder::{SlotFolder, newest_reach};
use super::slot::SlotKind;
use crate::database::Inner;
use crate::folder::{self, Format};
use crate::log::wal::{self, Wal, WalHeader};
use crate::manifest::{Manifest, ManifestRef};
use crate::os::{self, File};
use crate::pin::{Pin, Sharing};
use crate::replica::ReplicaFolders;
use crate::wait::acquire;
use crate::{Error, ErrorKind, Options, Result, Seq};

/// Commits of others may come between a checkpoint and the end of the log so often.
const ATTEMPTS: usize = 20;

/// Makes the log what it is to be. The caller's pin is there, and nobody else's who wants it otherwise.
pub(crate) fn to(
    path: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    sharing: Sharing,
    format: &Format,
) -> Result<()> {
    let wanted = match sharing {
        Sharing::Processes => LogKind::Files,
        Sharing::Machines => LogKind::Slots,
    };
    if current(folders)?.log() == wanted {
        return Ok(());
    }
    let switching = File::open_or_create_to_lock(&folders.log.path.join("SWITCH"))?;
    acquire(&switching, options.lock_timeout, || Ok(()))?;
    let before = current(folders)?;
    if before.log() == wanted {
        return Ok(());
    }
    // Known before anything is done: who sleeps here and wakes after others switched changes nothing any more.
    let switches = before.switches + 1;
    let format = Format {
        file: File::open(&folder::format_path(path))?.ok_or_else(|| Error::missing(path))?,
        ..*format
    };
    // With a process id and a pin of its own: what it writes is told from what the caller writes.
    let owner = crate::random_u64();
    let folders = ReplicaFolders {
        log: crate::log::LogFolder { owner, ..folders.log.clone() },
        manifests: folders.manifests.clone(),
    };
    let pin = Pin::create(&folder::pin_folder(path), &folders.log.staging, owner, sharing)?;
    match wanted {
        LogKind::Slots => {
            let opened = folder::over_files(path, &folders, options, format, pin)?;
            to_slots(&Inner::over(path, options, opened)?, switches)
        }
        LogKind::Files => {
            let slots = SlotFolder::new(folders.log.clone(), format.uuid);
            let opened = folder::over_slots(path, &folders, options, format, slots, Some(pin))?;
            to_files(&Inner::over(path, options, opened)?, switches)
        }
    }
}

fn current(folders: &ReplicaFolders) -> Result<Reach> {
    Ok(newest_reach(&folders.log.path)?.unwrap_or_default())
}

fn to_slots(inner: &Inner, switches: u64) -> Result<()> {
    let slots = SlotFolder::new(inner.folders.log.clone(), inner.format.uuid);
    slots.check_links()?;
    for _ in 0..ATTEMPTS {
        inner.checkpoint_to_switch()?;
        let (manifest, last) = {
            let replica = inner.lock_replica();
            (replica.manifest().name, replica.position.last_seq())
        };
        if manifest.checkpoint == last {
            // Slots of an earlier time as a shared folder are behind the boundary, once it is written.
            slots.set_boundary(&Boundary { reach: Reach { switches, seq: last }, manifest })?;
            return remove_files(inner, last);
        }
    }
    Err(changes_too_quickly(inner))
}

fn to_files(inner: &Inner, switches: u64) -> Result<()> {
    let Some(shared) = &inner.shared else { return Err(crate::log::not_files()) };
    for _ in 0..ATTEMPTS {
        inner.append_nothing(shared)?;
        inner.checkpoint_now()?;
        // The checkpoint's own record is the last slot: then the log can end behind it.
        let mut sealed = None;
        let end = inner.append_slot(shared, |replica| {
            let manifest = replica.manifest();
            let is_last = shared.last_effective() == Some((replica.position.last_seq(), manifest.name));
            sealed = is_last.then(|| std::sync::Arc::clone(manifest));
            Ok(is_last.then(|| Draft { kind: SlotKind::Fence, count: 0, bytes: Draft::buffer(0) }))
        })?;
        if let (Some(end), Some(manifest)) = (end, sealed) {
            return begin_files(inner, shared, Reach { switches, seq: end }, &manifest);
        }
    }
    Err(changes_too_quickly(inner))
}

/// Begins a log of files behind the last slot, which the tree holds.
fn begin_files(inner: &Inner, shared: &SharedLog, reach: Reach, manifest: &Manifest) -> Result<()> {
    let end = reach.seq;
    remove_files(inner, end)?;
    let log = &inner.folders.log;
    let manifest = Manifest {
        name: ManifestRef { id: inner.pages.segments().new_id(), checkpoint: end },
        root: manifest.root,
        segments: manifest.segments.clone(),
        retired: manifest.retired.clone(),
    };
    manifest.store(&inner.folders.manifests, &log.staging)?;
    let header = WalHeader {
        id: crate::random_u64(),
        first_seq: Seq(end.0 + 1),
        previous: None,
        manifest: manifest.name,
    };
    Wal::create(&log.path, &log.staged("wal"), &header)?;
    shared.slots.set_boundary(&Boundary { reach, manifest: manifest.name })?;
    if current(&inner.folders)? != reach {
        // Another machine has opened it as Clustered: it goes on with the slots.
        return Err(changes_too_quickly(inner));
    }
    shared.slots.remove(end)
}

/// Removes what a log of files that ended at `end` consists of; not of one that others began later.
fn remove_files(inner: &Inner, end: Seq) -> Result<()> {
    let log = &inner.folders.log.path;
    for file in wal::list(log)?.into_iter().filter(|file| file.0 <= end.0 + 1) {
        os::remove(&wal::path(log, file))?;
    }
    os::remove(&log.join("TAIL"))
}

fn changes_too_quickly(inner: &Inner) -> Error {
    let what = format!("{} changes too quickly to be opened: try again", inner.folder.display());
    Error::new(ErrorKind::Locked, what)
}
