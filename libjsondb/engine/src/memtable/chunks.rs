//! An array that only grows, and whose elements never move: one thread makes elements, others read them without locks.

use std::sync::OnceLock;

/// The first chunk holds so many elements; from then on there are [`PARTS`] chunks of a size, each size twice the one before. So at
/// most a quarter of what is allocated waits to be used.
const FIRST: u64 = 16;
const PARTS: u64 = 4;
/// Enough for 2^32 elements.
const CHUNKS: usize = 108;

/// Elements begin as their default; they are changed through shared references (atomics, [`OnceLock`]s).
pub(super) struct Chunks<T>([OnceLock<Box<[T]>>; CHUNKS]);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; CHUNKS])
    }
}

/// The chunk of an element, its place in there, and the length of that chunk.
fn place(index: u32) -> (usize, usize, usize) {
    let position = u64::from(index) + FIRST * PARTS;
    let log = position.ilog2();
    let len = 1u64 << (log - PARTS.ilog2());
    let chunk = u64::from(log - (FIRST * PARTS).ilog2()) * PARTS + (position / len) % PARTS;
    (chunk as usize, (position % len) as usize, len as usize)
}

impl<T: Default> Chunks<T> {
    /// An element that was made.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, place, _) = place(index);
        self.0.get(chunk)?.get()?.get(place)
    }

    /// As [`Chunks::get`], made now if it was not.
    pub(super) fn make(&self, index: u32) -> &T {
        let (chunk, place, len) = place(index);
        &self.0[chunk].get_or_init(|| (0..len).map(|_| T::default()).collect())[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            let (chunk, at, len) = place(index);
            assert_eq!((chunk, at), expected, "{index}");
            expected = if at + 1 == len { (chunk + 1, 0) } else { (chunk, at + 1) };
        }
        let (chunk, at, len) = place(u32::MAX);
        assert!(chunk < CHUNKS && at < len);
    }

    #[test]
    fn what_was_not_made_is_not_there() {
        let chunks = Chunks::<OnceLock<u32>>::default();
        assert!(chunks.get(0).is_none());
        chunks.make(5).set(7).unwrap();
        assert_eq!(chunks.get(5).and_then(OnceLock::get), Some(&7));
        assert!(chunks.get(1000).is_none());
    }
}
