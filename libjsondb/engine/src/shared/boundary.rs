//! The boundary: up to which slot the shared log was removed, and where a reader begins.
//!
//! It is written, durably, *before* slots are removed. Whoever gave a file the name of a slot, or found none of that name, reads it
//! afterwards: was the slot behind the boundary, it may have been there and gone, and nothing follows from what was seen.
//!
//! Each boundary is a file of its own, whose name says how far it reaches; the farthest one counts. So who sleeps and then writes one that
//! others have passed changes nothing.
//!
//! What kind of log there is, is decided by a **claim** first: a file with the boundary to be written, whose name is the number of the decision. It
//! gets that name by `link`, so of several that begin with the same state one decides, however long the others sleep. Whoever opens the
//! folder and finds a claim without its boundary writes that. Claims stay: a sleeper may try for ever.

use crate::Seq;
use crate::bytes::{Put, Reader, is_intact};
use crate::manifest::ManifestRef;
use crate::segment::SegmentId;

const MAGIC: &[u8; 8] = b"SOPEDGE\n";
const VERSION: u32 = 3;

/// What the log consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogKind {
    /// Files that the processes of one machine append to: so a folder begins.
    #[default]
    Files,
    /// Slots, from the boundary on.
    Slots,
}

impl LogKind {
    fn name(self) -> &'static str {
        match self {
            LogKind::Files => "files",
            LogKind::Slots => "slots",
        }
    }

    fn from_name(name: &str) -> Option<LogKind> {
        [LogKind::Files, LogKind::Slots].into_iter().find(|kind| kind.name() == name)
    }
}

/// How far a boundary reaches: what its file's name says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reach {
    /// How often it was decided what kind of log there is.
    pub(crate) switches: u64,
    /// Slots up to this one are gone, or are about to be. No such slot may be acknowledged or read.
    pub(crate) seq: Seq,
    pub(crate) log: LogKind,
}

impl Reach {
    pub(crate) fn file_name(self) -> String {
        format!("{:010}-{:020}-{}", self.switches, self.seq.0, self.log.name())
    }

    pub(crate) fn from_file_name(name: &str) -> Option<Reach> {
        let (switches, rest) = name.split_once('-')?;
        let (seq, log) = rest.split_once('-')?;
        let (switches, seq) = (switches.parse().ok()?, Seq(seq.parse().ok()?));
        Some(Reach { switches, seq, log: LogKind::from_name(log)? })
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
    /// What no folder needs to be told: it begins with a log of files. They name their manifest themselves.
    pub(crate) fn of_a_new_folder() -> Boundary {
        let manifest = ManifestRef { id: SegmentId { owner: 0, number: 0 }, checkpoint: Seq(0) };
        Boundary { reach: Reach::default(), manifest }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(self.reach.switches);
        out.put_u64(self.reach.seq.0);
        out.put_u8(u8::from(self.reach.log == LogKind::Slots));
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
        let (switches, seq) = (reader.u64()?, Seq(reader.u64()?));
        let log = match reader.u8()? {
            0 => LogKind::Files,
            1 => LogKind::Slots,
            _ => return None,
        };
        let reach = Reach { switches, seq, log };
        let manifest = ManifestRef::read(&mut reader)?;
        let is_whole = reader.is_empty() && is_intact(body, Reader::new(crc).u32()?);
        is_whole.then_some(Boundary { reach, manifest })
    }
}

/// Name of the file that claims the switch with this number.
pub(crate) fn claim_name(switches: u64) -> String {
    format!("{switches:010}.claim")
}

/// The number of the switch that a file claims.
pub(crate) fn switches_of_claim_name(name: &str) -> Option<u64> {
    name.strip_suffix(".claim")?.parse().ok()
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
