//! Power cuts: histories of two processes are recorded, cut at every kind of place, and what may be left on disk is opened again.
//!
//! What must come back is a prefix of the commits, whole transactions only, with everything that was acknowledged as durable, or that
//! anybody has seen and that was not committed relaxed. Then the database must go on working. `SOP_COUNT` sets the number of images, `SOP_SEED` the first history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    BEHIND, EIO, ENOSPC, Model, Shape, change, change_behind, commit, drive, number_of, open_process,
    options, state,
};
use crate::common::{self, Random, scratch};
use crate::os::File;
use crate::os::faults::{self, Fault, Faults};
use crate::os::trace::{self, Fate, Image, Knowledge, Trace};
use crate::{Database, Durability, ErrorKind};

/// Images of each history cut at random places, beside the two of each boundary of a sync.
const IMAGES_ELSEWHERE: u64 = 20;

/// A recorded history, and the state after each commit that was tried, by number.
struct History {
    shape: Shape,
    has_faults: bool,
    trace: Trace,
    states: BTreeMap<u64, Model>,
}

/// A commit by its number, and the state with it.
type Numbered = (u64, Model);

/// What the recording and those who watch its syncs share.
#[derive(Default)]
struct Watching {
    /// Relaxed commits: seen by all, durable or not.
    relaxed: BTreeSet<u64>,
    /// When it is synced, another process appends a commit behind it.
    syncing: Option<Numbered>,
    /// That one: nobody sees it before a sync that covers it.
    behind: Option<Numbered>,
}

/// A history while it is made: two processes that write, and one that looks at every sync of the log. Commits have even numbers,
/// those that others append behind them the odd ones.
struct Recording {
    root: PathBuf,
    random: Random,
    processes: Vec<Database>,
    states: BTreeMap<u64, Model>,
    newest: Model,
    watching: Arc<Mutex<Watching>>,
    /// Checkpoints end before the next step begins: the history is the same each time.
    repeatable: bool,
    shape: Shape,
    /// Calls fail now and then. Over drives in every second history: where none does each drive has all of its shards.
    has_faults: bool,
}

impl Recording {
    fn of(seed: u64) -> History {
        let folder = scratch();
        let root = folder.path().canonicalize().unwrap();
        let shape = if seed.is_multiple_of(3) { Shape::Coded } else { Shape::Plain };
        trace::start(&root);
        let mut recording = Recording {
            processes: (0..2).map(|_| open_process(&root, shape).unwrap()).collect(),
            root: root.clone(),
            random: Random::new(seed),
            states: BTreeMap::from([(0, Model::new())]),
            newest: Model::new(),
            watching: Arc::default(),
            repeatable: seed.is_multiple_of(2),
            shape,
            has_faults: shape == Shape::Plain || seed.is_multiple_of(2),
        };
        recording.watch();
        for number in 1..=recording.random.below(25) + 5 {
            recording.step(2 * number);
        }
        faults::forget(&root);
        // The last one is alone: it makes a checkpoint and removes the log.
        while let Some(process) = recording.processes.pop() {
            process.close().unwrap();
            recording.note_stored();
        }
        let Recording { states, has_faults, .. } = recording;
        History { shape, has_faults, trace: trace::finish(&root), states }
    }

    /// What a third process sees when a sync of the log begins must be there after a power cut. And a fourth one commits meanwhile.
    fn watch(&self) {
        let open = || open_process(&self.root, self.shape).unwrap();
        let others = Mutex::new((open(), open()));
        let (root, watching) = (self.root.clone(), Arc::clone(&self.watching));
        faults::observe(&self.root, move || {
            // A checkpoint of another thread may sync meanwhile: one look is enough.
            let Ok(others) = others.try_lock() else { return };
            let (looker, writer) = &*others;
            let seen = number_of(&state(looker).unwrap());
            let mut watching = watching.lock().unwrap();
            if seen > 0 && !watching.relaxed.contains(&seen) {
                trace::note(&root, seen, Knowledge::Stored);
            }
            if is_log_free(&root)
                && let Some((number, mut model)) = watching.syncing.take()
            {
                trace::note(&root, number + 1, Knowledge::Begun);
                let appended = change_behind(writer, number + 1, &mut model).unwrap().append_only();
                // It may lose against an earlier one that is not durable yet.
                if appended.is_ok() {
                    watching.behind = Some((number + 1, model));
                }
            }
        });
    }

    fn step(&mut self, number: u64) {
        let which = self.random.below(2) as usize;
        let faulty = self.random.one_in(6) && self.has_faults;
        if self.repeatable || faulty {
            self.processes.iter().for_each(|process| process.inner.background.wait());
        }
        if faulty {
            self.fail(which, number)
        } else {
            self.commit(which, number)
        }
        match self.random.below(16) {
            0 => {
                self.processes[which].checkpoint().unwrap();
                self.note_stored();
            }
            1 => {
                self.processes[which].close().unwrap();
                self.note_stored();
                self.restart(which);
            }
            2 => self.restart(which),
            3 => {
                self.processes[which].flush().unwrap();
                self.note_stored();
                assert!(state(&self.processes[1 - which]).unwrap() == self.newest, "the other process lags");
            }
            _ => {}
        }
    }

    fn commit(&mut self, which: usize, number: u64) {
        let mut model = self.newest.clone();
        trace::note(&self.root, number, Knowledge::Begun);
        let is_relaxed = self.random.one_in(3);
        let mut transaction = change(&self.processes[which], &mut self.random, number, &mut model).unwrap();
        if is_relaxed {
            transaction.set_durability(Durability::Relaxed);
            self.watching().relaxed.insert(number);
        } else if self.repeatable && self.random.one_in(3) {
            self.watching().syncing = Some((number, model.clone()));
        }
        transaction.commit().unwrap();
        if is_relaxed {
            assert!(state(&self.processes[1 - which]).unwrap() == model, "a relaxed commit is seen at once");
            self.states.insert(number, model.clone());
            self.newest = model;
        } else {
            self.accept(number, model);
        }
        self.watching().syncing = None;
        let behind = self.watching().behind.take();
        if let Some((number, model)) = behind {
            self.states.insert(number, model.clone());
            self.newest = model;
        }
    }

    fn watching(&self) -> MutexGuard<'_, Watching> {
        self.watching.lock().unwrap()
    }

    fn accept(&mut self, number: u64, model: Model) {
        self.states.insert(number, model.clone());
        self.newest = model;
        self.note_stored();
    }

    /// All that was committed is durable, relaxed or not.
    fn note_stored(&self) {
        let number = number_of(&self.newest);
        if number > 0 {
            trace::note(&self.root, number, Knowledge::Stored);
        }
    }

    /// The process dies, and another takes its place: what it finds in the log it makes durable.
    fn restart(&mut self, which: usize) {
        self.processes[which].inner.background.wait();
        self.processes[which] = open_process(&self.root, self.shape).unwrap();
        self.note_stored();
    }

    /// A call fails somewhere in a commit. Its outcome may be unknown until the folder is opened again; what is seen then must
    /// stay.
    fn fail(&mut self, which: usize, number: u64) {
        let mut model = self.newest.clone();
        let only_sync = self.random.one_in(2);
        let fault = match self.random.below(3) {
            0 => Fault::Error(EIO),
            1 => Fault::Error(ENOSPC),
            _ => Fault::ShortThen(EIO),
        };
        let faults = Faults {
            only: only_sync.then_some(("sync", "wal")),
            after: if only_sync { 0 } else { self.random.below(12) },
            count: 1,
            fault: if only_sync { Fault::Error(EIO) } else { fault },
        };
        trace::note(&self.root, number, Knowledge::Begun);
        faults::set(&self.root, faults.clone());
        let outcome = commit(&self.processes[which], &mut self.random, number, &mut model);
        self.processes[which].inner.background.wait();
        faults::clear(&self.root);
        // Before the state is known, a power cut may decide it either way.
        self.states.insert(number, model.clone());
        match outcome {
            Ok(()) => {
                self.accept(number, model);
                // What failed may have ended the handle all the same.
                self.restart(which);
            }
            Err(error) => {
                let is_committed = if self.random.one_in(2) {
                    self.commit_behind_failed(1 - which, number, model)
                } else {
                    self.reopen_failed(which, number, model)
                };
                assert!(
                    !is_committed || error.kind() != ErrorKind::DiskFull,
                    "stored, although it was told that nothing was: {error} {faults:?}"
                );
                self.restart(which);
            }
        }
    }

    /// The process that failed is followed by one that finds the outcome: True when it was stored.
    fn reopen_failed(&mut self, which: usize, number: u64, model: Model) -> bool {
        self.restart(which);
        let found = state(&self.processes[which]).unwrap();
        if found == self.newest {
            trace::note(&self.root, number, Knowledge::Lost);
            return false;
        }
        assert!(found == model, "half of a commit that failed");
        self.accept(number, model);
        true
    }

    /// Another process, which was not told of the failure, commits behind it. It may acknowledge its commit only if all before it is
    /// durable by then.
    fn commit_behind_failed(&mut self, other: usize, number: u64, mut model: Model) -> bool {
        let mut without = self.newest.clone();
        trace::note(&self.root, number + 1, Knowledge::Begun);
        let mut change = || change_behind(&self.processes[other], number + 1, &mut model).unwrap();
        match change().commit() {
            // With one that was left behind an earlier sync: by now it is durable, and seen.
            Err(error) if error.kind() == ErrorKind::Conflict => change().commit().map(drop).unwrap(),
            committed => drop(committed.unwrap()),
        }
        without.insert(BEHIND.to_vec(), model[BEHIND].clone());
        let found = state(&self.processes[other]).unwrap();
        // It may have failed before it changed anything: then both are the same.
        let is_lost = found == without;
        assert!(is_lost || found == model, "half of a commit that failed");
        self.accept(number + 1, found);
        !is_lost
    }
}

/// Whether nobody holds the lock of the log at the moment.
fn is_log_free(root: &Path) -> bool {
    let lock = File::open_or_create(&root.join("log").join("LOCK")).unwrap();
    let is_free = lock.try_lock().unwrap();
    if is_free {
        lock.unlock().unwrap();
    }
    is_free
}

/// Whether a commit may be the last one in what came back.
fn judge(image: &Image, number: u64) -> std::result::Result<(), String> {
    let stored = image.commits.iter().filter(|(_, knowledge)| **knowledge == Knowledge::Stored);
    let acknowledged = stored.map(|(number, _)| *number).max().unwrap_or(0);
    if number < acknowledged {
        return Err(format!("commit {number} came back as the last one, {acknowledged} was acknowledged"));
    }
    match image.commits.get(&number) {
        Some(Knowledge::Lost) => Err(format!("commit {number} came back, it had failed and was not there")),
        None if number > 0 => Err(format!("commit {number} came back before it was begun")),
        _ => Ok(()),
    }
}

/// Opens an image, checks what came back, commits on top, checks again.
fn check(
    history: &History,
    image: &Image,
    folder: &Path,
    random: &mut Random,
) -> std::result::Result<(), String> {
    image.write_to(folder).unwrap();
    // The drive is lost with the power, and stays lost.
    if !history.has_faults && random.one_in(2) {
        // There is none when the power was cut before.
        let _ = std::fs::remove_dir_all(drive(folder, random.below(3) as usize));
    }
    let options = options(folder, history.shape);
    let fail = |what: &str, error: crate::Error| format!("{what}: {error}");
    let database = Database::open(folder, &options).map_err(|error| fail("open", error))?;
    let found = state(&database).map_err(|error| fail("read", error))?;
    let number = number_of(&found);
    judge(image, number)?;
    if history.states.get(&number) != Some(&found) {
        return Err(format!("what came back is not the state of commit {number}"));
    }
    let mut model = found;
    for number in 10_000..10_003 {
        commit(&database, random, number, &mut model).map_err(|error| fail("commit", error))?;
    }
    database.checkpoint().map_err(|error| fail("checkpoint", error))?;
    database.verify().map_err(|error| fail("verify", error))?;
    database.close().map_err(|error| fail("close", error))?;
    let database = Database::open(folder, &options).map_err(|error| fail("reopen", error))?;
    let found = state(&database).map_err(|error| fail("read again", error))?;
    database.close().map_err(|error| fail("close again", error))?;
    if found == model { Ok(()) } else { Err("what was committed after the recovery is not there".to_owned()) }
}

/// The images of one history: at each boundary of a sync, and at random places.
struct Images<'a> {
    history: &'a History,
    seed: u64,
    folder: &'a Path,
    random: Random,
    done: u64,
}

impl Images<'_> {
    fn check_all(&mut self) {
        for cut in self.history.trace.sync_boundaries() {
            // Only what was synced; and any of the rest, now and then all of it, as after a kill.
            self.check(cut, &mut || Fate::Gone);
            if self.random.one_in(4) {
                self.check(cut, &mut || Fate::Kept);
            } else {
                self.check_random(cut);
            }
        }
        for _ in 0..IMAGES_ELSEWHERE {
            let cut = self.random.below(self.history.trace.operations() as u64 + 1) as usize;
            self.check_random(cut);
        }
    }

    fn check_random(&mut self, cut: usize) {
        let mut random = Random::new(self.random.next());
        self.check(cut, &mut || match random.below(4) {
            0 => Fate::Kept,
            1 => Fate::Gone,
            _ => Fate::Torn(random.next()),
        });
    }

    fn check(&mut self, cut: usize, fate: &mut dyn FnMut() -> Fate) {
        let image = self.history.trace.image(cut, fate);
        if let Err(error) = check(self.history, &image, self.folder, &mut self.random) {
            let count = self.history.trace.operations();
            panic!("seed {}, cut after {cut} of {count} operations: {error}", self.seed);
        }
        self.done += 1;
    }
}

#[test]
fn a_power_cut_leaves_an_acknowledged_prefix() {
    let (wanted, first) = (common::count(20_000), common::seed());
    let folder = scratch();
    let path: PathBuf = folder.path().canonicalize().unwrap();
    let mut done = 0;
    for seed in first.. {
        let history = Recording::of(seed);
        let random = Random::new(!seed);
        let mut images = Images { history: &history, seed, folder: &path, random, done };
        images.check_all();
        done = images.done;
        if done >= wanted {
            return println!(
                "power cuts: {done} images of {} histories, from seed {first}",
                seed - first + 1
            );
        }
    }
}
