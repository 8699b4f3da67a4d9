//! Serializability: random transactions of threads and processes are replayed in the order of their sequence numbers; every read and
//! every scan must have seen what the replay has at that place. (The engine says what the serial order is, so no search for one is
//! needed.) `SOP_TRANSACTIONS` sets how many each worker commits.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Bound;
use std::path::Path;
use std::process::Command;

use engine::{Database, Direction, ErrorKind, Mode, Options, Placement, StoreId, Transaction};

const WORK: &str = "SOP_TEST_HISTORY";
const KEYS: u64 = 24;
const WORKERS: u64 = 4;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

fn open(folder: &Path) -> Database {
    let options = Options { memtable_bytes: 64 << 10, page_cache_bytes: 1 << 20, ..Options::default() };
    Database::open(folder, &options).unwrap()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

fn read(transaction: &mut Transaction, store: StoreId, key: u64) -> u64 {
    let found = transaction.get(store, &key.to_be_bytes()).unwrap();
    found.map_or(0, |value| number(&transaction.load(&value).unwrap()))
}

/// A line per committed transaction: its sequence number, then `r key value`, `s first last direction limit key=value,…`,
/// `w key value` (0: removed).
fn work(database: &Database, worker: u64, transactions: u64, out: &mut impl Write) {
    let mut random = Random(worker * 77 + 5);
    let mut done = 0;
    let mut attempts = 0;
    while done < transactions {
        attempts += 1;
        let mut line = String::new();
        let writes = random.below(5) > 0;
        let mut transaction = database.begin(if writes { Mode::Write } else { Mode::Read }).unwrap();
        let Some((store, _)) = transaction.store("s").unwrap() else { panic!("the store is missing") };
        for _ in 0..random.below(4) + 1 {
            match random.below(4) {
                0 | 1 => {
                    let key = random.below(KEYS);
                    line += &format!(" r {key} {}", read(&mut transaction, store, key));
                }
                2 => {
                    let first = random.below(KEYS);
                    let last = first + random.below(6);
                    let (backward, limit) = (random.below(2), random.below(3) + 1);
                    let direction = if backward == 1 { Direction::Backward } else { Direction::Forward };
                    let (start, end) = (first.to_be_bytes(), last.to_be_bytes());
                    let entries = transaction
                        .scan(
                            store,
                            Bound::Included(&start),
                            Bound::Excluded(&end),
                            direction,
                            limit as usize,
                        )
                        .unwrap();
                    let seen: Vec<String> = entries
                        .iter()
                        .map(|entry| {
                            let value = transaction.load(&entry.value).unwrap();
                            format!("{}={}", number(&entry.key), number(&value))
                        })
                        .collect();
                    line += &format!(" s {first} {last} {backward} {limit} [{}]", seen.join(","));
                }
                _ if writes => {
                    let key = random.below(KEYS);
                    if random.below(4) == 0 {
                        transaction.delete(store, &key.to_be_bytes()).unwrap();
                        line += &format!(" w {key} 0");
                    } else {
                        let value = attempts * 100 + worker + 1;
                        let bytes = value.to_be_bytes();
                        transaction.put(store, &key.to_be_bytes(), &bytes, Placement::Auto).unwrap();
                        line += &format!(" w {key} {value}");
                    }
                }
                _ => {}
            }
        }
        let snapshot = transaction.snapshot().0;
        let wrote = transaction.has_writes();
        match transaction.commit() {
            // What only reads belongs right behind its snapshot.
            Ok(seq) => {
                writeln!(out, "{} {}{line}", if wrote { seq.0 } else { snapshot }, u8::from(!wrote)).unwrap()
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                continue;
            }
        }
        done += 1;
    }
}

/// Replays all lines in order. Gives the number of transactions.
fn replay(lines: &[String]) -> usize {
    let mut order: Vec<(u64, u64, Vec<&str>)> = lines
        .iter()
        .map(|line| {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap().parse::<u64>().unwrap();
            let (seq, reads_only) = (next(), next());
            (seq, reads_only, words.collect())
        })
        .collect();
    order.sort();
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    for (seq, _, words) in &order {
        // A transaction sees its own writes.
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut next = || words.next().unwrap().parse::<u64>().unwrap();
            match *word {
                "r" => {
                    let (key, value) = (next(), next());
                    assert_eq!(model.get(&key).copied().unwrap_or(0), value, "key {key} at {seq}");
                }
                "w" => match (next(), next()) {
                    (key, 0) => drop(model.remove(&key)),
                    (key, value) => drop(model.insert(key, value)),
                },
                "s" => {
                    let (first, last, backward, limit) = (next(), next(), next(), next());
                    let range: Vec<String> = if backward == 1 {
                        model.range(first..last).rev().map(|(key, value)| format!("{key}={value}")).collect()
                    } else {
                        model.range(first..last).map(|(key, value)| format!("{key}={value}")).collect()
                    };
                    let expected = range.iter().take(limit as usize).cloned().collect::<Vec<_>>().join(",");
                    assert_eq!(format!("[{expected}]"), *words.next().unwrap(), "scan at {seq}");
                }
                other => panic!("{other}"),
            }
        }
    }
    order.len()
}

fn transactions() -> u64 {
    std::env::var("SOP_TRANSACTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(1500)
}

fn prepare(folder: &Path) -> Database {
    let database = open(folder);
    let mut transaction = database.begin(Mode::Write).unwrap();
    transaction.ensure_store("s", b"").unwrap();
    transaction.commit().unwrap();
    database
}

#[test]
fn threads_are_serializable() {
    let folder = tempfile::tempdir().unwrap();
    let database = prepare(folder.path());
    let outputs: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let database = &database;
                scope.spawn(move || {
                    let mut out = Vec::new();
                    work(database, worker, transactions(), &mut out);
                    out
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let text: String = outputs.into_iter().map(|out| String::from_utf8(out).unwrap()).collect();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(replay(&lines) as u64, WORKERS * transactions());
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Ok(work_text) = std::env::var(WORK) else { return };
    let (worker, folder) = work_text.split_once(' ').unwrap();
    let out = Path::new(folder).join(format!("history-{worker}"));
    let mut out = std::io::BufWriter::new(fs::File::create(out).unwrap());
    work(&open(Path::new(folder)), worker.parse().unwrap(), transactions(), &mut out);
    out.flush().unwrap();
}

#[test]
fn processes_are_serializable() {
    let folder = tempfile::tempdir().unwrap();
    drop(prepare(folder.path()));
    let children: Vec<_> = (0..WORKERS)
        .map(|worker| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "worker"])
                .env(WORK, format!("{worker} {}", folder.path().display()))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut lines = Vec::new();
    for worker in 0..WORKERS {
        let text = fs::read_to_string(folder.path().join(format!("history-{worker}"))).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    assert_eq!(replay(&lines) as u64, WORKERS * transactions());
}
