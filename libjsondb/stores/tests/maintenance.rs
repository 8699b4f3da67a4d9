//! Looking after a database, where the stores know more than the engine: counts.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use stores::{
    Btree, BtreeOptions, CancelToken, Database, DatabaseOptions, ErrorCode, Finding, ItemInput, Progress,
    Session, TransactionMode, VectorItem, VectorOptions, VectorStore, Verification, WriteOp,
};

fn open(folder: &tempfile::TempDir) -> Arc<Database> {
    let storage_path = folder.path().to_str().unwrap().to_owned();
    Database::open(DatabaseOptions { storage_path, ..Default::default() }).unwrap()
}

fn verify(database: &Database) -> Verification {
    database.verify(&mut Progress::new(&CancelToken::new(), &mut |_, _| true)).unwrap()
}

fn fill(database: &Arc<Database>) {
    let cancel = CancelToken::new();
    let transaction = database.begin(TransactionMode::ForWriting, stores::DEFAULT_MAX_TIME, &cancel).unwrap();
    let tree = Btree::create_or_open(&cancel, &transaction, BtreeOptions::new("tree")).unwrap();
    let item: ItemInput<'_> = serde_json::from_str(r#"{"key": 1, "value": 2}"#).unwrap();
    tree.write(&cancel, WriteOp::Add, &[item, item, item]).unwrap();
    let session = Session::In(Arc::clone(&transaction));
    let vectors = VectorStore::open(session, "rows", VectorOptions::default()).unwrap();
    let row: VectorItem = serde_json::from_str(r#"{"id": "a", "vector": [1, 2]}"#).unwrap();
    vectors.upsert(&cancel, &[row]).unwrap();
    transaction.commit(&cancel).unwrap();
}

#[test]
fn counts_that_are_not_those_of_the_items_are_findings() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    fill(&database);
    let found = verify(&database);
    assert!(found.intact, "{:?}", found.findings);
    let items: Vec<_> = found.stores.iter().map(|store| (store.kind, store.items)).collect();
    assert_eq!(items, [("btree", 3), ("vector", 1)]);

    let engine = engine::Database::open(folder.path(), &engine::Options::default()).unwrap();
    let mut transaction = engine.begin(engine::Mode::Write).unwrap();
    for name in ["b/tree", "v/rows"] {
        let (store, _) = transaction.store(name).unwrap().unwrap();
        transaction.add_to_counter(store, b"n", 2).unwrap();
    }
    transaction.commit().unwrap();
    for _ in 0..2 {
        let found = verify(&database);
        assert!(!found.intact);
        let what: Vec<_> = found.findings.iter().map(|Finding { what, .. }| what.as_str()).collect();
        let wanted = [
            "B-tree \"tree\": its count is 5, but it holds 3 items",
            "vector store \"rows\": its count is 3, but it holds 1 items",
        ];
        assert_eq!(what, wanted);
        // The same when the tree holds it all.
        engine.checkpoint().unwrap();
    }
}

#[test]
fn looking_after_what_is_not_there_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let cancel = CancelToken::new();
    assert_eq!(database.info(&cancel).unwrap_err().code(), ErrorCode::Validation);
    assert_eq!(database.stores(&cancel).unwrap_err().code(), ErrorCode::Validation);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}
