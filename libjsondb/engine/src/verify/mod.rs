//! Checking a whole folder: every checksum, the chain of the log, the order of keys, the account of bytes in use.
//!
//! Nothing is written, not even a pin: files are held open instead, so that a database can be checked while other processes
//! write to it, and on a medium that cannot be written. What is wrong is noted, and the check goes on with the rest.

mod log;
mod run;
mod slots;
mod state;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::copies::{self, epoch};
use crate::folder;
use crate::log::LogFolder;
use crate::log::tail::TailFile;
use crate::log::wal;
use crate::manifest::{Manifest, ManifestRef};
use crate::os;
use crate::replica::ReplicaFolders;
use crate::shared::boundary::LogKind;
use crate::shared::folder::{SlotFolder, read_boundary};
use crate::{CancelToken, Coding, Database, Error, ErrorKind, Options, Progress, Result, Seq};

/// More findings than this are not kept.
const FINDINGS_MAX: usize = 100_000;

/// Damage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, inside the database folder; of a copy elsewhere its path.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// What a verification has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// All damage, by file and offset. None: the database is intact.
    pub findings: Vec<Finding>,
    /// Keys of the newest state, and of the catalog.
    pub entries: u64,
    /// Pages of the tree.
    pub pages: u64,
    /// Values outside the pages.
    pub values: u64,
    /// Bytes of pages and values.
    pub bytes: u64,
    /// The log.
    pub log: LogReport,
    /// The manifest in force: its file, named in the same way.
    pub manifest: PathBuf,
    /// What the stores hold, by name. Empty when not all of them could be read.
    pub stores: BTreeMap<String, StoreContents>,
}

/// The log as a verification found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Files.
    pub files: u64,
    /// Whole frames.
    pub frames: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// The last transaction.
    pub last_seq: Seq,
    /// Offset in the last file at which the log ends.
    pub end: u64,
    /// Something that is no whole frame stands there: the commit of a process that died, or one that is being made. It is no
    /// damage: nobody was told that it is stored.
    pub torn: bool,
    /// First transaction of the last file.
    last_file: Seq,
    /// The manifest in force at the end.
    manifest: Option<ManifestRef>,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreContents {
    /// As given to `ensure_store`.
    pub metadata: Vec<u8>,
    /// Number of keys, by their first byte (0 for the empty key).
    pub entries: BTreeMap<u8, u64>,
    /// Counters that are not 0.
    pub counters: BTreeMap<Vec<u8>, i64>,
}

/// Checks a database without changing it: in this folder, or in that of a copy which went on without it. Fails when there is no database, or none
/// that this version reads. Of what is spread over drives that are lost it reads what the others give: [`Database::scrub`] looks at all drives and copies.
pub fn verify(folder: &Path, options: &Options, progress: &mut Progress<'_>) -> Result<Verification> {
    let newest = copies::open::newest_folder(folder, options)?;
    let mut check = Check::new(folder, newest.as_deref().unwrap_or(folder), &options.coding, progress);
    match folder::read_format(&folder::format_path(check.folder)) {
        // Not to be read by this user: there may be one or not.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFolder => return Err(error),
        Err(_) if !Database::exists(check.folder) => return Err(no_database(folder)),
        // Of another version.
        Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
        read => drop(check.noted(read)?),
    }
    check.contents()
}

pub(crate) fn no_database(folder: &Path) -> Error {
    Error::new(ErrorKind::Invalid, format!("there is no database in {}", folder.display()))
}

/// As [`verify`], for a folder that does not say yet that it is a database.
pub(crate) fn verify_contents(folder: &Path, progress: &mut Progress<'_>) -> Result<Verification> {
    Check::new(folder, folder, &[], progress).contents()
}

impl Database {
    /// True when the folder holds a database, or what is left of one.
    pub fn exists(folder: &Path) -> bool {
        let files = |folder: PathBuf| os::list(&folder).is_ok_and(|files| !files.is_empty());
        folder::format_path(folder).exists()
            || wal::list(&folder.join("log")).is_ok_and(|files| !files.is_empty())
            || files(folder::manifest_folder(folder))
            || files(folder::segment_folder(folder))
    }

    /// As [`verify`]; fails with the first finding.
    pub fn verify(&self) -> Result<Verification> {
        let mut report = |_, _| true;
        let progress = &mut Progress::new(&CancelToken::new(), &mut report);
        let verification = verify(self.folder(), &self.inner.options, progress)?;
        match verification.findings.first() {
            Some(Finding { file, offset, what }) => {
                Err(Error::corrupt(&self.folder().join(file), *offset, what))
            }
            None => Ok(verification),
        }
    }
}

/// A verification on its way.
struct Check<'a, 'p> {
    /// The folder of the database: files in it are told by their names in it.
    named: &'a Path,
    /// The one that is read.
    folder: &'a Path,
    folders: ReplicaFolders,
    codings: &'a [Coding],
    progress: &'a mut Progress<'p>,
    findings: BTreeSet<Finding>,
}

impl<'a, 'p> Check<'a, 'p> {
    fn new(
        named: &'a Path,
        folder: &'a Path,
        codings: &'a [Coding],
        progress: &'a mut Progress<'p>,
    ) -> Check<'a, 'p> {
        // Stages nothing, so the owner is nobody.
        let log = LogFolder { path: folder.join("log"), staging: folder::staging_folder(folder), owner: 0 };
        let folders = ReplicaFolders::single(log, folder::manifest_folder(folder));
        Check { named, folder, folders, codings, progress, findings: BTreeSet::new() }
    }

    fn contents(mut self) -> Result<Verification> {
        let tail = TailFile::open(&self.folders.log.path.join("TAIL")).transpose();
        let announced = tail.and_then(|tail| tail.and_then(|tail| tail.read()).transpose());
        let announced = self.noted(announced.transpose())?.flatten();
        let slots = self.shared_log()?;
        let log = match &slots {
            Some(slots) => self.slots(slots)?,
            None => self.log(announced)?,
        };
        let mut verification = Verification { log, ..Verification::default() };
        self.manifests()?;
        if let Some(state) = self.state(slots, verification.log.manifest)? {
            self.segments(&state)?;
            self.tree(&state, &mut verification)?;
        }
        self.progress.report()?;
        verification.findings = self.findings.into_iter().collect();
        Ok(verification)
    }

    /// The slots, where the log consists of such.
    fn shared_log(&mut self) -> Result<Option<SlotFolder>> {
        let boundary = self.noted(read_boundary(&self.folders.log.path))?.flatten();
        if boundary.is_none_or(|boundary| boundary.reach.log != LogKind::Slots) {
            return Ok(None);
        }
        let format = folder::read_format(&folder::format_path(self.folder));
        // What is wrong with it was noted before; then slots cannot be told from those of another database.
        let active = self.noted(epoch::active(&self.folders.log.path))?.unwrap_or_default();
        let log = self.folders.log.clone();
        Ok(format.ok().map(|format| match active.last() {
            Some(epoch) => SlotFolder::of_epoch(log, format.uuid, *epoch),
            None => SlotFolder::new(log, format.uuid),
        }))
    }

    /// Every manifest, also those that only old snapshots read.
    fn manifests(&mut self) -> Result<()> {
        let folder = self.folders.manifests.clone();
        for (name, _) in self.noted(os::list(&folder))?.unwrap_or_default() {
            if name.ends_with(".man") {
                self.noted(Manifest::load_file(&folder.join(name)))?;
            }
        }
        Ok(())
    }

    /// Notes damage.
    fn find(&mut self, path: &Path, offset: u64, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            let file = path.strip_prefix(self.named).unwrap_or(path).to_owned();
            self.findings.insert(Finding { file, offset, what: what.into() });
        }
    }

    /// Notes an error as damage, unless it ends the verification.
    fn noted<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            // What this process may not read, or cannot at the moment, is not damaged: nobody knows.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Cancelled | ErrorKind::ReadOnlyFolder | ErrorKind::Exhausted
                ) =>
            {
                return Err(error);
            }
            Err(error) => error,
        };
        match error.corrupt_at() {
            Some(damage) => self.find(&damage.file, damage.offset, &*damage.what),
            None => self.find(self.folder, 0, error.message()),
        }
        Ok(None)
    }

    /// True when damage to this file is known, so that what follows from it need not be told.
    fn is_damaged(&self, path: &Path) -> bool {
        let file = path.strip_prefix(self.named).unwrap_or(path);
        self.findings.iter().any(|finding| finding.file == file)
    }
}
