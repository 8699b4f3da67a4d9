//! One target of the crates' tables under libFuzzer: SOP_TARGET names it, SOP_SEEDS is where its seeds are put.
#![no_main]
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

#[path = "../../../libjsondb/engine/tests/common/mod.rs"]
mod common;
#[path = "../../../libjsondb/engine/tests/fuzz_driver/mutate.rs"]
mod mutate;
/// What programs need of the driver.
mod fuzz_driver {
    pub use crate::mutate::mutate;
}
#[path = "../../../libjsondb/tests/fuzz/calls.rs"]
mod calls;
#[path = "../../../libjsondb/tests/fuzz/program.rs"]
mod program;
#[path = "../../../libjsondb/tests/fuzz/texts.rs"]
mod texts;

use std::path::PathBuf;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

/// Finds the target and writes its seeds.
fn choose() {
    let wanted = std::env::var("SOP_TARGET").unwrap();
    let mut all = engine::fuzz::TARGETS.iter().chain(stores::fuzz::TARGETS).chain(program::TARGETS);
    let Some((_, target, seeds)) = all.find(|(name, _, _)| *name == wanted) else {
        panic!("there is no target {wanted}");
    };
    let folder = PathBuf::from(std::env::var("SOP_SEEDS").unwrap());
    for (index, seed) in seeds().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
    }
    TARGET.set(*target).unwrap();
}

libfuzzer_sys::fuzz_target!(init: choose(), |input: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(input);
    }
});
