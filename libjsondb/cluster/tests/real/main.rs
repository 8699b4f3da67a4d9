//! The shared log for real: processes on several machines with one folder and one Redis server are killed, stopped, and cut off
//! from Redis at random. Their histories are checked as those of the isolation campaign: strictly serializable, nothing
//! acknowledged lost, of every commit that was under way all or nothing.
//!
//! With `SOP_NAMESPACES=1` (`scripts/prove cluster-real`) machines are network namespaces with names of their own; else all run on this
//! machine, and nobody is cut off alone. `SOP_FOLDER` says where the folders are made: on a mount of a network file system, say.

#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(target_os = "linux")]

#[path = "../../../engine/tests/isolation/checker.rs"]
#[allow(dead_code)]
mod checker;
#[path = "../../../engine/tests/common/mod.rs"]
mod common;
#[path = "../../../engine/tests/isolation/graph.rs"]
mod graph;
#[path = "../../../engine/tests/isolation/history.rs"]
mod history;
mod machines;
mod network;
#[path = "../../../engine/tests/common/process.rs"]
mod process;
mod redis_server;
#[path = "../../../engine/tests/isolation/report.rs"]
#[allow(dead_code)]
mod report;
mod sessions;
#[path = "../../../engine/tests/isolation/versions.rs"]
mod versions;
#[path = "../../../engine/tests/isolation/workload.rs"]
#[allow(dead_code)]
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use checker::{Guarantee, check};
use cluster::Redis;
use engine::{Database, ErrorKind, Mode, StoreId};

use history::{Event, History, Model, Session, Transaction};
use machines::{Fault, Machines, THREADS};
use network::Network;
use sessions::{LastCommit, SessionFile};
use workload::Work;

/// Faults of one folder's life.
const FAULTS: u64 = 40;

/// Where each session keeps the number of its last commit.
fn markers(database: &Database) -> StoreId {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("markers", b"").unwrap();
    transaction.commit().unwrap();
    store
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [folder, outside, address, model, seed, first] = &words[..] else { panic!("{words:?}") };
    process::when_told_to_end(|| std::process::exit(0));
    let redis = Arc::new(Redis::default());
    // Away just now.
    while redis.open(address).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let database = Database::open_shared(Path::new(folder), &workload::options(), Some(redis)).unwrap();
    let (stores, markers) = (workload::stores(&database), markers(&database));
    let first: u64 = first.parse().unwrap();
    let work = Work {
        model: if model == "Lists" { Model::Lists } else { Model::Registers },
        seed: seed.parse().unwrap(),
        sessions: first..first + THREADS,
        operations: u64::MAX,
    };
    std::thread::scope(|scope| {
        for session in work.sessions.clone() {
            let (database, work) = (&database, &work);
            scope.spawn(move || {
                let end = process::EndWithProcess;
                let mut file = SessionFile::create(Path::new(outside), session, markers);
                workload::run_session(database, stores, work, session, &mut file);
                drop(end);
            });
        }
    });
}

/// What was counted over all folders.
#[derive(Default)]
struct Figures {
    faults: [u64; 6],
    transactions: usize,
    committed: usize,
    stored: usize,
    not_stored: usize,
    edges: usize,
}

/// What every session did, and at last what was there in the end.
fn recover(database: &Database, outside: &Path, sessions: u64, figures: &mut Figures) -> Vec<Session> {
    let markers = markers(database);
    let mut transaction = database.begin(Mode::Read).unwrap();
    let mut recovered = Vec::new();
    for session in 0..sessions {
        let value = transaction.get(markers, &session.to_be_bytes()).unwrap();
        let marker = value
            .map_or(0, |value| u64::from_be_bytes(transaction.load(&value).unwrap().try_into().unwrap()));
        let (done, last) = sessions::read(outside, session, marker).unwrap();
        figures.stored += usize::from(last == LastCommit::Stored);
        figures.not_stored += usize::from(last == LastCommit::NotStored);
        recovered.push(done);
    }
    let events = recovered.iter().flatten().flat_map(|transaction: &Transaction| &transaction.events);
    let end = events.map(Event::variable).max().map_or(0, |last| last + 1);
    recovered.push(vec![workload::read_all(database, end)]);
    recovered
}

/// While others have the folder open as Clustered it cannot be opened as Standalone, and the error says who they are.
fn check_refused(machines: &Machines) {
    let refused = Database::open(machines.folder(), &workload::options()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Locked, "{refused}");
    assert!(!machines.are_namespaces() || refused.to_string().contains("machine-"), "{refused}");
}

/// Opened by one process alone, as Standalone, the folder holds the same.
fn check_standalone(folder: &Path, expected: &[Event]) {
    let database = Database::open(folder, &workload::options()).unwrap();
    let end = expected.iter().map(Event::variable).max().map_or(0, |last| last + 1);
    assert_eq!(workload::read_all(&database, end).events, expected);
    database.checkpoint().unwrap();
    database.verify().unwrap();
    database.close().unwrap();
}

fn check_all(machines: &Machines, model: Model, figures: &mut Figures) {
    let folder = machines.folder();
    let database = Database::open_shared(folder, &workload::options(), None).unwrap();
    let sessions = recover(&database, machines.outside(), machines.sessions(), figures);
    database.checkpoint().unwrap();
    database.verify().unwrap();
    database.close().unwrap();
    // Its pin lasts as long as a handle.
    drop(database);
    let end = sessions.last().unwrap()[0].events.clone();
    let history = History { model, sessions };
    let report = check(&history, Guarantee::Strict);
    assert_eq!(report.count, 0, "{report}");
    figures.edges += report.edges;
    figures.transactions += history.transactions().count();
    figures.committed += history.transactions().filter(|transaction| transaction.committed()).count();
    check_standalone(folder, &end);
}

#[test]
fn histories_of_machines_that_fail_are_strictly_serializable() {
    let (count, seed) = (common::count(FAULTS), common::seed());
    let namespaces = common::number("SOP_NAMESPACES").is_some_and(|number| number > 0);
    let mut figures = Figures::default();
    for round in 0..count.div_ceil(FAULTS) {
        let model = if round.is_multiple_of(2) { Model::Lists } else { Model::Registers };
        let network = namespaces.then(|| Network::new(machines::MACHINES));
        let mut machines = Machines::start(network, model, seed + round);
        for _ in 0..FAULTS.min(count - round * FAULTS) {
            figures.faults[machines.fail_somehow() as usize] += 1;
        }
        machines.wait_for_everybody();
        check_refused(&machines);
        machines.kill_all();
        check_all(&machines, model, &mut figures);
    }
    let of = |fault: Fault| figures.faults[fault as usize];
    println!(
        "{} machines; {} killed, {} stopped, {} cut off; Redis {} stopped, {} replaced, {} emptied; \
         {} transactions, {} committed; of commits under way when killed {} were stored, {} were not; {} edges",
        if namespaces { "separate" } else { "pretended" },
        of(Fault::Killed),
        of(Fault::Stopped),
        of(Fault::CutOff),
        of(Fault::RedisStopped),
        of(Fault::RedisReplaced),
        of(Fault::RedisEmptied),
        figures.transactions,
        figures.committed,
        figures.stored,
        figures.not_stored,
        figures.edges,
    );
}
