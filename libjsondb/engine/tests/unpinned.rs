//! Reads that keep no files from being removed: what they show is right, or they say that it is gone and may be read again.

#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod common;
#[path = "common/process.rs"]
mod process;

use std::fs;
use std::ops::Bound;
use std::path::Path;

use common::{Random, count, scratch, seed};
use engine::{
    Database, Direction, Durability, ErrorKind, Mode, Options, Placement, Result, StoreId, Transaction,
};
use process::Worker;

/// Keys of one transaction: all of the same round.
const GROUP: u64 = 4;
const KEYS: u64 = 400;

/// Nothing stays in memory for long.
fn options() -> Options {
    Options { memtable_bytes: 64 << 10, page_cache_bytes: 64 << 10, ..Options::default() }
}

/// In a leaf, in a value segment of a checkpoint, in one of the transaction.
fn value(key: u64, round: u64) -> Vec<u8> {
    let len = [900, 6000, 70_000][(key % 3) as usize / (1 + usize::from(key % 50 != 2))];
    let mut value = Random::new(key * 1000 + round).bytes(len);
    value[..8].copy_from_slice(&round.to_be_bytes());
    value
}

/// The round of a value, every byte of which is checked.
fn round_of(key: u64, value: &[u8]) -> u64 {
    let round = u64::from_be_bytes(value[..8].try_into().unwrap());
    assert!(value == self::value(key, round), "key {key}");
    round
}

fn overwrite_all(database: &Database, round: u64) {
    for group in 0..KEYS / GROUP {
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        for key in group * GROUP..(group + 1) * GROUP {
            transaction.put(store, &key.to_be_bytes(), &value(key, round), Placement::Auto).unwrap();
        }
        transaction.commit().unwrap();
    }
}

fn store(database: &Database) -> StoreId {
    database.begin(Mode::Read).unwrap().store("s").unwrap().unwrap().0
}

/// Twice: the files of the first state are kept for the checkpoint before the one in force.
fn replace_all_files(database: &Database) {
    for round in 1..=2 {
        overwrite_all(database, round);
        database.checkpoint().unwrap();
    }
}

fn read_all(transaction: &mut Transaction, store: StoreId) -> Result<u64> {
    let mut found = Vec::new();
    transaction.visit(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, &mut |key, value| {
        found.push((u64::from_be_bytes(key.try_into().unwrap()), value.to_value()));
        Ok(true)
    })?;
    let mut rounds = Vec::new();
    for (key, value) in found {
        rounds.push(round_of(key, &transaction.load(&value)?));
    }
    rounds.dedup();
    assert_eq!(rounds.len(), 1, "a snapshot of several rounds");
    Ok(rounds[0])
}

#[test]
fn a_brief_transaction_is_told_when_what_it_reads_is_gone() {
    let folder = scratch();
    let database = Database::open(folder.path(), &options()).unwrap();
    overwrite_all(&database, 0);
    database.checkpoint().unwrap();
    let store = store(&database);
    for mode in [Mode::Read, Mode::Write] {
        let mut brief = database.begin_brief(mode).unwrap();
        let before = read_all(&mut brief, store).unwrap();
        let mut pinned = database.begin(mode).unwrap();
        replace_all_files(&database);
        assert_eq!(read_all(&mut pinned, store).unwrap(), before, "a pin keeps the files");
        assert_eq!(read_all(&mut brief, store).unwrap(), before, "also for others of the process");
        drop(pinned);
        replace_all_files(&database);
        assert_eq!(read_all(&mut brief, store).unwrap_err().kind(), ErrorKind::SnapshotTooOld);
        let refused = brief.get_with(store, &1_u64.to_be_bytes(), |_| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::SnapshotTooOld);
        assert!(refused.is_retryable());
        assert_eq!(read_all(&mut database.begin_brief(mode).unwrap(), store).unwrap(), 2);
        overwrite_all(&database, 0);
        database.checkpoint().unwrap();
    }
}

#[test]
fn a_file_that_nobody_may_have_removed_is_damage_to_reads_without_a_pin() {
    let folder = scratch();
    let database = Database::open(folder.path(), &options()).unwrap();
    overwrite_all(&database, 0);
    database.checkpoint().unwrap();
    let store = store(&database);
    database.close().unwrap();
    for file in fs::read_dir(folder.path().join("seg")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let database = Database::open(folder.path(), &options()).unwrap();
    for key in 0..6_u64 {
        let refused = database.get_with(store, &key.to_be_bytes(), |_| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        let mut brief = database.begin_brief(Mode::Read).unwrap();
        assert_eq!(brief.get(store, &key.to_be_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_cached_get_answers_from_memory_or_not_at_all() {
    let folder = scratch();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    overwrite_all(&database, 0);
    database.checkpoint().unwrap();
    database.close().unwrap();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    let store = store(&database);
    let key = 201_u64.to_be_bytes();
    let mut read = database.begin(Mode::Read).unwrap();
    let cached = |read: &mut Transaction| {
        let one = read.get_cached_with(store, &key, |value| value.map(|value| round_of(201, value))).unwrap();
        let other =
            database.get_cached_with(store, &key, |value| value.map(|value| round_of(201, value))).unwrap();
        assert_eq!(one, other);
        one
    };
    assert_eq!(cached(&mut read), None, "not read yet");
    assert!(read.get_with(store, &key, |value| value.is_some()).unwrap());
    assert_eq!(cached(&mut read), Some(Some(0)));
    let beyond = |value: Option<&[u8]>| value.is_none();
    assert!(database.get_with(store, &KEYS.to_be_bytes(), beyond).unwrap());
    assert_eq!(database.get_cached_with(store, &KEYS.to_be_bytes(), beyond).unwrap(), Some(true));
    // A value in a segment of its own is not kept in memory.
    let large = 152_u64.to_be_bytes();
    assert_eq!(database.get_with(store, &large, |value| round_of(152, value.unwrap())).unwrap(), 0);
    assert_eq!(database.get_cached_with(store, &large, |_| ()).unwrap(), None);
}

/// Not a test by itself: the body of the child process.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [task, folder, count] = &words[..] else { panic!("{words:?}") };
    let (database, count) = (Database::open(Path::new(folder), &options()).unwrap(), count.parse().unwrap());
    match task.as_str() {
        "increment" => (0..count).for_each(|_| increment(&database)),
        "overwrite" => (1..=count).for_each(|round| {
            overwrite_all(&database, round);
            database.checkpoint().unwrap();
        }),
        other => panic!("{other}"),
    }
}

fn start(task: &str, folder: &Path, count: u64) -> Worker {
    Worker::start(&[task, &folder.display().to_string(), &count.to_string()])
}

/// Adds 1 to the only key of a store.
fn increment(database: &Database) {
    let attempt = || -> Result<()> {
        let mut brief = database.begin_brief(Mode::Write)?;
        let store = brief.ensure_store("counter", b"")?;
        let number =
            |value: Option<&[u8]>| value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
        let next = brief.get_with(store, b"n", number)? + 1;
        brief.set_durability(Durability::Relaxed);
        brief.put(store, b"n", &next.to_be_bytes(), Placement::Auto)?;
        brief.commit().map(drop)
    };
    while let Err(error) = attempt() {
        assert!(error.is_retryable(), "{error}");
    }
}

#[test]
fn brief_transactions_of_two_processes_lose_no_increment() {
    let times = count(300);
    let folder = scratch();
    let database = Database::open(folder.path(), &options()).unwrap();
    let other = start("increment", folder.path(), times);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..times).for_each(|_| increment(&database)));
        }
    });
    other.finish();
    let (store, _) = database.begin(Mode::Read).unwrap().store("counter").unwrap().unwrap();
    let number = |value: Option<&[u8]>| u64::from_be_bytes(value.unwrap().try_into().unwrap());
    assert_eq!(database.get_with(store, b"n", number).unwrap(), 3 * times);
}

#[test]
fn reads_without_a_pin_are_right_while_another_process_replaces_all_files() {
    let rounds = count(40);
    let folder = scratch();
    let database = Database::open(folder.path(), &options()).unwrap();
    overwrite_all(&database, 0);
    let store = store(&database);
    let mut writer = start("overwrite", folder.path(), rounds);
    let mut random = Random::new(seed());
    let mut seen = vec![0; KEYS as usize];
    let (mut reads, mut refused) = (0, 0);
    while writer.ended().is_none() {
        let key = random.below(KEYS);
        let round =
            database.get_with(store, &key.to_be_bytes(), |value| round_of(key, value.unwrap())).unwrap();
        assert!(round >= seen[key as usize], "an older state than before");
        seen[key as usize] = round;
        match read_group(&database, store, random.below(KEYS / GROUP), &mut random) {
            Ok(()) => reads += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{error}");
                refused += 1;
            }
        }
    }
    writer.finish();
    let mut brief = database.begin_brief(Mode::Read).unwrap();
    assert_eq!(read_all(&mut brief, store).unwrap(), rounds);
    println!("{rounds} rounds, {reads} brief transactions read, {refused} were told to begin again");
}

/// Keys that were written together, read with pauses.
fn read_group(database: &Database, store: StoreId, group: u64, random: &mut Random) -> Result<()> {
    let mode = if random.one_in(2) { Mode::Read } else { Mode::Write };
    let mut brief = database.begin_brief(mode)?;
    let mut rounds = Vec::new();
    for key in group * GROUP..(group + 1) * GROUP {
        rounds.push(brief.get_with(store, &key.to_be_bytes(), |value| round_of(key, value.unwrap()))?);
        if random.one_in(16) {
            std::thread::sleep(std::time::Duration::from_millis(random.below(10)));
        }
    }
    rounds.dedup();
    assert_eq!(rounds.len(), 1, "a transaction in part");
    Ok(())
}
