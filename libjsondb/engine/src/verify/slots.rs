//! Every slot of a log that machines share: whole, of this database, none missing between the boundary and the end.
//!
//! Others may add slots and remove old ones meanwhile: what is missing is looked at again with a newer boundary.

use super::log::is_commit;
use super::{Check, LogReport};
use crate::log::CheckpointRecord;
use crate::shared::folder::SlotFolder;
use crate::shared::log::Slots as _;
use crate::shared::slot::{Slot, SlotKind, decode_fence};
use crate::{Error, Result, Seq};

impl Check<'_, '_> {
    pub(super) fn slots(&mut self, slots: &SlotFolder) -> Result<LogReport> {
        let mut report = LogReport::default();
        let Some(boundary) = self.noted(slots.boundary())? else { return Ok(report) };
        report.manifest = Some(boundary.manifest);
        let mut next = Seq(boundary.reach.seq.0 + 1);
        loop {
            match self.noted(slots.read(next))?.flatten() {
                Some(bytes) => {
                    self.progress.advance(bytes.len() as u64)?;
                    if let Some((header, body)) = self.noted(slots.open(next, &bytes))? {
                        self.slot(slots, next, &header, body, &mut report);
                    }
                    report.files += 1;
                }
                None => {
                    let listed = self.noted(slots.list())?.unwrap_or_default();
                    let Some((later, _)) = listed.iter().find(|(slot, _)| *slot > next) else { break };
                    let trimmed = slots.trimmed()?;
                    if trimmed < next {
                        self.noted::<()>(Err(Error::missing(&slots.path(next))))?;
                    }
                    next = trimmed.max(Seq(later.0 - 1));
                }
            }
            report.last_seq = next;
            next = Seq(next.0 + 1);
        }
        report.last_file = report.last_seq;
        Ok(report)
    }

    fn slot(&mut self, slots: &SlotFolder, seq: Seq, header: &Slot, body: &[u8], report: &mut LogReport) {
        let is_whole = match header.kind {
            SlotKind::Commit => is_commit(body, header.count),
            SlotKind::Fence => decode_fence(body).is_some(),
            SlotKind::Checkpoint => {
                let record = CheckpointRecord::decode(body);
                if let Some(record) = record.as_ref().filter(|record| report.manifest == Some(record.base)) {
                    report.manifest = Some(record.manifest);
                }
                record.is_some()
            }
        };
        report.frames += 1;
        report.transactions += u64::from(header.count);
        if !is_whole {
            self.find(&slots.path(seq), 0, "the body of a slot");
        }
    }
}
