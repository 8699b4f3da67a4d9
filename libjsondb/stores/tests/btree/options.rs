//! Creating and opening stores.

use std::sync::Barrier;
use std::thread;

use serde_json::json;
use stores::{Btree, BtreeOptions, ErrorCode, TransactionMode};

use crate::fixture::{Fixture, Store, detail, duplicates, indexed, token, unique};

#[test]
fn equal_options_open_the_existing_store() {
    let fixture = Fixture::new();
    fixture.commit_keys(BtreeOptions { description: "first".into(), ..unique("users") }, &["1"]);

    let transaction = fixture.write();
    let again = BtreeOptions { description: "other".into(), slot_length: 500, ..unique("users") };
    let store = Store::create(&transaction, again);
    assert_eq!(store.count(), 1);
    assert_eq!(store.0.options().description, "first");
    assert!(store.0.is_unique());
}

#[test]
fn options_come_back_as_they_were_given() {
    let fixture = Fixture::new();
    let cache_config =
        serde_json::from_value(json!({"registry_cache_duration": 10, "is_node_cache_ttl": true}));
    let options = BtreeOptions {
        slot_length: 21,
        leaf_load_balancing: true,
        cache_config: Some(cache_config.unwrap()),
        ..indexed("orders")
    };
    fixture.commit_keys(options.clone(), &[]);

    let stored = Store::open(&fixture.read(), "orders").0.options();
    let index_specification = stored.index_specification.clone();
    assert_eq!(stored, BtreeOptions { index_specification, ..options });
    let fields = r#"{"index_fields":[{"field_name":"region","ascending_sort_order":true},"#;
    assert!(stored.index_specification.starts_with(fields));
}

#[test]
fn other_options_are_an_error_that_names_them() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);

    let transaction = fixture.write();
    let other = BtreeOptions { slot_length: 20, ..duplicates("users") };
    let error = Btree::create_or_open(&token(), &transaction, other).err().unwrap();
    assert_eq!(error.code(), ErrorCode::StoreExists);
    assert!(error.message().contains("exists with a different configuration, open it with Btree.open"));
    assert_eq!(detail(&error, "store"), "users");
    assert_eq!(detail(&error, "differences"), &json!(["is_unique", "slot_length"]));
    // The transaction goes on.
    assert!(Store::open(&transaction, "users").add("2", "2"));
    transaction.commit(&token()).unwrap();
}

#[test]
fn slot_lengths_that_clamp_to_the_same_are_equal() {
    let fixture = Fixture::new();
    fixture.commit_keys(BtreeOptions { slot_length: 1, ..unique("users") }, &[]);
    let store = Store::create(&fixture.read(), BtreeOptions { slot_length: -5, ..unique("users") });
    assert_eq!(store.0.options().slot_length, 2);
}

#[test]
fn a_missing_store_is_store_not_found() {
    let fixture = Fixture::new();
    let error = Btree::open(&token(), &fixture.write(), "nobody").err().unwrap();
    assert_eq!(error.code(), ErrorCode::StoreNotFound);
    assert_eq!(detail(&error, "store"), "nobody");
}

#[test]
fn a_reader_opens_but_does_not_create() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);
    for mode in [TransactionMode::NoCheck, TransactionMode::ForReading] {
        let transaction = fixture.begin(mode);
        assert_eq!(Store::create(&transaction, unique("users")).count(), 1);
        let error = Btree::create_or_open(&token(), &transaction, unique("others")).err().unwrap();
        assert_eq!(error.code(), ErrorCode::ReadOnlyTransaction);
        transaction.commit(&token()).unwrap();
    }
}

#[test]
fn bad_names_and_specifications_are_validation_errors() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let refused = |options| Btree::create_or_open(&token(), &transaction, options).err().unwrap().code();
    assert_eq!(refused(unique("")), ErrorCode::Validation);
    assert_eq!(refused(unique(&"x".repeat(129))), ErrorCode::Validation);
    assert_eq!(
        refused(BtreeOptions { index_specification: "{}".into(), ..unique("x") }),
        ErrorCode::Validation
    );
    assert_eq!(Btree::open(&token(), &transaction, "a\tb").err().unwrap().code(), ErrorCode::Validation);
    assert!(transaction.is_active());
}

#[test]
fn an_empty_store_is_there_after_commit_only() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    Store::create(&transaction, unique("empty"));
    assert!(Btree::open(&token(), &fixture.read(), "empty").is_err());
    transaction.commit(&token()).unwrap();
    assert_eq!(Store::open(&fixture.read(), "empty").count(), 0);

    let transaction = fixture.write();
    Store::create(&transaction, unique("dropped")).add("1", "1");
    transaction.rollback(&token()).unwrap();
    assert!(Btree::open(&token(), &fixture.read(), "dropped").is_err());
}

#[test]
fn two_creators_of_one_store_both_commit() {
    let fixture = Fixture::new();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for key in ["1", "2"] {
            let (fixture, barrier) = (&fixture, &barrier);
            scope.spawn(move || {
                let transaction = fixture.write();
                let store = Store::create(&transaction, unique("shared"));
                barrier.wait();
                assert!(store.add(key, key));
                transaction.commit(&token()).unwrap();
            });
        }
    });
    let store = Store::open(&fixture.read(), "shared");
    assert_eq!(store.all_keys(), ["1", "2"]);
    assert_eq!(store.count(), 2);
}
