//! Looking after a database: verify, info, backup, compact; while others use it, and when it is damaged.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Random, count, scratch, seed};
use engine::{
    BackupCheck, CancelToken, Database, Direction, ErrorKind, Mode, Options, Placement, Progress, Result,
    Verification,
};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn small() -> Options {
    Options { memtable_bytes: 64 << 10, page_cache_bytes: 256 << 10, ..Options::default() }
}

fn with_progress<T>(work: impl FnOnce(&mut Progress<'_>) -> Result<T>) -> Result<T> {
    work(&mut Progress::new(&CancelToken::new(), &mut |_, _| true))
}

fn verify(folder: &Path) -> Result<Verification> {
    with_progress(|progress| engine::verify(folder, &Options::default(), progress))
}

fn backup(database: &Database, target: &Path) -> Result<engine::Backup> {
    with_progress(|progress| database.backup(target, BackupCheck::Full, progress))
}

/// One transaction: `keys` get the value `number` in two stores, and a counter says how often that was done.
fn commit(database: &Database, keys: std::ops::Range<u32>, number: u32, len: usize) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    for name in ["one", "two"] {
        let store = transaction.ensure_store(name, b"metadata").unwrap();
        for key in keys.clone() {
            let value = Random::new(u64::from(number) << 32 | u64::from(key)).bytes(len);
            transaction.put(store, &key.to_be_bytes(), &value, Placement::Auto).unwrap();
        }
        transaction.add_to_counter(store, b"commits", 1).unwrap();
    }
    transaction.commit().unwrap();
}

fn contents(database: &Database) -> Result<Contents> {
    let mut transaction = database.begin(Mode::Read)?;
    let mut contents = Contents::new();
    for store in transaction.stores()? {
        let commits = transaction.counter(store.id, b"commits")?;
        contents.insert(store.name.clone().into_bytes(), commits.to_be_bytes().to_vec());
        let all = (Bound::Unbounded, Bound::Unbounded);
        for entry in transaction.scan(store.id, all.0, all.1, Direction::Forward, usize::MAX)? {
            let key = [store.name.as_bytes(), &entry.key].concat();
            contents.insert(key, transaction.load(&entry.value)?);
        }
    }
    Ok(contents)
}

/// A database with everything in it: a checkpoint, commits behind it, large values in both, several log files.
fn make(folder: &Path) -> Contents {
    let database = Database::open(folder, &small()).unwrap();
    for number in 0..20 {
        commit(&database, number * 10..number * 10 + 30, number, 200);
    }
    commit(&database, 500..502, 7, 100_000);
    database.checkpoint().unwrap();
    commit(&database, 100..120, 8, 200);
    commit(&database, 600..601, 9, 80_000);
    let contents = contents(&database).unwrap();
    database.close().unwrap();
    contents
}

/// All files of a folder, by their name inside it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn write(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for name in ["log", "man", "seg", "pin", "tmp"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn verify_sees_everything_and_changes_nothing() {
    let folder = scratch();
    make(folder.path());
    let before = files(folder.path());
    let verification = verify(folder.path()).unwrap();
    assert_eq!(verification.findings, []);
    assert_eq!(files(folder.path()), before);
    let Verification { stores, log, pages, values, bytes, .. } = verification;
    assert_eq!(stores.keys().collect::<Vec<_>>(), ["one", "two"]);
    for store in stores.values() {
        assert_eq!(store.metadata, b"metadata");
        assert_eq!(store.entries, BTreeMap::from([(0, 220 + 3)]));
        assert_eq!(store.counters, BTreeMap::from([(b"commits".to_vec(), 23)]));
    }
    assert_eq!((values, log.last_seq.0, log.torn), (6, 23, false));
    assert!(pages > 5 && bytes > 400_000, "{pages} pages, {bytes} bytes");
}

/// They were read, but not counted, and the progress said 100 % from the first of them on.
#[test]
fn values_behind_the_checkpoint_are_counted_and_expected() {
    let folder = scratch();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    commit(&database, 0..4, 1, 2 << 20);
    drop(database);
    let mut reports = Vec::new();
    let mut report = |done, total| {
        reports.push((done, total));
        true
    };
    let verification = engine::verify(
        folder.path(),
        &Options::default(),
        &mut Progress::new(&CancelToken::new(), &mut report),
    )
    .unwrap();
    assert_eq!((verification.pages, verification.values), (0, 8));
    assert!(verification.bytes >= 16 << 20, "{} bytes", verification.bytes);
    let (last, earlier) = reports.split_last().unwrap();
    assert!(earlier.iter().any(|(done, total)| (1 << 20..total / 2).contains(done)), "{reports:?}");
    assert!(last.0 >= 16 << 20, "{reports:?}");
}

#[test]
fn there_is_no_database_in_an_empty_or_missing_folder() {
    let folder = scratch();
    for path in [folder.path().to_owned(), folder.path().join("missing")] {
        assert_eq!(verify(&path).unwrap_err().kind(), ErrorKind::Invalid);
        assert!(!Database::exists(&path));
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn all_damage_is_found_not_only_the_first() {
    let folder = scratch();
    make(folder.path());
    let mut files = files(folder.path());
    let mut damaged = Vec::new();
    for (name, bytes) in &mut files {
        let at = match name.iter().next().unwrap().to_str().unwrap() {
            "FORMAT" => 9,
            "man" => 30,
            "seg" => 33,
            "log" if name.extension().is_some_and(|extension| extension == "wal") => 4096 + 70,
            _ => continue,
        };
        bytes[at] ^= 0x10;
        damaged.push(name.clone());
    }
    let copy = scratch();
    write(copy.path(), &files);
    let findings = verify(copy.path()).unwrap().findings;
    let found: Vec<_> = findings.iter().map(|finding| &finding.file).collect();
    assert!(found.contains(&&PathBuf::from("FORMAT")), "{findings:?}");
    for name in damaged.iter().filter(|name| name.starts_with("man") || name.starts_with("log")) {
        assert!(found.contains(&name), "{name:?} of {findings:?}");
    }
}

#[test]
fn several_damaged_pages_are_several_findings() {
    let folder = scratch();
    make(folder.path());
    let mut files = files(folder.path());
    let (name, bytes) =
        files.iter_mut().filter(|(name, _)| name.starts_with("seg")).max_by_key(|(_, b)| b.len()).unwrap();
    for at in (100..bytes.len() / 2).step_by(10_000) {
        bytes[at] ^= 1;
    }
    let name = name.clone();
    let copy = scratch();
    write(copy.path(), &files);
    let findings = verify(copy.path()).unwrap().findings;
    assert!(findings.iter().filter(|finding| finding.file == name).count() >= 2, "{findings:?}");
}

/// A folder with a flipped byte: verify has findings, or what is stored is read as before.
#[test]
fn a_flipped_byte_is_found_or_does_no_harm() {
    let folder = scratch();
    let expected = make(folder.path());
    let files = files(folder.path());
    let mut random = Random::new(seed());
    let names: Vec<&PathBuf> = files.keys().filter(|name| !files[*name].is_empty()).collect();
    let copy = scratch();
    write(copy.path(), &files);
    let (mut found, mut harmless) = (0, 0);
    for round in 0..count(240) {
        let name = names[round as usize % names.len()];
        let mut bytes = files[name].clone();
        // Headers and trailers as often as all the rest.
        let len = bytes.len() as u64;
        let at = match random.below(3) {
            0 => random.below(len.min(200)),
            1 => len - 1 - random.below(len.min(200)),
            _ => random.below(len),
        } as usize;
        bytes[at] ^= 1 << random.below(8);
        fs::write(copy.path().join(name), &bytes).unwrap();
        match verify(copy.path()) {
            Ok(verification) if verification.findings.is_empty() => {
                harmless += 1;
                let opened = scratch();
                let mut damaged = files.clone();
                damaged.insert(name.clone(), bytes);
                write(opened.path(), &damaged);
                let database = Database::open(opened.path(), &small()).unwrap();
                assert!(contents(&database).unwrap() == expected, "{name:?} at {at}");
                database.close().unwrap();
            }
            Ok(_) => found += 1,
            Err(error) => {
                assert_eq!((error.kind(), name.as_path()), (ErrorKind::Invalid, Path::new("FORMAT")))
            }
        }
        fs::write(copy.path().join(name), &files[name]).unwrap();
    }
    println!("flipped bytes: {found} found, {harmless} harmless");
    assert!(found > 100);
}

#[test]
fn files_that_are_emptied_truncated_or_removed_are_found() {
    let folder = scratch();
    make(folder.path());
    let files = files(folder.path());
    let matters = |name: &&PathBuf| {
        name.starts_with("seg") || name.starts_with("man") || name.extension().is_some_and(|e| e == "wal")
    };
    let live = verify(folder.path()).unwrap();
    for name in files.keys().filter(matters) {
        for kept in [None, Some(0), Some(1), Some(files[name].len() / 2)] {
            let copy = scratch();
            let mut changed = files.clone();
            match kept {
                None => drop(changed.remove(name)),
                Some(len) => changed.get_mut(name).unwrap().truncate(len),
            }
            write(copy.path(), &changed);
            let found = verify(copy.path()).unwrap();
            // What is not part of the newest state may go: old manifests, retired segments, the log before the checkpoint.
            if found.findings.is_empty() {
                assert_eq!(found.stores, live.stores, "{name:?} {kept:?}");
            }
        }
    }
}

/// Writers, checkpoints and garbage collection, until `work` is done.
fn while_others_write(folder: &Path, work: impl FnOnce(&Database)) {
    let database = Database::open(folder, &small()).unwrap();
    commit(&database, 0..100, 0, 200);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1;
            while !done.load(Ordering::Relaxed) {
                commit(&database, number % 50..number % 50 + 50, number, 200);
                if number % 16 == 0 {
                    commit(&database, 1000..1001, number, 70_000);
                }
                if number % 8 == 0 {
                    database.checkpoint().unwrap();
                }
                number += 1;
            }
        });
        work(&database);
        done.store(true, Ordering::Relaxed);
    });
    database.close().unwrap();
}

#[test]
fn a_database_is_intact_while_others_write() {
    let folder = scratch();
    while_others_write(folder.path(), |_| {
        for _ in 0..count(20) {
            assert_eq!(verify(folder.path()).unwrap().findings, []);
        }
    });
}

#[test]
fn a_backup_is_one_committed_state_while_others_write() {
    let folder = scratch();
    while_others_write(folder.path(), |database| {
        for number in 0..count(6) {
            let target = folder.path().join(format!("copy{number}"));
            let backup = backup(database, &target).unwrap();
            assert_eq!(verify(&target).unwrap().findings, []);
            let copy = Database::open(&target, &small()).unwrap();
            let contents = contents(&copy).unwrap();
            // Both stores are written by every transaction, with the same value under each key.
            let (one, two): (Vec<_>, Vec<_>) =
                contents.iter().partition::<Vec<_>, _>(|(key, _)| key.starts_with(b"one"));
            let values = |rows: &[(&Vec<u8>, &Vec<u8>)]| -> Vec<Vec<u8>> {
                rows.iter().map(|(_, value)| (*value).clone()).collect()
            };
            assert!(values(&one) == values(&two) && one.len() >= 101);
            assert_eq!(copy.begin(Mode::Read).unwrap().snapshot(), backup.seq);
            // It is a database like any other.
            commit(&copy, 0..10, 1, 200);
            copy.checkpoint().unwrap();
            copy.verify().unwrap();
            copy.close().unwrap();
        }
    });
}

#[test]
fn a_backup_holds_what_the_log_and_the_values_behind_the_checkpoint_hold() {
    let folder = scratch();
    let expected = make(folder.path());
    let database = Database::open(folder.path(), &small()).unwrap();
    let target = folder.path().join("deep/copy");
    let made = backup(&database, &target).unwrap();
    assert!(made.bytes > 400_000 && made.files >= 4);
    let copy = Database::open(&target, &small()).unwrap();
    assert!(contents(&copy).unwrap() == expected);
    assert_eq!(copy.info().unwrap().uuid, database.info().unwrap().uuid);
    // The folder is not empty now.
    assert_eq!(backup(&database, &target).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn two_backups_to_one_target_leave_one() {
    let folder = scratch();
    let expected = make(folder.path());
    let database = Database::open(folder.path(), &small()).unwrap();
    for round in 0..20 {
        let target = folder.path().join(format!("copy{round}"));
        let made = std::thread::scope(|scope| {
            let racers = [0; 3].map(|_| scope.spawn(|| backup(&database, &target)));
            racers.map(|racer| racer.join().unwrap().is_ok())
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
        let copy = Database::open(&target, &small()).unwrap();
        assert!(contents(&copy).unwrap() == expected);
    }
}

#[test]
fn a_backup_of_an_empty_database() {
    let folder = scratch();
    let database = Database::open(&folder.path().join("db"), &small()).unwrap();
    let target = folder.path().join("copy");
    fs::create_dir(&target).unwrap();
    backup(&database, &target).unwrap();
    assert!(contents(&Database::open(&target, &small()).unwrap()).unwrap().is_empty());
}

#[test]
fn a_backup_that_is_interrupted_is_no_database() {
    let folder = scratch();
    make(folder.path());
    let database = Database::open(folder.path(), &small()).unwrap();
    commit(&database, 2000..2010, 1, 200_000);
    let target = folder.path().join("copy");
    let mut calls = 0;
    for stop_at in 1.. {
        let mut call = 0;
        let mut report = |_, _| {
            call += 1;
            if call == stop_at {
                // As kill -9 would leave it.
                let left = scratch();
                write(left.path(), &files(&target));
                assert_eq!(Database::open(left.path(), &small()).err().unwrap().kind(), ErrorKind::Corrupt);
                assert_ne!(verify(left.path()).unwrap().findings, []);
            }
            call < stop_at
        };
        let mut progress = Progress::new(&CancelToken::new(), &mut report);
        let result = database.backup(&target, BackupCheck::Full, &mut progress);
        calls = calls.max(call);
        if call < stop_at {
            result.unwrap();
            break;
        }
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(fs::read_dir(&target).unwrap().next().is_none());
    }
    assert!(calls > 5, "{calls}");
}

#[test]
fn compacting_shrinks_to_the_live_data_and_disturbs_no_reader() {
    let folder = scratch();
    let database = Database::open(folder.path(), &Options::default()).unwrap();
    for number in 0..40 {
        commit(&database, number * 100..number * 100 + 100, number, 2000);
        if number % 10 == 9 {
            database.checkpoint().unwrap();
        }
    }
    let mut reader = database.begin(Mode::Read).unwrap();
    let mut transaction = database.begin(Mode::Write).unwrap();
    for name in ["one", "two"] {
        let (store, _) = transaction.store(name).unwrap().unwrap();
        for key in (0..4000u32).filter(|key| key % 10 != 0) {
            transaction.delete(store, &key.to_be_bytes()).unwrap();
        }
    }
    transaction.commit().unwrap();
    let expected = contents(&database).unwrap();
    let first = with_progress(|progress| database.compact(progress)).unwrap();
    // The reader holds what it reads.
    let (store, _) = reader.store("one").unwrap().unwrap();
    let all = reader.scan(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX).unwrap();
    assert_eq!(all.len(), 4000);
    drop(reader);
    let second = with_progress(|progress| database.compact(progress)).unwrap();
    assert!(first.before.segments.bytes > 16_000_000, "{first:?}");
    assert!(second.after.segments.bytes < 4_000_000, "{second:?}");
    assert!(second.after.bytes() < 16_000_000, "{second:?}");
    assert!(contents(&database).unwrap() == expected);
    database.verify().unwrap();
    let info = database.info().unwrap();
    assert_eq!((info.checkpoint, info.processes), (info.seq, 1));
    assert!(info.live_bytes * 2 >= info.tree_bytes && info.oldest_pin.is_none(), "{info:?}");
    database.close().unwrap();
    assert!(contents(&Database::open(folder.path(), &small()).unwrap()).unwrap() == expected);
}

#[test]
fn compacting_an_empty_database_and_one_that_others_write() {
    let folder = scratch();
    let database = Database::open(&folder.path().join("empty"), &small()).unwrap();
    with_progress(|progress| database.compact(progress)).unwrap();
    assert!(contents(&database).unwrap().is_empty());
    while_others_write(&folder.path().join("busy"), |database| {
        for _ in 0..5 {
            with_progress(|progress| database.compact(progress)).unwrap();
            database.verify().unwrap();
        }
    });
}
