//! Races between processes that need a hand inside one of them. Two handles opened past the registry are two processes: each has
//! its own name, pin and locks.

mod large;
mod not_durable;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::collect::Sweep;
use crate::database::{Hold, Inner};
use crate::folder;
use crate::log::LogEnd;
use crate::log::frame::HEADER_LEN;
use crate::log::tail::{Durable, Mark, Tail, TailFile};
use crate::log::wal::{self, Wal};
use crate::os::File;
use crate::os::faults::{self, Fault, Faults};
use crate::os::trace::{self, Knowledge};
use crate::replica::{ReadLimit, Replica};
use crate::{Database, Error, ErrorKind, Mode, Options, Placement, Result, Seq, Transaction};

pub(crate) fn small() -> Options {
    Options { memtable_bytes: 16 << 10, page_cache_bytes: 64 << 10, ..Options::default() }
}

pub(crate) fn process(folder: &Path) -> Arc<Inner> {
    Arc::new(Inner::open(folder, &small()).unwrap())
}

/// Opens the folder while another process holds the log lock.
fn process_beside_another(folder: &Path) -> Arc<Inner> {
    let lock = File::open_or_create(&folder.join("log").join("LOCK")).unwrap();
    assert!(lock.try_lock().unwrap());
    let opening = std::thread::spawn({
        let folder = folder.to_owned();
        move || process(&folder)
    });
    std::thread::sleep(Duration::from_millis(50));
    lock.unlock().unwrap();
    opening.join().unwrap()
}

pub(crate) fn begin(inner: &Arc<Inner>) -> Transaction {
    let snapshot = inner.newest_snapshot(Mode::Write, Hold::Pinned).unwrap();
    Transaction::new(Arc::clone(inner), snapshot, Mode::Write, Hold::Pinned)
}

fn try_put(inner: &Arc<Inner>, key: u32, len: usize, placement: Placement) -> Result<()> {
    let mut transaction = begin(inner);
    let store = transaction.ensure_store("s", b"")?;
    transaction.put(store, &key.to_be_bytes(), &vec![key as u8; len], placement)?;
    transaction.commit().map(drop)
}

pub(crate) fn put(inner: &Arc<Inner>, key: u32, len: usize, placement: Placement) {
    try_put(inner, key, len, placement).unwrap();
}

pub(crate) fn load(inner: &Arc<Inner>, key: u32) -> Result<Option<Vec<u8>>> {
    let mut transaction = begin(inner);
    let (store, _) = transaction.store("s")?.unwrap();
    let value = transaction.get(store, &key.to_be_bytes())?;
    value.map(|value| transaction.load(&value)).transpose()
}

#[test]
fn a_sweep_spares_the_files_of_a_process_that_came_while_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let sweeper = process(folder.path());
    put(&sweeper, 0, 10, Placement::Auto);
    for delay in [0, 1, 2, 4, 8] {
        // Pins of dead processes make the look at the pins long.
        for pin in 0..6000 {
            fs::write(folder::pin_folder(folder.path()).join(format!("{pin:016x}")), b"").unwrap();
        }
        let survey = std::thread::spawn({
            let sweeper = Arc::clone(&sweeper);
            move || Sweep::survey(&sweeper)
        });
        std::thread::sleep(Duration::from_millis(delay));
        let newcomer = process(folder.path());
        let mut transaction = begin(&newcomer);
        let store = transaction.ensure_store("s", b"").unwrap();
        transaction.put(store, &1u32.to_be_bytes(), &[1; 9000], Placement::Eager).unwrap();
        survey.join().unwrap().unwrap().run(&sweeper, Seq(0)).unwrap();
        transaction.commit().unwrap();
        assert_eq!(load(&sweeper, 1).unwrap(), Some(vec![1; 9000]), "after {delay} ms");
    }
}

#[test]
fn a_sweep_spares_what_a_process_committed_before_it_was_found_dead() {
    let folder = tempfile::tempdir().unwrap();
    let sweeper = process(folder.path());
    put(&sweeper, 0, 10, Placement::Auto);
    // The sweeper has read the log; now another process commits and dies. There is no checkpoint to be made: nothing
    // else makes the sweeper read on.
    let other = process(folder.path());
    put(&other, 1, 9000, Placement::Eager);
    drop(other);
    Sweep::survey(&sweeper).unwrap().run(&sweeper, Seq(0)).unwrap();
    assert_eq!(load(&sweeper, 1).unwrap(), Some(vec![1; 9000]));
}

#[test]
fn a_sweep_spares_what_a_process_wrote_and_died_before_it_announced_it() {
    let folder = tempfile::tempdir().unwrap();
    let tail = folder.path().join("log").join("TAIL");
    let sweeper = process(folder.path());
    put(&sweeper, 0, 10, Placement::Auto);
    let other = process(folder.path());
    let before = fs::read(&tail).unwrap();
    put(&other, 1, 9000, Placement::Eager);
    drop(other);
    // Its pin is found, unlocked, as of a process that was killed.
    fs::write(&tail, before).unwrap();
    fs::write(folder::pin_folder(folder.path()).join("00000000000000aa.lock"), b"").unwrap();
    Sweep::survey(&sweeper).unwrap().run(&sweeper, Seq(0)).unwrap();
    assert_eq!(load(&process(folder.path()), 1).unwrap(), Some(vec![1; 9000]));
}

#[test]
fn a_commit_that_waited_for_the_checkpoint_of_another_process_makes_no_further_one() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: 1 << 20, ..small() };
    let (waiting, other) = (process(folder.path()), Arc::new(Inner::open(folder.path(), &options).unwrap()));
    let lock = File::open_or_create(&folder.path().join("log").join(folder::CHECKPOINT_LOCK)).unwrap();
    assert!(lock.try_lock().unwrap());
    // More than may be pending in the small one.
    (0..10).for_each(|key| put(&other, key, 9000, Placement::Auto));
    let mut transaction = begin(&waiting);
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.put(store, b"key", b"value", Placement::Auto).unwrap();
    let commit = std::thread::spawn(move || transaction.commit());
    let sweep = Sweep::survey(&other).unwrap();
    other.lock_replica().rotate();
    let frozen = other.lock_replica().snapshot();
    put(&other, 10, 10, Placement::Auto);
    other.replace_tree(&frozen, &sweep, &[]).unwrap();
    lock.unlock().unwrap();
    commit.join().unwrap().unwrap();
    assert_eq!(waiting.current.load().manifest.name.checkpoint, frozen.seq);
}

/// A log of two files, the second with commits that the checkpoint of the first does not hold; its announcement is set back
/// to the end of the first file.
fn set_back(folder: &Path) {
    let process = process(folder);
    for key in 0..40 {
        put(&process, key, 1000, Placement::Auto);
        process.background.wait();
    }
    let sweep = Sweep::survey(&process).unwrap();
    process.lock_replica().rotate();
    let frozen = process.lock_replica().snapshot();
    for key in 40..60 {
        put(&process, key, 1000, Placement::Auto);
        process.background.wait();
        if key == 41 {
            process.replace_tree(&frozen, &sweep, &[]).unwrap();
            break;
        }
    }
    put(&process, 42, 10, Placement::Auto);
    let log = folder.join("log");
    let newest = *wal::list(&log).unwrap().last().unwrap();
    let previous = Wal::open(&log, newest).unwrap().unwrap().header.previous.unwrap();
    let end = LogEnd { wal: previous.first_seq, offset: previous.len };
    let tail = TailFile::open_or_create(&log.join("TAIL")).unwrap();
    tail.write(&Tail::settled(Mark { end, seq: Seq(newest.0 - 1) })).unwrap();
}

#[test]
fn an_announcement_set_back_misleads_no_process_that_opens_beside_another() {
    let folder = tempfile::tempdir().unwrap();
    set_back(folder.path());
    // Another process is just opening the folder: it holds the lock, and has taken over nothing yet.
    let second = process_beside_another(folder.path());
    put(&second, 100, 10, Placement::Auto);
    for key in (0..43).chain([100]) {
        assert!(load(&second, key).unwrap().is_some(), "key {key} in the process that wrote");
    }
    drop(second);
    let third = process(folder.path());
    for key in (0..43).chain([100]) {
        assert!(load(&third, key).unwrap().is_some(), "key {key} after opening again");
    }
}

#[test]
fn a_zeroed_frame_behind_an_announcement_set_back_is_no_end_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let writer = process(folder.path());
    put(&writer, 0, 10, Placement::Auto);
    let (tail, end) = (fs::read(log.join("TAIL")).unwrap(), writer.lock_replica().position.end());
    (1..4).for_each(|key| put(&writer, key, 10, Placement::Auto));
    drop(writer);
    fs::write(log.join("TAIL"), tail).unwrap();
    let file = fs::File::options().write(true).open(wal::path(&log, end.wal)).unwrap();
    file.write_all_at(&[0; HEADER_LEN], end.offset).unwrap();
    let error = Inner::open(folder.path(), &small()).err().unwrap();
    assert_eq!((error.kind(), error.corrupt_at().unwrap().offset), (ErrorKind::Corrupt, end.offset));
}

#[test]
fn a_folder_that_cannot_be_opened_yet_keeps_no_other_closed() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(process(one.path()));
    let lock = File::open_or_create(&one.path().join("log").join("LOCK")).unwrap();
    assert!(lock.try_lock().unwrap());
    let path = one.path().to_owned();
    let opening = std::thread::spawn(move || Database::open(&path, &small()));
    std::thread::sleep(Duration::from_millis(50));
    Database::open(other.path(), &small()).unwrap();
    assert!(!opening.is_finished());
    lock.unlock().unwrap();
    opening.join().unwrap().unwrap();
}

#[test]
fn opening_beside_writers_that_start_and_trim_log_files_all_the_time() {
    let folder = crate::common::scratch();
    let path = folder.path();
    put(&process(path), 0, 10, Placement::Auto);
    let done = AtomicBool::new(false);
    let tiny = || Arc::new(Inner::open(path, &Options { memtable_bytes: 4096, ..small() }).unwrap());
    std::thread::scope(|scope| {
        let writer = |first: u32| {
            let process = tiny();
            for key in (first..first + 50).cycle() {
                match try_put(&process, key, 300, Placement::Auto) {
                    // The other one made two checkpoints meanwhile.
                    Err(error) if error.kind() == ErrorKind::SnapshotTooOld => {}
                    stored => stored.unwrap(),
                }
                if done.load(Ordering::Relaxed) {
                    return process.background.wait();
                }
            }
        };
        scope.spawn(move || writer(1000));
        scope.spawn(move || writer(2000));
        let openers = [0; 2].map(|_| {
            scope.spawn(|| {
                for _ in 0..1500 {
                    assert_eq!(load(&tiny(), 0).unwrap(), Some(vec![0; 10]));
                }
            })
        });
        let ended = openers.map(|opener| opener.join());
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
}

#[test]
fn a_commit_is_one_sync() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    trace::start(&path);
    let process = process(&path);
    put(&process, 0, 10, Placement::Auto);
    trace::note(&path, 1, Knowledge::Begun);
    (0..10).for_each(|key| put(&process, key, 100, Placement::Auto));
    assert_eq!(trace::finish(&path).syncs_after(1), 10);
}

#[test]
fn the_outcome_of_a_failed_commit_is_known_once_the_folder_is_opened_beside_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let failing = process(&path);
    put(&failing, 1, 10, Placement::Auto);
    let fault = Fault::Error(5);
    faults::set(&path, Faults { only: Some(("sync", "wal")), after: 0, count: 1, fault });
    let mut transaction = begin(&failing);
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.put(store, &2u32.to_be_bytes(), &[2], Placement::Auto).unwrap();
    assert_eq!(transaction.commit().unwrap_err().kind(), ErrorKind::Io);
    faults::forget(&path);
    let reopened = process_beside_another(&path);
    let found = load(&reopened, 2).unwrap();
    put(&process(&path), 3, 10, Placement::Auto);
    assert_eq!(load(&reopened, 2).unwrap(), found);
}

#[test]
fn an_announcement_damaged_under_an_open_handle_hides_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, reader) = (process(folder.path()), process(folder.path()));
    put(&writer, 1, 10, Placement::Auto);
    fs::write(folder.path().join("log").join("TAIL"), [7; 96]).unwrap();
    assert!(load(&reader, 1).unwrap().is_some());
}

#[test]
fn a_process_that_lags_behind_trimmed_files_needs_no_announcement() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, reader) = (process(folder.path()), process(folder.path()));
    for key in 0..60 {
        put(&writer, key, 1000, Placement::Auto);
        writer.background.wait();
    }
    fs::write(folder.path().join("log").join("TAIL"), b"").unwrap();
    for key in 0..60 {
        assert!(load(&reader, key).unwrap().is_some(), "key {key}");
    }
}

#[test]
fn a_reader_of_a_folder_that_cannot_be_written_takes_no_announced_frame_for_torn() {
    let folder = tempfile::tempdir().unwrap();
    let process = process(folder.path());
    put(&process, 0, 10, Placement::Auto);
    let before = process.lock_replica().position.end();
    put(&process, 1, 10, Placement::Auto);
    let announced = process.lock_replica().position.end();
    let log = wal::path(&folder.path().join("log"), announced.wal);
    let mut bytes = fs::read(&log).unwrap();
    bytes[before.offset as usize + 70] ^= 1;
    fs::write(&log, bytes).unwrap();
    let read = |announced| {
        let limit = ReadLimit::Everything { durable: announced };
        Replica::open(process.folders.clone(), limit, 1 << 20).map(|replica| replica.position.end())
    };
    assert_eq!(read(before).unwrap(), before);
    let refused = read(announced).unwrap_err();
    assert_eq!(refused.corrupt_at().map(|at| (at.file.clone(), at.offset)), Some((log, before.offset)));
}

#[test]
fn an_unknown_outcome_is_never_told_as_one_that_stored_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let process = process(folder.path());
    for kind in [ErrorKind::DiskFull, ErrorKind::ReadOnlyFolder, ErrorKind::Io, ErrorKind::Locked] {
        let told = process.poison(Error::new(kind, "the sync failed"));
        assert_eq!((told.kind(), told.is_retryable()), (ErrorKind::Io, false));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_keeps_no_removed_files_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let (writer, reader) = (process(&path), process(&path));
    for round in 0..30 {
        put(&writer, 0, 9000 + round, Placement::Auto);
        writer.checkpoint_now().unwrap();
        assert_eq!(load(&reader, 0).unwrap().map(|value| value.len()), Some(9000 + round));
    }
    let open =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let gone =
        open.filter(|file| file.starts_with(&path) && file.to_string_lossy().ends_with(".seg (deleted)"));
    let gone = gone.count();
    assert!(gone < 8, "{gone} removed segments still take space");
}

#[test]
fn threads_that_close_one_handle_at_the_same_time_all_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database { inner: Arc::new(Inner::open(folder.path(), &Options::default()).unwrap()) };
    // Worth a checkpoint.
    (0..30).for_each(|key| put(&database.inner, key, 4000, Placement::Auto));
    let lock = File::open_or_create(&folder.path().join("log").join(folder::CHECKPOINT_LOCK)).unwrap();
    assert!(lock.try_lock().unwrap());
    let closing = [0; 3].map(|_| {
        let database = database.clone();
        std::thread::spawn(move || database.close())
    });
    std::thread::sleep(Duration::from_millis(50));
    lock.unlock().unwrap();
    closing.into_iter().for_each(|closing| closing.join().unwrap().unwrap());
    assert_eq!(wal::list(&folder.path().join("log")).unwrap().len(), 1);
}
