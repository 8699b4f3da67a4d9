//! Folders, data and the brute force that answers are compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json, value::RawValue};
use stores::{
    CancelToken, DEFAULT_MAX_TIME, Database, DatabaseOptions, Hit, QueryOptions, Session, Transaction,
    TransactionMode, VectorItem, VectorOptions, VectorStore,
};

/// A database in a folder that disappears with it.
pub struct Fixture {
    pub database: Arc<Database>,
    pub cancel: CancelToken,
    folder: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { database: open(&folder), cancel: CancelToken::new(), folder }
    }

    /// Closes the database and opens it anew.
    pub fn reopen(self) -> Self {
        self.database.close().unwrap();
        Self { database: open(&self.folder), ..self }
    }

    /// The store "items", each call in a transaction of its own.
    pub fn store(&self) -> VectorStore {
        self.store_in_mode(2)
    }

    pub fn store_in_mode(&self, usage_mode: i32) -> VectorStore {
        self.store_with(VectorOptions { usage_mode, ..VectorOptions::default() })
    }

    pub fn store_with(&self, options: VectorOptions) -> VectorStore {
        VectorStore::open(Session::Auto(self.database.clone()), "items", options).unwrap()
    }

    pub fn begin(&self, mode: TransactionMode) -> Arc<Transaction> {
        self.database.begin(mode, DEFAULT_MAX_TIME, &self.cancel).unwrap()
    }

    /// The store "items" inside a transaction.
    pub fn store_in(&self, transaction: &Arc<Transaction>) -> VectorStore {
        VectorStore::open(Session::In(transaction.clone()), "items", VectorOptions::default()).unwrap()
    }
}

fn open(folder: &tempfile::TempDir) -> Arc<Database> {
    let storage_path = folder.path().to_str().unwrap().to_owned();
    Database::open(DatabaseOptions { storage_path, ..DatabaseOptions::default() }).unwrap()
}

pub fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

pub fn item(id: &str, vector: &[f32]) -> VectorItem {
    VectorItem { id: id.to_owned(), vector: vector.to_vec(), payload: None, centroid_id: 0 }
}

pub fn item_with(id: &str, vector: &[f32], payload: Value) -> VectorItem {
    VectorItem { payload: Some(raw(&payload)), ..item(id, vector) }
}

pub fn pinned(id: &str, vector: &[f32], centroid_id: i64) -> VectorItem {
    VectorItem { centroid_id, ..item(id, vector) }
}

pub fn query(vector: &[f32], k: i64) -> QueryOptions {
    QueryOptions { vector: vector.to_vec(), k, ..QueryOptions::default() }
}

pub fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.id.as_str()).collect()
}

/// Random numbers, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// -1 to 1, more often near 0.
    pub fn number(&mut self) -> f32 {
        let unit = |bits: u64| (bits & 0xffff) as f32 / 65_535.0;
        let bits = self.next();
        unit(bits) + unit(bits >> 16) - unit(bits >> 32) - unit(bits >> 48)
    }

    pub fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.number()).collect()
    }
}

/// `count` items around random centres, about 100 each; payload `{"group": i % 7, "name": id}`; every third
/// has none.
pub fn clustered(count: usize, dimension: usize, seed: u64) -> Vec<VectorItem> {
    let mut random = Random(seed);
    let centres: Vec<Vec<f32>> = (0..count.div_ceil(100)).map(|_| random.vector(dimension)).collect();
    let make = |index: usize| {
        let centre = &centres[(random.next() % centres.len() as u64) as usize];
        let vector: Vec<f32> = centre.iter().map(|number| number + 0.35 * random.number()).collect();
        let id = format!("item-{index:06}");
        match index % 3 {
            0 => item(&id, &vector),
            _ => item_with(&id, &vector, json!({"group": index % 7, "name": id})),
        }
    };
    (0..count).map(make).collect()
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms == 0.0 { 0.0 } else { dot(a, b) / norms }
}

/// What a query must find, by comparing with everything.
pub fn brute_force(
    items: &BTreeMap<String, VectorItem>,
    vector: &[f32],
    k: usize,
    keep: impl Fn(&VectorItem) -> bool,
) -> Vec<(String, f64)> {
    let mut found: Vec<(String, f64)> = items
        .values()
        .filter(|item| keep(item))
        .map(|item| (item.id.clone(), cosine(vector, &item.vector)))
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.truncate(k);
    found
}

pub fn by_id(items: &[VectorItem]) -> BTreeMap<String, VectorItem> {
    items.iter().map(|item| (item.id.clone(), item.clone())).collect()
}

/// Asserts that the hits are the brute force's: equal scores in order, and the same ids where scores are
/// clearly apart.
#[track_caller]
pub fn assert_same(hits: &[Hit], expected: &[(String, f64)]) {
    assert_eq!(hits.len(), expected.len(), "number of hits");
    for (rank, (hit, (id, score))) in hits.iter().zip(expected).enumerate() {
        assert!((f64::from(hit.score) - score).abs() < 1e-5, "rank {rank}: {} instead of {score}", hit.score);
        let neighbours = [rank.checked_sub(1), Some(rank + 1)];
        let mut scores = neighbours.into_iter().flatten().filter_map(|rank| expected.get(rank));
        if scores.all(|(_, neighbour)| (neighbour - score).abs() > 1e-5) && rank + 1 < expected.len() {
            assert_eq!(hit.id, *id, "rank {rank}");
        }
    }
}

/// Part of the expected ids that were found.
pub fn recall(hits: &[Hit], expected: &[(String, f64)]) -> f64 {
    let found = expected.iter().filter(|(id, _)| hits.iter().any(|hit| hit.id == *id)).count();
    found as f64 / expected.len() as f64
}
