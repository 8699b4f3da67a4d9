//! Campaigns over a vector store: rows come and go, and the index is drained, split, vacuumed and built anew, while the power is cut, calls fail,
//! processes die or files are damaged. What must hold then is in `audit`. `scripts/prove` runs them.

mod audit;
mod damage;
#[cfg(unix)]
mod kills;
mod os_faults;
mod power_cut;
#[cfg(unix)]
#[path = "../../../../../engine/tests/common/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::common::Random;
use crate::{
    CancelToken, DEFAULT_MAX_TIME, Database, DatabaseOptions, Error, ErrorCode, Result, Session,
    TransactionMode, VectorItem, VectorOptions, VectorStore,
};

const STORE: &str = "v";
/// Blocks of vectors lie in files of their own.
const DIMENSION: usize = 32;
/// Places that rows lie around.
const PLACES: u64 = 6;
/// Above so many rows most are deleted: enough for a vacuum.
const ROWS_MAX: usize = 1500;
/// Values of the field `group`.
const GROUPS: u64 = 5;

/// What is wrong.
#[derive(Debug)]
enum Broken {
    /// A call said that it failed.
    Told(Error),
    /// It said something else than it should.
    Wrong(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Told(error) => write!(out, "{:?}: {error}", error.code()),
            Broken::Wrong(what) => out.write_str(what),
        }
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Broken::Told(error)
    }
}

type Verdict<T> = std::result::Result<T, Broken>;

fn wrong<T>(what: impl Into<String>) -> Verdict<T> {
    Err(Broken::Wrong(what.into()))
}

/// All rows of a store by id.
type Rows = BTreeMap<String, VectorItem>;

/// Someone who writes rows of its own. What it does follows from its name and the number of the step.
#[derive(Clone, Debug)]
struct Writer {
    name: String,
    number: u64,
    rows: Rows,
}

/// One transaction, and whether the index is built anew behind it.
struct Step {
    number: u64,
    upserted: Vec<VectorItem>,
    deleted: Vec<String>,
    optimizes: bool,
}

impl Writer {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), number: 0, rows: Rows::new() }
    }

    /// As it was after a step of this number.
    fn at(name: &str, number: u64) -> Self {
        let mut writer = Self::new(name);
        (0..number).for_each(|_| drop(writer.step()));
        writer
    }

    /// The next step; its rows are the writer's from now on.
    fn step(&mut self) -> Step {
        self.number += 1;
        let seed = xxhash_rust::xxh3::xxh3_64(self.name.as_bytes());
        let mut random = Random::new(seed ^ self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut upserted, mut deleted) = (Vec::new(), Vec::new());
        let are_many = self.rows.len() > ROWS_MAX;
        if self.number > 1 && (are_many || random.one_in(5)) {
            let part = if are_many { 8 } else { 1 + random.below(4) };
            deleted = self.rows.keys().filter(|_| random.below(10) < part).cloned().collect();
        } else {
            let count = if self.number == 1 { 900 } else { 1 + random.below(400) };
            let place = random.below(PLACES);
            upserted = (0..count).map(|row| self.row(&mut random, place, row)).collect();
        }
        deleted.retain(|id| *id != self.number_id());
        upserted.push(self.number_row());
        for id in &deleted {
            self.rows.remove(id);
        }
        self.rows.extend(upserted.iter().map(|item| (item.id.clone(), item.clone())));
        Step { number: self.number, upserted, deleted, optimizes: self.number == 1 || random.one_in(6) }
    }

    fn row(&self, random: &mut Random, place: u64, row: u64) -> VectorItem {
        // Some replace others.
        let number = if random.one_in(6) { 1 + random.below(self.number) } else { self.number };
        // Most are so near one another that they come to one cluster, which is split.
        let is_near = !random.one_in(3);
        let (near, spread) = if is_near { (place, 0.5) } else { (random.below(PLACES), 4.0) };
        let shift = if is_near { self.number as usize } else { 0 };
        let at = |index: usize| ((near as usize * 37 + (index + shift) * 11) % 17) as f32 - 8.0;
        let off = |random: &mut Random| spread * (random.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0);
        VectorItem {
            id: format!("{}-{number}-{row}", self.name),
            vector: (0..DIMENSION).map(|index| at(index) + off(random)).collect(),
            payload: Some(raw(json!({"group": random.below(GROUPS), "at": row}))),
            centroid_id: random.below(12).saturating_sub(9).cast_signed(),
        }
    }

    fn number_id(&self) -> String {
        format!("{}-number", self.name)
    }

    /// A row that tells the number of the writer's last step.
    fn number_row(&self) -> VectorItem {
        // Writers that came equally far are told apart: each has an axis on which it lies on the other side.
        let own = self.name.bytes().map(usize::from).sum::<usize>() % DIMENSION;
        let side = |index: usize| if index == own { -9.0 } else { 1.0 };
        let vector = (0..DIMENSION).map(|index| side(index) * (self.number + index as u64) as f32).collect();
        let payload = Some(raw(json!({ "number": self.number })));
        VectorItem { id: self.number_id(), vector, payload, centroid_id: 0 }
    }
}

fn raw(value: serde_json::Value) -> Box<RawValue> {
    to_raw_value(&value).unwrap()
}

fn open(folder: &Path) -> Arc<Database> {
    let storage_path = folder.to_str().unwrap().to_owned();
    // The least there is: checkpoints are made all the time.
    let memory_limit = Some(crate::database::MEMORY_LIMIT_MIN);
    Database::open(DatabaseOptions { storage_path, memory_limit, ..DatabaseOptions::default() }).unwrap()
}

fn store_of(session: Session) -> VectorStore {
    VectorStore::open(session, STORE, VectorOptions::default()).unwrap()
}

/// Makes a step. `stored` is told once its rows are durable, and maintenance of the index follows.
fn make(database: &Arc<Database>, step: &Step, stored: impl FnOnce() + Send + 'static) -> Result<()> {
    let cancel = CancelToken::new();
    let transaction = database.begin(TransactionMode::ForWriting, DEFAULT_MAX_TIME, &cancel)?;
    let inside = store_of(Session::In(Arc::clone(&transaction)));
    inside.delete(&cancel, &step.deleted)?;
    inside.upsert(&cancel, &step.upserted)?;
    // Before that of any store.
    transaction.after_commit("", |_| stored());
    transaction.commit(&cancel)?;
    if step.optimizes {
        store_of(Session::Auto(Arc::clone(database))).optimize(&cancel)?;
    }
    Ok(())
}

/// The number of the last step of a writer that a store has.
fn number_in(database: &Arc<Database>, writer: &str) -> Result<u64> {
    let store = store_of(Session::Auto(Arc::clone(database)));
    let item = match store.get(&CancelToken::new(), &Writer::new(writer).number_id()) {
        Err(error) if error.code() == ErrorCode::ItemNotFound => return Ok(0),
        item => item?,
    };
    let payload: serde_json::Value = serde_json::from_str(item.payload.unwrap().get()).unwrap();
    Ok(payload["number"].as_u64().unwrap())
}

/// Steps of a writer in a new database, in a folder that is closed then.
fn prepared(folder: &Path, name: &str, steps: u64) -> Writer {
    let (database, mut writer) = (open(folder), Writer::new(name));
    (0..steps).for_each(|_| make(&database, &writer.step(), || ()).unwrap());
    database.close().unwrap();
    writer
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
