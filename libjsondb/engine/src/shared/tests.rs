//! Several handles on one shared folder, as if each were another machine's.

use std::path::Path;

use super::boundary::{Boundary, LogKind, Reach};
use super::folder::{SlotFolder, newest_reach, read_boundary};
use crate::collect::Sweep;
use crate::log::{LogFolder, wal};
use crate::os::faults::{self, Fault, Faults};
use crate::pin::{Pin, Sharing};
use crate::{Database, Durability, ErrorKind, Mode, Options, Placement, Result, StoreId};

fn open(folder: &Path) -> Database {
    Database::open_shared_alone(folder, &Options::default()).unwrap()
}

fn store(database: &Database) -> StoreId {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("numbers", b"").unwrap();
    transaction.commit().unwrap();
    store
}

fn put(database: &Database, store: StoreId, key: &str, value: &str) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    transaction.put(store, key.as_bytes(), value.as_bytes(), Placement::Auto)?;
    transaction.commit().map(drop)
}

fn get(database: &Database, store: StoreId, key: &str) -> Option<String> {
    let read = |value: Option<&[u8]>| value.map(|value| String::from_utf8(value.to_vec()).unwrap());
    database.get_with(store, key.as_bytes(), read).unwrap()
}

#[test]
fn each_sees_what_the_other_committed() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let store = store(&one);
    for round in 0..50 {
        put(&one, store, &format!("a{round}"), "1").unwrap();
        assert_eq!(get(&two, store, &format!("a{round}")).as_deref(), Some("1"));
        put(&two, store, &format!("b{round}"), "2").unwrap();
        assert_eq!(get(&one, store, &format!("b{round}")).as_deref(), Some("2"));
    }
    drop((one, two));
    let again = open(folder.path());
    assert_eq!(get(&again, store, "a49").as_deref(), Some("1"));
    assert_eq!(get(&again, store, "b0").as_deref(), Some("2"));
}

#[test]
fn of_two_that_meet_at_a_key_one_conflicts_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let store = store(&one);
    let mut first = one.begin(Mode::Write).unwrap();
    let mut second = two.begin(Mode::Write).unwrap();
    let mut third = two.begin(Mode::Write).unwrap();
    first.put(store, b"k", b"1", Placement::Auto).unwrap();
    second.put(store, b"k", b"2", Placement::Auto).unwrap();
    third.put(store, b"other", b"3", Placement::Auto).unwrap();
    first.commit().unwrap();
    assert_eq!(second.commit().unwrap_err().kind(), ErrorKind::Conflict);
    third.commit().unwrap();
    assert_eq!(get(&two, store, "k").as_deref(), Some("1"));
    assert_eq!(get(&one, store, "other").as_deref(), Some("3"));
}

#[test]
fn threads_of_two_handles_lose_no_increment() {
    let folder = tempfile::tempdir().unwrap();
    let handles = [open(folder.path()), open(folder.path())];
    let store = store(&handles[0]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let database = &handles[thread % 2];
            scope.spawn(move || {
                for _ in 0..25 {
                    loop {
                        let mut transaction = database.begin(Mode::Write).unwrap();
                        let read = |value: Option<&[u8]>| value.map_or(0, |value| value[0]);
                        let before = transaction.get_with(store, b"n", read).unwrap();
                        transaction.put(store, b"n", &[before + 1], Placement::Auto).unwrap();
                        match transaction.commit() {
                            Ok(_) => break,
                            Err(error) => assert!(error.is_retryable(), "{error}"),
                        }
                    }
                }
            });
        }
    });
    for database in &handles {
        assert_eq!(database.get_with(store, b"n", |value| value.unwrap()[0]).unwrap(), 100);
    }
}

#[test]
fn checkpoints_of_one_are_adopted_by_the_other_and_slots_go() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let store = store(&one);
    for round in 0..5 {
        for key in 0..100 {
            put(&one, store, &format!("{key}"), &format!("{round}")).unwrap();
        }
        one.checkpoint().unwrap();
        put(&two, store, "two", &format!("{round}")).unwrap();
        two.checkpoint().unwrap();
        assert_eq!(get(&two, store, "99"), Some(format!("{round}")));
    }
    let slots = || one.inner.shared.as_ref().unwrap().view().reader().list().unwrap().len();
    assert!(slots() > 500, "none is removed before its time: {}", slots());
    two.close().unwrap();
    drop(two);
    assert_eq!(get(&one, store, "two").as_deref(), Some("4"));
    one.close().unwrap();
    assert!(slots() < 10, "{}", slots());
    drop(one);
    let again = open(folder.path());
    assert_eq!(get(&again, store, "42").as_deref(), Some("4"));
}

#[test]
fn a_folder_goes_from_files_to_slots_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = None;
    for round in 0..3 {
        let alone = Database::open_alone(folder.path(), &Options::default()).unwrap();
        let store = *numbers.get_or_insert_with(|| store(&alone));
        put(&alone, store, &format!("files {round}"), "1").unwrap();
        let in_the_way =
            Database::open_shared_alone(folder.path(), &Options::default()).map(drop).unwrap_err();
        assert_eq!(in_the_way.kind(), ErrorKind::Locked);
        assert!(in_the_way.message().contains(&format!("process {}", std::process::id())), "{in_the_way}");
        drop(alone);
        let shared = open(folder.path());
        put(&shared, store, &format!("slots {round}"), "2").unwrap();
        let in_the_way = Database::open_alone(folder.path(), &Options::default()).map(drop).unwrap_err();
        assert_eq!(in_the_way.kind(), ErrorKind::Locked);
        assert!(in_the_way.message().contains("Clustered"), "{in_the_way}");
        for earlier in 0..=round {
            assert_eq!(get(&shared, store, &format!("files {earlier}")).as_deref(), Some("1"));
            assert_eq!(get(&shared, store, &format!("slots {earlier}")).as_deref(), Some("2"));
        }
    }
}

#[test]
fn who_was_taken_for_dead_begins_anew_and_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (sleeper, other) = (open(folder.path()), open(folder.path()));
    let store = store(&sleeper);
    put(&sleeper, store, "before", "1").unwrap();
    // A value of its own file, not committed yet.
    let mut open_transaction = sleeper.begin(Mode::Write).unwrap();
    open_transaction.put(store, b"large", &vec![7; 1 << 20], Placement::Eager).unwrap();
    let owner = sleeper.inner.folders.log.owner;
    other.inner.append_fence(other.inner.shared.as_ref().unwrap(), &[owner]).unwrap();
    let refused = open_transaction.commit().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SnapshotTooOld);
    assert!(refused.is_retryable());
    put(&sleeper, store, "after", "2").unwrap();
    assert_eq!(get(&other, store, "before").as_deref(), Some("1"));
    assert_eq!(get(&other, store, "after").as_deref(), Some("2"));
    sleeper.checkpoint().unwrap();
    assert_eq!(get(&other, store, "after").as_deref(), Some("2"));
}

#[test]
fn a_switch_that_died_halfway_leaves_a_log_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (dying, running) = (open(folder.path()), open(folder.path()));
    let store = store(&dying);
    put(&dying, store, "before", "1").unwrap();
    dying.checkpoint().unwrap();
    dying.inner.append_fence(dying.inner.shared.as_ref().unwrap(), &[]).unwrap();
    drop(dying);
    assert_eq!(put(&running, store, "lost", "2").unwrap_err().kind(), ErrorKind::Closed);
    drop(running);
    let again = open(folder.path());
    put(&again, store, "after", "3").unwrap();
    drop(again);
    let alone = Database::open_alone(folder.path(), &Options::default()).unwrap();
    for (key, value) in [("before", Some("1")), ("lost", None), ("after", Some("3"))] {
        assert_eq!(get(&alone, store, key).as_deref(), value, "{key}");
    }
}

/// The boundary of a switch that slept since `before`.
fn late(folder: &Path, log: LogKind) -> (SlotFolder, Boundary) {
    let before = read_boundary(&folder.join("log")).unwrap().unwrap_or_else(Boundary::of_a_new_folder);
    let reach = Reach { switches: before.reach.switches + 1, log, ..before.reach };
    let log = LogFolder { path: folder.join("log"), staging: folder.join("tmp"), owner: 7 };
    (SlotFolder::new(log, uuid::Uuid::nil()), Boundary { reach, ..before })
}

#[test]
fn of_two_switches_that_begin_with_the_same_log_one_happens() {
    let folder = tempfile::tempdir().unwrap();
    drop(Database::open_alone(folder.path(), &Options::default()).unwrap());
    for round in 0..3 {
        let (slots, to_slots) = late(folder.path(), LogKind::Slots);
        let shared = open(folder.path());
        put(&shared, store(&shared), &format!("slots {round}"), "1").unwrap();
        drop(shared);
        let (_, to_files) = late(folder.path(), LogKind::Files);
        let alone = Database::open_alone(folder.path(), &Options::default()).unwrap();
        put(&alone, store(&alone), &format!("files {round}"), "1").unwrap();
        // They wake, each after another one has switched.
        assert!(!slots.claim(&to_slots).unwrap());
        assert!(!slots.claim(&to_files).unwrap());
        drop(alone);
        let again = Database::open_alone(folder.path(), &Options::default()).unwrap();
        assert_eq!(get(&again, store(&again), &format!("slots {round}")).as_deref(), Some("1"));
        assert_eq!(get(&again, store(&again), &format!("files {round}")).as_deref(), Some("1"));
    }
}

#[test]
fn a_claim_that_nobody_finished_is_finished_by_the_next_to_open() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Database::open_alone(folder.path(), &Options::default()).unwrap();
    put(&alone, store(&alone), "k", "1").unwrap();
    drop(alone);
    drop(open(folder.path()));
    let boundaries = folder.path().join("log/boundary");
    // As if whoever switched had died when the claim was there.
    let unfinish = || {
        let newest = newest_reach(&folder.path().join("log")).unwrap().unwrap();
        std::fs::remove_file(boundaries.join(newest.file_name())).unwrap();
        newest
    };
    let (slots, _) = late(folder.path(), LogKind::Files);
    let claimed = unfinish();
    slots.settle_claim().unwrap();
    assert_eq!(slots.boundary().unwrap().reach, claimed);
    drop(Database::open_alone(folder.path(), &Options::default()).unwrap());
    for file in wal::list(&folder.path().join("log")).unwrap() {
        std::fs::remove_file(wal::path(&folder.path().join("log"), file)).unwrap();
    }
    // What was announced was there: it is damage that it is gone.
    let refused = Database::open_alone(folder.path(), &Options::default()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    std::fs::remove_file(folder.path().join("log/TAIL")).unwrap();
    unfinish();
    let shared = open(folder.path());
    assert_eq!(get(&shared, store(&shared), "k").as_deref(), Some("1"));
}

#[test]
fn who_opens_a_folder_as_it_is_beside_a_sleeping_switch_keeps_it_so() {
    let folder = tempfile::tempdir().unwrap();
    drop(Database::open_alone(folder.path(), &Options::default()).unwrap());
    let (slots, to_slots) = late(folder.path(), LogKind::Slots);
    let sleeper =
        Pin::create(&folder.path().join("pin"), &folder.path().join("tmp"), 7, Sharing::Machines).unwrap();
    // Its lock is lost, and its files are there.
    let files = ["pin/0000000000000007", "pin/0000000000000007.lock"].map(|name| folder.path().join(name));
    let bytes = std::fs::read(&files[0]).unwrap();
    drop(sleeper);
    std::fs::write(&files[0], bytes).unwrap();
    std::fs::write(&files[1], b"").unwrap();
    let alone = Database::open_alone(folder.path(), &Options::default()).unwrap();
    put(&alone, store(&alone), "k", "1").unwrap();
    assert!(!slots.claim(&to_slots).unwrap());
    drop(alone);
    let again = Database::open_alone(folder.path(), &Options::default()).unwrap();
    assert_eq!(get(&again, store(&again), "k").as_deref(), Some("1"));
}

#[test]
fn a_switch_to_files_waits_for_a_checkpoint_that_holds_all() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let store = store(&one);
    one.checkpoint().unwrap();
    // Frozen before, in force after another one's commit.
    let frozen = {
        let mut replica = one.inner.lock_replica();
        replica.rotate();
        replica.snapshot()
    };
    put(&two, store, "k", "1").unwrap();
    let sweep = Sweep::survey(&one.inner).unwrap();
    one.inner.replace_tree(&frozen, &sweep, &[]).unwrap();
    drop((one, two));
    let alone = Database::open_alone(folder.path(), &Options::default()).unwrap();
    assert_eq!(get(&alone, store, "k").as_deref(), Some("1"));
}

#[test]
fn a_relaxed_commit_is_durable_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path());
    let store = store(&one);
    let mut transaction = one.begin(Mode::Write).unwrap();
    transaction.put(store, b"k", b"v", Placement::Auto).unwrap();
    transaction.set_durability(Durability::Relaxed);
    transaction.commit().unwrap();
    one.flush().unwrap();
    assert_eq!(get(&open(folder.path()), store, "k").as_deref(), Some("v"));
}

#[test]
fn it_is_verified_backed_up_and_measured() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (open(folder.path()), open(folder.path()));
    let store = store(&one);
    for key in 0..20 {
        put(&one, store, &format!("{key}"), "1").unwrap();
        put(&two, store, &format!("{key}"), "2").unwrap();
        if key % 7 == 0 {
            two.checkpoint().unwrap();
        }
    }
    let verification = one.verify().unwrap();
    assert_eq!(verification.entries, two.verify().unwrap().entries);
    assert!(verification.log.transactions >= 40, "{verification:?}");
    let info = one.info().unwrap();
    assert_eq!((info.processes, info.disk.log.count), (2, verification.log.files));
    let copy = elsewhere.path().join("copy");
    let (token, mut silent) = (crate::CancelToken::new(), |_, _| true);
    let mut progress = crate::Progress::new(&token, &mut silent);
    one.backup(&copy, crate::BackupCheck::Full, &mut progress).unwrap();
    let copy = Database::open_alone(&copy, &Options::default()).unwrap();
    assert_eq!(get(&copy, store, "19").as_deref(), Some("2"));

    let slot = one.inner.shared.as_ref().unwrap().view().reader().path(one.inner.current.load().seq);
    let bytes = std::fs::read(&slot).unwrap();
    std::fs::write(&slot, &bytes[..bytes.len() - 1]).unwrap();
    let damage = two.verify().unwrap_err();
    assert_eq!(damage.kind(), ErrorKind::Corrupt);
    assert_eq!(damage.corrupt_at().unwrap().file, slot);
    let unreadable = Database::open_shared_alone(folder.path(), &Options::default()).map(drop).unwrap_err();
    assert_eq!(unreadable.kind(), ErrorKind::Corrupt);
    std::fs::remove_file(&slot).unwrap();
    // Who had read it goes on behind it.
    put(&one, store, "more", "3").unwrap();
    let gap = Database::open_shared_alone(folder.path(), &Options::default()).map(drop).unwrap_err();
    assert_eq!(gap.corrupt_at().unwrap().file, slot);
    assert_eq!(one.verify().unwrap_err().corrupt_at().unwrap().file, slot);
}

#[test]
fn a_file_system_without_hard_links_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    drop(Database::open_alone(&path, &Options::default()).unwrap());
    for errno in [libc::EPERM, libc::ENOTSUP, libc::EACCES] {
        faults::set(
            &path,
            Faults { only: Some(("link", "c")), after: 0, count: 9, fault: Fault::Error(errno) },
        );
        let refused = Database::open_shared_alone(&path, &Options::default()).map(drop).unwrap_err();
        faults::forget(&path);
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.message().contains("hard links"), "{refused}");
    }
    // It is what it was.
    drop(Database::open_alone(&path, &Options::default()).unwrap());
}

#[test]
fn the_newest_slot_is_that_of_the_newest_folder_that_has_any() {
    let folder = tempfile::tempdir().unwrap();
    let one = open(folder.path());
    let view = one.inner.shared.as_ref().unwrap().view();
    let slots = view.reader();
    assert_eq!(slots.last().unwrap(), None);
    store(&one);
    assert_eq!(slots.last().unwrap(), slots.list().unwrap().last().map(|(slot, _)| *slot));
    for (folder_number, slot) in [(1, Some(4097)), (1, Some(5000)), (2, None)] {
        let later = folder.path().join("log").join(format!("{folder_number:012}"));
        std::fs::create_dir_all(&later).unwrap();
        if let Some(slot) = slot {
            std::fs::write(later.join(format!("{slot:020}.c")), b"").unwrap();
        }
    }
    assert_eq!(slots.last().unwrap(), Some(crate::Seq(5000)));
    assert_eq!(slots.list().unwrap().last().unwrap().0, crate::Seq(5000));
}
