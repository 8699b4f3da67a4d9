//! All stripes of a segment, or some: their units read, each with its checksum, by several threads at once where there is more than a little.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::layout::Layout;
use super::segment::{CodedSegment, Troubles};
use super::shard::UNIT_CRC_LEN;
use crate::os;
use crate::{Error, Result};

/// Threads that read, code and write stripes, at most.
const THREADS_MAX: usize = 4;
/// And as many of them as leave each so many.
const STRIPES_EACH: u64 = 4;

/// Units that some shards have of a stripe, each as long as the code sees it.
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

    /// By shard.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.buffers.iter().take(self.shards.len()).map(Vec::as_slice)
    }

    pub(super) fn clear(&mut self) {
        self.shards.clear();
    }

    /// Reads and adds that of one more shard.
    pub(super) fn read(&mut self, segment: &CodedSegment, index: usize, stripe: u64, len: u64) -> Result<()> {
        if self.buffers.len() == self.shards.len() {
            self.buffers.push(Vec::new());
        }
        segment.read_unit(index, stripe, len, &mut self.buffers[self.shards.len()])?;
        self.shards.push(index);
        Ok(())
    }
}

impl CodedSegment {
    /// Fills `unit` with that of a shard, checked by its own checksum, and zeros up to the length that the code sees.
    pub(super) fn read_unit(&self, index: usize, stripe: u64, len: u64, unit: &mut Vec<u8>) -> Result<()> {
        let layout = self.layout();
        let unit_len = layout.unit_len(index, stripe, len);
        // What lies behind the end of the segment is known without reading.
        if unit_len > 0 {
            let (file, at) = (self.file(index)?, layout.unit_at(stripe));
            unit.resize((unit_len + UNIT_CRC_LEN) as usize, 0);
            file.read_exact_at(unit, at)?;
            if !self.shard(index).is_unit(stripe, unit) {
                return Err(Error::corrupt(file.path(), at, "checksum of a unit of the shard"));
            }
        }
        unit.truncate(unit_len as usize);
        unit.resize(layout.coded_len(stripe, len) as usize, 0);
        Ok(())
    }

    /// As many units of a stripe as are needed to know all of them, of those shards that are asked for. Notes what it could not read; fails when that
    /// leaves too few.
    pub(super) fn read_enough(
        &self,
        stripe: u64,
        len: u64,
        asked: &dyn Fn(usize) -> bool,
        troubles: &mut Troubles,
        units: &mut Units,
    ) -> Result<()> {
        let layout = self.layout();
        let is_known = |index: &usize| layout.unit_len(*index, stripe, len) == 0;
        units.clear();
        for index in (0..layout.shards()).filter(|index| asked(*index) || is_known(index)) {
            if let Err(error) = units.read(self, index, stripe, len) {
                troubles.add(index, error)?;
            }
            if units.shards().len() == layout.data {
                return Ok(());
            }
        }
        Err(self.lost(troubles))
    }
}

/// Has `work` done for each stripe of a segment of `len` bytes, by several threads with a `state` each. It gives the bytes it read and wrote, which
/// `advance` is told on this thread; the first that fails ends it.
pub(super) fn each<S>(
    layout: &Layout,
    len: u64,
    state: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, u64) -> Result<u64> + Sync,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let (next, done, count) = (Mutex::new(Ok(0)), AtomicU64::new(0), layout.stripes(len));
    let take = || {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        let stripe = next.as_ref().ok().copied().filter(|stripe| *stripe < count)?;
        *next = Ok(stripe + 1);
        Some(stripe)
    };
    let run = |tell: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let mut state = state()?;
        while let Some(stripe) = take() {
            done.fetch_add(work(&mut state, stripe)?, Ordering::Relaxed);
            tell()?;
        }
        Ok(())
    };
    let end = |error: Error| {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = std::mem::replace(&mut *next, Ok(0)).and(Err(error));
    };
    let helpers = os::processors().min(THREADS_MAX).min((count / STRIPES_EACH) as usize).saturating_sub(1);
    let help = || run(&mut || Ok(())).unwrap_or_else(end);
    os::with_help(helpers, help, || {
        run(&mut || advance(done.swap(0, Ordering::Relaxed))).unwrap_or_else(end);
    });
    next.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    advance(done.into_inner())
}
