//! Contexts: a number by which one thread cancels the calls of another.

use std::collections::HashMap;
use std::ffi::{c_char, c_longlong};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stores::{CancelToken, Error, ErrorCode, Result};

use crate::{boundary, process, strings};

/// The contexts of this process. A running call holds a copy of its token, so removing a context never disturbs it.
pub(crate) struct Contexts {
    tokens: Mutex<HashMap<i64, CancelToken>>,
    next: AtomicI64,
    /// What calls without a context run with.
    never: CancelToken,
}

impl Contexts {
    /// No contexts; after a fork those of the parent, for a context holds nothing that a child could not share.
    pub(crate) fn new(parent: Option<&Contexts>) -> Self {
        let next = parent.map_or(1, |parent| parent.next.load(Ordering::Relaxed));
        let tokens = match parent.map(|parent| parent.tokens.try_lock()) {
            None => HashMap::new(),
            Some(Ok(tokens)) => tokens.clone(),
            // Another thread of the parent held the lock at the fork, and nobody will ever release it here. Which
            // contexts are valid cannot be told, so all are.
            Some(Err(_)) => (1..next).map(|id| (id, CancelToken::new())).collect(),
        };
        Self { tokens: Mutex::new(tokens), next: AtomicI64::new(next), never: CancelToken::new() }
    }

    /// A new context; ids start at 1.
    pub(crate) fn create(&self) -> i64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.tokens().insert(id, CancelToken::new());
        id
    }

    /// The token that a call with this context runs with. Context 0 is none.
    pub(crate) fn token(&self, id: i64) -> Result<CancelToken> {
        if id == 0 {
            return Ok(self.never.clone());
        }
        let missing = || Error::new(ErrorCode::ContextNotFound, format!("context with ID {id} not found"));
        self.tokens().get(&id).cloned().ok_or_else(missing)
    }

    /// Ends the running calls of a context, and forgets it.
    pub(crate) fn cancel(&self, id: i64) {
        if let Some(token) = self.tokens().remove(&id) {
            token.cancel();
        }
    }

    /// Forgets a context. Its running calls go on.
    pub(crate) fn remove(&self, id: i64) {
        self.tokens().remove(&id);
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<i64, CancelToken>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a context: an id to pass to calls, so that another thread can cancel them. Remove it with removeContext.
/// Every function that takes a context also takes 0, which is none: such a call is never cancelled.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn createContext() -> c_longlong {
    boundary::guarded(|| Ok(process::current().contexts.create())).unwrap_or(0)
}

/// Cancels a context: its running calls end with SOP_ERROR_CODE_CANCELLED, later calls with it fail with
/// SOP_ERROR_CODE_CONTEXT_NOT_FOUND. An unknown id is ignored.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn cancelContext(ctx: c_longlong) {
    // Nothing to report to: an error here can only be a panic.
    let _ = boundary::guarded(|| {
        process::current().contexts.cancel(ctx);
        Ok(())
    });
}

/// Forgets a context without disturbing its running calls. An unknown id is ignored.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn removeContext(ctx: c_longlong) {
    // Nothing to report to: an error here can only be a panic.
    let _ = boundary::guarded(|| {
        process::current().contexts.remove(ctx);
        Ok(())
    });
}

/// NULL while the context is valid, else the text "context not found". Free it with freeString.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn contextError(ctx: c_longlong) -> *mut c_char {
    let known = boundary::guarded(|| Ok(ctx != 0 && process::current().contexts.token(ctx).is_ok()));
    match known {
        Ok(true) => std::ptr::null_mut(),
        _ => strings::allocate("context not found"),
    }
}
