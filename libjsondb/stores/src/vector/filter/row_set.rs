//! A set of rows: a word of 64 slots for each block that has some of them.

use crate::vector::keys::RowId;

/// Rows, as bits of the blocks they are in: 16 bytes per block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowSet {
    /// Rising.
    blocks: Vec<u64>,
    /// The slots of each, never none.
    slots: Vec<u64>,
    len: u64,
}

impl RowSet {
    /// Adds slots of a block. Blocks that come in rising order cost the least.
    pub(super) fn add_slots(&mut self, block: u64, slots: u64) {
        if slots == 0 {
            return;
        }
        let place = match self.blocks.last() {
            Some(last) if *last >= block => self.blocks.partition_point(|other| *other < block),
            _ => self.blocks.len(),
        };
        if self.blocks.get(place) != Some(&block) {
            self.blocks.insert(place, block);
            self.slots.insert(place, 0);
        }
        let before = self.slots[place];
        self.slots[place] |= slots;
        self.len += u64::from((self.slots[place] ^ before).count_ones());
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: RowId) {
        self.add_slots(row.block(), 1 << row.slot());
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn contains(&self, row: RowId) -> bool {
        match self.blocks.binary_search(&row.block()) {
            Ok(place) => self.slots[place] >> row.slot() & 1 == 1,
            Err(_) => false,
        }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<u64>() * (self.blocks.capacity() + self.slots.capacity())
    }

    /// The rows, rising.
    pub(super) fn rows(&self) -> impl Iterator<Item = RowId> + '_ {
        self.blocks.iter().zip(&self.slots).flat_map(|(block, slots)| {
            let mut rest = *slots;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let slot = rest.trailing_zeros();
                    rest &= rest - 1;
                    RowId::new(*block, slot as usize)
                })
            })
        })
    }
}

impl FromIterator<RowId> for RowSet {
    fn from_iter<I: IntoIterator<Item = RowId>>(rows: I) -> Self {
        let mut set = Self::default();
        rows.into_iter().for_each(|row| set.add(row));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_row_set_is_a_set_whatever_the_order() {
        let blocks = [9, 3, u64::MAX >> 7, 3, 0, 9];
        let slots = [0, 63, 5, 63, 1, 7];
        let (mut set, mut expected) = (RowSet::default(), BTreeSet::new());
        for (block, slot) in blocks.into_iter().zip(slots) {
            set.add(RowId::new(block, slot));
            expected.insert(RowId::new(block, slot));
        }
        set.add_slots(77, 0);
        assert_eq!(set.len(), 5);
        assert!(set.rows().eq(expected.iter().copied()));
        for block in [0, 3, 4, 9, u64::MAX >> 7] {
            for slot in 0..64 {
                let row = RowId::new(block, slot);
                assert_eq!(set.contains(row), expected.contains(&row));
            }
        }
    }
}
