//! Bad input: a typed error, nothing stored, everything usable afterwards.

use serde_json::json;
use stores::{
    ArrayQueryOptions, ErrorCode, QueryOptions, Session, TransactionMode, VectorItem, VectorOptions,
    VectorStore,
};

use crate::support::*;

/// A good item, a bad one, and what the bad one gives.
fn bad_items() -> Vec<(VectorItem, ErrorCode)> {
    vec![
        (item("bad", &[]), ErrorCode::Validation),
        (item("bad", &[1.0, f32::NAN, 0.0]), ErrorCode::Validation),
        (item("bad", &[1.0, f32::INFINITY, 0.0]), ErrorCode::Validation),
        (item("bad", &[1.0, 0.0, f32::NEG_INFINITY]), ErrorCode::Validation),
        (item("bad", &[1.0, 0.0]), ErrorCode::DimensionMismatch),
        (item("bad", &[1.0, 0.0, 0.0, 0.0]), ErrorCode::DimensionMismatch),
        (item("", &[1.0, 0.0, 0.0]), ErrorCode::Validation),
        (item(&"x".repeat(1_025), &[1.0, 0.0, 0.0]), ErrorCode::Validation),
    ]
}

#[test]
fn a_bad_item_keeps_its_batch_out() {
    let fixture = Fixture::new();
    let store = fixture.store();
    for (bad, code) in bad_items() {
        let batch = [item("good", &[1.0, 2.0, 3.0]), bad, item("good too", &[1.0, 2.0, 3.0])];
        let error = store.upsert(&fixture.cancel, &batch).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(store.count(&fixture.cancel).unwrap(), 0);
        assert_eq!(store.stats(&fixture.cancel).unwrap().dimension, 0);
    }
    store.upsert(&fixture.cancel, &[item("good", &[1.0, 2.0, 3.0])]).unwrap();
    for (bad, code) in bad_items() {
        assert_eq!(store.upsert(&fixture.cancel, &[bad]).unwrap_err().code(), code);
    }
    assert_eq!(store.count(&fixture.cancel).unwrap(), 1);
}

#[test]
fn a_bad_item_leaves_the_transaction_as_it_was() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let transaction = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&transaction);
    inside.upsert(cancel, &[item("good", &[1.0, 2.0, 3.0])]).unwrap();
    for (bad, code) in bad_items() {
        assert_eq!(inside.upsert(cancel, &[item("lost", &[1.0, 2.0, 3.0]), bad]).unwrap_err().code(), code);
    }
    let mismatch = inside.upsert(cancel, &[item("lost", &[1.0])]).unwrap_err();
    assert_eq!(mismatch.details()["expected"], 3);
    assert_eq!(mismatch.details()["found"], 1);
    assert!(transaction.is_active());
    transaction.commit(cancel).unwrap();
    assert_eq!(fixture.store().count(cancel).unwrap(), 1);
}

#[test]
fn the_dimension_stays_when_all_rows_are_gone() {
    let fixture = Fixture::new();
    let store = fixture.store();
    store.upsert(&fixture.cancel, &[item("a", &[1.0, 2.0])]).unwrap();
    store.delete(&fixture.cancel, &["a"]).unwrap();
    let error = store.upsert(&fixture.cancel, &[item("a", &[1.0])]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DimensionMismatch);
}

#[test]
fn bad_arrays_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cancel = &fixture.cancel;
    let names = ["a".to_owned(), "b".to_owned()];
    let code = |result: stores::Result<()>| result.unwrap_err().code();
    assert_eq!(code(store.upsert_arrays(cancel, &names, 0, &[], None)), ErrorCode::Validation);
    assert_eq!(code(store.upsert_arrays(cancel, &names, 2, &[1.0; 3], None)), ErrorCode::Validation);
    assert_eq!(code(store.upsert_arrays(cancel, &names, usize::MAX, &[1.0; 3], None)), ErrorCode::Validation);
    assert_eq!(code(store.upsert_arrays(cancel, &[], 2, &[1.0; 2], None)), ErrorCode::Validation);
    let short = Some(vec![raw(&json!(1))]);
    assert_eq!(code(store.upsert_arrays(cancel, &names, 2, &[1.0; 4], short)), ErrorCode::Validation);
    assert_eq!(
        code(store.upsert_arrays(cancel, &names, 2, &[1.0, 1.0, f32::NAN, 1.0], None)),
        ErrorCode::Validation
    );
    store.upsert_arrays(cancel, &names, 2, &[1.0; 4], None).unwrap();
    assert_eq!(code(store.upsert_arrays(cancel, &names, 1, &[1.0; 2], None)), ErrorCode::DimensionMismatch);
}

#[test]
fn bad_queries_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let code = |options: QueryOptions| store.query(&fixture.cancel, &options).unwrap_err().code();
    for round in 0..2 {
        assert_eq!(code(query(&[], 5)), ErrorCode::Validation);
        assert_eq!(code(query(&[1.0, f32::NAN], 5)), ErrorCode::Validation);
        assert_eq!(code(query(&[f32::INFINITY, 1.0], 5)), ErrorCode::Validation);
        for filter in [json!([]), json!("a"), json!(1), json!(true)] {
            assert_eq!(
                code(QueryOptions { filter: Some(filter), ..query(&[1.0, 1.0], 5) }),
                ErrorCode::Filter
            );
        }
        for ids in [vec![0], vec![1, -1]] {
            let options = QueryOptions { centroid_ids: Some(ids), ..query(&[1.0, 1.0], 5) };
            assert_eq!(code(options), ErrorCode::Validation);
        }
        if round == 0 {
            store.upsert(&fixture.cancel, &[item("a", &[1.0, 2.0])]).unwrap();
        }
    }
    assert_eq!(code(query(&[1.0], 5)), ErrorCode::DimensionMismatch);
    assert_eq!(code(query(&[1.0, 2.0, 3.0], 5)), ErrorCode::DimensionMismatch);
}

#[test]
fn bad_query_arrays_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.store();
    store.upsert(&fixture.cancel, &[item("a", &[1.0, 2.0])]).unwrap();
    let options = ArrayQueryOptions::default();
    let code = |dimension: usize, queries: &[f32], k: i64, options: &ArrayQueryOptions| {
        store.query_arrays(&fixture.cancel, dimension, queries, k, options).unwrap_err().code()
    };
    assert_eq!(code(0, &[], 5, &options), ErrorCode::Validation);
    assert_eq!(code(2, &[1.0; 3], 5, &options), ErrorCode::Validation);
    assert_eq!(code(2, &[1.0, f32::NAN], 5, &options), ErrorCode::Validation);
    assert_eq!(code(3, &[1.0; 3], 5, &options), ErrorCode::DimensionMismatch);
    assert_eq!(code(2, &[1.0; 4], i64::MAX, &options), ErrorCode::Validation);
    let filter = ArrayQueryOptions { filter: Some(json!(1)), ..options };
    assert_eq!(code(2, &[1.0; 4], 1, &filter), ErrorCode::Filter);
}

#[test]
fn bad_options_are_refused() {
    let fixture = Fixture::new();
    let open = |name: &str, usage_mode: i32, content_size: i32| {
        let session = Session::Auto(fixture.database.clone());
        VectorStore::open(
            session,
            name,
            VectorOptions { usage_mode, content_size, ..VectorOptions::default() },
        )
        .map(|_| ())
    };
    assert!(open("x", 0, 0).is_ok());
    for (name, usage_mode, content_size) in
        [("x", 3, 0), ("x", -1, 0), ("x", 0, 3), ("", 0, 0), ("a\n", 0, 0)]
    {
        assert_eq!(open(name, usage_mode, content_size).unwrap_err().code(), ErrorCode::Validation);
    }
}
