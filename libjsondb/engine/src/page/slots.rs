//! Where the entries of a page lie, each beside the first bytes of its key: a search touches few lines of memory, and of the
//! entries only the one it finds.

use std::cmp::Ordering;

/// An entry of a page in memory.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// The first bytes of the key behind the prefix; see [`head_of`].
    pub(super) head: u64,
    /// Where the key behind the prefix begins in the page; the value follows it.
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

/// The slots of a page, by rising key; at least one.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    lowest: u64,
    /// Slots per step of a head, as if heads were spread evenly: says where to look first.
    density: f64,
}

impl Slots {
    /// `slots` rise by key; None when there are none.
    pub(super) fn new(slots: Vec<Slot>) -> Option<Slots> {
        let (lowest, highest) = (slots.first()?.head, slots.last()?.head);
        let span = highest.saturating_sub(lowest).max(1);
        let density = (slots.len() - 1) as f64 / span as f64;
        Some(Slots { slots: slots.into_boxed_slice(), lowest, density })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// `index` is below `len`.
    pub(super) fn get(&self, index: usize) -> Slot {
        self.slots[index]
    }

    /// Position of the key that begins with `head` (Ok), or where it would be (Err). `compare` compares the key of a slot with it.
    pub(super) fn search(&self, head: u64, compare: impl Fn(&Slot) -> Ordering) -> Result<usize, usize> {
        let first = self.first_not_below(head);
        let alike = self.slots[first..].iter().take_while(|slot| slot.head == head);
        // Nearly always none or one.
        for (index, slot) in alike.clone().enumerate().take(4) {
            match compare(slot) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(first + index),
                Ordering::Greater => return Err(first + index),
            }
        }
        let alike = &self.slots[first..first + alike.count()];
        alike.binary_search_by(compare).map(|index| first + index).map_err(|index| first + index)
    }

    /// Index of the first slot whose head is not below `head`; the number of slots when there is none.
    fn first_not_below(&self, head: u64) -> usize {
        let guess = (head.saturating_sub(self.lowest) as f64 * self.density) as usize;
        let guess = guess.min(self.slots.len() - 1);
        let (low, high) = match self.slots[guess].head < head {
            true => self.gallop_up(guess + 1, head),
            false => self.gallop_down(guess, head),
        };
        low + self.slots[low..high].partition_point(|slot| slot.head < head)
    }

    /// The range around the answer, which is `low` or above.
    fn gallop_up(&self, mut low: usize, head: u64) -> (usize, usize) {
        let mut step = 1;
        while let Some(slot) = self.slots.get(low + step - 1) {
            if slot.head >= head {
                return (low, low + step - 1);
            }
            low += step;
            step *= 2;
        }
        (low, self.slots.len())
    }

    /// The range around the answer, which is `high` or below.
    fn gallop_down(&self, mut high: usize, head: u64) -> (usize, usize) {
        let mut step = 1;
        while let Some(slot) = high.checked_sub(step).and_then(|index| self.slots.get(index)) {
            if slot.head < head {
                return (high - step + 1, high);
            }
            high -= step;
            step *= 2;
        }
        (0, high)
    }
}
