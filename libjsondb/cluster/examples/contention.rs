//! One counter, many processes: how often an increment is tried, and how many there are a second.
//!
//! `cargo run --release -p sop-cluster --example contention -- FOLDER [REDIS_URL]`: 4 processes of 1 thread, 100 increments each; without a
//! URL, without a server. SOP_PROCESSES, SOP_THREADS and SOP_INCREMENTS change the numbers; SOP_QUEUE=0 leaves queueing and pauses out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use engine::{Coordinator, Database, Mode, Options, Placement, Result, StoreId};

const KEY: &[u8] = b"counter";

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "work") {
        arguments.remove(0);
        return work(&open(&arguments));
    }
    let database = open(&arguments);
    let mut transaction = database.begin(Mode::Write).expect("begin");
    let store = transaction.ensure_store("numbers", b"").expect("a store");
    transaction.put(store, KEY, &0_u64.to_le_bytes(), Placement::Auto).expect("a counter");
    transaction.commit().expect("commit");
    let began = Instant::now();
    let program = std::env::current_exe().expect("this program");
    let start = |_| {
        Command::new(&program).arg("work").args(&arguments).stdout(Stdio::piped()).spawn().expect("start")
    };
    let workers: Vec<_> = (0..number("SOP_PROCESSES", 4)).map(start).collect();
    let told: Vec<String> = workers
        .into_iter()
        .map(|worker| String::from_utf8_lossy(&worker.wait_with_output().expect("end").stdout).into_owned())
        .collect();
    let elapsed = began.elapsed();
    let attempts: Vec<usize> = told
        .iter()
        .flat_map(|told| told.split_whitespace())
        .map(|count| count.parse().expect("count"))
        .collect();
    let mut transaction = database.begin(Mode::Read).expect("begin");
    assert_eq!(read(&mut transaction, store).expect("read"), attempts.len() as u64, "increments were lost");
    let all: usize = attempts.iter().sum();
    println!(
        "{} increments, attempts each: {:.2} on average, {} at most; {:.0} increments/s",
        attempts.len(),
        all as f64 / attempts.len() as f64,
        attempts.iter().max().expect("some"),
        attempts.len() as f64 / elapsed.as_secs_f64(),
    );
}

fn open(arguments: &[String]) -> Database {
    let folder = arguments.first().expect("contention FOLDER [REDIS_URL]");
    let redis = cluster::Redis::default();
    if let Some(url) = arguments.get(1) {
        redis.open(url).expect("a Redis server");
    }
    let coordinator = (number("SOP_QUEUE", 1) > 0).then(|| Arc::new(redis) as Arc<dyn Coordinator>);
    Database::open_shared(Path::new(folder), &Options::default(), coordinator).expect("a folder to share")
}

/// Prints the attempts of each increment.
fn work(database: &Database) {
    let store =
        database.begin(Mode::Read).expect("begin").store("numbers").expect("look").expect("a store").0;
    std::thread::scope(|scope| {
        for _ in 0..number("SOP_THREADS", 1) {
            scope.spawn(|| {
                for _ in 0..number("SOP_INCREMENTS", 100) {
                    let mut attempts = 1;
                    while let Err(error) = increment(database, store) {
                        assert!(error.is_retryable(), "{error}");
                        attempts += 1;
                    }
                    println!("{attempts}");
                }
            });
        }
    });
}

fn increment(database: &Database, store: StoreId) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let before = read(&mut transaction, store)?;
    transaction.put(store, KEY, &(before + 1).to_le_bytes(), Placement::Auto)?;
    transaction.commit().map(drop)
}

fn read(transaction: &mut engine::Transaction, store: StoreId) -> Result<u64> {
    let look =
        |value: Option<&[u8]>| value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes);
    transaction.get_with(store, KEY, look)
}
