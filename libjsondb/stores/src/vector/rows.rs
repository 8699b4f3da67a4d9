//! Reading stored vectors, a block at a time.

use std::ops::Bound;

use engine::{BlobRef, Direction, StoreId, Transaction, Value, ValueRef};

use super::kernel::{Matrix, decode};
use super::layout::{KeyRange, RowAddress, damaged};
use crate::{Result, walk};

/// Numbers in a block: 256 KiB, so that a block stays in the processor's cache while it is worked on.
const BLOCK_NUMBERS: usize = 64 << 10;

/// Rows in a block of vectors of this dimension.
pub(super) fn rows_per_block(dimension: usize) -> usize {
    (BLOCK_NUMBERS / dimension.max(1)).max(16)
}

/// Rows read together: their addresses, and their vectors in the same order.
pub(super) struct RowBlock {
    pub(super) addresses: Vec<RowAddress>,
    pub(super) vectors: Matrix,
}

impl RowBlock {
    pub(super) fn new(dimension: usize) -> Self {
        Self { addresses: Vec::new(), vectors: Matrix::new(dimension) }
    }

    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    pub(super) fn clear(&mut self) {
        self.addresses.clear();
        self.vectors.clear();
    }
}

/// A place in a range of stored vectors.
pub(super) struct RowCursor {
    range: KeyRange,
    at_end: bool,
}

impl RowCursor {
    pub(super) fn new(range: KeyRange) -> Self {
        Self { range, at_end: false }
    }

    /// True when [`RowCursor::read`] would add nothing.
    pub(super) fn at_end(&self) -> bool {
        self.at_end
    }

    /// Adds rows to `block` until it has `limit` of them or the range ends.
    pub(super) fn read(
        &mut self,
        t: &mut Transaction,
        store: StoreId,
        block: &mut RowBlock,
        limit: usize,
    ) -> Result<()> {
        let mut large: Vec<(usize, BlobRef)> = Vec::new();
        let mut resume: Option<Vec<u8>> = None;
        let span = (Bound::Included(&*self.range.start), Bound::Excluded(&*self.range.end));
        walk::visit(t, store, span, Direction::Forward, |key, value| {
            if block.len() >= limit {
                resume = Some(key.to_vec());
                return Ok(false);
            }
            let address = RowAddress::from_vector_key(key)?;
            match value {
                ValueRef::Inline(bytes) if block.vectors.push_encoded(bytes) => {}
                ValueRef::Inline(_) => return Err(damaged("a vector has the wrong length")),
                // The transaction is busy while it walks: large vectors are loaded afterwards.
                ValueRef::Blob(blob) => {
                    large.push((block.len(), blob));
                    block.vectors.push_zeros();
                }
            }
            block.addresses.push(address);
            Ok(true)
        })?;
        match resume {
            Some(key) => self.range.start = key,
            None => self.at_end = true,
        }
        for (index, blob) in large {
            let vector = decode(&t.load(&Value::Blob(blob))?);
            let vector = vector.filter(|vector| vector.len() == block.vectors.dimension());
            let vector = vector.ok_or_else(|| damaged("a vector has the wrong length"))?;
            block.vectors.row_mut(index).copy_from_slice(&vector);
        }
        Ok(())
    }
}
