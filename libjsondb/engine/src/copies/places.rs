//! Where the copies of a database are kept: in the folders that were given for them, and beside the shards of drives.

use std::path::{Path, PathBuf};

use super::CopyRole;
use super::epoch::COPIES_MAX;
use crate::coded::Coding;
use crate::os;
use crate::{Error, ErrorKind, Options, Result};

/// Folder of a copy on a drive.
const ON_DRIVE: &str = "copy";

/// A folder that may hold a copy.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// What a copy that is made there is called.
    pub(super) role: CopyRole,
    pub(super) path: PathBuf,
}

/// The folders of the database, then those on drives, of which some hold copies.
pub(super) struct Places {
    pub(super) folders: Vec<Place>,
    pub(super) drives: Vec<Place>,
    /// So many copies are made on drives.
    wanted: usize,
}

impl Places {
    pub(super) fn new(folder: &Path, options: &Options) -> Result<Places> {
        let paths = std::iter::once(folder).chain(options.mirrors.iter().map(PathBuf::as_path));
        let folders: Vec<Place> = paths
            .enumerate()
            .map(|(index, path)| Place {
                role: CopyRole::Folder(index),
                path: os::canonical_or_absolute(path),
            })
            .collect();
        if folders.len() > COPIES_MAX {
            return Err(Error::new(ErrorKind::Invalid, format!("more than {COPIES_MAX} folders")));
        }
        // Numbers of sets are given in this order where the database is made.
        let mut numbered = options.coding.iter().zip(1..).collect::<Vec<(&Coding, u8)>>();
        numbered.sort_by_key(|(coding, number)| (std::cmp::Reverse(coding.parity), *number));
        let drives = numbered
            .iter()
            .flat_map(|(coding, set)| {
                // From the last one: the first is likely to be where the folder of the database is.
                coding.drives.iter().enumerate().rev().map(move |(index, drive)| Place {
                    role: CopyRole::Drive { set: *set, index },
                    path: os::canonical_or_absolute(drive).join(ON_DRIVE),
                })
            })
            .collect();
        let (most, shards) =
            numbered.first().map_or((0, 0), |(coding, _)| (coding.parity, coding.drives.len()));
        // Of twice as many and one the majority outlives the loss of so many.
        let wanted = (2 * most + 1).saturating_sub(folders.len()).min(shards).min(COPIES_MAX - folders.len());
        Ok(Places { folders, drives, wanted })
    }

    /// Where copies are made.
    pub(super) fn to_make(&self) -> Vec<Place> {
        let drives = self.drives.iter().take(self.wanted);
        self.folders.iter().chain(drives).cloned().collect()
    }
}
