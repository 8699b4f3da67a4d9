//! Segments on drives: replaced drives are filled while others read and write, and by processes that are killed meanwhile.
//!
//! `SOP_COUNT` is the number of kills, `SOP_SEED` where they begin.

#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod common;
#[path = "common/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Random, count, scratch, seed};
use engine::{
    CancelToken, Coding, Database, DriveState, Mode, Options, Placement, Progress, Repair, RepairScope,
};
use process::Worker;

const DATA: usize = 4;
const PARITY: usize = 2;
const KEYS: u32 = 300;

fn drive(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("drive-{index}"))
}

fn options(folder: &Path) -> Options {
    let drives = (0..DATA + PARITY).map(|index| drive(folder, index)).collect();
    let (store, aliases) = (String::new(), Vec::new());
    let coding = Coding { store, aliases, data: DATA, parity: PARITY, drives, repair: false };
    // Readers find little in memory.
    Options { coding: vec![coding], page_cache_bytes: 64 << 10, ..Options::default() }
}

fn open(folder: &Path) -> Database {
    Database::open(&folder.join("home"), &options(folder)).unwrap()
}

/// Values of all lengths: in leaves, in one unit, in several.
fn value(key: u32) -> Vec<u8> {
    let len = if key.is_multiple_of(50) { 700_000 } else { 100 + key as usize * 100 };
    Random::new(u64::from(key)).bytes(len)
}

/// Sets every tenth key, beginning with `first`.
fn write(database: &Database, first: u32) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    for key in (first..KEYS).step_by(10) {
        transaction.put(store, &key.to_be_bytes(), &value(key), Placement::Auto).unwrap();
    }
    transaction.commit().unwrap();
}

fn fill(database: &Database) {
    (0..10).for_each(|first| write(database, first));
    database.checkpoint().unwrap();
}

fn check(database: &Database, keys: impl Iterator<Item = u32>) {
    let store = database.begin(Mode::Read).unwrap().store("s").unwrap().unwrap().0;
    for key in keys {
        database
            .get_with(store, &key.to_be_bytes(), |found| assert!(found.unwrap() == value(key), "{key}"))
            .unwrap();
    }
}

fn with_progress<R>(work: impl FnOnce(&mut Progress<'_>) -> R) -> R {
    work(&mut Progress::new(&CancelToken::new(), &mut |_, _| true))
}

/// With the copies of the metadata that were on lost drives.
fn repair(database: &Database) -> Repair {
    let repair = with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
    with_progress(|progress| database.reinstate(None, &[], progress)).unwrap();
    repair
}

/// Drives go, and empty ones take their places.
fn replace(folder: &Path, drives: &[usize]) {
    for index in drives {
        std::fs::remove_dir_all(drive(folder, *index)).unwrap();
        std::fs::create_dir(drive(folder, *index)).unwrap();
    }
}

fn assert_whole(database: &Database) {
    let scrub = with_progress(|progress| database.scrub(progress)).unwrap();
    assert!(scrub.findings.is_empty() && scrub.segments > 0, "{:?}", scrub.findings);
    let status = database.drive_status().unwrap();
    assert!(status.sets[0].drives.iter().all(|drive| drive.state == DriveState::Ok), "{status:?}");
}

/// Has the threads of a scope end, also when the test fails.
struct EndWithScope<'a>(&'a AtomicBool);

impl Drop for EndWithScope<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn four_readers_and_a_writer_go_on_while_drives_are_filled() {
    let folder = scratch();
    let database = open(folder.path());
    fill(&database);
    let (ended, reads, writing) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(()));
    std::thread::scope(|scope| {
        let _end = EndWithScope(&ended);
        for reader in 0..4 {
            let (database, ended, reads) = (&database, &ended, &reads);
            scope.spawn(move || {
                let mut random = Random::new(reader);
                while !ended.load(Ordering::Relaxed) {
                    check(database, std::iter::once(random.below(u64::from(KEYS)) as u32));
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            for first in (0..10).cycle() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A segment that is begun before a drive goes and ended after another one would lack both.
                let _writing = writing.lock().unwrap();
                write(&database, first);
                database.checkpoint().unwrap();
            }
        });
        for drives in [[0, 1], [2, 5], [3, 4]] {
            let stopped = writing.lock().unwrap();
            replace(folder.path(), &drives);
            drop(stopped);
            repair(&database);
            // What was written before the new drives were known.
            let stopped = writing.lock().unwrap();
            repair(&database);
            drop(stopped);
        }
    });
    assert!(reads.into_inner() > 0);
    repair(&database);
    assert_whole(&database);
    // What was filled is enough.
    replace(folder.path(), &[2, 3]);
    check(&database, 0..KEYS);
}

#[test]
fn a_repair_that_is_killed_is_done_by_the_next_one() {
    let folder = scratch();
    let (kills, mut random) = (count(15), Random::new(seed()));
    fill(&open(folder.path()));
    open(folder.path()).close().unwrap();
    for _ in 0..kills {
        let first = random.below(6) as usize;
        replace(folder.path(), &[first, (first + 1 + random.below(5) as usize) % 6]);
        let mut worker = Worker::start(&[folder.path().to_str().unwrap()]);
        worker.hear();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        worker.kill();
        let database = open(folder.path());
        check(&database, (0..KEYS).step_by(7));
        repair(&database);
        assert_whole(&database);
        // What the killed one staged goes with the next checkpoint.
        write(&database, 3);
        database.checkpoint().unwrap();
        for index in 0..6 {
            let staged = std::fs::read_dir(drive(folder.path(), index).join("set-1").join("tmp"));
            assert_eq!(staged.map_or(0, Iterator::count), 0);
        }
        database.close().unwrap();
    }
    println!("{kills} repairs were killed");
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [folder] = &words[..] else { panic!("{words:?}") };
    process::when_told_to_end(|| std::process::exit(1));
    let database = open(Path::new(folder));
    process::say("repairing");
    repair(&database);
    // Killed also when it was quick.
    std::thread::sleep(Duration::from_secs(60));
}
