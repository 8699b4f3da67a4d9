//! What a commit's durability promises: when it syncs, who sees it, what is left of it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::database::Inner;
use crate::hazard_tests::{begin, load, process, put, small};
use crate::log::frame::HEADER_LEN;
use crate::log::wal;
use crate::os::faults::{self, Fault, Faults};
use crate::os::trace::{self, Knowledge};
use crate::{Database, Durability, ErrorKind, Mode, Placement, Transaction, Tried};

pub(crate) fn put_relaxed(inner: &Arc<Inner>, key: u32) {
    let mut transaction = begin(inner);
    transaction.set_durability(Durability::Relaxed);
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.put(store, &key.to_be_bytes(), &[key as u8; 10], Placement::Auto).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_relaxed_commit_is_no_sync_and_is_seen_by_others_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    trace::start(&path);
    let (writer, reader) = (process(&path), process(&path));
    put(&writer, 0, 10, Placement::Auto);
    trace::note(&path, 1, Knowledge::Begun);
    for key in 1..10 {
        put_relaxed(&writer, key);
        assert!(load(&reader, key).unwrap().is_some(), "key {key}");
    }
    assert_eq!(trace::finish(&path).syncs_after(1), 0);
}

#[test]
fn a_full_commit_a_flush_and_a_close_make_relaxed_commits_durable() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    let inner = &database.inner;
    put(inner, 0, 10, Placement::Auto);
    let is_durable = || {
        let tail = inner.tail().unwrap().read().unwrap().unwrap();
        tail.durable.mark == tail.appended.written
    };
    put_relaxed(inner, 1);
    assert!(!is_durable());
    put(inner, 2, 10, Placement::Auto);
    assert!(is_durable());
    put_relaxed(inner, 3);
    database.flush().unwrap();
    assert!(is_durable());
    put_relaxed(inner, 4);
    database.close().unwrap();
    assert!(is_durable());
}

#[test]
fn a_relaxed_commit_behind_a_lost_one_does_not_come_back_with_its_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let writer = process(folder.path());
    put(&writer, 0, 10, Placement::Auto);
    let (tail, end) = (fs::read(log.join("TAIL")).unwrap(), writer.lock_replica().position.end());
    put_relaxed(&writer, 1);
    put_relaxed(&writer, 2);
    drop(writer);
    // The power goes: the system had written the second of the two, not the first, and no announcement of either.
    fs::write(log.join("TAIL"), tail).unwrap();
    let file = fs::File::options().write(true).open(wal::path(&log, end.wal)).unwrap();
    file.write_all_at(&[0; HEADER_LEN], end.offset).unwrap();
    let writer = process(folder.path());
    assert_eq!((load(&writer, 1).unwrap(), load(&writer, 2).unwrap()), (None, None));
    put_relaxed(&writer, 1);
    drop(writer);
    let reopened = process(folder.path());
    assert!(load(&reopened, 1).unwrap().is_some());
    assert_eq!(load(&reopened, 2).unwrap(), None);
}

#[test]
fn what_lost_against_a_commit_that_is_not_durable_yet_sees_it_when_it_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (process(folder.path()), process(folder.path()));
    put(&first, 0, 10, Placement::Auto);
    let put_one = |transaction: &mut Transaction| {
        let store = transaction.ensure_store("s", b"").unwrap();
        transaction.put(store, &1u32.to_be_bytes(), &[1; 20], Placement::Auto).unwrap();
    };
    let (mut appended, mut loser) = (begin(&first), begin(&second));
    put_one(&mut appended);
    put_one(&mut loser);
    // Its process dies before the sync.
    appended.append_only().unwrap();
    assert_eq!(load(&second, 1).unwrap(), None);
    assert_eq!(loser.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(load(&second, 1).unwrap(), Some(vec![1; 20]));
}

#[test]
fn a_commit_behind_one_whose_sync_failed_makes_both_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let (failing, other) = (process(&path), process(&path));
    put(&failing, 0, 10, Placement::Auto);
    faults::set(&path, Faults { only: Some(("sync", "wal")), after: 0, count: 1, fault: Fault::Error(5) });
    let mut transaction = begin(&failing);
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.put(store, &1u32.to_be_bytes(), &[1; 10], Placement::Auto).unwrap();
    assert_eq!(transaction.commit().unwrap_err().kind(), ErrorKind::Io);
    faults::forget(&path);
    let tail = || other.tail().unwrap().read().unwrap().unwrap();
    assert!(tail().durable.syncing && tail().durable.mark < tail().appended.written);
    put(&other, 2, 10, Placement::Auto);
    assert!(!tail().durable.syncing && tail().durable.mark == tail().appended.written);
    assert!(load(&other, 1).unwrap().is_some());
}

/// A relaxed transaction that writes one small key.
fn relaxed(inner: &Arc<Inner>, key: u32, len: usize) -> Transaction {
    let mut transaction = begin(inner);
    transaction.set_durability(Durability::Relaxed);
    let (store, _) = transaction.store("s").unwrap().unwrap();
    transaction.put(store, &key.to_be_bytes(), &vec![key as u8; len], Placement::Auto).unwrap();
    transaction
}

/// Gives the transaction back, when it must wait.
fn attempt(transaction: Transaction) -> Option<Transaction> {
    match transaction.try_commit().unwrap() {
        Tried::Committed(_) => None,
        Tried::MustWait(transaction) => Some(*transaction),
    }
}

#[test]
fn a_commit_that_is_not_to_wait_is_one_write_and_seen_by_others_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let (writer, reader) = (process(&path), process(&path));
    put(&writer, 0, 10, Placement::Auto);
    trace::start(&path);
    trace::note(&path, 1, Knowledge::Begun);
    for key in 1..10 {
        assert!(attempt(relaxed(&writer, key, 10)).is_none());
        assert!(load(&reader, key).unwrap().is_some(), "key {key}");
    }
    assert_eq!(trace::finish(&path).syncs_after(1), 0);
    let (mut winner, loser) = (relaxed(&writer, 1, 10), relaxed(&writer, 1, 20));
    winner.set_durability(Durability::Full);
    winner.commit().unwrap();
    assert_eq!(loser.try_commit().err().map(|error| error.kind()), Some(ErrorKind::Conflict));
}

#[test]
fn a_commit_that_would_have_to_wait_comes_back_and_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let (writer, other) = (process(&path), process(&path));
    put(&writer, 0, 10, Placement::Auto);
    let comes_back = |transaction, why: &str| {
        attempt(transaction).unwrap_or_else(|| panic!("{why}")).commit().unwrap();
    };
    let mut durable = relaxed(&writer, 1, 10);
    durable.set_durability(Durability::Full);
    comes_back(durable, "a sync");
    comes_back(relaxed(&writer, 2, 100_000), "a segment");
    comes_back(relaxed(&writer, 3, 65_500), "many bytes");
    let transaction = relaxed(&writer, 4, 10);
    put(&other, 5, 10, Placement::Auto);
    comes_back(transaction, "a frame that another process appended");
    let transaction = relaxed(&writer, 6, 10);
    let held = other.lock_log(|| Ok(())).unwrap();
    let transaction = attempt(transaction).expect("the log lock of another process");
    drop(held);
    let held = writer.lock_replica();
    let transaction = attempt(transaction).expect("a thread that reads the log");
    drop(held);
    let mut behind = begin(&writer);
    let store = behind.ensure_store("s", b"").unwrap();
    behind.put(store, &7u32.to_be_bytes(), &[7; 10], Placement::Auto).unwrap();
    behind.append_only().unwrap();
    comes_back(transaction, "a frame that waits for its sync");
    for key in 0..8 {
        assert!(load(&other, key).unwrap().is_some(), "key {key}");
    }
}

#[test]
fn a_commit_that_is_not_to_wait_makes_no_file_grow() {
    let folder = tempfile::tempdir().unwrap();
    let writer = process(folder.path());
    put(&writer, 0, 10, Placement::Auto);
    let len = |path: &Path| fs::metadata(path).unwrap().len();
    let wal = writer.lock_replica().file().unwrap().wal.path().to_owned();
    let before = len(&wal);
    let mut committed = 0;
    while attempt(relaxed(&writer, 1, 100)).is_none() {
        committed += 1;
    }
    assert!(committed > 0);
    assert_eq!(len(&wal), before);
}

#[test]
fn a_transaction_that_is_not_to_wait_begins_only_on_what_was_read_already() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (process(folder.path()), process(folder.path()));
    let database = Database { inner: Arc::clone(&first) };
    put(&first, 0, 10, Placement::Auto);
    assert!(database.try_begin_brief(Mode::Write).unwrap().is_some());
    put_relaxed(&second, 1);
    assert!(database.try_begin_brief(Mode::Write).unwrap().is_none());
    drop(database.begin_brief(Mode::Write).unwrap());
    assert!(database.try_begin_brief(Mode::Write).unwrap().is_some());
}

#[test]
fn a_blind_put_meets_what_another_process_committed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (process(folder.path()), process(folder.path()));
    put_relaxed(&here, 0);
    let database = Database { inner: Arc::clone(&here) };
    put_relaxed(&elsewhere, 1);
    let mut blind = database.begin_blind().unwrap();
    blind.set_durability(Durability::Relaxed);
    let store = crate::catalog::store_id("s").unwrap();
    let is_new = blind.try_upsert(store, &1_u32.to_be_bytes(), b"blind").unwrap();
    assert_eq!(is_new, Some(true), "what was committed elsewhere is not known here yet");
    match blind.try_commit().unwrap() {
        Tried::MustWait(blind) => assert_eq!(blind.commit().unwrap_err().kind(), ErrorKind::Conflict),
        Tried::Committed(seq) => panic!("counted as new, and committed as {seq:?}"),
    }
    assert_eq!(load(&here, 1).unwrap(), Some(vec![1; 10]));
}
