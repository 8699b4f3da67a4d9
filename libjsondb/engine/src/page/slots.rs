//! Where the entries of a page lie, each beside the first bytes of its key: a search touches few lines of memory, and of the
//! entries only the one it finds.

use std::cmp::Ordering;

/// An entry of a page in memory.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// The first bytes of the key behind what the searched keys share; see [`head_of`].
    pub(super) head: u64,
    /// Where the key behind the page's prefix begins in the page; the value follows it.
    pub(super) offset: u32,
    pub(super) key_len: u16,
    /// [`REFERENCE`] for a reference.
    pub(super) value_len: u16,
}

/// Stands for the length of a value that is a reference: no value in a page is that long.
pub(super) const REFERENCE: u16 = u16::MAX;

/// The first eight bytes, filled up with zeros, as a number: rises with the bytes, and is equal for some that differ.
pub(super) fn head_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(head)
        }
    }
}

/// Slots tried one by one before a search among many with the same head is one by halves.
const ALIKE_TRIED: usize = 4;

/// Where heads lie that rise more or less evenly.
pub(super) struct Spread {
    lowest: u64,
    /// Heads are looked at in steps of two to the power of this.
    shift: u32,
    /// Slots in a step, times 2^32.
    density: u64,
}

impl Spread {
    /// Of slots by rising head.
    pub(super) fn of(slots: &[Slot]) -> Spread {
        let (lowest, highest) = match slots {
            [first, .., last] => (first.head, last.head),
            _ => (0, 0),
        };
        let span = highest.saturating_sub(lowest);
        let shift = (u64::BITS - span.leading_zeros()).saturating_sub(u32::BITS);
        let steps = (span >> shift).max(1);
        Spread { lowest, shift, density: ((slots.len().saturating_sub(1) as u64) << 32) / steps }
    }

    /// Position among the slots of the key that begins with `head` (Ok), or where it would be (Err). `compare` compares the key of
    /// a slot with it.
    pub(super) fn search(
        &self,
        slots: &[Slot],
        head: u64,
        compare: impl Fn(&Slot) -> Ordering,
    ) -> Result<usize, usize> {
        let first = self.first_not_below(slots, head);
        let rest = &slots[first..];
        // Nearly always none or one begins alike.
        for (index, slot) in rest.iter().enumerate().take(ALIKE_TRIED) {
            if slot.head != head {
                return Err(first + index);
            }
            match compare(slot) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(first + index),
                Ordering::Greater => return Err(first + index),
            }
        }
        let alike = &rest[..rest.partition_point(|slot| slot.head == head)];
        alike.binary_search_by(compare).map(|index| first + index).map_err(|index| first + index)
    }

    /// Index of the first slot whose head is not below `head`; the number of slots when there is none.
    fn first_not_below(&self, slots: &[Slot], head: u64) -> usize {
        let steps = head.saturating_sub(self.lowest) >> self.shift;
        let guess = (u128::from(steps) * u128::from(self.density)) >> 32;
        let guess = guess.min(slots.len().saturating_sub(1) as u128) as usize;
        let (low, high) = match slots.get(guess) {
            Some(slot) if slot.head < head => gallop_up(slots, guess + 1, head),
            _ => gallop_down(slots, guess, head),
        };
        low + slots[low..high].partition_point(|slot| slot.head < head)
    }
}

/// The range around the answer, which is `low` or above.
fn gallop_up(slots: &[Slot], mut low: usize, head: u64) -> (usize, usize) {
    let mut step = 1;
    while let Some(slot) = slots.get(low + step - 1) {
        if slot.head >= head {
            return (low, low + step - 1);
        }
        low += step;
        step *= 2;
    }
    (low, slots.len())
}

/// The range around the answer, which is `high` or below.
fn gallop_down(slots: &[Slot], mut high: usize, head: u64) -> (usize, usize) {
    let mut step = 1;
    while let Some(slot) = high.checked_sub(step).and_then(|index| slots.get(index)) {
        if slot.head < head {
            return (high - step + 1, high);
        }
        high -= step;
        step *= 2;
    }
    (0, high)
}
