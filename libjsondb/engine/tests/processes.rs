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
    assert!(left <= 12, "{left} pins of dead processes");
}
