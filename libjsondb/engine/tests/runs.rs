//! Transactions too large for memory and log: their writes lie in runs until a checkpoint takes them in.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use common::{Random, scratch};
use engine::{
    BackupCheck, CancelToken, Database, Direction, ErrorKind, Mode, Options, Placement, Progress, StoreId,
    Transaction,
};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// A write set is full after some 600 small writes; no checkpoint is made unasked.
fn options() -> Options {
    Options { write_set_bytes: 64 << 10, ..Options::default() }
}

fn open(folder: &Path) -> (Database, StoreId) {
    let database = Database::open(folder, &options()).unwrap();
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.commit().unwrap();
    (database, store)
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn put(transaction: &mut Transaction, store: StoreId, number: u64, text: &str) {
    transaction.put(store, &key(number), text.as_bytes(), Placement::Auto).unwrap();
}

fn contents(transaction: &mut Transaction, store: StoreId, direction: Direction) -> Contents {
    let all = Bound::Unbounded;
    let entries = transaction.scan(store, all, all, direction, usize::MAX).unwrap();
    let forward = direction == Direction::Forward;
    assert!(entries.is_sorted_by(|one, next| if forward { one.key < next.key } else { one.key > next.key }));
    entries.into_iter().map(|entry| (entry.key, transaction.load(&entry.value).unwrap())).collect()
}

fn check(transaction: &mut Transaction, store: StoreId, expected: &Contents) {
    for direction in [Direction::Forward, Direction::Backward] {
        assert!(contents(transaction, store, direction) == *expected);
    }
    for number in (0..6000).step_by(97) {
        let found = transaction.get(store, &key(number)).unwrap();
        let found = found.map(|value| transaction.load(&value).unwrap());
        assert_eq!(found.as_ref(), expected.get(key(number).as_slice()), "{number}");
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder.join("seg")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Puts, replaces and removes at random, with values of all placements, and reads in between.
fn mix(transaction: &mut Transaction, store: StoreId, expected: &mut Contents, random: &mut Random) {
    for step in 0..12_000 {
        let number = random.below(6000);
        if random.one_in(4) {
            transaction.delete(store, &key(number)).unwrap();
            expected.remove(key(number).as_slice());
        } else {
            let len = if random.one_in(300) { 5000 + 20_000 * random.below(5) } else { random.below(60) };
            let value = random.bytes(len as usize);
            let eager = random.one_in(500);
            let placement = if eager { Placement::Eager } else { Placement::Auto };
            transaction.put(store, &key(number), &value, placement).unwrap();
            expected.insert(key(number).to_vec(), value);
        }
        if step % 4000 == 1000 {
            check(transaction, store, expected);
        }
    }
}

#[test]
fn a_large_transaction_is_a_transaction_like_any_other() {
    let folder = scratch();
    let (database, store) = open(folder.path());
    let (mut expected, mut random) = (Contents::new(), Random::new(1));
    for round in 0..3 {
        let mut reader = database.begin(Mode::Read).unwrap();
        let before = expected.clone();
        let mut transaction = database.begin(Mode::Write).unwrap();
        mix(&mut transaction, store, &mut expected, &mut random);
        check(&mut reader, store, &before);
        transaction.commit().unwrap();
        check(&mut reader, store, &before);
        check(&mut database.begin(Mode::Read).unwrap(), store, &expected);
        database.verify().unwrap();
        if round == 1 {
            database.checkpoint().unwrap();
            check(&mut database.begin(Mode::Read).unwrap(), store, &expected);
            check(&mut reader, store, &before);
            database.verify().unwrap();
        }
    }
    drop(database);
    let (database, store) = open(folder.path());
    check(&mut database.begin(Mode::Read).unwrap(), store, &expected);
    let copy = scratch();
    let (target, cancel) = (copy.path().join("copy"), CancelToken::new());
    database.backup(&target, BackupCheck::Full, &mut Progress::new(&cancel, &mut |_, _| true)).unwrap();
    let (backup, store) = open(&target);
    check(&mut backup.begin(Mode::Read).unwrap(), store, &expected);
    for database in [&database, &backup] {
        for _ in 0..2 {
            database.compact(&mut Progress::new(&cancel, &mut |_, _| true)).unwrap();
        }
        check(&mut database.begin(Mode::Read).unwrap(), store, &expected);
        database.verify().unwrap();
        let live: usize = expected.values().map(|value| value.len() + 20).sum();
        let bytes: u64 = segments(database.folder()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(bytes < 3 * live as u64, "{bytes} bytes on disk for {live}");
    }
}

#[test]
fn what_is_not_committed_leaves_no_file() {
    let folder = scratch();
    let (database, store) = open(folder.path());
    let mut transaction = database.begin(Mode::Write).unwrap();
    (0..5000).for_each(|number| put(&mut transaction, store, number, "value"));
    assert!(transaction.get(store, &key(7)).unwrap().is_some());
    assert_eq!(segments(folder.path()).len(), 1);
    transaction.rollback();
    assert_eq!(segments(folder.path()), Vec::<PathBuf>::new());
    // One that loses.
    let mut loser = database.begin(Mode::Write).unwrap();
    (0..5000).for_each(|number| put(&mut loser, store, number, "value"));
    let mut winner = database.begin(Mode::Write).unwrap();
    put(&mut winner, store, 3210, "first");
    winner.commit().unwrap();
    assert_eq!(loser.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(segments(folder.path()), Vec::<PathBuf>::new());
}

/// Two transactions of which one or both are large: both commit when they touch different keys, however these interleave; the second loses
/// when they meet at a single one.
#[test]
fn large_transactions_meet_at_keys_and_ranges_only() {
    let folder = scratch();
    let (database, store) = open(folder.path());
    let sizes = [(5000, 5000), (5000, 3), (3, 5000)];
    for (first_size, second_size) in sizes {
        for meet in [None, Some("write"), Some("read"), Some("miss"), Some("scan")] {
            let (mut first, mut second) =
                (database.begin(Mode::Write).unwrap(), database.begin(Mode::Write).unwrap());
            (0..first_size).for_each(|number| put(&mut first, store, 4 * number, "first"));
            (0..second_size).for_each(|number| put(&mut second, store, 4 * number + 1, "second"));
            let hit = 4 * (first_size - 2);
            match meet {
                Some("write") => put(&mut second, store, hit, "second"),
                Some("read") => drop(second.get(store, &key(hit)).unwrap()),
                Some("miss") => {
                    first.delete(store, &key(hit + 2)).unwrap();
                    second.get(store, &key(hit + 2)).unwrap();
                }
                Some("scan") => {
                    let (start, end) = (key(hit), key(hit + 1));
                    let range = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
                    second.scan(store, range.0, range.1, Direction::Forward, 9).unwrap();
                }
                _ => {
                    // What lies between its keys is no part of the other one.
                    second.get(store, &key(hit + 2)).unwrap();
                    let (start, end) = (key(hit + 1), key(hit + 4));
                    let range = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
                    second.scan(store, range.0, range.1, Direction::Forward, 9).unwrap();
                }
            }
            first.commit().unwrap();
            let outcome = second.commit().map_err(|error| error.kind());
            let expected = meet.map(|_| ErrorKind::Conflict);
            assert_eq!(outcome.err(), expected, "{first_size} and {second_size} keys, {meet:?}");
        }
    }
}

#[test]
fn a_large_transaction_is_validated_against_what_a_checkpoint_took() {
    let folder = scratch();
    let (database, store) = open(folder.path());
    let (mut winner, mut loser) =
        (database.begin(Mode::Write).unwrap(), database.begin(Mode::Write).unwrap());
    let mut bystander = database.begin(Mode::Write).unwrap();
    (0..5000).for_each(|number| put(&mut winner, store, number, "winner"));
    (4999..9000).for_each(|number| put(&mut loser, store, number, "loser"));
    (9000..13_000).for_each(|number| put(&mut bystander, store, number, "bystander"));
    winner.commit().unwrap();
    for _ in 0..3 {
        database.checkpoint().unwrap();
        let mut transaction = database.begin(Mode::Write).unwrap();
        put(&mut transaction, store, 20_000, "other");
        transaction.commit().unwrap();
    }
    let lost = loser.commit().unwrap_err();
    assert!(matches!(lost.kind(), ErrorKind::Conflict | ErrorKind::SnapshotTooOld), "{lost}");
    match bystander.commit() {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::SnapshotTooOld),
    }
}

#[test]
fn stores_are_made_dropped_and_made_again_in_one_large_transaction() {
    let folder = scratch();
    let (database, store) = open(folder.path());
    let mut transaction = database.begin(Mode::Write).unwrap();
    (0..5000).for_each(|number| put(&mut transaction, store, number, "old"));
    transaction.commit().unwrap();
    let mut transaction = database.begin(Mode::Write).unwrap();
    assert!(transaction.drop_store("s").unwrap());
    assert!(transaction.store("s").unwrap().is_none());
    let again = transaction.ensure_store("s", b"other").unwrap();
    let new = transaction.ensure_store("new", b"").unwrap();
    (4000..9000).for_each(|number| put(&mut transaction, new, number, "new"));
    put(&mut transaction, again, 1, "again");
    transaction.commit().unwrap();
    for _ in 0..2 {
        let mut transaction = database.begin(Mode::Read).unwrap();
        assert_eq!(contents(&mut transaction, again, Direction::Forward).len(), 1);
        assert_eq!(contents(&mut transaction, new, Direction::Backward).len(), 5000);
        assert_eq!(transaction.store("s").unwrap().unwrap().1, b"other");
        drop(transaction);
        database.verify().unwrap();
        database.checkpoint().unwrap();
    }
}

#[test]
fn damage_in_a_run_is_found_and_named() {
    let folder = scratch();
    let (database, store) = open(folder.path());
    let mut transaction = database.begin(Mode::Write).unwrap();
    let mut random = Random::new(5);
    for number in 0..5000 {
        transaction.put(store, &key(number), &random.bytes(40), Placement::Auto).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let [segment] = <[PathBuf; 1]>::try_from(segments(folder.path())).unwrap();
    let intact = fs::read(&segment).unwrap();
    for at in (40..intact.len() - 40).step_by(intact.len() / 7) {
        let mut bytes = intact.clone();
        bytes[at] ^= 4;
        fs::write(&segment, bytes).unwrap();
        let findings = engine::verify(
            folder.path(),
            &Options::default(),
            &mut Progress::new(&CancelToken::new(), &mut |_, _| true),
        )
        .unwrap()
        .findings;
        assert!(segment.ends_with(&findings[0].file), "{findings:?}");
    }
    fs::write(&segment, &intact[..intact.len() / 2]).unwrap();
    let (database, store) = open(folder.path());
    let mut transaction = database.begin(Mode::Read).unwrap();
    let all = Bound::Unbounded;
    let error = transaction.scan(store, all, all, Direction::Forward, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.corrupt_at().unwrap().file.ends_with(segment.file_name().unwrap()));
}
