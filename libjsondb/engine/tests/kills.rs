//! kill -9 at any moment: processes of several threads commit to one folder and are killed at random. What was acknowledged stays;
//! of the transaction that was under way all is there, or nothing.
//!
//! Every writer (a thread of a process) numbers its transactions. What a transaction writes follows from writer and number, so
//! the last number says what must be there. After each acknowledgement the number goes into a journal outside the folder.

#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod common;
#[path = "common/process.rs"]
mod process;
#[path = "common/shared.rs"]
mod shared;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Random, count, seed};
use engine::{
    Database, Direction, Durability, Error, Mode, Options, Placement, Result, StoreId, Transaction,
};
use process::Worker;

const PROCESSES: u64 = 8;
const THREADS: u64 = 4;
/// Values that every transaction of a writer writes anew.
const SLOTS: u64 = 4;
/// A writer's transactions go round this many rows.
const ROWS: u64 = 60;
/// One in so many transactions of a writer adds to the shared counter, or to the key that all writers share.
const COUNTED: u64 = 3;
const HOT: u64 = 10;

fn options() -> Options {
    // Some transactions are committed as runs.
    let write_set_bytes = 32 << 10;
    Options { memtable_bytes: 128 << 10, page_cache_bytes: 1 << 20, write_set_bytes, ..Options::default() }
}

/// What a writer's transaction of this number keeps in a slot. The first slot stays small.
fn content(writer: u64, slot: u64, number: u64) -> Vec<u8> {
    let len = match slot {
        1 if number.is_multiple_of(5) => 5000 + number % 3000,
        2 if number.is_multiple_of(13) => 70_000 + number % 30_000,
        _ => 8 + (writer + number) % 200,
    };
    let mut bytes = vec![(writer * 31 + slot * 7 + number) as u8; len as usize];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn slot_key(writer: u64, slot: u64) -> Vec<u8> {
    format!("slot-{slot}-{writer:02}").into_bytes()
}

fn row_key(writer: u64, number: u64) -> Vec<u8> {
    format!("row-{writer:02}-{:03}", number % ROWS).into_bytes()
}

/// The row that a transaction removes, if any.
fn removed_row(writer: u64, number: u64) -> Option<Vec<u8>> {
    number.is_multiple_of(7).then(|| row_key(writer, number + ROWS / 2))
}

fn number_at(transaction: &mut Transaction, store: StoreId, key: &[u8]) -> Result<u64> {
    let Some(value) = transaction.get(store, key)? else { return Ok(0) };
    Ok(u64::from_be_bytes(transaction.load(&value)?[..8].try_into().unwrap()))
}

/// Everything of one writer, checked against its last number, which it gives.
fn check(transaction: &mut Transaction, store: StoreId, writer: u64) -> u64 {
    let last = number_at(transaction, store, &slot_key(writer, 0)).unwrap();
    for slot in 0..SLOTS {
        let value = transaction.get(store, &slot_key(writer, slot)).unwrap();
        let value = value.map(|value| transaction.load(&value).unwrap());
        let expected = (last > 0).then(|| content(writer, slot, last));
        assert!(value == expected, "slot {slot} of writer {writer} is not of transaction {last}");
    }
    // The last transactions, once round the rows, say what is in each.
    let mut expected = BTreeMap::new();
    for number in last.saturating_sub(ROWS - 1).max(1)..=last {
        expected.insert(row_key(writer, number), number);
        removed_row(writer, number).map(|row| expected.remove(&row));
    }
    let (start, end) = (format!("row-{writer:02}-"), format!("row-{writer:02}."));
    let range = (Bound::Included(start.as_bytes()), Bound::Excluded(end.as_bytes()));
    let rows = transaction.scan(store, range.0, range.1, Direction::Forward, usize::MAX).unwrap();
    let rows: BTreeMap<Vec<u8>, u64> = rows
        .into_iter()
        .map(|row| (row.key, u64::from_be_bytes(transaction.load(&row.value).unwrap().try_into().unwrap())))
        .collect();
    assert!(rows == expected, "rows of writer {writer} at {last}: {rows:?}, not {expected:?}");
    last
}

/// Last acknowledged number of each writer. What was written to a file outlives the process.
struct Journal(File);

impl Journal {
    fn open(outside: &Path) -> Journal {
        let path = outside.join("journal");
        Journal(File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap())
    }

    fn read(&self, writer: u64) -> u64 {
        let mut bytes = [0; 8];
        // Shorter before the first acknowledgement.
        let _ = self.0.read_exact_at(&mut bytes, writer * 8);
        u64::from_le_bytes(bytes)
    }

    fn write(&self, writer: u64, number: u64) {
        self.0.write_all_at(&number.to_le_bytes(), writer * 8).unwrap();
    }
}

/// One try of the transaction after the writer's last one, whose number it gives to `seen`. Gives its own number.
fn attempt(database: &Database, writer: u64, seen: &mut impl FnMut(u64)) -> Result<u64> {
    let mut transaction = database.begin(Mode::Write)?;
    // No kill takes a relaxed one either.
    if writer.is_multiple_of(2) {
        transaction.set_durability(Durability::Relaxed);
    }
    let store = transaction.ensure_store("s", b"")?;
    let last = number_at(&mut transaction, store, &slot_key(writer, 0))?;
    seen(last);
    let number = last + 1;
    for slot in 0..SLOTS {
        let placement = if (number + slot).is_multiple_of(11) { Placement::Eager } else { Placement::Auto };
        transaction.put(store, &slot_key(writer, slot), &content(writer, slot, number), placement)?;
    }
    transaction.put(store, &row_key(writer, number), &number.to_be_bytes(), Placement::Auto)?;
    if let Some(row) = removed_row(writer, number) {
        transaction.delete(store, &row)?;
    }
    if number.is_multiple_of(COUNTED) {
        transaction.add_to_counter(store, b"counted", 1)?;
    }
    if number.is_multiple_of(HOT) {
        let hot = number_at(&mut transaction, store, b"hot")? + 1;
        transaction.put(store, b"hot", &hot.to_be_bytes(), Placement::Auto)?;
    }
    transaction.commit()?;
    Ok(number)
}

/// Commits for ever. The process before may have left one transaction more than it acknowledged: opening the folder made known
/// whether it did.
fn commit_for_ever(database: &Database, writer: u64, journal: &Journal) {
    let mut acknowledged = journal.read(writer);
    let mut unacknowledged = 1;
    loop {
        let committed = attempt(database, writer, &mut |last| {
            let known = acknowledged..=acknowledged + unacknowledged;
            assert!(known.contains(&last), "writer {writer}: {last}, acknowledged {acknowledged}");
            acknowledged = last;
            unacknowledged = 0;
            journal.write(writer, last);
        });
        match committed {
            Ok(number) => {
                acknowledged = number;
                journal.write(writer, number);
            }
            Err(error) => assert!(Error::is_retryable(&error), "writer {writer}: {error}"),
        }
    }
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [process, folder, outside] = &words[..] else { panic!("{words:?}") };
    process::when_told_to_end(|| std::process::exit(1));
    let process: u64 = process.parse().unwrap();
    let began = Instant::now();
    let database = shared::open(Path::new(folder), &options());
    let mut transaction = database.begin(Mode::Read).unwrap();
    let store = transaction.store("s").unwrap();
    let first = process * THREADS;
    if let Some((store, _)) = store {
        number_at(&mut transaction, store, &slot_key(first, 0)).unwrap();
        note_open(Path::new(outside), process, began.elapsed());
        for writer in first..first + THREADS {
            check(&mut transaction, store, writer);
        }
    }
    drop(transaction);
    let journal = Journal::open(Path::new(outside));
    std::thread::scope(|scope| {
        for writer in first..first + THREADS {
            let (database, journal) = (&database, &journal);
            scope.spawn(move || {
                // Another thread would go on for ever.
                let end = process::EndWithProcess;
                commit_for_ever(database, writer, journal);
                drop(end);
            });
        }
    });
}

/// How long a process took from opening the folder to its first read.
fn note_open(outside: &Path, process: u64, took: Duration) {
    let mut file =
        File::options().append(true).create(true).open(outside.join(format!("opened-{process}"))).unwrap();
    file.write_all(&(took.as_micros() as u64).to_le_bytes()).unwrap();
}

/// All of them, in order.
fn noted_opens(outside: &Path) -> Vec<Duration> {
    let mut opens: Vec<Duration> = (0..PROCESSES)
        .filter_map(|process| fs::read(outside.join(format!("opened-{process}"))).ok())
        .flat_map(|bytes| {
            let numbers = bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap()));
            numbers.map(Duration::from_micros).collect::<Vec<_>>()
        })
        .collect();
    opens.sort_unstable();
    opens
}

/// The processes on one folder.
struct Group {
    folder: tempfile::TempDir,
    outside: tempfile::TempDir,
    workers: Vec<Worker>,
}

impl Group {
    fn new() -> Group {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut group = Group { folder, outside, workers: Vec::new() };
        group.start_all();
        group
    }

    fn start(&self, process: u64) -> Worker {
        let [folder, outside] =
            [&self.folder, &self.outside].map(|folder| folder.path().display().to_string());
        Worker::start(&[&process.to_string(), &folder, &outside])
    }

    fn start_all(&mut self) {
        self.workers = (0..PROCESSES).map(|process| self.start(process)).collect();
    }

    fn kill_one(&mut self, process: u64) {
        self.workers[process as usize].kill();
        self.workers[process as usize] = self.start(process);
    }

    /// Kills all at once and checks everything. Gives the number of transactions.
    fn kill_all(&mut self) -> u64 {
        for worker in &mut self.workers {
            assert_eq!(worker.ended(), None, "a worker ended by itself");
            worker.signal(libc::SIGKILL);
        }
        self.workers.clear();
        let database = shared::open(self.folder.path(), &options());
        let total = self.check_all(&database);
        database.verify().unwrap();
        database.close().unwrap();
        total
    }

    fn check_all(&self, database: &Database) -> u64 {
        let journal = Journal::open(self.outside.path());
        let mut transaction = database.begin(Mode::Read).unwrap();
        // Killed before anybody committed.
        let Some((store, _)) = transaction.store("s").unwrap() else { return 0 };
        let (mut total, mut counted, mut hot) = (0, 0, 0);
        for writer in 0..PROCESSES * THREADS {
            let (last, acknowledged) = (check(&mut transaction, store, writer), journal.read(writer));
            assert!(
                (acknowledged..=acknowledged + 1).contains(&last),
                "writer {writer}: {last}, acknowledged {acknowledged}"
            );
            total += last;
            counted += last / COUNTED;
            hot += last / HOT;
        }
        assert_eq!(transaction.counter(store, b"counted").unwrap(), counted as i64);
        assert_eq!(number_at(&mut transaction, store, b"hot").unwrap(), hot);
        total
    }
}

#[test]
fn kill_9_loses_no_acknowledged_commit_and_leaves_none_in_part() {
    let (kills_wanted, mut random) = (count(500), Random::new(seed()));
    let mut group = Group::new();
    let (mut kills, mut all_at_once) = (0, 0);
    while kills < kills_wanted {
        std::thread::sleep(Duration::from_millis(random.below(120)));
        let process = random.below(PROCESSES);
        match random.below(24) {
            0 => {
                group.kill_all();
                group.start_all();
                all_at_once += 1;
                kills += PROCESSES;
            }
            choice @ 1..=4 => {
                // Stopped with whatever lock it holds; the others wait, or go on.
                group.workers[process as usize].signal(libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(random.below(200)));
                if choice == 1 {
                    group.workers[process as usize].signal(libc::SIGCONT);
                    continue;
                }
                group.kill_one(process);
                kills += 1;
            }
            _ => {
                group.kill_one(process);
                kills += 1;
            }
        }
    }
    let transactions = group.kill_all();
    let database = shared::open(group.folder.path(), &options());
    database.checkpoint().unwrap();
    database.verify().unwrap();
    assert_eq!(group.check_all(&database), transactions);
    let pins = fs::read_dir(group.folder.path().join("pin")).unwrap().count();
    assert!(pins <= 2, "{pins} files of pins, although nobody else lives");
    let opens = noted_opens(group.outside.path());
    println!(
        "{kills} kills ({all_at_once} times all at once), {transactions} transactions kept; {} opens: p50 {:?}, p99 {:?}, max {:?}",
        opens.len(),
        opens[opens.len() / 2],
        opens[opens.len() * 99 / 100],
        opens[opens.len() - 1],
    );
}
