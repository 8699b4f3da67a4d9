//! Isolation: histories of threads and processes on few variables, checked without the engine's help for every anomaly of Adya
//! and Elle, against strict serializability; and replayed in the order that the engine claims.
//!
//! Real-time order is part of the promise: a commit is acknowledged after its end of the log was announced, and every transaction
//! begins by reading what is announced (step 5 of the commit in libjsondb/docs/protocol.md).
//!
//! `SOP_EXPORT=FILE` writes what was recorded as JSON for other checkers (`export.rs`).

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/shared.rs"]
mod shared;

mod anomalies;
mod checker;
mod export;
mod graph;
mod history;
mod replay;
mod report;
mod versions;
mod workload;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fs2::FileExt;

use checker::{Guarantee, check};
use history::{Event, History, Model, Outcome, Session};
use workload::Work;

const WORK: &str = "SOP_TEST_ISOLATION";
const EXPORT: &str = "SOP_EXPORT";

/// What runs: processes, and threads of each.
const RUNS: [(Model, u64, u64); 4] =
    [(Model::Lists, 1, 8), (Model::Lists, 4, 2), (Model::Registers, 1, 8), (Model::Registers, 4, 2)];

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Ok(work) = std::env::var(WORK) else { return };
    let words: Vec<&str> = work.splitn(7, ' ').collect();
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    let (process, threads) = (number(1), number(2));
    let work = Work {
        model: if words[0] == "Lists" { Model::Lists } else { Model::Registers },
        sessions: process * threads..(process + 1) * threads,
        operations: number(3),
        seed: number(4),
    };
    let sessions = workload::run(&shared::open(Path::new(words[5]), &workload::options()), &work);
    let mut out = BufWriter::new(File::create(words[6]).unwrap());
    serde_json::to_writer(&mut out, &sessions).unwrap();
    out.flush().unwrap();
}

/// Runs the processes on a folder of their own; gives what they did, and at last what was there in the end.
fn record((model, processes, threads): (Model, u64, u64), operations: u64, seed: u64) -> History {
    let folder = common::scratch();
    let path = folder.path().join("database");
    let database = shared::open(&path, &workload::options());
    // Before the workers begin: none of them is refused what it needs.
    workload::stores(&database);
    let recorded = |process: u64| folder.path().join(format!("sessions-{process}.json"));
    let operations = operations.div_ceil(processes * threads);
    let start = |process: u64| {
        let (database, recorded) = (path.display(), recorded(process));
        let work =
            format!("{model:?} {process} {threads} {operations} {seed} {database} {}", recorded.display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "worker"]).env(WORK, work).stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..processes).map(start).collect();
    // Over the shared log nobody takes it.
    let lock = path.join("log").join("LOCK");
    let lock = File::options().write(true).create(true).truncate(false).open(lock).unwrap();
    for mut child in children {
        let status = slow_down_until(&lock, || child.try_wait().unwrap());
        assert!(status.success(), "a worker of {model:?} failed (seed {seed})");
    }
    let read = |process| -> Vec<Session> {
        serde_json::from_reader(BufReader::new(File::open(recorded(process)).unwrap())).unwrap()
    };
    let mut sessions: Vec<Session> = (0..processes).flat_map(read).collect();
    let events = sessions.iter().flatten().flat_map(|transaction| &transaction.events);
    let end = events.map(Event::variable).max().map_or(0, |last| last + 1);
    sessions.push(vec![workload::read_all(&database, end)]);
    database.checkpoint().unwrap();
    database.verify().unwrap();
    database.close().unwrap();
    History { model, sessions }
}

/// Holds the log lock now and then, as the syncs of a slow disk would: commits queue up behind it and share a group.
fn slow_down_until<T>(lock: &File, mut done: impl FnMut() -> Option<T>) -> T {
    let pause = || std::thread::sleep(Duration::from_micros(300));
    loop {
        if let Some(result) = done() {
            return result;
        }
        lock.lock_exclusive().unwrap();
        pause();
        FileExt::unlock(lock).unwrap();
        pause();
    }
}

/// Figures of all runs.
#[derive(Default)]
struct Figures {
    operations: u64,
    outcomes: [u64; 4],
    edges: usize,
    running: Duration,
    checking: Duration,
}

impl Figures {
    fn add(&mut self, history: &History) {
        for transaction in history.transactions() {
            self.operations += transaction.operations;
            self.outcomes[transaction.outcome as usize] += 1;
        }
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }
}

#[test]
fn histories_are_strictly_serializable() {
    let (count, seed) = (common::count(200_000), common::seed());
    let mut figures = Figures::default();
    let mut histories = Vec::new();
    for run in RUNS {
        let began = Instant::now();
        let history = record(run, count.div_ceil(RUNS.len() as u64), seed);
        figures.running += began.elapsed();
        let began = Instant::now();
        let report = check(&history, Guarantee::Strict);
        assert_eq!(report.count, 0, "{run:?}, seed {seed}: {report}");
        if let Err(difference) = replay::replay(&history, shared::is_shared()) {
            panic!("{run:?}, seed {seed}: not in the order of the sequence numbers: {difference}");
        }
        figures.checking += began.elapsed();
        figures.edges += report.edges;
        figures.add(&history);
        if std::env::var_os(EXPORT).is_some() {
            histories.push(history);
        }
    }
    if let Some(path) = std::env::var_os(EXPORT) {
        export::export(Path::new(&path), &histories);
    }
    println!(
        "isolation: {} operations; transactions: {} committed, {} in conflict, {} too old, {} rolled back; {} edges; ran {:.1?}, checked in {:.1?}",
        figures.operations,
        figures.count(Outcome::Committed),
        figures.count(Outcome::Conflict),
        figures.count(Outcome::SnapshotTooOld),
        figures.count(Outcome::RolledBack),
        figures.edges,
        figures.running,
        figures.checking,
    );
}
