//! The boundary: up to which slot the shared log was removed, and where a reader begins.
//!
//! It is written, durably, *before* slots are removed. Whoever gave a file the name of a slot, or found none of that name, reads it
//! afterwards: was the slot behind the boundary, it may have been there and gone, and nothing follows from what was seen.

use crate::Seq;
use crate::bytes::{Put, Reader, is_intact};
use crate::manifest::ManifestRef;

const MAGIC: &[u8; 8] = b"SOPEDGE\n";
const VERSION: u32 = 1;
/// The file holds two of these, a page apart, written in turn: one of them is always whole.
pub(crate) const HALF: u64 = 4096;

/// What the log consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogKind {
    /// Files that the processes of one machine append to.
    Files,
    /// Slots, from the boundary on.
    Slots,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// Slots up to this one are gone, or are about to be. No such slot may be acknowledged or read.
    pub(crate) seq: Seq,
    /// A manifest that was in force once and holds all commits up to the boundary.
    pub(crate) manifest: ManifestRef,
    /// What follows.
    pub(crate) log: LogKind,
    /// Of two halves the one that was written later has the higher number.
    pub(crate) version: u64,
}

impl Boundary {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(self.seq.0);
        self.manifest.put(&mut out);
        out.put_u32(match self.log {
            LogKind::Files => 1,
            LogKind::Slots => 2,
        });
        out.put_u64(self.version);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Boundary> {
        let mut reader = Reader::new(bytes);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let seq = Seq(reader.u64()?);
        let manifest = ManifestRef::read(&mut reader)?;
        let log = match reader.u32()? {
            1 => LogKind::Files,
            2 => LogKind::Slots,
            _ => return None,
        };
        let version = reader.u64()?;
        let len = bytes.len() - reader.rest().len();
        let crc = reader.u32()?;
        is_intact(bytes.get(..len)?, crc).then_some(Boundary { seq, manifest, log, version })
    }

    /// The newer of the two halves of the file; None when neither is whole.
    pub(crate) fn newest(file: &[u8]) -> Option<Boundary> {
        let halves = [file, file.get(HALF as usize..).unwrap_or_default()];
        halves.iter().filter_map(|half| Boundary::decode(half)).max_by_key(|half| half.version)
    }

    /// Where in the file it is written: not over the one before.
    pub(crate) fn offset(&self) -> u64 {
        self.version % 2 * HALF
    }
}
