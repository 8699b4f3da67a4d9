//! Where a map's calls run.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use engine::{Durability, ErrorKind, Mode, Transaction as EngineTransaction, Tried};

use super::super::layout::Layout;
use crate::{CancelToken, Database, Error, ErrorCode, Result, Transaction, transaction};

/// How often a call that lost against others is run again.
const RETRIES_MAX: u32 = 1000;
/// So many times it is run again at once.
const EAGER_RETRIES: u32 = 4;
/// Longest pause before a retry.
const BACKOFF_MAX: Duration = Duration::from_millis(2);

pub(super) enum Scope {
    /// Each call in a transaction of its own.
    Auto { database: Arc<Database>, engine: engine::Database, durability: Durability },
    /// In the caller's.
    In(Arc<Transaction>),
}

/// What a transaction sees that is not to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// Everything that was committed before it began.
    Newest,
    /// What this process has seen: enough for one that writes each key it reads.
    Known,
}

impl Scope {
    /// Runs `work` on one snapshot.
    pub(super) fn read<R>(
        &self,
        cancel: &CancelToken,
        mut work: impl FnMut(&mut EngineTransaction) -> Result<R>,
    ) -> Result<R> {
        match self {
            Scope::In(transaction) => transaction.with(cancel, work),
            Scope::Auto { database, engine, .. } => {
                database.check_open(cancel)?;
                match work(&mut begun(engine.begin_brief(Mode::Read)?, cancel)) {
                    // A checkpoint came in between: with a pin it cannot.
                    Err(error) if error.is_retryable() => work(&mut begun(engine.begin(Mode::Read)?, cancel)),
                    result => result,
                }
            }
        }
    }

    /// Runs `work` and commits it; when it lost against another transaction, runs it again, a bounded number of times. In
    /// the caller's transaction it runs once; an error ends that, so that a part of `work` can never be committed.
    pub(super) fn write<R>(
        &self,
        cancel: &CancelToken,
        layout: &Layout,
        mut work: impl FnMut(&mut EngineTransaction) -> Result<R>,
    ) -> Result<R> {
        if let Scope::In(transaction) = self {
            transaction.check_writable("write to a map")?;
            return transaction.with_all_or_end(cancel, work);
        }
        let mut retries = Retries::default();
        loop {
            let mut engine = self.begin(cancel)?;
            match work(&mut engine) {
                Ok(result) => match engine.commit() {
                    Ok(_) => return Ok(result),
                    Err(error) => retries.after(error, layout, cancel)?,
                },
                Err(error) => retries.after_work(error, cancel)?,
            }
        }
    }

    /// As [`Scope::write`] of little `work`, in one attempt that waits for nobody. None, and nothing was done, when it would have to
    /// wait, or when another transaction was faster. In the caller's transaction `work` does one write at the most: what it did stays.
    pub(super) fn try_write<R>(
        &self,
        cancel: &CancelToken,
        sees: Sees,
        work: impl FnOnce(&mut EngineTransaction) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        if let Scope::In(transaction) = self {
            transaction.check_writable("write to a map")?;
            return Ok(transaction.try_with(cancel, work)?.flatten());
        }
        if !self.is_relaxed() {
            return Ok(None);
        }
        let Some(mut engine) = self.try_begin(cancel, sees)? else { return Ok(None) };
        let Some(result) = work(&mut engine)? else { return Ok(None) };
        match engine.try_commit() {
            Ok(Tried::Committed(_)) => Ok(Some(result)),
            Ok(Tried::MustWait(_)) => Ok(None),
            Err(error) if has_lost(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// True when a call's own transaction is committed without a sync.
    pub(super) fn is_relaxed(&self) -> bool {
        matches!(self, Scope::Auto { durability: Durability::Relaxed, .. })
    }

    /// As [`Scope::begin`]; None when that would have to wait.
    pub(super) fn try_begin(&self, cancel: &CancelToken, sees: Sees) -> Result<Option<EngineTransaction>> {
        let Scope::Auto { database, engine, durability } = self else { return Ok(None) };
        database.check_open(cancel)?;
        let begun_at_once = match sees {
            Sees::Newest => engine.try_begin_brief(Mode::Write)?,
            Sees::Known => Some(engine.begin_blind()?),
        };
        let Some(transaction) = begun_at_once else { return Ok(None) };
        let mut transaction = begun(transaction, cancel);
        transaction.set_durability(*durability);
        Ok(Some(transaction))
    }

    /// Begins a transaction of a call's own.
    pub(super) fn begin(&self, cancel: &CancelToken) -> Result<EngineTransaction> {
        match self {
            Scope::Auto { database, engine, durability } => {
                database.check_open(cancel)?;
                let mut transaction = begun(engine.begin_brief(Mode::Write)?, cancel);
                transaction.set_durability(*durability);
                Ok(transaction)
            }
            Scope::In(_) => Err(Error::new(ErrorCode::Internal, "the map is inside a transaction")),
        }
    }

    /// Begins a reading transaction that may last.
    pub(super) fn begin_lasting(
        &self,
        cancel: &CancelToken,
        mode: Mode,
    ) -> Result<Option<EngineTransaction>> {
        match self {
            Scope::Auto { database, engine, durability } => {
                database.check_open(cancel)?;
                let mut transaction = begun(engine.begin(mode)?, cancel);
                transaction.set_durability(*durability);
                Ok(Some(transaction))
            }
            Scope::In(_) => Ok(None),
        }
    }
}

fn begun(mut transaction: EngineTransaction, cancel: &CancelToken) -> EngineTransaction {
    transaction.set_cancel(cancel);
    transaction
}

/// True when another transaction was faster.
pub(super) fn has_lost(error: &engine::Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::SnapshotTooOld)
}

/// Counts how often a call lost against others.
#[derive(Default)]
pub(super) struct Retries(u32);

impl Retries {
    /// Returns when the call may be run again; else gives the error.
    pub(super) fn after(
        &mut self,
        error: engine::Error,
        layout: &Layout,
        cancel: &CancelToken,
    ) -> Result<()> {
        if !has_lost(&error) || self.0 == RETRIES_MAX {
            return Err(transaction::commit_error(error, |key| layout.describe(key)));
        }
        self.pause(cancel)
    }

    /// As [`Retries::after`], for an error before the commit: a checkpoint has removed what a brief transaction reads.
    pub(super) fn after_work(&mut self, error: Error, cancel: &CancelToken) -> Result<()> {
        if error.code() != ErrorCode::SnapshotTooOld || self.0 == RETRIES_MAX {
            return Err(error);
        }
        self.pause(cancel)
    }

    fn pause(&mut self, cancel: &CancelToken) -> Result<()> {
        self.0 += 1;
        if self.0 > EAGER_RETRIES {
            thread::sleep(backoff(self.0 - EAGER_RETRIES));
        }
        cancel.check()?;
        Ok(())
    }
}

/// A random pause, longer on average with every retry, so that two losers do not meet again.
fn backoff(retries: u32) -> Duration {
    let limit = Duration::from_micros(8 << retries.min(8)).min(BACKOFF_MAX);
    let random = uuid::Uuid::new_v4().as_u128() % limit.as_nanos();
    Duration::from_nanos(random as u64)
}
