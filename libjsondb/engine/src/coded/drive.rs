//! One drive of a set: a folder, and the file in it that says which drive it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

use super::set::SetRecord;
use crate::bytes::{Put, Reader, is_intact};
use crate::os;
use crate::{Error, ErrorKind, Result};

const MAGIC: &[u8; 8] = b"SOPDRIVE";
const VERSION: u32 = 1;
/// magic 8, version 4, database 16, set 1, index 1, data 1, parity 1, CRC 4.
const RECORD_LEN: usize = 36;
/// A drive that failed is not tried again for so long: each attempt may take long.
const REST: Duration = Duration::from_secs(1);

/// What the file DRIVE says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DriveRecord {
    pub(crate) database: Uuid,
    pub(crate) set: u8,
    pub(crate) index: u8,
    pub(crate) data: u8,
    pub(crate) parity: u8,
}

impl DriveRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(RECORD_LEN);
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.extend_from_slice(self.database.as_bytes());
        [self.set, self.index, self.data, self.parity].into_iter().for_each(|byte| out.put_u8(byte));
        out.put_u32(crc32fast::hash(&out));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<DriveRecord> {
        let (body, crc) = bytes.split_at_checked(RECORD_LEN - 4)?;
        if !is_intact(body, Reader::new(crc).u32()?) || bytes.len() != RECORD_LEN {
            return None;
        }
        let mut reader = Reader::new(body);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let database = Uuid::from_slice(reader.take(16)?).ok()?;
        let (set, index, data, parity) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
        Some(DriveRecord { database, set, index, data, parity })
    }

    fn of(set: &SetRecord, database: Uuid, index: usize) -> DriveRecord {
        DriveRecord {
            database,
            set: set.number,
            index: index as u8,
            data: set.layout.data as u8,
            parity: set.layout.parity as u8,
        }
    }
}

/// What is at a path that was given for a drive.
#[derive(Debug)]
pub(crate) enum Found {
    /// The drive with this index.
    Known(usize),
    /// A folder that is no drive of the set yet.
    Blank,
    /// Nothing, or nothing that can be looked at.
    Absent,
}

/// Folder of a set on a drive.
pub(crate) fn set_folder(drive: &Path, set: u8) -> PathBuf {
    drive.join(format!("set-{set}"))
}

fn record_path(folder: &Path) -> PathBuf {
    folder.join("DRIVE")
}

/// Looks at a path. Fails when it belongs to another database.
pub(crate) fn look(path: &Path, set: &SetRecord, database: Uuid) -> Result<Found> {
    if !os::is_folder(path) {
        return Ok(Found::Absent);
    }
    check_owner(path, database)?;
    let read = os::read_file(&record_path(&set_folder(path, set.number)));
    let Ok(bytes) = read else { return Ok(Found::Absent) };
    // One that is damaged says nothing: which drive it is follows from the others.
    let Some(record) = bytes.as_deref().and_then(DriveRecord::decode) else { return Ok(Found::Blank) };
    let index = usize::from(record.index);
    let is_of_set = record == DriveRecord::of(set, database, index) && index < set.layout.shards();
    Ok(if is_of_set { Found::Known(index) } else { Found::Blank })
}

/// Which drives a folder says it is: one for each set that uses it.
pub(crate) fn records(path: &Path) -> Vec<DriveRecord> {
    let folders = os::list_folders(path).unwrap_or_default();
    let of_set = |name: &String| {
        let bytes = os::read_file(&record_path(&path.join(name))).unwrap_or_default();
        bytes.as_deref().and_then(DriveRecord::decode)
    };
    folders.iter().filter(|name| name.starts_with("set-")).filter_map(of_set).collect()
}

/// Fails when a drive of another database is in the folder.
fn check_owner(path: &Path, database: Uuid) -> Result<()> {
    match records(path).iter().find(|record| record.database != database) {
        Some(record) => {
            let what = format!(
                "{} holds a drive of another database, {}: give another folder, or remove set-{} there if that database \
                 is not needed any more",
                path.display(),
                record.database,
                record.set
            );
            Err(Error::new(ErrorKind::Invalid, what))
        }
        None => Ok(()),
    }
}

/// A drive in its role.
pub(crate) struct Drive {
    /// As it was given.
    pub(crate) path: PathBuf,
    /// Where its shards are.
    pub(crate) folder: PathBuf,
    record: DriveRecord,
    /// When something on it failed last, in milliseconds by [`os::uptime`]; 0: never.
    failed_at: AtomicU64,
}

impl Drive {
    pub(crate) fn new(path: &Path, set: &SetRecord, database: Uuid, index: usize) -> Drive {
        Drive {
            path: path.to_owned(),
            folder: set_folder(path, set.number),
            record: DriveRecord::of(set, database, index),
            failed_at: AtomicU64::new(0),
        }
    }

    /// Makes the folder the drive of this role. The folder that was given must be there: else files were written to where the drive is to be
    /// mounted.
    pub(crate) fn adopt(&self, staging_name: &str) -> Result<()> {
        if !os::is_folder(&self.path) {
            return Err(Error::missing(&self.path));
        }
        os::create_folder(&self.staging())?;
        let staged = self.staging().join(staging_name);
        os::remove(&staged)?;
        os::write_durably(&self.folder, "DRIVE", &staged, &self.record.encode())
    }

    /// True when the drive is here, in its role.
    pub(crate) fn is_here(&self) -> bool {
        let bytes = os::read_file(&record_path(&self.folder)).unwrap_or_default();
        bytes.as_deref().and_then(DriveRecord::decode) == Some(self.record)
    }

    /// Where files are written before they get their names.
    pub(crate) fn staging(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    pub(crate) fn fail(&self) {
        self.failed_at.store((os::uptime().as_millis() as u64).max(1), Ordering::Relaxed);
    }

    /// It did not fail when it was tried again.
    pub(crate) fn work(&self) {
        self.failed_at.store(0, Ordering::Relaxed);
    }

    /// True when it failed so lately that it is not tried again.
    pub(crate) fn rests(&self) -> bool {
        let failed_at = Duration::from_millis(self.failed_at.load(Ordering::Relaxed));
        failed_at > Duration::ZERO && os::uptime().saturating_sub(failed_at) < REST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_of_a_drive_record_is_noticed() {
        let record = DriveRecord { database: Uuid::from_u128(5), set: 1, index: 2, data: 3, parity: 4 };
        let bytes = record.encode();
        assert_eq!(bytes.len(), RECORD_LEN);
        assert_eq!(DriveRecord::decode(&bytes), Some(record));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(DriveRecord::decode(&damaged), None, "{index}");
        }
    }
}
