//! Writing shards anew from the others of their segment: same name, same bytes, so that whoever reads or rebuilds it meanwhile is not in the way.

use std::collections::BTreeSet;
use std::ops::Range;

use super::codec::{self, Encoder};
use super::segment::{CodedSegment, Troubles};
use super::shard::UNIT_CRC_LEN;
use crate::os::{self, File};
use crate::{Error, ErrorKind, Result};

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
}

/// Writes the `wanted` shards of a sealed segment anew. Fails when too few of the others are left; a drive that fails is only noted. `advance` is told the
/// bytes read and written, and may end it.
pub(crate) fn rebuild(
    segment: &CodedSegment,
    wanted: &BTreeSet<usize>,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Rebuilt> {
    let mut work = Rebuilding { segment, targets: Vec::new(), rebuilt: Rebuilt::default() };
    let done = work.run(wanted, advance);
    // Of those that got their names nothing is left here.
    for target in &work.targets {
        let _ = os::remove(target.staged.path());
    }
    done.map(|()| work.rebuilt)
}

struct Rebuilding<'a> {
    segment: &'a CodedSegment,
    targets: Vec<Target>,
    rebuilt: Rebuilt,
}

impl Rebuilding<'_> {
    fn run(&mut self, wanted: &BTreeSet<usize>, advance: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        for index in wanted {
            match self.begin(*index) {
                Ok(target) => self.targets.push(target),
                Err(error) => self.rebuilt.failed.push((*index, error)),
            }
        }
        if self.targets.is_empty() {
            return Ok(());
        }
        let (segment, layout) = (self.segment, *self.segment.layout());
        let len = segment.len()?;
        let mut encoder = Encoder::new(layout)?;
        let mut next = 0;
        while next < layout.stripes(len) {
            let mut stripes = layout.together(next, len);
            let mut read = self.read(&stripes, len, wanted);
            if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::DrivesLost) {
                // Too few shards are right in all of these stripes; there may be enough in each.
                stripes = next..next + 1;
                read = self.read(&stripes, len, wanted);
            }
            self.write(&stripes, len, &read?, &mut encoder)?;
            next = stripes.end;
            let (count, shards) = (stripes.end - stripes.start, layout.data + self.targets.len());
            advance(count * shards as u64 * layout.unit)?;
        }
        for target in std::mem::take(&mut self.targets) {
            match self.end(&target, len) {
                Ok(()) => {
                    self.rebuilt.shards.insert(target.index);
                    self.rebuilt.bytes += layout.shard_len(target.index, len);
                }
                Err(error) => self.fail(target, error),
            }
        }
        Ok(())
    }

    fn begin(&self, index: usize) -> Result<Target> {
        let (segment, owner) = (self.segment, self.segment.set.owner);
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
        Ok(Target { index, staged })
    }

    /// The data of some stripes, by shard, from what is not wanted.
    fn read(
        &mut self,
        stripes: &Range<u64>,
        len: u64,
        wanted: &BTreeSet<usize>,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let (segment, damaged) = (self.segment, &mut self.rebuilt.damaged);
        let mut units = segment.read_stripes(stripes, len, &|index| !wanted.contains(&index), damaged)?;
        codec::decode(segment.layout(), &mut units)?;
        Ok(units)
    }

    fn write(
        &mut self,
        stripes: &Range<u64>,
        len: u64,
        units: &[Option<Vec<u8>>],
        encoder: &mut Encoder,
    ) -> Result<()> {
        let layout = *self.segment.layout();
        let count = (stripes.end - stripes.start) as usize;
        let units = units.iter().take(layout.data).enumerate().map(|(index, units)| {
            let len = layout.unit_len(index, stripes.start, len) as usize * count;
            units.as_deref().and_then(|units| units.get(..len)).unwrap_or_default()
        });
        for (index, units) in units.clone().enumerate() {
            self.write_units(index, stripes, units);
        }
        if self.targets.iter().any(|target| target.index >= layout.data) {
            encoder.encode(units, |index, units| {
                self.write_units(layout.data + index, stripes, units);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes the units of a shard, if it is one of those wanted.
    fn write_units(&mut self, index: usize, stripes: &Range<u64>, units: &[u8]) {
        let Some(place) = self.targets.iter().position(|target| target.index == index) else { return };
        let unit_len = units.len() / (stripes.end - stripes.start) as usize;
        if unit_len == 0 {
            return;
        }
        let name = self.segment.shard(index);
        let mut stored = Vec::with_capacity(units.len() + units.len() / unit_len * UNIT_CRC_LEN as usize);
        for (unit, stripe) in units.chunks(unit_len).zip(stripes.clone()) {
            stored.extend_from_slice(unit);
            stored.extend_from_slice(&name.unit_crc(stripe, unit));
        }
        let at = self.segment.layout().unit_at(stripes.start);
        if let Err(error) = self.targets[place].staged.write_all_at(&stored, at) {
            let target = self.targets.remove(place);
            self.fail(target, error);
        }
    }

    /// Gives it its name, durably.
    fn end(&self, target: &Target, len: u64) -> Result<()> {
        let (segment, index) = (self.segment, target.index);
        let trailer = segment.shard(index).encode_trailer(len);
        target.staged.write_all_at(&trailer, segment.layout().trailer_at(index, len))?;
        target.staged.sync()?;
        os::rename(target.staged.path(), &segment.path(index))?;
        os::sync_folder(&segment.set.drives[index].folder)?;
        segment.reopen(index);
        Ok(())
    }

    fn fail(&mut self, target: Target, error: Error) {
        let _ = os::remove(target.staged.path());
        self.rebuilt.failed.push((target.index, error));
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
        let others = (0..segment.layout().shards()).filter(|index| !rebuilt.shards.contains(index));
        let left = others.filter(|index| os::exists(&segment.path(*index)).unwrap_or(true)).count();
        // Nothing keeps the segment for this read: when it was removed meanwhile, nobody else removes these.
        if left + rebuilt.shards.len() < segment.layout().data {
            for index in &rebuilt.shards {
                let _ = os::remove(&segment.path(*index));
            }
        }
    }
}
