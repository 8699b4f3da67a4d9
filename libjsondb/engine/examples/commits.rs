//! What a commit costs: rate and latencies of small commits, by threads and by processes, durable and relaxed, while
//! checkpoints run. Prints figures; judges nothing.
//!
//! `cargo run --release -p sop-engine --example commits -- [FOLDER [SECONDS]]`

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::{Database, Durability, ErrorKind, Mode, Options, Placement, Result};

const VALUE_BYTES: usize = 105;

/// What the workers of one measurement do.
#[derive(Clone, Copy)]
struct Work {
    durability: Durability,
    /// Keys written by each commit.
    items: u64,
    /// All workers write the same keys, after they read them.
    hot: bool,
}

/// Latencies of commits, in nanoseconds.
type Latencies = Vec<u64>;

/// Reads and writes `items` keys; retries what lost against others.
fn commit(database: &Database, work: Work, worker: u64, number: u64) -> Result<()> {
    loop {
        let mut transaction = database.begin_brief(Mode::Write)?;
        transaction.set_durability(work.durability);
        let store = transaction.ensure_store("s", b"")?;
        for item in 0..work.items {
            let key = if work.hot { item } else { (worker << 40) + (number * work.items + item) % 20_000 };
            transaction.get(store, &key.to_be_bytes())?;
            transaction.put(store, &key.to_be_bytes(), &[number as u8; VALUE_BYTES], Placement::Auto)?;
        }
        match transaction.commit() {
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::SnapshotTooOld) => {}
            done => return done.map(drop),
        }
    }
}

fn run(database: &Database, work: Work, worker: u64, stop: &AtomicBool) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        commit(database, work, worker, number)?;
        latencies.push(began.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

fn report(name: &str, seconds: f64, mut latencies: Latencies) {
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index.min(latencies.len().saturating_sub(1))).map_or(0.0, |nanos| *nanos as f64 / 1e3)
    };
    println!(
        "{name:34} {:>9.0}/s  p50 {:>8.1} us  p99 {:>8.1}  p99.9 {:>8.1}  max {:>9.1}",
        latencies.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn threads(name: &str, folder: &Path, count: u64, work: Work, time: Duration) -> Result<()> {
    let database = Database::open(folder, &Options::default())?;
    commit(&database, work, 0, 0)?;
    let (stop, began) = (AtomicBool::new(false), Instant::now());
    let latencies = std::thread::scope(|scope| {
        let stop = &stop;
        let workers: Vec<_> = (0..count)
            .map(|worker| {
                let database = database.clone();
                scope.spawn(move || run(&database, work, worker, stop))
            })
            .collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Ok(Vec::new())))
            .collect::<Result<Vec<_>>>()
    })?;
    report(name, began.elapsed().as_secs_f64(), latencies.concat());
    database.close()
}

/// A child: works until its time is over, and prints each latency.
fn child(words: &[String]) -> Result<()> {
    let number = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let work = Work {
        durability: if number(2) == 1 { Durability::Relaxed } else { Durability::Full },
        items: number(3),
        hot: number(4) == 1,
    };
    let database = Database::open(Path::new(&words[0]), &Options::default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&stop);
    let time = Duration::from_millis(number(5));
    std::thread::spawn(move || {
        std::thread::sleep(time);
        ending.store(true, Ordering::Relaxed);
    });
    let latencies = run(&database, work, number(1), &stop)?;
    let text: Vec<String> = latencies.iter().map(u64::to_string).collect();
    println!("{}", text.join("\n"));
    database.close()
}

fn processes(name: &str, folder: &Path, count: u64, work: Work, time: Duration) -> Result<()> {
    drop(Database::open(folder, &Options::default())?);
    let flag = |set: bool| u64::from(set).to_string();
    let Ok(program) = std::env::current_exe() else { return Ok(()) };
    let children: Vec<_> = (0..count)
        .filter_map(|worker| {
            let (relaxed, hot) = (flag(work.durability == Durability::Relaxed), flag(work.hot));
            let mut command = Command::new(&program);
            command
                .arg("--child")
                .arg(folder)
                .arg(worker.to_string())
                .arg(relaxed)
                .arg(work.items.to_string());
            command.arg(hot).arg(time.as_millis().to_string()).stdout(Stdio::piped()).spawn().ok()
        })
        .collect();
    let mut latencies = Latencies::new();
    for child in children {
        let Ok(output) = child.wait_with_output() else { continue };
        latencies.extend(
            String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse::<u64>().ok()),
        );
    }
    report(name, time.as_secs_f64(), latencies);
    Ok(())
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--child") {
        return child(&words[1..]);
    }
    let folder = words.first().map_or_else(|| PathBuf::from("target/commits"), PathBuf::from);
    let time = Duration::from_secs_f64(words.get(1).and_then(|word| word.parse().ok()).unwrap_or(2.0));
    let only = words.get(2).cloned().unwrap_or_default();
    for (name, durability) in [("durable", Durability::Full), ("relaxed", Durability::Relaxed)] {
        for (shape, count, items, hot, apart) in [
            ("1 item", 1, 1, false, false),
            ("10 items", 1, 10, false, false),
            ("4 threads disjoint", 4, 1, false, false),
            ("4 threads hot", 4, 1, true, false),
            ("4 processes disjoint", 4, 1, false, true),
            ("4 processes hot", 4, 1, true, true),
        ] {
            let name = format!("{name}, {shape}");
            if !name.contains(&only) {
                continue;
            }
            let own = folder.join(name.replace([' ', ','], "-"));
            let work = Work { durability, items, hot };
            // What an earlier run left would be part of the measurement.
            let _ = std::fs::remove_dir_all(&own);
            if apart {
                processes(&name, &own, count, work, time)?
            } else {
                threads(&name, &own, count, work, time)?
            }
        }
    }
    Ok(())
}
