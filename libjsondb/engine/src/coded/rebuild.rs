//! Writing shards anew from the others of their segment: same name, same bytes, so that whoever reads or rebuilds it meanwhile is not in the way.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::segment::{CodedSegment, Troubles};
use super::stripes::{self, Units};
use crate::os::{self, File};
use crate::{Error, Result};

/// What came of it.
#[derive(Default)]
pub(crate) struct Rebuilt {
    /// Shards that are as they were written.
    pub(crate) shards: BTreeSet<usize>,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Shards whose drive failed.
    pub(crate) failed: Vec<(usize, Error)>,
    /// Shards that were read and found damaged.
    pub(crate) damaged: Troubles,
}

/// A shard that is being written.
struct Target {
    index: usize,
    staged: File,
    /// Set when something on its drive failed: the others go on.
    failed: OnceLock<Error>,
}

/// Writes the `wanted` shards of a sealed segment anew. Fails when too few of the others are left; a drive that fails is only noted. `advance` is told the
/// bytes read and written, and may end it.
pub(crate) fn rebuild(
    segment: &CodedSegment,
    wanted: &BTreeSet<usize>,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Rebuilt> {
    let (mut targets, mut rebuilt) = (Vec::new(), Rebuilt::default());
    for index in wanted {
        match begin(segment, *index) {
            Ok(target) => targets.push(target),
            Err(error) => rebuilt.failed.push((*index, error)),
        }
    }
    let done = write(segment, wanted, &targets, &mut rebuilt, advance);
    for target in targets.iter().filter(|target| !rebuilt.shards.contains(&target.index)) {
        let _ = os::remove(target.staged.path());
    }
    done.map(|()| rebuilt)
}

fn write(
    segment: &CodedSegment,
    wanted: &BTreeSet<usize>,
    targets: &[Target],
    rebuilt: &mut Rebuilt,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let (len, layout) = (segment.len()?, segment.layout());
    let work = Rebuilding { segment, len, wanted, targets, damaged: Mutex::default() };
    let buffers = || Ok(Buffers::default());
    stripes::each(layout, len, buffers, |own, stripe| work.write(stripe, own), advance)?;
    rebuilt.damaged = work.damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ended = os::at_once(targets, |target| target.end(segment, len));
    for (target, ended) in targets.iter().zip(ended) {
        match ended {
            Ok(()) => {
                rebuilt.shards.insert(target.index);
                rebuilt.bytes += layout.shard_len(target.index, len);
            }
            Err(error) => rebuilt.failed.push((target.index, error)),
        }
    }
    Ok(())
}

fn begin(segment: &CodedSegment, index: usize) -> Result<Target> {
    let owner = segment.set.owner;
    let Some(drive) = segment.set.drives.get(index) else {
        return Err(Error::missing(&segment.path(index)));
    };
    if !drive.is_here() {
        drive.adopt(&format!("{owner:016x}-DRIVE"))?;
    }
    os::create_folder(&drive.staging())?;
    let staged = drive.staging().join(format!("{owner:016x}-{:016x}", crate::random_u64()));
    let staged = File::create_new(&staged)?;
    staged.write_all_at(&segment.shard(index).encode_header(segment.layout()), 0)?;
    Ok(Target { index, staged, failed: OnceLock::new() })
}

impl Target {
    /// Gives it its name, durably.
    fn end(&self, segment: &CodedSegment, len: u64) -> Result<()> {
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        let trailer = segment.shard(self.index).encode_trailer(len);
        self.staged.write_all_at(&trailer, segment.layout().trailer_at(self.index, len))?;
        self.staged.sync()?;
        os::rename(self.staged.path(), &segment.path(self.index))?;
        os::sync_folder(&segment.set.drives[self.index].folder)?;
        segment.reopen(self.index);
        Ok(())
    }
}

/// What a thread keeps from one stripe to the next.
#[derive(Default)]
struct Buffers {
    units: Units,
    made: Vec<u8>,
}

struct Rebuilding<'a> {
    segment: &'a CodedSegment,
    len: u64,
    wanted: &'a BTreeSet<usize>,
    targets: &'a [Target],
    damaged: Mutex<Troubles>,
}

impl Rebuilding<'_> {
    /// Writes a stripe of the targets that did not fail; gives the bytes read and written.
    fn write(&self, stripe: u64, buffers: &mut Buffers) -> Result<u64> {
        let targets: Vec<&Target> =
            self.targets.iter().filter(|target| target.failed.get().is_none()).collect();
        if targets.is_empty() {
            return Ok(0);
        }
        let Buffers { units, made } = buffers;
        self.read(stripe, units)?;
        let indices: Vec<usize> = targets.iter().map(|target| target.index).collect();
        let restorer = self.segment.set.restorer(units.shards(), &indices)?;
        let coded_len = self.segment.layout().coded_len(stripe, self.len);
        for (place, target) in targets.iter().enumerate() {
            made.resize(coded_len as usize, 0);
            restorer.restore(place, units.iter(), made);
            if let Err(error) = self.write_unit(target, stripe, made) {
                let _ = target.failed.set(error);
            }
        }
        Ok(coded_len * (units.shards().len() + targets.len()) as u64)
    }

    /// Reads what is needed, from what is not wanted.
    fn read(&self, stripe: u64, units: &mut Units) -> Result<()> {
        let mut met = Troubles::default();
        let is_asked = |index| !self.wanted.contains(&index);
        let read = self.segment.read_enough(stripe, self.len, &is_asked, &mut met, units);
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        met.iter().try_for_each(|(index, error)| damaged.add(index, error.clone()))?;
        read
    }

    /// Writes a unit, of which `unit` has zeros behind.
    fn write_unit(&self, target: &Target, stripe: u64, unit: &mut Vec<u8>) -> Result<()> {
        let (layout, name) = (self.segment.layout(), self.segment.shard(target.index));
        unit.truncate(layout.unit_len(target.index, stripe, self.len) as usize);
        if unit.is_empty() {
            return Ok(());
        }
        unit.extend_from_slice(&name.unit_crc(stripe, unit));
        target.staged.write_all_at(unit, layout.unit_at(stripe))
    }
}

/// After a read that met missing or damaged shards: writes them anew, each once. What fails stays as it is.
pub(super) fn after_read(segment: &CodedSegment, troubles: &Troubles) {
    let is_new = |index: &usize| segment.set.is_first_try(segment.shard(*index));
    let wanted: BTreeSet<usize> = troubles.iter().map(|(index, _)| index).filter(is_new).collect();
    if wanted.is_empty() {
        return;
    }
    if let Ok(rebuilt) = rebuild(segment, &wanted, &mut |_| Ok(())) {
        let is_here = |index| os::exists(&segment.path(index)).unwrap_or(true);
        // Nothing keeps the segment for this read: when it was removed meanwhile, nobody else removes these.
        if segment.spare(is_here).is_none() {
            for index in &rebuilt.shards {
                let _ = os::remove(&segment.path(*index));
            }
        }
    }
}
