//! One process of a simulated machine: a few actors, each with a transaction at a time, interleaved call by call.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::history::{Event, Outcome, Session, Transaction as Record, Variable, Version};
use crate::os::simulated::{now, pause, survive};
use crate::random::Random;
use crate::shared::coordinator::Coordinator;
use crate::{
    CancelToken, Database, Direction, Error, ErrorKind, Mode, Options, Placement, Progress, Result, StoreId,
    Transaction,
};

pub(super) const ACTORS: usize = 4;
/// Few, so that transactions meet.
const VARIABLES: u64 = 10;
/// A full list is followed by a new one.
const LIST_LEN_MAX: usize = 16;
const SCAN_WIDTH_MAX: u64 = 4;
pub(super) const FOLDER: &str = "/shared/database";
const COUNTER: &[u8] = b"sum";
/// What the error of a commit says whose outcome nobody knows.
const UNKNOWN: &str = "whether the last commit was stored is known once";
const NOT_BEGUN: &str = "an earlier error ended this handle";

/// Where the database is, and how it is opened.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) folder: &'static str,
    /// By processes of one machine.
    pub(super) is_standalone: bool,
    /// One step in so many brings copies back that are not up to date; 0: none.
    pub(super) reinstate: u64,
}

impl Place {
    pub(super) fn shared() -> Place {
        Place { folder: FOLDER, is_standalone: false, reinstate: 0 }
    }

    pub(super) fn open(&self, options: &Options, redis: Option<Arc<dyn Coordinator>>) -> Result<Database> {
        let folder = Path::new(self.folder);
        if self.is_standalone {
            Database::open_alone(folder, options)
        } else {
            Database::open_shared_alone_with(folder, options, redis)
        }
    }
}

/// What a process does.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) place: Place,
    pub(super) steps: u64,
    /// Calls may fail.
    pub(super) has_faults: bool,
    pub(super) options: Options,
    /// One step in so many is a checkpoint.
    pub(super) checkpoint: u64,
    /// One step in so many is followed by minutes of rest.
    pub(super) rest: u64,
}

/// What an actor did.
#[derive(Default)]
pub(super) struct Actor {
    pub(super) session: Session,
    /// Transactions of the session whose outcome it was not told.
    pub(super) unknown: Vec<usize>,
    /// What each transaction added to the counter.
    pub(super) added: Vec<i64>,
    current: Option<Current>,
    generations: [u64; VARIABLES as usize],
}

/// A transaction that goes on.
struct Current {
    events: Vec<Event>,
    operations: u64,
    began: u64,
    added: i64,
    is_committing: bool,
}

impl Actor {
    fn begin(&mut self) {
        let (events, began) = (Vec::new(), now());
        self.current = Some(Current { events, operations: 0, began, added: 0, is_committing: false });
    }

    fn end(&mut self, outcome: Option<Outcome>, seq: u64) {
        let Some(current) = self.current.take() else { return };
        let Current { events, operations, began, added, .. } = current;
        let ended = if outcome.is_none() {
            self.unknown.push(self.session.len());
            u64::MAX
        } else {
            now()
        };
        let outcome = outcome.unwrap_or(Outcome::RolledBack);
        self.session.push(Record { events, operations, outcome, seq, began, ended });
        self.added.push(added);
    }

    fn note(&mut self, event: Event) {
        if let Some(current) = &mut self.current {
            current.events.push(event);
            current.operations += 1;
        }
    }
}

/// Runs a process, which is killed and started anew as it comes.
pub(super) fn run(number: u64, work: &Work, redis: &Arc<dyn Coordinator>, random: &mut Random) -> Vec<Actor> {
    let mut actors: Vec<Actor> = (0..ACTORS).map(|_| Actor::default()).collect();
    let mut next_version = number * ACTORS as u64 + 1;
    let mut steps = work.steps;
    while steps > 0 {
        let mut life = Life {
            work,
            redis,
            random,
            actors: &mut actors,
            next_version: &mut next_version,
            steps: &mut steps,
        };
        survive(|| life.live());
        // Also one that comes to nothing.
        steps = steps.saturating_sub(1);
        for actor in &mut actors {
            let is_committing = actor.current.as_ref().is_some_and(|current| current.is_committing);
            actor.end(if is_committing { None } else { Some(Outcome::RolledBack) }, 0);
        }
        // Killed in its sleep it only sleeps less.
        survive(|| pause(Duration::from_millis(1 + random.below(20_000))));
    }
    actors
}

/// From one start of a process to its end.
struct Life<'a> {
    work: &'a Work,
    redis: &'a Arc<dyn Coordinator>,
    random: &'a mut Random,
    actors: &'a mut Vec<Actor>,
    next_version: &'a mut Version,
    steps: &'a mut u64,
}

/// What is open.
struct Open {
    database: Database,
    store: StoreId,
    transactions: Vec<Option<Transaction>>,
}

impl Life<'_> {
    fn live(&mut self) {
        let Some(mut open) = self.open() else { return };
        while *self.steps > 0 {
            *self.steps -= 1;
            self.step(&mut open);
            self.rest();
            // One that only reads, as copies could not be reached, is opened again.
            let is_weak = !open.database.is_writable() && self.random.one_in(4);
            if open.database.inner.check_usable().is_err() || is_weak || self.random.one_in(150) {
                break;
            }
        }
        for (actor, transaction) in self.actors.iter_mut().zip(&mut open.transactions) {
            drop(transaction.take());
            actor.end(Some(Outcome::RolledBack), 0);
        }
        if self.random.one_in(2) {
            let closed = open.database.close();
            self.tolerate(closed);
        }
    }

    fn open(&mut self) -> Option<Open> {
        let redis = Some(Arc::clone(self.redis));
        let opened = self.work.place.open(&self.work.options, redis);
        let database = self.tolerate(opened);
        let opened = database.and_then(|database| {
            let store = store(&database);
            Some((self.tolerate(store)?, database))
        });
        let Some((store, database)) = opened else {
            *self.steps -= 1;
            return None;
        };
        Some(Open { database, store, transactions: (0..ACTORS).map(|_| None).collect() })
    }

    /// None for an error that is to be expected.
    fn tolerate<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.check_error(&error)).ok()
    }

    fn check_error(&self, error: &Error) {
        let is_expected = is_to_be_expected(error, self.work.has_faults);
        assert!(is_expected, "an error that must not be: {:?}: {error}", error.kind());
    }

    fn rest(&mut self) {
        let millis = if self.random.one_in(self.work.rest) {
            self.random.below(400_000)
        } else if self.random.one_in(4) {
            self.random.below(30)
        } else {
            return;
        };
        pause(Duration::from_millis(millis + 1));
    }

    fn step(&mut self, open: &mut Open) {
        if self.random.one_in(self.work.checkpoint) {
            let made = open.database.checkpoint();
            self.tolerate(made);
            return;
        }
        let reinstate = self.work.place.reinstate;
        if reinstate > 0 && self.random.one_in(reinstate) {
            let mut ignore = |_, _| true;
            let progress = &mut Progress::new(&CancelToken::new(), &mut ignore);
            let done = open.database.reinstate(None, &[], progress);
            self.tolerate(done);
            return;
        }
        let chosen = self.random.below(ACTORS as u64) as usize;
        let Some(mut transaction) = open.transactions[chosen].take() else {
            open.transactions[chosen] = self.begin(&open.database, chosen);
            return;
        };
        let done = match self.random.below(10) {
            0 | 1 => self.read(chosen, &mut transaction, open.store).map(drop),
            2 => self.scan(chosen, &mut transaction, open.store),
            3..=5 if transaction.mode() == Mode::Write => self.append(chosen, &mut transaction, open.store),
            6 if self.random.one_in(3) => {
                drop(transaction);
                self.actors[chosen].end(Some(Outcome::RolledBack), 0);
                return;
            }
            _ => return self.commit(chosen, transaction),
        };
        match done {
            Ok(()) => open.transactions[chosen] = Some(transaction),
            Err(error) => {
                self.check_error(&error);
                drop(transaction);
                self.actors[chosen].end(Some(Outcome::SnapshotTooOld), 0);
            }
        }
    }

    fn begin(&mut self, database: &Database, actor: usize) -> Option<Transaction> {
        let mode = if self.random.one_in(5) { Mode::Read } else { Mode::Write };
        self.actors[actor].begin();
        let begun = if self.random.one_in(4) { database.begin_brief(mode) } else { database.begin(mode) };
        let begun = self.tolerate(begun);
        if begun.is_none() {
            self.actors[actor].current = None;
        }
        begun
    }

    fn commit(&mut self, actor: usize, transaction: Transaction) {
        if let Some(current) = &mut self.actors[actor].current {
            current.is_committing = true;
        }
        let (outcome, seq) = match transaction.commit() {
            Ok(seq) => (Some(Outcome::Committed), seq.0),
            Err(error) => {
                self.check_error(&error);
                let is_unknown = error.message().contains(UNKNOWN) && !error.message().starts_with(NOT_BEGUN);
                (if is_unknown { None } else { Some(Outcome::Conflict) }, 0)
            }
        };
        self.actors[actor].end(outcome, seq);
    }

    fn variable(&mut self, actor: usize) -> Variable {
        let slot = self.random.below(VARIABLES);
        self.actors[actor].generations[slot as usize] * VARIABLES + slot
    }

    fn read(
        &mut self,
        actor: usize,
        transaction: &mut Transaction,
        store: StoreId,
    ) -> Result<(Variable, Vec<Version>)> {
        let variable = self.variable(actor);
        let found = transaction.get(store, &variable.to_be_bytes())?;
        let bytes = found.map(|value| transaction.load(&value)).transpose()?;
        let seen = decode(&bytes.unwrap_or_default());
        self.actors[actor].note(Event::Read { variable, seen: seen.clone() });
        Ok((variable, seen))
    }

    fn append(&mut self, actor: usize, transaction: &mut Transaction, store: StoreId) -> Result<()> {
        let (variable, mut list) = self.read(actor, transaction, store)?;
        if list.len() >= LIST_LEN_MAX {
            self.actors[actor].generations[(variable % VARIABLES) as usize] += 1;
            return Ok(());
        }
        let version = *self.next_version;
        *self.next_version += 1024;
        list.push(version);
        let placement = if self.random.one_in(6) { Placement::Eager } else { Placement::Auto };
        transaction.put(store, &variable.to_be_bytes(), &encode(&list), placement)?;
        self.actors[actor].note(Event::Write { variable, version });
        let add = self.random.below(9) as i64;
        transaction.add_to_counter(store, COUNTER, add)?;
        if let Some(current) = &mut self.actors[actor].current {
            current.added += add;
        }
        Ok(())
    }

    fn scan(&mut self, actor: usize, transaction: &mut Transaction, store: StoreId) -> Result<()> {
        let first = self.variable(actor);
        let end = first + self.random.below(SCAN_WIDTH_MAX) + 1;
        for event in scan(transaction, store, first..end)? {
            self.actors[actor].note(event);
        }
        Ok(())
    }
}

/// Whether there may be such an error.
pub(super) fn is_to_be_expected(error: &Error, has_faults: bool) -> bool {
    match error.kind() {
        ErrorKind::Conflict | ErrorKind::SnapshotTooOld => true,
        ErrorKind::Io | ErrorKind::DiskFull | ErrorKind::Locked | ErrorKind::Closed | ErrorKind::Timeout => {
            has_faults
        }
        // Copies that cannot be reached.
        ErrorKind::DrivesLost | ErrorKind::ReadOnlyFolder => has_faults,
        _ => false,
    }
}

fn store(database: &Database) -> Result<StoreId> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("lists", b"")?;
    transaction.commit()?;
    Ok(store)
}

/// Reads of all variables of a range, whether they are there or not.
fn scan(
    transaction: &mut Transaction,
    store: StoreId,
    range: std::ops::Range<Variable>,
) -> Result<Vec<Event>> {
    let (from, to) = (range.start.to_be_bytes(), range.end.to_be_bytes());
    let (from, to) = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
    let entries = transaction.scan(store, from, to, Direction::Forward, usize::MAX)?;
    let mut events = Vec::new();
    let mut next = range.start;
    for entry in entries {
        let variable = Variable::from_be_bytes(entry.key.as_slice().try_into().unwrap());
        events.extend((next..variable).map(|variable| Event::Read { variable, seen: Vec::new() }));
        let seen = decode(&transaction.load(&entry.value)?);
        events.push(Event::Read { variable, seen });
        next = variable + 1;
    }
    events.extend((next..range.end).map(|variable| Event::Read { variable, seen: Vec::new() }));
    Ok(events)
}

/// Everything there is: the lists before `end`, and the counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) events: Vec<Event>,
    pub(super) sum: i64,
    pub(super) seq: u64,
}

pub(super) fn contents(database: &Database, end: Variable) -> Result<Contents> {
    let mut transaction = database.begin(Mode::Read)?;
    let Some((store, _)) = transaction.store("lists")? else {
        return Ok(Contents { events: Vec::new(), sum: 0, seq: 0 });
    };
    let events = scan(&mut transaction, store, 0..end)?;
    let sum = transaction.counter(store, COUNTER)?;
    Ok(Contents { events, sum, seq: transaction.snapshot().0 })
}

fn encode(list: &[Version]) -> Vec<u8> {
    list.iter().flat_map(|version| version.to_be_bytes()).collect()
}

fn decode(bytes: &[u8]) -> Vec<Version> {
    bytes.chunks(8).map(|version| Version::from_be_bytes(version.try_into().unwrap())).collect()
}
