//! All stripes of a segment, or some: their units read, each with its checksum, by several threads at once where there is more than a little.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::layout::Layout;
use super::segment::{CodedSegment, Troubles};
use super::shard::UNIT_CRC_LEN;
use crate::os;
use crate::{Error, Result};

/// Threads that read, code and write stripes, at most.
const THREADS_MAX: usize = 4;

/// Units of some shards, of some stripes that lie behind each other: enough to know all others.
#[derive(Default)]
pub(super) struct Units {
    shards: Vec<usize>,
    /// By place among the shards. Those behind are left from earlier reads.
    buffers: Vec<Vec<u8>>,
}

impl Units {
    /// Whose they are.
    pub(super) fn shards(&self) -> &[usize] {
        &self.shards
    }

    /// Those of a stripe, by its place among those read, by shard; each of `coded_len` bytes.
    pub(super) fn of_stripe(&self, place: usize, coded_len: usize) -> impl Iterator<Item = &[u8]> + Clone {
        let at = place * (coded_len + UNIT_CRC_LEN as usize);
        self.buffers[..self.shards.len()].iter().map(move |stored| &stored[at..at + coded_len])
    }

    pub(super) fn clear(&mut self) {
        self.shards.clear();
    }

    /// Reads and adds those of one more shard.
    pub(super) fn read(
        &mut self,
        segment: &CodedSegment,
        index: usize,
        stripes: &Range<u64>,
        len: u64,
    ) -> Result<()> {
        if self.buffers.len() == self.shards.len() {
            self.buffers.push(Vec::new());
        }
        segment.read_units(index, stripes, len, &mut self.buffers[self.shards.len()])?;
        self.shards.push(index);
        Ok(())
    }
}

impl CodedSegment {
    /// Fills `stored` with the units that a shard has of some stripes, each checked by the checksum that it is left with. Several stripes are full
    /// ones; a single unit is as long as the code sees it.
    pub(super) fn read_units(
        &self,
        index: usize,
        stripes: &Range<u64>,
        len: u64,
        stored: &mut Vec<u8>,
    ) -> Result<()> {
        let (layout, name) = (self.layout(), self.shard(index));
        let unit_len = layout.unit_len(index, stripes.start, len);
        let coded_len = layout.coded_len(stripes.start, len) as usize;
        if unit_len == 0 {
            // It lies behind the end of the segment, which is known without reading.
            stored.clear();
            stored.resize(coded_len, 0);
            return Ok(());
        }
        let stride = (unit_len + UNIT_CRC_LEN) as usize;
        let (file, at) = (self.file(index)?, layout.unit_at(stripes.start));
        stored.resize(stride * (stripes.end - stripes.start) as usize, 0);
        file.read_exact_at(stored, at)?;
        for (place, (unit, stripe)) in stored.chunks(stride).zip(stripes.clone()).enumerate() {
            if !name.is_unit(stripe, unit) {
                let at = at + (place * stride) as u64;
                return Err(Error::corrupt(file.path(), at, "checksum of a unit of the shard"));
            }
        }
        if (unit_len as usize) < coded_len {
            stored.truncate(unit_len as usize);
            stored.resize(coded_len, 0);
        }
        Ok(())
    }

    /// As many units of some stripes as are needed to know all of them, of those shards that are asked for. Notes what it could not read; fails
    /// when that leaves too few.
    pub(super) fn read_enough(
        &self,
        stripes: &Range<u64>,
        len: u64,
        asked: &dyn Fn(usize) -> bool,
        troubles: &mut Troubles,
        units: &mut Units,
    ) -> Result<()> {
        let layout = self.layout();
        let is_known = |index: &usize| layout.unit_len(*index, stripes.start, len) == 0;
        units.clear();
        for index in (0..layout.shards()).filter(|index| asked(*index) || is_known(index)) {
            if let Err(error) = units.read(self, index, stripes, len) {
                troubles.add(index, error)?;
            }
            if units.shards().len() == layout.data {
                return Ok(());
            }
        }
        Err(self.lost(troubles))
    }
}

/// Has `work` done for all stripes of a segment of `len` bytes, some at a time, by several threads with a `state` each. It gives the bytes it read
/// and wrote, which `advance` is told on this thread; the first that fails ends it.
pub(super) fn each<S>(
    layout: &Layout,
    len: u64,
    state: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, Range<u64>) -> Result<u64> + Sync,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let (next, done) = (Mutex::new(Ok(0)), AtomicU64::new(0));
    let take = || {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        let first = next.as_ref().ok().copied().filter(|first| *first < layout.stripes(len))?;
        let stripes = layout.together(first, len);
        *next = Ok(stripes.end);
        Some(stripes)
    };
    let run = |tell: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let mut state = state()?;
        while let Some(stripes) = take() {
            done.fetch_add(work(&mut state, stripes)?, Ordering::Relaxed);
            tell()?;
        }
        Ok(())
    };
    let end = |error: Error| {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = std::mem::replace(&mut *next, Ok(0)).and(Err(error));
    };
    let groups = layout.stripes(len).div_ceil(layout.together(0, len).end);
    let helpers = os::processors().min(THREADS_MAX).min(groups as usize).saturating_sub(1);
    let help = || run(&mut || Ok(())).unwrap_or_else(end);
    os::with_help(helpers, help, || {
        run(&mut || advance(done.swap(0, Ordering::Relaxed))).unwrap_or_else(end);
    });
    next.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    advance(done.into_inner())
}
