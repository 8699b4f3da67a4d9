//! Targets for fuzzing: every decoder of the engine, given any bytes.
//!
//! A target panics when a promise is broken: none may panic, take memory without bound or go on for ever; what a decoder accepts
//! comes back when it is encoded again. Checksums are mended before bytes are decoded, else nothing behind them were ever reached.

#![allow(clippy::unwrap_used, missing_docs)]

mod coded;
mod decoders;
mod folder;
mod log;
mod page;
mod tree;

/// Name, what runs, valid inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

pub const TARGETS: &[Target] = &[
    ("reader", decoders::reader, decoders::reader_seeds),
    ("format", decoders::format, decoders::format_seeds),
    ("wal-header", decoders::wal_header, decoders::wal_header_seeds),
    ("frame-header", decoders::frame_header, decoders::frame_header_seeds),
    ("commit", decoders::commit, decoders::commit_seeds),
    ("checkpoint", decoders::checkpoint, decoders::checkpoint_seeds),
    ("tail", decoders::tail, decoders::tail_seeds),
    ("manifest", decoders::manifest, decoders::manifest_seeds),
    ("pin", decoders::pin, decoders::pin_seeds),
    ("segment-index", decoders::segment_index, decoders::segment_index_seeds),
    ("set", coded::set, coded::set_seeds),
    ("drive", coded::drive, coded::drive_seeds),
    ("shard", coded::shard, coded::shard_seeds),
    ("catalog-entry", decoders::catalog_entry, decoders::catalog_entry_seeds),
    ("file-name", decoders::file_name, decoders::file_name_seeds),
    ("page", page::page, page::seeds),
    ("tree", tree::tree, tree::seeds),
    ("log", log::log, log::seeds),
    ("folder", folder::folder, folder::seeds),
];

/// A folder where files cost least.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[cfg(test)]
#[test]
fn fuzz_every_decoder() {
    crate::fuzz_driver::run(TARGETS, 5_000, 64 << 20);
}
