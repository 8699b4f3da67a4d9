//! Every C function, called with anything: no panic, no malformed answer, nothing left behind, and the database stays whole.
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, missing_docs)] // Every pointer here is to a local, or NULL.

#[path = "../../engine/tests/common/mod.rs"]
mod common;
#[path = "../../engine/tests/fuzz_driver/mod.rs"]
mod fuzz_driver;

mod calls;
mod program;
mod texts;

/// Every function of the header is among the calls.
#[test]
fn every_function_of_the_header_is_called() {
    let header = include_str!("../../../include/libjsondb.h");
    let sources = [include_str!("calls.rs"), include_str!("program.rs")].concat();
    let mut count = 0;
    for line in header.lines().filter(|line| !line.starts_with(['/', ' ', '#', '}'])) {
        let Some((before, _)) = line.split_once('(') else { continue };
        let name = before.rsplit([' ', '*']).next().unwrap();
        assert!(sources.contains(name), "{name} is not called");
        count += 1;
    }
    assert!(count > 50, "{count} functions found in the header");
}

#[test]
fn fuzz_every_function() {
    fuzz_driver::run(program::TARGETS, 2_000, 512 << 20);
}
