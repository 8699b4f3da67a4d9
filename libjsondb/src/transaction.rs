//! Transactions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use std::time::Duration;

use stores::{
    CancelToken, Durability, Error, ErrorCode, Result, Transaction, TransactionMode, max_time_from_minutes,
};

use crate::actions::SopDurability;
use crate::boundary;
use crate::database::OpenDatabase;
use crate::handles::Held;
use crate::process::{self, Process};
use crate::strings::Out;

/// A transaction that a caller holds.
pub(crate) struct OpenTransaction {
    pub(crate) transaction: Arc<Transaction>,
    /// The database handle it was begun with.
    pub(crate) database: u64,
    /// Handles that go when this transaction's handle goes: those of stores opened by the functions of 2.0.17, which
    /// have no release. None once they went.
    stores: Mutex<Option<Vec<u64>>>,
    committed: AtomicBool,
}

impl OpenTransaction {
    pub(crate) fn new(transaction: Arc<Transaction>, database: u64) -> Self {
        Self {
            transaction,
            database,
            stores: Mutex::new(Some(Vec::new())),
            committed: AtomicBool::new(false),
        }
    }

    /// Commits.
    pub(crate) fn commit(&self, cancel: &CancelToken) -> Result<()> {
        self.transaction.commit(cancel)?;
        self.committed.store(true, Ordering::Release);
        Ok(())
    }

    /// Commits, if that waits for nobody: false, and nothing was done, when it may have to.
    pub(crate) fn try_commit(&self, cancel: &CancelToken) -> Result<bool> {
        let is_committed = self.transaction.try_commit(cancel)?;
        if is_committed {
            self.committed.store(true, Ordering::Release);
        }
        Ok(is_committed)
    }

    /// True once a commit succeeded.
    pub(crate) fn committed(&self) -> bool {
        self.committed.load(Ordering::Acquire)
    }

    /// Takes a store in whose handle goes when this transaction's handle goes.
    pub(crate) fn insert_store<T: Held>(&self, process: &Process, store: T) -> Result<u64> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stores) = stores.as_mut() else {
            return Err(Error::new(ErrorCode::InvalidState, "the transaction has ended; begin a new one"));
        };
        let handle = process.handles.insert(store)?;
        stores.push(handle);
        Ok(handle)
    }

    /// Rolls back what was not committed, for a caller who will not ask how it went.
    pub(crate) fn roll_back_quietly(&self) {
        // An error says that it has ended already, which is what is wanted.
        let _ = self.transaction.rollback(&CancelToken::new());
    }
}

/// Removes a transaction's handle and those that go with it.
pub(crate) fn forget(process: &Process, handle: u64, held: &OpenTransaction) {
    let stores = held.stores.lock().unwrap_or_else(PoisonError::into_inner).take();
    for store in stores.into_iter().flatten() {
        process.handles.remove(store);
    }
    process.handles.remove(handle);
}

/// Begins a transaction and takes it in.
pub(crate) fn begin(
    process: &Process,
    cancel: &CancelToken,
    database: u64,
    mode: TransactionMode,
    max_time: Duration,
    durability: Durability,
) -> Result<u64> {
    let held = process.handles.get::<OpenDatabase>(database)?;
    let transaction = held.database.begin(mode, max_time, cancel)?;
    transaction.set_durability(durability);
    process.handles.insert(OpenTransaction::new(transaction, database))
}

/// Begins a transaction. Mode: SopTransactionMode. max_time_minutes bounds it: 0 or less means 15, more than 60 means 60.
/// Release the handle with sop_handle_release, after commit or rollback or instead of a rollback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_transaction_begin(
    ctx: i64,
    database: u64,
    mode: i32,
    max_time_minutes: f64,
    out: *mut u64,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        let (mode, max_time) = (TransactionMode::try_from(mode)?, max_time_from_minutes(max_time_minutes));
        out.set(begin(process, &cancel, database, mode, max_time, Durability::Full)?);
        Ok(())
    })
}

/// Says when the transaction's commit returns: SopDurability. Without this call: full.
#[unsafe(no_mangle)]
pub extern "C" fn sop_transaction_set_durability(transaction: u64, durability: i32) -> i32 {
    boundary::code(|| {
        let held = process::current().handles.get::<OpenTransaction>(transaction)?;
        held.transaction.set_durability(SopDurability::from_number(durability)?);
        Ok(())
    })
}

/// Commits: everything written becomes durable and visible at once, or nothing. Either way the transaction is over.
#[unsafe(no_mangle)]
pub extern "C" fn sop_transaction_commit(ctx: i64, transaction: u64) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        process.handles.get::<OpenTransaction>(transaction)?.commit(&cancel)
    })
}

/// Rolls back: nothing of what was written is stored.
#[unsafe(no_mangle)]
pub extern "C" fn sop_transaction_rollback(ctx: i64, transaction: u64) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        process.handles.get::<OpenTransaction>(transaction)?.transaction.rollback(&cancel)
    })
}

/// Writes 1 while the transaction is neither committed nor rolled back, else 0: an I/O error in any call rolls back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_transaction_is_active(transaction: u64, out: *mut i32) -> i32 {
    boundary::code(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        let held = process::current().handles.get::<OpenTransaction>(transaction)?;
        out.set(held.transaction.is_active().into());
        Ok(())
    })
}
