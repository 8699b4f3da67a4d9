//! Readers that stay: processes hold snapshots of different ages while others overwrite everything many times. What a snapshot
//! shows never changes, whoever collects garbage; once the readers are gone, so is what was kept for them.

#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod common;
#[path = "common/process.rs"]
mod process;

use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Random, count, scratch, seed};
use engine::{Database, Direction, ErrorKind, Mode, Options, Placement, Result, StoreId, Transaction};
use process::Worker;

const WRITERS: u64 = 2;
const READERS: u64 = 4;
/// Snapshots that one reader holds, at the most.
const HELD: usize = 4;
/// Keys written together: one transaction.
const GROUP: u64 = 20;
const GROUPS: u64 = 60;

fn options() -> Options {
    // Some transactions are committed as runs.
    let write_set_bytes = 64 << 10;
    Options { memtable_bytes: 1 << 20, page_cache_bytes: 1 << 20, write_set_bytes, ..Options::default() }
}

/// About 12 MiB in all: values in leaves, in value segments, and too large for the log.
fn len(index: u64) -> usize {
    match index % GROUP {
        0 => 100_000,
        1..=9 => 7000,
        _ => 3000,
    }
}

/// The round, and what no compression makes shorter: space is measured here.
fn value(index: u64, round: u64) -> Vec<u8> {
    let mut value = Random::new(index * 3 + round).bytes(len(index));
    value[..8].copy_from_slice(&round.to_be_bytes());
    value
}

/// Sets the keys of a group to values of this round. Nobody else writes them; a writer that was kept waiting too long is told.
fn overwrite(database: &Database, group: u64, round: u64) {
    while let Err(error) = try_overwrite(database, group, round) {
        assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{error}");
    }
}

fn try_overwrite(database: &Database, group: u64, round: u64) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("s", b"")?;
    for index in group * GROUP..(group + 1) * GROUP {
        let value = value(index, round);
        let placement = if (index + round).is_multiple_of(7) { Placement::Eager } else { Placement::Auto };
        transaction.put(store, &index.to_be_bytes(), &value, placement)?;
    }
    transaction.commit().map(drop)
}

/// The round of each group, as a snapshot shows it. Every byte is checked against its key and round.
fn rounds(transaction: &mut Transaction, store: StoreId) -> Result<Vec<u64>> {
    let all = Bound::Unbounded;
    let entries = transaction.scan(store, all, all, Direction::Forward, usize::MAX)?;
    assert_eq!(entries.len() as u64, GROUPS * GROUP);
    let mut rounds = Vec::new();
    for (index, entry) in (0..).zip(&entries) {
        assert_eq!(entry.key, u64::to_be_bytes(index));
        let value = transaction.load(&entry.value)?;
        let round = u64::from_be_bytes(value[..8].try_into().unwrap());
        if index.is_multiple_of(GROUP) {
            rounds.push(round);
        }
        assert_eq!(rounds.last(), Some(&round), "a transaction in part");
        assert!(value == self::value(index, round), "key {index}");
    }
    Ok(rounds)
}

/// A transaction that goes on reading, and what it saw first.
struct Held {
    transaction: Transaction,
    store: StoreId,
    seen: Vec<u64>,
}

impl Held {
    fn begin(database: &Database) -> Result<Held> {
        let mut transaction = database.begin(Mode::Read)?;
        let (store, _) = transaction.store("s")?.unwrap();
        let seen = rounds(&mut transaction, store)?;
        Ok(Held { transaction, store, seen })
    }

    /// Reads everything again. False when it is told that the snapshot is too old.
    fn check(&mut self) -> bool {
        match rounds(&mut self.transaction, self.store) {
            Ok(seen) => assert_eq!(seen, self.seen, "the snapshot moved"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{error}");
                return false;
            }
        }
        true
    }
}

/// Holds snapshots of different ages and reads them again and again until it is told to end; then says how often it read, and how
/// often it was told that a snapshot is too old.
fn read_for_long(database: &Database, mut random: Random) {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    process::when_told_to_end(move || told.store(true, Ordering::Release));
    let mut held: Vec<Held> = Vec::new();
    let (mut reads, mut refused) = (0, 0);
    loop {
        let last = ended.load(Ordering::Acquire);
        if held.len() < HELD && random.one_in(3) {
            held.push(Held::begin(database).unwrap());
        }
        let before = held.len();
        held.retain_mut(Held::check);
        reads += held.len();
        refused += before - held.len();
        if last {
            process::say(&format!("{reads} {refused}"));
            return;
        }
        if !held.is_empty() && random.one_in(6) {
            held.swap_remove(random.below(held.len() as u64) as usize);
        }
        std::thread::sleep(Duration::from_millis(random.below(100)));
    }
}

/// Reads, waits for a line, reads again; `keep`: in the transaction of before, then in a new one.
fn read_twice(database: &Database, keep: bool) {
    let read = |held: &Held| process::say(&format!("{:?}", held.seen[0]));
    let first = Held::begin(database).unwrap();
    read(&first);
    let kept = keep.then_some(first);
    process::hear();
    if let Some(mut kept) = kept {
        assert!(kept.check());
    }
    read(&Held::begin(database).unwrap());
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [task, folder, number, count] = &words[..] else { panic!("{words:?}") };
    let (number, count) = (number.parse::<u64>().unwrap(), count.parse::<u64>().unwrap());
    let database = Database::open(Path::new(folder), &options()).unwrap();
    match task.as_str() {
        "write" => {
            for round in 1..=count {
                (number..GROUPS)
                    .step_by(WRITERS as usize)
                    .for_each(|group| overwrite(&database, group, round));
            }
        }
        "read" => read_for_long(&database, Random::new(number)),
        "idle" | "reading" => read_twice(&database, task == "reading"),
        other => panic!("{other}"),
    }
}

fn start(task: &str, folder: &Path, number: u64, count: u64) -> Worker {
    Worker::start(&[task, &folder.display().to_string(), &number.to_string(), &count.to_string()])
}

/// A new folder with everything in its first state.
fn prepare(folder: &Path) -> Database {
    let database = Database::open(folder, &options()).unwrap();
    (0..GROUPS).for_each(|group| overwrite(&database, group, 0));
    database
}

/// Bytes of all files below `folder`.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            // Removed meanwhile.
            Err(_) => 0,
        })
        .sum()
}

/// Bytes of the keys and values that are there.
fn live_bytes() -> u64 {
    (0..GROUPS * GROUP).map(|index| 8 + len(index) as u64).sum()
}

/// Nobody reads any more: after two checkpoints what was kept for readers is gone.
fn check_disk(database: &Database, round: u64) -> u64 {
    for _ in 0..2 {
        overwrite(database, 0, round);
        database.checkpoint().unwrap();
    }
    let (disk, live) = (disk_bytes(database.folder()), live_bytes());
    assert!(disk * 2 <= live * 5, "{disk} bytes on disk for {live} of live data");
    disk
}

/// What happens to readers while the writers write.
struct Readers<'a> {
    folder: &'a Path,
    random: Random,
    readers: Vec<Worker>,
    /// The one that is stopped, if any.
    stopped: Option<usize>,
    killed: u64,
    reads: u64,
    refused: u64,
}

impl Readers<'_> {
    fn start(&mut self) -> Worker {
        start("read", self.folder, self.random.next(), 0)
    }

    fn go_on(&mut self) {
        if let Some(stopped) = self.stopped.take() {
            self.readers[stopped].signal(libc::SIGCONT);
        }
    }

    fn finish(&mut self, mut reader: Worker) {
        reader.end();
        let said = reader.hear();
        let (reads, refused) = said.split_once(' ').unwrap();
        self.reads += reads.parse::<u64>().unwrap();
        self.refused += refused.parse::<u64>().unwrap();
        reader.finish();
    }

    /// One of them is killed, or leaves, or is stopped, or goes on.
    fn disturb(&mut self) {
        let chosen = self.random.below(READERS) as usize;
        match self.random.below(4) {
            _ if self.stopped == Some(chosen) => self.go_on(),
            0 => {
                self.readers[chosen].kill();
                self.killed += 1;
                self.readers[chosen] = self.start();
            }
            1 => {
                let newcomer = self.start();
                let leaving = std::mem::replace(&mut self.readers[chosen], newcomer);
                self.finish(leaving);
            }
            2 if self.stopped.is_none() => {
                self.readers[chosen].signal(libc::SIGSTOP);
                self.stopped = Some(chosen);
            }
            _ => {}
        }
    }

    fn finish_all(&mut self) {
        self.go_on();
        while let Some(reader) = self.readers.pop() {
            self.finish(reader);
        }
    }
}

#[test]
fn old_readers_see_what_they_saw_and_leave_no_garbage() {
    let rounds = count(25);
    let folder = scratch();
    let database = prepare(folder.path());
    let began = Instant::now();
    let random = Random::new(seed());
    let mut readers = Readers {
        folder: folder.path(),
        random,
        readers: Vec::new(),
        stopped: None,
        killed: 0,
        reads: 0,
        refused: 0,
    };
    readers.readers = (0..READERS).map(|_| readers.start()).collect();
    let mut writers: Vec<Worker> =
        (0..WRITERS).map(|writer| start("write", folder.path(), writer, rounds)).collect();
    let mut largest = 0;
    while writers.iter_mut().any(|writer| writer.ended().is_none()) {
        std::thread::sleep(Duration::from_millis(100 + readers.random.below(200)));
        readers.disturb();
        largest = largest.max(disk_bytes(folder.path()));
    }
    writers.into_iter().for_each(Worker::finish);
    readers.finish_all();
    let took = began.elapsed();
    let disk = check_disk(&database, rounds);
    database.verify().unwrap();
    assert_eq!(Held::begin(&database).unwrap().seen, vec![rounds; GROUPS as usize]);
    let live = live_bytes() as f64;
    println!(
        "{rounds} rounds in {took:.1?}, {} readings, {} refused as too old, {} readers killed; \
         disk {:.2} times the live data afterwards, {:.1} times at most",
        readers.reads,
        readers.refused,
        readers.killed,
        disk as f64 / live,
        largest as f64 / live,
    );
}

#[test]
fn readers_of_other_processes_keep_what_they_read_and_idle_ones_keep_nothing() {
    let folder = scratch();
    let database = prepare(folder.path());
    let mut round = 0;
    for task in ["idle", "reading"] {
        database.checkpoint().unwrap();
        let mut reader = start(task, folder.path(), 0, 0);
        assert_eq!(reader.hear(), round.to_string());
        for _ in 0..4 {
            round += 1;
            (0..GROUPS).for_each(|group| overwrite(&database, group, round));
            database.checkpoint().unwrap();
        }
        if task == "idle" {
            check_disk(&database, round);
        }
        reader.tell("go on");
        assert_eq!(reader.hear(), round.to_string(), "a new transaction sees the newest");
        reader.finish();
    }
    check_disk(&database, round);
}
