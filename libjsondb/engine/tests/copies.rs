//! Copies on real folders: one is lost, and the process that brings it back while it commits is killed, again and again. The folders are moved after each
//! kill.
//!
//! `SOP_COUNT` is the number of kills, `SOP_SEED` where they begin.

#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod common;
#[path = "common/process.rs"]
mod process;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Random, count, scratch, seed};
use engine::{CancelToken, Coding, CopyState, Database, Mode, Options, Placement, Progress, RepairScope};
use process::Worker;

/// Which folders the database has.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Three, each with everything.
    Mirrored,
    /// Home, and three drives of which one may be lost.
    Coded,
}

impl Shape {
    fn of(name: &str) -> Shape {
        if name == "Coded" { Shape::Coded } else { Shape::Mirrored }
    }

    fn folders(self) -> usize {
        match self {
            Shape::Mirrored => 3,
            Shape::Coded => 4,
        }
    }

    fn options(self, others: &[PathBuf]) -> Options {
        let (store, aliases, drives) = (String::new(), Vec::new(), others.to_vec());
        match self {
            Shape::Mirrored => Options { mirrors: drives, ..Options::default() },
            Shape::Coded => {
                let coding = Coding { store, aliases, data: 2, parity: 1, drives, repair: false };
                Options { coding: vec![coding], ..Options::default() }
            }
        }
    }

    fn open(self, folders: &[PathBuf]) -> Database {
        Database::open(&folders[0], &self.options(&folders[1..])).unwrap()
    }
}

fn commit(database: &Database, number: u64) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    let value = Random::new(number).bytes(2000);
    transaction.put(store, &number.to_be_bytes(), &value, Placement::Auto).unwrap();
    transaction.commit().unwrap();
}

/// All that was acknowledged is there; gives how many commits are.
fn check(database: &Database, acknowledged: u64) -> u64 {
    let store = database.begin(Mode::Read).unwrap().store("s").unwrap().unwrap().0;
    let is_there = |number: &u64| {
        let is_right = |found: Option<&[u8]>| found.map(|found| found == Random::new(*number).bytes(2000));
        let found = database.get_with(store, &number.to_be_bytes(), is_right).unwrap();
        assert_ne!(found, Some(false), "{number}");
        found.is_some()
    };
    let there = (1..).take_while(is_there).count() as u64;
    assert!(there >= acknowledged, "{there} of {acknowledged} commits are there");
    there
}

/// Brings everything back.
fn mend(database: &Database) {
    let mut report = |_, _| true;
    let progress = &mut Progress::new(&CancelToken::new(), &mut report);
    database.reinstate(None, &[], progress).unwrap();
    database.repair(RepairScope::Missing, progress).unwrap();
}

fn assert_whole(database: &Database) {
    let copies = database.copy_status().unwrap().copies;
    assert!(copies.iter().all(|copy| copy.state == CopyState::Member), "{copies:?}");
    let mut report = |_, _| true;
    let scrub = database.scrub(&mut Progress::new(&CancelToken::new(), &mut report)).unwrap();
    assert!(scrub.findings.is_empty(), "{:?}", scrub.findings);
    database.verify().unwrap();
}

/// Other paths for all folders, and another order: that of the drives, or of the mirrors.
fn move_all(root: &Path, folders: &mut [PathBuf], round: u64, random: &mut Random) {
    for (index, folder) in folders.iter_mut().enumerate() {
        let moved = root.join(format!("{round}-{index}"));
        std::fs::rename(&*folder, &moved).unwrap();
        *folder = moved;
    }
    let others = folders.len() as u64 - 1;
    folders[1..].rotate_left(random.below(others) as usize);
}

fn empty(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
}

fn kill_those_that_mend(shape: Shape) {
    let (root, kills, mut random) = (scratch(), count(8), Random::new(seed()));
    let mut folders: Vec<PathBuf> =
        (0..shape.folders()).map(|index| root.path().join(format!("first-{index}"))).collect();
    let noted = root.path().join("acknowledged");
    {
        let database = shape.open(&folders);
        (1..100).for_each(|number| commit(&database, number));
        database.checkpoint().unwrap();
        (100..=120).for_each(|number| commit(&database, number));
        database.close().unwrap();
    }
    let mut there = 120_u64;
    for round in 0..kills {
        // Of one that was killed before nothing more is lost until all is back.
        if round == 0 || random.below(3) > 0 {
            let database = shape.open(&folders);
            mend(&database);
            assert_whole(&database);
            database.close().unwrap();
            empty(&folders[random.below(folders.len() as u64) as usize]);
        }
        std::fs::write(&noted, there.to_le_bytes()).unwrap();
        let paths = folders.iter().map(|folder| folder.to_str().unwrap());
        let name = format!("{shape:?}");
        let words: Vec<&str> = [name.as_str(), noted.to_str().unwrap()].into_iter().chain(paths).collect();
        let mut worker = Worker::start(&words);
        worker.hear();
        std::thread::sleep(Duration::from_micros(random.below(120_000)));
        worker.kill();
        move_all(root.path(), &mut folders, round, &mut random);
        let acknowledged = u64::from_le_bytes(std::fs::read(&noted).unwrap().try_into().unwrap());
        let database = shape.open(&folders);
        there = check(&database, acknowledged);
        database.close().unwrap();
    }
    let database = shape.open(&folders);
    mend(&database);
    assert_whole(&database);
    println!("{kills} processes were killed, {there} commits are there");
}

#[test]
fn a_mirror_is_brought_back_by_whoever_is_not_killed() {
    kill_those_that_mend(Shape::Mirrored);
}

#[test]
fn a_drive_with_a_copy_is_brought_back_by_whoever_is_not_killed() {
    kill_those_that_mend(Shape::Coded);
}

#[test]
fn copies_that_are_emptied_while_they_are_open_are_brought_back() {
    for (shape, lost) in [Shape::Mirrored, Shape::Coded]
        .into_iter()
        .flat_map(|shape| (0..shape.folders()).map(move |lost| (shape, lost)))
    {
        let root = scratch();
        let folders: Vec<PathBuf> =
            (0..shape.folders()).map(|index| root.path().join(index.to_string())).collect();
        let database = shape.open(&folders);
        (1..20).for_each(|number| commit(&database, number));
        empty(&folders[lost]);
        (20..30).for_each(|number| commit(&database, number));
        assert_eq!(check(&database, 29), 29);
        // Home may be the one that is lost.
        let mut report = |_, _| true;
        let progress = &mut Progress::new(&CancelToken::new(), &mut report);
        let verified = engine::verify(&folders[0], &shape.options(&folders[1..]), progress).unwrap();
        assert_eq!(verified.findings, []);
        assert_eq!(verified.stores["s"].entries[&0], 29);
        // Seen by others as by the one that lost it.
        let other = shape.open(&folders);
        assert_eq!(check(&other, 29), 29);
        mend(&other);
        (30..35).for_each(|number| commit(&database, number));
        database.checkpoint().unwrap();
        mend(&database);
        assert_whole(&other);
        database.close().unwrap();
        other.close().unwrap();
        // What was brought back is enough.
        empty(&folders[(lost + 1) % folders.len()]);
        assert_eq!(check(&shape.open(&folders), 34), 34, "{shape:?} {lost}");
    }
}

/// Not a test by itself: the body of the child processes.
#[test]
fn worker() {
    let Some(words) = process::task() else { return };
    let [shape, noted, folders @ ..] = &words[..] else { panic!("{words:?}") };
    process::when_told_to_end(|| std::process::exit(1));
    let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    let noted = std::fs::OpenOptions::new().write(true).open(noted).unwrap();
    let database = Shape::of(shape).open(&folders);
    process::say("mending");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _held = process::EndWithProcess;
            let first = check(&database, 0) + 1;
            for number in first.. {
                commit(&database, number);
                noted.write_all_at(&number.to_le_bytes(), 0).unwrap();
            }
        });
        let _held = process::EndWithProcess;
        loop {
            mend(&database);
        }
    });
}
