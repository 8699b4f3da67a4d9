//! Names of fields that were met before: a str is made, and its hash computed, once.

use std::cell::Cell;

use super::api::Py;

/// Longest name that is kept.
pub(super) const NAME_BYTES_MAX: usize = 24;
const SLOTS: usize = 512;

#[derive(Clone, Copy)]
struct Slot {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
    name: Py,
}

/// One place per hash of a name: the newest wins. The GIL guards it.
pub(super) struct Names {
    slots: Box<[Cell<Slot>]>,
}

impl Names {
    pub(super) fn new() -> Self {
        let empty = Slot { bytes: [0; NAME_BYTES_MAX], len: 0, name: std::ptr::null_mut() };
        Self { slots: vec![Cell::new(empty); SLOTS].into() }
    }

    /// The str of a name that is kept, borrowed.
    pub(super) fn find(&self, name: &[u8]) -> Option<Py> {
        let slot = self.slot(name)?.as_ptr();
        // SAFETY: under the GIL nobody else looks, and nothing is kept of the reference.
        let slot = unsafe { &*slot };
        let same = !slot.name.is_null() && slot.bytes.get(..usize::from(slot.len)) == Some(name);
        same.then_some(slot.name)
    }

    /// Keeps a name; its reference is this cache's from now on. Gives the one to release: what it replaces, or `object`
    /// itself when it is too long.
    pub(super) fn put(&self, name: &[u8], object: Py) -> Option<Py> {
        let Some(cell) = self.slot(name) else { return Some(object) };
        let mut slot = Slot { bytes: [0; NAME_BYTES_MAX], len: name.len() as u8, name: object };
        slot.bytes[..name.len()].copy_from_slice(name);
        let before = cell.replace(slot).name;
        (!before.is_null()).then_some(before)
    }

    /// Empties the cache.
    pub(super) fn take(&mut self, mut each: impl FnMut(Py)) {
        for cell in &mut self.slots {
            let name = std::mem::replace(&mut cell.get_mut().name, std::ptr::null_mut());
            if !name.is_null() {
                each(name);
            }
        }
    }

    fn slot(&self, name: &[u8]) -> Option<&Cell<Slot>> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        // Two overlapping words cover up to 16 bytes, which tells nearly all names apart.
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let head = word(&name[..name.len().min(8)]);
        let tail = word(&name[name.len().saturating_sub(8)..]);
        let mixed = (head ^ tail.rotate_left(29) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.slots.get((mixed >> 55) as usize)
    }
}
