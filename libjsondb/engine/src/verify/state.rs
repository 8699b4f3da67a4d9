//! The newest committed state, with all its files held open: whoever collects garbage meanwhile takes nothing away.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Check;
use crate::coded::{Access, Sets};
use crate::folder;
use crate::log::LogEnd;
use crate::log::tail::TailFile;
use crate::manifest::{Manifest, ManifestRef};
use crate::replica::Replica;
use crate::segment::{self, SegmentId, Segments};
use crate::shared::folder::SlotFolder;
use crate::shared::{SharedLog, driver};
use crate::snapshot::Snapshot;
use crate::tree::Pages;
use crate::{Error, ErrorKind, Options, Result};

/// A folder whose files are replaced while they are being opened is looked at this often.
const ATTEMPTS: usize = 50;
/// Left free when the system lets no more files be opened, beside those that are opened when they are read.
const SPARE_FILES: usize = 64;

pub(super) struct State {
    pub(super) snapshot: Snapshot,
    pub(super) pages: Pages,
    /// Segments the state needs.
    pub(super) segments: BTreeSet<SegmentId>,
    /// The log behind the checkpoint was read.
    pub(super) is_complete: bool,
}

impl Check<'_, '_> {
    /// `named` is the manifest in force as the log says: its tree is checked also when the log behind it cannot be read.
    pub(super) fn state(
        &mut self,
        slots: Option<SlotFolder>,
        named: Option<ManifestRef>,
    ) -> Result<Option<State>> {
        let shared = slots.map(|slots| SharedLog::single(slots, 0));
        let mut missed: Option<ManifestRef> = None;
        for _ in 0..ATTEMPTS {
            let (snapshot, values) = match self.newest(shared.as_ref()) {
                Ok(replica) => (replica.snapshot(), Some(replica.value_segments())),
                Err(error) => match self.checkpoint_only(error, named)? {
                    Some(snapshot) => (snapshot, None),
                    None => return Ok(None),
                },
            };
            let mut segments: BTreeSet<SegmentId> = snapshot.manifest.segments.keys().copied().collect();
            let is_complete = values.is_some();
            segments.extend(values.unwrap_or_default());
            let (held, missing) = self.hold(&segments)?;
            let name = snapshot.manifest.name;
            // Missing from the state in force, and not only from one that a checkpoint has replaced.
            if missing.is_empty() || missed == Some(name) {
                let pages = Pages::new(Arc::new(held), Options::default().page_cache_bytes);
                return Ok(Some(State { snapshot, pages, segments, is_complete }));
            }
            missed = Some(name);
        }
        let what = format!("{} changes too quickly to be checked: try again", self.folder.display());
        Err(Error::new(ErrorKind::Locked, what))
    }

    fn newest(&self, shared: Option<&SharedLog>) -> Result<Replica> {
        if let Some(shared) = shared {
            return driver::read_state(shared, &self.folders, Options::default().memtable_bytes);
        }
        let log = &self.folders.log;
        let mut attempt = 0;
        loop {
            let tail = TailFile::open(&log.path.join("TAIL"))?;
            let (limit, _nobody_writes) = folder::read_limit(log, tail.as_ref())?;
            match Replica::open(self.folders.clone(), limit, Options::default().memtable_bytes) {
                // A commit that was being written when it was read looks like damage once.
                Err(error) if error.kind() == ErrorKind::Corrupt && attempt < 2 => attempt += 1,
                opened => return opened,
            }
        }
    }

    /// The tree alone, when the log behind it cannot be read.
    fn checkpoint_only(&mut self, error: Error, named: Option<ManifestRef>) -> Result<Option<Snapshot>> {
        let known = error.corrupt_at().is_some_and(|damage| self.is_damaged(&damage.file));
        if !known {
            self.noted::<()>(Err(error))?;
        }
        let Some(name) = named else { return Ok(None) };
        // What is wrong with the manifest itself was noted before.
        let Ok(Some(manifest)) = Manifest::load(&self.folders.manifests, &name) else { return Ok(None) };
        let seq = manifest.name.checkpoint;
        let memtables = Arc::from([]);
        Ok(Some(Snapshot { manifest: Arc::new(manifest), memtables, seq, log_end: LogEnd::default() }))
    }

    /// The drives over which segments are spread. Those of a database whose format file is damaged are not known to be its own.
    fn sets(&mut self) -> Result<Sets> {
        match folder::read_format(&folder::format_path(self.folder)) {
            Ok(format) => {
                let folders = [self.folder.to_owned()];
                Sets::open(&folders, &self.folders.log, format.uuid, self.codings, Access::Read)
            }
            Err(_) => Ok(Sets::default()),
        }
    }

    fn hold(&mut self, ids: &BTreeSet<SegmentId>) -> Result<(Segments, Vec<SegmentId>)> {
        let mut segments = Segments::new(folder::segment_folder(self.folder), 0).with_sets(self.sets()?);
        let mut missing = Vec::new();
        let mut held = Vec::new();
        for id in ids {
            self.progress.advance(0)?;
            match segments.hold(*id) {
                Ok(true) => held.push(*id),
                Ok(false) => missing.push(*id),
                Err(_) => {
                    // Too many open files; anything else is met again, and noted, when the file is read.
                    held.iter()
                        .rev()
                        .take(segment::open_files_max() + SPARE_FILES)
                        .for_each(|id| segments.release(*id));
                    break;
                }
            }
        }
        Ok((segments, missing))
    }

    /// Headers, indexes and trailers.
    pub(super) fn segments(&mut self, state: &State) -> Result<()> {
        for id in &state.segments {
            self.progress.advance(0)?;
            let checked = state.pages.segments().check(*id);
            self.noted(checked)?;
        }
        Ok(())
    }
}
