//! manageTransaction.

use std::ffi::{c_char, c_int, c_longlong};

use stores::{CancelToken, Error, ErrorCode, Result};

use super::{required, transaction};
use crate::actions::SopTransactionAction;
use crate::process::{self, Process};
use crate::strings::terminated;
use crate::{boundary, transaction as transactions};

const NEW_DEPRECATED: &str =
    "NewTransaction is deprecated. Please use manageDatabase with BeginTransaction action.";
const BEGIN_DEPRECATED: &str =
    "Begin is deprecated. Transaction is already begun when created via manageDatabase.";

/// Transactions by UUID. Action: SopTransactionAction; payload is the transaction. NULL when done. A transaction that has
/// ended, and the stores opened in it, are not found any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manageTransaction(
    ctx: c_longlong,
    action: c_int,
    payload: *const c_char,
) -> *mut c_char {
    boundary::text(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let payload = required("payload", unsafe { terminated("payload", payload) }?);
        match SopTransactionAction::from_number(action)? {
            SopTransactionAction::New => Err(Error::new(ErrorCode::Unsupported, NEW_DEPRECATED)),
            SopTransactionAction::Begin => Err(Error::new(ErrorCode::Unsupported, BEGIN_DEPRECATED)),
            SopTransactionAction::Commit => commit(process, &cancel, payload?),
            SopTransactionAction::Rollback => roll_back(process, &cancel, payload?),
        }?;
        Ok(None)
    })
}

fn commit(process: &Process, cancel: &CancelToken, text: &str) -> Result<()> {
    let (handle, held) = transaction(process, text)?;
    let result = held.commit(cancel);
    if !held.transaction.is_active() {
        transactions::forget(process, handle, &held);
    }
    result
}

/// No error for a transaction that an earlier error has rolled back: its caller now does what 2.0.17 asked for.
fn roll_back(process: &Process, cancel: &CancelToken, text: &str) -> Result<()> {
    let (handle, held) = transaction(process, text)?;
    let result = held.transaction.rollback(cancel);
    transactions::forget(process, handle, &held);
    match result {
        Err(error) if error.code() == ErrorCode::InvalidState && !held.committed() => Ok(()),
        result => result,
    }
}
