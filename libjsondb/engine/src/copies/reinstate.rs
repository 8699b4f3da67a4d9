//! Bringing a copy up to date while others read and write: all files that the state needs, then a new epoch with it.

use std::path::Path;

use super::change::{Found, Wanted};
use super::epoch::CopySet;
use super::label::Label;
use super::{Copies, CopyFolder, CopyRole, open};
use crate::folder;
use crate::os::{self, File};
use crate::{Error, ErrorKind, Result};

/// Copied at a time.
const BLOCK: usize = 1 << 20;

/// Told of each block that was copied; ends it.
pub(super) type Advance<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

impl Copies {
    /// Copies that do not have the last log that is known of.
    pub(super) fn stale(&self) -> Result<Vec<usize>> {
        let up_to_date = self.up_to_date()?;
        Ok(self.all.iter().map(|copy| copy.index).filter(|index| !up_to_date.contains(*index)).collect())
    }

    /// Those that have it.
    fn up_to_date(&self) -> Result<CopySet> {
        let found = self.survey();
        let (base, _) = self.base(&found, Wanted::default())?;
        let has_it = |found: &Found| found.active == Some(base);
        let found = found.iter().enumerate();
        Ok(found.filter(|(_, found)| found.as_ref().is_some_and(has_it)).map(|(index, _)| index).collect())
    }

    /// Brings copies up to date and makes them members, all at once: some may be enough only together. Those that fail are left out, unless all do.
    pub(super) fn bring_back(&self, indices: &[usize], advance: Advance<'_>) -> Result<()> {
        let (mut with, mut failed) = (CopySet::default(), None);
        for index in indices {
            match self.prepare(*index, advance).map_err(|error| not_brought_back(*index, error)) {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => failed = Some(error),
                Ok(()) => with.insert(*index),
            }
        }
        if let Some(error) = failed.filter(|_| with.is_empty()) {
            return Err(error);
        }
        self.change(Wanted { after: self.view().number(), with, ..Wanted::default() })
    }

    fn prepare(&self, index: usize, advance: Advance<'_>) -> Result<()> {
        let Some(copy) = self.all.get(index) else {
            let what = format!("there is no copy {index}: they are 0 to {}", self.all.len() - 1);
            return Err(Error::new(ErrorKind::Invalid, what));
        };
        open::check_free(&copy.path, self.database)?;
        check_drive(copy)?;
        open::create_folders(copy)?;
        self.copy_from_members(copy, advance)?;
        let roles = self.all.iter().map(|copy| copy.role).collect();
        open::write_label(copy, &Label { database: self.database, index, roles })
    }

    /// From the first that can be read.
    fn copy_from_members(&self, copy: &CopyFolder, advance: Advance<'_>) -> Result<()> {
        let mut copied = Err(self.drives_lost(&Wanted::default(), CopySet::default()));
        let up_to_date = self.up_to_date()?;
        let sources = self.all.iter().filter(|source| up_to_date.contains(source.index));
        for source in sources.filter(|source| source.index != copy.index) {
            copied = copy_files(source, copy, advance);
            if !copied.as_ref().is_err_and(super::is_failure) {
                break;
            }
        }
        copied
    }

    /// Begins an epoch without copies that the operator says are gone.
    pub(super) fn declare_lost(&self, lost: &[usize]) -> Result<()> {
        let lost: CopySet = lost.iter().copied().collect();
        self.change(Wanted { after: self.view().number(), without: lost, lost, ..Wanted::default() })
    }
}

/// Fails where the drive of a copy is not there: else it were written to where the drive is to be mounted.
fn check_drive(copy: &CopyFolder) -> Result<()> {
    match copy.path.parent() {
        Some(drive) if matches!(copy.role, CopyRole::Drive { .. }) && !os::exists(drive)? => {
            Err(Error::missing(drive))
        }
        _ => Ok(()),
    }
}

/// What failed is the copy's, or that of those it is made from: no damage of the database.
fn not_brought_back(index: usize, error: Error) -> Error {
    if !super::is_failure(&error) {
        return error;
    }
    Error::new(ErrorKind::DrivesLost, format!("copy {index} cannot be brought back: {error}"))
}

/// Copies what is not log: FORMAT, manifests, segments. What is there is left as it is: names are never used again.
pub(super) fn copy_files(from: &CopyFolder, to: &CopyFolder, advance: Advance<'_>) -> Result<()> {
    let folders = [
        (from.segments(), to.segments(), ".seg"),
        (from.manifests(), to.manifests(), ".man"),
        (folder::set_folder(&from.path), folder::set_folder(&to.path), ""),
    ];
    for (source, target, suffix) in folders {
        let (there, wanted) = (os::list(&target)?, os::list(&source)?);
        if wanted.is_empty() {
            continue;
        }
        os::create_folder(&target)?;
        for (name, len) in wanted {
            if name.ends_with(suffix) && !there.contains(&(name.clone(), len)) {
                copy_file(&source, &target, &name, to, advance)?;
            }
        }
        os::sync_folder(&target)?;
    }
    let name = "FORMAT";
    let format =
        os::read_file(&from.path.join(name))?.ok_or_else(|| Error::missing(&from.path.join(name)))?;
    if os::read_file(&folder::format_path(&to.path))?.as_ref() != Some(&format) {
        let staged = to.log.staged("format");
        os::remove(&staged)?;
        os::write_durably(&to.path, name, &staged, &format)?;
    }
    Ok(())
}

/// Under its name once it is whole. One that is gone meanwhile is not needed any more.
pub(super) fn copy_file(
    source: &Path,
    target: &Path,
    name: &str,
    to: &CopyFolder,
    advance: Advance<'_>,
) -> Result<()> {
    let Some(from) = File::open(&source.join(name))? else { return Ok(()) };
    let staged = to.log.staged("copied");
    os::remove(&staged)?;
    let file = File::create_new(&staged)?;
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        let count = match from.read_at(&mut block, at) {
            Err(error) if error.is_missing_file() => return os::remove(&staged),
            read => read?,
        };
        if count == 0 {
            break;
        }
        file.write_all_at(block.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
        advance(count as u64)?;
    }
    file.sync()?;
    os::rename(&staged, &target.join(name))
}
