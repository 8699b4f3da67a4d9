//! Erasure coding: segments cut into k data and m parity shards, each on a drive of its own, so that any m of the drives may be lost.
//!
//! A [`Coding`] says which stores are coded and on which drives. In the database it is a *set*, whose number is part of every
//! [`crate::segment::SegmentId`]: a reference says by itself where its blob lies. Drives have roles (set and index), which are kept on the
//! drives; paths are given at each opening and stored nowhere.

mod codec;
mod drive;
mod find;
mod layout;
mod rebuild;
mod report;
mod scrub;
mod segment;
mod set;
mod sets;
mod shard;
mod status;
mod stripes;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

use crate::{Error, ErrorKind, Result, os};

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use drive::{Drive, DriveRecord};
pub(crate) use layout::Layout;
pub(crate) use segment::CodedSegment;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use set::{AfterReads, Set, SetRecord};
pub(crate) use sets::{Access, NOT_CODED, Sets};
pub(crate) use shard::ShardName;
pub(crate) use writer::{CodedWriter, Shards, sync_names};

pub use find::find_coding;
pub use report::{
    DriveReport, DriveState, DriveStatus, Repair, RepairScope, Scrub, SegmentsAtRisk, SetReport, ShardFinding,
};

/// How the pages and values of some stores are spread over drives: `data + parity` of them, any `parity` of which may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Name of the set: the store it is for. Empty: for all stores that have none of their own.
    pub store: String,
    /// The engine's names of the stores it is for. None: `store` itself.
    pub aliases: Vec<String>,
    /// Number of drives whose bytes are needed to read: 1 or more.
    pub data: usize,
    /// Number of drives that may be lost: 1 or more, with `data` at most [`Coding::SHARDS_MAX`].
    pub parity: usize,
    /// A folder on each drive: `data + parity` of them, in any order after the first time. A drive that took the place of another one is an
    /// empty folder.
    pub drives: Vec<PathBuf>,
    /// Whether reads write anew what they find missing or damaged.
    pub repair: bool,
}

impl Coding {
    /// Data and parity together: a shard's index takes a byte.
    pub const SHARDS_MAX: usize = 256;

    /// Fails when it cannot be right, whatever is on the drives.
    pub fn check(&self) -> Result<()> {
        let name = self.name();
        let (data, parity, drives) = (self.data, self.parity, self.drives.len());
        let fail = |what: String| {
            Err(Error::new(ErrorKind::Invalid, format!("the erasure coding of {name} {what}")))
        };
        if data == 0 || parity == 0 || data.saturating_add(parity) > Coding::SHARDS_MAX {
            return fail(format!(
                "has {data} data and {parity} parity shards: give at least 1 of each, {} in all at most",
                Coding::SHARDS_MAX
            ));
        }
        if drives != data + parity {
            return fail(format!("takes {data} + {parity} drives, not {drives}: give a folder for each"));
        }
        let places: Vec<PathBuf> = self.drives.iter().map(|path| os::canonical_or_absolute(path)).collect();
        match places.iter().enumerate().find(|(index, place)| places[..*index].contains(place)) {
            Some((_, twice)) => {
                fail(format!("has {} twice, so losing one drive would lose both", twice.display()))
            }
            None => Ok(()),
        }
    }

    /// For messages.
    fn name(&self) -> String {
        set::describe(&self.store)
    }
}
