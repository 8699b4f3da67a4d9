//! One open folder.
use crate::{Mode, Options, Result, Transaction};
use std::path::Path;

/// An open database folder. Cloning is cheap; all handles of one folder in a process share one state.
#[derive(Clone)]
pub struct Database {}

impl Database {
    /// Opens the folder, creating the database when it is missing. A second open of the same folder in this process
    /// returns the same state (the options of the first open stay); a folder that was removed and made anew is noticed.
    /// A folder that cannot be written opens for reading only.
    pub fn open(_folder: &Path, _options: &Options) -> Result<Database> {
        todo!()
    }

    /// Starts a transaction on the newest committed state of all processes.
    pub fn begin(&self, _mode: Mode) -> Result<Transaction> {
        todo!()
    }

    /// Moves everything committed so far into the tree and removes what is no longer needed.
    pub fn checkpoint(&self) -> Result<()> {
        todo!()
    }

    /// Waits for background work, and forgets the folder in this process. Open transactions fail from now on with Closed.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}
