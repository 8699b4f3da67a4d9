//! Commit, rollback, conflicts, time limits, cancelling.

use std::thread;
use std::time::Duration;

use serde_json::json;
use stores::{Error, ErrorCode, RangeQuery, Transaction, WriteOp};

use crate::fixture::{Fixture, Store, database, detail, duplicates, indexed, raw, token, unique};

fn commit(transaction: &Transaction) -> Result<(), Error> {
    transaction.commit(&token())
}

#[test]
fn writes_are_seen_inside_and_after_commit_outside() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);
    let transaction = fixture.write();
    let store = Store::open(&transaction, "users");
    let before = fixture.read();
    assert!(store.add("2", "2"));
    assert_eq!(store.count(), 2);
    commit(&transaction).unwrap();
    assert_eq!(Store::open(&before, "users").all_keys(), ["1"]);
    assert_eq!(Store::open(&before, "users").count(), 1);
    assert_eq!(Store::open(&fixture.read(), "users").all_keys(), ["1", "2"]);
}

#[test]
fn rollback_and_drop_leave_nothing() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);
    let transaction = fixture.write();
    Store::open(&transaction, "users").add("2", "2");
    transaction.rollback(&token()).unwrap();
    Store::open(&fixture.write(), "users").add("3", "3");
    assert_eq!(Store::open(&fixture.read(), "users").all_keys(), ["1"]);
}

#[test]
fn an_ended_transaction_says_how_it_ended() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let store = Store::create(&transaction, unique("users"));
    assert!(transaction.is_active());
    commit(&transaction).unwrap();
    assert!(!transaction.is_active());
    let text = "transaction was already committed; begin a new one";
    for error in [
        commit(&transaction).unwrap_err(),
        transaction.rollback(&token()).unwrap_err(),
        store.try_write(WriteOp::Add, &[("1", "1")]).unwrap_err(),
        store.0.count(&token()).unwrap_err(),
    ] {
        assert_eq!((error.code(), error.message()), (ErrorCode::InvalidState, text));
    }
    let transaction = fixture.write();
    transaction.rollback(&token()).unwrap();
    let error = commit(&transaction).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);
    assert!(error.message().contains("already rolled back"));
}

#[test]
fn the_loser_of_a_conflict_learns_store_and_key() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["\"alice\""]);
    let (winner, loser) = (fixture.write(), fixture.write());
    assert!(Store::open(&winner, "users").update("\"alice\"", "1"));
    assert!(Store::open(&loser, "users").update("\"alice\"", "2"));
    commit(&winner).unwrap();
    let error = commit(&loser).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(error.is_retryable());
    assert_eq!(detail(&error, "store"), "users");
    assert_eq!(detail(&error, "key"), "alice");
    assert!(error.message().contains("\"users\"") && error.message().contains("\"alice\""));
    assert!(!loser.is_active());
    assert_eq!(commit(&loser).unwrap_err().code(), ErrorCode::InvalidState);
    assert_eq!(Store::open(&fixture.read(), "users").value("\"alice\"").unwrap(), "1");
}

#[test]
fn conflicts_name_object_keys_and_duplicates_too() {
    let fixture = Fixture::new();
    fixture.commit_keys(indexed("teams"), &[r#"{"region": "eu", "rank": 1, "note": "x"}"#]);
    fixture.commit_keys(duplicates("log"), &["[1, 2.5]"]);
    for (name, key, expected) in [
        ("teams", r#"{"region": "eu", "rank": 1}"#, json!({"region": "eu", "rank": 1})),
        ("log", "[1, 2.5]", json!([1, 2.5])),
    ] {
        let (winner, loser) = (fixture.write(), fixture.write());
        assert!(Store::open(&winner, name).update(key, "1"));
        assert!(Store::open(&loser, name).update(key, "2"));
        commit(&winner).unwrap();
        let error = commit(&loser).unwrap_err();
        assert_eq!(detail(&error, "store"), name);
        assert_eq!(detail(&error, "key"), &expected);
    }
}

#[test]
fn different_items_never_conflict_and_counts_add_up() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1", "2", "3"]);
    let transactions: Vec<_> = (0..10).map(|_| fixture.write()).collect();
    for (index, transaction) in transactions.iter().enumerate() {
        let store = Store::open(transaction, "users");
        assert_eq!(store.count(), 3);
        assert!(store.add(&format!("{}", 100 + index), "0"));
        assert!(index >= 3 || store.update(&format!("{}", index + 1), "0"));
    }
    for transaction in &transactions {
        commit(transaction).unwrap();
    }
    assert_eq!(Store::open(&fixture.read(), "users").count(), 13);
}

#[test]
fn duplicates_of_one_key_added_by_two_both_stay() {
    let fixture = Fixture::new();
    fixture.commit_keys(duplicates("log"), &[]);
    let (one, other) = (fixture.write(), fixture.write());
    assert!(Store::open(&one, "log").add("1", "1"));
    assert!(Store::open(&other, "log").add("1", "2"));
    commit(&one).unwrap();
    commit(&other).unwrap();
    assert_eq!(Store::open(&fixture.read(), "log").count(), 2);
}

#[test]
fn a_unique_key_added_by_two_is_a_conflict() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &[]);
    let (one, other) = (fixture.write(), fixture.write());
    assert!(Store::open(&one, "users").add("1", "1"));
    assert!(Store::open(&other, "users").add("1", "2"));
    commit(&one).unwrap();
    assert_eq!(commit(&other).unwrap_err().code(), ErrorCode::Conflict);
}

#[test]
fn a_find_that_missed_and_a_range_count_as_read() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["10", "20", "30", "40"]);
    // What the reader looks at, a key written meanwhile, and whether that is a conflict.
    type Look = fn(&Store);
    let find: Look = |store| assert!(!store.find("25"));
    let hit: Look = |store| assert!(store.find("20"));
    let range: Look = |store| {
        let (start, stop) = (raw("15"), raw("35"));
        let query = RangeQuery { start: Some(&start), stop: Some(&stop), ..Default::default() };
        assert_eq!(store.0.range(&token(), &query, 10, false).unwrap().items.len(), 2);
    };
    for (look, key, conflicts) in [
        (find, "25", true),
        (find, "27", true),
        (find, "35", false),
        (hit, "20", true),
        (hit, "21", false),
        (hit, "10", false),
        (range, "16", true),
        (range, "40", false),
    ] {
        let (reader, writer) = (fixture.write(), fixture.write());
        let store = Store::open(&reader, "users");
        look(&store);
        assert!(store.upsert("\"mark\"", "0"));
        assert!(Store::open(&writer, "users").upsert(key, "1"));
        commit(&writer).unwrap();
        let result = commit(&reader);
        assert_eq!(result.is_err(), conflicts, "{key}");
        // Back to the four keys.
        let cleaner = fixture.write();
        let store = Store::open(&cleaner, "users");
        for extra in ["25", "27", "35", "21", "16", "\"mark\""] {
            store.remove(&[extra]);
        }
        commit(&cleaner).unwrap();
    }
}

#[test]
fn readers_never_conflict() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);
    let reader = fixture.read();
    assert!(Store::open(&reader, "users").find("1"));
    let writer = fixture.write();
    Store::open(&writer, "users").update("1", "2");
    commit(&writer).unwrap();
    commit(&reader).unwrap();
}

#[test]
fn a_cancelled_token_stops_calls_and_ends_nothing_by_itself() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let store = Store::create(&transaction, unique("users"));
    let cancelled = token();
    cancelled.cancel();
    let error = store.0.find(&cancelled, &raw("1")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled);
    assert!(!error.is_retryable());
    assert!(transaction.is_active());
    assert_eq!(transaction.commit(&cancelled).unwrap_err().code(), ErrorCode::Cancelled);
    assert!(!transaction.is_active());
    assert!(fixture.database.begin(transaction.mode(), stores::DEFAULT_MAX_TIME, &cancelled).is_err());

    let transaction = fixture.write();
    transaction.rollback(&cancelled).unwrap();
}

#[test]
fn a_transaction_older_than_its_time_is_refused() {
    let fixture = Fixture::new();
    let mode = fixture.write().mode();
    let transaction = fixture.database.begin(mode, Duration::from_millis(20), &token()).unwrap();
    Store::create(&transaction, unique("users"));
    thread::sleep(Duration::from_millis(40));
    let error = commit(&transaction).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
    assert!(error.is_retryable() && !transaction.is_active());
}

#[test]
fn a_copied_handle_of_one_folder_sees_commits_of_another() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);
    let other = database(&fixture.folder);
    let transaction = other.begin(fixture.read().mode(), Duration::ZERO, &token()).unwrap();
    assert_eq!(Store::open(&transaction, "users").count(), 1);
}

#[test]
fn closing_one_database_leaves_others_on_the_folder_alone() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);
    let other = database(&fixture.folder);
    let begin = |database: &std::sync::Arc<stores::Database>| {
        database.begin(stores::TransactionMode::ForWriting, Duration::ZERO, &token())
    };
    let transaction = begin(&other).unwrap();
    fixture.database.close().unwrap();
    fixture.database.close().unwrap();
    assert_eq!(begin(&fixture.database).err().unwrap().code(), ErrorCode::Closed);
    assert!(Store::open(&transaction, "users").add("2", "2"));
    commit(&transaction).unwrap();

    let transaction = begin(&other).unwrap();
    let store = Store::open(&transaction, "users");
    other.close().unwrap();
    assert_eq!(store.try_write(WriteOp::Add, &[("3", "3")]).unwrap_err().code(), ErrorCode::Closed);
    assert!(!transaction.is_active());
    let again = database(&fixture.folder);
    assert_eq!(Store::open(&begin(&again).unwrap(), "users").count(), 2);
}

#[test]
fn threads_may_share_a_transaction() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let store = Store::create(&transaction, unique("users"));
    thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for key in 0..50 {
                    assert!(store.add(&(thread * 100 + key).to_string(), "0"));
                }
            });
        }
    });
    assert_eq!(store.count(), 200);
    commit(&transaction).unwrap();
    assert_eq!(Store::open(&fixture.read(), "users").all_keys().len(), 200);
}
