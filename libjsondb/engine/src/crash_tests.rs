//! Power cuts: random histories are recorded, cut at every kind of place, and what may be left on disk is opened again.
//!
//! What must come back is a prefix of the commits, whole transactions only, with everything that was acknowledged. Then the database
//! must go on working. `SOP_COUNT` sets the number of images, `SOP_SEED` the first history.
//!
//! And failing calls: one history, run again and again with another call to the operating system failing each time.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::common::{self, Random, scratch};
use crate::os::trace::{self, Faults, Image, Trace};
use crate::{Database, Direction, ErrorKind, Mode, Options, Placement, Result};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A recorded history: the state after each commit, by number, from the empty one on.
struct History {
    trace: Trace,
    states: Vec<Model>,
}

fn options() -> Options {
    Options { memtable_bytes: 24 << 10, page_cache_bytes: 64 << 10, ..Options::default() }
}

fn record(seed: u64) -> History {
    let folder = scratch();
    let root = folder.path().canonicalize().unwrap();
    trace::start(&root);
    let mut random = Random::new(seed);
    let mut states = vec![Model::new()];
    let mut database = Database::open(&root, &options()).unwrap();
    for number in 1..=random.below(25) + 5 {
        let before = states.last().unwrap().clone();
        let mut model = before.clone();
        if random.below(8) == 0 {
            // The disk fails under a commit: nobody knows its outcome before the folder is opened again. What is seen
            // then must stay.
            database.inner.background.wait();
            let only = Some(("sync", "wal"));
            trace::set_faults(&root, Some(Faults { only, after: 0, count: 1, errno: EIO }));
            let error = commit(&database, &mut random, number, &mut model).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert_eq!(database.begin(Mode::Read).err().unwrap().kind(), ErrorKind::Closed);
            database = Database::open(&root, &options()).unwrap();
            let found = state(&database).unwrap();
            assert!(found == model || found == before, "half of a commit whose sync failed");
            model = found;
            if model == before {
                continue;
            }
        } else {
            commit(&database, &mut random, number, &mut model).unwrap();
        }
        trace::acknowledge(&root, states.len() as u64);
        states.push(model);
        match random.below(12) {
            0 => database.checkpoint().unwrap(),
            1 => {
                database.close().unwrap();
                database = Database::open(&root, &options()).unwrap();
            }
            _ => {}
        }
    }
    database.close().unwrap();
    History { trace: trace::finish(&root), states }
}

fn commit(database: &Database, random: &mut Random, number: u64, model: &mut Model) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("s", b"")?;
    for _ in 0..random.below(8) + 1 {
        let key = random.below(40).to_be_bytes().to_vec();
        if random.below(5) == 0 {
            transaction.delete(store, &key)?;
            model.remove(&key);
            continue;
        }
        let len = match random.below(12) {
            0 => 70_000 + random.below(5000),
            1 | 2 => 4000 + random.below(4000),
            _ => random.below(300),
        };
        let value: Vec<u8> = (0..len).map(|index| (index + number) as u8).collect();
        let placement = if random.below(6) == 0 { Placement::Eager } else { Placement::Auto };
        transaction.put(store, &key, &value, placement)?;
        model.insert(key, value);
    }
    // Every transaction leaves its number, so a state tells which one it is.
    transaction.put(store, b"number", &number.to_be_bytes(), Placement::Auto)?;
    model.insert(b"number".to_vec(), number.to_be_bytes().to_vec());
    transaction.commit().map(drop)
}

fn materialize(image: &Image, folder: &Path) {
    for sub in ["log", "man", "seg", "pin", "tmp"] {
        fs::create_dir_all(folder.join(sub)).unwrap();
    }
    for (path, content) in &image.files {
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let path = folder.join(path);
        fs::write(&path, &content[..used]).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(content.len() as u64).unwrap();
    }
}

fn state(database: &Database) -> Result<Model> {
    let mut transaction = database.begin(Mode::Read)?;
    let Some((store, _)) = transaction.store("s")? else { return Ok(Model::new()) };
    let entries =
        transaction.scan(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)?;
    entries.into_iter().map(|entry| Ok((entry.key, transaction.load(&entry.value)?))).collect()
}

/// Opens an image, checks what came back, commits on top, checks again.
fn check(
    history: &History,
    image: &Image,
    folder: &Path,
    random: &mut Random,
) -> std::result::Result<(), String> {
    materialize(image, folder);
    let fail = |what: &str, error: crate::Error| format!("{what}: {error}");
    let database = Database::open(folder, &options()).map_err(|error| fail("open", error))?;
    let found = state(&database).map_err(|error| fail("read", error))?;
    let acknowledged = image.acknowledged as usize;
    let number = history.states.iter().position(|state| *state == found);
    match number {
        Some(number) if (acknowledged..=acknowledged + 1).contains(&number) => {}
        Some(number) => return Err(format!("state {number} came back, {acknowledged} was acknowledged")),
        None => return Err(format!("no state of the history came back ({acknowledged} was acknowledged)")),
    }
    let mut model = found;
    for number in 1000..1003 {
        commit(&database, random, number, &mut model).map_err(|error| fail("commit", error))?;
    }
    database.checkpoint().map_err(|error| fail("checkpoint", error))?;
    database.verify().map_err(|error| fail("verify", error))?;
    database.close().map_err(|error| fail("close", error))?;
    let database = Database::open(folder, &options()).map_err(|error| fail("reopen", error))?;
    let found = state(&database).map_err(|error| fail("read again", error))?;
    database.close().map_err(|error| fail("close again", error))?;
    if found == model { Ok(()) } else { Err("what was committed after the recovery is not there".to_owned()) }
}

/// Empties a folder for the next image.
fn clear(folder: &Path) {
    for sub in ["log", "man", "seg", "pin", "tmp"] {
        // The first image finds none.
        let _ = fs::remove_dir_all(folder.join(sub));
    }
    let _ = fs::remove_file(folder.join("FORMAT"));
}

#[test]
fn a_power_cut_leaves_an_acknowledged_prefix() {
    let images = common::count(20_000);
    let first = common::seed();
    let folder = scratch();
    let path: PathBuf = folder.path().canonicalize().unwrap();
    let mut done = 0;
    for seed in first.. {
        let history = record(seed);
        let boundaries = history.trace.sync_boundaries();
        let mut random = Random::new(!seed);
        for index in 0..boundaries.len() + 20 {
            let cut = match boundaries.get(index) {
                Some(cut) => *cut,
                None => random.below(history.trace.len() as u64 + 1) as usize,
            };
            // Also what a kill leaves: everything, or nothing that was not synced.
            let bias = random.below(4);
            let mut chance = || match bias {
                0 => true,
                1 => false,
                _ => random.below(2) == 0,
            };
            let image = history.trace.image(cut, &mut chance);
            if let Err(error) = check(&history, &image, &path, &mut random) {
                panic!("seed {seed}, cut after {cut} of {} operations: {error}", history.trace.len());
            }
            clear(&path);
            done += 1;
        }
        if done >= images {
            return println!("{done} images of {} histories", seed - first + 1);
        }
    }
}

/// Commits and checkpoints until something fails. Gives the state acknowledged last, and the one that was being committed.
fn work(database: &Database, random: &mut Random, model: &mut Model) -> (Model, Result<()>) {
    for number in 1..12 {
        let mut next = model.clone();
        if let Err(error) = commit(database, random, number, &mut next) {
            return (next, Err(error));
        }
        model.clone_from(&next);
        if number % 4 == 0
            && let Err(error) = database.checkpoint()
        {
            return (next, Err(error));
        }
    }
    (model.clone(), Ok(()))
}

/// One call to the operating system fails (or all from there on): the error says so, nothing acknowledged is lost, and the folder
/// opens and works again. True when the call was reached.
fn survives_fault(seed: u64, faults: &Faults) -> std::result::Result<bool, String> {
    let folder = scratch();
    let root = folder.path().canonicalize().unwrap();
    trace::start(&root);
    trace::set_faults(&root, Some(faults.clone()));
    let mut model = Model::new();
    let mut random = Random::new(seed);
    let mut next = Model::new();
    let failed = match Database::open(&root, &options()) {
        Err(error) => Some(error),
        Ok(database) => {
            let (attempted, outcome) = work(&database, &mut random, &mut model);
            next = attempted;
            database.inner.background.wait();
            outcome.err()
        }
    };
    let left = trace::set_faults(&root, None).map_or(0, |faults| faults.count);
    trace::finish(&root);
    if let Some(error) = &failed {
        let full = faults.errno == ENOSPC && error.kind() == ErrorKind::DiskFull;
        // Of a sync nobody knows the outcome, whatever its error.
        let unknown = error.kind() == ErrorKind::Io
            && (faults.errno != ENOSPC || error.message().contains("whether the last commit was stored"));
        // Closed: the background met it first, and a later call was told.
        if !(full || unknown || error.kind() == ErrorKind::Closed) {
            return Err(format!("{:?}: {error}", error.kind()));
        }
    }
    let fail = |what: &str, error: crate::Error| format!("{what}: {error} (after {failed:?})");
    // As after the death of the process: nothing is closed in order.
    crate::database::forget(&root);
    let database = Database::open(&root, &options()).map_err(|error| fail("reopen", error))?;
    let found = state(&database).map_err(|error| fail("read", error))?;
    if found != model && found != next {
        return Err(format!("what came back is neither state around the failure (after {failed:?})"));
    }
    if found != model && failed.as_ref().is_some_and(|error| error.kind() == ErrorKind::DiskFull) {
        return Err(format!("stored, although it was told that nothing was (after {failed:?})"));
    }
    let mut model = found;
    let (_, outcome) = work(&database, &mut random, &mut model);
    outcome.map_err(|error| fail("work on", error))?;
    database.verify().map_err(|error| fail("verify", error))?;
    database.close().map_err(|error| fail("close", error))?;
    Ok(left < faults.count)
}

#[test]
fn every_call_to_the_operating_system_may_fail() {
    let seed = common::seed();
    for (errno, count) in [(EIO, 1), (EIO, u64::MAX), (ENOSPC, 1), (ENOSPC, u64::MAX)] {
        let mut reached = 0;
        for after in 0.. {
            let faults = Faults { only: None, after, count, errno };
            match survives_fault(seed, &faults) {
                Ok(true) => reached += 1,
                Ok(false) => break,
                Err(error) => panic!("call {after} fails with {errno}, {count} in a row: {error}"),
            }
        }
        println!("error {errno}, {count} in a row: {reached} calls failed");
        assert!(reached > 100);
    }
}
