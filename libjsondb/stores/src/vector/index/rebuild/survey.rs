//! What there is to build from, as a snapshot has it.

use std::collections::{BTreeMap, HashSet};

use engine::{CancelToken, Direction, Transaction, ValueRef};

use crate::vector::entry;
use crate::vector::heap::Heap;
use crate::vector::index::gather;
use crate::vector::index::vacuum::dead_rows;
use crate::vector::kernel::Matrix;
use crate::vector::keys::{self, KeyRange, RowId};
use crate::vector::random::Random;
use crate::vector::shape::Shape;
use crate::{Result, walk};

/// Rows read between two looks at the cancel token.
const ROWS_PER_CHECK: usize = 1024;

/// The rows of a store, without their vectors.
pub(super) struct Survey {
    /// Blocks of vectors and how many rows each has, dead ones included.
    blocks: Vec<(u64, usize)>,
    /// Blocks whose codes are fresh, and how many rows each has, dead ones included.
    pub(super) fresh: Vec<(u64, usize)>,
    pub(super) dead: HashSet<RowId>,
    /// By row: which centroid_id it was given. Rows without one are not in it.
    pub(super) explicit: BTreeMap<RowId, u64>,
}

impl Survey {
    pub(super) fn new(t: &mut Transaction, shape: &Shape) -> Result<Self> {
        let stride = Heap::new(shape.dimension()).stride();
        let mut blocks = Vec::new();
        walk::visit(t, shape.store, KeyRange::all(b'v').span(), Direction::Forward, |key, value| {
            let len = match value {
                ValueRef::Inline(bytes) => bytes.len(),
                ValueRef::Blob(blob) => blob.len() as usize,
            };
            blocks.push((keys::number_of(key)?, len / stride));
            Ok(true)
        })?;
        let fresh = gather::fresh_blocks(t, shape, usize::MAX)?;
        let fresh = fresh.into_iter().map(|(block, rows)| (block, rows.len())).collect();
        let dead = dead_rows(t, shape)?;
        Ok(Self { blocks, fresh, dead, explicit: explicit(t, shape)? })
    }

    /// Rows whose vectors are there, live ones.
    pub(super) fn rows(&self) -> usize {
        let all: usize = self.blocks.iter().map(|(_, rows)| rows).sum();
        all.saturating_sub(self.dead.len())
    }

    /// Up to `size` rows, chosen at random, with their vectors rotated.
    pub(super) fn sample(
        &self,
        t: &mut Transaction,
        shape: &Shape,
        size: usize,
        cancel: &CancelToken,
    ) -> Result<(Vec<RowId>, Matrix)> {
        let all: usize = self.blocks.iter().map(|(_, rows)| rows).sum();
        let mut chosen = Random::default().choose(all, size);
        chosen.sort_unstable();
        let (mut rows, mut vectors) = (Vec::with_capacity(size), Matrix::new(shape.rotation.padded()));
        let (mut heap, mut blocks, mut first) = (Heap::new(shape.dimension()), self.blocks.iter(), 0);
        let mut block = blocks.next();
        for (index, place) in chosen.into_iter().enumerate() {
            if index % ROWS_PER_CHECK == 0 {
                cancel.check()?;
            }
            while let Some((_, count)) = block.filter(|(_, count)| place >= first + count) {
                first += count;
                block = blocks.next();
            }
            let Some((block, _)) = block else { break };
            let Some(row) = heap.nth(t, shape.store, *block, place - first)? else { continue };
            if self.dead.contains(&row) {
                continue;
            }
            if let Some(stored) = heap.read(t, shape.store, row)? {
                rows.push(row);
                vectors.push(&shape.rotated_stored(stored));
            }
        }
        Ok((rows, vectors))
    }
}

/// The rows that were given a centroid_id.
fn explicit(t: &mut Transaction, shape: &Shape) -> Result<BTreeMap<RowId, u64>> {
    let mut explicit = BTreeMap::new();
    entry::visit(t, shape.store, |row, bytes| {
        match entry::parts(bytes)?.1 {
            0 => {}
            id => drop(explicit.insert(row, id)),
        }
        Ok(())
    })?;
    Ok(explicit)
}
