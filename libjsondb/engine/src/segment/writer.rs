//! Writing segments: blobs in, files out that nobody may refer to before they are durable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{
    BUFFER_BYTES, BlobKind, SEGMENT_BYTES, SegmentId, Segments, encode_header, file_name, index, packing,
};
use crate::coded::{self, CodedWriter, Layout, Shards};
use crate::copies::segment::CopiedSegment;
use crate::os::{self, File};
use crate::planted::{Bug, is_planted};
use crate::{BlobRef, Error, ErrorKind, Result};

/// Writes blobs to new segments, one after the other. Until [`SegmentWriter::finish`] returned, nothing may refer
/// to them; dropped before that, the files are removed.
///
/// Pages and values go to files of their own: most pages are soon written anew and most values never, so that a file of either is garbage as a whole
/// or hardly at all. So does what belongs to different sets of drives: the store of a key says which.
pub(crate) struct SegmentWriter {
    segments: Arc<Segments>,
    open: BTreeMap<Stream, OpenSegment>,
    finished: Vec<Finished>,
    generation: u32,
    complete: bool,
    /// A file could not be sealed: what was added to it may never become durable, as a sync is not to be tried twice.
    failed: Option<Error>,
}

/// What goes to the same segment: number of the set, kind of blob.
type Stream = (u8, BlobKind);

/// A segment whose bytes are durable; its name is not yet.
struct Finished {
    id: SegmentId,
    blob_bytes: u64,
    names: Names,
}

/// What makes the name of a segment durable.
enum Names {
    /// The folder of all.
    Folder,
    Copies(CopiedSegment),
    Drives(Shards),
}

/// Where the bytes of a segment go.
enum Sink {
    File(File),
    Copies(CopiedSegment),
    Drives(CodedWriter),
}

struct OpenSegment {
    id: SegmentId,
    sink: Sink,
    /// How units are cut, if it is spread over drives.
    layout: Option<Layout>,
    /// Offset in the segment at which `buffer` begins.
    written: u64,
    buffer: Vec<u8>,
    blob_bytes: u64,
    index: Vec<u8>,
}

impl OpenSegment {
    fn create(segments: &Segments, set: u8) -> Result<OpenSegment> {
        let id = segments.new_id_in(set);
        let (sink, layout) = match segments.sets().get(set) {
            Some(set) => {
                let writer = CodedWriter::create(set, id)?;
                segments.lock_unsealed().insert(id, Arc::downgrade(writer.segment()));
                (Sink::Drives(writer), Some(*set.layout()))
            }
            None => match &segments.copies {
                None => (Sink::File(File::create_new(&segments.plain_path(id))?), None),
                Some(copies) => (Sink::Copies(CopiedSegment::create(copies, file_name(id))?), None),
            },
        };
        let buffer = encode_header(id);
        Ok(OpenSegment { id, sink, layout, written: 0, buffer, blob_bytes: 0, index: Vec::new() })
    }

    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.sink {
            Sink::File(file) => file.write_all_at(bytes, self.written)?,
            Sink::Copies(file) => file.write_all_at(bytes, self.written)?,
            Sink::Drives(writer) => writer.append(bytes)?,
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn add(&mut self, kind: BlobKind, key: &[u8], bytes: &[u8]) -> Result<BlobRef> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| Error::new(ErrorKind::Invalid, "a value is larger than 4 GiB"))?;
        let (start, start_at) = (self.end(), self.buffer.len());
        let is_packed = packing::pack_shorter(bytes, &mut self.buffer);
        let stored_len = if is_packed { self.end() - start } else { bytes.len() as u64 };
        let offset = self.layout.map_or(start, |layout| layout.place(start, stored_len));
        let padding = std::iter::repeat_n(0, (offset - start) as usize);
        drop(self.buffer.splice(start_at..start_at, padding));
        let crc = if is_packed {
            let packed_at = start_at + (offset - start) as usize;
            crc32fast::hash(self.buffer.get(packed_at..).unwrap_or_default())
        } else {
            self.add_raw(bytes)?;
            crc32fast::hash(bytes)
        };
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        self.blob_bytes += stored_len;
        let stored_len = stored_len as u32;
        index::put_entry(kind, offset, stored_len, key, &mut self.index);
        Ok(BlobRef { segment: self.id, offset, len, stored_len, crc })
    }

    fn add_raw(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        self.write(bytes)
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
        match &mut self.sink {
            Sink::File(_) if is_planted(Bug::NameSegmentBeforeSync) => Ok(()),
            Sink::File(file) => file.sync(),
            Sink::Copies(file) => file.sync(),
            Sink::Drives(writer) => writer.seal(),
        }
    }

    /// Its stored bytes, if the blob is still in memory.
    fn buffered(&self, blob: &BlobRef) -> Option<Option<&[u8]>> {
        let start = blob.offset.checked_sub(self.written)? as usize;
        Some(self.buffer.get(start..start + blob.stored_len as usize))
    }
}

impl SegmentWriter {
    pub(crate) fn new(segments: &Arc<Segments>) -> SegmentWriter {
        SegmentWriter {
            segments: Arc::clone(segments),
            open: BTreeMap::new(),
            finished: Vec::new(),
            generation: os::process_generation(),
            complete: false,
            failed: None,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.segments.folder()
    }

    /// Number of the set of drives to which what is said of a key goes. A leaf holds keys of one set only.
    pub(crate) fn set_of(&self, key: &[u8]) -> u8 {
        self.segments.sets().of_key(key)
    }

    /// Adds a leaf that begins with a key, or its value.
    pub(crate) fn add(&mut self, kind: BlobKind, key: &[u8], bytes: &[u8]) -> Result<BlobRef> {
        self.add_to(self.set_of(key), kind, key, bytes)
    }

    /// Adds a branch page, which belongs to no store.
    pub(crate) fn add_branch(&mut self, lowest: &[u8], bytes: &[u8]) -> Result<BlobRef> {
        self.add_to(self.segments.sets().of_all(), BlobKind::Page, lowest, bytes)
    }

    fn add_to(&mut self, set: u8, kind: BlobKind, key: &[u8], bytes: &[u8]) -> Result<BlobRef> {
        let stream = (set, kind);
        let is_full = |open: &OpenSegment| open.end() >= SEGMENT_BYTES;
        if self.failed.is_some() || self.open.get(&stream).is_some_and(is_full) {
            self.seal(stream)?;
        }
        let open = match self.open.entry(stream) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                none.insert(OpenSegment::create(&self.segments, set)?)
            }
        };
        open.add(kind, key, bytes)
    }

    /// A blob, which may be one of this writer's that is still in memory.
    pub(crate) fn read(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        let open = self.open.values().find(|open| open.id == blob.segment);
        let Some(stored) = open.and_then(|open| open.buffered(blob)) else { return self.segments.read(blob) };
        stored
            .and_then(|stored| packing::unpack(stored.to_vec(), blob.len))
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a value is not where its writer put it"))
    }

    /// Makes all that was added readable through [`Segments::read`]; not durable.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.open.values_mut().try_for_each(OpenSegment::flush)
    }

    pub(super) fn seal(&mut self, stream: Stream) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(open) = self.open.get_mut(&stream) else { return Ok(()) };
        open.seal().inspect_err(|error| self.failed = Some(error.clone()))?;
        let Some(open) = self.open.remove(&stream) else { return Ok(()) };
        self.segments.lock_unsealed().remove(&open.id);
        let names = match open.sink {
            Sink::File(_) => Names::Folder,
            Sink::Copies(segment) => Names::Copies(segment),
            Sink::Drives(writer) => Names::Drives(writer.into_shards()),
        };
        self.finished.push(Finished { id: open.id, blob_bytes: open.blob_bytes, names });
        Ok(())
    }

    /// Makes all files and their names durable. Gives each segment's name and bytes of blobs.
    pub(crate) fn finish(mut self) -> Result<Vec<(SegmentId, u64)>> {
        let streams: Vec<Stream> = self.open.keys().copied().collect();
        streams.into_iter().try_for_each(|stream| self.seal(stream))?;
        self.sync_names()?;
        self.complete = true;
        Ok(self.finished.iter().map(|finished| (finished.id, finished.blob_bytes)).collect())
    }

    fn sync_names(&mut self) -> Result<()> {
        let mut shards = Vec::new();
        let mut has_files = false;
        for finished in &mut self.finished {
            match &mut finished.names {
                Names::Folder => has_files = true,
                Names::Copies(segment) => segment.finish()?,
                Names::Drives(of_segment) => shards.push(of_segment),
            }
        }
        if has_files {
            os::sync_folder(self.segments.folder())?;
        }
        coded::sync_names(&mut shards)
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if self.complete || self.generation != os::process_generation() {
            return;
        }
        let open: Vec<SegmentId> = std::mem::take(&mut self.open).into_values().map(|open| open.id).collect();
        for id in &open {
            self.segments.lock_unsealed().remove(id);
        }
        for id in self.finished.iter().map(|finished| finished.id).chain(open) {
            // An orphan that cannot be removed now is swept once this process is gone.
            let _ = self.segments.remove(id);
        }
    }
}
