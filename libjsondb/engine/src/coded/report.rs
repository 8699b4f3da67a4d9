//! What is told of drives: their state, what a scrub found, what a repair did.

use std::path::PathBuf;
use std::time::Duration;

/// How a drive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveState {
    /// It has all of its shards.
    Ok,
    /// It lacks some of them: they could not be written, or were removed.
    Behind,
    /// It took the place of another one, and has none of the shards that one had.
    Replaced,
    /// It is not where it was said to be.
    Missing,
    /// It is there, and the system fails to list what is on it.
    Unreadable,
}

/// A drive of a set, by a listing: what is in its files was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveReport {
    /// The folder that was given for it.
    pub path: PathBuf,
    /// Its role in the set: from 0; those from `data` on hold parity.
    pub index: usize,
    /// How it is.
    pub state: DriveState,
    /// Shards it has, of the segments in use.
    pub shards: u64,
    /// Shards it should have and has not.
    pub missing: u64,
    /// Bytes of the shards it has.
    pub bytes: u64,
}

/// Segments of a set by what they can still lose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentsAtRisk {
    /// At `n`: how many of them can lose `n` more shards, whichever. The last ones, at `parity`, have all that hold data or parity.
    pub by_spare: Vec<u64>,
    /// How many have too few shards to be read.
    pub lost: u64,
}

/// A set of drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetReport {
    /// Its number in the database, from 1.
    pub number: u8,
    /// The store it is for. Empty: all that have none of their own.
    pub store: String,
    /// Shards needed to read.
    pub data: usize,
    /// Shards that may be lost.
    pub parity: usize,
    /// Segments in use.
    pub segments: u64,
    /// What they can lose.
    pub at_risk: SegmentsAtRisk,
    /// By index.
    pub drives: Vec<DriveReport>,
}

/// All drives of a database. Empty when nothing is coded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriveStatus {
    /// By number.
    pub sets: Vec<SetReport>,
}

/// A shard that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardFinding {
    /// Its file.
    pub file: PathBuf,
    /// Number of its set.
    pub set: u8,
    /// Index of its drive.
    pub index: usize,
    /// The segment it is of.
    pub segment: String,
    /// What is wrong with it.
    pub what: String,
}

/// What a scrub read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// Segments read.
    pub segments: u64,
    /// Shards read.
    pub shards: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Shards that are missing or damaged. None: all is as it was written.
    pub findings: Vec<ShardFinding>,
    /// Segments that have too few good shards to be read.
    pub lost: Vec<String>,
}

/// Which shards a repair looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairScope {
    /// Those that are missing, or whose length, beginning or end is wrong: after a drive was replaced. Others are not read.
    Missing,
    /// Also those that a scrub finds damaged: all shards are read.
    Everything,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Segments of which shards were written anew.
    pub segments: u64,
    /// Shards written anew.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long the writing took, with the reading it needs.
    pub duration: Duration,
    /// Shards that could not be written anew: their drive does not work, or too few others are left.
    pub failed: Vec<ShardFinding>,
}
