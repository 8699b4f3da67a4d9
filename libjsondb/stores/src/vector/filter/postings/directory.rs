//! Which row has which ordinal: indexed rows are numbered as they come, so that postings are small numbers.
//!
//! Key: `f`, 0, first ordinal (u32). Value, up to about 2 KiB: for each block, as varints: its number less that of the block before
//! (zigzag; the first less 0), the slots that have ordinals, and those of them whose rows are gone, as bits. The ordinals of a block
//! rise with its slots. Rows that are gone keep theirs until all is written anew.

use std::ops::Bound;

use engine::{Direction, Placement, StoreId, Transaction, ValueRef};

use super::super::row_set::RowSet;
use super::{Census, Ordinal, Ordinals, unlike_written, varint};
use crate::vector::keys::{RowId, SLOTS};
use crate::{Error, ErrorCode, Result, walk};

const PREFIX: [u8; 2] = [b'f', 0];
const CHUNK_BYTES: usize = 2 << 10;
/// Of a block, with rows that are gone, at the most: a chunk stays beside its key.
const BLOCK_BYTES_MAX: usize = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    number: u64,
    slots: u64,
    gone: u64,
}

/// Blocks whose ordinals follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chunk {
    first: Ordinal,
    blocks: Vec<Block>,
}

impl Chunk {
    fn key(&self) -> Vec<u8> {
        [&PREFIX[..], &self.first.to_be_bytes()].concat()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES + 32);
        let mut before = 0u64;
        for block in &self.blocks {
            let step = block.number.wrapping_sub(before).cast_signed();
            varint::put((step << 1 ^ step >> 63).cast_unsigned(), &mut bytes);
            varint::put(block.slots, &mut bytes);
            varint::put(block.gone, &mut bytes);
            before = block.number;
        }
        bytes
    }

    fn decode(key: &[u8], value: ValueRef<'_>) -> Result<Self> {
        let (Some(first), ValueRef::Inline(mut bytes)) = (key.strip_prefix(&PREFIX), value) else {
            return Err(unlike_written());
        };
        let first = first.try_into().map(Ordinal::from_be_bytes).map_err(|_| unlike_written())?;
        let (mut blocks, mut number) = (Vec::new(), 0u64);
        while !bytes.is_empty() {
            let mut next = || varint::take(&mut bytes).ok_or_else(unlike_written);
            let step = next()?;
            number = number.wrapping_add(step >> 1 ^ (step & 1).wrapping_neg());
            blocks.push(Block { number, slots: next()?, gone: next()? });
        }
        Ok(Self { first, blocks })
    }

    /// The first ordinal behind it.
    fn end(&self) -> Result<Ordinal> {
        let count: u64 = self.blocks.iter().map(|block| u64::from(block.slots.count_ones())).sum();
        Ordinal::try_from(u64::from(self.first) + count).map_err(|_| unlike_written())
    }
}

/// Gives ordinals to new rows.
pub(super) struct Appender {
    chunk: Chunk,
    next: Ordinal,
    /// At least this long when it is encoded.
    bytes: usize,
}

impl Appender {
    pub(super) fn open(t: &mut Transaction, store: StoreId) -> Result<Self> {
        let chunk = last(t, store)?.unwrap_or_default();
        Ok(Self { next: chunk.end()?, bytes: chunk.encode().len(), chunk })
    }

    /// The ordinal that the next row gets.
    pub(super) fn next(&self) -> Ordinal {
        self.next
    }

    pub(super) fn add(&mut self, t: &mut Transaction, store: StoreId, row: RowId) -> Result<Ordinal> {
        let (number, slot) = (row.block(), 1u64 << row.slot());
        match self.chunk.blocks.last_mut() {
            // Ordinals of a block rise with its slots.
            Some(last) if last.number == number && last.slots < slot => last.slots |= slot,
            _ => {
                if self.bytes >= CHUNK_BYTES {
                    self.store(t, store)?;
                    self.chunk = Chunk { first: self.next, blocks: Vec::new() };
                    self.bytes = 0;
                }
                self.chunk.blocks.push(Block { number, slots: slot, gone: 0 });
                self.bytes += BLOCK_BYTES_MAX;
            }
        }
        let ordinal = self.next;
        self.next = ordinal.checked_add(1).ok_or_else(|| {
            let message = "a vector store has numbered all the rows that it can: optimize it";
            Error::new(ErrorCode::Unsupported, message)
        })?;
        Ok(ordinal)
    }

    pub(super) fn store(&self, t: &mut Transaction, store: StoreId) -> Result<()> {
        Ok(t.put(store, &self.chunk.key(), &self.chunk.encode(), Placement::Auto)?)
    }
}

fn last(t: &mut Transaction, store: StoreId) -> Result<Option<Chunk>> {
    let mut found = None;
    visit(t, store, Direction::Backward, |chunk| {
        found = Some(chunk);
        Ok(false)
    })?;
    Ok(found)
}

fn visit(
    t: &mut Transaction,
    store: StoreId,
    direction: Direction,
    mut visitor: impl FnMut(Chunk) -> Result<bool>,
) -> Result<()> {
    let span = (Bound::Included(&PREFIX[..]), Bound::Excluded(&[b'f', 1][..]));
    walk::visit(t, store, span, direction, |key, value| visitor(Chunk::decode(key, value)?))
}

/// How many ordinals there are.
pub(super) fn count(t: &mut Transaction, store: StoreId) -> Result<Ordinal> {
    last(t, store)?.unwrap_or_default().end()
}

/// The rows with these ordinals, less those that are gone.
pub(super) fn rows_of(t: &mut Transaction, store: StoreId, ordinals: &Ordinals) -> Result<RowSet> {
    let mut rows = RowSet::default();
    visit(t, store, Direction::Forward, |chunk| {
        let mut ordinal = chunk.first;
        for block in &chunk.blocks {
            let wanted = ordinals.word_at(ordinal);
            rows.add_slots(block.number, spread(wanted, block.slots) & !block.gone);
            ordinal = ordinal.checked_add(block.slots.count_ones()).ok_or_else(unlike_written)?;
        }
        Ok(true)
    })?;
    Ok(rows)
}

/// The bits of `mask`, its lowest if bit 0 of `bits` is set, and so on.
fn spread(bits: u64, mask: u64) -> u64 {
    // Mostly a block has its first slots.
    if mask & mask.wrapping_add(1) == 0 {
        return bits & mask;
    }
    let (mut rest, mut bits, mut spread) = (mask, bits, 0);
    while rest != 0 {
        if bits & 1 == 1 {
            spread |= rest & rest.wrapping_neg();
        }
        bits >>= 1;
        rest &= rest - 1;
    }
    spread
}

/// The ordinals of rows that are not gone; and, in their order, the blocks and the slots of them that these are.
pub(super) fn live(t: &mut Transaction, store: StoreId) -> Result<(Ordinals, Vec<(u64, u64)>)> {
    let (mut live, mut blocks) = (Ordinals::none(count(t, store)?), Vec::new());
    visit(t, store, Direction::Forward, |chunk| {
        let mut ordinal = chunk.first;
        for block in &chunk.blocks {
            for row in slots_of(block.number, block.slots) {
                if block.gone >> row.slot() & 1 == 0 && !live.add(ordinal) {
                    return Err(unlike_written());
                }
                ordinal = ordinal.checked_add(1).ok_or_else(unlike_written)?;
            }
            blocks.push((block.number, block.slots & !block.gone));
        }
        Ok(true)
    })?;
    Ok((live, blocks))
}

/// Removes all.
pub(super) fn clear(t: &mut Transaction, store: StoreId) -> Result<()> {
    let mut keys = Vec::new();
    visit(t, store, Direction::Forward, |chunk| {
        keys.push(chunk.key());
        Ok(true)
    })?;
    keys.iter().try_for_each(|key| Ok(t.delete(store, key)?))
}

pub(super) fn slots_of(block: u64, slots: u64) -> impl Iterator<Item = RowId> {
    (0..SLOTS).filter(move |slot| slots >> slot & 1 == 1).map(move |slot| RowId::new(block, slot))
}

/// Notes which rows are gone: those that are not kept.
pub(super) fn retain(
    t: &mut Transaction,
    store: StoreId,
    mut keep: impl FnMut(RowId) -> bool,
) -> Result<Census> {
    let (mut census, mut changed) = (Census::default(), Vec::new());
    visit(t, store, Direction::Forward, |mut chunk| {
        let mut is_changed = false;
        for block in &mut chunk.blocks {
            for row in slots_of(block.number, block.slots & !block.gone).filter(|row| !keep(*row)) {
                block.gone |= 1 << row.slot();
                is_changed = true;
            }
            let gone = u64::from((block.slots & block.gone).count_ones());
            census.gone += gone;
            census.live += u64::from(block.slots.count_ones()) - gone;
        }
        if is_changed {
            changed.push(chunk);
        }
        Ok(true)
    })?;
    for chunk in changed {
        t.put(store, &chunk.key(), &chunk.encode(), Placement::Auto)?;
    }
    Ok(census)
}

/// For fuzzing: what is read is read again from what is written of it.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn check(key: &[u8], value: &[u8]) {
    if let Ok(chunk) = Chunk::decode(key, ValueRef::Inline(value)) {
        let again = Chunk::decode(&chunk.key(), ValueRef::Inline(&chunk.encode()));
        assert!(again.is_ok_and(|again| again == chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back() {
        let block = |number, slots, gone| Block { number, slots, gone };
        let blocks = vec![block(7, 1, 0), block(u64::MAX >> 6, u64::MAX, 1 << 63), block(3, 6, 6)];
        let chunk = Chunk { first: 70_000, blocks };
        let bytes = chunk.encode();
        assert_eq!(Chunk::decode(&chunk.key(), ValueRef::Inline(&bytes)).unwrap(), chunk);
        assert!(Chunk::decode(&chunk.key(), ValueRef::Inline(&bytes[..bytes.len() - 1])).is_err());
        assert_eq!(chunk.end().unwrap(), 70_000 + 1 + 64 + 2);
    }

    #[test]
    fn bits_are_spread_over_a_mask() {
        assert_eq!(spread(0b101, 0b111), 0b101);
        assert_eq!(spread(0b101, 0b1101_0000), 0b1001_0000);
        assert_eq!(spread(u64::MAX, 1 << 63), 1 << 63);
        assert_eq!(spread(u64::MAX, 0), 0);
        assert_eq!(spread(u64::MAX, u64::MAX), u64::MAX);
    }
}
