//! What the campaigns share: how large they are, where they start, where their files lie.
//!
//! `SOP_SEED` and `SOP_COUNT` set the seed and the count of a campaign; `scripts/prove` sets them. Without them a campaign is the
//! short one of `scripts/test`, the same each time.

#![allow(dead_code)] // No campaign needs everything.

#[cfg(unix)]
use std::path::Path;

/// xorshift64*: enough to choose, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// Any seed will do; neighbours give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        // The multiplier of splitmix64; its sequence is never 0, where xorshift would stay.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    /// Bytes that nothing makes shorter.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Where the campaign starts.
pub fn seed() -> u64 {
    number("SOP_SEED").unwrap_or(1)
}

/// How much the campaign does; `short` is the count of `scripts/test`.
pub fn count(short: u64) -> u64 {
    number("SOP_COUNT").unwrap_or(short)
}

/// The same settings for proptest: the same cases each time.
pub fn cases(short: u64) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: u32::try_from(count(short)).unwrap_or(u32::MAX),
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed()),
        ..Default::default()
    }
}

/// A folder where files and syncs cost least: for campaigns about order, not about the disk.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
