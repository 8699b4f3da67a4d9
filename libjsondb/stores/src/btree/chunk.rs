//! Items on their way in: encoded keys and records, one after the other in one buffer.

use super::record;

/// A chunk is full with so many items, or so many bytes.
const ITEMS_MAX: usize = 4096;
const BYTES_MAX: usize = 1 << 20;
/// One of so many items and bytes is small.
const SMALL_ITEMS_MAX: usize = 64;
const SMALL_BYTES_MAX: usize = 16 << 10;

/// Items to be written, or keys to be looked up or removed. Filled by its owner: the key's bytes into [`Chunk::buffer`], then
/// [`Chunk::end_key`], then the value's JSON text into the buffer, then [`Chunk::end_item`].
#[derive(Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    items: Vec<Span>,
    /// Where the complete items end, and the record of the one that is being filled begins.
    filled: usize,
    record_start: usize,
}

/// An item's place: its key up to `record`, its record up to `end`.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    record: usize,
    end: usize,
}

impl Chunk {
    /// Where the next part of an item goes.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The key is complete. `text` is its JSON text where its bytes do not say all of it.
    pub fn end_key(&mut self, text: Option<&[u8]>) {
        self.record_start = self.bytes.len();
        record::begin(text, &mut self.bytes);
    }

    /// The item is complete.
    pub fn end_item(&mut self) {
        let end = self.bytes.len();
        self.items.push(Span { start: self.filled, record: self.record_start, end });
        self.filled = end;
    }

    /// The key is complete, and is all there is.
    pub fn end_key_only(&mut self) {
        self.record_start = self.bytes.len();
        self.end_item();
    }

    /// Drops what was begun and not completed.
    pub fn forget_unfinished(&mut self) {
        self.bytes.truncate(self.filled);
    }

    /// Number of complete items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True without items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// True when it is so little that it can be written in a few microseconds.
    pub fn is_small(&self) -> bool {
        self.items.len() <= SMALL_ITEMS_MAX && self.bytes.len() <= SMALL_BYTES_MAX
    }

    /// True when it is time to write it.
    pub fn is_full(&self) -> bool {
        self.items.len() >= ITEMS_MAX || self.bytes.len() >= BYTES_MAX
    }

    /// Empties it; keeps its memory, unless one large item took more than a full chunk does.
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
        self.filled = 0;
        self.bytes.shrink_to(2 * BYTES_MAX);
    }

    /// Puts the items in order of key; of equal keys the one that came last stays last.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |span: &Span| &bytes[span.start..span.record];
        if !self.items.is_sorted_by_key(key) {
            self.items
                .sort_unstable_by(|one, other| key(one).cmp(key(other)).then(one.start.cmp(&other.start)));
        }
    }

    /// Key and record of each item.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.items
            .iter()
            .map(|span| (&self.bytes[span.start..span.record], &self.bytes[span.record..span.end]))
    }
}
