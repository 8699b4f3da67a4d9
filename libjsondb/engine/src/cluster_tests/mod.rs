//! Several machines on one folder, simulated: the engine as it is, over a model of a network file system, in which machines pause,
//! processes die, answers are lost and everything remembered may be old. What was seen is checked as in the isolation campaign.
//!
//! A run is the same for the same seed: `scripts/prove cluster --seed N --count 1` shows one again.

#![allow(clippy::unwrap_used)] // As in other tests: clippy knows those by `cfg(test)` alone.

mod copies;
mod process;
mod redis;
mod switching;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::checker::{Guarantee, check};
use crate::common;
use crate::history::{Event, History, Model, Outcome, Transaction as Record};
use crate::os;
use crate::os::simulated::{Faults, Setting, World, pause, survive};
use crate::random::Random;
use crate::shared::coordinator::Coordinator;
use crate::{Database, Mode, Options, Result};
use process::{Actor, Contents, FOLDER, Place, Work, contents};
use redis::Redis;
use switching::Switching;

/// Files that may be left when everybody has closed the folder.
const FILES_LEFT_MAX: usize = 60;

/// So many seeds that fail are enough.
const FAILURES_MAX: usize = 20;

/// What is tried with a seed.
struct Plan {
    setting: Setting,
    work: Work,
    guarantee: Guarantee,
}

fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed);
    let machines = 3 + random.below(3) as usize;
    let processes = (0..2 * machines).map(|process| process / 2).collect();
    let level = random.below(4);
    let often = |random: &mut Random, once_in: u64| if level > 0 && random.one_in(2) { once_in } else { 0 };
    let faults = Faults {
        lost_reply: often(&mut random, 60),
        lost_for_good: if level > 1 { often(&mut random, 200) } else { 0 },
        pause: often(&mut random, 300),
        kill: often(&mut random, 800),
        reboot: if level > 1 { often(&mut random, 4000) } else { 0 },
        restart: if level > 1 { often(&mut random, 1500) } else { 0 },
        full: if level > 2 { often(&mut random, 1000) } else { 0 },
        ..Faults::default()
    };
    let remembers_misses = random.one_in(2);
    let maps_taken = random.one_in(3);
    // Locks that are lost, and machines that pause: others may take a process for dead that goes on a moment later.
    let is_strict = !remembers_misses && faults.restart == 0 && faults.pause == 0;
    let options = Options {
        memtable_bytes: 8 << 10,
        page_cache_bytes: 1 << 20,
        lock_timeout: Duration::from_secs(200),
        ..Options::default()
    };
    Plan {
        setting: Setting { processes, faults, remembers_misses, maps_taken, copies: Vec::new() },
        work: Work {
            steps: 30 + random.below(60),
            has_faults: faults.any(),
            options,
            checkpoint: 10 + random.below(60),
            rest: 8 + random.below(60),
            place: Place::shared(),
        },
        guarantee: if is_strict { Guarantee::Strict } else { Guarantee::Serializable },
    }
}

/// Figures of a run.
#[derive(Default)]
struct Figures {
    calls: u64,
    digest: u64,
    committed: u64,
    refused: u64,
    unknown: u64,
}

/// Runs `body` as each process; fails with what a panic said.
fn run_all<T: Send>(
    world: &Arc<World>,
    processes: usize,
    body: impl Fn(usize) -> T + Sync,
) -> std::result::Result<Vec<T>, String> {
    let said = std::sync::Mutex::new(None);
    let results = std::thread::scope(|scope| {
        let (body, said) = (&body, &said);
        let threads: Vec<_> = (0..processes)
            .map(|process| {
                scope.spawn(move || {
                    let mut result = None;
                    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        world.run(process, || result = Some(body(process)));
                    }));
                    if let Err(payload) = ended {
                        let text = payload.downcast_ref::<String>().cloned();
                        let text =
                            text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        if let Some(text) = text {
                            said.lock().unwrap().get_or_insert(text);
                        }
                        world.give_up();
                    }
                    result
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    match said.into_inner().unwrap() {
        Some(said) => Err(said),
        None => results
            .into_iter()
            .map(|result| result.ok_or_else(|| "a process did not end".to_owned()))
            .collect(),
    }
}

/// Runs one seed; fails with what is wrong.
fn simulate(seed: u64) -> std::result::Result<Figures, String> {
    let Plan { setting, work, guarantee } = plan(seed);
    let processes = setting.processes.len();
    let world = World::new(seed, &setting);
    let redis: Arc<dyn Coordinator> = Arc::new(Redis::new(seed));
    let acted = run_all(&world, processes, |process| {
        process::run(process as u64, &work, &redis, &mut Random::new(seed * 100 + process as u64))
    })?;
    let actors: Vec<Actor> = acted.into_iter().flatten().collect();
    let end = end_of(&actors);
    world.calm();
    world.begin_anew(processes);
    // Whoever was killed is dead for everybody by then.
    let found = run_all(&world, processes, |process| {
        pause(Duration::from_secs(3600));
        settled(|| at_last(&work.options, end, process))
    })?;
    if let Some(other) =
        found.iter().find(|other| (&other.events, other.sum) != (&found[0].events, found[0].sum))
    {
        return Err(format!("machines disagree: {other:?} and {:?}", found[0]));
    }
    let faults = setting.faults;
    let locks_hold = !setting.remembers_misses && faults.restart == 0 && faults.pause == 0;
    let writes_hold = faults.full == 0;
    let is_like_local = locks_hold && writes_hold;
    let switching = Switching { options: &work.options, faults, expected: &found[0], end, is_like_local };
    world.begin_anew(processes);
    world.disturb(faults);
    let stored = run_all(&world, processes, |process| {
        switching.run(process as u64, &mut Random::new(seed * 100 + process as u64))
    })?;
    world.calm();
    world.begin_anew(1);
    run_all(&world, 1, |_| {
        pause(Duration::from_secs(3600));
        settled(|| alone(&switching, &stored.concat()));
    })?;
    let (calls, digest) = world.figures();
    let mut figures = judge(actors, &found[0], guarantee)?;
    (figures.calls, figures.digest) = (calls, digest);
    Ok(figures)
}

/// What nothing disturbs any more.
fn settled<T>(body: impl FnOnce() -> Result<T>) -> T {
    survive(|| {
        body().unwrap_or_else(|error| panic!("nothing goes wrong any more, but: {:?}: {error}", error.kind()))
    })
    .unwrap()
}

fn end_of(actors: &[Actor]) -> u64 {
    let records = actors.iter().flat_map(|actor| &actor.session);
    records.flat_map(|record| &record.events).map(|event| event.variable() + 1).max().unwrap_or(0)
}

fn at_last(options: &Options, end: u64, process: usize) -> Result<Contents> {
    let database = Database::open_shared_alone(Path::new(FOLDER), options)?;
    let found = contents(&database, end)?;
    if process == 0 {
        database.checkpoint()?;
    }
    database.close()?;
    Ok(found)
}

/// One process alone: little is left in the folder; it goes to a log of files and back.
fn alone(switching: &Switching<'_>, stored: &[u64]) -> Result<()> {
    let (folder, options) = (Path::new(FOLDER), switching.options);
    let shared = Database::open_shared_alone(folder, options)?;
    switching.check(&shared, stored)?;
    for _ in 0..2 {
        write(&shared)?;
        shared.checkpoint()?;
        // Longer than slots are kept.
        pause(Duration::from_secs(120));
    }
    shared.close()?;
    drop(shared);
    let mut left = Vec::new();
    for part in ["pin", "seg", "tmp", "man", "log", "log/000000000000"] {
        left.extend(os::list(&folder.join(part))?.into_iter().map(|(name, _)| format!("{part}/{name}")));
    }
    assert!(left.len() <= FILES_LEFT_MAX, "{} files are left: {left:?}", left.len());
    let files = Database::open_alone(folder, options)?;
    switching.check(&files, stored)?;
    write(&files)?;
    files.close()?;
    drop(files);
    let shared = Database::open_shared_alone(folder, options)?;
    switching.check(&shared, stored)?;
    write(&shared)?;
    shared.close()
}

fn write(database: &Database) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("others", b"")?;
    transaction.put(store, b"key", b"value", crate::Placement::Eager)?;
    transaction.commit().map(drop)
}

/// Whether some order of the transactions explains what was seen, and nothing that was acknowledged is lost.
fn judge(actors: Vec<Actor>, found: &Contents, guarantee: Guarantee) -> std::result::Result<Figures, String> {
    let mut figures = Figures::default();
    let lists = found.events.iter().filter_map(|event| match event {
        Event::Read { seen, .. } => Some(seen),
        Event::Write { .. } => None,
    });
    let there: HashSet<u64> = lists.flatten().copied().collect();
    let mut sum = 0;
    let mut sessions = Vec::new();
    for mut actor in actors {
        for index in actor.unknown {
            let record: &mut Record = &mut actor.session[index];
            figures.unknown += 1;
            if record.writes().any(|(_, version)| there.contains(&version)) {
                record.outcome = Outcome::Committed;
            }
        }
        for (record, added) in actor.session.iter().zip(&actor.added) {
            match record.outcome {
                Outcome::Committed => {
                    figures.committed += 1;
                    sum += added;
                    if let Some((variable, version)) =
                        record.writes().find(|(_, version)| !there.contains(version))
                    {
                        return Err(format!(
                            "lost: {version} of list {variable}, acknowledged as {}",
                            record.seq
                        ));
                    }
                }
                _ => figures.refused += 1,
            }
        }
        sessions.push(actor.session);
    }
    if sum != found.sum {
        return Err(format!("the counter is {}, the sum of what was added {sum}", found.sum));
    }
    let last = Record {
        events: found.events.clone(),
        operations: 0,
        outcome: Outcome::Committed,
        seq: found.seq,
        began: u64::MAX - 1,
        ended: u64::MAX,
    };
    sessions.push(vec![last]);
    let report = check(&History { model: Model::Lists, sessions }, guarantee);
    if report.count > 0 { Err(format!("{guarantee:?}: {report}")) } else { Ok(figures) }
}

#[test]
fn several_machines_on_a_simulated_network_file_system() {
    run_seeds("cluster", 2000, simulate);
}

/// Runs seeds on all cores; fails with those that fail.
fn run_seeds(name: &str, short: u64, simulate: impl Fn(u64) -> std::result::Result<Figures, String> + Sync) {
    let (seed, count) = (common::seed(), common::count(short));
    let next = AtomicU64::new(seed);
    let totals = std::sync::Mutex::new(Figures::default());
    let failures = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let seed_now = next.fetch_add(1, Ordering::Relaxed);
                    if seed_now >= seed + count || failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    match simulate(seed_now) {
                        Ok(figures) => {
                            let mut totals = totals.lock().unwrap();
                            totals.calls += figures.calls;
                            totals.digest ^= figures.digest;
                            totals.committed += figures.committed;
                            totals.refused += figures.refused;
                            totals.unknown += figures.unknown;
                        }
                        Err(what) => failures.lock().unwrap().push((seed_now, what)),
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap();
    println!(
        "{name}: {count} seeds from {seed}; {} calls, {} transactions committed, {} not, {} of unknown outcome (digest {:x})",
        totals.calls, totals.committed, totals.refused, totals.unknown, totals.digest
    );
    let failures = failures.into_inner().unwrap();
    for (seed, what) in &failures {
        println!("seed {seed}: {what}");
    }
    assert!(failures.is_empty(), "seeds {:?}", failures.iter().map(|(seed, _)| seed).collect::<Vec<_>>());
}
