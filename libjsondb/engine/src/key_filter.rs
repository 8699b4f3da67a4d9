//! Which keys a memtable may hold. Most look-ups are for keys that it does not: they are told so by one word of memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

/// 64 KiB: of 90,000 keys, which fill a memtable when they are small, some 7 % of others are taken for members.
const WORDS: usize = 8192;
/// Bits of a word that stand for a key.
const BITS_PER_KEY: u32 = 3;

/// A Bloom filter of one word per key. Keys are only added.
#[derive(Default)]
pub(crate) struct KeyFilter(OnceLock<Box<[AtomicU64]>>);

impl KeyFilter {
    /// Before the key can be looked for.
    pub(crate) fn add(&self, key: &[u8]) {
        let words = self.0.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
        let (word, bits) = place(key);
        if let Some(word) = words.get(word) {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// False: it was not added.
    pub(crate) fn may_hold(&self, key: &[u8]) -> bool {
        let Some(words) = self.0.get() else { return false };
        let (word, bits) = place(key);
        words.get(word).is_none_or(|word| word.load(Ordering::Relaxed) & bits == bits)
    }
}

/// The word of a key, and its bits in there.
fn place(key: &[u8]) -> (usize, u64) {
    let hash = xxh3_64(key);
    let bits = (0..BITS_PER_KEY).fold(0, |bits, bit| bits | 1 << ((hash >> (6 * bit)) & 63));
    ((hash >> 32) as usize % WORDS, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_never_denied_and_most_else_is() {
        let filter = KeyFilter::default();
        assert!(!filter.may_hold(b"nothing yet"));
        (0..10_000_u64).for_each(|key| filter.add(&key.to_be_bytes()));
        assert!((0..10_000_u64).all(|key| filter.may_hold(&key.to_be_bytes())));
        let mistaken = (10_000..20_000_u64).filter(|key| filter.may_hold(&key.to_be_bytes())).count();
        assert!(mistaken < 500, "{mistaken} of 10,000");
    }
}
