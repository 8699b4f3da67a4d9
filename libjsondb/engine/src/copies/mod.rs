//! Copies of the metadata: folders that each hold all of the log, the manifests and what else is not coded, so that some may be lost.
//!
//! Which of them are in force, and what is decided over them: "Copies" in libjsondb/docs/protocol.md. Inside:
//!
//! * `label`, `epoch`: what the files hold;
//! * `view`: the log over the copies in force;
//! * `change`, `gather`: from one epoch to the next, and the log that it begins with;
//! * `attempt`: one's own slot on all copies;
//! * `lease`: reading without asking all of them each time;
//! * `places`: which folders may hold them;
//! * `open`: finding the copies of a database, and making them;
//! * `reinstate`: bringing one up to date;
//! * `segment`: what is not spread over drives, on each copy;
//! * `pins`: this process's pin on each.

pub(crate) mod attempt;
mod change;
pub(crate) mod epoch;
mod gather;
pub(crate) mod label;
pub(crate) mod lease;
pub(crate) mod open;
pub(crate) mod pins;
mod places;
mod reinstate;
mod report;
pub(crate) mod segment;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::coded::Access;
use crate::folder;
use crate::log::LogFolder;
use crate::pin::Sharing;
use crate::{Error, ErrorKind, Result};
use change::{Wanted, because};
use epoch::CopySet;
use label::Label;
pub use report::{CopyReport, CopyRole, CopyState, CopyStatus};
use view::{Standing, View};

/// One copy: where it is said to be.
#[derive(Clone, Debug)]
pub(crate) struct CopyFolder {
    pub(crate) index: usize,
    pub(crate) role: CopyRole,
    pub(crate) path: PathBuf,
    pub(crate) log: LogFolder,
}

impl CopyFolder {
    pub(crate) fn new(index: usize, role: CopyRole, path: PathBuf, owner: u64) -> CopyFolder {
        let log = LogFolder { path: path.join("log"), staging: folder::staging_folder(&path), owner };
        CopyFolder { index, role, path, log }
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        folder::manifest_folder(&self.path)
    }

    pub(crate) fn segments(&self) -> PathBuf {
        folder::segment_folder(&self.path)
    }

    pub(crate) fn pins(&self) -> PathBuf {
        folder::pin_folder(&self.path)
    }
}

/// The copies of an open database, and those in force as far as this process knows.
pub(crate) struct Copies {
    pub(crate) database: Uuid,
    /// By index.
    pub(crate) all: Vec<CopyFolder>,
    in_force: ArcSwap<View>,
    sharing: Sharing,
    /// One change at a time in this process.
    changing: Mutex<()>,
    /// Why they could be opened for reading only.
    refused: OnceLock<Error>,
    /// Read: which copies are in force is for others to decide.
    access: Access,
}

impl Copies {
    fn new(database: Uuid, all: Vec<CopyFolder>, sharing: Sharing, access: Access) -> Copies {
        Copies {
            database,
            all,
            in_force: ArcSwap::from_pointee(View::empty()),
            sharing,
            changing: Mutex::default(),
            refused: OnceLock::new(),
            access,
        }
    }

    /// Why nothing can be written, when too few copies were there at the opening.
    pub(crate) fn refused(&self) -> Option<&Error> {
        self.refused.get()
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.in_force.load_full()
    }

    /// The copies in force, rising.
    pub(crate) fn members(&self) -> impl Iterator<Item = &CopyFolder> {
        self.in_view(&self.view())
    }

    /// The copies of an epoch, rising.
    fn in_view(&self, view: &View) -> impl Iterator<Item = &CopyFolder> + use<'_> {
        let members = view.members_set();
        self.all.iter().filter(move |copy| members.contains(copy.index))
    }

    /// The first copy in force.
    pub(crate) fn first(&self) -> &CopyFolder {
        let first = self.view().members_set().iter().next().unwrap_or_default();
        &self.all[first.min(self.all.len() - 1)]
    }

    /// Does something on all copies in force. One that fails is dropped: the others are enough, or it fails as DrivesLost. A full disk is no
    /// failure of a copy: it is told.
    pub(crate) fn on_members(&self, act: impl Fn(&CopyFolder) -> Result<()>) -> Result<()> {
        loop {
            let view = self.view();
            let mut failed = Failed::default();
            for copy in self.in_view(&view) {
                if let Err(error) = act(copy) {
                    failed.note(self, &view, copy.index, error)?;
                }
            }
            // One that joins after this look copies what is there then.
            if failed.is_empty() && view.standing() == Standing::InForce {
                return Ok(());
            }
            self.leave(&view, failed)?;
        }
    }

    /// Gives what the first copy has that has it; None when all that can be read have it not.
    pub(crate) fn find<T>(&self, look: impl Fn(&CopyFolder) -> Result<Option<T>>) -> Result<Option<T>> {
        let mut failed = None;
        for copy in self.members() {
            match look(copy) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) if is_failure(&error) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// What the first copy in force gives that does not fail.
    pub(crate) fn first_that<T>(&self, act: impl Fn(&CopyFolder) -> Result<T>) -> Result<T> {
        let mut cause = None;
        for copy in self.members() {
            match act(copy) {
                Err(error) if is_failure(&error) => cause = Some(error),
                done => return done,
            }
        }
        Err(because(self.drives_lost(&Wanted::default(), CopySet::default()), cause.as_ref()))
    }

    /// Goes on without the copies that failed, if any did.
    fn drop_failed(&self, view: &View, failed: Failed) -> Result<()> {
        if failed.is_empty() { Ok(()) } else { self.go_on(view, failed) }
    }

    /// Goes on in a later epoch, without the copies that failed.
    fn go_on(&self, view: &View, failed: Failed) -> Result<()> {
        let wanted = Wanted { after: view.number(), without: failed.copies, ..Wanted::default() };
        self.change(wanted).map_err(|error| because(error, failed.cause.as_ref()))
    }

    /// Whether the folder is the copy that it was, as far as a look at two small files tells.
    pub(crate) fn is_whole(&self, index: usize) -> bool {
        let Some(copy) = self.all.get(index) else { return false };
        self.is_labelled(copy) && epoch::newest(&copy.log.path).is_ok_and(|newest| newest.is_some())
    }

    /// A file that is missing is damage where all copies are there and in force, as they were before; else it may be on one that is lost, or was.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let view = self.view();
        let members = view.members_set();
        let is_complete = view.standing() == Standing::InForce
            && self.all.iter().all(|copy| members.contains(copy.index) && self.is_whole(copy.index));
        if is_complete || !error.is_missing_file() {
            return error;
        }
        let what = format!(
            "{error}; copies of the database are lost, and it may be on one of them: bring them back, and reinstate"
        );
        Error::new(ErrorKind::DrivesLost, what)
    }

    /// Whether any of the folders in force is the copy that it was.
    pub(crate) fn are_there(&self) -> bool {
        self.members().any(|copy| self.is_labelled(copy))
    }

    fn is_labelled(&self, copy: &CopyFolder) -> bool {
        matches!(Label::read(&copy.path), Ok(Some(label)) if label.database == self.database && label.index == copy.index)
    }
}

/// Copies that failed at something, and the first reason.
#[derive(Default)]
pub(crate) struct Failed {
    copies: CopySet,
    cause: Option<Error>,
}

impl Failed {
    /// Gives the error back when it is none of the copy's.
    pub(crate) fn note(&mut self, copies: &Copies, view: &View, index: usize, error: Error) -> Result<()> {
        if !is_failure(&error) {
            return Err(error);
        }
        if error.is_missing_file() && copies.is_whole(index) {
            // Of a folder that is whole it was swept, or others have gone on to a later epoch.
            if view.standing() == Standing::InForce {
                return Err(error);
            }
        } else {
            self.copies.insert(index);
        }
        self.cause.get_or_insert(error);
        Ok(())
    }

    fn insert(&mut self, index: usize, error: Error) {
        self.copies.insert(index);
        self.cause.get_or_insert(error);
    }

    fn add(&mut self, copies: CopySet) {
        self.copies = self.copies.union(copies);
    }

    fn is_empty(&self) -> bool {
        self.cause.is_none()
    }
}

/// Whether an error says that the drive or folder has failed, not what was asked of it.
pub(crate) fn is_failure(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::ReadOnlyFolder | ErrorKind::Corrupt)
}
