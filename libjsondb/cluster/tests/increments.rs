//! Processes increment one counter while their server is lost, paused, flushed and set back: every increment counts once.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cluster::Redis;
use common::RedisServer;
use engine::{Coordinator, Database, Mode, Options, Placement, Result, StoreId};

const PROCESSES: usize = 4;
const INCREMENTS: usize = 100;
const KEY: &[u8] = b"counter";

fn open(folder: &Path, url: Option<&str>) -> Database {
    let redis = Redis::default();
    if let Some(url) = url {
        redis.open(url).unwrap();
    }
    let coordinator: Arc<dyn Coordinator> = Arc::new(redis);
    Database::open_shared(folder, &Options::default(), Some(coordinator)).unwrap()
}

fn read(transaction: &mut engine::Transaction, store: StoreId) -> Result<u64> {
    let number =
        |value: Option<&[u8]>| value.map_or(0, |value| u64::from_le_bytes(value.try_into().unwrap()));
    transaction.get_with(store, KEY, number)
}

fn increment(database: &Database, store: StoreId) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let before = read(&mut transaction, store)?;
    transaction.put(store, KEY, &(before + 1).to_le_bytes(), Placement::Auto)?;
    transaction.commit().map(drop)
}

/// Run by the other tests, in processes of their own.
#[test]
fn process_of_the_other_tests() {
    let Ok(folder) = std::env::var("SOP_INCREMENT") else { return };
    let url = std::env::var("SOP_REDIS").ok();
    let database = open(Path::new(&folder), url.as_deref());
    let store = database.begin(Mode::Read).unwrap().store("numbers").unwrap().unwrap().0;
    for _ in 0..INCREMENTS {
        while let Err(error) = increment(&database, store) {
            assert!(error.is_retryable(), "{error}");
        }
    }
}

/// Starts the processes, lets `disturb` do its work meanwhile, and counts.
fn run(url: Option<&str>, disturb: impl FnOnce()) {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path(), None);
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("numbers", b"").unwrap();
    transaction.commit().unwrap();
    let start = |_| -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process_of_the_other_tests"]).env("SOP_INCREMENT", folder.path());
        if let Some(url) = url {
            command.env("SOP_REDIS", url);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<Child> = (0..PROCESSES).map(start).collect();
    disturb();
    for process in processes {
        let done = process.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let mut transaction = database.begin(Mode::Read).unwrap();
    assert_eq!(read(&mut transaction, store).unwrap(), (PROCESSES * INCREMENTS) as u64);
}

fn moment() {
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn with_a_server() {
    let server = RedisServer::start();
    run(Some(&server.url()), || {});
    server.is_used_again();
}

#[test]
fn without_a_server() {
    run(None, || {});
}

#[test]
fn while_the_server_forgets_all() {
    let server = RedisServer::start();
    run(Some(&server.url()), || {
        server.is_used_again();
        for _ in 0..20 {
            server.call("FLUSHALL");
            moment();
        }
    });
}

#[test]
fn while_the_server_is_killed_and_started_with_an_old_dump() {
    let mut server = RedisServer::start();
    let url = server.url();
    run(Some(&url), || {
        server.is_used_again();
        server.call("SAVE");
        for _ in 0..5 {
            moment();
            server.kill();
            moment();
            server.restart();
        }
    });
}

#[test]
fn while_the_server_is_paused() {
    let server = RedisServer::start();
    run(Some(&server.url()), || {
        server.is_used_again();
        for _ in 0..10 {
            server.pause();
            moment();
            server.go_on();
            moment();
        }
    });
}
