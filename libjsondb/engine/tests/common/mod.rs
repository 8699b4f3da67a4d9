//! What the campaigns share: how large they are, where they start, where their files lie.
//!
//! `SOP_SEED` and `SOP_COUNT` set the seed and the count of a campaign; `scripts/prove` sets them. Without them a campaign is the
//! short one of `scripts/test`, the same each time.

#![allow(dead_code, unused_imports)] // No campaign needs everything.

use std::path::Path;

mod random;

pub use random::Random;

/// A number from the environment.
pub fn number(name: &str) -> Option<u64> {
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
