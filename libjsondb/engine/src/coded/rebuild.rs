//! Writing shards anew from the others of their segment: same name, same bytes, so that whoever reads or rebuilds it meanwhile is not in the way.

use std::collections::BTreeSet;

use super::codec::{self, Encoder};
use super::segment::{CodedSegment, Troubles};
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
        for stripe in 0..layout.stripes(len) {
            let troubles = &mut self.rebuilt.damaged;
            let mut units = segment.read_stripe(stripe, len, &|index| !wanted.contains(&index), troubles)?;
            codec::decode(&layout, &mut units, segment.coded_len(stripe, len))?;
            self.write_stripe(stripe, len, &units, &mut encoder)?;
            advance(layout.stripe_bytes() + self.targets.len() as u64 * layout.unit)?;
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

    fn write_stripe(
        &mut self,
        stripe: u64,
        len: u64,
        units: &[Option<Vec<u8>>],
        encoder: &mut Encoder,
    ) -> Result<()> {
        let layout = *self.segment.layout();
        let unit = |index: usize| {
            let unit_len = layout.unit_len(index, stripe, len) as usize;
            units
                .get(index)
                .and_then(Option::as_deref)
                .and_then(|unit| unit.get(..unit_len))
                .unwrap_or_default()
        };
        for index in 0..layout.data {
            self.write_unit(index, stripe, unit(index));
        }
        if self.targets.iter().any(|target| target.index >= layout.data) {
            let data: Vec<&[u8]> = (0..layout.data).map(unit).collect();
            encoder.encode(&data.concat(), |index, unit| {
                self.write_unit(layout.data + index, stripe, unit);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes the unit of a shard, if it is one of those wanted.
    fn write_unit(&mut self, index: usize, stripe: u64, unit: &[u8]) {
        let Some(place) = self.targets.iter().position(|target| target.index == index) else { return };
        if unit.is_empty() {
            return;
        }
        let file = &self.targets[place].staged;
        let at = self.segment.layout().unit_at(stripe);
        let crc = self.segment.shard(index).unit_crc(stripe, unit);
        let written =
            file.write_all_at(unit, at).and_then(|()| file.write_all_at(&crc, at + unit.len() as u64));
        if let Err(error) = written {
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
