//! Random transactions on few variables, recorded event by event.
//!
//! A list is one value to which updates append. A register is a key that is set or removed; as a key that is not there cannot say which
//! removal it was, a removal also leaves its version in a second store, which is read only where the key is missed. So a read
//! knows its version, and what changes the presence of a key is still found by nothing but the miss or the range.

use std::collections::BTreeMap;
use std::ops::Bound;

use engine::{Database, Direction, Durability, ErrorKind, Mode, Options, Placement, StoreId};

use crate::common::Random;
use crate::history::{Event, Model, Outcome, Session, Transaction, Variable, Version};

/// Variables in use at a time: few, so that transactions meet.
const VARIABLES: u64 = 24;
/// A full list is followed by a new one, so that reads stay short.
const LIST_LEN_MAX: usize = 24;
const SCAN_WIDTH_MAX: u64 = 6;
/// Versions of different sessions differ in their remainder.
const SESSIONS_MAX: u64 = 1 << 20;

/// What one process does.
pub struct Work {
    pub model: Model,
    pub seed: u64,
    /// Numbers of its sessions, one thread each.
    pub sessions: std::ops::Range<u64>,
    /// Of each session.
    pub operations: u64,
}

/// Is told of each transaction of a session.
pub trait Journal {
    /// All of it is known but its end: its commit comes next. What is put into it here must be where nothing else is.
    fn before_commit(&mut self, _: &mut engine::Transaction, _: &Transaction) {}

    /// It has ended.
    fn ended(&mut self, transaction: Transaction);
}

impl Journal for Session {
    fn ended(&mut self, transaction: Transaction) {
        self.push(transaction);
    }
}

/// Where values are, and the versions of removals.
#[derive(Clone, Copy)]
pub struct Stores {
    values: StoreId,
    removed: StoreId,
}

/// Memtables so small that checkpoints go on all the time.
pub fn options() -> Options {
    // Some transactions are committed as runs.
    let write_set_bytes = 4 << 10;
    Options { memtable_bytes: 32 << 10, page_cache_bytes: 1 << 20, write_set_bytes, ..Options::default() }
}

/// Creates the stores when they are missing.
pub fn stores(database: &Database) -> Stores {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let values = transaction.ensure_store("values", b"").unwrap();
    let removed = transaction.ensure_store("removed", b"").unwrap();
    transaction.commit().unwrap();
    Stores { values, removed }
}

/// Runs all sessions of a process at the same time.
pub fn run(database: &Database, work: &Work) -> Vec<Session> {
    let stores = stores(database);
    std::thread::scope(|scope| {
        let threads: Vec<_> = work
            .sessions
            .clone()
            .map(|number| {
                scope.spawn(move || {
                    let mut session = Session::new();
                    run_session(database, stores, work, number, &mut session);
                    session
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Runs one session.
pub fn run_session(
    database: &Database,
    stores: Stores,
    work: &Work,
    number: u64,
    journal: &mut impl Journal,
) {
    let mut worker = Worker::new(database, stores, work, number);
    let mut done = 0;
    while done < work.operations {
        done += worker.transaction(journal);
    }
}

/// One transaction that reads all variables before `end`.
pub fn read_all(database: &Database, end: Variable) -> Transaction {
    let mut running = Running::begin(database, stores(database), Mode::Read);
    running.scan(0, end, Direction::Forward, usize::MAX);
    let mut session = Session::new();
    running.end(Mode::Read, &mut session);
    session.remove(0)
}

struct Worker<'a> {
    database: &'a Database,
    stores: Stores,
    model: Model,
    random: Random,
    /// The next version that it writes.
    version: Version,
    /// How often each list was followed by a new one, as far as this session knows.
    generations: [u64; VARIABLES as usize],
}

impl<'a> Worker<'a> {
    fn new(database: &'a Database, stores: Stores, work: &Work, number: u64) -> Self {
        assert!(number < SESSIONS_MAX);
        let random = Random::new(work.seed * SESSIONS_MAX + number);
        let (model, version) = (work.model, SESSIONS_MAX + number);
        Self { database, stores, model, random, version, generations: [0; VARIABLES as usize] }
    }

    /// Gives the number of operations.
    fn transaction(&mut self, journal: &mut impl Journal) -> u64 {
        let mode = if self.random.one_in(5) { Mode::Read } else { Mode::Write };
        let mut running = Running::begin(self.database, self.stores, mode);
        if self.random.one_in(3) {
            running.transaction.set_durability(Durability::Relaxed);
        }
        for _ in 0..self.random.below(5) + 1 {
            if self.random.one_in(3) {
                std::thread::yield_now();
            }
            running.operations += 1;
            match self.random.below(8) {
                0..3 => drop(running.read(self.variable())),
                3 | 4 => self.scan(&mut running),
                _ if mode == Mode::Read => drop(running.read(self.variable())),
                5 | 6 => self.update(&mut running),
                _ => self.blind_write(&mut running),
            }
        }
        let operations = running.operations;
        if self.random.one_in(10) {
            journal.ended(running.roll_back());
        } else {
            running.end(mode, journal);
        }
        operations
    }

    fn variable(&mut self) -> Variable {
        let slot = self.random.below(VARIABLES);
        self.generations[slot as usize] * VARIABLES + slot
    }

    fn scan(&mut self, running: &mut Running) {
        let first = self.variable();
        let end = first + self.random.below(SCAN_WIDTH_MAX) + 1;
        let direction = if self.random.one_in(2) { Direction::Backward } else { Direction::Forward };
        running.scan(first, end, direction, self.random.below(SCAN_WIDTH_MAX) as usize + 1);
    }

    /// Writes what depends on what was read.
    fn update(&mut self, running: &mut Running) {
        let variable = self.variable();
        let seen = running.read(variable);
        if self.model == Model::Lists && seen.len() >= LIST_LEN_MAX {
            self.generations[(variable % VARIABLES) as usize] += 1;
            return;
        }
        self.write(running, variable, seen);
    }

    /// A list cannot be written blindly: its elements are one value.
    fn blind_write(&mut self, running: &mut Running) {
        match self.model {
            Model::Lists => self.update(running),
            Model::Registers => {
                let variable = self.variable();
                self.write(running, variable, Vec::new());
            }
        }
    }

    fn write(&mut self, running: &mut Running, variable: Variable, mut value: Vec<Version>) {
        let version = self.version;
        self.version += SESSIONS_MAX;
        self.model.write(&mut value, version);
        if self.model == Model::Registers && self.random.one_in(4) {
            running.remove(variable, version);
        } else {
            let placement = if self.random.one_in(50) { Placement::Eager } else { Placement::Auto };
            running.put(variable, &value, placement);
        }
        running.events.push(Event::Write { variable, version });
    }
}

/// A transaction and its record.
struct Running {
    transaction: engine::Transaction,
    stores: Stores,
    events: Vec<Event>,
    operations: u64,
    began: u64,
}

impl Running {
    fn begin(database: &Database, stores: Stores, mode: Mode) -> Self {
        let began = now();
        let transaction = database.begin(mode).unwrap();
        Self { transaction, stores, events: Vec::new(), operations: 0, began }
    }

    fn read(&mut self, variable: Variable) -> Vec<Version> {
        let found = self.transaction.get(self.stores.values, &variable.to_be_bytes()).unwrap();
        let value = found.map(|value| self.transaction.load(&value).unwrap());
        self.saw(variable, value)
    }

    /// Every variable walked over counts as read, also those that are not there.
    fn scan(&mut self, first: Variable, end: Variable, direction: Direction, limit: usize) {
        let (from, to) = (first.to_be_bytes(), end.to_be_bytes());
        let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let entries = self.transaction.scan(self.stores.values, from, to, direction, limit).unwrap();
        let mut found = BTreeMap::new();
        let mut last = None;
        for entry in &entries {
            let variable = Variable::from_be_bytes(entry.key.as_slice().try_into().unwrap());
            let in_order = last.is_none_or(|last| match direction {
                Direction::Forward => last < variable,
                Direction::Backward => variable < last,
            });
            assert!(
                in_order && (first..end).contains(&variable),
                "{variable} after {last:?} in {first}..{end}"
            );
            found.insert(variable, self.transaction.load(&entry.value).unwrap());
            last = Some(variable);
        }
        let (first, end) = match (direction, last) {
            (Direction::Forward, Some(last)) if entries.len() == limit => (first, last + 1),
            (Direction::Backward, Some(last)) if entries.len() == limit => (last, end),
            _ => (first, end),
        };
        for variable in first..end {
            self.saw(variable, found.remove(&variable));
        }
    }

    /// Records a read of a value, or of the removal that took it away.
    fn saw(&mut self, variable: Variable, value: Option<Vec<u8>>) -> Vec<Version> {
        let bytes = value.or_else(|| {
            let removal = self.transaction.get(self.stores.removed, &variable.to_be_bytes()).unwrap();
            removal.map(|version| self.transaction.load(&version).unwrap())
        });
        let seen = decode(&bytes.unwrap_or_default());
        self.events.push(Event::Read { variable, seen: seen.clone() });
        seen
    }

    fn put(&mut self, variable: Variable, value: &[Version], placement: Placement) {
        self.transaction.put(self.stores.values, &variable.to_be_bytes(), &encode(value), placement).unwrap();
    }

    fn remove(&mut self, variable: Variable, version: Version) {
        let key = variable.to_be_bytes();
        self.transaction.delete(self.stores.values, &key).unwrap();
        self.transaction.put(self.stores.removed, &key, &encode(&[version]), Placement::Auto).unwrap();
    }

    fn roll_back(self) -> Transaction {
        let Self { transaction, events, operations, began, .. } = self;
        let seq = transaction.snapshot().0;
        transaction.rollback();
        Transaction { events, operations, outcome: Outcome::RolledBack, seq, began, ended: now() }
    }

    fn end(self, mode: Mode, journal: &mut impl Journal) {
        let Self { mut transaction, events, operations, began, .. } = self;
        let snapshot = transaction.snapshot();
        let outcome = Outcome::RolledBack;
        let mut record = Transaction { events, operations, outcome, seq: snapshot.0, began, ended: u64::MAX };
        if record.writes().next().is_some() {
            journal.before_commit(&mut transaction, &record);
        }
        let (outcome, seq) = match transaction.commit() {
            Ok(seq) => (Outcome::Committed, seq),
            Err(error) => {
                assert_eq!(mode, Mode::Write, "what only reads never fails: {error}");
                match error.kind() {
                    ErrorKind::Conflict => (Outcome::Conflict, snapshot),
                    ErrorKind::SnapshotTooOld => (Outcome::SnapshotTooOld, snapshot),
                    _ => panic!("{error}"),
                }
            }
        };
        record = Transaction { outcome, seq: seq.0, ended: now(), ..record };
        journal.ended(record);
    }
}

fn encode(value: &[Version]) -> Vec<u8> {
    value.iter().flat_map(|version| version.to_be_bytes()).collect()
}

fn decode(bytes: &[u8]) -> Vec<Version> {
    assert_eq!(bytes.len() % 8, 0, "part of a value: {bytes:?}");
    bytes.chunks_exact(8).map(|version| Version::from_be_bytes(version.try_into().unwrap())).collect()
}

/// Nanoseconds of the one steady clock that all processes of the machine share; that of the standard library cannot be told to
/// another process.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to the given place and nowhere else.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(result, 0, "no steady clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
