//! Opening: what it costs when the log is in good order, and that an announcement which only looks so is found out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::append::ROTATE_BYTES;
use crate::database::Inner;
use crate::log::frame::HEADER_LEN;
use crate::log::tail::{Mark, Tail, TailFile};
use crate::log::wal;
use crate::os::File;
use crate::os::trace::{self, Knowledge};
use crate::{Database, ErrorKind, Mode, Options, Placement, Result, Seq};

/// As if in a process of its own.
fn open(folder: &Path) -> Result<Database> {
    Ok(Database { inner: Arc::new(Inner::open(folder, &Options::default())?) })
}

fn put(database: &Database, key: u8) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.put(store, &[key], &[key; 100], Placement::Auto).unwrap();
    transaction.commit().unwrap();
}

fn keys(database: &Database) -> Vec<u8> {
    let mut read = database.begin(Mode::Read).unwrap();
    let (store, _) = read.store("s").unwrap().unwrap();
    (0..=u8::MAX).filter(|key| read.get(store, &[*key]).unwrap().is_some()).collect()
}

fn tail_file(folder: &Path) -> TailFile {
    TailFile::open_or_create(&folder.join("log").join("TAIL")).unwrap()
}

/// Commits ten keys; gives the folder, and where the log ended after each.
fn ten_commits(folder: &tempfile::TempDir) -> (PathBuf, Vec<Mark>) {
    let path = folder.path().canonicalize().unwrap();
    let database = open(&path).unwrap();
    let commit = |key| {
        put(&database, key);
        tail_file(&path).read().unwrap().unwrap().durable.mark
    };
    let marks = (0..10).map(commit).collect();
    (path, marks)
}

#[test]
fn a_log_in_good_order_is_opened_without_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = ten_commits(&folder);
    trace::start(&path);
    trace::note(&path, 1, Knowledge::Begun);
    let first = open(&path).unwrap();
    let beside = open(&path).unwrap();
    assert_eq!(keys(&first), keys(&beside));
    assert_eq!(keys(&first).len(), 10);
    assert_eq!(trace::finish(&path).syncs_after(1), 0);
}

#[test]
fn an_announcement_set_back_hides_no_commit() {
    for back in 0..9 {
        let folder = tempfile::tempdir().unwrap();
        let (path, marks) = ten_commits(&folder);
        tail_file(&path).write(&Tail::settled(marks[back])).unwrap();
        trace::start(&path);
        trace::note(&path, 1, Knowledge::Begun);
        assert_eq!(keys(&open(&path).unwrap()).len(), 10);
        assert!(trace::finish(&path).syncs_after(1) > 0, "what was not announced is made durable");
    }
}

#[test]
fn an_announcement_ahead_of_the_log_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (path, marks) = ten_commits(&folder);
    let mut ahead = marks[9];
    ahead.end.offset += 256;
    ahead.seq = Seq(ahead.seq.0 + 1);
    tail_file(&path).write(&Tail::settled(ahead)).unwrap();
    assert_eq!(open(&path).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn damage_behind_an_announcement_set_back_is_not_taken_for_the_end() {
    for back in 0..7 {
        let folder = tempfile::tempdir().unwrap();
        let (path, marks) = ten_commits(&folder);
        // The frame that follows the announced end is gone; those behind it prove that it had been there.
        let log = wal::path(&path.join("log"), marks[back].end.wal);
        let len = marks[back + 1].end.offset - marks[back].end.offset;
        for zeros in [HEADER_LEN, len as usize] {
            File::open_or_create(&log)
                .unwrap()
                .write_all_at(&vec![0; zeros], marks[back].end.offset)
                .unwrap();
            tail_file(&path).write(&Tail::settled(marks[back])).unwrap();
            assert_eq!(open(&path).err().unwrap().kind(), ErrorKind::Corrupt, "after commit {back}");
        }
    }
}

#[test]
fn the_newest_checkpoint_is_in_force_whether_or_not_an_older_manifest_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = ten_commits(&folder);
    let database = open(&path).unwrap();
    let reader = database.begin(Mode::Read).unwrap();
    put(&database, 10);
    database.checkpoint().unwrap();
    put(&database, 11);
    let mut manifests = crate::os::list(&path.join("man")).unwrap();
    manifests.sort();
    let names: Vec<PathBuf> = manifests.into_iter().map(|(name, _)| path.join("man").join(name)).collect();
    let [older, newest] = &names[..] else { panic!("{names:?}") };
    let check = || {
        let beside = open(&path).unwrap();
        assert_eq!(beside.info().unwrap().checkpoint, database.info().unwrap().checkpoint);
        assert_eq!(keys(&beside), keys(&database));
    };
    check();
    let bytes = std::fs::read(newest).unwrap();
    std::fs::remove_file(newest).unwrap();
    let missing = open(&path).map(drop).unwrap_err();
    assert_eq!(missing.corrupt_at().map(|at| &at.file), Some(newest));
    std::fs::write(newest, bytes).unwrap();
    std::fs::write(older, b"damaged").unwrap();
    check();
    std::fs::remove_file(older).unwrap();
    check();
    drop(reader);
}

/// Commits that fill more than a log file is to hold; gives the checkpoint they follow.
fn leave_a_long_log(path: &Path) -> Result<Seq> {
    let writer = open(path)?;
    for key in 0..20 {
        let mut transaction = writer.begin(Mode::Write)?;
        let store = transaction.ensure_store("s", b"")?;
        transaction.put(store, &[key], &[key; 60_000], Placement::Auto)?;
        transaction.commit()?;
    }
    Ok(writer.info()?.checkpoint)
}

#[test]
fn a_long_log_that_the_dead_left_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let before = leave_a_long_log(&path).unwrap();
    std::fs::write(path.join("pin").join(format!("{:016x}.lock", 1)), []).unwrap();
    let first = Database::open(&path, &Options::default()).unwrap();
    first.inner.background.wait();
    assert!(first.info().unwrap().checkpoint > before);
    let next = open(&path).unwrap();
    assert!(!next.inner.lock_replica().leaves_log(ROTATE_BYTES));
    assert_eq!(keys(&next).len(), 20);
}

#[test]
fn a_long_log_is_left_to_processes_that_live() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let living = open(&path).unwrap();
    let before = leave_a_long_log(&path).unwrap();
    let beside = Database::open(&path, &Options::default()).unwrap();
    beside.inner.background.wait();
    assert_eq!(living.info().unwrap().checkpoint, before);
}
