//! Add, update, upsert, remove: what they answer and what they leave.

use stores::{BtreeOptions, ErrorCode, ItemInput, Move, WriteOp};

use crate::fixture::{Fixture, Store, detail, duplicates, indexed, raw, token, unique, value_of};

#[test]
fn a_unique_store_has_one_item_per_key() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), unique("users"));
    assert!(store.add("1", "\"Alice\""));
    assert!(!store.add("1", "\"Bob\""));
    assert!(!store.add("1.0", "\"Bob\""));
    assert_eq!(store.current_key().unwrap(), "1");
    assert_eq!(store.value("1").unwrap(), "\"Alice\"");
    assert_eq!(store.count(), 1);
}

#[test]
fn duplicates_iterate_newest_first() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let store = Store::create(&transaction, duplicates("log"));
    for (key, value) in [("1", "\"a\""), ("2", "\"x\""), ("1", "\"b\""), ("1", "\"c\"")] {
        assert!(store.add(key, value));
    }
    transaction.commit(&token()).unwrap();

    let transaction = fixture.write();
    let store = Store::open(&transaction, "log");
    assert!(store.add("1", "\"d\""));
    let values: Vec<String> = store.all().into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["\"d\"", "\"c\"", "\"b\"", "\"a\"", "\"x\""]);
    assert_eq!(store.count(), 5);
}

#[test]
fn add_if_not_exists_refuses_duplicates_in_any_store() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    for options in [unique("u"), duplicates("d")] {
        let store = Store::create(&transaction, options);
        assert!(store.write(WriteOp::AddIfNotExists, &[("1", "1")]));
        assert!(!store.write(WriteOp::AddIfNotExists, &[("1", "2")]));
        assert_eq!(store.current_key().unwrap(), "1");
        assert_eq!(store.count(), 1);
    }
}

#[test]
fn update_and_remove_of_a_missing_key_are_false() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    for options in [unique("u"), duplicates("d")] {
        let store = Store::create(&transaction, options);
        assert!(!store.update("1", "1"));
        assert!(!store.remove(&["1"]));
        assert!(store.upsert("1", "1"));
        assert!(store.upsert("1", "2"));
        assert!(store.update("1", "3"));
        assert_eq!(store.all(), [("1".into(), "3".into())]);
        assert_eq!(store.count(), 1);
        assert!(store.remove(&["1"]));
        assert_eq!(store.count(), 0);
    }
}

#[test]
fn a_list_goes_on_past_a_false() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), unique("users"));
    assert!(store.add("1", "1"));
    assert!(!store.write(WriteOp::Add, &[("4", "4"), ("1", "0"), ("5", "5")]));
    assert!(!store.write(WriteOp::Update, &[("4", "40"), ("99", "0"), ("5", "50")]));
    let expected =
        [("1", "1"), ("4", "40"), ("5", "50")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(store.all(), expected);
    assert!(!store.remove(&["4", "99", "5"]));
    assert_eq!(store.all_keys(), ["1"]);
    assert_eq!(store.count(), 1);
}

#[test]
fn an_empty_list_is_true_and_nothing() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), unique("users"));
    for op in [WriteOp::Add, WriteOp::AddIfNotExists, WriteOp::Update, WriteOp::Upsert] {
        assert!(store.write(op, &[]));
    }
    assert!(store.remove(&[]));
    assert!(store.0.values(&token(), &[]).unwrap().is_empty());
}

#[test]
fn a_bad_key_anywhere_in_a_list_stores_nothing_of_it() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let store = Store::create(&transaction, unique("users"));
    let long = format!("{:?}", "x".repeat(20_000));
    for bad in ["18446744073709551616", long.as_str(), "\"\\ud800\""] {
        let error = store.try_write(WriteOp::Add, &[("1", "1"), (bad, "2")]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Validation, "{bad}");
        assert_eq!(detail(&error, "store"), "users");
    }
    assert_eq!(store.count(), 0);
    assert!(!store.find("1"));
    assert!(transaction.is_active());
}

#[test]
fn values_are_any_json_as_it_was_written() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let store = Store::create(&transaction, unique("values"));
    let values = [
        "null",
        "true",
        "-0.0",
        "123456789012345678901234567890",
        "\"\\u00e9\\u0000\"",
        "[1, 2,  3]",
        "{\"b\": 1, \"a\": 2, \"a\": 3}",
        "\"\"",
    ];
    for (index, value) in values.iter().enumerate() {
        assert!(store.add(&index.to_string(), value));
    }
    transaction.commit(&token()).unwrap();
    let store = Store::open(&fixture.read(), "values");
    for (index, value) in values.iter().enumerate() {
        assert_eq!(store.value(&index.to_string()).unwrap(), *value);
    }
}

#[test]
fn an_absent_value_is_null() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), unique("keys"));
    let input: ItemInput =
        serde_json::from_str(r#"{"key": "a", "id": "00000000-0000-0000-0000-000000000000"}"#).unwrap();
    assert!(store.0.write(&token(), WriteOp::Add, &[input]).unwrap());
    let input: ItemInput = serde_json::from_str(r#"{"key": null, "value": null}"#).unwrap();
    assert!(store.0.write(&token(), WriteOp::Add, &[input]).unwrap());
    assert_eq!(store.all(), [("null".into(), "null".into()), ("\"a\"".into(), "null".into())]);
    let item = store.0.find_one(&token(), &raw("\"a\""), true).unwrap().unwrap();
    let json = serde_json::to_value(&item).unwrap();
    assert_eq!(json["key"], "a");
    assert!(json["value"].is_null());
    assert_eq!(json["id"], item.id.to_string());
}

#[test]
fn keys_of_all_types_have_one_order() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), unique("mixed"));
    let ascending = [
        "null",
        "false",
        "true",
        "-1.5",
        "-1",
        "0.5",
        "1",
        "\"\"",
        "\"10\"",
        "\"9\"",
        "\"B\"",
        "\"a\"",
        "\"é\"",
        "[1]",
        "{\"a\": 1}",
    ];
    for key in ascending.iter().rev() {
        assert!(store.add(key, "0"));
    }
    assert_eq!(store.all_keys(), ascending);
    assert!(!store.find("\"1\""));
    assert!(store.find("1.0"));
}

#[test]
fn integers_compare_exactly() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), unique("ids"));
    let ascending = ["9007199254740992", "9007199254740993", "9007199254740994", "18446744073709551615"];
    for key in ascending {
        assert!(store.add(key, key));
    }
    assert_eq!(store.all_keys(), ascending);
    assert!(!store.add("9007199254740992.0", "0"));
}

#[test]
fn of_several_equal_items_the_one_at_the_cursor_is_taken_else_the_newest() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), duplicates("log"));
    for value in ["\"a\"", "\"b\"", "\"c\""] {
        assert!(store.add("1", value));
    }
    assert!(store.update("1", "\"C\""));
    assert!(store.find("1") && store.step(Move::Next));
    assert!(store.update("1", "\"B\""));
    assert!(store.upsert("1", "\"BB\""));
    let values = |store: &Store| store.all().into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    assert!(store.find("1") && store.step(Move::Next));
    assert_eq!(value_of(&store.current().unwrap()), "\"BB\"");
    assert!(store.remove(&["1"]));
    assert_eq!(store.current_key(), None);
    assert_eq!(values(&store), ["\"C\"", "\"a\""]);
    assert!(store.remove(&["1"]));
    assert_eq!(values(&store), ["\"a\""]);
}

#[test]
fn an_id_survives_an_update() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    for options in [unique("u"), duplicates("d")] {
        let store = Store::create(&transaction, options);
        store.add("1", "1");
        let id = store.0.find_one(&token(), &raw("1"), true).unwrap().unwrap().id;
        store.update("1", "2");
        assert!(store.0.find_with_id(&token(), &raw("1"), &id.to_string()).unwrap());
        assert_eq!(value_of(&store.current().unwrap()), "2");
    }
}

#[test]
fn index_fields_identify_and_the_others_ride_along() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let store = Store::create(&transaction, indexed("teams"));
    assert!(store.add(r#"{"region": "eu", "rank": 1, "note": "first"}"#, "1"));
    assert!(store.add(r#"{"note": "second", "rank": 2, "region": "eu"}"#, "2"));
    assert!(store.add(r#"{"region": "as", "rank": 1}"#, "3"));
    assert!(store.add(r#"{"rank": 9}"#, "4"));
    assert!(!store.add(r#"{"region": "eu", "rank": 1.0, "note": "again"}"#, "5"));
    transaction.commit(&token()).unwrap();

    let transaction = fixture.write();
    let store = Store::open(&transaction, "teams");
    let keys = [
        r#"{"rank": 9}"#,
        r#"{"region": "as", "rank": 1}"#,
        r#"{"note": "second", "rank": 2, "region": "eu"}"#,
        r#"{"region": "eu", "rank": 1, "note": "first"}"#,
    ];
    assert_eq!(store.all_keys(), keys);
    // A lookup and an update need the index fields only; the stored key stays whole.
    assert!(store.update(r#"{"region": "eu", "rank": 1}"#, "10"));
    assert_eq!(store.value(r#"{"region": "eu", "rank": 1}"#).unwrap(), "10");
    assert_eq!(store.current_key().unwrap(), keys[3]);
    assert!(store.0.update_current(&token(), &raw("11")).unwrap());
    assert_eq!(store.current_key().unwrap(), keys[3]);
    let error = store.try_write(WriteOp::Add, &[("1", "1")]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Validation);
}

#[test]
fn object_keys_without_specification_compare_by_all_fields() {
    let fixture = Fixture::new();
    let store =
        Store::create(&fixture.write(), BtreeOptions { is_primitive_key: false, ..unique("objects") });
    assert!(store.add(r#"{"b": 1, "a": 2}"#, "1"));
    assert!(!store.add(r#"{"a": 2, "b": 1}"#, "2"));
    assert!(store.add(r#"{"a": 2}"#, "3"));
    assert!(store.add(r#"{"a": 2, "b": 1, "c": null}"#, "4"));
    assert_eq!(store.all_keys(), [r#"{"a": 2}"#, r#"{"b": 1, "a": 2}"#, r#"{"a": 2, "b": 1, "c": null}"#]);
}

#[test]
fn large_values_in_every_placement() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let large = format!("{:?}", "v".repeat(100_000));
    let big = BtreeOptions {
        is_value_data_in_node_segment: false,
        is_value_data_actively_persisted: true,
        ..duplicates("big")
    };
    let medium = BtreeOptions {
        is_value_data_in_node_segment: false,
        is_value_data_globally_cached: true,
        ..unique("medium")
    };
    let names = ["big", "medium", "small"];
    for options in [big, medium, unique("small")] {
        let store = Store::create(&transaction, options);
        assert!(store.add("1", &large));
        assert!(store.add("2", "\"short\""));
        assert!(store.update("2", &large));
        assert!(store.add("1.5", "[]"));
        assert!(store.remove(&["1"]));
    }
    transaction.commit(&token()).unwrap();
    let transaction = fixture.read();
    for name in names {
        let store = Store::open(&transaction, name);
        assert_eq!(store.all(), [("1.5".to_owned(), "[]".to_owned()), ("2".to_owned(), large.clone())]);
        store.step(Move::First);
        let keys = store.0.page(&token(), &Default::default(), false).unwrap();
        assert!(keys.iter().all(|item| item.value.is_none()));
        assert_eq!(keys[1].key.get(), "2");
    }
}

#[test]
fn a_reader_cannot_write() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &["1"]);
    let transaction = fixture.read();
    let store = Store::open(&transaction, "users");
    let error = store.try_write(WriteOp::Upsert, &[("1", "2")]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ReadOnlyTransaction);
    assert!(error.message().contains("transaction is not for writing"));
    assert!(store.find("1"));
    for result in [
        store.0.remove(&token(), &[&raw("1")]),
        store.0.remove_current(&token()),
        store.0.update_current(&token(), &raw("1")),
    ] {
        assert_eq!(result.unwrap_err().code(), ErrorCode::ReadOnlyTransaction);
    }
    transaction.commit(&token()).unwrap();
}
