//! Where a store's calls run: inside the caller's transaction, or each in one of its own.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{CancelToken, DEFAULT_MAX_TIME, Database, ErrorCode, Result, Transaction, TransactionMode};

/// How often a write that lost against others is run again.
const WRITE_RETRIES_MAX: u32 = 20;
/// Longest pause before a retry.
const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// What a store is bound to.
#[derive(Clone)]
pub enum Session {
    /// Each call begins, runs and commits a transaction of its own.
    Auto(Arc<Database>),
    /// Calls run inside this transaction and take effect with it.
    In(Arc<Transaction>),
}

impl Session {
    /// Runs `work` on one snapshot.
    pub fn read<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnOnce(&Arc<Transaction>) -> Result<R>,
    ) -> Result<R> {
        match self {
            Session::In(transaction) => work(transaction),
            Session::Auto(database) => {
                let transaction = database.begin(TransactionMode::ForReading, DEFAULT_MAX_TIME, cancel)?;
                let result = work(&transaction)?;
                transaction.commit(cancel)?;
                Ok(result)
            }
        }
    }

    /// Runs `work` and commits it; when it lost against another transaction, runs it again from the start, a bounded
    /// number of times. Inside a caller's transaction it runs once, and the caller commits.
    pub fn write<R>(
        &self,
        cancel: &CancelToken,
        mut work: impl FnMut(&Arc<Transaction>) -> Result<R>,
    ) -> Result<R> {
        let database = match self {
            Session::In(transaction) => return work(transaction),
            Session::Auto(database) => database,
        };
        let started = Instant::now();
        let mut retries = 0;
        loop {
            let error = match write_once(database, cancel, &mut work) {
                // Not where a lock was waited for in vain: that took as long as anybody waits.
                Err(error) if matches!(error.code(), ErrorCode::Conflict | ErrorCode::SnapshotTooOld) => {
                    error
                }
                result => return result,
            };
            if retries == WRITE_RETRIES_MAX || started.elapsed() > DEFAULT_MAX_TIME {
                return Err(error);
            }
            retries += 1;
            thread::sleep(backoff(retries));
            cancel.check()?;
        }
    }
}

fn write_once<R>(
    database: &Arc<Database>,
    cancel: &CancelToken,
    work: &mut impl FnMut(&Arc<Transaction>) -> Result<R>,
) -> Result<R> {
    let transaction = database.begin(TransactionMode::ForWriting, DEFAULT_MAX_TIME, cancel)?;
    // An error drops the transaction, which rolls it back.
    let result = work(&transaction)?;
    transaction.commit(cancel)?;
    Ok(result)
}

/// A random pause, longer on average with every retry, so that two losers do not meet again.
fn backoff(retries: u32) -> Duration {
    let limit = Duration::from_millis(1 << retries.min(7)).min(BACKOFF_MAX);
    let random = uuid::Uuid::new_v4().as_u128() % limit.as_micros();
    Duration::from_micros(random as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_stays_short() {
        for retries in 1..=WRITE_RETRIES_MAX {
            assert!(backoff(retries) <= BACKOFF_MAX);
        }
    }
}
