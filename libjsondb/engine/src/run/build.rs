//! Building runs: write sets in, segments with trees out, each page written once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Run, RunKind};
use crate::page::{self, INLINE_VALUE_MAX, PAGE_BYTES, PageKind};
use crate::segment::{BlobKind, SegmentId, SegmentWriter, Segments};
use crate::tree::build::{Child, write_branches};
use crate::write_set::WriteSet;
use crate::{BlobRef, Error, ErrorKind, Result, ValueRef};

/// Runs of one transaction, durable, and the segments they were written to.
#[derive(Default)]
pub(crate) struct Written {
    /// Oldest first.
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) segments: Vec<SegmentId>,
}

/// Writes the runs of one transaction. Dropped before [`RunWriter::finish`], it removes its files.
pub(crate) struct RunWriter {
    writer: SegmentWriter,
    /// Keys that rise go on where the last write set ended.
    open: Option<OpenRun>,
    runs: Vec<Arc<Run>>,
}

/// The newest run, its branches not written yet.
struct OpenRun {
    kind: RunKind,
    leaves: Vec<Child>,
    last: Vec<u8>,
    count: u64,
    bytes: u64,
    segments: BTreeSet<SegmentId>,
}

type Entry<'a> = (&'a [u8], ValueRef<'a>);

impl RunWriter {
    pub(crate) fn new(segments: &Arc<Segments>) -> RunWriter {
        RunWriter { writer: SegmentWriter::new(segments), open: None, runs: Vec::new() }
    }

    /// Adds a write set: it is newer than those added before.
    pub(crate) fn add(&mut self, writes: &WriteSet) -> Result<()> {
        let removed = writes.iter().filter(|(_, value)| value.is_none());
        self.extend(RunKind::Deletions, removed.map(|(key, _)| (key, ValueRef::Inline(&[]))))?;
        self.extend(RunKind::Values, writes.iter().filter_map(|(key, value)| Some((key, value?))))
    }

    /// Continues the newest run when the keys lie behind it, and begins one otherwise.
    fn extend<'a>(&mut self, kind: RunKind, entries: impl Iterator<Item = Entry<'a>>) -> Result<()> {
        let mut entries = entries.peekable();
        let Some((first, _)) = entries.peek() else { return Ok(()) };
        if self.open.as_ref().is_some_and(|open| open.kind != kind || open.last.as_slice() >= *first) {
            self.close_run()?;
        }
        let mut open = self.open.take().unwrap_or_else(|| OpenRun::new(kind));
        let mut leaf: Vec<Entry<'a>> = Vec::new();
        let mut bytes = 0;
        for (key, value) in entries {
            let value = open.place(&mut self.writer, key, value)?;
            let len = page::entry_bytes(key, &value);
            let is_elsewhere = |(first, _): &Entry<'_>| self.writer.set_of(first) != self.writer.set_of(key);
            if !leaf.is_empty() && (bytes + len > PAGE_BYTES || leaf.first().is_some_and(is_elsewhere)) {
                open.write_leaf(&mut self.writer, &leaf)?;
                leaf.clear();
                bytes = 0;
            }
            bytes += len;
            leaf.push((key, value));
        }
        open.write_leaf(&mut self.writer, &leaf)?;
        self.open = Some(open);
        Ok(())
    }

    fn close_run(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.runs.push(Arc::new(open.close(&mut self.writer)?));
        }
        Ok(())
    }

    /// Makes all that was added readable: gives the runs so far, oldest first.
    pub(crate) fn settle(&mut self) -> Result<Vec<Arc<Run>>> {
        self.close_run()?;
        self.writer.flush()?;
        Ok(self.runs.clone())
    }

    /// Makes all runs durable.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.close_run()?;
        let segments = self.writer.finish()?.into_iter().map(|(id, _)| id).collect();
        Ok(Written { runs: self.runs, segments })
    }
}

impl OpenRun {
    fn new(kind: RunKind) -> OpenRun {
        let segments = BTreeSet::new();
        OpenRun { kind, leaves: Vec::new(), last: Vec::new(), count: 0, bytes: 0, segments }
    }

    fn refer_to(&mut self, blob: &BlobRef) {
        self.segments.insert(blob.segment);
        self.bytes += u64::from(blob.stored_len);
    }

    /// Large values go into blobs.
    fn place<'a>(
        &mut self,
        writer: &mut SegmentWriter,
        key: &[u8],
        value: ValueRef<'a>,
    ) -> Result<ValueRef<'a>> {
        let blob = match value {
            ValueRef::Inline(bytes) if bytes.len() <= INLINE_VALUE_MAX => return Ok(value),
            ValueRef::Inline(bytes) => writer.add(BlobKind::Value, key, bytes)?,
            ValueRef::Blob(blob) => blob,
        };
        self.refer_to(&blob);
        Ok(ValueRef::Blob(blob))
    }

    fn write_leaf(&mut self, writer: &mut SegmentWriter, entries: &[Entry<'_>]) -> Result<()> {
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else { return Ok(()) };
        let page = page::encode(PageKind::Leaf, entries.iter().copied()).ok_or_else(out_of_order)?;
        let blob = writer.add(BlobKind::Page, first, &page)?;
        self.refer_to(&blob);
        self.leaves.push(Child { lowest: first.to_vec(), blob });
        self.count += entries.len() as u64;
        self.last.clear();
        self.last.extend_from_slice(last);
        Ok(())
    }

    /// Writes the branches.
    fn close(mut self, writer: &mut SegmentWriter) -> Result<Run> {
        let mut children = std::mem::take(&mut self.leaves);
        let first = children.first().map(|leaf| leaf.lowest.as_slice().into()).unwrap_or_default();
        while children.len() > 1 {
            children = write_branches(writer, &children)?;
            children.iter().for_each(|child| self.refer_to(&child.blob));
        }
        let root = children.pop().ok_or_else(out_of_order)?.blob;
        let OpenRun { kind, last, count, bytes, segments, .. } = self;
        let segments = segments.into_iter().collect();
        Ok(Run { kind, root, count, bytes, first, last: last.into(), segments })
    }
}

/// A write set is sorted, and a run is begun with its first key.
fn out_of_order() -> Error {
    Error::new(ErrorKind::Internal, "the writes of a transaction are out of order")
}
