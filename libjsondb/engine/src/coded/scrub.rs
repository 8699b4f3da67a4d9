//! Reading all shards to see whether they are as they were written, and writing anew those that are not.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::codec::Encoder;
use super::rebuild::rebuild;
use super::report::{Repair, RepairScope, Scrub, ShardFinding};
use super::segment::{CodedSegment, Troubles};
use super::stripes::{self, Units};
use crate::database::{Hold, Inner};
use crate::segment::SegmentId;
use crate::{Database, Error, ErrorKind, Mode, Progress, Result};

/// So many segments are kept from being removed at a time: others wait for the space of what they retire.
const SEGMENTS_HELD: usize = 16;

/// What was read of a segment.
#[derive(Default)]
struct Read {
    troubles: Troubles,
    shards: u64,
    bytes: u64,
    is_lost: bool,
}

impl Database {
    /// Reads all shards of the newest state, and checks them.
    pub fn scrub(&self, progress: &mut Progress<'_>) -> Result<Scrub> {
        let mut scrub = Scrub::default();
        self.inner.each_coded(progress, &mut |segment, progress| {
            let read = read_all(segment, progress)?;
            scrub.segments += 1;
            scrub.shards += read.shards;
            scrub.bytes += read.bytes;
            scrub.findings.extend(findings(segment, read.troubles.iter()));
            if read.is_lost {
                scrub.lost.push(segment.id.to_string());
            }
            Ok(())
        })?;
        progress.report()?;
        Ok(scrub)
    }

    /// Writes anew what is missing or damaged, while others read and write. What it did stays when it is stopped.
    pub fn repair(&self, scope: RepairScope, progress: &mut Progress<'_>) -> Result<Repair> {
        self.inner.check_writable()?;
        let mut repair = Repair::default();
        self.inner.each_coded(progress, &mut |segment, progress| {
            let bad = match scope {
                RepairScope::Missing => look_at_ends(segment)?,
                RepairScope::Everything => read_all(segment, progress)?.troubles,
            };
            repair_segment(segment, bad, &mut repair, progress)
        })?;
        progress.report()?;
        Ok(repair)
    }
}

impl Inner {
    /// Gives `work` each coded segment of the newest state, which is not removed meanwhile.
    fn each_coded(
        &self,
        progress: &mut Progress<'_>,
        work: &mut dyn FnMut(&CodedSegment, &mut Progress<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut rest = self.held_segments(progress, |_| true, &mut |_, _| Ok(()))?;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(SEGMENTS_HELD));
            // Those that were retired meanwhile need nothing.
            self.held_segments(progress, |id| rest.contains(id), work)?;
            rest = later;
        }
        Ok(())
    }

    fn held_segments(
        &self,
        progress: &mut Progress<'_>,
        is_wanted: impl Fn(&SegmentId) -> bool,
        work: &mut dyn FnMut(&CodedSegment, &mut Progress<'_>) -> Result<()>,
    ) -> Result<Vec<SegmentId>> {
        let snapshot = self.newest_snapshot(Mode::Read, Hold::Pinned)?;
        let sets = self.pages.segments().sets();
        let coded = snapshot.segments().into_iter().filter(|id| sets.get(id.set()).is_some());
        let coded: Vec<SegmentId> = coded.filter(is_wanted).collect();
        let worked = coded.iter().try_for_each(|id| match sets.get(id.set()) {
            Some(set) => work(&CodedSegment::new(set, *id), progress),
            None => Ok(()),
        });
        self.release(snapshot, Mode::Read, Hold::Pinned);
        worked.map(|()| coded)
    }
}

fn findings<'a>(
    segment: &CodedSegment,
    troubles: impl Iterator<Item = (usize, &'a Error)>,
) -> Vec<ShardFinding> {
    let finding = |(index, error): (usize, &Error)| ShardFinding {
        file: segment.path(index),
        set: segment.id.set(),
        index,
        segment: segment.id.to_string(),
        what: error.corrupt_at().map_or_else(|| error.message().to_owned(), |at| at.what.clone()),
    };
    troubles.map(finding).collect()
}

/// Shards whose beginning, end or length is wrong.
fn look_at_ends(segment: &CodedSegment) -> Result<Troubles> {
    let mut troubles = Troubles::default();
    for index in 0..segment.layout().shards() {
        if let Err(error) = segment.len_by(index) {
            troubles.add(index, error)?;
        }
    }
    Ok(troubles)
}

/// Reads all shards of a segment.
fn read_all(segment: &CodedSegment, progress: &mut Progress<'_>) -> Result<Read> {
    let layout = *segment.layout();
    let mut read = Read { troubles: look_at_ends(segment)?, ..Read::default() };
    read.shards = (layout.shards() - read.troubles.iter().count()) as u64;
    let len = match segment.len() {
        Ok(len) => len,
        Err(error) if error.kind() == ErrorKind::DrivesLost => return Ok(Read { is_lost: true, ..read }),
        Err(error) => return Err(error),
    };
    progress.expect((0..layout.shards()).map(|index| layout.shard_len(index, len)).sum());
    let found = Mutex::new(read);
    let state = || Ok((Encoder::new(layout)?, Units::default()));
    let work = |(encoder, units): &mut (Encoder, Units), stripe| {
        let read = read_stripe(segment, stripe, len, encoder, units)?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.is_lost |= read.is_lost;
        found.bytes += read.bytes;
        read.troubles.iter().try_for_each(|(index, error)| found.troubles.add(index, error.clone()))?;
        Ok(read.bytes)
    };
    stripes::each(&layout, len, state, work, &mut |bytes| progress.advance(bytes))?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Reads and checks all units of a stripe.
fn read_stripe(
    segment: &CodedSegment,
    stripe: u64,
    len: u64,
    encoder: &mut Encoder,
    units: &mut Units,
) -> Result<Read> {
    let (layout, mut read) = (segment.layout(), Read::default());
    units.clear();
    for index in 0..layout.shards() {
        read.bytes += layout.unit_len(index, stripe, len);
        if let Err(error) = units.read(segment, index, stripe, len) {
            read.troubles.add(index, error)?;
        }
    }
    if units.shards().len() == layout.shards() {
        check_parity(segment, units, encoder, &mut read.troubles)?;
    }
    read.is_lost = units.shards().len() < layout.data;
    Ok(read)
}

/// The units of a stripe are each as they were written: so they fit together, or were written wrong.
fn check_parity(
    segment: &CodedSegment,
    units: &Units,
    encoder: &mut Encoder,
    troubles: &mut Troubles,
) -> Result<()> {
    let data = segment.layout().data;
    let mut parity = units.iter().skip(data);
    encoder.encode(units.iter().take(data), |index, unit| {
        if parity.next().is_some_and(|found| found != unit) {
            let path = segment.path(data + index);
            troubles.add(data + index, Error::corrupt(&path, 0, "the parity does not fit the data"))?;
        }
        Ok(())
    })
}

fn repair_segment(
    segment: &CodedSegment,
    mut bad: Troubles,
    repair: &mut Repair,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let began = Instant::now();
    let mut done: BTreeSet<usize> = BTreeSet::new();
    while !bad.is_empty() {
        let wanted: BTreeSet<usize> = bad.iter().map(|(index, _)| index).collect();
        let rebuilt = match rebuild(segment, &wanted, &mut |bytes| progress.advance(bytes)) {
            Ok(rebuilt) => rebuilt,
            Err(error) if error.kind() == ErrorKind::DrivesLost => {
                repair.failed.extend(findings(segment, bad.iter()));
                break;
            }
            Err(error) => return Err(error),
        };
        repair.segments += u64::from(done.is_empty() && !rebuilt.shards.is_empty());
        repair.shards += rebuilt.shards.len() as u64;
        repair.bytes += rebuilt.bytes;
        repair.failed.extend(findings(segment, rebuilt.failed.iter().map(|(index, error)| (*index, error))));
        done.extend(&wanted);
        // Those it had to read, and could not.
        bad = Troubles::default();
        for (index, error) in rebuilt.damaged.iter().filter(|(index, _)| !done.contains(index)) {
            bad.add(index, error.clone())?;
        }
    }
    repair.duration += began.elapsed();
    Ok(())
}
