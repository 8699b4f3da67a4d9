//! Names of fields that were met before: a str is made, and its hash computed, once.
//!
//! Objects of one kind have their fields in one order. So each name knows which one came behind it, and that one is tried before
//! the text is searched for its end.

use std::cell::Cell;

use super::api::Py;

/// Longest name that is kept.
pub(super) const NAME_BYTES_MAX: usize = 24;
const SLOTS: usize = 512;

#[derive(Clone, Copy)]
struct Slot {
    /// The name and a quote behind it.
    bytes: [u8; NAME_BYTES_MAX + 1],
    len: u8,
    /// Of the first eight bytes those that are the name's or its quote's, as a number.
    head: u64,
    mask: u64,
    name: Py,
}

impl Slot {
    const EMPTY: Slot =
        Slot { bytes: [0; NAME_BYTES_MAX + 1], len: 0, head: 0, mask: 0, name: std::ptr::null_mut() };

    fn new(name: &[u8], object: Py) -> Self {
        let mut slot = Slot { len: name.len() as u8, name: object, ..Self::EMPTY };
        slot.bytes[..name.len()].copy_from_slice(name);
        slot.bytes[name.len()] = b'"';
        slot.mask = u64::MAX >> (8 * 7_usize.saturating_sub(name.len()));
        slot.head = slot.bytes.first_chunk().map_or(0, |head| u64::from_le_bytes(*head)) & slot.mask;
        slot
    }
}

/// One place per hash of a name: the newest wins. The GIL guards it.
pub(super) struct Names {
    slots: Box<[Cell<Slot>]>,
    /// By slot: which one was met after it.
    followers: Box<[Cell<u16>]>,
    /// The slot met last.
    last: Cell<u16>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Cell::new(Slot::EMPTY); SLOTS].into(),
            followers: vec![Cell::new(0); SLOTS].into(),
            last: Cell::new(0),
        }
    }

    /// The str of the name that followed when the last one was met before, borrowed, and its length: if the text begins with it and
    /// the quote behind it.
    pub(super) fn expected(&self, text: &[u8]) -> Option<(Py, usize)> {
        let next = self.followers.get(usize::from(self.last.get()))?.get();
        let slot = self.slots.get(usize::from(next))?.as_ptr();
        // SAFETY: under the GIL nobody else looks, and nothing is kept of the reference.
        let slot = unsafe { &*slot };
        let len = usize::from(slot.len);
        let head = u64::from_le_bytes(*text.first_chunk()?);
        if slot.name.is_null() || (head ^ slot.head) & slot.mask != 0 {
            return None;
        }
        if len >= size_of_val(&head) && text.get(..=len) != slot.bytes.get(..=len) {
            return None;
        }
        self.last.set(next);
        Some((slot.name, len))
    }

    /// The str of a name that is kept, borrowed.
    pub(super) fn find(&self, name: &[u8]) -> Option<Py> {
        let place = place(name)?;
        let before = self.last.replace(place);
        self.followers.get(usize::from(before))?.set(place);
        let slot = self.slots.get(usize::from(place))?.as_ptr();
        // SAFETY: under the GIL nobody else looks, and nothing is kept of the reference.
        let slot = unsafe { &*slot };
        let same = !slot.name.is_null() && slot.bytes.get(..usize::from(slot.len)) == Some(name);
        same.then_some(slot.name)
    }

    /// Keeps a name; its reference is this cache's from now on. Gives the one to release: what it replaces, or `object`
    /// itself when it is too long.
    pub(super) fn put(&self, name: &[u8], object: Py) -> Option<Py> {
        let Some(cell) = place(name).and_then(|place| self.slots.get(usize::from(place))) else {
            return Some(object);
        };
        let before = cell.replace(Slot::new(name, object)).name;
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
}

/// The slot of a name; None when it is too long for one.
fn place(name: &[u8]) -> Option<u16> {
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
    Some((mixed >> 55) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a str; nobody follows it.
    fn object(number: usize) -> Py {
        std::ptr::without_provenance_mut(number)
    }

    #[test]
    fn a_name_is_expected_only_where_all_of_it_and_its_quote_stand() {
        for len in 0..=NAME_BYTES_MAX {
            let names = Names::new();
            let follower = vec![b'f'; len];
            for (name, number) in [(&b"before"[..], 1), (&follower, 2)] {
                assert_eq!(names.find(name), None);
                assert_eq!(names.put(name, object(number)), None);
            }
            let text = [&follower, &b"\": 12345"[..]].concat();
            let expected = |text: &[u8]| {
                assert_eq!(names.find(b"before"), Some(object(1)));
                names.expected(text)
            };
            assert_eq!(expected(&text), Some((object(2), len)));
            for end in 0..=len {
                assert_eq!(expected(&text[..end]), None, "cut off");
                let mut other = text.clone();
                other[end] = b'x';
                assert_eq!(expected(&other), None, "another byte at {end} of {len}");
            }
            // What followed last counts.
            assert_eq!((names.find(b"before"), names.find(b"before")), (Some(object(1)), Some(object(1))));
            assert_eq!(names.expected(b"before\": 1"), Some((object(1), 6)));
        }
    }

    #[test]
    fn nothing_is_expected_of_an_empty_cache() {
        assert_eq!(Names::new().expected(&[0; 40]), None);
        assert_eq!(Names::new().find(&[b'n'; NAME_BYTES_MAX + 1]), None);
    }
}
