//! Rows on their way into clusters: their vectors, prepared and rotated, and what of their entries the index needs.

use engine::{CancelToken, Transaction};

use crate::vector::entry::Entry;
use crate::vector::heap::Heap;
use crate::vector::kernel::Matrix;
use crate::vector::keys::{self, KeyRange, RowId, damaged};
use crate::vector::list::List;
use crate::vector::shape::Shape;
use crate::{Result, walk};

/// Payloads held in memory at once.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Fresh rows, the oldest first.
pub(super) struct Fresh {
    /// Their blocks.
    pub(super) blocks: Vec<u64>,
    /// All their rows, those that are gone included.
    pub(super) count: usize,
    /// Rows that are there.
    pub(super) rows: Vec<RowId>,
    pub(super) entries: Vec<Entry>,
    /// Rotated.
    pub(super) vectors: Matrix,
    /// Rows of which nothing is left but marks.
    pub(super) gone: Vec<RowId>,
}

impl Fresh {
    /// Reads blocks of fresh rows until there are `rows_max` rows, or no more blocks.
    pub(super) fn read(
        t: &mut Transaction,
        shape: &Shape,
        rows_max: usize,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let mut fresh = Self {
            blocks: Vec::new(),
            count: 0,
            rows: Vec::new(),
            entries: Vec::new(),
            vectors: Matrix::new(shape.rotation.padded()),
            gone: Vec::new(),
        };
        let heap = Heap::new(shape.dimension());
        let mut payloads = 0;
        for (block, rows) in fresh_blocks(t, shape, rows_max)? {
            cancel.check()?;
            fresh.blocks.push(block);
            fresh.count += rows.len();
            let before = fresh.entries.len();
            if !fresh.take(t, shape, &heap, &rows)? {
                fresh.gone.extend(&rows);
            }
            payloads += fresh.entries[before..].iter().map(|entry| entry.payload.len()).sum::<usize>();
            if payloads > PAYLOAD_BYTES_MAX {
                break;
            }
        }
        Ok(fresh)
    }

    /// Takes the rows of a block that are there; false when none is.
    fn take(&mut self, t: &mut Transaction, shape: &Shape, heap: &Heap, rows: &[RowId]) -> Result<bool> {
        let before = self.rows.len();
        for row in rows {
            if let Some(entry) = Entry::load(t, shape.store, *row)? {
                self.rows.push(*row);
                self.entries.push(entry);
            }
        }
        let (live, vectors) = (&self.rows[before..], &mut self.vectors);
        if let Some(first) = live.first() {
            heap.visit(t, shape.store, first.block(), |row, stored| {
                if live.binary_search(&row).is_ok() {
                    vectors.push(&shape.rotated_stored(stored));
                }
                Ok(())
            })?;
        }
        if self.vectors.len() != self.rows.len() {
            return Err(damaged("a row has no vector"));
        }
        Ok(self.rows.len() > before)
    }
}

/// The oldest blocks whose codes are fresh, until they have so many rows, and their rows.
pub(super) fn fresh_blocks(
    t: &mut Transaction,
    shape: &Shape,
    rows_max: usize,
) -> Result<Vec<(u64, Vec<RowId>)>> {
    let (mut blocks, mut count) = (Vec::new(), 0);
    let (mut codes, mut values) = (List::new(shape.words()), Vec::new());
    walk::visit(t, shape.store, KeyRange::all(b'n').span(), engine::Direction::Forward, |key, value| {
        let block = keys::number_of(key)?;
        let engine::ValueRef::Inline(bytes) = value else {
            values.push((block, value.to_value()));
            count += keys::SLOTS;
            return Ok(count < rows_max);
        };
        codes.clear();
        codes.unpack(bytes)?;
        blocks.push((block, (0..codes.len()).map(|index| codes.row(index)).collect::<Vec<_>>()));
        count += codes.len();
        Ok(count < rows_max)
    })?;
    for (block, value) in values {
        codes.clear();
        codes.unpack(&t.load(&value)?)?;
        blocks.push((block, (0..codes.len()).map(|index| codes.row(index)).collect()));
    }
    Ok(blocks)
}
