//! A database in a temporary folder, and short forms of the calls the tests make.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use stores::{
    Btree, BtreeOptions, CancelToken, Database, DatabaseOptions, Error, Item, ItemInput, Move, Paging,
    Result, Transaction, TransactionMode, WriteOp,
};
use tempfile::TempDir;

pub struct Fixture {
    pub folder: TempDir,
    pub database: Arc<Database>,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder);
        Self { folder, database }
    }

    pub fn begin(&self, mode: TransactionMode) -> Arc<Transaction> {
        self.database.begin(mode, stores::DEFAULT_MAX_TIME, &token()).unwrap()
    }

    pub fn write(&self) -> Arc<Transaction> {
        self.begin(TransactionMode::ForWriting)
    }

    pub fn read(&self) -> Arc<Transaction> {
        self.begin(TransactionMode::ForReading)
    }

    /// Commits a store with these keys, each with itself as value.
    pub fn commit_keys(&self, options: BtreeOptions, keys: &[&str]) {
        let transaction = self.write();
        let store = Store::create(&transaction, options);
        for key in keys {
            assert!(store.add(key, key));
        }
        transaction.commit(&token()).unwrap();
    }
}

pub fn database(folder: &TempDir) -> Arc<Database> {
    let storage_path = folder.path().to_str().unwrap().to_owned();
    Database::open(DatabaseOptions { storage_path, ..Default::default() }).unwrap()
}

pub fn token() -> CancelToken {
    CancelToken::new()
}

pub fn unique(name: &str) -> BtreeOptions {
    BtreeOptions { is_unique: true, ..BtreeOptions::new(name) }
}

pub fn duplicates(name: &str) -> BtreeOptions {
    BtreeOptions::new(name)
}

/// A unique store of object keys, by `region` and then falling `rank`.
pub fn indexed(name: &str) -> BtreeOptions {
    let index_specification = r#"{"index_fields": [{"field_name": "region", "ascending_sort_order": true},
                                                   {"field_name": "rank", "ascending_sort_order": false}]}"#;
    BtreeOptions { index_specification: index_specification.into(), is_primitive_key: false, ..unique(name) }
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub fn value_of(item: &Item) -> &str {
    item.value.as_ref().unwrap().get()
}

pub fn keys_of(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| item.key.get().to_owned()).collect()
}

pub fn detail<'a>(error: &'a Error, name: &str) -> &'a Value {
    &error.details()[name]
}

/// A store, its calls taking JSON texts.
pub struct Store(pub Btree);

impl Store {
    pub fn create(transaction: &Arc<Transaction>, options: BtreeOptions) -> Self {
        Self(Btree::create_or_open(&token(), transaction, options).unwrap())
    }

    pub fn open(transaction: &Arc<Transaction>, name: &str) -> Self {
        Self(Btree::open(&token(), transaction, name).unwrap())
    }

    pub fn try_write(&self, op: WriteOp, items: &[(&str, &str)]) -> Result<bool> {
        let texts: Vec<_> = items.iter().map(|(key, value)| (raw(key), raw(value))).collect();
        let inputs: Vec<ItemInput> =
            texts.iter().map(|(key, value)| ItemInput { key, value: Some(value), id: None }).collect();
        self.0.write(&token(), op, &inputs)
    }

    pub fn write(&self, op: WriteOp, items: &[(&str, &str)]) -> bool {
        self.try_write(op, items).unwrap()
    }

    pub fn add(&self, key: &str, value: &str) -> bool {
        self.write(WriteOp::Add, &[(key, value)])
    }

    pub fn update(&self, key: &str, value: &str) -> bool {
        self.write(WriteOp::Update, &[(key, value)])
    }

    pub fn upsert(&self, key: &str, value: &str) -> bool {
        self.write(WriteOp::Upsert, &[(key, value)])
    }

    pub fn remove(&self, keys: &[&str]) -> bool {
        let keys: Vec<_> = keys.iter().map(|key| raw(key)).collect();
        self.0.remove(&token(), &keys.iter().map(|key| &**key).collect::<Vec<_>>()).unwrap()
    }

    pub fn find(&self, key: &str) -> bool {
        self.0.find(&token(), &raw(key)).unwrap()
    }

    /// The value of the first item with this key.
    pub fn value(&self, key: &str) -> Option<String> {
        let item = self.0.find_one(&token(), &raw(key), false).unwrap();
        item.map(|item| value_of(&item).to_owned())
    }

    pub fn step(&self, to: Move) -> bool {
        self.0.step(&token(), to).unwrap()
    }

    pub fn current(&self) -> Option<Item> {
        self.0.current(&token()).unwrap()
    }

    pub fn current_key(&self) -> Option<String> {
        self.current().map(|item| item.key.get().to_owned())
    }

    pub fn count(&self) -> u64 {
        self.0.count(&token()).unwrap()
    }

    pub fn try_page(&self, paging: Paging) -> Result<Vec<Item>> {
        self.0.page(&token(), &paging, true)
    }

    pub fn page(&self, page_size: i64, direction: i64) -> Vec<String> {
        keys_of(&self.try_page(Paging { page_size, direction, ..Default::default() }).unwrap())
    }

    /// All items from the first on, whatever the cursor; the cursor is past the end then.
    pub fn all(&self) -> Vec<(String, String)> {
        self.step(Move::First);
        let items = self.try_page(Paging { page_size: 1_000_000, ..Default::default() }).unwrap();
        items.iter().map(|item| (item.key.get().to_owned(), value_of(item).to_owned())).collect()
    }

    pub fn all_keys(&self) -> Vec<String> {
        self.all().into_iter().map(|(key, _)| key).collect()
    }
}
