//! The manifest: what one checkpoint consists of. An immutable file `man/<checkpoint seq>-<id>.man`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::bytes::{Put, Reader, is_intact};
use crate::os::{self, File};
use crate::segment::SegmentId;
use crate::{BlobRef, Error, Result, Seq};

const MAGIC: &[u8; 8] = b"SOPMAN\r\n";
const VERSION: u32 = 1;

/// Name of a manifest: the process that wrote it, and its number there (from the same counter as segments).
pub(crate) type ManifestId = SegmentId;

/// Which manifest is in force, and the commits it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestRef {
    pub(crate) id: ManifestId,
    /// All commits up to this one are in the tree.
    pub(crate) checkpoint: Seq,
}

impl ManifestRef {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        out.put_u64(self.checkpoint.0);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<ManifestRef> {
        Some(ManifestRef { id: SegmentId::read(reader)?, checkpoint: Seq(reader.u64()?) })
    }

    pub(crate) fn file_name(&self) -> String {
        format!("{:020}-{}.man", self.checkpoint.0, self.id)
    }

    /// The checkpoint in a manifest's file name.
    pub(crate) fn checkpoint_of_file_name(name: &str) -> Option<Seq> {
        name.strip_suffix(".man")?.split_once('-')?.0.parse().ok().map(Seq)
    }
}

/// How much of a segment the tree still refers to, in bytes of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentUse {
    pub(crate) total: u64,
    pub(crate) live: u64,
}

/// A tree, its segments, and the segments that older manifests still need.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) name: ManifestRef,
    pub(crate) root: Option<BlobRef>,
    pub(crate) segments: BTreeMap<SegmentId, SegmentUse>,
    /// Segment and the first checkpoint that no longer refers to it.
    pub(crate) retired: Vec<(SegmentId, Seq)>,
}

impl Manifest {
    /// The manifest of an empty database.
    pub(crate) fn empty(id: ManifestId) -> Manifest {
        let name = ManifestRef { id, checkpoint: Seq(0) };
        Manifest { name, root: None, segments: BTreeMap::new(), retired: Vec::new() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        self.name.put(&mut out);
        match &self.root {
            Some(root) => {
                out.put_u8(1);
                root.put(&mut out);
            }
            None => out.put_u8(0),
        }
        out.put_u32(self.segments.len() as u32);
        for (id, usage) in &self.segments {
            id.put(&mut out);
            out.put_u64(usage.total);
            out.put_u64(usage.live);
        }
        out.put_u32(self.retired.len() as u32);
        for (id, seq) in &self.retired {
            id.put(&mut out);
            out.put_u64(seq.0);
        }
        out.put_u32(crc32fast::hash(&out));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Manifest> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if !is_intact(body, Reader::new(crc).u32()?) {
            return None;
        }
        let mut reader = Reader::new(body);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let name = ManifestRef::read(&mut reader)?;
        let root = match reader.u8()? {
            0 => None,
            1 => Some(BlobRef::read(&mut reader)?),
            _ => return None,
        };
        let mut segments = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let id = SegmentId::read(&mut reader)?;
            segments.insert(id, SegmentUse { total: reader.u64()?, live: reader.u64()? });
        }
        let mut retired = Vec::new();
        for _ in 0..reader.u32()? {
            retired.push((SegmentId::read(&mut reader)?, Seq(reader.u64()?)));
        }
        reader.is_empty().then_some(Manifest { name, root, segments, retired })
    }

    /// Writes the file and makes it and its name durable.
    pub(crate) fn store(&self, folder: &Path, staging: &Path) -> Result<()> {
        let staged = staging.join(format!("{}.tmp", self.name.id));
        os::write_durably(folder, &self.name.file_name(), &staged, &self.encode())
    }

    /// Reads the file; None when it was removed because a newer one took its place.
    pub(crate) fn load(folder: &Path, name: &ManifestRef) -> Result<Option<Manifest>> {
        Manifest::load_file(&folder.join(name.file_name()))
    }

    /// As [`Manifest::load`], whatever manifest it is: it must be the one that the file's name says.
    pub(crate) fn load_file(path: &Path) -> Result<Option<Manifest>> {
        let Some(file) = File::open(path)? else { return Ok(None) };
        let bytes = match file.read_whole() {
            Err(error) if error.is_missing_file() => return Ok(None),
            bytes => bytes?,
        };
        match Manifest::decode(&bytes) {
            Some(manifest) if path.ends_with(manifest.name.file_name()) => Ok(Some(manifest)),
            _ => Err(Error::corrupt(path, 0, "the manifest")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_byte_is_noticed() {
        let id = SegmentId { owner: 1, number: 2 };
        let mut manifest = Manifest::empty(id);
        manifest.root = Some(BlobRef { segment: id, offset: 3, len: 9, stored_len: 4, crc: 5 });
        manifest.segments.insert(id, SegmentUse { total: 10, live: 7 });
        manifest.retired.push((SegmentId { owner: 8, number: 9 }, Seq(4)));
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(Manifest::decode(&damaged), None, "{index}");
        }
    }
}
