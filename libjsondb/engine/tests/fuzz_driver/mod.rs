//! Fuzzing that needs no tools: each target gets its seeds, the inputs that failed once, and mutations of both.
//!
//! `scripts/fuzz` runs the same targets guided by coverage. An input that fails is written to `tests/fuzz/corpus`, to be
//! checked in with its fix.

mod allocation;
mod mutate;
#[allow(unused_imports)] // Some mutate what is inside their inputs.
pub use mutate::mutate;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use crate::common::{Random, count, seed};
use watch::Watch;

/// Name, what runs, valid inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// Runs every target with `short` mutated inputs, or as many as asked for. No input may take more than `memory_max` bytes at once.
pub fn run(targets: &[Target], short: u64, memory_max: usize) {
    let (inputs, watch) = (count(short), Watch::start());
    let mut ran = 0;
    for (name, target, seeds) in targets {
        let mut bases = seeds();
        bases.extend(failed_before(name));
        let check = |input: &[u8]| check(name, *target, input, memory_max, &watch);
        bases.iter().for_each(|base| check(base));
        let mut random = Random::new(seed().wrapping_add(hash(name.as_bytes())));
        for _ in 0..inputs {
            check(&mutate(&mut random, &bases));
        }
        ran += bases.len() as u64 + inputs;
    }
    println!("{} fuzz targets, {ran} inputs, no failure (seed {})", targets.len(), seed());
}

fn check(name: &str, target: fn(&[u8]), input: &[u8], memory_max: usize, watch: &Watch) {
    watch.begin(name, input);
    allocation::begin();
    let result = catch_unwind(AssertUnwindSafe(|| target(input)));
    let peak = allocation::peak();
    if let Err(payload) = result {
        eprintln!("target {name} failed: its input is {}", save(name, input).display());
        resume_unwind(payload);
    }
    if peak > memory_max {
        panic!("target {name} took {peak} bytes of memory: its input is {}", save(name, input).display());
    }
}

fn corpus(name: &str) -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("Cargo.lock").exists());
    root.unwrap().join("tests/fuzz/corpus").join(name)
}

/// Inputs that failed once, in one order.
fn failed_before(name: &str) -> Vec<Vec<u8>> {
    let Ok(files) = std::fs::read_dir(corpus(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Keeps an input that failed.
fn save(name: &str, input: &[u8]) -> PathBuf {
    let path = corpus(name).join(format!("{:016x}", hash(input)));
    std::fs::create_dir_all(corpus(name)).unwrap();
    std::fs::write(&path, input).unwrap();
    path
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
