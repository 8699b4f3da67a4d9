//! Several processes on one folder, and processes killed at any moment. The test binary starts itself as the worker.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Database, Direction, ErrorKind, Mode, Options, Placement, StoreId, Transaction};

const WORK: &str = "SOP_TEST_WORK";

fn options() -> Options {
    Options { memtable_bytes: 128 << 10, page_cache_bytes: 1 << 20, ..Options::default() }
}

fn start(work: &str, folder: &Path, worker: usize, count: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker", "--nocapture"])
        .env(WORK, format!("{work} {worker} {count} {}", folder.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn number(transaction: &mut Transaction, store: StoreId, key: &[u8]) -> Option<u64> {
    let value = transaction.get(store, key).unwrap()?;
    Some(u64::from_be_bytes(transaction.load(&value).unwrap().try_into().unwrap()))
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Ok(work) = std::env::var(WORK) else { return };
    let mut words = work.splitn(4, ' ');
    let mut word = || words.next().unwrap().to_owned();
    let (kind, worker, count, folder) =
        (word(), word().parse::<usize>().unwrap(), word().parse::<usize>().unwrap(), word());
    let database = Database::open(Path::new(&folder), &options()).unwrap();
    match kind.as_str() {
        "disjoint" => {
            for index in 0..count {
                let mut transaction = database.begin(Mode::Write).unwrap();
                let store = transaction.ensure_store("s", b"").unwrap();
                let key = format!("{worker}-{index:06}");
                transaction.put(store, key.as_bytes(), &[1; 50], Placement::Auto).unwrap();
                transaction.add_to_counter(store, b"n", 1).unwrap();
                transaction.commit().unwrap();
            }
        }
        "counter" => {
            let mut done = 0;
            while done < count {
                let mut transaction = database.begin(Mode::Write).unwrap();
                let store = transaction.ensure_store("s", b"").unwrap();
                let value = number(&mut transaction, store, b"hot").unwrap_or(0) + 1;
                transaction.put(store, b"hot", &value.to_be_bytes(), Placement::Auto).unwrap();
                match transaction.commit() {
                    Ok(_) => done += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                }
            }
        }
        "journal" => journal(&database, worker),
        "idle" | "reading" => hold(&database, kind == "reading"),
        other => panic!("{other}"),
    }
}

/// Commits transactions of several keys for ever; prints the number of each one that was acknowledged.
fn journal(database: &Database, worker: usize) {
    let mut out = std::io::stdout().lock();
    let mut next = {
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        number(&mut transaction, store, &journal_key(worker, 0)).map_or(1, |last| last + 1)
    };
    loop {
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        // Every key of the transaction gets the same number; one is large now and then.
        for slot in 0..5 {
            transaction.put(store, &journal_key(worker, slot), &next.to_be_bytes(), Placement::Auto).unwrap();
        }
        let len = if next % 7 == 0 { 100_000 } else { 500 };
        let filler = format!("{worker}-filler-{}", next % 50);
        transaction.put(store, filler.as_bytes(), &vec![next as u8; len], Placement::Auto).unwrap();
        transaction.commit().unwrap();
        writeln!(out, "acknowledged {next}").unwrap();
        out.flush().unwrap();
        next += 1;
    }
}

/// Reads, waits for a line, reads again; `reading` keeps the first transaction open meanwhile.
fn hold(database: &Database, reading: bool) {
    let read = |transaction: &mut Transaction| {
        let (store, _) = transaction.store("s").unwrap().unwrap();
        let entries = transaction
            .scan(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)
            .unwrap();
        let values: Vec<Vec<u8>> =
            entries.iter().map(|entry| transaction.load(&entry.value).unwrap()).collect();
        assert!(values.iter().all(|value| value == &values[0]), "a torn snapshot");
        println!("value {}", values[0][0]);
    };
    let mut transaction = database.begin(Mode::Read).unwrap();
    read(&mut transaction);
    let kept = reading.then_some(transaction);
    std::io::stdin().read_line(&mut String::new()).unwrap();
    if let Some(mut transaction) = kept {
        read(&mut transaction);
    }
    read(&mut database.begin(Mode::Read).unwrap());
}

fn journal_key(worker: usize, slot: usize) -> Vec<u8> {
    format!("{worker}-slot-{slot}").into_bytes()
}

fn count(database: &Database) -> (usize, i64) {
    let mut transaction = database.begin(Mode::Read).unwrap();
    let (store, _) = transaction.store("s").unwrap().unwrap();
    let entries =
        transaction.scan(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX).unwrap();
    (entries.len(), transaction.counter(store, b"n").unwrap())
}

#[test]
fn four_processes_on_disjoint_keys_never_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..4).map(|worker| start("disjoint", folder.path(), worker, 500)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let database = Database::open(folder.path(), &options()).unwrap();
    assert_eq!(count(&database), (2000, 2000));
    database.checkpoint().unwrap();
    database.verify().unwrap();
}

#[test]
fn four_processes_on_one_counter_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..4).map(|worker| start("counter", folder.path(), worker, 100)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let database = Database::open(folder.path(), &options()).unwrap();
    let mut transaction = database.begin(Mode::Read).unwrap();
    let (store, _) = transaction.store("s").unwrap().unwrap();
    assert_eq!(number(&mut transaction, store, b"hot"), Some(400));
}

/// Next line of the form "value N".
fn next_value(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> u8 {
    let line = lines.find(|line| line.as_ref().unwrap().starts_with("value ")).unwrap().unwrap();
    line["value ".len()..].parse().unwrap()
}

fn overwrite(database: &Database, value: u8) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    for key in 0..100u32 {
        transaction.put(store, &key.to_be_bytes(), &vec![value; 6000], Placement::Auto).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn readers_of_other_processes_keep_what_they_read_and_idle_ones_keep_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &options()).unwrap();
    overwrite(&database, 1);
    let segment_bytes = || -> u64 {
        let files = fs::read_dir(folder.path().join("seg")).unwrap();
        files.map(|file| file.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
    };
    for kind in ["idle", "reading"] {
        overwrite(&database, 1);
        database.checkpoint().unwrap();
        let mut child = start(kind, folder.path(), 0, 0);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(next_value(&mut lines), 1);
        for value in 2..40 {
            overwrite(&database, value);
            database.checkpoint().unwrap();
        }
        database.checkpoint().unwrap();
        let bytes = segment_bytes();
        if kind == "idle" {
            assert!(bytes < 3 * 600_000, "{bytes} bytes although nobody reads old ones");
        }
        child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        if kind == "reading" {
            assert_eq!(next_value(&mut lines), 1, "the snapshot did not move");
        }
        assert_eq!(next_value(&mut lines), 39, "a new transaction sees the newest");
        assert!(child.wait().unwrap().success());
    }
    for value in 0..3 {
        overwrite(&database, value);
        database.checkpoint().unwrap();
    }
    let bytes = segment_bytes();
    assert!(bytes < 3 * 600_000, "{bytes} bytes after the readers ended");
}

#[test]
fn kill_9_loses_no_acknowledged_commit_and_leaves_none_in_part() {
    let rounds: u64 = std::env::var("SOP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = [0u64; 2];
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let mut children: Vec<Child> =
            (0..2).map(|worker| start("journal", folder.path(), worker, 0)).collect();
        std::thread::sleep(Duration::from_millis(60 + round * 37 % 300));
        for child in &mut children {
            child.kill().unwrap();
        }
        for (worker, mut child) in children.into_iter().enumerate() {
            for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                if let Some(last) = line.unwrap().strip_prefix("acknowledged ") {
                    acknowledged[worker] = last.parse().unwrap();
                }
            }
            child.wait().unwrap();
        }
        let begun = Instant::now();
        let database = Database::open(folder.path(), &options()).unwrap();
        let mut transaction = database.begin(Mode::Write).unwrap();
        slowest = slowest.max(begun.elapsed());
        let store = transaction.ensure_store("s", b"").unwrap();
        for (worker, acknowledged) in acknowledged.iter_mut().enumerate() {
            let numbers: Vec<Option<u64>> =
                (0..5).map(|slot| number(&mut transaction, store, &journal_key(worker, slot))).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]), "round {round}: {numbers:?}");
            let last = numbers[0].unwrap_or(0);
            // One more may be stored than was acknowledged.
            assert!(
                (*acknowledged..=*acknowledged + 1).contains(&last),
                "round {round}: {last} of {acknowledged}"
            );
            *acknowledged = last;
        }
        drop(transaction);
        if round % 5 == 4 {
            database.checkpoint().unwrap();
            database.verify().unwrap();
        }
        database.close().unwrap();
    }
    println!("{rounds} rounds, {acknowledged:?} acknowledged, slowest open {slowest:?}");
    assert!(acknowledged.iter().all(|count| *count > 0));
    let left = fs::read_dir(folder.path().join("pin")).unwrap().count();
    assert!(left <= 24, "{left} files of dead processes' pins");
}
