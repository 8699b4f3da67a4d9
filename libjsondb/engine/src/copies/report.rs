//! What is told of copies: where they are, and whether they are up to date.

use std::path::PathBuf;

use super::change::Wanted;
use super::epoch::CopySet;
use super::label::Label;
use super::{Copies, CopyFolder};
use crate::os;
use crate::shared::folder::SlotFolder;
use crate::{Database, Progress, Result, Seq};

/// How a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It is up to date: every commit is acknowledged only once it is there.
    Member,
    /// The others have gone on without it, or it is empty: [`Database::reinstate`] brings it up to date.
    Stale,
    /// It is not where it was said to be.
    Missing,
    /// It is there, and the system fails to read it.
    Unreadable,
}

/// Where a copy is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRole {
    /// A folder of its own: 0 the one that the database was opened by, from 1 the mirrors.
    Folder(usize),
    /// Beside the shards of a drive.
    Drive {
        /// Number of the set.
        set: u8,
        /// Index of the drive in it.
        index: usize,
    },
}

/// A copy of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// Its number, by which it is reinstated or declared lost.
    pub index: usize,
    /// Where it is kept.
    pub role: CopyRole,
    /// The folder that was given for it.
    pub path: PathBuf,
    /// How it is.
    pub state: CopyState,
    /// The last commit, or other entry of the log, that it has.
    pub last: Seq,
}

/// All copies of a database. None where there are no mirrors and no drives: then nothing is to be reinstated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyStatus {
    /// By index.
    pub copies: Vec<CopyReport>,
    /// Enough of them can be reached for commits.
    pub can_commit: bool,
}

impl Database {
    /// How the copies of the metadata are. Reads a few small files of each.
    pub fn copy_status(&self) -> Result<CopyStatus> {
        self.inner.check_open()?;
        self.inner.folders.copies.as_ref().map_or_else(|| Ok(CopyStatus::default()), |copies| copies.status())
    }

    /// Brings copies that are missing, empty or stale up to date, while others read and write: `copy`, or all that need it. `lost` are those that the
    /// operator says are gone for good: so the others may go on where too few are left to know. (A copy declared lost that others still
    /// write to makes two databases of one.) To be run again where it was interrupted. A handle that was opened for reading only, because too few
    /// copies were left, is to be opened again.
    pub fn reinstate(
        &self,
        copy: Option<usize>,
        lost: &[usize],
        progress: &mut Progress<'_>,
    ) -> Result<CopyStatus> {
        self.inner.check_open()?;
        if self.is_read_only() {
            return Err(self.inner.read_only());
        }
        let Some(copies) = &self.inner.folders.copies else { return Ok(CopyStatus::default()) };
        if !lost.is_empty() {
            copies.declare_lost(lost)?;
        }
        let stale = copy.map_or_else(|| copies.stale(), |copy| Ok(vec![copy]))?;
        if !stale.is_empty() {
            copies.bring_back(&stale, &mut |bytes| progress.advance(bytes))?;
        }
        copies.status()
    }
}

impl Copies {
    fn status(&self) -> Result<CopyStatus> {
        let found = self.survey();
        // Where none is in force, as too few can be reached: the last that there is.
        let last = || self.base(&found, Wanted::default()).ok().map(|(base, _)| base);
        let in_force = Copies::in_force(&found).or_else(last);
        let mut copies = Vec::new();
        let mut left = CopySet::default();
        for (copy, found) in self.all.iter().zip(&found) {
            let is_member = in_force.is_some_and(|epoch| {
                epoch.members.contains(copy.index)
                    && found.as_ref().is_some_and(|found| found.active == Some(epoch))
            });
            if is_member {
                left.insert(copy.index);
            }
            let last = found.as_ref().and_then(|found| found.active).map_or(Ok(Seq(0)), |active| {
                SlotFolder::of_epoch(copy.log.clone(), self.database, active.number).end()
            });
            let state = match (found, &last) {
                (_, Err(_)) => CopyState::Unreadable,
                _ if is_member => CopyState::Member,
                (Some(_), _) => CopyState::Stale,
                (None, _) => self.state_of(copy),
            };
            let (path, last) = (copy.path.clone(), last.unwrap_or_default());
            copies.push(CopyReport { index: copy.index, role: copy.role, path, state, last });
        }
        let lost = in_force.map_or_else(CopySet::default, |epoch| epoch.lost);
        Ok(CopyStatus { copies, can_commit: left.is_quorum(self.all.len(), lost) })
    }

    /// Of one without a label that is right.
    fn state_of(&self, copy: &CopyFolder) -> CopyState {
        match os::is_missing_or_empty(&copy.path) {
            Err(_) => CopyState::Unreadable,
            Ok(_) if !os::exists(&copy.path).unwrap_or_default() => CopyState::Missing,
            Ok(true) => CopyState::Stale,
            Ok(false) if Label::read(&copy.path).is_err() => CopyState::Unreadable,
            Ok(false) => CopyState::Stale,
        }
    }
}
