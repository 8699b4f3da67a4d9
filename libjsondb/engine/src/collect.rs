//! Garbage collection: emptying segments that are mostly dead, and removing files that nobody can need any more.
//!
//! A file is removed only when it is out of the manifest in force and of every manifest that a living process reads, or when
//! it was written by a process that is dead and no commit refers to it (I8 in libjsondb/docs/protocol.md).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::database::Inner;
use crate::folder;
use crate::log::wal;
use crate::manifest::{Manifest, ManifestRef};
use crate::os;
use crate::pin::PinSurvey;
use crate::planted::{Bug, is_planted};
use crate::replica::SLOTS_LEFT;
use crate::segment::SegmentId;
use crate::shared::SharedLog;
use crate::shared::folder::SlotFolder;
use crate::tree::Wait;
use crate::{Result, Seq};

/// A segment of which less than this share (in percent) is live is emptied.
const LIVE_PERCENT_MIN: u64 = 50;
/// More small segments than this are packed together.
const SMALL_SEGMENTS_MAX: usize = 16;
const SMALL_SEGMENT_BYTES: u64 = 8 << 20;
/// Live bytes moved by one checkpoint, at the most.
pub(crate) const RELOCATE_BYTES_MAX: u64 = 64 << 20;

/// Segments that the next checkpoint empties: those with the least to move first, `bytes_max` in all. With 0, none.
pub(crate) fn choose_victims(manifest: &Manifest, bytes_max: u64) -> Vec<SegmentId> {
    if bytes_max == 0 {
        return Vec::new();
    }
    let small = manifest.segments.values().filter(|usage| usage.total < SMALL_SEGMENT_BYTES).count();
    let pack = small > SMALL_SEGMENTS_MAX;
    let mut victims: Vec<(u64, SegmentId)> = manifest
        .segments
        .iter()
        .filter(|(_, usage)| {
            usage.live * 100 < usage.total * LIVE_PERCENT_MIN || (pack && usage.total < SMALL_SEGMENT_BYTES)
        })
        .map(|(id, usage)| (usage.live, *id))
        .collect();
    victims.sort_unstable();
    let mut moved = 0;
    let fits = |(live, _): &(u64, SegmentId)| {
        moved += live;
        moved <= bytes_max
    };
    let chosen: Vec<_> = victims.iter().copied().take_while(fits).collect();
    // A single segment larger than the budget (one huge value) is moved alone.
    let chosen = if chosen.is_empty() && bytes_max == RELOCATE_BYTES_MAX {
        victims.into_iter().take(1).collect()
    } else {
        chosen
    };
    chosen.into_iter().map(|(_, id)| id).collect()
}

/// True when the folder has files that nobody needs once this process, the only one, has closed it: log files from before, and segments
/// that were kept for older snapshots.
pub(crate) fn leaves_garbage(inner: &Inner) -> Result<bool> {
    let leaves_log = match &inner.shared {
        Some(shared) => shared.on_reader(SlotFolder::list)?.len() as u64 > SLOTS_LEFT,
        None => wal::list(&inner.folders.log.path)?.len() > 1,
    };
    if leaves_log {
        return Ok(true);
    }
    let (manifest, pending) = {
        let replica = inner.lock_replica();
        (Arc::clone(replica.manifest()), replica.value_segments())
    };
    let segments = inner.pages.segments().list()?;
    Ok(segments.into_keys().any(|id| !manifest.segments.contains_key(&id) && !pending.contains(&id)))
}

/// What was in the folder before a checkpoint took effect.
pub(crate) struct Sweep {
    pins: PinSurvey,
    segments: BTreeSet<SegmentId>,
    staged: Vec<(u64, PathBuf)>,
}

impl Sweep {
    /// Looks for files first and for the living after: a process pins before it writes, so whoever wrote a file seen here is
    /// found alive, or is dead by now.
    pub(crate) fn survey(inner: &Inner) -> Result<Sweep> {
        let segments = inner.pages.segments().list()?.into_keys().collect();
        let staged = RefCell::new(Vec::new());
        inner.folders.each(|_, log| {
            staged.borrow_mut().extend(os::staged_files(&log.staging)?);
            Ok(())
        })?;
        let mut staged = staged.into_inner();
        inner.pages.segments().sets().iter().for_each(|set| staged.extend(set.staged()));
        let pins = inner.survey_pins()?;
        Ok(Sweep { pins, segments, staged })
    }

    pub(crate) fn exists(&self, id: SegmentId) -> bool {
        self.segments.contains(&id)
    }

    /// Removes what nobody needs. The log behind checkpoint `base` is kept: that of the checkpoint before for processes that
    /// are a little late, in any case that of the one in force.
    pub(crate) fn run(&self, inner: &Inner, base: Seq) -> Result<()> {
        // A process found dead may have committed since this one last read the log, and may have written more than it could announce:
        // who opens the folder takes that over. And no file goes for a checkpoint of another one that is not durable yet.
        match &inner.shared {
            Some(shared) => self.fence(inner, shared)?,
            None if self.pins.dead.is_empty() => inner.lock_log(|| Ok(()))?.make_durable()?,
            None => {
                inner.check_usable()?;
                inner.settle_log()?;
            }
        }
        let (manifest, pending) = {
            let replica = inner.lock_replica();
            (replica.manifest().clone(), replica.value_segments())
        };
        // Pins as they are now: the checkpoint has moved this process's own forward.
        inner.publish_pin()?;
        let pins = inner.survey_pins()?;
        let oldest = pins.oldest.unwrap_or(manifest.name.checkpoint).min(manifest.name.checkpoint);
        self.remove_retired(inner, &manifest, oldest)?;
        self.remove_orphans(inner, &manifest, &pending)?;
        match &inner.shared {
            Some(shared) if base == Seq(u64::MAX) => {
                shared.trim_at_the_end(|| Ok(inner.survey_pins()?.alive.len() <= 1))?;
            }
            Some(shared) => shared.trim()?,
            None => trim_log(inner, base.min(manifest.name.checkpoint))?,
        }
        // After the boundary has moved: who opens the folder begins with the manifest that it names.
        remove_manifests(inner, &manifest, oldest)?;
        for (owner, path) in &self.staged {
            if !self.pins.alive.contains_key(owner) {
                os::remove(path)?;
            }
        }
        // Where machines share the folder they went before the fence; there may be new ones by now.
        if inner.shared.is_none() { self.remove_dead_pins(inner) } else { Ok(()) }
    }

    fn remove_dead_pins(&self, inner: &Inner) -> Result<()> {
        inner.folders.each(|folder, _| {
            let files = self.pins.dead_files(&folder::pin_folder(folder));
            files.iter().try_for_each(|path| os::remove(path))
        })
    }

    /// Where machines share the folder, who looks dead may only sleep: it is told that what it left goes, before it goes (S5). Its pin
    /// is removed before that: it makes one anew when it reads the fence.
    fn fence(&self, inner: &Inner, shared: &SharedLog) -> Result<()> {
        inner.refresh_slots(shared, Wait::AsLongAsNeeded)?;
        let (manifest, pending) = {
            let replica = inner.lock_replica();
            (replica.manifest().clone(), replica.value_segments())
        };
        let mut owners: BTreeSet<u64> = self.orphans(&manifest, &pending).map(|id| id.owner).collect();
        owners.extend(self.pins.dead.keys());
        if owners.is_empty() {
            return Ok(());
        }
        self.remove_dead_pins(inner)?;
        if is_planted(Bug::RemoveWithoutFence) {
            return Ok(());
        }
        inner.append_fence(shared, &owners.into_iter().collect::<Vec<_>>())
    }

    /// Files that nothing names, of processes that are dead.
    fn orphans<'a>(
        &'a self,
        manifest: &'a Manifest,
        pending: &'a BTreeSet<SegmentId>,
    ) -> impl Iterator<Item = SegmentId> + 'a {
        let retired: BTreeSet<SegmentId> = manifest.retired.iter().map(|(id, _)| *id).collect();
        self.segments.iter().copied().filter(move |id| {
            let named = manifest.segments.contains_key(id) || retired.contains(id) || pending.contains(id);
            !named && !self.pins.alive.contains_key(&id.owner)
        })
    }

    fn remove_retired(&self, inner: &Inner, manifest: &Manifest, oldest: Seq) -> Result<()> {
        for (id, retired_at) in &manifest.retired {
            if *retired_at <= oldest {
                inner.pages.segments().remove(*id)?;
            }
        }
        Ok(())
    }

    fn remove_orphans(
        &self,
        inner: &Inner,
        manifest: &Manifest,
        pending: &BTreeSet<SegmentId>,
    ) -> Result<()> {
        for id in self.orphans(manifest, pending) {
            inner.pages.segments().remove(id)?;
        }
        Ok(())
    }
}

fn remove_manifests(inner: &Inner, manifest: &Manifest, oldest: Seq) -> Result<()> {
    // Who opens a shared log begins with the manifest that its boundary names, and goes on to the newest.
    let oldest = match &inner.shared {
        Some(shared) => oldest.min(shared.on_reader(SlotFolder::boundary)?.manifest.checkpoint),
        None => oldest,
    };
    inner.folders.each(|folder, _| {
        let folder = folder::manifest_folder(folder);
        for (name, _) in os::list(&folder)? {
            let Some(checkpoint) = ManifestRef::checkpoint_of_file_name(&name) else { continue };
            if checkpoint < oldest && checkpoint < manifest.name.checkpoint {
                os::remove(&folder.join(name))?;
            }
        }
        Ok(())
    })
}

/// Removes log files whose commits are all in the tree of checkpoint `base`.
pub(crate) fn trim_log(inner: &Inner, base: Seq) -> Result<()> {
    let folder = &inner.folders.log.path;
    let files = wal::list(folder)?;
    for pair in files.windows(2) {
        if let [file, next] = pair
            && next.0 <= base.0 + 1
        {
            os::remove(&wal::path(folder, *file))?;
        }
    }
    Ok(())
}
