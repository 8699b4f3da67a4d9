//! The log that an epoch begins with: read from the copy that has the longest, written on each copy that joins.

use std::path::Path;

use super::CopyFolder;
use super::epoch::{self, Epoch};
use crate::os::{self, File};
use crate::shared::boundary::Boundary;
use crate::shared::folder::SlotFolder;
use crate::shared::log::Slots as _;
use crate::{Error, Result, Seq};

/// The slots behind a boundary.
pub(super) struct Log {
    boundary: Boundary,
    slots: Vec<(Seq, Vec<u8>)>,
}

impl Log {
    /// Up to `last`.
    pub(super) fn read(from: &SlotFolder, last: Seq) -> Result<Log> {
        let mut slots = Vec::new();
        for slot in (from.trimmed()?.0 + 1..=last.0).map(Seq) {
            match from.read(slot)? {
                Some(bytes) => {
                    // A damaged one is not carried on.
                    from.open(slot, &bytes)?;
                    slots.push((slot, bytes));
                }
                // The boundary has moved.
                None if from.trimmed()? >= slot => slots.clear(),
                None => return Err(Error::missing(&from.path(slot))),
            }
        }
        Ok(Log { boundary: from.boundary()?, slots })
    }

    /// Writes it on a copy, under a name that says that it is not finished. `own` are slots that the copy may have already.
    pub(super) fn gather(&self, copy: &CopyFolder, own: &SlotFolder, epoch: &Epoch) -> Result<()> {
        let folder = epoch::gathering_folder(&copy.log, epoch.number);
        epoch::remove_slots(&folder)?;
        os::ensure_folder(&folder)?;
        let new = own.at(folder);
        for (slot, bytes) in &self.slots {
            let path = new.path(*slot);
            if let Some(folder) = path.parent() {
                os::ensure_folder(folder)?;
            }
            write(&own.path(*slot), &path, bytes)?;
        }
        new.sync_all()?;
        new.adopt_boundary(&self.boundary)
    }

    /// Gives what was gathered its name: the epoch is active on the copy.
    pub(super) fn name(copy: &CopyFolder, epoch: &Epoch) -> Result<()> {
        let gathered = epoch::gathering_folder(&copy.log, epoch.number);
        os::rename(&gathered, &epoch::slots_folder(&copy.log.path, epoch.number))?;
        os::sync_folder(&copy.log.path)
    }
}

/// A second name for the copy's own file, if it holds this; else a file of its own.
fn write(own: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let has_it = os::read_file(own)?.is_some_and(|found| found == bytes);
    if has_it && os::link(own, path)? == os::Link::Made {
        return Ok(());
    }
    // A call whose answer is lost may be made twice.
    let file = File::open_or_create(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync()
}
