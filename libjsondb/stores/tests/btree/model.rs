//! Random calls in two open transactions against a sorted map: the same answers, the same items, the same place, and of
//! two that wrote the same item one commits. The folder is closed and opened, and its log made into a tree, in between.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use stores::{BtreeOptions, Database, ErrorCode, Item, Move, Paging, RangeQuery, Transaction, WriteOp};

use crate::common;
use crate::fixture::{Store, database, duplicates, indexed, raw, token, unique};
use crate::sorted_map::{Id, Items, SortedMap};

#[derive(Clone, Debug)]
enum Call {
    Write { op: WriteOp, key: u8, size: usize },
    Remove(u8),
    Find(u8),
    Step(Move),
    UpdateCurrent,
    RemoveCurrent,
    Page { offset: i64, size: i64, direction: i64 },
    Range { start: u8, stop: u8, reverse: bool, limit: usize },
    Commit,
    RollBack,
    Checkpoint,
    Reopen,
}

fn calls() -> impl Strategy<Value = Vec<(usize, Call)>> {
    let key = 0u8..8;
    let op = prop_oneof![
        3 => Just(WriteOp::Add),
        1 => Just(WriteOp::AddIfNotExists),
        1 => Just(WriteOp::Update),
        1 => Just(WriteOp::Upsert),
    ];
    // In the node, in a value segment at the checkpoint, in one at once.
    let size = prop_oneof![6 => Just(0usize), 1 => Just(6_000), 1 => Just(70_000)];
    let step = prop_oneof![Just(Move::First), Just(Move::Last), Just(Move::Next), Just(Move::Previous)];
    let call = prop_oneof![
        8 => (op, key.clone(), size).prop_map(|(op, key, size)| Call::Write { op, key, size }),
        2 => key.clone().prop_map(Call::Remove),
        2 => key.clone().prop_map(Call::Find),
        4 => step.prop_map(Call::Step),
        1 => Just(Call::UpdateCurrent),
        1 => Just(Call::RemoveCurrent),
        3 => (0..3i64, 1..4i64, 0..2i64)
            .prop_map(|(offset, size, direction)| Call::Page { offset, size, direction }),
        2 => (key.clone(), key, any::<bool>(), 1..4usize)
            .prop_map(|(start, stop, reverse, limit)| Call::Range { start, stop, reverse, limit }),
        3 => Just(Call::Commit),
        1 => Just(Call::RollBack),
        1 => Just(Call::Checkpoint),
        1 => Just(Call::Reopen),
    ];
    // Most calls go to one transaction, so that it gets somewhere before the other commits.
    prop::collection::vec((prop_oneof![2 => Just(0usize), 1 => Just(1)], call), 1..80)
}

/// The keys of a store, in its order; the model knows them by their place in it.
struct Keys {
    texts: [&'static str; 8],
    /// Where each stands as a bound: one without its last fields is before all that begin with it.
    bounds: [u8; 8],
}

const NUMBERS: Keys = Keys {
    texts: ["-3", "-0.5", "0", "1", "2.5", "10", "9007199254740993", "1e300"],
    bounds: [0, 1, 2, 3, 4, 5, 6, 7],
};
const MIXED: Keys = Keys {
    texts: ["null", "false", "true", "7", r#""7""#, "[1]", r#"{"a":1}"#, r#"{"a":1,"b":0}"#],
    bounds: [0, 1, 2, 3, 4, 5, 6, 7],
};
/// By `region`, then falling `rank`; a missing field is first, and last where its field falls. `note` neither orders nor
/// identifies.
const FIELDS: Keys = Keys {
    texts: [
        r#"{"rank":2,"note":0}"#,
        r#"{"rank":1}"#,
        r"{}",
        r#"{"region":"a","rank":"x"}"#,
        r#"{"region":"a","rank":2}"#,
        r#"{"rank":1.5,"region":"a"}"#,
        r#"{"region":"a","note":1}"#,
        r#"{"region":"b","rank":9}"#,
    ],
    bounds: [0, 1, 0, 3, 4, 5, 3, 7],
};

/// A value that tells its number whatever its size.
fn value_text(number: usize, size: usize) -> String {
    format!(r#"[{number},"{}"]"#, "x".repeat(size))
}

fn number_of(item: &Item) -> usize {
    let (number, filling): (usize, String) =
        serde_json::from_str(item.value.as_ref().unwrap().get()).unwrap();
    assert!(filling.bytes().all(|byte| byte == b'x'));
    number
}

/// One open transaction, with a database handle of its own.
struct Session {
    database: Arc<Database>,
    transaction: Arc<Transaction>,
    store: Store,
    map: SortedMap,
    /// Commits before it began.
    began: usize,
}

struct World {
    folder: tempfile::TempDir,
    keys: &'static Keys,
    is_unique: bool,
    committed: Items,
    /// What each commit wrote.
    commits: Vec<BTreeSet<Id>>,
    conflicts: usize,
    sessions: Vec<Session>,
}

impl World {
    fn new(options: BtreeOptions, keys: &'static Keys) -> Self {
        let folder = common::scratch();
        let database = database(&folder);
        let is_unique = options.is_unique;
        let transaction = begin(&database);
        drop(Store::create(&transaction, options));
        transaction.commit(&token()).unwrap();
        let mut world = Self {
            folder,
            keys,
            is_unique,
            committed: Items::new(),
            commits: Vec::new(),
            conflicts: 0,
            sessions: Vec::new(),
        };
        world.reopen();
        world
    }

    fn session(&self, database: Arc<Database>) -> Session {
        let transaction = begin(&database);
        let store = Store::open(&transaction, "model");
        let map = SortedMap::new(self.is_unique, self.committed.clone());
        Session { database, transaction, store, map, began: self.commits.len() }
    }

    fn begin_anew(&mut self, who: usize) {
        let database = self.sessions[who].database.clone();
        self.sessions[who] = self.session(database);
    }

    fn reopen(&mut self) {
        for session in self.sessions.drain(..) {
            session.database.close().unwrap();
        }
        self.sessions = (0..2).map(|_| self.session(database(&self.folder))).collect();
    }

    fn checkpoint(&self) {
        let engine = engine::Database::open(self.folder.path(), &engine::Options::default()).unwrap();
        engine.checkpoint().unwrap();
        engine.verify().unwrap();
    }

    /// A transaction that wrote loses if a later commit wrote one of its items, or one it looked up; it may lose if it
    /// walked; else it commits.
    fn commit(&mut self, who: usize) {
        let Session { transaction, map, began, .. } = &self.sessions[who];
        let later: BTreeSet<Id> = self.commits[*began..].iter().flatten().copied().collect();
        let same_item = map.written.iter().any(|id| later.contains(id));
        let same_key = later.iter().any(|id| map.looked_up.contains(&id.0));
        let must_lose = !map.written.is_empty() && (same_item || (self.is_unique && same_key));
        let may_lose = !map.written.is_empty() && !later.is_empty() && (must_lose || same_key || map.walked);
        match transaction.commit(&token()) {
            Ok(()) => {
                assert!(!must_lose, "a conflict was not seen");
                for id in &map.written {
                    match map.items.get(id) {
                        Some(value) => self.committed.insert(*id, *value),
                        None => self.committed.remove(id),
                    };
                }
                self.commits.push(map.written.clone());
            }
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Conflict, "{}", error.message());
                assert!(may_lose, "a conflict with nothing");
                self.conflicts += 1;
            }
        }
        self.begin_anew(who);
    }

    fn call(&mut self, who: usize, call: &Call, number: usize) {
        match call {
            Call::Commit => self.commit(who),
            Call::RollBack => {
                self.sessions[who].transaction.rollback(&token()).unwrap();
                self.begin_anew(who);
            }
            Call::Checkpoint => self.checkpoint(),
            Call::Reopen => self.reopen(),
            call => self.sessions[who].call(self.keys, call, number),
        }
    }

    fn check(&self) {
        for Session { store, map, .. } in &self.sessions {
            assert_eq!(store.current().map(|item| number_of(&item)), map.current());
            assert_eq!(store.count(), map.items.len() as u64);
        }
    }

    /// Everything, as a transaction that begins now sees it.
    fn check_committed(&mut self) {
        self.reopen();
        let store = &self.sessions[0].store;
        store.step(Move::First);
        let page = store.try_page(Paging { page_size: 1_000_000, ..Default::default() }).unwrap();
        assert!(page.iter().map(number_of).eq(self.committed.values().copied()));
    }
}

impl Session {
    fn call(&mut self, keys: &Keys, call: &Call, number: usize) {
        let Session { store, map, .. } = self;
        let text = |key: u8| keys.texts[usize::from(key)];
        match *call {
            Call::Write { op, key, size } => {
                let answer = store.write(op, &[(text(key), &value_text(number, size))]);
                assert_eq!(answer, map.write(op, key, number));
            }
            Call::Remove(key) => assert_eq!(store.remove(&[text(key)]), map.remove(key)),
            Call::Find(key) => assert_eq!(store.find(text(key)), map.find(key)),
            Call::Step(to) => assert_eq!(store.step(to), map.step(to)),
            Call::UpdateCurrent => {
                let answer = store.0.update_current(&token(), &raw(&value_text(number, 0))).unwrap();
                assert_eq!(answer, map.update_current(number));
            }
            Call::RemoveCurrent => {
                assert_eq!(store.0.remove_current(&token()).unwrap(), map.remove_current());
            }
            Call::Page { offset, size, direction } => {
                let paging = Paging { page_offset: offset, page_size: size, fetch_count: 0, direction };
                let found: Vec<usize> = store.try_page(paging).unwrap().iter().map(number_of).collect();
                assert_eq!(found, map.page((offset * size) as usize, size as usize, direction == 1));
            }
            Call::Range { start, stop, reverse, limit } => {
                let found = range(store, text(start), text(stop), reverse, limit);
                let place = |key: u8| keys.bounds[usize::from(key)];
                assert_eq!(found, map.range(place(start), place(stop), reverse));
            }
            Call::Commit | Call::RollBack | Call::Checkpoint | Call::Reopen => unreachable!(),
        }
    }
}

fn begin(database: &Arc<Database>) -> Arc<Transaction> {
    database.begin(stores::TransactionMode::ForWriting, stores::DEFAULT_MAX_TIME, &token()).unwrap()
}

/// A range, batch by batch.
fn range(store: &Store, start: &str, stop: &str, reverse: bool, limit: usize) -> Vec<usize> {
    let (from, to) = (raw(start), raw(stop));
    let mut found = Vec::new();
    let mut resume = None;
    loop {
        let query = RangeQuery { start: Some(&from), stop: Some(&to), reverse, resume };
        let batch = store.0.range(&token(), &query, limit, true).unwrap();
        found.extend(batch.items.iter().map(number_of));
        resume = batch.resume;
        if resume.is_none() {
            return found;
        }
    }
}

fn run(options: &BtreeOptions, keys: &'static Keys) {
    let config = ProptestConfig { failure_persistence: None, ..common::cases(500) };
    let histories = config.cases;
    let figures = RefCell::new((0, 0));
    let result = TestRunner::new(config).run(&calls(), |calls| {
        let mut world = World::new(options.clone(), keys);
        for (number, (who, call)) in calls.iter().enumerate() {
            world.call(*who, call, number);
            world.check();
        }
        world.check_committed();
        let mut figures = figures.borrow_mut();
        *figures = (figures.0 + world.commits.len(), figures.1 + world.conflicts);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let (commits, conflicts) = figures.into_inner();
    println!("{histories} histories, {commits} commits, {conflicts} conflicts");
}

#[test]
fn a_unique_store_is_a_sorted_map() {
    run(&unique("model"), &NUMBERS);
}

#[test]
fn a_store_with_duplicates_is_a_sorted_map_newest_first() {
    let values_in_segments = BtreeOptions { is_value_data_in_node_segment: false, ..duplicates("model") };
    run(&values_in_segments, &MIXED);
}

#[test]
fn a_store_of_composite_keys_is_a_sorted_map() {
    run(
        &BtreeOptions {
            is_value_data_actively_persisted: true,
            is_value_data_in_node_segment: false,
            ..indexed("model")
        },
        &FIELDS,
    );
}

#[test]
fn a_store_of_composite_keys_with_duplicates_is_a_sorted_map_newest_first() {
    let cached = BtreeOptions {
        is_value_data_globally_cached: true,
        is_value_data_in_node_segment: false,
        ..indexed("model")
    };
    run(&BtreeOptions { is_unique: false, ..cached }, &FIELDS);
}
