//! Commits that are written and not durable yet: who must not see them, and what must not happen before they are.

use super::*;
use crate::durability_tests::put_relaxed;

/// Writes a commit that no sync covers, as a process does that waits for one.
fn append(inner: &Arc<Inner>, key: u32) {
    let mut transaction = begin(inner);
    let store = transaction.ensure_store("s", b"").unwrap();
    transaction.put(store, &key.to_be_bytes(), &[key as u8; 10], Placement::Auto).unwrap();
    transaction.append_only().unwrap();
}

fn durable(inner: &Inner) -> Mark {
    inner.tail().unwrap().read().unwrap().unwrap().durable.mark
}

#[test]
fn no_new_log_file_follows_commits_that_are_not_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let (closing, other) = (process(&path), process(&path));
    put(&closing, 0, 10, Placement::Auto);
    // Behind the checkpoint of the one that closes: nothing else makes it durable.
    put_relaxed(&other, 1);
    append(&other, 2);
    let fault = Fault::Error(5);
    faults::set(&path, Faults { only: Some(("sync", "wal")), after: 0, count: 1, fault });
    let mut log = closing.lock_log(|| Ok(())).unwrap();
    let refused = log.rotate_when_grown(1).map_err(|error| error.kind());
    faults::forget(&path);
    assert_eq!(refused, Err(ErrorKind::Io), "they are synced first");
    assert_eq!(wal::list(&path.join("log")).unwrap().len(), 1);
}

#[test]
fn a_writer_that_lags_behind_trimmed_files_shows_nothing_before_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, lagging) = (process(folder.path()), process(folder.path()));
    put(&writer, 0, 10, Placement::Auto);
    assert!(load(&lagging, 0).unwrap().is_some());
    for key in 0..60 {
        put(&writer, key, 1000, Placement::Auto);
        writer.background.wait();
    }
    append(&writer, 100);
    // It reads the state anew, up to what it has to compare its own writes with.
    drop(lagging.lock_log(|| Ok(())).unwrap());
    assert_eq!(load(&lagging, 100).unwrap(), None);
    assert!(load(&lagging, 59).unwrap().is_some());
    put(&lagging, 101, 10, Placement::Auto);
    assert!(load(&lagging, 100).unwrap().is_some());
}

#[test]
fn a_reader_of_a_folder_that_cannot_be_written_sees_nothing_before_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let writer = process(&path);
    put(&writer, 0, 10, Placement::Auto);
    append(&writer, 1);
    let open = || {
        let fault = Fault::Error(libc::EROFS);
        faults::set(&path, Faults { only: Some(("rename into place", "lock")), after: 0, count: 1, fault });
        let reader = process(&path);
        faults::forget(&path);
        assert!(reader.pin.is_none());
        reader
    };
    let load = |reader: &Arc<Inner>, key| {
        let snapshot = reader.newest_snapshot(Mode::Read, Hold::Pinned).unwrap();
        let mut read = Transaction::new(Arc::clone(reader), snapshot, Mode::Read, Hold::Pinned);
        let (store, _) = read.store("s").unwrap().unwrap();
        read.get(store, &u32::to_be_bytes(key)).unwrap().is_some()
    };
    let reader = open();
    assert_eq!((load(&reader, 0), load(&reader, 1)), (true, false));
    put(&writer, 2, 10, Placement::Auto);
    assert_eq!((load(&reader, 1), load(&reader, 2)), (true, true));
    // The power goes: the announcement names an earlier end, and what is there is all there is.
    append(&writer, 3);
    let (end, tail) = (durable(&writer), TailFile::open_or_create(&path.join("log").join("TAIL")).unwrap());
    tail.write(&Tail::settled(end)).unwrap();
    assert!(load(&open(), 3));
}

#[test]
fn opening_beside_a_sync_never_calls_less_durable_than_the_sync_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let writer = process(&path);
    put(&writer, 0, 10, Placement::Auto);
    append(&writer, 1);
    let synced = writer.lock_replica().position.mark();
    append(&writer, 2);
    // A sync is under way that covers the first of the two.
    let sync = File::open_or_create(&path.join("log").join("SYNC")).unwrap();
    assert!(sync.try_lock().unwrap());
    let opening = std::thread::spawn({
        let path = path.clone();
        move || process(&path)
    });
    std::thread::sleep(Duration::from_millis(50));
    let tail = TailFile::open_or_create(&path.join("log").join("TAIL")).unwrap();
    tail.write_durable(&Durable { mark: synced, syncing: false }).unwrap();
    let watched = Arc::clone(&writer);
    let went_back = Arc::new(AtomicBool::new(false));
    faults::observe(&path, {
        let went_back = Arc::clone(&went_back);
        move || went_back.store(durable(&watched) < synced, Ordering::Relaxed)
    });
    sync.unlock().unwrap();
    opening.join().unwrap();
    faults::forget(&path);
    assert!(!went_back.load(Ordering::Relaxed));
}

#[test]
fn a_brief_transaction_older_than_a_run_that_is_gone_is_too_old_and_nothing_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (brief, other) = (process(folder.path()), process(folder.path()));
    put(&brief, 0, 10, Placement::Auto);
    let snapshot = brief.newest_snapshot(Mode::Write, Hold::Unpinned).unwrap();
    let mut transaction = Transaction::new(Arc::clone(&brief), snapshot, Mode::Write, Hold::Unpinned);
    let store = transaction.ensure_store("s", b"").unwrap();
    // It meets none of the others, but it is to be compared with them.
    transaction.put(store, &7u32.to_be_bytes(), b"brief", Placement::Auto).unwrap();
    let mut large = begin(&other);
    for key in (0..400_000_u32).step_by(10) {
        large.put(store, &key.to_be_bytes(), &[7; 50], Placement::Auto).unwrap();
    }
    large.commit().unwrap();
    // One more in between, so that no leaf of the run stays as it is.
    let mut spread = begin(&other);
    for key in (5..400_000_u32).step_by(100) {
        spread.put(store, &key.to_be_bytes(), &[7; 50], Placement::Auto).unwrap();
    }
    spread.commit().unwrap();
    other.checkpoint_now().unwrap();
    other.background.wait();
    match transaction.commit() {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{error}"),
    }
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_one_that_no_longer_finds_the_frames() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let (failing, other) = (process(&path), process(&path));
    put(&failing, 0, 10, Placement::Auto);
    let end = durable(&failing).end;
    let fault = Fault::Error(5);
    faults::set(&path, Faults { only: Some(("sync", "wal")), after: 0, count: 1, fault });
    assert_eq!(try_put(&failing, 1, 10, Placement::Auto).unwrap_err().kind(), ErrorKind::Io);
    faults::forget(&path);
    assert!(load(&other, 0).unwrap().is_some());
    // Nobody sees it, but it is in the way of the others.
    drop(other.lock_log(|| Ok(())).unwrap());
    // The system dropped what it could not write.
    let file = fs::File::options().write(true).open(wal::path(&path.join("log"), end.wal)).unwrap();
    file.write_all_at(&[0; HEADER_LEN], end.offset).unwrap();
    assert_eq!(try_put(&other, 2, 10, Placement::Auto).unwrap_err().kind(), ErrorKind::Corrupt);
    drop((failing, other));
    let reopened = process(&path);
    assert!(load(&reopened, 0).unwrap().is_some());
    assert_eq!((load(&reopened, 1).unwrap(), load(&reopened, 2).unwrap()), (None, None));
    put(&reopened, 3, 10, Placement::Auto);
}
