//! The boundary: up to which slot the shared log was removed, and where a reader begins.
//!
//! It is written, durably, *before* slots are removed. Whoever gave a file the name of a slot, or found none of that name, reads it
//! afterwards: was the slot behind the boundary, it may have been there and gone, and nothing follows from what was seen.
//!
//! Each boundary is a file of its own, whose name says how far it reaches; the farthest one counts. So who sleeps and then writes one that
//! others have passed changes nothing.

use crate::Seq;
use crate::bytes::{Put, Reader, is_intact};
use crate::manifest::ManifestRef;

const MAGIC: &[u8; 8] = b"SOPEDGE\n";
const VERSION: u32 = 2;

/// What the log consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogKind {
    /// Files that the processes of one machine append to.
    Files,
    /// Slots, from the boundary on.
    Slots,
}

/// How far a boundary reaches: what its file's name says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reach {
    /// How often the folder went from a log of files to one of slots, or back.
    pub(crate) switches: u64,
    /// Slots up to this one are gone, or are about to be. No such slot may be acknowledged or read.
    pub(crate) seq: Seq,
}

impl Reach {
    /// A folder begins with files.
    pub(crate) fn log(self) -> LogKind {
        if self.switches.is_multiple_of(2) { LogKind::Files } else { LogKind::Slots }
    }

    pub(crate) fn file_name(self) -> String {
        format!("{:010}-{:020}", self.switches, self.seq.0)
    }

    pub(crate) fn from_file_name(name: &str) -> Option<Reach> {
        let (switches, seq) = name.split_once('-')?;
        Some(Reach { switches: switches.parse().ok()?, seq: Seq(seq.parse().ok()?) })
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    pub(crate) reach: Reach,
    /// A manifest that was in force once and holds all commits up to the boundary.
    pub(crate) manifest: ManifestRef,
}

impl Boundary {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(self.reach.switches);
        out.put_u64(self.reach.seq.0);
        self.manifest.put(&mut out);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// None when these are not the bytes of a boundary.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Boundary> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let mut reader = Reader::new(body);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let reach = Reach { switches: reader.u64()?, seq: Seq(reader.u64()?) };
        let manifest = ManifestRef::read(&mut reader)?;
        let is_whole = reader.is_empty() && is_intact(body, Reader::new(crc).u32()?);
        is_whole.then_some(Boundary { reach, manifest })
    }
}

/// Where a reader may begin that knows nothing: the newest checkpoint that somebody has seen take effect.
pub(crate) fn encode_head(manifest: &ManifestRef) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    manifest.put(&mut out);
    out.put_u32(crc32fast::hash(&out));
    out
}

/// None when these are not the bytes of a head.
pub(crate) fn decode_head(bytes: &[u8]) -> Option<ManifestRef> {
    let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let mut reader = Reader::new(body);
    let manifest = ManifestRef::read(&mut reader)?;
    let is_whole = reader.is_empty() && is_intact(body, Reader::new(crc).u32()?);
    is_whole.then_some(manifest)
}
