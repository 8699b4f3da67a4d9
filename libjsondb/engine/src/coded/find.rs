//! Erasure coding as the drives themselves tell it: for tools, which are given folders and no configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Coding;
use super::drive::{self, DriveRecord};
use super::set::SetRecord;
use crate::{Error, ErrorKind, Result};

/// The erasure coding of a database, of the folders that were given for drives, in any order. `folders` are those of the database. An
/// empty folder takes the place of a drive that is not among the others; where there is none, the drive counts as missing. The
/// aliases are left to the caller.
pub fn find_coding(folders: &[PathBuf], drives: &[PathBuf]) -> Result<Vec<Coding>> {
    let mut sets: BTreeMap<u8, BTreeMap<usize, (DriveRecord, &Path)>> = BTreeMap::new();
    let mut blank = Vec::new();
    for path in drives {
        let records = drive::records(path);
        if records.is_empty() {
            blank.push(path);
        }
        for record in records {
            sets.entry(record.set).or_default().insert(usize::from(record.index), (record, path));
        }
    }
    sets.into_iter()
        .map(|(number, known)| {
            let (data, parity) = known.values().next().map_or((0, 0), |(r, _)| (r.data, r.parity));
            let (data, parity) = (usize::from(data), usize::from(parity));
            let mut blank = blank.iter();
            let place = |index| match known.get(&index) {
                Some((_, path)) => path.to_path_buf(),
                None => {
                    blank.next().map_or_else(|| not_given(folders, number, index), |path| path.to_path_buf())
                }
            };
            let places = (0..data + parity).map(place).collect();
            let store = store_of(folders, drives, number)?;
            Ok(Coding { store, aliases: Vec::new(), data, parity, drives: places, repair: false })
        })
        .collect()
}

/// A path at which no drive is.
fn not_given(folders: &[PathBuf], set: u8, index: usize) -> PathBuf {
    let folder = folders.first().cloned().unwrap_or_default();
    folder.join("set").join(format!("{set}-drive-{index}-was-not-given"))
}

/// The store that a set is for, as one of the copies of its description says.
fn store_of(folders: &[PathBuf], drives: &[PathBuf], set: u8) -> Result<String> {
    let copies = drives.iter().map(|drive| drive.join("copy"));
    for folder in folders.iter().cloned().chain(copies) {
        if let Ok(Some(record)) = SetRecord::load(&folder.join("set"), set) {
            return Ok(record.store);
        }
    }
    let what = format!(
        "the drives belong to set {set}, which no folder of the database describes: give more of them"
    );
    Err(Error::new(ErrorKind::Invalid, what))
}
