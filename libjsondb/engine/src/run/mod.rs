//! Runs: writes of one transaction that were too many for memory and the log, in key order, as a tree of their own.
//!
//! A run is written once, in segments of its own; the commit record only names it. To readers it is one more layer over the
//! checkpoint's tree, until a checkpoint has taken it in.

mod build;
mod spill;

use crate::bytes::{Put, Reader};
use crate::catalog::FULL_KEY_MAX;
use crate::segment::SegmentId;
use crate::tree::{Pages, TreeCursor, Wait};
use crate::{BlobRef, Result, ValueRef};

pub(crate) use build::{RunWriter, Written};
pub(crate) use spill::Spill;

/// What a run says about its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// They were set to the values beside them.
    Values = 1,
    /// They were removed; the values are empty.
    Deletions = 2,
}

/// What came of looking for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// It was shown.
    Shown,
    /// It is not there.
    Absent,
    /// That takes a wait that is not allowed.
    MustWait,
}

/// A sorted run of writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) kind: RunKind,
    pub(crate) root: BlobRef,
    /// Number of keys.
    pub(crate) count: u64,
    /// Bytes of its pages and values on disk.
    pub(crate) bytes: u64,
    /// Its lowest key.
    pub(crate) first: Box<[u8]>,
    /// Its highest key.
    pub(crate) last: Box<[u8]>,
    /// All that its pages lie in or refer to.
    pub(crate) segments: Vec<SegmentId>,
}

impl Run {
    /// True unless the key lies outside of the run's keys.
    fn covers(&self, key: &[u8]) -> bool {
        *self.first <= *key && *key <= *self.last
    }

    /// Shows what the run says about a key: its value, or None for a key that was removed.
    pub(crate) fn find(
        &self,
        pages: &Pages,
        key: &[u8],
        wait: Wait,
        show: &mut dyn FnMut(Option<ValueRef<'_>>),
    ) -> Result<Sought> {
        if !self.covers(key) {
            return Ok(Sought::Absent);
        }
        let mut sought = Sought::Absent;
        let is_known = pages.find(Some(self.root), key, wait, &mut |value| {
            if value.is_some() {
                show(value.filter(|_| self.kind == RunKind::Values));
                sought = Sought::Shown;
            }
        })?;
        Ok(if is_known { sought } else { Sought::MustWait })
    }

    /// True when the key is one of the run's.
    pub(crate) fn contains(&self, pages: &Pages, key: &[u8]) -> Result<bool> {
        Ok(self.find(pages, key, Wait::AsLongAsNeeded, &mut |_| ())? == Sought::Shown)
    }

    pub(crate) fn cursor<'a>(&'a self, pages: &'a Pages) -> RunCursor<'a> {
        RunCursor { tree: TreeCursor::new(pages, Some(self.root)), run: self }
    }

    /// True when some key may lie in both.
    pub(crate) fn meets(&self, other: &Run) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.kind as u8);
        self.root.put(out);
        out.put_varint(self.count);
        out.put_varint(self.bytes);
        out.put_bytes(&self.first);
        out.put_bytes(&self.last);
        out.put_varint(self.segments.len() as u64);
        for id in &self.segments {
            id.put(out);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Run> {
        let kind = match reader.u8()? {
            1 => RunKind::Values,
            2 => RunKind::Deletions,
            _ => return None,
        };
        let root = BlobRef::read(reader)?;
        let (count, bytes) = (reader.varint()?, reader.varint()?);
        let first = reader.bytes().filter(|key| key.len() <= FULL_KEY_MAX)?.into();
        let last = reader.bytes().filter(|key| key.len() <= FULL_KEY_MAX)?.into();
        let mut segments = Vec::new();
        for _ in 0..reader.varint()? {
            segments.push(SegmentId::read(reader)?);
        }
        (first <= last).then_some(Run { kind, root, count, bytes, first, last, segments })
    }
}

/// A position in a run.
pub(crate) struct RunCursor<'a> {
    pub(crate) tree: TreeCursor<'a>,
    pub(crate) run: &'a Run,
}
