//! Vectors in transactions: together or not at all, snapshots, writers side by side.

use std::thread;

use serde_json::json;
use stores::{CancelToken, ErrorCode, Session, TransactionMode, VectorOptions, VectorStore};

use crate::support::*;

#[test]
fn a_transaction_sees_its_own_writes_and_nobody_else_does() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let transaction = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&transaction);
    inside.upsert(cancel, &[item("a", &[1.0, 0.0]), item("b", &[0.0, 1.0])]).unwrap();
    inside.delete(cancel, &["b"]).unwrap();
    assert_eq!(inside.count(cancel).unwrap(), 1);
    assert_eq!(ids(&inside.query(cancel, &query(&[1.0, 1.0], 5)).unwrap()), ["a"]);
    assert_eq!(inside.stats(cancel).unwrap().count, 1);
    assert_eq!(fixture.store().count(cancel).unwrap(), 0);
    assert_eq!(fixture.store().get(cancel, "a").unwrap_err().code(), ErrorCode::ItemNotFound);
    transaction.commit(cancel).unwrap();
    assert_eq!(fixture.store().count(cancel).unwrap(), 1);
    assert_eq!(inside.count(cancel).unwrap_err().code(), ErrorCode::InvalidState);
}

#[test]
fn a_rolled_back_batch_leaves_nothing() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let store = fixture.store();
    store.upsert(cancel, &[item("kept", &[1.0; 6])]).unwrap();
    let transaction = fixture.begin(TransactionMode::ForWriting);
    let inside = store.with_session(Session::In(transaction.clone()));
    inside.upsert(cancel, &clustered(5_000, 6, 1)).unwrap();
    assert_eq!(inside.count(cancel).unwrap(), 5_001);
    transaction.rollback(cancel).unwrap();
    let after = inside.with_session(Session::Auto(fixture.database.clone()));
    assert_eq!(after.stats(cancel).unwrap().centroids.len(), 1);
    after.upsert(cancel, &clustered(4_500, 6, 2)).unwrap();
    assert_eq!(after.count(cancel).unwrap(), 4_501);
    assert_eq!(after.query(cancel, &query(&[1.0; 6], 5_000)).unwrap().len(), 4_501);
}

#[test]
fn readers_keep_their_snapshot() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let store = fixture.store();
    let items = clustered(5_000, 6, 3);
    store.upsert(cancel, &items).unwrap();
    let reader = fixture.begin(TransactionMode::ForReading);
    let snapshot = fixture.store_in(&reader);
    let before = snapshot.query(cancel, &query(&items[0].vector, 20)).unwrap();
    store.upsert(cancel, &[item("item-000000", &[9.0; 6]), item("new", &items[0].vector)]).unwrap();
    store.delete(cancel, &["item-000001"]).unwrap();
    store.optimize(cancel).unwrap();
    let after = snapshot.query(cancel, &query(&items[0].vector, 20)).unwrap();
    assert_eq!(ids(&before), ids(&after));
    assert_eq!(snapshot.count(cancel).unwrap(), 5_000);
    assert_eq!(snapshot.get(cancel, "item-000000").unwrap().vector, items[0].vector);
    assert!(snapshot.get(cancel, "item-000001").is_ok());
    assert_eq!(snapshot.get(cancel, "new").unwrap_err().code(), ErrorCode::ItemNotFound);
    reader.commit(cancel).unwrap();
    assert_eq!(store.count(cancel).unwrap(), 5_000);
    assert_eq!(store.query(cancel, &query(&items[0].vector, 1)).unwrap()[0].id, "new");
}

#[test]
fn readers_create_nothing_and_write_nothing() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    for mode in [TransactionMode::ForReading, TransactionMode::NoCheck] {
        let reader = fixture.begin(mode);
        let inside = fixture.store_in(&reader);
        assert_eq!(inside.count(cancel).unwrap(), 0);
        assert!(inside.query(cancel, &query(&[1.0], 5)).unwrap().is_empty());
        assert_eq!(inside.stats(cancel).unwrap().count, 0);
        for error in [
            inside.upsert(cancel, &[item("a", &[1.0])]).unwrap_err(),
            inside.delete(cancel, &["a"]).unwrap_err(),
            inside.optimize(cancel).unwrap_err(),
        ] {
            assert_eq!(error.code(), ErrorCode::ReadOnlyTransaction);
        }
        assert!(reader.is_active());
        reader.commit(cancel).unwrap();
    }
}

#[test]
fn writers_of_different_items_do_not_conflict() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    for (mode, count) in [(1, 100), (2, 5_000)] {
        let name = format!("mode {mode}");
        let options = VectorOptions { usage_mode: mode, ..VectorOptions::default() };
        let open = |session: Session| VectorStore::open(session, &name, options).unwrap();
        open(Session::Auto(fixture.database.clone())).upsert(cancel, &clustered(count, 4, 5)).unwrap();
        open(Session::Auto(fixture.database.clone())).upsert(cancel, &[pinned("p", &[1.0; 4], 7)]).unwrap();
        let one = fixture.begin(TransactionMode::ForWriting);
        let other = fixture.begin(TransactionMode::ForWriting);
        let in_one = open(Session::In(one.clone()));
        let in_other = open(Session::In(other.clone()));
        in_one.upsert(cancel, &[item("new 1", &[1.0; 4]), pinned("new 2", &[1.0; 4], 7)]).unwrap();
        in_other.upsert(cancel, &[item("new 3", &[1.0; 4]), pinned("new 4", &[1.0; 4], 7)]).unwrap();
        in_one.delete(cancel, &["item-000001"]).unwrap();
        in_other.delete(cancel, &["item-000002"]).unwrap();
        one.commit(cancel).unwrap();
        other.commit(cancel).unwrap();
        let stats = open(Session::Auto(fixture.database.clone())).stats(cancel).unwrap();
        assert_eq!(stats.count, count as u64 + 3);
        assert_eq!(stats.centroids.last().map(|cluster| cluster.count), Some(3));
    }
}

#[test]
fn writers_of_one_item_conflict() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    fixture.store().upsert(cancel, &[item("a", &[1.0]), item("b", &[1.0])]).unwrap();
    let one = fixture.begin(TransactionMode::ForWriting);
    let other = fixture.begin(TransactionMode::ForWriting);
    fixture.store_in(&one).upsert(cancel, &[item("a", &[2.0])]).unwrap();
    fixture.store_in(&other).upsert(cancel, &[item("a", &[3.0]), item("b", &[3.0])]).unwrap();
    one.commit(cancel).unwrap();
    let error = other.commit(cancel).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert_eq!(error.details()["store"], "items");
    assert_eq!(fixture.store().get(cancel, "a").unwrap().vector, [2.0]);
    assert_eq!(fixture.store().get(cancel, "b").unwrap().vector, [1.0]);
}

#[test]
fn a_build_does_not_disturb_writers() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    fixture.store().upsert(cancel, &clustered(5_000, 4, 6)).unwrap();
    let writer = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&writer);
    inside.upsert(cancel, &[item("late", &[1.0; 4]), item("item-000003", &[2.0; 4])]).unwrap();
    inside.delete(cancel, &["item-000004"]).unwrap();
    assert_eq!(inside.query(cancel, &query(&[1.0; 4], 20)).unwrap().len(), 20);
    fixture.store().optimize(cancel).unwrap();
    writer.commit(cancel).unwrap();
    let store = fixture.store();
    assert_eq!(store.count(cancel).unwrap(), 5_000);
    store.optimize(cancel).unwrap();
    assert_eq!(store.query(cancel, &query(&[1.0; 4], 6_000)).unwrap().len(), 5_000);
}

#[test]
fn rows_are_indexed_behind_the_commit_of_a_callers_transaction() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let transaction = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&transaction);
    inside.upsert(cancel, &clustered(1_000, 4, 61)).unwrap();
    assert_eq!(inside.stats(cancel).unwrap().centroids[0].id, 0, "nothing is moved before the commit");
    transaction.commit(cancel).unwrap();
    let stats = fixture.store().stats(cancel).unwrap();
    assert_eq!((stats.centroids.len(), stats.centroids[0].id, stats.centroids[0].count), (1, 1, 1_000));
    let transaction = fixture.begin(TransactionMode::ForWriting);
    fixture.store_in(&transaction).upsert(cancel, &clustered(500, 4, 62)).unwrap();
    transaction.rollback(cancel).unwrap();
    assert_eq!(fixture.store().stats(cancel).unwrap(), stats);
}

#[test]
fn many_threads_write_while_one_optimizes() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let store = fixture.store_in_mode(1);
    store.upsert(cancel, &clustered(4_200, 4, 7)).unwrap();
    thread::scope(|scope| {
        for writer in 0..3 {
            let store = store.with_session(Session::Auto(fixture.database.clone()));
            scope.spawn(move || {
                for index in 0..40 {
                    let id = format!("{writer}-{index}");
                    store.upsert(cancel, &[item(&id, &[writer as f32, index as f32, 1.0, 0.5])]).unwrap();
                    if index % 4 == 0 {
                        store.delete(cancel, &[id]).unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..3 {
                match store.optimize(cancel) {
                    Ok(()) => {}
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        });
    });
    store.optimize(cancel).unwrap();
    let stats = store.stats(cancel).unwrap();
    assert_eq!(stats.count, 4_200 + 90);
    assert_eq!(stats.centroids.iter().map(|cluster| cluster.count).sum::<u64>(), stats.count);
    assert_eq!(store.query(cancel, &query(&[1.0; 4], 10_000)).unwrap().len(), 4_290);
    assert_eq!(store.get(cancel, "2-39").unwrap().vector, [2.0, 39.0, 1.0, 0.5]);
}

#[test]
fn threads_creating_one_store_agree() {
    let fixture = Fixture::new();
    thread::scope(|scope| {
        for writer in 0..4 {
            let store = fixture.store();
            let cancel = &fixture.cancel;
            scope.spawn(move || store.upsert(cancel, &[item(&format!("{writer}"), &[1.0, 2.0])]).unwrap());
        }
    });
    assert_eq!(fixture.store().count(&fixture.cancel).unwrap(), 4);
}

#[test]
fn optimize_inside_a_transaction_saves_what_is_pending() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let transaction = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&transaction);
    let items = clustered(3_000, 6, 8);
    inside.upsert(cancel, &items).unwrap();
    inside.optimize(cancel).unwrap();
    assert_eq!(fixture.store().count(cancel).unwrap(), 3_000, "pending writes are saved");
    assert!(transaction.is_active());
    assert!(inside.stats(cancel).unwrap().centroids.len() > 10);
    assert_eq!(inside.query(cancel, &query(&items[9].vector, 1)).unwrap()[0].id, "item-000009");
    inside.upsert(cancel, &[item_with("later", &[5.0; 6], json!({"late": true}))]).unwrap();
    assert_eq!(fixture.store().count(cancel).unwrap(), 3_000);
    transaction.commit(cancel).unwrap();
    assert_eq!(fixture.store().count(cancel).unwrap(), 3_001);
}

#[test]
fn optimize_inside_a_transaction_survives_other_writers() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    fixture.store().upsert(cancel, &clustered(3_000, 6, 9)).unwrap();
    let transaction = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&transaction);
    inside.upsert(cancel, &[item("inside", &[1.0; 6])]).unwrap();
    fixture.store().upsert(cancel, &[item("outside", &[1.0; 6])]).unwrap();
    inside.optimize(cancel).unwrap();
    assert_eq!(inside.count(cancel).unwrap(), 3_002, "the transaction goes on with a new snapshot");
    transaction.commit(cancel).unwrap();
}

#[test]
fn a_cancelled_call_stores_nothing() {
    let fixture = Fixture::new();
    fixture.store().upsert(&fixture.cancel, &clustered(4_500, 6, 10)).unwrap();
    let before = fixture.store().stats(&fixture.cancel).unwrap();
    let cancelled = CancelToken::new();
    cancelled.cancel();
    let store = fixture.store();
    for error in [
        store.upsert(&cancelled, &[item("a", &[1.0; 6])]).unwrap_err(),
        store.delete(&cancelled, &["item-000001"]).unwrap_err(),
        store.optimize(&cancelled).unwrap_err(),
        store.query(&cancelled, &query(&[1.0; 6], 5)).unwrap_err(),
        store.stats(&cancelled).unwrap_err(),
        store.count(&cancelled).unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::Cancelled);
    }
    assert_eq!(fixture.store().stats(&fixture.cancel).unwrap(), before);
}

#[test]
fn cancelling_stops_a_running_optimize() {
    let fixture = Fixture::new();
    let store = fixture.store();
    store.upsert(&fixture.cancel, &clustered(20_000, 48, 11)).unwrap();
    let cancel = CancelToken::new();
    let result = thread::scope(|scope| {
        let running = scope.spawn(|| store.optimize(&cancel));
        thread::sleep(std::time::Duration::from_millis(20));
        cancel.cancel();
        running.join().unwrap()
    });
    if let Err(error) = result {
        assert_eq!(error.code(), ErrorCode::Cancelled);
    }
    assert_eq!(store.count(&fixture.cancel).unwrap(), 20_000);
    assert_eq!(store.query(&fixture.cancel, &query(&[1.0; 48], 10)).unwrap().len(), 10);
}
