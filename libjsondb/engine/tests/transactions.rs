//! What transactions promise: atomic, isolated, conflicts by key, no false conflicts.

#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::Bound;

use engine::{CancelToken, Database, Direction, ErrorKind, Mode, Options, Placement, StoreId, Transaction};

fn open(folder: &tempfile::TempDir) -> Database {
    Database::open(folder.path(), &Options::default()).unwrap()
}

fn put(transaction: &mut Transaction, store: StoreId, key: &str, value: &str) {
    transaction.put(store, key.as_bytes(), value.as_bytes(), Placement::Auto).unwrap();
}

fn get(transaction: &mut Transaction, store: StoreId, key: &str) -> Option<String> {
    let value = transaction.get(store, key.as_bytes()).unwrap()?;
    Some(String::from_utf8(transaction.load(&value).unwrap()).unwrap())
}

fn keys(transaction: &mut Transaction, store: StoreId) -> Vec<String> {
    let entries =
        transaction.scan(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1000).unwrap();
    entries.into_iter().map(|entry| String::from_utf8(entry.key).unwrap()).collect()
}

/// A database with one store "s" that holds a=1, b=2, c=3.
fn sample(folder: &tempfile::TempDir) -> (Database, StoreId) {
    let database = open(folder);
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"options").unwrap();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        put(&mut transaction, store, key, value);
    }
    transaction.commit().unwrap();
    (database, store)
}

#[test]
fn a_commit_is_seen_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    database.close().unwrap();
    let mut transaction = open(&folder).begin(Mode::Read).unwrap();
    assert_eq!(transaction.store("s").unwrap(), Some((store, b"options".to_vec())));
    assert_eq!(keys(&mut transaction, store), ["a", "b", "c"]);
    assert_eq!(get(&mut transaction, store, "b").as_deref(), Some("2"));
}

#[test]
fn a_dropped_transaction_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let mut transaction = database.begin(Mode::Write).unwrap();
    put(&mut transaction, store, "d", "4");
    transaction.put(store, b"big", &vec![1; 1 << 20], Placement::Eager).unwrap();
    assert_eq!(get(&mut transaction, store, "d").as_deref(), Some("4"));
    drop(transaction);
    assert_eq!(keys(&mut database.begin(Mode::Read).unwrap(), store), ["a", "b", "c"]);
    let segments = std::fs::read_dir(folder.path().join("seg")).unwrap().count();
    assert_eq!(segments, 0, "the value segment of the rolled back transaction is removed");
}

#[test]
fn an_upsert_tells_whether_the_key_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let mut transaction = database.begin(Mode::Write).unwrap();
    let mut upsert = |key: &[u8]| transaction.upsert(store, key, b"new", Placement::Auto).unwrap();
    assert_eq!([upsert(b"a"), upsert(b"d"), upsert(b"d")], [false, true, false]);
    transaction.delete(store, b"b").unwrap();
    assert!(transaction.upsert(store, b"b", b"again", Placement::Auto).unwrap());
    transaction.commit().unwrap();
    assert_eq!(keys(&mut database.begin(Mode::Read).unwrap(), store), ["a", "b", "c", "d"]);
}

#[test]
fn a_gap_that_many_keys_went_into_ends_where_keys_are() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let mut before = database.begin(Mode::Write).unwrap();
    let store = before.ensure_store("s", b"").unwrap();
    let other = before.ensure_store("t", b"").unwrap();
    for key in 0..20u32 {
        before.put(store, &(key * 100).to_be_bytes(), b"old", Placement::Auto).unwrap();
        before.put(other, &(key * 100 + 50).to_be_bytes(), b"old", Placement::Auto).unwrap();
    }
    before.commit().unwrap();
    database.checkpoint().unwrap();
    let mut before = database.begin(Mode::Write).unwrap();
    before.put(store, &77u32.to_be_bytes(), b"newer", Placement::Auto).unwrap();
    before.commit().unwrap();

    for descending in [false, true] {
        let mut transaction = database.begin(Mode::Write).unwrap();
        for mut key in 0..2500 {
            if descending {
                key = 2499 - key;
            }
            let is_old = |offset: u32| key % 100 == offset && key < 2000;
            let bytes = key.to_be_bytes();
            let was_new = transaction.upsert(store, &bytes, b"new", Placement::Auto).unwrap();
            assert_eq!(was_new, !is_old(0) && key != 77, "{key}");
            assert_eq!(transaction.remove(other, &bytes).unwrap(), is_old(50), "{key}");
        }
    }
}

#[test]
fn an_upsert_that_may_not_wait_leaves_large_values_and_full_write_sets() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let mut transaction = database.begin(Mode::Write).unwrap();
    assert_eq!(transaction.try_upsert(store, b"big", &vec![1; 1 << 20]).unwrap(), None);
    assert!(!transaction.has_writes());
    let value = vec![1; 60 << 10];
    let room = Options::default().write_set_bytes / value.len() as u64;
    let made = (0..2 * room).map(|key| transaction.try_upsert(store, &key.to_be_bytes(), &value).unwrap());
    let made: Vec<_> = made.collect();
    assert_eq!(made[0], Some(true));
    let first_refused = made.iter().position(Option::is_none).unwrap() as u64;
    assert!((1..=room).contains(&first_refused));
    assert!(made[first_refused as usize..].iter().all(Option::is_none));
}

#[test]
fn a_snapshot_does_not_move() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let mut reader = database.begin(Mode::Read).unwrap();
    let mut writer = database.begin(Mode::Write).unwrap();
    put(&mut writer, store, "a", "changed");
    writer.delete(store, b"b").unwrap();
    put(&mut writer, store, "d", "4");
    writer.commit().unwrap();
    database.checkpoint().unwrap();
    assert_eq!(keys(&mut reader, store), ["a", "b", "c"]);
    assert_eq!(get(&mut reader, store, "a").as_deref(), Some("1"));
    assert_eq!(keys(&mut database.begin(Mode::Read).unwrap(), store), ["a", "c", "d"]);
}

/// Runs `first` and `second` in two transactions that overlap; `first` commits first. Gives the second one's outcome.
fn race(
    first: impl Fn(&mut Transaction, StoreId),
    second: impl Fn(&mut Transaction, StoreId),
) -> Result<(), ErrorKind> {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let mut slow = database.begin(Mode::Write).unwrap();
    let mut fast = database.begin(Mode::Write).unwrap();
    second(&mut slow, store);
    first(&mut fast, store);
    fast.commit().unwrap();
    slow.commit().map(drop).map_err(|error| error.kind())
}

#[test]
fn the_conflict_matrix() {
    let write = |key: &'static str| move |t: &mut Transaction, s: StoreId| put(t, s, key, "new");
    let conflict = Err(ErrorKind::Conflict);
    assert_eq!(race(write("a"), write("a")), conflict, "write and write");
    assert_eq!(race(write("a"), write("b")), Ok(()), "different keys");
    let read_then_write = |t: &mut Transaction, s: StoreId| {
        get(t, s, "a");
        put(t, s, "z", "1");
    };
    assert_eq!(race(write("a"), read_then_write), conflict, "read key (write skew)");
    assert_eq!(race(write("b"), read_then_write), Ok(()), "another key than the one read");
    let miss_then_write = |t: &mut Transaction, s: StoreId| {
        assert_eq!(get(t, s, "x"), None);
        put(t, s, "z", "1");
    };
    assert_eq!(race(write("x"), miss_then_write), conflict, "a miss counts as read");
    let scan_then_write = |t: &mut Transaction, s: StoreId| {
        let end = Bound::Excluded(&b"c"[..]);
        t.scan(s, Bound::Included(b"a"), end, Direction::Forward, 100).unwrap();
        put(t, s, "z", "1");
    };
    assert_eq!(race(write("aa"), scan_then_write), conflict, "a phantom inside a scanned range");
    assert_eq!(race(write("c"), scan_then_write), Ok(()), "the excluded end of a range");
    assert_eq!(race(write("d"), scan_then_write), Ok(()), "behind the range");
    let first_then_write = |t: &mut Transaction, s: StoreId| {
        let found = t.scan(s, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1).unwrap();
        assert_eq!(found[0].key, b"a");
        put(t, s, "z", "1");
    };
    assert_eq!(race(write("0"), first_then_write), conflict, "a new first key");
    assert_eq!(race(write("b"), first_then_write), Ok(()), "behind where the scan stopped");
    let last_then_write = |t: &mut Transaction, s: StoreId| {
        t.scan(s, Bound::Unbounded, Bound::Unbounded, Direction::Backward, 1).unwrap();
        put(t, s, "a0", "1");
    };
    assert_eq!(race(write("z"), last_then_write), conflict, "a new last key");
    assert_eq!(race(write("b"), last_then_write), Ok(()), "before where the scan stopped");
    let delete = |t: &mut Transaction, s: StoreId| t.delete(s, b"a").unwrap();
    assert_eq!(race(delete, read_then_write), conflict, "a delete is a write");
    let count = |t: &mut Transaction, s: StoreId| t.add_to_counter(s, b"n", 1).unwrap();
    assert_eq!(race(count, count), Ok(()), "counters add up");
    let drop_store = |t: &mut Transaction, _: StoreId| assert!(t.drop_store("s").unwrap());
    let open_then_write = |t: &mut Transaction, s: StoreId| {
        t.store("s").unwrap();
        put(t, s, "new", "1");
    };
    assert_eq!(race(drop_store, open_then_write), conflict, "a store dropped under a writer");
}

#[test]
fn a_conflict_names_store_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let mut slow = database.begin(Mode::Write).unwrap();
    put(&mut slow, store, "a", "slow");
    let mut fast = database.begin(Mode::Write).unwrap();
    put(&mut fast, store, "a", "fast");
    fast.commit().unwrap();
    let error = slow.commit().unwrap_err();
    let at = error.conflict_at().unwrap();
    assert_eq!((at.store.as_str(), at.key.as_slice()), ("s", &b"a"[..]));
    assert!(error.is_retryable());
    assert_eq!(get(&mut database.begin(Mode::Read).unwrap(), store, "a").as_deref(), Some("fast"));
}

#[test]
fn two_transactions_may_create_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let mut transactions: Vec<Transaction> = (0..3).map(|_| database.begin(Mode::Write).unwrap()).collect();
    for (index, transaction) in transactions.iter_mut().enumerate() {
        let metadata: &[u8] = if index == 2 { b"other" } else { b"same" };
        // Having looked for it does not make the creation of another one a conflict.
        assert_eq!(transaction.store("s").unwrap(), None);
        let store = transaction.ensure_store("s", metadata).unwrap();
        put(transaction, store, &index.to_string(), "x");
    }
    let outcomes: Vec<_> =
        transactions.into_iter().map(|t| t.commit().map(drop).map_err(|error| error.kind())).collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(ErrorKind::Conflict)]);
    let mut transaction = database.begin(Mode::Write).unwrap();
    let error = transaction.ensure_store("s", b"other").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    let (store, _) = transaction.store("s").unwrap().unwrap();
    assert_eq!(keys(&mut transaction, store), ["0", "1"]);
    assert_eq!(transaction.store_names("").unwrap(), ["s"]);
}

#[test]
fn a_dropped_store_comes_back_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    for checkpoint in [false, true] {
        let mut transaction = database.begin(Mode::Write).unwrap();
        transaction.add_to_counter(store, b"n", 3).unwrap();
        transaction.commit().unwrap();
        if checkpoint {
            database.checkpoint().unwrap();
        }
        let mut transaction = database.begin(Mode::Write).unwrap();
        assert!(transaction.drop_store("s").unwrap());
        assert!(!transaction.drop_store("s").unwrap());
        transaction.ensure_store("s", b"new").unwrap();
        transaction.commit().unwrap();
        let mut transaction = database.begin(Mode::Read).unwrap();
        assert_eq!(transaction.store("s").unwrap(), Some((store, b"new".to_vec())));
        assert_eq!(keys(&mut transaction, store), Vec::<String>::new());
        assert_eq!(transaction.counter(store, b"n").unwrap(), 0);
    }
}

#[test]
fn refusals_are_typed() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let kind = |result: engine::Result<()>| result.unwrap_err().kind();
    let mut reader = database.begin(Mode::Read).unwrap();
    let put_one = |t: &mut Transaction, key: &[u8], value: &[u8]| t.put(store, key, value, Placement::Auto);
    assert_eq!(kind(put_one(&mut reader, b"a", b"1")), ErrorKind::ReadOnlyTransaction);
    assert_eq!(kind(reader.delete(store, b"a")), ErrorKind::ReadOnlyTransaction);
    assert_eq!(kind(reader.ensure_store("new", b"").map(drop)), ErrorKind::ReadOnlyTransaction);
    let mut writer = database.begin(Mode::Write).unwrap();
    assert_eq!(kind(put_one(&mut writer, &[0; 20_000], b"1")), ErrorKind::Invalid);
    assert_eq!(kind(writer.ensure_store("", b"").map(drop)), ErrorKind::Invalid);
    let cancel = CancelToken::new();
    writer.set_cancel(&cancel);
    put_one(&mut writer, b"a", b"1").unwrap();
    cancel.cancel();
    assert_eq!(kind(writer.commit().map(drop)), ErrorKind::Cancelled);
    let mut late = database.begin(Mode::Write).unwrap();
    put_one(&mut late, b"a", b"1").unwrap();
    late.set_deadline(Some(std::time::Instant::now()));
    assert_eq!(kind(late.commit().map(drop)), ErrorKind::Timeout);
    let mut open = database.begin(Mode::Write).unwrap();
    database.close().unwrap();
    assert_eq!(kind(put_one(&mut open, b"a", b"1")), ErrorKind::Closed);
    assert_eq!(kind(open.get(store, b"a").map(drop)), ErrorKind::Closed);
    assert_eq!(kind(database.begin(Mode::Read).map(drop)), ErrorKind::Closed);
}

#[test]
fn a_folder_made_anew_is_another_database() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("db");
    for _ in 0..2 {
        let database = Database::open(&path, &Options::default()).unwrap();
        let mut transaction = database.begin(Mode::Write).unwrap();
        assert_eq!(transaction.store("s").unwrap(), None);
        transaction.ensure_store("s", b"").unwrap();
        transaction.commit().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_commit_into_a_folder_that_was_removed_is_not_acknowledged() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("new").join("db");
    let database = Database::open(&path, &Options::default()).unwrap();
    let mut transaction = database.begin(Mode::Write).unwrap();
    transaction.ensure_store("s", b"").unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let error = transaction.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let database = Database::open(&path, &Options::default()).unwrap();
    assert_eq!(database.begin(Mode::Read).unwrap().store("s").unwrap(), None);
}

#[test]
fn threads_on_disjoint_keys_never_conflict_and_counters_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: 64 << 10, ..Options::default() };
    let database = Database::open(folder.path(), &options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let database = &database;
            scope.spawn(move || {
                for index in 0..200 {
                    let mut transaction = database.begin(Mode::Write).unwrap();
                    let store = transaction.ensure_store("s", b"").unwrap();
                    put(&mut transaction, store, &format!("{thread}-{index:04}"), &"x".repeat(100));
                    transaction.add_to_counter(store, b"n", 1).unwrap();
                    transaction.commit().unwrap();
                }
            });
        }
    });
    let mut transaction = database.begin(Mode::Read).unwrap();
    let (store, _) = transaction.store("s").unwrap().unwrap();
    let mut count = 0;
    transaction
        .visit(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, &mut |_, _| {
            count += 1;
            Ok(true)
        })
        .unwrap();
    assert_eq!((count, transaction.counter(store, b"n").unwrap()), (1600, 1600));
}

#[test]
fn a_hot_key_loses_no_update() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let database = &database;
            scope.spawn(move || {
                let mut done = 0;
                while done < 100 {
                    let mut transaction = database.begin(Mode::Write).unwrap();
                    let store = transaction.ensure_store("s", b"").unwrap();
                    let old: u64 = get(&mut transaction, store, "n").map_or(0, |text| text.parse().unwrap());
                    put(&mut transaction, store, "n", &(old + 1).to_string());
                    match transaction.commit() {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                    }
                }
            });
        }
    });
    let mut transaction = database.begin(Mode::Read).unwrap();
    let (store, _) = transaction.store("s").unwrap().unwrap();
    assert_eq!(get(&mut transaction, store, "n").as_deref(), Some("400"));
}

#[test]
fn what_is_read_untracked_may_change_until_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (database, store) = sample(&folder);
    let change = |key: &str| {
        let mut other = database.begin(Mode::Write).unwrap();
        put(&mut other, store, key, "new");
        other.commit().unwrap();
    };
    let mut first = database.begin(Mode::Write).unwrap();
    assert!(first.untracked(|t| get(t, store, "a")).is_some());
    assert_eq!(first.untracked(|t| keys(t, store)).len(), 3);
    put(&mut first, store, "mine", "1");
    change("a");
    first.commit().unwrap();
    let mut second = database.begin(Mode::Write).unwrap();
    assert!(second.untracked(|t| get(t, store, "a")).is_some());
    assert!(get(&mut second, store, "b").is_some());
    put(&mut second, store, "mine", "2");
    change("b");
    assert_eq!(second.commit().unwrap_err().kind(), ErrorKind::Conflict, "reads count again afterwards");
}

#[test]
fn a_part_of_a_value_is_the_same_wherever_the_value_lies() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let plain: Vec<u8> = (0..50_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let packed = vec![7; 50_000];
    let places = [(0, 10), (49_990, 10), (49_990, 100), (50_000, 1), (90_000, 1), (0, usize::MAX), (5, 0)];
    let check = |t: &mut Transaction, store| {
        let mut part = Vec::new();
        for (key, value) in [("plain", &plain), ("packed", &packed)] {
            for (offset, len) in places {
                let end = value.len().min(usize::saturating_add(offset, len));
                let found = t.get_part(store, key.as_bytes(), offset, len, &mut part).unwrap().unwrap();
                assert_eq!(found.value_len, value.len());
                assert!(part == value[offset.min(end)..end], "{key} {offset} {len}");
                if let Some(place) = found.place {
                    assert_eq!(t.get_part_at(place, offset, len, &mut part).unwrap(), found);
                    assert!(part == value[offset.min(end)..end], "{key} {offset} {len}");
                }
            }
        }
        assert_eq!(t.get_part(store, b"none", 0, 1, &mut part).unwrap(), None);
        assert!(part.is_empty());
    };
    let mut t = database.begin(Mode::Write).unwrap();
    let store = t.ensure_store("s", b"").unwrap();
    t.put(store, b"plain", &plain, Placement::Auto).unwrap();
    t.put(store, b"packed", &packed, Placement::Eager).unwrap();
    check(&mut t, store);
    t.commit().unwrap();
    check(&mut database.begin(Mode::Read).unwrap(), store);
    database.checkpoint().unwrap();
    check(&mut database.begin(Mode::Read).unwrap(), store);
}
