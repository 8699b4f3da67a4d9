//! Segments: immutable files of pages and values, written once under a name that is never used again.
//!
//! A segment is a header, blobs one after the other, an index of the blobs (kind, offset, length, key) and a trailer.
//! Whoever refers to a blob holds its [`BlobRef`]: name, offset, length and CRC-32 of its stored form, so every read is checked
//! against what was written, and a read that went to the wrong place is noticed. The index serves garbage collection only.

pub(crate) mod index;
mod packing;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use crate::bytes::{Put, Reader, is_intact};
use crate::os::{self, File};
use crate::planted::{Bug, is_planted};
use crate::{BlobRef, Error, ErrorKind, Result};

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

    /// The id in a file name `<owner>-<number>.seg`.
    pub(crate) fn from_file_name(name: &str) -> Option<SegmentId> {
        let (owner, number) = name.strip_suffix(".seg")?.split_once('-')?;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlobKind {
    Page,
    Value,
}

/// The segment files of one database folder.
pub(crate) struct Segments {
    folder: PathBuf,
    /// First half of the names this process gives.
    owner: u64,
    next_number: AtomicU64,
    files: Cache<SegmentId, Arc<File>>,
    /// Files that stay open, and so readable whoever removes them.
    held: HashMap<SegmentId, Arc<File>>,
    has_pin: bool,
}

/// How many segments are kept open: no more than a fair share of what the process may open.
pub(crate) fn open_files_max() -> usize {
    (os::open_files_limit() / 4).clamp(16, OPEN_FILES_MAX) as usize
}

impl Segments {
    pub(crate) fn new(folder: PathBuf, owner: u64) -> Segments {
        let files = Cache::new(open_files_max());
        let (next_number, held) = (AtomicU64::new(1), HashMap::new());
        Segments { folder, owner, next_number, files, held, has_pin: true }
    }

    /// For a process that cannot tell others what it reads: a segment that is gone may have been removed by a checkpoint.
    pub(crate) fn without_pin(self) -> Segments {
        Segments { has_pin: false, ..self }
    }

    /// Opens a segment to stay open. False when its file is not there.
    pub(crate) fn hold(&mut self, id: SegmentId) -> Result<bool> {
        let Some(file) = File::open(&self.path(id))? else { return Ok(false) };
        self.held.insert(id, Arc::new(file));
        Ok(true)
    }

    /// Gives one of the files held open back.
    pub(crate) fn release(&mut self, id: SegmentId) {
        self.held.remove(&id);
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, id: SegmentId) -> PathBuf {
        self.folder.join(format!("{id}.seg"))
    }

    /// A name that no file of this database has or had.
    pub(crate) fn new_id(&self) -> SegmentId {
        SegmentId { owner: self.owner, number: self.next_number.fetch_add(1, Ordering::Relaxed) }
    }

    /// The file of a segment.
    pub(crate) fn file(&self, id: SegmentId) -> Result<Arc<File>> {
        if let Some(file) = self.held.get(&id) {
            return Ok(Arc::clone(file));
        }
        self.files.get_or_insert_with(&id, || {
            let path = self.path(id);
            match File::open(&path)? {
                Some(file) => Ok(Arc::new(file)),
                None if self.has_pin => Err(Error::missing(&path)),
                None => {
                    let what = format!(
                        "{} is gone, with what this transaction reads: begin it again",
                        path.display()
                    );
                    Err(Error::new(ErrorKind::SnapshotTooOld, what))
                }
            }
        })
    }

    /// The bytes of a blob, checked.
    pub(crate) fn read(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        self.unpack(blob, self.read_stored(blob)?)
    }

    /// The bytes of a blob as they are stored, checked.
    pub(crate) fn read_stored(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        let file = self.file(blob.segment)?;
        // A length that damage made large is not worth that much memory.
        let is_large = blob.stored_len as usize > BUFFER_BYTES;
        if is_large && blob.offset.saturating_add(u64::from(blob.stored_len)) > file.len()? {
            return Err(Error::corrupt(file.path(), blob.offset, "a value ends behind the file"));
        }
        let mut bytes = vec![0; blob.stored_len as usize];
        file.read_exact_at(&mut bytes, blob.offset)?;
        if !is_intact(&bytes, blob.crc) {
            let what = format!("checksum of {} bytes", blob.stored_len);
            return Err(Error::corrupt(file.path(), blob.offset, what));
        }
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
        self.file(blob.segment)?.read_exact_at(out, blob.offset + offset as u64)
    }

    /// Length of a segment's file.
    pub(crate) fn len(&self, id: SegmentId) -> Result<u64> {
        self.file(id)?.len()
    }

    /// Closes the files of segments that are not kept; those still read are opened again.
    pub(crate) fn close_others(&self, keep: impl Fn(&SegmentId) -> bool) {
        self.files.retain(|id, _| keep(id));
    }

    pub(crate) fn remove(&self, id: SegmentId) -> Result<()> {
        self.files.remove(&id);
        os::remove(&self.path(id))
    }
}

pub(crate) fn encode_header(id: SegmentId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN as usize);
    out.extend_from_slice(HEADER_MAGIC);
    out.put_u32(VERSION);
    id.put(&mut out);
    out.put_u32(crc32fast::hash(&out));
    out
}

/// Writes blobs to new segments, one file after the other. Until [`SegmentWriter::finish`] returned, nothing may refer
/// to them; dropped before that, the files are removed.
///
/// Pages and values go to files of their own: most pages are soon written anew and most values never, so that a file of either is garbage as a whole
/// or hardly at all.
pub(crate) struct SegmentWriter {
    segments: Arc<Segments>,
    pages: Option<OpenSegment>,
    values: Option<OpenSegment>,
    finished: Vec<(SegmentId, u64)>,
    generation: u32,
    complete: bool,
    /// A file could not be sealed: what was added to it may never become durable, as a sync is not to be tried twice.
    failed: Option<Error>,
}

struct OpenSegment {
    id: SegmentId,
    file: File,
    /// Offset in the file at which `buffer` begins.
    written: u64,
    buffer: Vec<u8>,
    blob_bytes: u64,
    index: Vec<u8>,
}

impl OpenSegment {
    fn create(segments: &Segments) -> Result<OpenSegment> {
        let id = segments.new_id();
        let file = File::create_new(&segments.path(id))?;
        let buffer = encode_header(id);
        Ok(OpenSegment { id, file, written: 0, buffer, blob_bytes: 0, index: Vec::new() })
    }

    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn add(&mut self, kind: BlobKind, key: &[u8], bytes: &[u8]) -> Result<BlobRef> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| Error::new(ErrorKind::Invalid, "a value is larger than 4 GiB"))?;
        let (offset, start) = (self.end(), self.buffer.len());
        let crc = if packing::pack_shorter(bytes, &mut self.buffer) {
            crc32fast::hash(self.buffer.get(start..).unwrap_or_default())
        } else {
            self.add_raw(bytes)?;
            crc32fast::hash(bytes)
        };
        let stored_len = (self.end() - offset) as u32;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        self.blob_bytes += u64::from(stored_len);
        index::put_entry(kind, offset, stored_len, key, &mut self.index);
        Ok(BlobRef { segment: self.id, offset, len, stored_len, crc })
    }

    fn add_raw(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        let trailer = index::Trailer {
            index_offset: self.end(),
            index_len: self.index.len() as u64,
            index_crc: crc32fast::hash(&self.index),
        };
        self.buffer.append(&mut self.index);
        trailer.put(&mut self.buffer);
        self.flush()?;
        if is_planted(Bug::NameSegmentBeforeSync) {
            return Ok(());
        }
        self.file.sync()
    }
}

impl SegmentWriter {
    pub(crate) fn new(segments: &Arc<Segments>) -> SegmentWriter {
        SegmentWriter {
            segments: Arc::clone(segments),
            pages: None,
            values: None,
            finished: Vec::new(),
            generation: os::process_generation(),
            complete: false,
            failed: None,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.segments.folder()
    }

    pub(crate) fn add(&mut self, kind: BlobKind, key: &[u8], bytes: &[u8]) -> Result<BlobRef> {
        if self.failed.is_some() || self.open(kind).as_ref().is_some_and(|open| open.end() >= SEGMENT_BYTES) {
            self.seal(kind)?;
        }
        if self.open(kind).is_none() {
            *self.open(kind) = Some(OpenSegment::create(&self.segments)?);
        }
        let open = self.open(kind).as_mut();
        open.ok_or_else(|| Error::new(ErrorKind::Internal, "a segment is not open"))?.add(kind, key, bytes)
    }

    fn open(&mut self, kind: BlobKind) -> &mut Option<OpenSegment> {
        match kind {
            BlobKind::Page => &mut self.pages,
            BlobKind::Value => &mut self.values,
        }
    }

    /// A blob, which may be one of this writer's that is still in memory.
    pub(crate) fn read(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        if let Some(open) = self.pages.iter().chain(&self.values).find(|open| open.id == blob.segment)
            && let Some(start) = blob.offset.checked_sub(open.written)
        {
            let start = start as usize;
            let stored = open.buffer.get(start..start + blob.stored_len as usize);
            return stored
                .and_then(|stored| packing::unpack(stored.to_vec(), blob.len))
                .ok_or_else(|| Error::new(ErrorKind::Internal, "a value is not where its writer put it"));
        }
        self.segments.read(blob)
    }

    /// Makes all that was added readable through [`Segments::read`]; not durable.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.pages.iter_mut().chain(&mut self.values).try_for_each(OpenSegment::flush)
    }

    fn seal(&mut self, kind: BlobKind) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(open) = self.open(kind) else { return Ok(()) };
        let (sealed, finished) = (open.seal(), (open.id, open.blob_bytes));
        sealed.inspect_err(|error| self.failed = Some(error.clone()))?;
        *self.open(kind) = None;
        self.finished.push(finished);
        Ok(())
    }

    /// Makes all files and their names durable. Gives each file's name and bytes of blobs.
    pub(crate) fn finish(mut self) -> Result<Vec<(SegmentId, u64)>> {
        self.seal(BlobKind::Value)?;
        self.seal(BlobKind::Page)?;
        if !self.finished.is_empty() {
            os::sync_folder(self.segments.folder())?;
        }
        self.complete = true;
        Ok(std::mem::take(&mut self.finished))
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if self.complete || self.generation != os::process_generation() {
            return;
        }
        let open = [self.values.take(), self.pages.take()].into_iter().flatten().map(|open| open.id);
        for id in self.finished.iter().map(|(id, _)| *id).chain(open) {
            // An orphan that cannot be removed now is swept once this process is gone.
            let _ = self.segments.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(writer.finish().unwrap(), [(value, 10), (page, 10)]);
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
        writer.add(BlobKind::Value, b"a", b"hello").unwrap();
        let open = writer.values.as_mut().unwrap();
        // Cannot be written: stands for a disk that is full or fails for a while.
        let refusing = File::open(&segments.path(open.id)).unwrap().unwrap();
        let writable = std::mem::replace(&mut open.file, refusing);
        writer.seal(BlobKind::Value).unwrap_err();
        writer.values.as_mut().unwrap().file = writable;
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
