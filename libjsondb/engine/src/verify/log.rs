//! Every file of the log: each frame whole, in its place, chained to the one before it.
//!
//! Other processes may append, start new files and remove old ones meanwhile; a place that looks wrong is looked at again.

use super::{Check, LogReport};
use crate::bytes::Reader;
use crate::log::frame::FrameKind;
use crate::log::read_ahead::ReadAhead;
use crate::log::record::{self, RecordVisitor};
use crate::log::tail::Tail;
use crate::log::wal::{self, Found, Frame, Wal};
use crate::log::{CheckpointRecord, FilePosition};
use crate::run::Run;
use crate::{Result, Seq, ValueRef};

/// A file is looked at again this often when what follows it does not fit: others may have written to it meanwhile.
const LOOKS_MAX: usize = 3;

impl Check<'_, '_> {
    /// `announced` was read before.
    pub(super) fn log(&mut self, announced: Option<Tail>) -> Result<LogReport> {
        let mut report = LogReport::default();
        let folder = self.folders.log.path.clone();
        let Some(files) = self.noted(wal::list(&folder))? else { return Ok(report) };
        if files.is_empty() {
            self.find(&folder, 0, "the log has no files");
        }
        let mut next = files.first().copied();
        while let Some(first_seq) = next {
            report.last_file = first_seq;
            // None: removed meanwhile, its commits are in the tree.
            if let Some(Some(wal)) = self.noted(Wal::open(&folder, first_seq))? {
                report.files += 1;
                let checked = self.log_file(wal, announced, &mut report);
                self.noted(checked)?;
            }
            next = self.later_file(first_seq)?;
        }
        if let Some(end) =
            announced.map(|tail| tail.durable.mark.end).filter(|end| end.wal > report.last_file)
        {
            self.find(&wal::path(&folder, end.wal), 0, "the log file that was written last is missing");
        }
        Ok(report)
    }

    fn later_file(&mut self, first_seq: Seq) -> Result<Option<Seq>> {
        let files = self.noted(wal::list(&self.folders.log.path))?.unwrap_or_default();
        Ok(files.into_iter().find(|file| *file > first_seq))
    }

    fn log_file(&mut self, wal: Wal, announced: Option<Tail>, report: &mut LogReport) -> Result<()> {
        let first_seq = wal.header.first_seq;
        report.manifest = Some(wal.header.manifest);
        let mut position = FilePosition::at_start(wal);
        let mut looks = 0;
        let successor = loop {
            self.frames(&mut position, report)?;
            let Some(later) = self.later_file(first_seq)? else { break None };
            let Some(Some(next)) = self.noted(Wal::open(&self.folders.log.path, later))? else {
                break None;
            };
            looks += 1;
            if next.header.previous == Some(position.as_previous()) || looks == LOOKS_MAX {
                break Some(next);
            }
        };
        report.end = position.offset;
        report.last_seq = report.last_seq.max(position.last_seq());
        match successor {
            Some(next) => self.continuation(&position, &next)?,
            None => {
                report.torn = !matches!(position.look(&mut ReadAhead::none())?, Found::End);
                if announced
                    .map(|tail| tail.durable.mark.end)
                    .is_some_and(|end| end > position.end() && end.wal == first_seq)
                {
                    self.find(position.wal.path(), position.offset, "the log ends before its announced end");
                }
            }
        }
        Ok(())
    }

    /// Steps over all whole frames; damaged ones with whole ones behind are findings.
    fn frames(&mut self, position: &mut FilePosition, report: &mut LogReport) -> Result<()> {
        loop {
            let mut ahead = ReadAhead::none();
            if let Found::Frame(frame) = position.look(&mut ahead)?
                && let Some(body) = position.wal.body(&mut ahead, &frame.header)?
            {
                self.progress.advance(frame.end - position.offset)?;
                self.body(position, &frame, body, report);
                report.frames += 1;
                report.transactions += u64::from(frame.header.count);
                position.step(&frame);
                continue;
            }
            let Some(behind) = position.wal.proof_after(position.offset, position.next_seq)? else {
                return Ok(());
            };
            // Each frame is whole before the next one is written: if this one is not now, it never will be.
            let mut ahead = ReadAhead::none();
            if let Found::Frame(frame) = position.look(&mut ahead)?
                && position.wal.body(&mut ahead, &frame.header)?.is_some()
            {
                continue;
            }
            self.find(position.wal.path(), position.offset, "a frame that had been stored");
            position.offset = behind.offset;
            position.chain = behind.chain;
            position.next_seq = behind.first_seq;
        }
    }

    fn body(&mut self, position: &FilePosition, frame: &Frame, body: &[u8], report: &mut LogReport) {
        let whole = match frame.header.kind {
            FrameKind::Commit => is_commit(body, frame.header.count),
            FrameKind::Checkpoint => {
                let record = CheckpointRecord::decode(body);
                if let Some(record) = record.as_ref().filter(|record| report.manifest == Some(record.base)) {
                    report.manifest = Some(record.manifest);
                }
                record.is_some()
            }
        };
        if !whole {
            self.find(position.wal.path(), position.offset, "the body of a frame");
        }
    }

    /// A file that has a successor ends where that one says.
    fn continuation(&mut self, end: &FilePosition, next: &Wal) -> Result<()> {
        let expected = end.as_previous();
        match next.header.previous {
            Some(previous) if previous == expected => {}
            Some(previous) if previous.first_seq == expected.first_seq && previous.len != expected.len => {
                self.find(end.wal.path(), expected.len, "the log ends before its next file begins");
            }
            // Removed in the order in which they were written: the files between may be gone by now, if this one is.
            _ if !wal::list(&self.folders.log.path)?.contains(&expected.first_seq) => {}
            _ => self.find(next.path(), 0, "the log file does not continue the one before it"),
        }
        Ok(())
    }
}

struct Skip;

impl RecordVisitor for Skip {
    fn runs(&mut self, _runs: Vec<Run>) {}

    fn write(&mut self, _key: &[u8], _value: Option<ValueRef<'_>>) {}

    fn add_to_counter(&mut self, _key: &[u8], _delta: i64) {}
}

pub(super) fn is_commit(body: &[u8], count: u32) -> bool {
    let mut reader = Reader::new(body);
    (0..count).all(|_| record::decode(&mut reader, &mut Skip).is_some()) && reader.is_empty()
}
