//! Segments: immutable files of pages and values, written once under a name that is never used again.
//!
//! A segment is a header, blobs one after the other, an index of the blobs (kind, offset, length, key) and a trailer.
//! Whoever refers to a blob holds its [`BlobRef`]: name, offset, length and CRC-32 of its stored form, so every read is checked
//! against what was written, and a read that went to the wrong place is noticed. The index serves garbage collection only.

pub(crate) mod index;
mod packing;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::bytes::{Put, Reader, is_intact};
use crate::coded::{CodedSegment, NOT_CODED, Sets, ShardName};
use crate::copies::Copies;
use crate::os::{self, File};
use crate::{BlobRef, Error, ErrorKind, Result};

pub(crate) use writer::SegmentWriter;

/// Name of a segment: the random id of the process that wrote it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId {
    pub(crate) owner: u64,
    pub(crate) number: u64,
}

impl SegmentId {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.put_u64(self.owner);
        out.put_u64(self.number);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<SegmentId> {
        Some(SegmentId { owner: reader.u64()?, number: reader.u64()? })
    }

    /// The set of drives over which it is spread, [`NOT_CODED`] when it is a file: the highest byte of its number.
    pub(crate) fn set(self) -> u8 {
        (self.number >> SET_SHIFT) as u8
    }

    /// The id in a file name `<owner>-<number>.seg`.
    pub(crate) fn from_file_name(name: &str) -> Option<SegmentId> {
        SegmentId::from_name(name.strip_suffix(".seg")?)
    }

    /// The id in `<owner>-<number>`.
    pub(crate) fn from_name(name: &str) -> Option<SegmentId> {
        let (owner, number) = name.split_once('-')?;
        Some(SegmentId {
            owner: u64::from_str_radix(owner, 16).ok()?,
            number: u64::from_str_radix(number, 16).ok()?,
        })
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.owner, self.number)
    }
}

impl BlobRef {
    /// Encoded size: segment 16, offset 4, length 4, stored length 4, CRC 4.
    pub(crate) const ENCODED_LEN: usize = 32;

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.segment.put(out);
        // Segments are closed long before 4 GiB.
        out.put_u32(self.offset as u32);
        out.put_u32(self.len);
        out.put_u32(self.stored_len);
        out.put_u32(self.crc);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<BlobRef> {
        Some(BlobRef {
            segment: SegmentId::read(reader)?,
            offset: u64::from(reader.u32()?),
            len: reader.u32()?,
            stored_len: reader.u32()?,
            crc: reader.u32()?,
        })
    }
}

/// Where in the number of a segment that of its set begins.
const SET_SHIFT: u32 = 56;

const HEADER_MAGIC: &[u8; 8] = b"SOPSEG\r\n";
pub(crate) const TRAILER_MAGIC: &[u8; 8] = b"SOPSEGIX";
const VERSION: u32 = 1;
/// magic 8, version 4, id 16, crc 4.
pub(crate) const HEADER_LEN: u64 = 32;
/// index offset 8, index length 8, index crc 4, magic 8.
pub(crate) const TRAILER_LEN: u64 = 28;
/// A segment is closed once it holds this much.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;
/// Blobs are gathered up to this size before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// Files kept open for reading.
const OPEN_FILES_MAX: u64 = 256;

/// What a blob is; only the index records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BlobKind {
    Page,
    Value,
}

/// A segment, open for reading.
#[derive(Clone)]
pub(crate) enum SegmentFile {
    /// One file.
    Plain(Arc<File>),
    /// Spread over drives.
    Coded(Arc<CodedSegment>),
}

impl SegmentFile {
    /// Its file, or the one in which it begins.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            SegmentFile::Plain(file) => file.path().to_owned(),
            SegmentFile::Coded(segment) => segment.path(0),
        }
    }

    pub(crate) fn len(&self) -> Result<u64> {
        match self {
            SegmentFile::Plain(file) => file.len(),
            SegmentFile::Coded(segment) => segment.len(),
        }
    }

    /// Fills `bytes` with what is at `offset`, which is damaged unless `is_right`. Of one that is spread over drives it is restored then.
    pub(crate) fn read_at(
        &self,
        bytes: &mut [u8],
        offset: u64,
        is_right: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        match self {
            SegmentFile::Plain(file) => {
                file.read_exact_at(bytes, offset)?;
                match is_right(bytes) {
                    true => Ok(()),
                    false => {
                        let what = format!("checksum of {} bytes", bytes.len());
                        Err(Error::corrupt(file.path(), offset, what))
                    }
                }
            }
            SegmentFile::Coded(segment) => segment.read_at(bytes, offset, is_right),
        }
    }

    /// Fills `bytes` with what is at `offset`. Of one that is spread over drives all that is touched is checked.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        match self {
            SegmentFile::Plain(file) => file.read_exact_at(bytes, offset),
            SegmentFile::Coded(segment) => segment.read_whole_units_at(bytes, offset),
        }
    }
}

#[derive(Clone)]
struct OpenFiles;

impl Weighter<SegmentId, SegmentFile> for OpenFiles {
    fn weight(&self, _: &SegmentId, file: &SegmentFile) -> u64 {
        match file {
            SegmentFile::Plain(_) => 1,
            SegmentFile::Coded(segment) => segment.layout().shards() as u64,
        }
    }
}

/// The segments of one database.
pub(crate) struct Segments {
    folder: PathBuf,
    /// First half of the names this process gives.
    owner: u64,
    next_number: AtomicU64,
    files: Cache<SegmentId, SegmentFile, OpenFiles>,
    /// Files that stay open, and so readable whoever removes them.
    held: HashMap<SegmentId, SegmentFile>,
    has_pin: bool,
    sets: Sets,
    /// Where the database is several folders: then there are no files in `folder`.
    copies: Option<Arc<Copies>>,
    /// Coded segments that are being written: their last bytes are in memory only.
    unsealed: Mutex<HashMap<SegmentId, Weak<CodedSegment>>>,
}

/// How many files of segments are kept open: no more than a fair share of what the process may open.
pub(crate) fn open_files_max() -> usize {
    (os::open_files_limit() / 4).clamp(16, OPEN_FILES_MAX) as usize
}

impl Segments {
    pub(crate) fn new(folder: PathBuf, owner: u64) -> Segments {
        let files = Cache::with_weighter(open_files_max(), open_files_max() as u64, OpenFiles);
        Segments {
            folder,
            owner,
            next_number: AtomicU64::new(1),
            files,
            held: HashMap::new(),
            has_pin: true,
            sets: Sets::default(),
            copies: None,
            unsealed: Mutex::default(),
        }
    }

    /// For a process that cannot tell others what it reads: a segment that is gone may have been removed by a checkpoint.
    pub(crate) fn without_pin(self) -> Segments {
        Segments { has_pin: false, ..self }
    }

    /// With the drives over which some segments are spread.
    pub(crate) fn with_sets(self, sets: Sets) -> Segments {
        Segments { sets, ..self }
    }

    /// With a file on each copy of those that are not.
    pub(crate) fn with_copies(self, copies: Arc<Copies>) -> Segments {
        Segments { copies: Some(copies), ..self }
    }

    pub(crate) fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Opens a segment to stay open. False when it is not there.
    pub(crate) fn hold(&mut self, id: SegmentId) -> Result<bool> {
        let file = match self.open(id) {
            Err(error) if error.is_missing_file() => return Ok(false),
            opened => opened?,
        };
        if let SegmentFile::Coded(segment) = &file
            && !segment.hold()?
        {
            return Ok(false);
        }
        self.held.insert(id, file);
        Ok(true)
    }

    /// Gives one of the files held open back.
    pub(crate) fn release(&mut self, id: SegmentId) {
        self.held.remove(&id);
    }

    /// Where segments are that are not spread over drives.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// For messages: of a segment that is spread over drives, where it begins.
    pub(crate) fn path(&self, id: SegmentId) -> PathBuf {
        let shard = ShardName { segment: id, index: 0 };
        let coded = self.sets.get(id.set()).and_then(|set| set.shard_path(shard));
        coded.unwrap_or_else(|| self.plain_path(id))
    }

    fn plain_path(&self, id: SegmentId) -> PathBuf {
        self.folder.join(file_name(id))
    }

    /// A name that no file of this database has or had.
    pub(crate) fn new_id(&self) -> SegmentId {
        self.new_id_in(NOT_CODED)
    }

    fn new_id_in(&self, set: u8) -> SegmentId {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        SegmentId { owner: self.owner, number: u64::from(set) << SET_SHIFT | number }
    }

    /// Names and bytes of all segments that are there, on drives that can be read at least.
    pub(crate) fn list(&self) -> Result<BTreeMap<SegmentId, u64>> {
        let mut segments = BTreeMap::new();
        for (name, bytes) in self.list_files()? {
            segments.extend(SegmentId::from_file_name(&name).map(|id| (id, bytes)));
        }
        for set in self.sets.iter() {
            set.list(&mut segments);
        }
        Ok(segments)
    }

    fn list_files(&self) -> Result<Vec<(String, u64)>> {
        let Some(copies) = &self.copies else { return os::list(&self.folder) };
        let all = Mutex::new(Vec::new());
        copies.on_members(|copy| {
            let files = os::list(&copy.segments())?;
            all.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
            Ok(())
        })?;
        Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn open_file(&self, id: SegmentId) -> Result<Option<File>> {
        match &self.copies {
            None => File::open(&self.plain_path(id)),
            Some(copies) => copies.find(|copy| File::open(&copy.segments().join(file_name(id)))),
        }
    }

    /// A blob of a segment that cannot be read where it is open, from another copy.
    fn read_elsewhere(&self, blob: &BlobRef, failed: Error) -> Result<Vec<u8>> {
        let Some(copies) = self.copies.as_ref().filter(|_| self.sets.get(blob.segment.set()).is_none())
        else {
            return Err(failed);
        };
        self.files.remove(&blob.segment);
        for copy in copies.members() {
            let Ok(Some(file)) = File::open(&copy.segments().join(file_name(blob.segment))) else { continue };
            let mut bytes = vec![0; blob.stored_len as usize];
            if file.read_exact_at(&mut bytes, blob.offset).is_ok() && is_intact(&bytes, blob.crc) {
                return Ok(bytes);
            }
        }
        Err(failed)
    }

    /// The file of a segment.
    pub(crate) fn file(&self, id: SegmentId) -> Result<SegmentFile> {
        if let Some(file) = self.held.get(&id) {
            return Ok(file.clone());
        }
        self.files.get_or_insert_with(&id, || self.open(id))
    }

    fn open(&self, id: SegmentId) -> Result<SegmentFile> {
        if let Some(set) = self.sets.get(id.set()) {
            let unsealed = self.lock_unsealed().get(&id).and_then(Weak::upgrade);
            let segment = unsealed.unwrap_or_else(|| Arc::new(CodedSegment::new(set, id)));
            return Ok(SegmentFile::Coded(segment));
        }
        let path = self.plain_path(id);
        match self.open_file(id)? {
            Some(file) => Ok(SegmentFile::Plain(Arc::new(file))),
            // Another process opened the database with a set that this one was not given.
            None if id.set() != NOT_CODED => {
                let what = format!(
                    "segment {id} lies on drives of erasure coding that came later: open the database again, with it"
                );
                Err(Error::missing(&path).with_message(what))
            }
            None if self.has_pin => Err(Error::missing(&path)),
            None => {
                let what =
                    format!("{} is gone, with what this transaction reads: begin it again", path.display());
                Err(Error::new(ErrorKind::SnapshotTooOld, what))
            }
        }
    }

    fn lock_unsealed(&self) -> MutexGuard<'_, HashMap<SegmentId, Weak<CodedSegment>>> {
        self.unsealed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a blob, checked.
    pub(crate) fn read(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        self.unpack(blob, self.read_stored(blob)?)
    }

    /// The bytes of a blob as they are stored, checked.
    pub(crate) fn read_stored(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        self.read_file(blob).or_else(|error| self.read_elsewhere(blob, error))
    }

    fn read_file(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        let file = self.file(blob.segment)?;
        // A length that damage made large is not worth that much memory.
        let is_large = blob.stored_len as usize > BUFFER_BYTES;
        if is_large && blob.offset.saturating_add(u64::from(blob.stored_len)) > file.len()? {
            return Err(Error::corrupt(&file.path(), blob.offset, "a value ends behind the file"));
        }
        let mut bytes = vec![0; blob.stored_len as usize];
        file.read_at(&mut bytes, blob.offset, |bytes| is_intact(bytes, blob.crc))?;
        Ok(bytes)
    }

    /// The bytes of a blob, of those that are stored.
    pub(crate) fn unpack(&self, blob: &BlobRef, stored: Vec<u8>) -> Result<Vec<u8>> {
        packing::unpack(stored, blob.len).ok_or_else(|| {
            let path = self.path(blob.segment);
            Error::corrupt(&path, blob.offset, "what is stored is no page or value")
        })
    }

    /// A part of a blob that is stored as it is, as much of it as the blob has. Unchecked: the checksum is of the whole.
    pub(crate) fn read_part(
        &self,
        blob: &BlobRef,
        offset: usize,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let offset = offset.min(blob.len as usize);
        out.resize(len.min(blob.len as usize - offset), 0);
        self.file(blob.segment)?.read_at(out, blob.offset + offset as u64, |_| true)
    }

    /// Length of a segment's file.
    pub(crate) fn len(&self, id: SegmentId) -> Result<u64> {
        self.file(id)?.len()
    }

    /// Closes the files of segments that are not kept; those still read are opened again.
    pub(crate) fn close_others(&self, keep: impl Fn(&SegmentId) -> bool) {
        self.files.retain(|id, _| keep(id));
    }

    /// Of a segment that is spread over drives what is on a drive that fails stays, until it is swept as something that nobody knows.
    pub(crate) fn remove(&self, id: SegmentId) -> Result<()> {
        self.files.remove(&id);
        match self.sets.get(id.set()) {
            Some(set) => {
                set.remove(id);
                Ok(())
            }
            None => match &self.copies {
                None => os::remove(&self.plain_path(id)),
                Some(copies) => copies.on_members(|copy| os::remove(&copy.segments().join(file_name(id)))),
            },
        }
    }
}

fn file_name(id: SegmentId) -> String {
    format!("{id}.seg")
}

pub(crate) fn encode_header(id: SegmentId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN as usize);
    out.extend_from_slice(HEADER_MAGIC);
    out.put_u32(VERSION);
    id.put(&mut out);
    out.put_u32(crc32fast::hash(&out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::faults::{self, Fault, Faults};

    #[test]
    fn blobs_come_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::new(folder.path().to_owned(), 7));
        let mut writer = SegmentWriter::new(&segments);
        let small = writer.add(BlobKind::Value, b"a", b"hello").unwrap();
        let large = writer.add(BlobKind::Value, b"b", &vec![7; 3 << 20]).unwrap();
        assert_eq!(writer.read(&small).unwrap(), b"hello");
        let files = writer.finish().unwrap();
        assert_eq!(files, vec![(small.segment, u64::from(small.stored_len + large.stored_len))]);
        assert_eq!(segments.read(&large).unwrap(), vec![7; 3 << 20]);
        assert_eq!(segments.index_keys(small.segment).unwrap(), vec![b"a".to_vec(), b"b".to_vec()]);
        let name = segments.path(small.segment);
        assert_eq!(
            SegmentId::from_file_name(name.file_name().unwrap().to_str().unwrap()),
            Some(small.segment)
        );
        let file = File::open_or_create(&name).unwrap();
        file.write_all_at(b"J", small.offset).unwrap();
        assert_eq!(segments.read(&small).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn pages_do_not_keep_the_space_of_values_nor_values_that_of_pages() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::new(folder.path().to_owned(), 7));
        let mut writer = SegmentWriter::new(&segments);
        let blobs = [BlobKind::Page, BlobKind::Value, BlobKind::Page, BlobKind::Value]
            .map(|kind| writer.add(kind, b"a", b"hello").unwrap());
        assert!(blobs.iter().all(|blob| writer.read(blob).unwrap() == b"hello"), "not flushed yet");
        let [page, value, next_page, next_value] = blobs.map(|blob| blob.segment);
        assert_eq!((page, value), (next_page, next_value));
        assert_ne!(page, value);
        assert_eq!(writer.finish().unwrap(), [(page, 10), (value, 10)]);
        assert!(blobs.iter().all(|blob| segments.read(blob).unwrap() == b"hello"));
    }

    #[test]
    fn a_reference_behind_the_file_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::new(folder.path().to_owned(), 7));
        let mut writer = SegmentWriter::new(&segments);
        let blob = writer.add(BlobKind::Value, b"a", b"hello").unwrap();
        writer.finish().unwrap();
        for damaged in [BlobRef { stored_len: u32::MAX, ..blob }, BlobRef { offset: u64::MAX, ..blob }] {
            assert_eq!(segments.read(&damaged).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn an_unfinished_writer_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::new(folder.path().to_owned(), 7));
        let mut writer = SegmentWriter::new(&segments);
        writer.add(BlobKind::Page, b"a", b"hello").unwrap();
        writer.add(BlobKind::Value, b"a", b"hello").unwrap();
        drop(writer);
        assert!(os::list(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_writer_whose_file_could_not_be_sealed_stores_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::new(folder.path().to_owned(), 7));
        let mut writer = SegmentWriter::new(&segments);
        let blob = writer.add(BlobKind::Value, b"a", b"hello").unwrap();
        // Cannot be written: stands for a disk that is full or fails for a while.
        let path = segments.path(blob.segment);
        faults::set(&path, Faults { only: None, after: 0, count: 1, fault: Fault::Error(28) });
        writer.seal((NOT_CODED, BlobKind::Value)).unwrap_err();
        faults::forget(&path);
        writer.add(BlobKind::Value, b"b", b"again").unwrap_err();
        writer.add(BlobKind::Page, b"b", b"nor a page").unwrap_err();
        writer.finish().unwrap_err();
        assert!(os::list(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn files_of_segments_that_are_gone_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::new(folder.path().to_owned(), 7));
        let mut blobs = Vec::new();
        for _ in 0..2 {
            let mut writer = SegmentWriter::new(&segments);
            blobs.push(writer.add(BlobKind::Value, b"a", b"hello").unwrap());
            writer.finish().unwrap();
        }
        for blob in &blobs {
            segments.read(blob).unwrap();
        }
        segments.close_others(|id| *id == blobs[0].segment);
        assert_eq!(segments.files.len(), 1);
        assert_eq!(segments.read(&blobs[1]).unwrap(), b"hello", "opened again");
    }
}
