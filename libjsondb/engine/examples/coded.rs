//! What erasure coding costs, beside a plain database: `cargo run --release -p sop-engine --example coded -- [FOLDER] [MEGABYTES]`.
//!
//! Loads, point reads from files, and the rebuilding of drives beside a copy of the same bytes: in turns, the best of several. All drives are
//! folders of one disk.

mod measure;

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{
    CancelToken, Coding, Database, Mode, Options, Placement, Progress, RepairScope, Result, StoreId,
};
use measure::Random;

const ROUNDS: usize = 3;
const DATA: usize = 4;
const PARITY: usize = 2;
const VALUE: usize = 1000;
const LOOKUPS: u64 = 100_000;

fn drive(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("drive-{index}"))
}

fn options(folder: &Path, is_coded: bool) -> Options {
    let drives = (0..DATA + PARITY).map(|index| drive(folder, index)).collect();
    let (store, aliases) = (String::new(), Vec::new());
    let coding = Coding { store, aliases, data: DATA, parity: PARITY, drives, repair: false };
    // Leaves are read from the files, which the system keeps in memory.
    let page_cache_bytes = 16 << 20;
    Options {
        coding: if is_coded { vec![coding] } else { Vec::new() },
        page_cache_bytes,
        ..Options::default()
    }
}

fn open(folder: &Path, is_coded: bool) -> Result<Database> {
    Database::open(&folder.join("home"), &options(folder, is_coded))
}

/// One transaction of values that nothing makes shorter; gives megabytes per second until it is in the tree.
fn load(folder: &Path, is_coded: bool, values: &[Vec<u8>], count: u64) -> Result<f64> {
    let _ = std::fs::remove_dir_all(folder);
    let database = open(folder, is_coded)?;
    let began = Instant::now();
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("s", b"")?;
    for key in 0..count {
        let value = &values[key as usize % values.len()];
        transaction.put(store, &key.to_be_bytes(), value, Placement::Auto)?;
    }
    transaction.commit()?;
    database.checkpoint()?;
    let seconds = began.elapsed().as_secs_f64();
    database.close()?;
    Ok(count as f64 * VALUE as f64 / 1e6 / seconds)
}

/// Nanoseconds per get of a key anywhere: in one transaction, and each of the newest state.
fn read(folder: &Path, is_coded: bool, count: u64) -> Result<[f64; 2]> {
    let database = open(folder, is_coded)?;
    let mut transaction = database.begin(Mode::Read)?;
    let store = transaction.store("s")?.map_or(StoreId::CATALOG, |(store, _)| store);
    let keys = || (0..LOOKUPS).map(|index| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count).to_be_bytes());
    let is_there = |value: Option<&[u8]>| assert!(value.is_some());
    let mut best = [f64::MAX; 2];
    for _ in 0..2 {
        let began = Instant::now();
        keys().try_for_each(|key| transaction.get_with(store, &key, is_there))?;
        best[0] = best[0].min(began.elapsed().as_nanos() as f64 / LOOKUPS as f64);
        let began = Instant::now();
        keys().try_for_each(|key| database.get_with(store, &key, is_there))?;
        best[1] = best[1].min(began.elapsed().as_nanos() as f64 / LOOKUPS as f64);
    }
    drop(transaction);
    database.close()?;
    Ok(best)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<f64> {
    let began = Instant::now();
    std::fs::create_dir_all(to)?;
    let mut bytes = 0;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.metadata()?.is_file() {
            let target = to.join(entry.file_name());
            bytes += std::fs::copy(entry.path(), &target)?;
            std::fs::File::open(&target)?.sync_all()?;
        }
    }
    Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
}

/// Megabytes per second of the shards of some drives, written anew.
fn rebuild(folder: &Path, drives: &[usize]) -> Result<f64> {
    for index in drives {
        let _ = std::fs::remove_dir_all(drive(folder, *index));
        let _ = std::fs::create_dir(drive(folder, *index));
    }
    let database = open(folder, true)?;
    let mut report = |_, _| true;
    let progress = &mut Progress::new(&CancelToken::new(), &mut report);
    let repair = database.repair(RepairScope::Missing, progress)?;
    database.close()?;
    Ok(repair.bytes as f64 / 1e6 / repair.duration.as_secs_f64())
}

fn best(kind: &str, what: &str, figures: &[f64], is_rate: bool) {
    let best = figures.iter().copied().fold(if is_rate { 0.0 } else { f64::MAX }, |best, figure| {
        if is_rate { f64::max(best, figure) } else { f64::min(best, figure) }
    });
    println!("{kind:<32} {what:<18} {best:>9.0} {}", if is_rate { "MB/s" } else { "ns" });
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("sop-coded"), PathBuf::from);
    let megabytes: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(300);
    let count = megabytes * 1_000_000 / VALUE as u64;
    let mut random = Random(1);
    let values: Vec<Vec<u8>> =
        (0..997).map(|_| (0..VALUE).map(|_| (random.next() >> 56) as u8).collect()).collect();
    let folders = [folder.join("plain"), folder.join("coded")];
    let (mut loads, mut reads) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        for (shape, folder) in folders.iter().enumerate() {
            loads[shape].push(load(folder, shape == 1, &values, count)?);
        }
    }
    for _ in 0..ROUNDS {
        for (shape, folder) in folders.iter().enumerate() {
            reads[shape].push(read(folder, shape == 1, count)?);
        }
    }
    let (mut rebuilds, mut copies) = ([Vec::new(), Vec::new(), Vec::new()], Vec::new());
    for _ in 0..ROUNDS {
        for (place, drives) in [[0].as_slice(), &[5], &[1, 4]].into_iter().enumerate() {
            rebuilds[place].push(rebuild(&folders[1], drives)?);
        }
        copies.extend(copy(&drive(&folders[1], 0).join("set-1"), &folder.join("copy")));
    }
    for (shape, name) in ["plain", "4 + 2 on one disk"].into_iter().enumerate() {
        best("load", name, &loads[shape], true);
        for (place, kind) in ["get in a transaction", "get of the newest state"].into_iter().enumerate() {
            let figures: Vec<f64> = reads[shape].iter().map(|both: &[f64; 2]| both[place]).collect();
            best(kind, name, &figures, false);
        }
    }
    for (place, name) in ["a data drive", "a parity drive", "one of each"].into_iter().enumerate() {
        best("rebuild", name, &rebuilds[place], true);
    }
    best("copy of a drive, synced", "", &copies, true);
    std::fs::remove_dir_all(&folder).ok();
    Ok(())
}
