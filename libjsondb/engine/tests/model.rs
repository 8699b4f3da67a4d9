//! The engine against a sorted map, under random operations with tiny memtables: checkpoints, garbage collection and reopening
//! happen all the time. Two write transactions stay open beside them: each sees its snapshot and its own writes, and whether its
//! commit conflicts is known.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/shared.rs"]
mod shared;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range, RangeBounds};

use engine::{Database, Direction, ErrorKind, Mode, Options, Placement, StoreId, Transaction};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const KEYS: Range<u16> = 0..300;

/// A key and what to write there: length and placement of the value, or None to delete.
type Write = (u16, Option<(u32, Placement)>);

#[derive(Clone, Debug)]
enum Step {
    /// One transaction, committed or dropped.
    Transaction(Vec<Write>, bool),
    /// One of two transactions that stay open goes on, and begins if need be.
    Act(usize, Act),
    Checkpoint,
    Reopen,
    /// A reader that stays open for some steps.
    HoldReader,
    Check,
}

#[derive(Clone, Debug)]
enum Act {
    Write(Vec<Write>),
    Get(u16),
    Scan((u16, u16), Direction, usize),
    Commit,
    Drop,
}

fn write() -> impl Strategy<Value = Write> {
    let len = prop_oneof![5 => 0u32..200, 2 => 3000u32..6000, 1 => 60_000u32..140_000];
    let placement = prop_oneof![Just(Placement::Auto), Just(Placement::Eager)];
    (KEYS, prop::option::weighted(0.7, (len, placement)))
}

fn act() -> impl Strategy<Value = Act> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    prop_oneof![
        3 => prop::collection::vec(write(), 1..6).prop_map(Act::Write),
        2 => KEYS.prop_map(Act::Get),
        2 => ((KEYS, KEYS), direction, 1usize..10)
            .prop_map(|(range, direction, limit)| Act::Scan(range, direction, limit)),
        2 => Just(Act::Commit),
        1 => Just(Act::Drop),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (prop::collection::vec(write(), 1..40), prop::bool::weighted(0.9))
            .prop_map(|(writes, commit)| Step::Transaction(writes, commit)),
        16 => (0usize..2, act()).prop_map(|(slot, act)| Step::Act(slot, act)),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::HoldReader),
        2 => Just(Step::Check),
    ];
    prop::collection::vec(step, 1..60)
}

fn value(key: u16, len: u32, salt: usize) -> Vec<u8> {
    (0..len).map(|index| (index as usize * 31 + usize::from(key) + salt) as u8).collect()
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn check(transaction: &mut Transaction, store: StoreId, model: &Model) {
    let mut forward = Vec::new();
    let all = (Bound::Unbounded, Bound::Unbounded);
    for entry in transaction.scan(store, all.0, all.1, Direction::Forward, usize::MAX).unwrap() {
        let bytes = transaction.load(&entry.value).unwrap();
        assert_eq!(model.get(&entry.key), Some(&bytes), "key {:?}", entry.key);
        forward.push(entry.key);
    }
    assert_eq!(forward, model.keys().cloned().collect::<Vec<_>>());
    let backward = transaction.scan(store, all.0, all.1, Direction::Backward, usize::MAX).unwrap();
    assert!(backward.iter().map(|entry| &entry.key).eq(model.keys().rev()));
    for key in KEYS.step_by(7) {
        let key = key.to_be_bytes();
        let found = transaction.get(store, &key).unwrap().map(|value| transaction.load(&value).unwrap());
        assert_eq!(found.as_ref(), model.get(&key[..]));
        let start = Bound::Excluded(&key[..]);
        let next = transaction.scan(store, start, Bound::Unbounded, Direction::Forward, 1).unwrap();
        let expected = model.range::<[u8], _>((start, Bound::Unbounded)).next();
        assert_eq!(next.first().map(|entry| &entry.key), expected.map(|(key, _)| key));
        let previous = transaction.scan(store, Bound::Unbounded, start, Direction::Backward, 1).unwrap();
        let expected = model.range::<[u8], _>((Bound::Unbounded, start)).next_back();
        assert_eq!(previous.first().map(|entry| &entry.key), expected.map(|(key, _)| key));
    }
    assert_eq!(transaction.counter(store, b"n").unwrap(), model.len() as i64);
}

/// What a write transaction read or wrote: ranges, a key being the range from itself to itself.
type Touched = Vec<(Bound<Vec<u8>>, Bound<Vec<u8>>)>;

/// A write transaction that stays open while others commit: it sees its snapshot and its own writes.
struct Writer {
    transaction: Transaction,
    view: Model,
    written: BTreeSet<Vec<u8>>,
    touched: Touched,
    /// Commits before it began.
    began: usize,
}

impl Writer {
    fn put(&mut self, store: StoreId, key: u16, write: Option<(u32, Placement)>, salt: usize) {
        let bytes = key.to_be_bytes().to_vec();
        let mut is_written = true;
        match write {
            Some((len, placement)) => {
                let value = value(key, len, salt);
                self.store_value(store, &bytes, &value, placement, salt);
                self.view.insert(bytes.clone(), value);
            }
            None => {
                is_written = self.remove(store, &bytes, salt);
                self.view.remove(&bytes);
            }
        }
        self.touched.push((Bound::Included(bytes.clone()), Bound::Included(bytes.clone())));
        if is_written {
            self.written.insert(bytes);
        }
    }

    /// By the call that the salt chooses; those that tell whether the key was there tell it right.
    fn store_value(&mut self, store: StoreId, key: &[u8], value: &[u8], placement: Placement, salt: usize) {
        let transaction = &mut self.transaction;
        let at_once = match salt % 3 {
            0 => return transaction.put(store, key, value, placement).unwrap(),
            1 if placement == Placement::Auto => transaction.try_upsert(store, key, value).unwrap(),
            _ => None,
        };
        let is_new = at_once.unwrap_or_else(|| transaction.upsert(store, key, value, placement).unwrap());
        assert_eq!(is_new, !self.view.contains_key(key));
    }

    /// As [`Writer::store_value`]. True when the removal counts as written, not as read.
    fn remove(&mut self, store: StoreId, key: &[u8], salt: usize) -> bool {
        let transaction = &mut self.transaction;
        let at_once = match salt % 3 {
            0 => {
                transaction.delete(store, key).unwrap();
                return true;
            }
            1 => transaction.try_remove(store, key).unwrap(),
            _ => None,
        };
        let was_there = at_once.unwrap_or_else(|| transaction.remove(store, key).unwrap());
        assert_eq!(was_there, self.view.contains_key(key));
        was_there
    }

    fn get(&mut self, store: StoreId, key: u16) {
        let bytes = key.to_be_bytes().to_vec();
        let found = self.transaction.get(store, &bytes).unwrap();
        let found = found.map(|value| self.transaction.load(&value).unwrap());
        assert_eq!(found.as_ref(), self.view.get(&bytes));
        self.touched.push((Bound::Included(bytes.clone()), Bound::Included(bytes)));
    }

    fn scan(&mut self, store: StoreId, range: (u16, u16), direction: Direction, limit: usize) {
        let (low, high) = (range.0.min(range.1).to_be_bytes(), range.0.max(range.1).to_be_bytes());
        let (start, end) = (Bound::Included(&low[..]), Bound::Excluded(&high[..]));
        let entries = self.transaction.scan(store, start, end, direction, limit).unwrap();
        let found: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.key).collect();
        let mut expected: Vec<Vec<u8>> =
            self.view.range::<[u8], _>((start, end)).map(|(key, _)| key.clone()).collect();
        if direction == Direction::Backward {
            expected.reverse();
        }
        expected.truncate(limit);
        assert_eq!(found, expected);
        let stopped = found.last().filter(|_| found.len() == limit).map(|key| Bound::Included(key.clone()));
        let (start, end) = (start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec));
        self.touched.push(match direction {
            Direction::Forward => (start, stopped.unwrap_or(end)),
            Direction::Backward => (stopped.unwrap_or(start), end),
        });
    }

    fn meets(&self, key: &[u8]) -> bool {
        self.touched.iter().any(|(start, end)| {
            (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice)).contains(key)
        })
    }
}

/// A commit, as later validations see it.
struct Commit {
    keys: BTreeSet<Vec<u8>>,
    bytes: usize,
}

struct World {
    folder: tempfile::TempDir,
    database: Database,
    store: StoreId,
    model: Model,
    commits: Vec<Commit>,
    conflicts: usize,
    readers: Vec<(Transaction, Model)>,
    writers: [Option<Writer>; 2],
}

fn options() -> Options {
    Options {
        memtable_bytes: 32 << 10,
        page_cache_bytes: 256 << 10,
        write_set_bytes: 16 << 10,
        ..Options::default()
    }
}

impl World {
    fn new() -> World {
        let folder = common::scratch();
        let database = shared::open(folder.path(), &options());
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("model", b"").unwrap();
        transaction.commit().unwrap();
        World {
            folder,
            database,
            store,
            model: Model::new(),
            commits: Vec::new(),
            conflicts: 0,
            readers: Vec::new(),
            writers: [None, None],
        }
    }

    fn begin(&self) -> Writer {
        Writer {
            transaction: self.database.begin(Mode::Write).unwrap(),
            view: self.model.clone(),
            written: BTreeSet::new(),
            touched: Vec::new(),
            began: self.commits.len(),
        }
    }

    /// Commits; a transaction that wrote loses iff a later commit wrote what it wrote, read or scanned.
    fn commit(&mut self, mut writer: Writer) {
        let later = &self.commits[writer.began..];
        let loses =
            !writer.written.is_empty() && later.iter().flat_map(|c| &c.keys).any(|key| writer.meets(key));
        let (mut next, mut bytes) = (self.model.clone(), 0);
        for key in &writer.written {
            bytes += key.len() + writer.view.get(key).map_or(0, Vec::len);
            match writer.view.get(key) {
                Some(value) => next.insert(key.clone(), value.clone()),
                None => next.remove(key),
            };
        }
        let added = next.len() as i64 - self.model.len() as i64;
        if !writer.written.is_empty() {
            writer.transaction.add_to_counter(self.store, b"n", added).unwrap();
        }
        match writer.transaction.commit() {
            Ok(_) => {
                assert!(!loses, "a conflict was not seen");
                self.model = next;
                self.commits.push(Commit { keys: writer.written, bytes });
                self.database.verify().unwrap();
            }
            // Only a limited amount of what was committed since is kept to validate against.
            Err(error) if error.kind() == ErrorKind::SnapshotTooOld => {
                let since: usize = self.commits[writer.began..].iter().map(|commit| commit.bytes).sum();
                assert!(since > 32 << 10, "too old after {since} bytes");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert!(loses, "a conflict with nothing");
                self.conflicts += 1;
            }
        }
    }

    fn reopen(&mut self) {
        self.readers.clear();
        self.writers = [None, None];
        self.database.close().unwrap();
        self.database = shared::open(self.folder.path(), &options());
    }

    fn check(&mut self) {
        check(&mut self.database.begin(Mode::Read).unwrap(), self.store, &self.model);
        for (transaction, model) in &mut self.readers {
            check(transaction, self.store, model);
        }
    }

    fn act(&mut self, slot: usize, act: Act, salt: usize) {
        let store = self.store;
        let mut writer = self.writers[slot].take().unwrap_or_else(|| self.begin());
        match act {
            Act::Write(writes) => {
                for (key, write) in writes {
                    writer.put(store, key, write, salt);
                }
            }
            Act::Get(key) => writer.get(store, key),
            Act::Scan(range, direction, limit) => writer.scan(store, range, direction, limit),
            Act::Commit => return self.commit(writer),
            Act::Drop => return,
        }
        self.writers[slot] = Some(writer);
    }

    fn step(&mut self, step: Step, salt: usize) {
        match step {
            Step::Transaction(writes, commit) => {
                let mut writer = self.begin();
                for (key, write) in writes {
                    writer.put(self.store, key, write, salt);
                }
                if commit {
                    self.commit(writer);
                }
            }
            Step::Act(slot, act) => self.act(slot, act, salt),
            Step::Checkpoint => {
                self.database.checkpoint().unwrap();
                self.database.verify().unwrap();
            }
            Step::Reopen => self.reopen(),
            Step::HoldReader => {
                self.readers.truncate(2);
                self.readers.insert(0, (self.database.begin(Mode::Read).unwrap(), self.model.clone()));
            }
            Step::Check => self.check(),
        }
    }
}

fn run(steps: Vec<Step>, figures: &mut Figures) {
    let mut world = World::new();
    for (salt, step) in steps.into_iter().enumerate() {
        world.step(step, salt);
    }
    world.check();
    world.reopen();
    world.check();
    world.database.close().unwrap();
    figures.commits += world.commits.len();
    figures.conflicts += world.conflicts;
}

#[derive(Default)]
struct Figures {
    commits: usize,
    conflicts: usize,
}

#[test]
fn the_engine_is_a_sorted_map() {
    let config = ProptestConfig { failure_persistence: None, ..common::cases(800) };
    let histories = config.cases;
    let figures = RefCell::new(Figures::default());
    let result = TestRunner::new(config).run(&steps(), |steps| {
        run(steps, &mut figures.borrow_mut());
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let Figures { commits, conflicts } = figures.into_inner();
    println!("{histories} histories, {commits} commits, {conflicts} conflicts, each foretold");
}
