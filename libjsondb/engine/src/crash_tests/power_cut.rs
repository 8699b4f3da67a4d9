//! Power cuts: histories of two processes are recorded, cut at every kind of place, and what may be left on disk is opened again.
//!
//! What must come back is a prefix of the commits, whole transactions only, with everything that was acknowledged or that anybody
//! has seen. Then the database must go on working. `SOP_COUNT` sets the number of images, `SOP_SEED` the first history.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{EIO, ENOSPC, Model, commit, number_of, open_process, options, state};
use crate::common::{self, Random, scratch};
use crate::os::faults::{self, Fault, Faults};
use crate::os::trace::{self, Fate, Image, Knowledge, Trace};
use crate::{Database, ErrorKind};

/// Images of each history cut at random places, beside the two of each boundary of a sync.
const IMAGES_ELSEWHERE: u64 = 20;

/// A recorded history, and the state after each commit that was tried, by number.
struct History {
    trace: Trace,
    states: BTreeMap<u64, Model>,
}

/// A history while it is made: two processes that write, and one that looks at every sync of the log.
struct Recording {
    root: PathBuf,
    random: Random,
    processes: Vec<Database>,
    states: BTreeMap<u64, Model>,
    newest: Model,
    /// Checkpoints end before the next step begins: the history is the same each time.
    repeatable: bool,
}

impl Recording {
    fn of(seed: u64) -> History {
        let folder = scratch();
        let root = folder.path().canonicalize().unwrap();
        trace::start(&root);
        let mut recording = Recording {
            processes: (0..2).map(|_| open_process(&root).unwrap()).collect(),
            root: root.clone(),
            random: Random::new(seed),
            states: BTreeMap::from([(0, Model::new())]),
            newest: Model::new(),
            repeatable: seed.is_multiple_of(2),
        };
        recording.watch();
        for number in 1..=recording.random.below(25) + 5 {
            recording.step(number);
        }
        for process in &recording.processes {
            process.close().unwrap();
        }
        faults::forget(&root);
        History { trace: trace::finish(&root), states: recording.states }
    }

    /// What a third process sees when a sync of the log begins must be there after a power cut.
    fn watch(&self) {
        let looker = Mutex::new(open_process(&self.root).unwrap());
        let root = self.root.clone();
        faults::observe(&self.root, move || {
            // A checkpoint of another thread may sync meanwhile: one look is enough.
            let Ok(looker) = looker.try_lock() else { return };
            let seen = number_of(&state(&looker).unwrap());
            if seen > 0 {
                trace::note(&root, seen, Knowledge::Stored);
            }
        });
    }

    fn step(&mut self, number: u64) {
        let which = self.random.below(2) as usize;
        let faulty = self.random.one_in(6);
        if self.repeatable || faulty {
            self.processes.iter().for_each(|process| process.inner.background.wait());
        }
        if faulty {
            self.fail(which, number);
        } else {
            let mut model = self.newest.clone();
            trace::note(&self.root, number, Knowledge::Begun);
            commit(&self.processes[which], &mut self.random, number, &mut model).unwrap();
            self.accept(number, model);
        }
        match self.random.below(16) {
            0 => self.processes[which].checkpoint().unwrap(),
            1 => {
                self.processes[which].close().unwrap();
                self.restart(which);
            }
            2 => self.restart(which),
            3 => assert!(state(&self.processes[1 - which]).unwrap() == self.newest, "the other process lags"),
            _ => {}
        }
    }

    fn accept(&mut self, number: u64, model: Model) {
        trace::note(&self.root, number, Knowledge::Stored);
        self.states.insert(number, model.clone());
        self.newest = model;
    }

    /// The process dies, and another takes its place.
    fn restart(&mut self, which: usize) {
        self.processes[which].inner.background.wait();
        self.processes[which] = open_process(&self.root).unwrap();
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
                self.restart(which);
                let found = state(&self.processes[which]).unwrap();
                if found == self.newest {
                    return trace::note(&self.root, number, Knowledge::Lost);
                }
                assert!(found == model, "half of a commit that failed: {error} {faults:?}");
                assert_ne!(
                    error.kind(),
                    ErrorKind::DiskFull,
                    "stored, although it was told that nothing was"
                );
                self.accept(number, model);
            }
        }
    }
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
    materialize(image, folder);
    let fail = |what: &str, error: crate::Error| format!("{what}: {error}");
    let database = Database::open(folder, &options()).map_err(|error| fail("open", error))?;
    let found = state(&database).map_err(|error| fail("read", error))?;
    let number = number_of(&found);
    judge(image, number)?;
    if history.states.get(&number) != Some(&found) {
        return Err(format!("what came back is not the state of commit {number}"));
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
            let cut = self.random.below(self.history.trace.len() as u64 + 1) as usize;
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
            let count = self.history.trace.len();
            panic!("seed {}, cut after {cut} of {count} operations: {error}", self.seed);
        }
        clear(self.folder);
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
