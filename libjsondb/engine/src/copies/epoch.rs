//! An epoch: which copies the log consists of, from a change of them to the next.
//!
//! A copy has a file `log/epoch/<number>` for each one that it was asked to join; the highest counts. It is the seal of all before it: what was given a
//! name in the log of an earlier epoch, and finds this file afterwards, is not acknowledged. `log/slots-<number>` is there once the epoch's log is: then
//! the epoch is *active* on the copy. See "Copies" in libjsondb/docs/protocol.md.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::bytes::{Put, Reader, is_intact};
use crate::log::LogFolder;
use crate::os::{self, File, Link};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"SOPEPOCH";
const VERSION: u32 = 1;
/// How the folder begins in which the slots of a new epoch are gathered.
const GATHERING: &str = "gathering-";
/// No database has more copies.
pub(crate) const COPIES_MAX: usize = 64;

/// Copies by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopySet(u64);

impl CopySet {
    pub(crate) fn all(count: usize) -> CopySet {
        (0..count).collect()
    }

    pub(crate) fn contains(self, index: usize) -> bool {
        index < COPIES_MAX && self.0 >> index & 1 == 1
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub(crate) fn union(self, other: CopySet) -> CopySet {
        CopySet(self.0 | other.0)
    }

    pub(crate) fn without(self, other: CopySet) -> CopySet {
        CopySet(self.0 & !other.0)
    }

    /// Rising.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = usize> {
        (0..COPIES_MAX).filter(move |index| self.contains(*index))
    }

    /// Whether these are enough of `count` copies, of which some are `lost`, to decide: any two that are enough have one in common.
    pub(crate) fn is_quorum(self, count: usize, lost: CopySet) -> bool {
        let there = CopySet::all(count).without(lost);
        let here = CopySet(self.0 & there.0);
        let first = there.iter().next();
        2 * here.len() > there.len()
            || 2 * here.len() == there.len() && first.is_some_and(|first| here.contains(first))
    }
}

impl FromIterator<usize> for CopySet {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> CopySet {
        let mut set = CopySet::default();
        indices.into_iter().for_each(|index| set.insert(index));
        set
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) number: u64,
    /// Of the attempt to begin it: two never get all the copies they want under one number.
    pub(crate) id: Uuid,
    /// What is in the log is on all of these.
    pub(crate) members: CopySet,
    /// The operator has said that these are gone for good: they are not counted.
    pub(crate) lost: CopySet,
}

impl Epoch {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(56);
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(self.number);
        out.extend_from_slice(self.id.as_bytes());
        out.put_u64(self.members.0);
        out.put_u64(self.lost.0);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// None when these are not the bytes of an epoch.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Epoch> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let mut reader = Reader::new(body);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let number = reader.u64()?;
        let id = Uuid::from_slice(reader.take(16)?).ok()?;
        let (members, lost) = (CopySet(reader.u64()?), CopySet(reader.u64()?));
        let is_whole = reader.is_empty() && is_intact(body, Reader::new(crc).u32()?);
        is_whole.then_some(Epoch { number, id, members, lost })
    }
}

fn folder(log: &Path) -> PathBuf {
    log.join("epoch")
}

fn file_name(number: u64) -> String {
    format!("{number:010}")
}

/// Where the slots of an epoch are.
pub(crate) fn slots_folder(log: &Path, number: u64) -> PathBuf {
    log.join(format!("slots-{number:010}"))
}

/// Where a process gathers the slots that an epoch begins with.
pub(crate) fn gathering_folder(log: &LogFolder, number: u64) -> PathBuf {
    log.path.join(format!("{GATHERING}{:016x}-{number:010}", log.owner))
}

/// The highest epoch that a copy was asked to join, past what this machine remembers; None: it has none.
pub(crate) fn newest(log: &Path) -> Result<Option<u64>> {
    let mut names = os::names(&folder(log))?;
    if names.is_empty() {
        // That there is no such folder may be what this machine remembers.
        os::look_anew(log)?;
        names = os::names(&folder(log))?;
    }
    Ok(names.iter().filter_map(|name| name.parse().ok()).max())
}

/// The epochs whose log a copy has, rising.
pub(crate) fn active(log: &Path) -> Result<Vec<u64>> {
    let names = os::list_folders(log)?;
    Ok(names.iter().filter_map(|name| name.strip_prefix("slots-")?.parse().ok()).collect())
}

/// Reads an epoch; None when the copy does not have it (any more).
pub(crate) fn read(log: &Path, number: u64) -> Result<Option<Epoch>> {
    let path = folder(log).join(file_name(number));
    let Some(bytes) = os::read_file(&path)? else { return Ok(None) };
    let epoch = Epoch::decode(&bytes).filter(|epoch| epoch.number == number);
    epoch.map(Some).ok_or_else(|| Error::corrupt(&path, 0, "an epoch of the log"))
}

/// Asks a copy to join. False when it joined another one of this number, or a higher one.
pub(crate) fn seal(log: &LogFolder, epoch: &Epoch) -> Result<bool> {
    os::ensure_folder(&folder(&log.path))?;
    os::sync_folder(&log.path)?;
    let staged = log.staged("epoch");
    os::remove(&staged)?;
    let file = File::create_new(&staged)?;
    let path = folder(&log.path).join(file_name(epoch.number));
    let linked = file
        .write_all_at(&epoch.encode(), 0)
        .and_then(|()| file.sync())
        .and_then(|()| os::link(&staged, &path));
    // Whose it is then is told by what is read.
    os::remove(&staged)?;
    if linked? == Link::Gone {
        return Err(Error::missing(&staged));
    }
    os::sync_folder(&folder(&log.path))?;
    Ok(newest(&log.path)? == Some(epoch.number) && read(&log.path, epoch.number)? == Some(*epoch))
}

/// Removes what is left of epochs before `number`, which is in force.
pub(crate) fn remove_before(log: &Path, number: u64) -> Result<()> {
    for earlier in active(log)?.into_iter().filter(|earlier| *earlier < number) {
        remove_slots(&slots_folder(log, earlier))?;
    }
    for name in os::list_folders(log)?.iter().filter(|name| name.starts_with(GATHERING)) {
        if name
            .rsplit('-')
            .next()
            .and_then(|name| name.parse().ok())
            .is_some_and(|earlier: u64| earlier < number)
        {
            remove_slots(&log.join(name))?;
        }
    }
    for name in os::names(&folder(log))? {
        if name.parse::<u64>().is_ok_and(|earlier| earlier < number) {
            os::remove(&folder(log).join(name))?;
        }
    }
    Ok(())
}

/// Forgets all epochs: of copies that were not finished when they were made.
pub(crate) fn forget(log: &Path) -> Result<()> {
    remove_before(log, u64::MAX)
}

/// Removes the slots of an epoch, or what was written of them.
pub(crate) fn remove_slots(folder: &Path) -> Result<()> {
    for inner in os::list_folders(folder)? {
        for name in os::names(&folder.join(&inner))? {
            os::remove(&folder.join(&inner).join(name))?;
        }
        os::remove_empty_folder(&folder.join(inner));
    }
    for (name, _) in os::list(folder)? {
        os::remove(&folder.join(name))?;
    }
    os::remove_empty_folder(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_byte_is_noticed() {
        let members = [0, 2].into_iter().collect();
        let epoch = Epoch { number: 3, id: Uuid::from_u128(9), members, lost: CopySet::default() };
        let bytes = epoch.encode();
        assert_eq!(Epoch::decode(&bytes), Some(epoch));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(Epoch::decode(&damaged), None, "{index}");
        }
    }

    #[test]
    fn any_two_quorums_have_a_copy_in_common() {
        for count in 1..=6 {
            let sets = || (0..1u64 << count).map(CopySet);
            for lost in sets().filter(|lost| lost.len() < count) {
                for one in sets().filter(|set| set.is_quorum(count, lost)) {
                    assert!(
                        sets().filter(|set| set.is_quorum(count, lost)).all(|other| one.0 & other.0 != 0)
                    );
                }
            }
        }
        assert!(CopySet(0b01).is_quorum(2, CopySet::default()));
        assert!(!CopySet(0b10).is_quorum(2, CopySet::default()));
        assert!(CopySet(0b10).is_quorum(2, CopySet(0b01)));
    }
}
