//! kill -9 at any moment: processes write rows of their own to one store, whose index all of them keep in shape, and are killed at random.
//!
//! `SOP_COUNT` sets the number of kills, `SOP_SEED` when they come.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::audit::{audit, under_way};
use super::process::{self, Worker};
use super::{Rows, Writer, make, number_in, open};
use crate::Database;
use crate::common::{self, Random, scratch};

const WORKER: &str = "vector::index::campaigns::kills::worker";
const PROCESSES: u64 = 3;
/// Kills between two looks at everything.
const KILLS_PER_AUDIT: u64 = 8;

fn name_of(process: u64) -> String {
    format!("p{process}")
}

/// What a process has acknowledged: written to a file, it outlives the process.
fn acknowledged(outside: &Path, name: &str) -> u64 {
    fs::read_to_string(outside.join(name)).map_or(0, |text| text.parse().unwrap())
}

/// The writer as the store has it, which must be the last step that was acknowledged or the one behind it.
fn found(database: &Arc<Database>, outside: &Path, name: &str) -> Writer {
    let (number, acknowledged) = (number_in(database, name).unwrap(), acknowledged(outside, name));
    assert!(
        (acknowledged..=acknowledged + 1).contains(&number),
        "{name}: step {number} is the last one, {acknowledged} was acknowledged"
    );
    Writer::at(name, number)
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [name, folder, outside] = &words[..] else { panic!("{words:?}") };
    process::when_told_to_end(|| std::process::exit(1));
    let (database, outside) = (open(Path::new(folder)), Path::new(outside));
    let mut writer = found(&database, outside, name);
    loop {
        let step = writer.step();
        let acknowledge = || {
            let (noted, number) = (outside.join(name), step.number);
            move || {
                // A rename is whole, whenever the process dies.
                let new = noted.with_extension("new");
                fs::write(&new, number.to_string()).unwrap();
                fs::rename(new, noted).unwrap();
            }
        };
        // Of those that make the store one is the first.
        while let Err(error) = make(&database, &step, acknowledge()) {
            assert!(step.number == 1 && error.is_retryable(), "{error}");
        }
    }
}

/// The processes on one folder.
struct Group {
    // Killed before the folders go.
    workers: Vec<Worker>,
    folder: tempfile::TempDir,
    outside: tempfile::TempDir,
    /// How many audits found a build under way, fresh rows, marks of deleted ones.
    seen: [u64; 3],
}

impl Group {
    fn new() -> Self {
        let (folder, outside) = (scratch(), scratch());
        let mut group = Self { folder, outside, workers: Vec::new(), seen: [0; 3] };
        group.start_all();
        group
    }

    fn start(&self, process: u64) -> Worker {
        let [folder, outside] =
            [&self.folder, &self.outside].map(|folder| folder.path().display().to_string());
        Worker::start_test(WORKER, &[&name_of(process), &folder, &outside])
    }

    fn start_all(&mut self) {
        self.workers = (0..PROCESSES).map(|process| self.start(process)).collect();
    }

    /// Kills all at once and looks at everything. Gives the number of steps.
    fn kill_all(&mut self) -> u64 {
        for worker in &mut self.workers {
            assert_eq!(worker.ended(), None, "a worker ended by itself");
            worker.signal(libc::SIGKILL);
        }
        self.workers.clear();
        let database = open(self.folder.path());
        let (mut rows, mut steps) = (Rows::new(), 0);
        for process in 0..PROCESSES {
            let writer = found(&database, self.outside.path(), &name_of(process));
            steps += writer.number;
            rows.extend(writer.rows);
        }
        let under_way = under_way(&database).unwrap();
        (0..3).for_each(|index| self.seen[index] += u64::from(under_way[index]));
        audit(&database, &rows, 1).unwrap_or_else(|broken| panic!("{broken}"));
        database.close().unwrap();
        steps
    }
}

#[test]
fn kill_9_in_the_middle_of_index_transactions_leaves_a_whole_index() {
    let (wanted, mut random) = (common::count(16), Random::new(common::seed()));
    let mut group = Group::new();
    let (mut kills, mut audits) = (0, 0);
    let mut steps = 0;
    while kills < wanted {
        std::thread::sleep(Duration::from_millis(50 + random.below(400)));
        if kills % KILLS_PER_AUDIT >= KILLS_PER_AUDIT - PROCESSES {
            steps = group.kill_all();
            audits += 1;
            kills += PROCESSES;
            group.start_all();
        } else {
            let process = random.below(PROCESSES);
            group.workers[process as usize].kill();
            group.workers[process as usize] = group.start(process);
            kills += 1;
        }
    }
    let [built, fresh, marked] = group.seen;
    println!(
        "{kills} kills, {steps} steps kept; of {audits} audits {built} found a build under way, {fresh} fresh rows, {marked} deleted ones marked"
    );
}
