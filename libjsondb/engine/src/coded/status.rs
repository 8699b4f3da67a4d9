//! What a listing of all drives shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::drive::Drive;
use super::report::{DriveReport, DriveState, DriveStatus, SegmentsAtRisk, SetReport};
use super::segment::CodedSegment;
use super::set::Set;
use super::shard::ShardName;
use crate::database::Hold;
use crate::os;
use crate::segment::SegmentId;
use crate::{Database, Mode, Result};

impl Database {
    /// What a listing shows of all drives; of segments that lack shards also how long they are.
    pub fn drive_status(&self) -> Result<DriveStatus> {
        let snapshot = self.inner.newest_snapshot(Mode::Read, Hold::Pinned)?;
        let in_use = snapshot.segments();
        let sets = self.inner.pages.segments().sets().iter().map(|set| report(set, &in_use)).collect();
        self.inner.release(snapshot, Mode::Read, Hold::Pinned);
        Ok(DriveStatus { sets })
    }
}

fn report(set: &Arc<Set>, in_use: &BTreeSet<SegmentId>) -> SetReport {
    let layout = set.layout();
    let segments: Vec<SegmentId> =
        in_use.iter().copied().filter(|id| id.set() == set.record.number).collect();
    let mut found: Found = segments.iter().map(|id| (*id, BTreeSet::new())).collect();
    let drives = set.drives.iter().enumerate().map(|(index, drive)| look(drive, index, &mut found)).collect();
    let mut at_risk = SegmentsAtRisk { by_spare: vec![0; layout.parity + 1], lost: 0 };
    for (id, shards) in &found {
        let spare = CodedSegment::new(set, *id).spare(|index| shards.contains(&index));
        match spare.and_then(|spare| at_risk.by_spare.get_mut(spare)) {
            Some(count) => *count += 1,
            None => at_risk.lost += 1,
        }
    }
    SetReport {
        number: set.record.number,
        store: set.record.store.clone(),
        data: layout.data,
        parity: layout.parity,
        segments: segments.len() as u64,
        at_risk,
        drives,
    }
}

/// The indices of the shards that are there, of the segments in use.
type Found = BTreeMap<SegmentId, BTreeSet<usize>>;

/// Looks at a drive; adds its shards to `found`.
fn look(drive: &Drive, index: usize, found: &mut Found) -> DriveReport {
    let needed = found.len() as u64;
    let mut report = DriveReport {
        path: drive.path.clone(),
        index,
        state: DriveState::Missing,
        shards: 0,
        missing: needed,
        bytes: 0,
    };
    let names = match os::list(&drive.folder) {
        Ok(names) if drive.is_here() => names,
        Ok(_) => return report,
        Err(_) => return DriveReport { state: DriveState::Unreadable, ..report },
    };
    for (name, len) in names {
        let Some(name) = ShardName::from_file_name(&name).filter(|name| name.index == index && len > 0)
        else {
            continue;
        };
        if let Some(shards) = found.get_mut(&name.segment) {
            shards.insert(index);
            report.shards += 1;
            report.bytes += len;
        }
    }
    report.missing = needed - report.shards;
    report.state = match (report.shards, report.missing) {
        (_, 0) => DriveState::Ok,
        (0, _) => DriveState::Replaced,
        _ => DriveState::Behind,
    };
    report
}
