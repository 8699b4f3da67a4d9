//! A set of drives: what the database keeps of it, and what is open of it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::codec::Restorer;
use super::drive::Drive;
use super::layout::Layout;
use super::shard::ShardName;
use crate::bytes::{Put, Reader, is_intact};
use crate::os;
use crate::segment::SegmentId;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"SOPSET\r\n";
const VERSION: u32 = 1;
/// Units that had to be restored are kept up to so many bytes: a scan reads a unit many times.
const RESTORED_BYTES: u64 = 16 << 20;

/// What the file `set/<n>` says. It is made once and never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetRecord {
    pub(crate) number: u8,
    pub(crate) store: String,
    pub(crate) layout: Layout,
}

impl SetRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u8(self.number);
        out.put_u8(self.layout.data as u8);
        out.put_u8(self.layout.parity as u8);
        out.put_u32(self.layout.unit as u32);
        out.put_bytes(self.store.as_bytes());
        out.put_u32(crc32fast::hash(&out));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<SetRecord> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if !is_intact(body, Reader::new(crc).u32()?) {
            return None;
        }
        let mut reader = Reader::new(body);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let number = reader.u8()?;
        let (data, parity) = (usize::from(reader.u8()?), usize::from(reader.u8()?));
        let layout = Layout { data, parity, unit: u64::from(reader.u32()?) };
        let store = String::from_utf8(reader.bytes()?.to_vec()).ok()?;
        let is_possible =
            number > 0 && data > 0 && parity > 0 && layout.unit > 0 && layout.unit.is_multiple_of(64);
        (is_possible && reader.is_empty()).then_some(SetRecord { number, store, layout })
    }

    /// Reads a file; None when there is none.
    pub(crate) fn load(folder: &Path, number: u8) -> Result<Option<SetRecord>> {
        let path = folder.join(number.to_string());
        let Some(bytes) = os::read_file(&path)? else { return Ok(None) };
        match SetRecord::decode(&bytes).filter(|record| record.number == number) {
            Some(record) => Ok(Some(record)),
            None => Err(Error::corrupt(&path, 0, "the description of a set of drives")),
        }
    }
}

/// The stores that a set is for, in messages.
pub(super) fn describe(store: &str) -> String {
    if store.is_empty() { "all stores".to_owned() } else { format!("store {store:?}") }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<(SegmentId, u64), Arc<[u8]>> for Bytes {
    fn weight(&self, _: &(SegmentId, u64), unit: &Arc<[u8]>) -> u64 {
        unit.len() as u64 + 64
    }
}

/// What becomes of shards that a read finds missing or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterReads {
    /// They stay so until a repair.
    Leave,
    /// They are written anew, once.
    Repair,
}

/// A set whose drives were found.
pub(crate) struct Set {
    pub(crate) record: SetRecord,
    /// By index.
    pub(crate) drives: Vec<Drive>,
    pub(crate) after_reads: AfterReads,
    /// First half of the names of staged files.
    pub(crate) owner: u64,
    /// Units that could not be read and were restored from others.
    restored: Cache<(SegmentId, u64), Arc<[u8]>, Bytes>,
    /// The last one that was used: as a rule the same drives are missing again.
    restorer: Mutex<Option<Arc<Restorer>>>,
    /// Shards that were written anew after a read, or could not be: once is enough.
    tried: Mutex<HashSet<ShardName>>,
}

impl Set {
    pub(crate) fn new(record: SetRecord, drives: Vec<Drive>, after_reads: AfterReads, owner: u64) -> Set {
        let units = RESTORED_BYTES / record.layout.unit.max(1);
        let restored = Cache::with_weighter(units as usize, RESTORED_BYTES, Bytes);
        Set {
            record,
            drives,
            after_reads,
            owner,
            restored,
            restorer: Mutex::default(),
            tried: Mutex::default(),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.record.layout
    }

    /// A restored unit, by its number in the segment.
    pub(crate) fn restored(&self, segment: SegmentId, unit: u64) -> Option<Arc<[u8]>> {
        self.restored.get(&(segment, unit))
    }

    pub(crate) fn keep_restored(&self, segment: SegmentId, unit: u64, bytes: Arc<[u8]>) {
        self.restored.insert((segment, unit), bytes);
    }

    /// How the `wanted` shards follow from the `sources`.
    pub(crate) fn restorer(&self, sources: &[usize], wanted: &[usize]) -> Result<Arc<Restorer>> {
        let mut last = self.restorer.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref().filter(|last| last.is_for(sources, wanted)) {
            Some(known) => Ok(Arc::clone(known)),
            None => {
                let made = Arc::new(Restorer::new(self.layout(), sources, wanted)?);
                Ok(Arc::clone(last.insert(made)))
            }
        }
    }

    /// True the first time it is asked for a shard.
    pub(crate) fn is_first_try(&self, shard: ShardName) -> bool {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(shard)
    }

    /// Where a shard is. None: there is no such drive.
    pub(crate) fn shard_path(&self, shard: ShardName) -> Option<PathBuf> {
        Some(self.drives.get(shard.index)?.folder.join(shard.file_name()))
    }

    /// Adds the segments of which there are shards, and the bytes of these. Drives that cannot be listed are left out.
    pub(crate) fn list(&self, segments: &mut BTreeMap<SegmentId, u64>) {
        for drive in &self.drives {
            for (name, bytes) in os::list(&drive.folder).unwrap_or_default() {
                let name = ShardName::from_file_name(&name);
                if let Some(id) = name.map(|name| name.segment).filter(|id| id.set() == self.record.number) {
                    *segments.entry(id).or_default() += bytes;
                }
            }
        }
    }

    /// Removes the shards of a segment from the drives that work. Elsewhere they stay until they are swept.
    pub(crate) fn remove(&self, id: SegmentId) {
        for index in 0..self.layout().shards() {
            if let Some(path) = self.shard_path(ShardName { segment: id, index }) {
                let _ = os::remove(&path);
            }
        }
    }

    /// Files that processes stage on the drives, with the process that did.
    pub(crate) fn staged(&self) -> Vec<(u64, PathBuf)> {
        let mut staged = Vec::new();
        for drive in &self.drives {
            staged.extend(os::staged_files(&drive.staging()).unwrap_or_default());
        }
        staged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_of_a_set_record_is_noticed() {
        let layout = Layout { data: 3, parity: 2, unit: 4096 };
        let record = SetRecord { number: 7, store: "users".to_owned(), layout };
        let bytes = record.encode();
        assert_eq!(SetRecord::decode(&bytes), Some(record));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(SetRecord::decode(&damaged), None, "{index}");
        }
    }
}
