//! All sets of an open database: those it has and those it is given, their drives found by role, and which keys belong to which.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::Coding;
use super::drive::{Drive, Found, look};
use super::layout::{Layout, UNIT_BYTES};
use super::set::{AfterReads, Set, SetRecord, describe};
use crate::catalog;
use crate::folder;
use crate::log::LogFolder;
use crate::os::{self, File, Link};
use crate::segment::SegmentId;
use crate::{Error, ErrorKind, Result, StoreId};

/// Number of what is not coded.
pub(crate) const NOT_CODED: u8 = 0;
/// Whether what is missing may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Write,
    Read,
}

/// The sets of a database.
#[derive(Default)]
pub(crate) struct Sets {
    sets: BTreeMap<u8, Arc<Set>>,
    by_store: HashMap<StoreId, u8>,
    /// Of the stores that have none of their own.
    default: u8,
}

/// Where the sets of a database are described: in all of these folders alike.
fn record_folders(folders: &[PathBuf]) -> Vec<PathBuf> {
    folders.iter().map(|folder| folder::set_folder(folder)).collect()
}

impl Sets {
    /// Finds the sets and drives of a database; makes those that are new. Fails when a set that the database has is not given. `copies` are
    /// the folders of its metadata.
    pub(crate) fn open(
        copies: &[PathBuf],
        log: &LogFolder,
        database: Uuid,
        codings: &[Coding],
        access: Access,
    ) -> Result<Sets> {
        check(codings)?;
        let folders = record_folders(copies);
        let folder = copies.first().map_or(Path::new(""), PathBuf::as_path);
        let mut records = load(&folders)?;
        let opening = Opening { folder, log, database, access };
        let mut sets = Sets::default();
        for coding in codings {
            let known = records.iter().position(|record| record.store == coding.store);
            let set = match known.map(|index| records.remove(index)) {
                Some(record) => opening.known(record, coding)?,
                None if access == Access::Read => continue,
                None => opening.make(&folders, coding)?,
            };
            sets.add(set, coding)?;
        }
        match records.first() {
            Some(record) => Err(not_given(folder, record)),
            None => Ok(sets),
        }
    }

    fn add(&mut self, set: Set, coding: &Coding) -> Result<()> {
        let number = set.record.number;
        if coding.store.is_empty() {
            self.default = number;
        }
        let own = Some(&coding.store).filter(|store| !store.is_empty());
        for name in own.into_iter().chain(&coding.aliases) {
            self.by_store.insert(catalog::store_id(name)?, number);
        }
        self.sets.insert(number, Arc::new(set));
        Ok(())
    }

    /// Number of the set in which what a key of the engine's key space says is written.
    pub(crate) fn of_key(&self, key: &[u8]) -> u8 {
        if self.by_store.is_empty() {
            return self.default;
        }
        self.by_store.get(&catalog::store_of(key)).copied().unwrap_or(self.default)
    }

    /// Number of the set of what belongs to no store.
    pub(crate) fn of_all(&self) -> u8 {
        self.default
    }

    /// The set; None for what is not coded here.
    pub(crate) fn get(&self, number: u8) -> Option<&Arc<Set>> {
        self.sets.get(&number)
    }

    /// By number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Set>> {
        self.sets.values()
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::Invalid, what)
}

/// Fails when the codings cannot be right, whatever is on the drives.
fn check(codings: &[Coding]) -> Result<()> {
    for (index, coding) in codings.iter().enumerate() {
        coding.check()?;
        if codings[..index].iter().any(|other| other.store == coding.store) {
            return Err(invalid(format!("the erasure coding of {} is given twice", coding.name())));
        }
    }
    Ok(())
}

fn not_given(folder: &Path, record: &SetRecord) -> Error {
    let Layout { data, parity, .. } = record.layout;
    invalid(format!(
        "{} has erasure coding for {}, {data} + {parity} drives: give it, with the folders of the drives",
        folder.display(),
        describe(&record.store)
    ))
}

/// All descriptions, from the first folder that has any.
fn load(folders: &[PathBuf]) -> Result<Vec<SetRecord>> {
    let mut records = Vec::new();
    for folder in folders {
        for (name, _) in os::list(folder)? {
            let Ok(number) = name.parse() else { continue };
            records.extend(SetRecord::load(folder, number)?);
        }
        if !records.is_empty() {
            break;
        }
    }
    Ok(records)
}

struct Opening<'a> {
    folder: &'a Path,
    log: &'a LogFolder,
    database: Uuid,
    access: Access,
}

impl Opening<'_> {
    /// A set that the database has.
    fn known(&self, record: SetRecord, coding: &Coding) -> Result<Set> {
        let Layout { data, parity, .. } = record.layout;
        if (data, parity) != (coding.data, coding.parity) {
            let what = format!(
                "{} has erasure coding for {} with {data} + {parity} drives, which it keeps: give these, not {} + {}",
                self.folder.display(),
                describe(&record.store),
                coding.data,
                coding.parity
            );
            return Err(invalid(what));
        }
        let found = self.look(&record, coding)?;
        let known = found.iter().filter(|found| matches!(found, Found::Known(_))).count();
        let roles = roles(&found, coding, &record)?;
        let drives = self.drives(&record, coding, &roles)?;
        // With fewer than are needed to read, empty folders are no new drives: nothing may be mounted there yet.
        if self.access == Access::Write && known >= data {
            let blank = found.iter().zip(&roles).filter(|(found, _)| matches!(found, Found::Blank));
            for (_, index) in blank {
                // Debt, as if it failed later.
                let _ = drives[*index].adopt(&self.staged_name());
            }
        }
        Ok(self.set(record, drives, coding))
    }

    /// A new set: all of its drives must be there. Its description comes last: from then on no drive is taken for a new one without need.
    fn make(&self, folders: &[PathBuf], coding: &Coding) -> Result<Set> {
        let layout = Layout { data: coding.data, parity: coding.parity, unit: u64::from(UNIT_BYTES) };
        for number in self.free_number(folders)?..=u8::MAX {
            let record = SetRecord { number, store: coding.store.clone(), layout };
            coding.drives.iter().try_for_each(|path| os::create_folder(path))?;
            let roles = roles(&self.look(&record, coding)?, coding, &record)?;
            let drives = self.drives(&record, coding, &roles)?;
            drives.iter().try_for_each(|drive| drive.adopt(&self.staged_name()))?;
            for folder in folders {
                self.publish(folder, &record)?;
            }
            // Another process may have been quicker.
            match SetRecord::load(&folders[0], number)? {
                Some(found) if found == record => return Ok(self.set(record, drives, coding)),
                Some(found) if found.store == record.store => return self.known(found, coding),
                _ => {}
            }
        }
        Err(invalid("a database has at most 255 erasure coding configurations".to_owned()))
    }

    /// A number that no set has, nor a segment: those of a copy that has no drives lie beside the others.
    fn free_number(&self, folders: &[PathBuf]) -> Result<u8> {
        let mut last = load(folders)?.iter().map(|record| record.number).max().unwrap_or(NOT_CODED);
        for (name, _) in os::list(&folder::segment_folder(self.folder))? {
            last = last.max(SegmentId::from_file_name(&name).map_or(NOT_CODED, SegmentId::set));
        }
        last.checked_add(1).ok_or_else(|| invalid("all numbers of sets are taken".to_owned()))
    }

    /// Makes the description of a set, unless there is one of its number.
    fn publish(&self, folder: &Path, record: &SetRecord) -> Result<()> {
        os::create_folder(folder)?;
        let staged = self.log.staged("set");
        os::remove(&staged)?;
        let file = File::create_new(&staged)?;
        let published = file
            .write_all_at(&record.encode(), 0)
            .and_then(|()| file.sync())
            .and_then(|()| os::link(&staged, &folder.join(record.number.to_string())));
        os::remove(&staged)?;
        match published? {
            Link::Made | Link::Taken => os::sync_folder(folder),
            Link::Gone => Err(Error::missing(&staged)),
        }
    }

    fn look(&self, record: &SetRecord, coding: &Coding) -> Result<Vec<Found>> {
        coding.drives.iter().map(|path| look(path, record, self.database)).collect()
    }

    /// The drives by index.
    fn drives(&self, record: &SetRecord, coding: &Coding, roles: &[usize]) -> Result<Vec<Drive>> {
        let mut drives = Vec::with_capacity(roles.len());
        for index in 0..roles.len() {
            let path =
                roles.iter().position(|role| *role == index).and_then(|place| coding.drives.get(place));
            let path = path.ok_or_else(|| Error::new(ErrorKind::Internal, "a drive has no role"))?;
            drives.push(Drive::new(&os::canonical_or_absolute(path), record, self.database, index));
        }
        Ok(drives)
    }

    fn set(&self, record: SetRecord, drives: Vec<Drive>, coding: &Coding) -> Set {
        let repairs = coding.repair && self.access == Access::Write;
        let after_reads = if repairs { AfterReads::Repair } else { AfterReads::Leave };
        Set::new(record, drives, after_reads, self.log.owner)
    }

    fn staged_name(&self) -> String {
        format!("{:016x}-DRIVE", self.log.owner)
    }
}

/// The index of each given path: what its drive says; the others take what is left, their own place first.
fn roles(found: &[Found], coding: &Coding, record: &SetRecord) -> Result<Vec<usize>> {
    let mut roles: Vec<Option<usize>> = vec![None; found.len()];
    for (place, found) in found.iter().enumerate() {
        let Found::Known(index) = found else { continue };
        if let Some(other) = roles.iter().position(|role| role == &Some(*index)) {
            let what = format!(
                "{} and {} are both drive {index} of the erasure coding of {}: give one of them, and an empty folder for the drive \
                 that is missing",
                coding.drives[other].display(),
                coding.drives[place].display(),
                describe(&record.store)
            );
            return Err(invalid(what));
        }
        roles[place] = Some(*index);
    }
    for place in 0..roles.len() {
        if roles[place].is_none() && !roles.contains(&Some(place)) {
            roles[place] = Some(place);
        }
    }
    let mut free =
        (0..roles.len()).filter(|index| !roles.contains(&Some(*index))).collect::<Vec<_>>().into_iter();
    Ok(roles.into_iter().filter_map(|role| role.or_else(|| free.next())).collect())
}
