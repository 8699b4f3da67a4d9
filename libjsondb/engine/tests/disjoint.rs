//! Who meets nobody loses to nobody: writers of several processes on keys of their own all commit, whatever checkpoints and new
//! log files come between. Writers that do meet are told, and lose nothing.

#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod common;
#[path = "common/process.rs"]
mod process;
#[path = "common/shared.rs"]
mod shared;

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{count, scratch};
use engine::{Database, Direction, ErrorKind, Mode, Options, Placement, StoreId, Transaction, ValueRef};
use process::Worker;

const PROCESSES: u64 = 4;
const THREADS: u64 = 4;
const WRITERS: u64 = PROCESSES * THREADS;

/// Small enough that a run meets some ten checkpoints, and as many new log files.
fn small() -> Options {
    Options { memtable_bytes: 1 << 20, page_cache_bytes: 1 << 20, ..Options::default() }
}

fn little_memory() -> Options {
    Options { memtable_bytes: 64 << 10, ..small() }
}

fn number(transaction: &mut Transaction, store: StoreId, key: &[u8]) -> Option<u64> {
    let value = transaction.get(store, key).unwrap()?;
    Some(u64::from_be_bytes(transaction.load(&value).unwrap()[..8].try_into().unwrap()))
}

fn put_number(transaction: &mut Transaction, store: StoreId, key: &[u8], number: u64) {
    transaction.put(store, key, &number.to_be_bytes(), Placement::Auto).unwrap();
}

/// Keys of different writers lie side by side, in the same leaves.
fn key(writer: u64, number: u64) -> Vec<u8> {
    format!("{number:08}-{writer:02}").into_bytes()
}

/// Commits `transactions` that each read two keys of this writer and write one.
fn write_own_keys(database: &Database, writer: u64, transactions: u64) {
    for index in 0..transactions {
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        if let Some(before) = index.checked_sub(1) {
            assert_eq!(number(&mut transaction, store, &key(writer, before)), Some(before));
        }
        assert_eq!(number(&mut transaction, store, &key(writer, index)), None);
        put_number(&mut transaction, store, &key(writer, index), index);
        transaction.add_to_counter(store, b"n", 1).unwrap();
        transaction.commit().unwrap_or_else(|error| panic!("writer {writer}: {:?}: {error}", error.kind()));
    }
}

/// Adds one to a key that others add to as well, `times`.
fn add_to_hot_key(database: &Database, times: u64) {
    let mut done = 0;
    while done < times {
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        let value = number(&mut transaction, store, b"hot").unwrap_or(0) + 1;
        put_number(&mut transaction, store, b"hot", value);
        match transaction.commit() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
}

/// Begins a transaction when told to, and says how its commit ends when told again.
fn commit_late(database: &Database) {
    loop {
        let key = process::hear();
        if key.is_empty() {
            return;
        }
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        assert_eq!(number(&mut transaction, store, key.as_bytes()), None);
        put_number(&mut transaction, store, key.as_bytes(), 7);
        process::say("begun");
        process::hear();
        let outcome =
            transaction.commit().map_or_else(|error| format!("{:?}", error.kind()), |_| "stored".into());
        process::say(&outcome);
    }
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [task, folder, process, count] = &words[..] else { panic!("{words:?}") };
    let (process, count) = (process.parse::<u64>().unwrap(), count.parse::<u64>().unwrap());
    let options = match task.as_str() {
        "late" => Options::default(),
        "late in little memory" => little_memory(),
        _ => small(),
    };
    let database = match task.as_str() {
        "own" | "hot" => shared::open(Path::new(folder), &options),
        // What keeps a transaction from being too old is that of files.
        _ => Database::open(Path::new(folder), &options).unwrap(),
    };
    match task.as_str() {
        "own" => std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let database = &database;
                scope.spawn(move || write_own_keys(database, process * THREADS + thread, count));
            }
        }),
        "hot" => add_to_hot_key(&database, count),
        "late" | "late in little memory" => commit_late(&database),
        other => panic!("{other}"),
    }
}

fn start(task: &str, folder: &Path, process: u64, count: u64) -> Worker {
    Worker::start(&[task, &folder.display().to_string(), &process.to_string(), &count.to_string()])
}

fn run_all(task: &str, folder: &Path, count: u64) {
    let workers: Vec<Worker> = (0..PROCESSES).map(|process| start(task, folder, process, count)).collect();
    workers.into_iter().for_each(Worker::finish);
}

/// First transaction of the oldest log file, or oldest slot: 1 until the log is trimmed.
fn log_begin(folder: &Path) -> u64 {
    let extension = if shared::is_shared() { "c" } else { "wal" };
    let mut log = files_in(&folder.join("log"));
    log.retain(|path| path.extension().is_some_and(|found| found == extension));
    log.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap()).min().unwrap()
}

/// The files of a folder and of those in it.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

#[test]
fn writers_on_keys_of_their_own_never_conflict() {
    let transactions = count(10_000);
    let folder = scratch();
    let began = Instant::now();
    run_all("own", folder.path(), transactions);
    let took = began.elapsed();
    let trimmed = log_begin(folder.path());
    let database = shared::open(folder.path(), &small());
    let mut transaction = database.begin(Mode::Read).unwrap();
    let (store, _) = transaction.store("s").unwrap().unwrap();
    let mut expected = (0..transactions).flat_map(|index| (0..WRITERS).map(move |writer| key(writer, index)));
    let mut compare = |key: &[u8], _: ValueRef<'_>| {
        assert_eq!(Some(key), expected.next().as_deref());
        Ok(true)
    };
    let all = Bound::Unbounded;
    transaction.visit(store, all, all, Direction::Forward, &mut compare).unwrap();
    assert_eq!(expected.next(), None);
    assert_eq!(transaction.counter(store, b"n").unwrap(), (WRITERS * transactions) as i64);
    drop(transaction);
    // Slots are kept for a minute.
    assert!(shared::is_shared() || transactions < 10_000 || trimmed > 1, "no log file was closed");
    database.checkpoint().unwrap();
    database.verify().unwrap();
    println!(
        "{WRITERS} writers in {PROCESSES} processes, {transactions} transactions each in {took:.1?}: no conflict; log trimmed up to {trimmed}"
    );
}

/// Makes commits of 800 KB, which go into the log, and one checkpoint.
fn write_much(database: &Database, commits: u64) {
    for commit in 0..commits {
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        for index in 0..200 {
            transaction.put(store, &key(0, commit * 200 + index), &[1; 4000], Placement::Auto).unwrap();
        }
        transaction.commit().unwrap();
    }
    database.checkpoint().unwrap();
}

/// How a transaction's commit ends when another process committed much and made so many checkpoints since it began.
fn commit_after_checkpoints(task: &str, options: &Options, commits: u64, expected: &[(u64, &str)]) {
    let folder = scratch();
    let database = Database::open(folder.path(), options).unwrap();
    write_much(&database, commits);
    let mut late = start(task, folder.path(), 0, 0);
    for (checkpoints, outcome) in expected {
        late.tell(&format!("late-{checkpoints}"));
        assert_eq!(late.hear(), "begun");
        (0..*checkpoints).for_each(|_| write_much(&database, commits));
        late.tell("commit");
        assert_eq!(late.hear(), *outcome, "after {checkpoints} checkpoints");
    }
    late.finish();
}

#[test]
fn a_transaction_is_not_too_old_while_the_log_since_two_checkpoints_is_kept() {
    // The memory for validation would do for more.
    let expected = [(0, "stored"), (1, "stored"), (2, "stored"), (3, "SnapshotTooOld")];
    commit_after_checkpoints("late", &Options::default(), 12, &expected);
}

#[test]
fn one_checkpoint_makes_no_transaction_too_old_however_much_it_took() {
    // Ten memtables' worth at once: more than is kept for validation otherwise.
    let expected = [(1, "stored"), (2, "SnapshotTooOld")];
    commit_after_checkpoints("late in little memory", &little_memory(), 1, &expected);
}

#[test]
fn processes_that_add_to_one_key_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    run_all("hot", folder.path(), 100);
    let database = shared::open(folder.path(), &small());
    let mut transaction = database.begin(Mode::Read).unwrap();
    let (store, _) = transaction.store("s").unwrap().unwrap();
    assert_eq!(number(&mut transaction, store, b"hot"), Some(PROCESSES * 100));
}
