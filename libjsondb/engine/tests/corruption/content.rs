//! Everything a database answers, and comparing it with a database that was damaged.

use std::collections::BTreeMap;
use std::ops::Bound;

use engine::{Database, Direction, Entry, Error, Mode, Placement, StoreId, Transaction};

/// Counters that some store may have.
const COUNTERS: [&[u8]; 2] = [b"count", b"never"];
/// What [`write`] adds to.
const STORE: &str = "users";

/// What one store answers.
#[derive(Clone, PartialEq, Eq)]
struct Store {
    metadata: Vec<u8>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    counters: Vec<i64>,
}

/// What a database answers: its stores by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(BTreeMap<String, Store>);

/// What came of asking a damaged database: what it refused, or a wrong answer.
pub type Asked = Result<Vec<Error>, String>;

impl Content {
    /// The answers of an undamaged database.
    pub fn of(database: &Database) -> Content {
        let mut transaction = database.begin(Mode::Read).unwrap();
        let mut stores = BTreeMap::new();
        for name in transaction.store_names("").unwrap() {
            let (id, metadata) = transaction.store(&name).unwrap().unwrap();
            let entries = scan(&mut transaction, id, Direction::Forward).unwrap();
            let entries =
                entries.into_iter().map(|entry| (entry.key, transaction.load(&entry.value).unwrap()));
            let entries = entries.collect();
            let counters = COUNTERS.map(|name| transaction.counter(id, name).unwrap()).to_vec();
            stores.insert(name, Store { metadata, entries, counters });
        }
        Content(stores)
    }

    /// This content after [`write`].
    pub fn written(&self, key: &[u8]) -> Content {
        let mut content = self.clone();
        let store = content.0.get_mut(STORE).unwrap();
        store.entries.insert(key.to_vec(), key.to_vec());
        store.counters[0] += 1;
        content
    }

    /// Asks everything, each question whatever became of the ones before.
    pub fn ask(&self, database: &Database) -> Asked {
        let mut refused = Vec::new();
        let Some(mut transaction) = keep(database.begin(Mode::Read), &mut refused) else {
            return Ok(refused);
        };
        if let Some(names) = keep(transaction.store_names(""), &mut refused)
            && !names.iter().eq(self.0.keys())
        {
            return Err(format!("the stores are {names:?}"));
        }
        for (name, store) in &self.0 {
            let Some(found) = keep(transaction.store(name), &mut refused) else { continue };
            match found {
                Some((id, metadata)) if metadata == store.metadata => {
                    store
                        .ask(id, &mut transaction, &mut refused)
                        .map_err(|what| format!("{name}: {what}"))?;
                }
                found => return Err(format!("store {name} is {found:?}")),
            }
        }
        Ok(refused)
    }
}

impl Store {
    fn ask(
        &self,
        id: StoreId,
        transaction: &mut Transaction,
        refused: &mut Vec<Error>,
    ) -> Result<(), String> {
        for (key, value) in &self.entries {
            let found = transaction
                .get(id, key)
                .and_then(|found| found.map(|value| transaction.load(&value)).transpose());
            if keep(found, refused).is_some_and(|found| found.as_ref() != Some(value)) {
                return Err(format!("the value of {key:?} is wrong"));
            }
            let absent = [key, &b"\0"[..]].concat();
            if !self.entries.contains_key(&absent)
                && keep(transaction.get(id, &absent), refused).is_some_and(|found| found.is_some())
            {
                return Err(format!("{absent:?} was never stored"));
            }
        }
        for (name, sum) in COUNTERS.iter().zip(&self.counters) {
            if keep(transaction.counter(id, name), refused).is_some_and(|found| found != *sum) {
                return Err(format!("counter {name:?} is wrong"));
            }
        }
        let forward = scan(transaction, id, Direction::Forward);
        let backward = scan(transaction, id, Direction::Backward);
        self.compare(transaction, forward, refused, self.entries.iter())?;
        self.compare(transaction, backward, refused, self.entries.iter().rev())
    }

    /// A scan shows every entry in order.
    fn compare<'a>(
        &self,
        transaction: &Transaction,
        scanned: engine::Result<Vec<Entry>>,
        refused: &mut Vec<Error>,
        mut expected: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    ) -> Result<(), String> {
        let Some(scanned) = keep(scanned, refused) else { return Ok(()) };
        for entry in scanned {
            let Some((key, value)) = expected.next() else { return Err("a scan shows too much".into()) };
            let loaded = keep(transaction.load(&entry.value), refused);
            if entry.key != *key || loaded.is_some_and(|loaded| loaded != *value) {
                return Err(format!("a scan shows {:?} in place of {key:?}", entry.key));
            }
        }
        if expected.next().is_some() { Err("a scan shows too little".into()) } else { Ok(()) }
    }
}

fn scan(transaction: &mut Transaction, store: StoreId, direction: Direction) -> engine::Result<Vec<Entry>> {
    transaction.scan(store, Bound::Unbounded, Bound::Unbounded, direction, usize::MAX)
}

/// The answer, or None when it was refused.
pub fn keep<T>(answer: engine::Result<T>, refused: &mut Vec<Error>) -> Option<T> {
    answer.map_err(|error| refused.push(error)).ok()
}

/// One commit more: a key with itself as its value.
pub fn write(database: &Database, key: &[u8]) -> engine::Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store(STORE, b"people")?;
    transaction.put(store, key, key, Placement::Auto)?;
    transaction.add_to_counter(store, COUNTERS[0], 1)?;
    transaction.commit().map(drop)
}
