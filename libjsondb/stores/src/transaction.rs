//! One transaction: active until a commit, a rollback or a broken engine call ends it.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use engine::{Durability, Tried};
use serde_json::Value;

use crate::{CancelToken, Database, Error, ErrorCode, Result, hex, names, process_generation};

/// How long a transaction may take when nothing else is said.
pub const DEFAULT_MAX_TIME: Duration = Duration::from_secs(15 * 60);
/// The longest time a transaction may take.
pub const LONGEST_MAX_TIME: Duration = Duration::from_secs(60 * 60);
/// Longest key shown in a conflict's message; the details have all of it.
const KEY_CHARS_IN_MESSAGE: usize = 200;

/// `max_time` as the API has it, in minutes: 0, less, or no number means the default; at most an hour.
pub fn max_time_from_minutes(minutes: f64) -> Duration {
    if minutes > 0.0 {
        Duration::from_secs_f64((minutes * 60.0).min(LONGEST_MAX_TIME.as_secs_f64()))
    } else {
        DEFAULT_MAX_TIME
    }
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionMode {
    /// Reads only. Reads one snapshot, as `ForReading` does: that costs nothing here.
    NoCheck = 0,
    /// Reads and writes; what it read is validated when it commits.
    ForWriting = 1,
    /// Reads only, one snapshot.
    ForReading = 2,
}

impl TransactionMode {
    fn engine(self) -> engine::Mode {
        match self {
            TransactionMode::ForWriting => engine::Mode::Write,
            TransactionMode::NoCheck | TransactionMode::ForReading => engine::Mode::Read,
        }
    }
}

impl TryFrom<i32> for TransactionMode {
    type Error = Error;

    fn try_from(mode: i32) -> Result<Self> {
        match mode {
            0 => Ok(TransactionMode::NoCheck),
            1 => Ok(TransactionMode::ForWriting),
            2 => Ok(TransactionMode::ForReading),
            other => Err(Error::new(
                ErrorCode::Validation,
                format!("a transaction mode is 0 (NoCheck), 1 (ForWriting) or 2 (ForReading), not {other}"),
            )),
        }
    }
}

enum State {
    Active {
        engine: Box<engine::Transaction>,
        deadline: Instant,
    },
    Committed,
    /// With the error that ended it, when it was not the caller. Such an error says itself what was stored.
    RolledBack {
        cause: Option<String>,
    },
}

/// Turns an encoded key of a store into what the user knows it by.
pub(crate) type KeyNamer = Arc<dyn Fn(&[u8]) -> Value + Send + Sync>;

/// What follows a commit.
type AfterCommit = Box<dyn FnOnce(&CancelToken) + Send>;

/// A transaction over any number of stores of one database. Any thread may use it; calls run one after the other.
/// Dropped while active, it leaves nothing behind.
pub struct Transaction {
    database: Arc<Database>,
    mode: TransactionMode,
    max_time: Duration,
    is_relaxed: AtomicBool,
    /// The process it was begun in. In a child made by fork its lock may be one that nobody releases.
    process: u32,
    state: Mutex<State>,
    /// By the engine's name of the store.
    key_namers: Mutex<HashMap<String, KeyNamer>>,
    /// By the engine's name of the store that asked for it.
    after_commit: Mutex<BTreeMap<String, AfterCommit>>,
}

impl Transaction {
    pub(crate) fn begin(
        database: &Arc<Database>,
        mode: TransactionMode,
        max_time: Duration,
        cancel: &CancelToken,
    ) -> Result<Transaction> {
        let max_time = if max_time.is_zero() { DEFAULT_MAX_TIME } else { max_time.min(LONGEST_MAX_TIME) };
        let state = Mutex::new(begin_state(database, mode, max_time, cancel)?);
        Ok(Transaction {
            database: database.clone(),
            mode,
            max_time,
            is_relaxed: AtomicBool::new(false),
            process: process_generation(),
            state,
            key_namers: Mutex::default(),
            after_commit: Mutex::default(),
        })
    }

    /// What the transaction may do.
    pub fn mode(&self) -> TransactionMode {
        self.mode
    }

    /// The database it runs on.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Says when its commit returns; without this call, once everything is on disk.
    pub fn set_durability(&self, durability: Durability) {
        self.is_relaxed.store(durability == Durability::Relaxed, Ordering::Release);
    }

    fn durability(&self) -> Durability {
        if self.is_relaxed.load(Ordering::Acquire) { Durability::Relaxed } else { Durability::Full }
    }

    /// True until a commit, a rollback or an error ends it. Waits for a call that is running.
    pub fn is_active(&self) -> bool {
        matches!(self.lock().as_deref(), Ok(State::Active { .. }))
    }

    /// Makes everything written durable and visible at once, or nothing: on an error nothing was stored, unless the
    /// error is Io, which says so. Either way the transaction is over.
    pub fn commit(&self, cancel: &CancelToken) -> Result<()> {
        self.commit_state(&mut *self.lock()?, cancel)?;
        for work in self.take_after_commit().into_values() {
            // The commit stands, whatever becomes of what follows it.
            let _ = catch_unwind(AssertUnwindSafe(|| work(cancel)));
        }
        Ok(())
    }

    /// As [`Transaction::commit`], if that waits for nobody: no sync, no lock that is held, no look at the disk. False, and the
    /// transaction is as it was, when it may have to.
    pub fn try_commit(&self, cancel: &CancelToken) -> Result<bool> {
        self.check_process()?;
        if self.after_commit.lock().is_ok_and(|work| !work.is_empty()) {
            return Ok(false);
        }
        match self.state.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Poisoned(_)) => Err(ended_by_panic()),
            Ok(mut state) => self.end_by(&mut state, cancel, engine::Transaction::try_commit),
        }
    }

    /// Drops everything written. Works with a cancelled token too: there is nothing to wait for.
    pub fn rollback(&self, _cancel: &CancelToken) -> Result<()> {
        let mut state = self.lock()?;
        match std::mem::replace(&mut *state, State::RolledBack { cause: None }) {
            State::Active { engine, .. } => {
                engine.rollback();
                Ok(())
            }
            ended => {
                *state = ended;
                Err(already_ended(&state))
            }
        }
    }

    /// Runs `work` in the thread that commits, once the commit is done and the transaction is free; never when it is rolled back. Once for
    /// each store, however often it is asked for.
    pub(crate) fn after_commit(&self, engine_store: &str, work: impl FnOnce(&CancelToken) + Send + 'static) {
        if let Ok(mut asked) = self.after_commit.lock() {
            asked.entry(engine_store.to_owned()).or_insert_with(|| Box::new(work));
        }
    }

    fn take_after_commit(&self) -> BTreeMap<String, AfterCommit> {
        self.after_commit.lock().map(|mut asked| std::mem::take(&mut *asked)).unwrap_or_default()
    }

    /// Commits, and goes on with a fresh snapshot in the same transaction object. What was to follow the commit is
    /// dropped: the caller does it, or more.
    pub(crate) fn commit_and_continue(&self, cancel: &CancelToken) -> Result<()> {
        let mut state = self.lock()?;
        self.commit_state(&mut state, cancel)?;
        self.take_after_commit();
        *state = begin_state(&self.database, self.mode, self.max_time, cancel)?;
        Ok(())
    }

    /// Runs `work` on the engine's transaction. An error after which its state is not known to be whole ends the
    /// transaction; others leave it as it is. `work` must not call this transaction again.
    pub(crate) fn with<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnOnce(&mut engine::Transaction) -> Result<R>,
    ) -> Result<R> {
        self.run(cancel, work, leaves_it_broken)
    }

    /// As [`Transaction::with`]; None, and `work` is not run, while another call is running.
    pub(crate) fn try_with<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnOnce(&mut engine::Transaction) -> Result<R>,
    ) -> Result<Option<R>> {
        self.check_process()?;
        match self.state.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Poisoned(_)) => Err(ended_by_panic()),
            Ok(mut state) => run_in(&mut state, cancel, work, leaves_it_broken).map(Some),
        }
    }

    /// As [`Transaction::with`] for `work` of several writes that count as one: any error ends the transaction, so that
    /// a part of them can never be committed.
    pub(crate) fn with_all_or_end<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnOnce(&mut engine::Transaction) -> Result<R>,
    ) -> Result<R> {
        // A forked handle belongs to the parent process; this one must not touch it.
        self.run(cancel, work, |code| code != ErrorCode::Forked)
    }

    fn run<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnOnce(&mut engine::Transaction) -> Result<R>,
        ends: impl FnOnce(ErrorCode) -> bool,
    ) -> Result<R> {
        run_in(&mut *self.lock()?, cancel, work, ends)
    }

    /// Ends it, if it is active, for a reason that is told to whoever uses it from now on.
    pub(crate) fn end_unless_ended(&self, cause: &str) {
        if let Ok(mut state) = self.lock()
            && matches!(*state, State::Active { .. })
        {
            *state = State::RolledBack { cause: Some(cause.to_owned()) };
        }
    }

    /// Fails unless the transaction may write; `action` completes "can't …".
    pub(crate) fn check_writable(&self, action: &str) -> Result<()> {
        match self.mode {
            TransactionMode::ForWriting => Ok(()),
            mode => Err(Error::new(
                ErrorCode::ReadOnlyTransaction,
                format!("can't {action}: the transaction is not for writing (its mode is {mode:?})"),
            )),
        }
    }

    /// Says how keys of a store are shown in conflict errors.
    pub(crate) fn name_keys(&self, engine_store: &str, namer: KeyNamer) {
        if let Ok(mut namers) = self.key_namers.lock() {
            namers.insert(engine_store.to_owned(), namer);
        }
    }

    fn check_process(&self) -> Result<()> {
        if self.process != process_generation() {
            let message = "this transaction was begun before a fork: begin one in this process";
            return Err(Error::new(ErrorCode::Forked, message));
        }
        Ok(())
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        self.check_process()?;
        self.state.lock().map_err(|_| ended_by_panic())
    }

    fn commit_state(&self, state: &mut State, cancel: &CancelToken) -> Result<()> {
        self.end_by(state, cancel, |engine| engine.commit().map(Tried::Committed)).map(drop)
    }

    /// False when `commit` has given the transaction back.
    fn end_by(
        &self,
        state: &mut State,
        cancel: &CancelToken,
        commit: impl FnOnce(engine::Transaction) -> engine::Result<Tried>,
    ) -> Result<bool> {
        let (mut engine, deadline) = match std::mem::replace(state, State::Committed) {
            State::Active { engine, deadline } => (engine, deadline),
            ended => {
                *state = ended;
                return Err(already_ended(state));
            }
        };
        let result = if Instant::now() > deadline {
            let minutes = self.max_time.as_secs_f64() / 60.0;
            let message =
                format!("transaction is older than its max_time of {minutes} minutes; nothing was stored");
            Err(Error::new(ErrorCode::Timeout, message))
        } else {
            engine.set_cancel(cancel);
            engine.set_durability(self.durability());
            commit(*engine).map_err(|error| self.commit_error(error))
        };
        match result {
            Ok(Tried::Committed(_)) => Ok(true),
            Ok(Tried::MustWait(engine)) => {
                *state = State::Active { engine, deadline };
                Ok(false)
            }
            Err(error) => {
                *state = State::RolledBack { cause: Some(error.message().to_owned()) };
                Err(error)
            }
        }
    }

    /// The engine's error, with store and key as the user knows them.
    fn commit_error(&self, error: engine::Error) -> Error {
        commit_error_of(error, |store, key| {
            let namer = self.key_namers.lock().ok().and_then(|namers| namers.get(store).cloned());
            namer.map_or_else(|| Value::String(hex::encode(key)), |namer| namer(key))
        })
    }
}

/// As [`Transaction::commit_error`], for a transaction on one store, whose keys `name` tells.
pub(crate) fn commit_error(error: engine::Error, name: impl FnOnce(&[u8]) -> Value) -> Error {
    commit_error_of(error, |_, key| name(key))
}

fn commit_error_of(error: engine::Error, name: impl FnOnce(&str, &[u8]) -> Value) -> Error {
    let Some(at) = error.conflict_at() else {
        return error.into();
    };
    let store = names::user_name(&at.store);
    if at.key.is_empty() {
        let message =
            format!("another transaction changed store {store:?} first; run this transaction again");
        return Error::new(ErrorCode::Conflict, message).with_detail("store", store);
    }
    let key = name(&at.store, &at.key);
    let shown: String = key.to_string().chars().take(KEY_CHARS_IN_MESSAGE).collect();
    let message = format!(
        "another transaction changed key {shown} of store {store:?} first; run this transaction again"
    );
    Error::new(ErrorCode::Conflict, message).with_detail("store", store).with_detail("key", key)
}

fn run_in<R>(
    state: &mut State,
    cancel: &CancelToken,
    work: impl FnOnce(&mut engine::Transaction) -> Result<R>,
    ends: impl FnOnce(ErrorCode) -> bool,
) -> Result<R> {
    let State::Active { engine, .. } = &mut *state else {
        return Err(already_ended(state));
    };
    cancel.check()?;
    engine.set_cancel(cancel);
    match work(engine) {
        Err(error) if ends(error.code()) => Err(end(state, error)),
        result => result,
    }
}

fn ended_by_panic() -> Error {
    let message = "transaction was ended by an internal error in an earlier call; begin a new one";
    Error::new(ErrorCode::InvalidState, message)
}

fn begin_state(
    database: &Arc<Database>,
    mode: TransactionMode,
    max_time: Duration,
    cancel: &CancelToken,
) -> Result<State> {
    let deadline = Instant::now() + max_time;
    let mut engine = database.begin_engine(mode.engine(), cancel)?;
    engine.set_deadline(Some(deadline));
    Ok(State::Active { engine: Box::new(engine), deadline })
}

fn end(state: &mut State, error: Error) -> Error {
    *state = State::RolledBack { cause: Some(error.message().to_owned()) };
    let message = format!("{}; the transaction was rolled back, begin a new one", error.message());
    error.with_message(message)
}

fn already_ended(state: &State) -> Error {
    let message = match state {
        State::Active { .. } => {
            return Error::new(ErrorCode::Internal, "an active transaction was taken for ended");
        }
        State::Committed => "transaction was already committed; begin a new one".to_owned(),
        State::RolledBack { cause: None } => {
            "transaction was already rolled back; begin a new one".to_owned()
        }
        State::RolledBack { cause: Some(cause) } => {
            format!("transaction was already ended by an earlier error ({cause}); begin a new one")
        }
    };
    Error::new(ErrorCode::InvalidState, message)
}

/// After these the engine's transaction can't go on. Refused arguments, missing stores, cancelled waits and locks leave
/// it as it was; a forked handle belongs to the parent process.
fn leaves_it_broken(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Io
            | ErrorCode::Corruption
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnlyFolder
            | ErrorCode::Conflict
            | ErrorCode::SnapshotTooOld
            | ErrorCode::Closed
            | ErrorCode::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_have_a_default_and_a_cap() {
        assert_eq!(max_time_from_minutes(0.0), DEFAULT_MAX_TIME);
        assert_eq!(max_time_from_minutes(-1.0), DEFAULT_MAX_TIME);
        assert_eq!(max_time_from_minutes(f64::NAN), DEFAULT_MAX_TIME);
        assert_eq!(max_time_from_minutes(f64::INFINITY), LONGEST_MAX_TIME);
        assert_eq!(max_time_from_minutes(61.0), LONGEST_MAX_TIME);
        assert_eq!(max_time_from_minutes(0.5), Duration::from_secs(30));
    }

    #[test]
    fn a_panic_in_what_follows_a_commit_is_not_the_commits() {
        let folder = tempfile::tempdir().unwrap();
        let storage_path = folder.path().to_str().unwrap().to_owned();
        let options = crate::DatabaseOptions { storage_path, ..crate::DatabaseOptions::default() };
        let (database, cancel) = (Database::open(options).unwrap(), CancelToken::new());
        let begin =
            || Transaction::begin(&database, TransactionMode::ForWriting, DEFAULT_MAX_TIME, &cancel).unwrap();
        let transaction = begin();
        transaction.with(&cancel, |engine| Ok(engine.ensure_store("s", b"")?)).unwrap();
        let (told, followed) = std::sync::mpsc::channel();
        transaction.after_commit("a", |_| panic!("what follows"));
        transaction.after_commit("b", move |_| told.send(()).unwrap());
        transaction.commit(&cancel).unwrap();
        followed.try_recv().expect("the others follow all the same");
        assert!(begin().with(&cancel, |engine| Ok(engine.store("s")?.is_some())).unwrap());
    }

    #[test]
    fn other_modes_are_validation_errors() {
        assert_eq!(TransactionMode::try_from(1).unwrap(), TransactionMode::ForWriting);
        assert_eq!(TransactionMode::try_from(7).unwrap_err().code(), ErrorCode::Validation);
    }
}
