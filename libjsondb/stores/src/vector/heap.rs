//! Vectors as they were given, in blocks that are written once.
//!
//! A block is rows one after the other: CRC-32 of the row's number (u64) and the rest 4, length of the vector (f32) 4, f32 x dimension. A block that has lost rows ends with a bitmap
//! of the slots it still has (8) and one byte more: its rows are those, in order.

use std::ops::Bound;

use engine::{Direction, Placement, StoreId, Transaction};

use super::kernel::norm;
use super::keys::{self, KeyRange, RowId, SLOTS, damaged};
use super::places::Places;
use crate::Result;
use crate::planted::{Bug, is_planted};

/// Above this a value is not written through the log.
const BLOCK_BYTES_MAX: usize = 60 << 10;
/// CRC and length of the vector.
const ROW_HEADER: usize = 8;
/// Bitmap and mark of a block that has lost rows.
const TRAILER: usize = 9;
const MARK: u8 = 0xC0;
/// Blocks read at once by a walk.
const BLOCKS_AT_ONCE: usize = 16;

/// Where the vectors of one dimension lie. Reads single rows into a buffer that it keeps.
pub(super) struct Heap {
    stride: usize,
    buffer: Vec<u8>,
    /// Of blocks that were read.
    places: Places,
}

/// A vector as it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    /// Its length.
    pub(super) norm: f32,
    /// f32, little endian, anywhere in memory.
    pub(super) bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Of the bytes of a row.
    fn of(row: &'a [u8]) -> Result<Stored<'a>> {
        let (_crc, rest) = row.split_first_chunk::<4>().ok_or_else(wrong_length)?;
        let (norm, bytes) = rest.split_first_chunk::<4>().ok_or_else(wrong_length)?;
        Ok(Stored { norm: f32::from_le_bytes(*norm), bytes })
    }

    pub(super) fn numbers(self) -> impl Iterator<Item = f32> + 'a {
        self.bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number))
    }

    pub(super) fn to_vec(self) -> Vec<f32> {
        self.numbers().collect()
    }
}

impl Heap {
    pub(super) fn new(dimension: usize) -> Self {
        Self::with_places(dimension, Places::default())
    }

    /// One that knows where blocks lie.
    pub(super) fn with_places(dimension: usize, places: Places) -> Self {
        Self { stride: ROW_HEADER + 4 * dimension, buffer: Vec::new(), places }
    }

    pub(super) fn take_places(&mut self) -> Places {
        std::mem::take(&mut self.places)
    }

    /// Rows that are packed into one block.
    pub(super) fn rows_per_block(&self) -> usize {
        (BLOCK_BYTES_MAX / self.stride).clamp(1, SLOTS)
    }

    /// Bytes of a row.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Writes a block of up to [`Heap::rows_per_block`] vectors.
    pub(super) fn put<'a>(
        &self,
        t: &mut Transaction,
        store: StoreId,
        number: u64,
        vectors: impl Iterator<Item = &'a [f32]>,
    ) -> Result<()> {
        let bytes = block(self.dimension(), number, vectors);
        Ok(t.put(store, &keys::vectors(number), &bytes, Placement::Auto)?)
    }

    fn dimension(&self) -> usize {
        (self.stride - ROW_HEADER) / 4
    }

    /// Reads a row; None when it is not there.
    pub(super) fn read(
        &mut self,
        t: &mut Transaction,
        store: StoreId,
        row: RowId,
    ) -> Result<Option<Stored<'_>>> {
        let mut place = row.slot();
        let Some(len) = self.part(t, store, row.block(), place * self.stride, self.stride)? else {
            return Ok(None);
        };
        if !len.is_multiple_of(self.stride) {
            match place_in(self.slots(t, store, row.block(), len)?, row.slot()) {
                Some(compacted) => place = compacted,
                None => return Ok(None),
            }
            self.part(t, store, row.block(), place * self.stride, self.stride)?;
        }
        // The whole value has a checksum by which the engine knows what to restore from other drives.
        if self.check(row, &self.buffer).is_err() && !self.read_again(t, store, row)? {
            return Ok(None);
        }
        Stored::of(&self.buffer).map(Some)
    }

    /// Reads a row with the whole of its block; false when it is not there.
    fn read_again(&mut self, t: &mut Transaction, store: StoreId, row: RowId) -> Result<bool> {
        let Some(value) = keys::load(t, store, &keys::vectors(row.block()))? else { return Ok(false) };
        let place = self.rows(row.block(), &value)?.iter().position(|(found, _)| *found == row);
        self.buffer.clear();
        let bytes = place.and_then(|place| value.get(place * self.stride..)?.get(..self.stride));
        self.buffer.extend_from_slice(bytes.unwrap_or_default());
        Ok(place.is_some())
    }

    /// Reads a part of a block into the buffer; gives the length of the block.
    fn part(
        &mut self,
        t: &mut Transaction,
        store: StoreId,
        block: u64,
        offset: usize,
        len: usize,
    ) -> Result<Option<usize>> {
        let found = match self.places.of(block) {
            Some(place) => Some(t.get_part_at(place, offset, len, &mut self.buffer)?),
            None => t.get_part(store, &keys::vectors(block), offset, len, &mut self.buffer)?,
        };
        if let Some(place) = found.and_then(|part| part.place) {
            self.places.remember(block, place);
        }
        Ok(found.map(|part| part.value_len))
    }

    /// The row that is at this place, from 0, among those that a block has; None when it has fewer.
    pub(super) fn nth(
        &mut self,
        t: &mut Transaction,
        store: StoreId,
        block: u64,
        place: usize,
    ) -> Result<Option<RowId>> {
        let Some(len) = self.part(t, store, block, 0, 0)? else { return Ok(None) };
        if len.is_multiple_of(self.stride) {
            return Ok((place < len / self.stride).then(|| RowId::new(block, place)));
        }
        let slots = self.slots(t, store, block, len)?;
        Ok((0..SLOTS).filter(|slot| slots >> slot & 1 == 1).nth(place).map(|slot| RowId::new(block, slot)))
    }

    /// The slots that a block of this length, which has lost rows, still has.
    fn slots(&mut self, t: &mut Transaction, store: StoreId, block: u64, len: usize) -> Result<u64> {
        let trailer = len.checked_sub(TRAILER).ok_or_else(wrong_length)?;
        self.part(t, store, block, trailer, TRAILER)?;
        bitmap(&self.buffer)
    }

    /// Fails unless these are the bytes of that row.
    fn check(&self, row: RowId, bytes: &[u8]) -> Result<()> {
        if bytes.len() != self.stride {
            return Err(wrong_length());
        }
        let (crc, rest) = bytes.split_first_chunk::<4>().ok_or_else(wrong_length)?;
        if u32::from_le_bytes(*crc) != crc_of(row, rest) && !is_planted(Bug::SkipVectorCrc) {
            return Err(damaged("a vector does not fit its checksum"));
        }
        Ok(())
    }

    /// The rows of a block's value, in order.
    pub(super) fn rows<'a>(&self, block: u64, value: &'a [u8]) -> Result<Vec<(RowId, Stored<'a>)>> {
        let (rows, slots) = if value.len().is_multiple_of(self.stride) {
            (value, u64::MAX)
        } else {
            let (rows, trailer) =
                value.split_at_checked(value.len().wrapping_sub(TRAILER)).ok_or_else(wrong_length)?;
            (rows, bitmap(trailer)?)
        };
        let count = rows.len() / self.stride;
        if !rows.len().is_multiple_of(self.stride) || count > slots.count_ones() as usize {
            return Err(wrong_length());
        }
        let slots = (0..SLOTS).filter(|slot| slots >> slot & 1 == 1);
        rows.chunks_exact(self.stride)
            .zip(slots)
            .map(|(bytes, slot)| {
                let row = RowId::new(block, slot);
                self.check(row, bytes)?;
                Ok((row, Stored::of(bytes)?))
            })
            .collect()
    }

    /// Shows `visit` the rows of a block, in order.
    pub(super) fn visit(
        &self,
        t: &mut Transaction,
        store: StoreId,
        block: u64,
        mut visit: impl FnMut(RowId, Stored<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(value) = keys::load(t, store, &keys::vectors(block))? else { return Ok(()) };
        self.rows(block, &value)?.into_iter().try_for_each(|(row, stored)| visit(row, stored))
    }

    /// Rewrites a block without the rows for which `keep` is false; removes it when none is left. True when it had any such row.
    pub(super) fn retain(
        &self,
        t: &mut Transaction,
        store: StoreId,
        block: u64,
        keep: impl Fn(RowId) -> bool,
    ) -> Result<bool> {
        let key = keys::vectors(block);
        let Some(value) = keys::load(t, store, &key)? else { return Ok(false) };
        let rows = self.rows(block, &value)?;
        let (mut kept, mut slots) = (Vec::new(), 0u64);
        for (index, (row, _)) in rows.iter().enumerate().filter(|(_, (row, _))| keep(*row)) {
            slots |= 1 << row.slot();
            kept.extend_from_slice(&value[index * self.stride..][..self.stride]);
        }
        let lost = kept.len() < rows.len() * self.stride;
        if slots == 0 {
            t.delete(store, &key)?;
        } else if lost {
            kept.extend_from_slice(&slots.to_le_bytes());
            kept.push(MARK);
            t.put(store, &key, &kept, Placement::Auto)?;
        }
        Ok(lost)
    }
}

/// The value of a block of these vectors.
pub(super) fn block<'a>(dimension: usize, number: u64, vectors: impl Iterator<Item = &'a [f32]>) -> Vec<u8> {
    let stride = ROW_HEADER + 4 * dimension;
    let mut bytes = Vec::with_capacity(stride * SLOTS.min(vectors.size_hint().0));
    for (slot, vector) in vectors.enumerate() {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(norm(vector) as f32).to_le_bytes());
        vector.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        let crc = crc_of(RowId::new(number, slot), &bytes[start + 4..]);
        bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// The row is part of it: bytes of another one, which a disk gives or has put in its place, are told.
fn crc_of(row: RowId, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&row.0.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn bitmap(trailer: &[u8]) -> Result<u64> {
    match trailer.split_last_chunk::<1>() {
        Some((bitmap, [MARK])) => bitmap.try_into().map(u64::from_le_bytes).map_err(|_| wrong_length()),
        _ => Err(wrong_length()),
    }
}

/// Where a slot's row is among those that a block still has.
fn place_in(slots: u64, slot: usize) -> Option<usize> {
    let before = slots & ((1 << slot) - 1);
    (slots >> slot & 1 == 1).then_some(before.count_ones() as usize)
}

fn wrong_length() -> crate::Error {
    damaged("a block of vectors has the wrong length")
}

/// A walk over all vectors, in order of row.
pub(super) struct Walk {
    range: KeyRange,
    from: Option<Vec<u8>>,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self { range: KeyRange::all(b'v'), from: None }
    }

    /// Shows `visit` the rows of the next blocks; false when there are no more.
    pub(super) fn next(
        &mut self,
        heap: &Heap,
        t: &mut Transaction,
        store: StoreId,
        mut visit: impl FnMut(RowId, Stored<'_>) -> Result<()>,
    ) -> Result<bool> {
        let start = match &self.from {
            Some(last) => Bound::Excluded(last.as_slice()),
            None => Bound::Included(self.range.start.as_slice()),
        };
        let blocks =
            t.scan(store, start, Bound::Excluded(&self.range.end), Direction::Forward, BLOCKS_AT_ONCE)?;
        for entry in &blocks {
            let value = t.load(&entry.value)?;
            for (row, stored) in heap.rows(keys::number_of(&entry.key)?, &value)? {
                visit(row, stored)?;
            }
        }
        match blocks.into_iter().next_back() {
            Some(last) => {
                self.from = Some(last.key);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
