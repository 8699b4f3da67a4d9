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
        assert_eq!(store.get(&fixture.cancel, "classifiers", "churn_v1", None).unwrap().model.get(), text);
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
    store.delete(cancel, "a", "aa", None).unwrap();
    store.delete(cancel, "a", "aa", None).unwrap();
    assert_eq!(store.list(cancel, "a").unwrap(), ["\0", "a", "a\0b", "b", "z", "é"]);
    assert_eq!(store.list(cancel, "ab").unwrap().len(), 7);
}

#[test]
fn a_missing_model_is_an_error() {
    let fixture = Fixture::new();
    let store = fixture.store("models");
    let check = || {
        let error = store.get(&fixture.cancel, "c", "n", None).unwrap_err();
        assert_eq!((error.code(), error.message()), (ErrorCode::ItemNotFound, "model not found: c/n"));
        store.delete(&fixture.cancel, "c", "n", None).unwrap();
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
    assert_eq!(fixture.store("one").get(&fixture.cancel, "c", "n", None).unwrap().model.get(), "1");
    assert_eq!(fixture.store("two").get(&fixture.cancel, "c", "n", None).unwrap().model.get(), "2");
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
    assert_eq!(fixture.store("models").get(cancel, "c", "n", None).unwrap().model.get(), "2");
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
    assert_eq!(inside.get(cancel, "c", "n", None).unwrap_err().code(), ErrorCode::ItemNotFound);
    let error = inside.save(cancel, "c", "n", &raw("1")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ReadOnlyTransaction);
    assert_eq!(inside.delete(cancel, "c", "n", None).unwrap_err().code(), ErrorCode::ReadOnlyTransaction);
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
            store.get(&fixture.cancel, category, name, None).map_err(code).err(),
            Some(ErrorCode::Validation)
        );
        assert_eq!(
            store.delete(&fixture.cancel, category, name, None).map_err(code),
            Err(ErrorCode::Validation)
        );
    }
    assert_eq!(store.list(&fixture.cancel, "").unwrap_err().code(), ErrorCode::Validation);
    assert!(ModelStore::open(Session::Auto(fixture.database.clone()), "").is_err());
}

#[test]
fn every_save_is_a_version_and_one_is_active() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store("models"), &fixture.cancel);
    let save = |text: &str| store.save(cancel, "c", "n", &raw(text)).unwrap();
    assert_eq!(save(r#"{"v": 1, "is_active": true}"#), 1);
    assert_eq!(save(r#"{"v": 2}"#), 2);
    assert_eq!(save(r#"{"v": 3, "metrics": {"f1": 0.50}, "is_active": true}"#), 3);
    let active = || {
        let versions = store.versions(cancel, "c", "n").unwrap();
        versions.iter().filter(|v| v.is_active).map(|v| v.version).collect::<Vec<u64>>()
    };
    assert_eq!(active(), [3]);
    assert_eq!(store.active(cancel, "c", "n").unwrap(), Some(3));
    let metrics = store.versions(cancel, "c", "n").unwrap().remove(2).metrics;
    assert_eq!(metrics.unwrap().get(), r#"{"f1": 0.50}"#);
    let first = store.get(cancel, "c", "n", Some(1)).unwrap();
    assert_eq!(first.model.get(), r#"{"v":1,"is_active":false}"#);

    store.promote(cancel, "c", "n", Some(2)).unwrap();
    assert_eq!(active(), [2]);
    assert_eq!(store.promote(cancel, "c", "n", Some(9)).unwrap_err().code(), ErrorCode::ItemNotFound);
    store.delete(cancel, "c", "n", Some(2)).unwrap();
    assert!(active().is_empty());
    store.delete(cancel, "c", "n", Some(3)).unwrap();
    assert_eq!(store.get(cancel, "c", "n", None).unwrap().version.version, 1);
    assert_eq!(save("7"), 4, "numbers are not given again");
    store.delete(cancel, "c", "n", None).unwrap();
    assert!(store.versions(cancel, "c", "n").unwrap().is_empty());
    assert!(store.categories(cancel).unwrap().is_empty());
    assert_eq!(store.active(cancel, "c", "n").unwrap_err().code(), ErrorCode::ItemNotFound);
}

/// Bytes of no pattern that a mistake of offsets could hide in.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn read_all(store: &ModelStore, cancel: &CancelToken, version: Option<u64>, piece: usize) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
    loop {
        let at = all.len() as u64;
        match store.read_artifact(cancel, "c", "n", version, at, &mut buffer).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

#[test]
fn artefacts_come_back_byte_for_byte() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store("models"), &fixture.cancel);
    const MIB: usize = 1 << 20;
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17] {
        let bytes = noise(len);
        let mut upload = store.upload(cancel, "c", "n", "weights").unwrap();
        for piece in bytes.chunks(700_001) {
            upload.write(cancel, piece).unwrap();
        }
        let version = upload.save(cancel, &raw("{}")).unwrap();
        assert_eq!(upload.write(cancel, b"more").unwrap_err().code(), ErrorCode::InvalidState);
        assert_eq!(read_all(&store, cancel, Some(version), 300_007), bytes);
        let artifact = store.get(cancel, "c", "n", None).unwrap().version.artifact.unwrap();
        assert_eq!((artifact.bytes, artifact.format.as_str()), (len as u64, "weights"));
    }
    store.save(cancel, "c", "n", &raw("{}")).unwrap();
    let missing = store.read_artifact(cancel, "c", "n", None, 0, &mut [0]).unwrap_err();
    assert_eq!(missing.code(), ErrorCode::ItemNotFound);
}

#[test]
fn sha256_of_an_artefact_is_the_known_one() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store("models"), &fixture.cancel);
    let mut upload = store.upload(cancel, "c", "n", "").unwrap();
    upload.write(cancel, b"abc").unwrap();
    upload.save(cancel, &raw("1")).unwrap();
    // The test vector of FIPS 180-4.
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(store.get(cancel, "c", "n", None).unwrap().version.artifact.unwrap().sha256, known);
}

/// Keys that a store of models has: none is left behind of what was given up or deleted.
fn entries(fixture: &Fixture) -> u64 {
    let mut go_on = |_, _| true;
    let found = fixture.database.verify(&mut stores::Progress::new(&fixture.cancel, &mut go_on)).unwrap();
    assert!(found.intact, "{:?}", found.findings);
    found.entries
}

#[test]
fn what_is_given_up_or_deleted_leaves_nothing() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let store = fixture.store("models");
    store.save(cancel, "c", "kept", &raw("1")).unwrap();
    let before = entries(&fixture);
    let mut upload = store.upload(cancel, "c", "n", "").unwrap();
    upload.write(cancel, &noise(3 << 20)).unwrap();
    drop(upload);
    let (transaction, inside) = fixture.begin(TransactionMode::ForWriting);
    let mut upload = inside.upload(cancel, "c", "n", "").unwrap();
    upload.write(cancel, &noise(3 << 20)).unwrap();
    drop(upload);
    transaction.commit(cancel).unwrap();
    assert_eq!(entries(&fixture), before);

    let mut upload = store.upload(cancel, "c", "n", "").unwrap();
    upload.write(cancel, &noise(3 << 20)).unwrap();
    let version = upload.save(cancel, &raw("1")).unwrap();
    assert!(entries(&fixture) > before);
    store.delete(cancel, "c", "n", Some(version)).unwrap();
    assert_eq!(entries(&fixture), before);
}

#[test]
fn an_artefact_takes_effect_with_its_transaction() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let (transaction, inside) = fixture.begin(TransactionMode::ForWriting);
    let mut upload = inside.upload(cancel, "c", "n", "").unwrap();
    upload.write(cancel, b"bytes").unwrap();
    assert_eq!(upload.save(cancel, &raw("1")).unwrap(), 1);
    assert_eq!(read_all(&inside, cancel, None, 9), b"bytes");
    assert!(fixture.store("models").list(cancel, "c").unwrap().is_empty());
    transaction.rollback(cancel).unwrap();
    assert!(fixture.store("models").list(cancel, "c").unwrap().is_empty());
    let (_transaction, reader) = fixture.begin(TransactionMode::ForReading);
    assert_eq!(reader.upload(cancel, "c", "n", "").err().unwrap().code(), ErrorCode::ReadOnlyTransaction);
}
