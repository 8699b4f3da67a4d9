//! What lies in the folder: recovery, checkpoints, garbage collection.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use common::Random;
use engine::{Database, Direction, Mode, Options, Placement};

fn small() -> Options {
    Options { memtable_bytes: 64 << 10, page_cache_bytes: 256 << 10, ..Options::default() }
}

/// One transaction that sets `count` keys from `first` on to `value`.
fn fill(database: &Database, first: u32, count: u32, value: &[u8]) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    for key in first..first + count {
        transaction.put(store, &key.to_be_bytes(), value, Placement::Auto).unwrap();
    }
    transaction.commit().unwrap();
}

fn count(database: &Database) -> Result<usize, engine::Error> {
    let mut transaction = database.begin(Mode::Read)?;
    let Some((store, _)) = transaction.store("s")? else { return Ok(0) };
    let mut values = Vec::new();
    transaction.visit(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, &mut |_, value| {
        values.push(value.to_value());
        Ok(true)
    })?;
    for value in &values {
        transaction.load(value)?;
    }
    Ok(values.len())
}

fn files(folder: &Path, sub: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder.join(sub)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn folder_bytes(folder: &Path) -> u64 {
    ["log", "man", "seg", "pin", "tmp"]
        .iter()
        .flat_map(|sub| files(folder, sub))
        .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .sum()
}

/// Copies the folder as a power cut would leave it: nothing is closed.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for sub in ["log", "man", "seg", "pin", "tmp"] {
        fs::create_dir(to.path().join(sub)).unwrap();
        for path in files(from, sub) {
            fs::copy(&path, to.path().join(sub).join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::copy(from.join("FORMAT"), to.path().join("FORMAT")).unwrap();
    to
}

#[test]
fn a_copied_folder_is_the_same_database() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    for round in 0..20 {
        fill(&database, round * 50, 50, &[round as u8; 100]);
    }
    let copied = copy(folder.path());
    let copy = Database::open(copied.path(), &small()).unwrap();
    assert_eq!(count(&copy).unwrap(), 1000);
    fill(&copy, 5000, 1, b"x");
    assert_eq!((count(&copy).unwrap(), count(&database).unwrap()), (1001, 1000));
}

#[test]
fn overwriting_does_not_grow_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    for round in 0..120u32 {
        fill(&database, 0, 500, &[round as u8; 200]);
        if round % 10 == 0 {
            // A large value as well.
            fill(&database, 1000, 1, &vec![round as u8; 300_000]);
        }
    }
    database.checkpoint().unwrap();
    database.checkpoint().unwrap();
    database.verify().unwrap();
    let live = 500 * 204 + 300_000;
    let bytes = folder_bytes(folder.path());
    // Beside the live data: the log (at least 4 MiB before it is renewed, and what it grows ahead).
    assert!(bytes < 3 * live + (12 << 20), "{bytes} bytes for {live} of live data");
    assert!(files(folder.path(), "man").len() <= 2);
    assert!(files(folder.path(), "log").len() <= 6, "{:?}", files(folder.path(), "log"));
    assert_eq!(count(&database).unwrap(), 501);
}

#[test]
fn overwriting_large_values_does_not_grow_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    for round in 0..100u32 {
        fill(&database, 0, 4, &Random::new(round.into()).bytes(1 << 20));
    }
    database.close().unwrap();
    // 400 MiB were written, 4 MiB are live. Values that wait for a checkpoint: at most four times 64 MiB.
    let bytes = folder_bytes(folder.path());
    assert!(bytes < 300 << 20, "{bytes} bytes");
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    database.checkpoint().unwrap();
    let bytes = folder_bytes(folder.path());
    assert!(bytes < 24 << 20, "{bytes} bytes after a checkpoint");
    assert_eq!(count(&database).unwrap(), 4);
}

#[test]
fn many_small_checkpoints_are_packed() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    for round in 0..60 {
        fill(&database, round * 10, 10, &[1; 5000]);
        database.checkpoint().unwrap();
    }
    let segments = files(folder.path(), "seg").len();
    assert!(segments <= 40, "{segments} segments");
    database.verify().unwrap();
    assert_eq!(count(&database).unwrap(), 600);
}

#[test]
fn memory_limits_hold_data_many_times_larger() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        memtable_bytes: 256 << 10,
        page_cache_bytes: 256 << 10,
        write_set_bytes: 128 << 10,
        ..Options::default()
    };
    let database = Database::open(folder.path(), &options).unwrap();
    for round in 0..40 {
        fill(&database, round * 1000, 1000, &[3; 200]);
    }
    fill(&database, 40_000, 5000, &[4; 200]);
    assert_eq!(count(&database).unwrap(), 45_000);
    database.checkpoint().unwrap();
    database.verify().unwrap();
    database.close().unwrap();
    let database = Database::open(folder.path(), &options).unwrap();
    assert_eq!(count(&database).unwrap(), 45_000);
}

#[test]
fn a_huge_value_survives() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    let value: Vec<u8> = (0..100 << 20).map(|index: u32| (index % 251) as u8).collect();
    fill(&database, 0, 1, &value);
    database.checkpoint().unwrap();
    database.close().unwrap();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    let mut transaction = database.begin(Mode::Read).unwrap();
    let (store, _) = transaction.store("s").unwrap().unwrap();
    let found = transaction.get(store, &0u32.to_be_bytes()).unwrap().unwrap();
    assert!(transaction.load(&found).unwrap() == value);
}

#[test]
fn what_dead_processes_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    fill(&database, 0, 10, b"value");
    let orphan = folder.path().join("seg").join(format!("{:016x}-{:016x}.seg", 7, 1));
    let staged = folder.path().join("tmp").join(format!("{:016x}-wal", 7));
    let pin = folder.path().join("pin").join(format!("{:016x}", 7));
    let lock = folder.path().join("pin").join(format!("{:016x}.lock", 7));
    for path in [&orphan, &staged, &pin, &lock] {
        fs::write(path, b"left").unwrap();
    }
    database.checkpoint().unwrap();
    assert!(!orphan.exists() && !staged.exists() && !pin.exists() && !lock.exists());
    assert_eq!(count(&database).unwrap(), 10);
}

#[test]
fn the_last_to_close_leaves_little_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    let mut random = Random::new(1);
    for round in 0..5 {
        fill(&database, 0, 2000, &random.bytes(100 + round));
        fill(&database, 3000, 2, b"small");
    }
    let seq = database.info().unwrap().seq;
    database.close().unwrap();
    database.close().unwrap();
    let logs = files(folder.path(), "log").iter().filter(|path| path.extension().is_some()).count();
    assert_eq!((logs, files(folder.path(), "man").len()), (1, 1));
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    let info = database.info().unwrap();
    assert_eq!((info.checkpoint, info.seq), (seq, seq));
    assert!(info.disk.log.bytes <= 64 << 10, "{info:?}");
    assert!(info.disk.segments.bytes < 3 * 2002 * 120, "{info:?}");
    // A single small commit is not worth a checkpoint.
    fill(&database, 1, 2, b"later");
    database.close().unwrap();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    assert_eq!(database.info().unwrap().checkpoint, seq);
    database.verify().unwrap();
}

/// Files of the log and of segments.
fn log_and_segments(folder: &Path) -> (usize, Vec<PathBuf>) {
    let logs = files(folder, "log").iter().filter(|path| path.extension().is_some()).count();
    (logs, files(folder, "seg"))
}

#[test]
fn the_last_to_close_removes_what_only_older_snapshots_and_late_processes_needed() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    let mut random = Random::new(2);
    fill(&database, 0, 2000, &random.bytes(100));
    database.checkpoint().unwrap();
    let reader = database.begin(Mode::Read).unwrap();
    for _ in 0..3 {
        fill(&database, 0, 2000, &random.bytes(100));
        database.checkpoint().unwrap();
    }
    reader.rollback();
    let before = log_and_segments(folder.path());
    let (seq, checkpoint) = database.info().map(|info| (info.seq, info.checkpoint)).unwrap();
    assert_eq!(seq, checkpoint, "little is left to read");
    database.close().unwrap();
    let after = log_and_segments(folder.path());
    assert_eq!(after.0, 1);
    assert!(after.1.len() < before.1.len(), "{before:?} {after:?}");
    assert!(folder_bytes(folder.path()) < 2 * 2000 * 120);
    let database = Database::open(folder.path(), &small()).unwrap();
    assert_eq!(count(&database).unwrap(), 2000);
    assert_eq!(database.info().unwrap().checkpoint, checkpoint, "closing needed no tree");
    database.verify().unwrap();
}

#[test]
fn closing_keeps_what_an_open_transaction_reads() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    fill(&database, 0, 2000, b"old");
    database.checkpoint().unwrap();
    let reader = database.begin(Mode::Read).unwrap();
    fill(&database, 0, 2000, b"new");
    database.checkpoint().unwrap();
    let held = files(folder.path(), "seg").len();
    database.close().unwrap();
    assert_eq!(files(folder.path(), "seg").len(), held);
    drop(reader);
}
