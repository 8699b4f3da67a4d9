//! The index of a segment: which blobs lie in it, under which keys. Serves garbage collection and verification only.

use super::{
    BlobKind, HEADER_LEN, SegmentFile, SegmentId, Segments, TRAILER_LEN, TRAILER_MAGIC, encode_header,
};
use crate::bytes::{Put, Reader, is_intact};
use crate::coded::NOT_CODED;
use crate::{Error, Result};

impl Segments {
    /// Keys of the blobs in a segment, from its index.
    pub(crate) fn index_keys(&self, id: SegmentId) -> Result<Vec<Vec<u8>>> {
        let index = self.index(id)?;
        decode(&index.bytes).ok_or_else(|| index.damaged("an index entry"))
    }

    /// Checks everything of a segment but its blobs: header, trailer, and an index of blobs that lie back to back.
    pub(crate) fn check(&self, id: SegmentId) -> Result<()> {
        let file = self.file(id)?;
        let mut header = [0; HEADER_LEN as usize];
        file.read_exact_at(&mut header, 0)?;
        if header.as_slice() != encode_header(id) {
            return Err(Error::corrupt(&file.path(), 0, "the header of the segment"));
        }
        let index = self.index(id)?;
        let mut reader = Reader::new(&index.bytes);
        let mut end = HEADER_LEN;
        while !reader.is_empty() {
            // One that is, or was, spread over drives has gaps where units end.
            let fits =
                |entry: &IndexEntry<'_>| entry.offset == end || id.set() != NOT_CODED && entry.offset > end;
            let entry = IndexEntry::read(&mut reader).filter(fits);
            let entry = entry.ok_or_else(|| index.damaged("an index entry"))?;
            end = entry.offset.saturating_add(entry.len);
        }
        if end == index.offset { Ok(()) } else { Err(index.damaged("the index leaves blobs out")) }
    }

    fn index(&self, id: SegmentId) -> Result<Index> {
        let file = self.file(id)?;
        let len = file.len()?;
        let damaged = |offset: u64, what: &str| Error::corrupt(&file.path(), offset, what);
        let trailer_at = len.checked_sub(TRAILER_LEN).ok_or_else(|| damaged(0, "the trailer is missing"))?;
        let mut trailer = [0; TRAILER_LEN as usize];
        file.read_exact_at(&mut trailer, trailer_at)?;
        let trailer =
            Trailer::decode(&trailer, trailer_at).ok_or_else(|| damaged(trailer_at, "the trailer"))?;
        let mut bytes = vec![0; trailer.index_len as usize];
        file.read_exact_at(&mut bytes, trailer.index_offset)?;
        let index = Index { file, offset: trailer.index_offset, bytes };
        if is_intact(&index.bytes, trailer.index_crc) {
            Ok(index)
        } else {
            Err(index.damaged("checksum of the index"))
        }
    }
}

/// What the end of a segment says about its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) index_offset: u64,
    pub(crate) index_len: u64,
    pub(crate) index_crc: u32,
}

impl Trailer {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.index_offset);
        out.put_u64(self.index_len);
        out.put_u32(self.index_crc);
        out.extend_from_slice(TRAILER_MAGIC);
    }

    /// None unless the index ends where the trailer begins, at `offset`.
    pub(crate) fn decode(bytes: &[u8], offset: u64) -> Option<Trailer> {
        let mut reader = Reader::new(bytes);
        let trailer =
            Trailer { index_offset: reader.u64()?, index_len: reader.u64()?, index_crc: reader.u32()? };
        let is_whole = reader.take(8)? == TRAILER_MAGIC && reader.is_empty();
        let end = trailer.index_offset.checked_add(trailer.index_len)?;
        (is_whole && end == offset).then_some(trailer)
    }
}

/// The index of a segment, in its encoding.
struct Index {
    file: SegmentFile,
    offset: u64,
    bytes: Vec<u8>,
}

impl Index {
    fn damaged(&self, what: &str) -> Error {
        Error::corrupt(&self.file.path(), self.offset, what)
    }
}

struct IndexEntry<'a> {
    offset: u64,
    len: u64,
    key: &'a [u8],
}

impl<'a> IndexEntry<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<IndexEntry<'a>> {
        reader.u8()?;
        Some(IndexEntry { offset: reader.varint()?, len: reader.varint()?, key: reader.bytes()? })
    }
}

/// The key of each blob.
pub(crate) fn decode(index: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    let mut reader = Reader::new(index);
    while !reader.is_empty() {
        keys.push(IndexEntry::read(&mut reader)?.key.to_vec());
    }
    Some(keys)
}

pub(crate) fn put_entry(kind: BlobKind, offset: u64, len: u32, key: &[u8], out: &mut Vec<u8>) {
    out.put_u8(kind as u8);
    out.put_varint(offset);
    out.put_varint(u64::from(len));
    out.put_bytes(key);
}
