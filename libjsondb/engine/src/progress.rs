//! How a long call says how far it is, and asks whether to go on.

use crate::{CancelToken, Error, ErrorKind, Result};

/// A report is made after so much work, in bytes read or written.
const REPORT_BYTES: u64 = 1 << 20;

/// What a long call is given by its caller.
pub struct Progress<'a> {
    cancel: CancelToken,
    report: &'a mut dyn FnMut(u64, u64) -> bool,
    done: u64,
    total: u64,
    reported: u64,
}

impl<'a> Progress<'a> {
    /// `report` gets the bytes done and those to do in all, an estimate that may grow, and says whether to go on.
    pub fn new(cancel: &CancelToken, report: &'a mut dyn FnMut(u64, u64) -> bool) -> Progress<'a> {
        Progress { cancel: cancel.clone(), report, done: 0, total: 0, reported: 0 }
    }

    /// There is more to do than was known.
    pub fn expect(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// So much more is done. Fails with [`ErrorKind::Cancelled`] when the caller wants no more.
    pub fn advance(&mut self, bytes: u64) -> Result<()> {
        self.done += bytes;
        self.cancel.check()?;
        if self.done - self.reported >= REPORT_BYTES { self.report() } else { Ok(()) }
    }

    /// As [`Progress::advance`], at the end of a step that may have been short.
    pub fn report(&mut self) -> Result<()> {
        self.reported = self.done;
        self.total = self.total.max(self.done);
        if (self.report)(self.done, self.total) {
            return self.cancel.check();
        }
        Err(Error::new(ErrorKind::Cancelled, "the call was stopped by its caller"))
    }
}
