//! Databases of several copies on real files: what is lost, and what goes on.

use std::path::{Path, PathBuf};

use crate::{
    CancelToken, CopyState, CopyStatus, Database, ErrorKind, Mode, Options, Placement, Progress, Result,
    StoreId,
};

struct Folders {
    _root: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

impl Folders {
    fn new(count: usize) -> Folders {
        let root = tempfile::tempdir().unwrap();
        let paths = (0..count).map(|index| root.path().join(format!("copy{index}"))).collect();
        Folders { _root: root, paths }
    }

    fn options(&self) -> Options {
        Options { mirrors: self.paths[1..].to_vec(), ..Options::default() }
    }

    /// As in a process of its own.
    fn open(&self) -> Database {
        Database::open_alone(&self.paths[0], &self.options()).unwrap()
    }
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

fn reinstate(database: &Database, copy: Option<usize>, lost: &[usize]) -> Result<CopyStatus> {
    database.reinstate(copy, lost, &mut Progress::new(&CancelToken::new(), &mut |_, _| true))
}

fn states(database: &Database) -> Vec<CopyState> {
    database.copy_status().unwrap().copies.iter().map(|copy| copy.state).collect()
}

fn remove(path: &Path) {
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn what_was_committed_is_there_when_the_copies_are_opened_again() {
    for count in [2, 3, 5] {
        let folders = Folders::new(count);
        let database = folders.open();
        let store = store(&database);
        put(&database, store, "a", "1").unwrap();
        let other = folders.open();
        put(&other, store, "b", "2").unwrap();
        assert_eq!(get(&database, store, "b").as_deref(), Some("2"));
        assert_eq!(states(&database), vec![CopyState::Member; count]);
        drop((database, other));
        let again = folders.open();
        assert_eq!(get(&again, store, "a").as_deref(), Some("1"));
        assert_eq!(get(&again, store, "b").as_deref(), Some("2"));
    }
}

#[test]
fn a_mirror_that_is_removed_while_others_write_is_dropped_and_brought_back() {
    let folders = Folders::new(2);
    let database = folders.open();
    let other = folders.open();
    let store = store(&database);
    put(&database, store, "a", "1").unwrap();
    remove(&folders.paths[1]);
    put(&database, store, "b", "2").unwrap();
    assert_eq!(get(&other, store, "b").as_deref(), Some("2"));
    put(&other, store, "c", "3").unwrap();
    assert_eq!(get(&database, store, "c").as_deref(), Some("3"));
    assert_eq!(states(&database), [CopyState::Member, CopyState::Missing]);
    let status = reinstate(&database, None, &[]).unwrap();
    assert_eq!(status.copies[1].state, CopyState::Member);
    put(&other, store, "d", "4").unwrap();
    assert_eq!(get(&database, store, "d").as_deref(), Some("4"));
    drop((database, other));
    // The mirror has all of it.
    remove(&folders.paths[0]);
    let reader = folders.open();
    assert!(!reader.is_writable());
    assert_eq!(get(&reader, store, "d").as_deref(), Some("4"));
    let refused = reader.begin(Mode::Write).and_then(|mut transaction| {
        transaction.put(store, b"e", b"5", Placement::Auto)?;
        transaction.commit()
    });
    assert!(refused.is_err());
    reinstate(&reader, None, &[0]).unwrap();
    drop(reader);
    let database = folders.open();
    assert!(database.is_writable());
    put(&database, store, "e", "5").unwrap();
    assert_eq!(states(&database), [CopyState::Member, CopyState::Member]);
}

#[test]
fn home_that_is_removed_while_others_write_lets_them_read_and_the_operator_lets_them_write() {
    let folders = Folders::new(2);
    let database = folders.open();
    let store = store(&database);
    put(&database, store, "a", "1").unwrap();
    remove(&folders.paths[0]);
    assert_eq!(get(&database, store, "a").as_deref(), Some("1"));
    assert_eq!(put(&database, store, "b", "2").unwrap_err().kind(), ErrorKind::DrivesLost);
    assert_eq!(get(&database, store, "b"), None);
    let status = database.copy_status().unwrap();
    assert!(!status.can_commit);
    reinstate(&database, Some(0), &[0]).unwrap();
    put(&database, store, "b", "2").unwrap();
    assert_eq!(get(&database, store, "b").as_deref(), Some("2"));
    assert_eq!(states(&database), [CopyState::Member, CopyState::Member]);
}

#[test]
fn any_one_of_three_may_be_lost_at_any_time() {
    for lost in 0..3 {
        for is_open in [false, true] {
            let folders = Folders::new(3);
            let mut database = folders.open();
            let store = store(&database);
            for number in 0..20 {
                put(&database, store, &format!("a{number}"), "1").unwrap();
            }
            if is_open {
                remove(&folders.paths[lost]);
            } else {
                drop(database);
                remove(&folders.paths[lost]);
                database = folders.open();
            }
            for number in 0..20 {
                assert_eq!(get(&database, store, &format!("a{number}")).as_deref(), Some("1"));
                put(&database, store, &format!("b{number}"), "1").unwrap();
            }
            database.checkpoint().unwrap();
            reinstate(&database, Some(lost), &[]).unwrap();
            assert_eq!(states(&database), [CopyState::Member; 3]);
            put(&database, store, "c", "1").unwrap();
            let next = (lost + 1) % 3;
            remove(&folders.paths[next]);
            assert_eq!(get(&database, store, "b7").as_deref(), Some("1"));
            put(&database, store, "d", "1").unwrap();
            drop(database);
            let again = folders.open();
            for key in ["a3", "b19", "c", "d"] {
                assert_eq!(get(&again, store, key).as_deref(), Some("1"), "{lost} {is_open} {key}");
            }
        }
    }
}

/// Two of `count`, in all ways.
fn pairs(count: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..count).flat_map(move |one| (one + 1..count).map(move |other| [one, other]))
}

#[test]
fn any_two_of_five_may_be_lost_while_they_are_open_and_closed() {
    for lost in pairs(5) {
        for is_open in [false, true] {
            let folders = Folders::new(5);
            let mut database = folders.open();
            let store = store(&database);
            put(&database, store, "a", "1").unwrap();
            if is_open {
                lost.iter().for_each(|copy| remove(&folders.paths[*copy]));
            } else {
                drop(database);
                lost.iter().for_each(|copy| remove(&folders.paths[*copy]));
                database = folders.open();
            }
            assert_eq!(get(&database, store, "a").as_deref(), Some("1"), "{lost:?} {is_open}");
            put(&database, store, "b", "2").unwrap();
            database.checkpoint().unwrap();
            put(&database, store, "c", "3").unwrap();
            reinstate(&database, None, &[]).unwrap();
            assert_eq!(states(&database), [CopyState::Member; 5], "{lost:?} {is_open}");
            put(&database, store, "d", "4").unwrap();
            drop(database);
            // Those that were brought back hold all of it, with one of the others.
            let others: Vec<usize> = (0..5).filter(|copy| !lost.contains(copy)).collect();
            others[1..].iter().for_each(|copy| remove(&folders.paths[*copy]));
            let again = folders.open();
            for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
                assert_eq!(get(&again, store, key).as_deref(), Some(value), "{lost:?} {is_open} {key}");
            }
            put(&again, store, "e", "5").unwrap();
        }
    }
}

#[test]
fn of_five_three_that_are_lost_one_after_the_other_end_the_writing_and_change_nothing() {
    let folders = Folders::new(5);
    let (database, other) = (folders.open(), folders.open());
    let store = store(&database);
    // Each is known to be lost before the next one is: two and three are enough again, and again.
    for (lost, key) in [(4, "a"), (0, "b")] {
        remove(&folders.paths[lost]);
        put(&database, store, key, "1").unwrap();
        assert_eq!(get(&other, store, key).as_deref(), Some("1"));
    }
    remove(&folders.paths[2]);
    assert_eq!(put(&database, store, "c", "1").unwrap_err().kind(), ErrorKind::DrivesLost);
    assert_eq!(get(&database, store, "c"), None);
    assert_eq!(get(&database, store, "b").as_deref(), Some("1"));
    assert!(!database.copy_status().unwrap().can_commit);
    reinstate(&database, None, &[0, 2, 4]).unwrap();
    put(&database, store, "c", "2").unwrap();
    assert_eq!(get(&other, store, "c").as_deref(), Some("2"));
    assert_eq!(get(&database, store, "a").as_deref(), Some("1"));
}

#[test]
fn one_sees_what_another_one_committed_although_it_could_not_be_told() {
    let folders = Folders::new(3);
    let reader = folders.open();
    let store = store(&reader);
    assert_eq!(get(&reader, store, "a"), None);
    // Where the last copy says of which slots somebody was told nothing can be said any more.
    let told = folders.paths[2].join("log/slots-0000000001/000000000000.told");
    std::fs::remove_file(&told).unwrap();
    std::fs::create_dir(&told).unwrap();
    let writer = folders.open();
    for number in 0..3 {
        assert_eq!(get(&reader, store, "a"), (number > 0).then(|| number.to_string()));
        put(&writer, store, "a", &(number + 1).to_string()).unwrap();
    }
    assert_eq!(get(&reader, store, "a").as_deref(), Some("3"));
}

#[test]
fn what_is_opened_for_reading_only_writes_nothing_to_the_copy_it_reads() {
    let folders = Folders::new(2);
    let database = folders.open();
    let store = store(&database);
    put(&database, store, "a", "1").unwrap();
    drop(database);
    remove(&folders.paths[0]);
    let reader = folders.open();
    let slots = folders.paths[1].join("log/slots-0000000001/000000000000");
    let before = std::fs::read_dir(&slots).unwrap().count();
    assert_eq!(reader.checkpoint().unwrap_err().kind(), ErrorKind::DrivesLost);
    reader.close().unwrap();
    assert_eq!(std::fs::read_dir(&slots).unwrap().count(), before);
}
