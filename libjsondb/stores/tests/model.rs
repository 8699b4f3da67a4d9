//! Model stores against the real engine.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::value::RawValue;
use stores::{
    CancelToken, DEFAULT_MAX_TIME, Database, DatabaseOptions, ErrorCode, ModelStore, Session, Transaction,
    TransactionMode,
};

struct Fixture {
    database: Arc<Database>,
    cancel: CancelToken,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage_path = folder.path().to_str().unwrap().to_owned();
        let database =
            Database::open(DatabaseOptions { storage_path, ..DatabaseOptions::default() }).unwrap();
        Self { database, cancel: CancelToken::new(), _folder: folder }
    }

    fn store(&self, name: &str) -> ModelStore {
        ModelStore::open(Session::Auto(self.database.clone()), name).unwrap()
    }

    fn begin(&self, mode: TransactionMode) -> (Arc<Transaction>, ModelStore) {
        let transaction = self.database.begin(mode, DEFAULT_MAX_TIME, &self.cancel).unwrap();
        let store = ModelStore::open(Session::In(transaction.clone()), "models").unwrap();
        (transaction, store)
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

#[test]
fn models_come_back_as_they_were() {
    let fixture = Fixture::new();
    let store = fixture.store("models");
    let large = format!(r#"{{"weights":[{}]}}"#, vec!["0.25"; 100_000].join(","));
    for text in [r#"{"id": "churn_v1",  "metrics": {"a": 0.98}}"#, "null", "[1, 2]", "\"ü\"", "1e5", &large]
    {
        store.save(&fixture.cancel, "classifiers", "churn_v1", &raw(text)).unwrap();
        assert_eq!(store.get(&fixture.cancel, "classifiers", "churn_v1").unwrap().get(), text);
    }
    assert_eq!(store.list(&fixture.cancel, "classifiers").unwrap(), ["churn_v1"]);
}

#[test]
fn a_category_lists_its_names_in_order() {
    let fixture = Fixture::new();
    let store = fixture.store("models");
    let cancel = &fixture.cancel;
    for category in ["a", "a\0", "ab", "b"] {
        for name in ["z", "b", "a", "a\0b", "é", "aa", "\0"] {
            store.save(cancel, category, name, &raw("1")).unwrap();
        }
    }
    for category in ["a", "a\0", "ab", "b"] {
        assert_eq!(store.list(cancel, category).unwrap(), ["\0", "a", "a\0b", "aa", "b", "z", "é"]);
    }
    assert!(store.list(cancel, "c").unwrap().is_empty());
    store.delete(cancel, "a", "aa").unwrap();
    store.delete(cancel, "a", "aa").unwrap();
    assert_eq!(store.list(cancel, "a").unwrap(), ["\0", "a", "a\0b", "b", "z", "é"]);
    assert_eq!(store.list(cancel, "ab").unwrap().len(), 7);
}

#[test]
fn a_missing_model_is_an_error() {
    let fixture = Fixture::new();
    let store = fixture.store("models");
    let check = || {
        let error = store.get(&fixture.cancel, "c", "n").unwrap_err();
        assert_eq!((error.code(), error.message()), (ErrorCode::ItemNotFound, "model not found: c/n"));
        store.delete(&fixture.cancel, "c", "n").unwrap();
        assert!(store.list(&fixture.cancel, "c").unwrap().is_empty());
    };
    check();
    store.save(&fixture.cancel, "other", "n", &raw("1")).unwrap();
    check();
}

#[test]
fn names_are_separate_stores() {
    let fixture = Fixture::new();
    fixture.store("one").save(&fixture.cancel, "c", "n", &raw("1")).unwrap();
    fixture.store("two").save(&fixture.cancel, "c", "n", &raw("2")).unwrap();
    assert_eq!(fixture.store("one").get(&fixture.cancel, "c", "n").unwrap().get(), "1");
    assert_eq!(fixture.store("two").get(&fixture.cancel, "c", "n").unwrap().get(), "2");
}

#[test]
fn models_commit_with_their_transaction() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let (transaction, inside) = fixture.begin(TransactionMode::ForWriting);
    inside.save(cancel, "c", "n", &raw("1")).unwrap();
    assert_eq!(inside.list(cancel, "c").unwrap(), ["n"]);
    assert!(fixture.store("models").list(cancel, "c").unwrap().is_empty());
    transaction.rollback(cancel).unwrap();
    assert!(fixture.store("models").list(cancel, "c").unwrap().is_empty());
    let (transaction, inside) = fixture.begin(TransactionMode::ForWriting);
    inside.save(cancel, "c", "n", &raw("2")).unwrap();
    transaction.commit(cancel).unwrap();
    assert_eq!(fixture.store("models").get(cancel, "c", "n").unwrap().get(), "2");
}

#[test]
fn saving_one_model_twice_at_once_conflicts() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    fixture.store("models").save(cancel, "c", "other", &raw("1")).unwrap();
    let (one, in_one) = fixture.begin(TransactionMode::ForWriting);
    let (other, in_other) = fixture.begin(TransactionMode::ForWriting);
    let (third, in_third) = fixture.begin(TransactionMode::ForWriting);
    in_one.save(cancel, "c", "n", &raw("1")).unwrap();
    in_other.save(cancel, "c", "n", &raw("2")).unwrap();
    in_third.save(cancel, "c", "third", &raw("3")).unwrap();
    one.commit(cancel).unwrap();
    third.commit(cancel).unwrap();
    let error = other.commit(cancel).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert_eq!(error.details()["key"], "c/n");
}

#[test]
fn readers_create_nothing_and_write_nothing() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let (transaction, inside) = fixture.begin(TransactionMode::ForReading);
    assert!(inside.list(cancel, "c").unwrap().is_empty());
    assert_eq!(inside.get(cancel, "c", "n").unwrap_err().code(), ErrorCode::ItemNotFound);
    let error = inside.save(cancel, "c", "n", &raw("1")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ReadOnlyTransaction);
    assert_eq!(inside.delete(cancel, "c", "n").unwrap_err().code(), ErrorCode::ReadOnlyTransaction);
    transaction.commit(cancel).unwrap();
}

#[test]
fn bad_names_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.store("models");
    let long = "x".repeat(1_025);
    for (category, name) in [("", "n"), ("c", ""), (long.as_str(), "n"), ("c", long.as_str())] {
        let code = |error: stores::Error| error.code();
        assert_eq!(
            store.save(&fixture.cancel, category, name, &raw("1")).map_err(code),
            Err(ErrorCode::Validation)
        );
        assert_eq!(
            store.get(&fixture.cancel, category, name).map_err(code).err(),
            Some(ErrorCode::Validation)
        );
        assert_eq!(store.delete(&fixture.cancel, category, name).map_err(code), Err(ErrorCode::Validation));
    }
    assert_eq!(store.list(&fixture.cancel, "").unwrap_err().code(), ErrorCode::Validation);
    assert!(ModelStore::open(Session::Auto(fixture.database.clone()), "").is_err());
}
