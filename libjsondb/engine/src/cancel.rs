//! Cancelling a running call from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, ErrorKind, Result};

/// A flag shared by the caller and a running call. Long calls look at it every few milliseconds of work.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raise it: running calls that hold it end with [`ErrorKind::Cancelled`], later ones do not start.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True once raised.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Fails with [`ErrorKind::Cancelled`] once raised.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the context was cancelled"));
        }
        Ok(())
    }
}
