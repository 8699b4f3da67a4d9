//! A database: options, checked, and the engine's folder behind them, opened on first use.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{Coordinator, PerProcess};
use serde::{Deserialize, Deserializer};

use crate::redundancy::{self, ErasureConfig};
use crate::{CancelToken, Error, ErrorCode, Result, Transaction, TransactionMode};

const STANDALONE: i32 = 0;
const CLUSTERED: i32 = 1;
const REGISTRY_HASH_MOD_MIN: i64 = 250;
const REGISTRY_HASH_MOD_MAX: i64 = 750_000;
/// Below this the engine would spend its time in checkpoints.
pub(crate) const MEMORY_LIMIT_MIN: u64 = 16 << 20;

/// What a database is opened with. Unknown fields are ignored; a null is the same as no field.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct DatabaseOptions {
    /// The folder, when `stores_folders` is not given.
    #[serde(deserialize_with = "null_as_default")]
    pub storage_path: String,
    /// The folder, then folders that mirror it.
    pub stores_folders: Option<Vec<String>>,
    /// 0 Standalone, 1 Clustered.
    #[serde(deserialize_with = "null_as_default")]
    pub db_type: i32,
    /// Opens the folder as it was opened last, whatever `db_type` is, and as Clustered without hints where nobody gives them: for tools.
    #[serde(deserialize_with = "null_as_default")]
    pub as_found: bool,
    /// Erasure coding per store; null or empty for none.
    pub erasure_config: Option<ErasureConfig>,
    /// Folders of drives, in any order, whose own files say what they are; those of `erasure_config` are not among them. For tools.
    pub drives: Option<Vec<String>>,
    /// 250..=750,000; 0 or less means 250. Checked and given back: this engine has no registry to size by it.
    #[serde(deserialize_with = "null_as_hash_mod")]
    pub registry_hash_mod: i64,
    /// Bytes the engine may use for its caches and pending commits.
    pub memory_limit: Option<u64>,
    /// Opens what is there for reading only, as it was opened last, whatever `db_type` is, and writes nothing.
    #[serde(deserialize_with = "null_as_default")]
    pub read_only: bool,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            storage_path: String::new(),
            stores_folders: None,
            db_type: STANDALONE,
            as_found: false,
            erasure_config: None,
            drives: None,
            registry_hash_mod: REGISTRY_HASH_MOD_MIN,
            memory_limit: None,
            read_only: false,
        }
    }
}

fn null_as_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn null_as_hash_mod<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(REGISTRY_HASH_MOD_MIN))
}

impl DatabaseOptions {
    /// Where the database lies; fails for what is out of range.
    fn check(&mut self) -> Result<Placement> {
        self.check_db_type()?;
        self.check_registry_hash_mod()?;
        self.check_memory_limit()?;
        let folders = self.folders()?;
        let (folder, mirrors) = folders.split_first().ok_or_else(no_folder)?;
        let coding = self.erasure_config.as_ref().map(redundancy::codings).transpose()?.unwrap_or_default();
        let drives = self.drives.iter().flatten().map(PathBuf::from).collect();
        Ok(Placement { folder: folder.clone(), mirrors: mirrors.to_vec(), coding, drives })
    }

    fn check_db_type(&self) -> Result<()> {
        match self.db_type {
            STANDALONE | CLUSTERED => Ok(()),
            other => Err(invalid(format!("db_type is 0 (Standalone) or 1 (Clustered), not {other}"))),
        }
    }

    fn check_registry_hash_mod(&mut self) -> Result<()> {
        if self.registry_hash_mod <= 0 {
            self.registry_hash_mod = REGISTRY_HASH_MOD_MIN;
        }
        if !(REGISTRY_HASH_MOD_MIN..=REGISTRY_HASH_MOD_MAX).contains(&self.registry_hash_mod) {
            return Err(invalid(format!(
                "registry_hash_mod is {REGISTRY_HASH_MOD_MIN} to {REGISTRY_HASH_MOD_MAX}, not {}",
                self.registry_hash_mod
            )));
        }
        Ok(())
    }

    fn check_memory_limit(&self) -> Result<()> {
        match self.memory_limit {
            Some(limit) if limit < MEMORY_LIMIT_MIN => {
                Err(invalid(format!("memory_limit is at least {MEMORY_LIMIT_MIN} bytes, not {limit}")))
            }
            _ => Ok(()),
        }
    }

    /// The folder and its mirrors.
    fn folders(&self) -> Result<Vec<PathBuf>> {
        let given = self.stores_folders.as_deref().unwrap_or_default();
        let folders = if given.is_empty() { std::slice::from_ref(&self.storage_path) } else { given };
        for (index, folder) in folders.iter().enumerate() {
            if folder.is_empty() {
                return Err(no_folder());
            }
            if folder.contains('\0') {
                return Err(invalid("the path of a database folder can't contain a NUL character"));
            }
            if folders.iter().take(index).any(|before| before == folder) {
                return Err(invalid("stores_folders names a folder twice: each copy needs one of its own"));
            }
        }
        Ok(folders.iter().map(PathBuf::from).collect())
    }

    fn engine_options(&self, placement: &Placement) -> Result<engine::Options> {
        let mut options = engine::Options {
            mirrors: placement.mirrors.clone(),
            coding: placement.coding()?,
            read_only: self.read_only,
            ..Default::default()
        };
        if let Some(limit) = self.memory_limit {
            // The engine holds up to six memtables: the one being filled, the one being written, and the newest commits
            // that long transactions are validated against.
            options.page_cache_bytes = limit / 16 * 5;
            options.memtable_bytes = limit / 16;
            // Of a large transaction: what is being filled, what waits, what is being written.
            options.write_set_bytes = limit / 24;
        }
        Ok(options)
    }
}

fn no_folder() -> Error {
    invalid("a database needs a folder: storage_path, or the first of stores_folders")
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Validation, message)
}

/// Gives what carries hints between the processes of a Clustered database. Called before its folder is opened.
pub type Connect = fn() -> Result<Arc<dyn Coordinator>>;

/// Where a database lies.
struct Placement {
    folder: PathBuf,
    mirrors: Vec<PathBuf>,
    coding: Vec<engine::Coding>,
    /// Of sets that `coding` does not name.
    drives: Vec<PathBuf>,
}

impl Placement {
    /// True when a database is in the folder, or a copy of it where the folder is lost.
    fn holds_database(&self) -> bool {
        let coded = self.coding.iter().flat_map(|coding| &coding.drives);
        let drives = coded.chain(&self.drives).map(|drive| drive.join("copy"));
        let mut folders = self.mirrors.iter().cloned().chain(drives);
        engine::Database::exists(&self.folder) || folders.any(|folder| engine::Database::exists(&folder))
    }

    /// The erasure coding, that of drives which say themselves what they are among it.
    fn coding(&self) -> Result<Vec<engine::Coding>> {
        let mut coding = self.coding.clone();
        if !self.drives.is_empty() {
            let folders = [std::slice::from_ref(&self.folder), &self.mirrors].concat();
            coding.extend(redundancy::found(&folders, &self.drives)?);
        }
        Ok(coding)
    }
}

/// A database in a folder. Making one touches no file; the first transaction opens the folder.
pub struct Database {
    options: DatabaseOptions,
    connect: Option<Connect>,
    placement: Placement,
    closed: AtomicBool,
    used: Mutex<Option<Used>>,
}

/// An opened folder.
struct Used {
    /// Whose count it is in: a child made by fork counts for itself.
    users: Arc<Users>,
    folder: OpenFolder,
    engine: engine::Database,
    coordinator: Option<Arc<dyn Coordinator>>,
}

/// Folders that stay open after the last `Database` that used them was dropped, so that the next one finds them open. Each
/// holds files open and memory.
const IDLE_MAX: usize = 16;

/// What the engine opens once in a process: a folder, and whether for reading only.
type OpenFolder = (PathBuf, bool);

fn open_folder(engine: &engine::Database) -> OpenFolder {
    (engine.folder().to_owned(), engine.is_read_only())
}

/// The opened folders of this process.
type Users = Mutex<Folders>;

#[derive(Default)]
struct Folders {
    /// How many `Database`s use a folder: the engine shares one state among them, so that only the last one to close may
    /// close it.
    counts: HashMap<OpenFolder, usize>,
    /// Those that nobody uses, the one that was used last at the end.
    idle: VecDeque<engine::Database>,
}

impl Folders {
    fn is_used(&self, folder: &OpenFolder) -> bool {
        self.counts.contains_key(folder)
    }

    /// Keeps a folder that nobody uses open; gives the one to close in its place, if any.
    fn keep_open(&mut self, engine: engine::Database) -> Option<engine::Database> {
        self.forget_idle(&open_folder(&engine));
        self.idle.push_back(engine);
        if self.idle.len() > IDLE_MAX { self.idle.pop_front() } else { None }
    }

    fn forget_idle(&mut self, folder: &OpenFolder) {
        self.idle.retain(|idle| open_folder(idle) != *folder);
    }
}

static USERS: PerProcess<Users> = PerProcess::new();

impl Database {
    /// Checks the options.
    pub fn open(options: DatabaseOptions) -> Result<Arc<Database>> {
        Database::open_with(options, None)
    }

    /// As [`Database::open`], with hints for a Clustered one.
    pub fn open_with(mut options: DatabaseOptions, connect: Option<Connect>) -> Result<Arc<Database>> {
        let placement = options.check()?;
        let (closed, used) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Arc::new(Database { options, connect, placement, closed, used }))
    }

    /// The folder, as it was given.
    pub fn folder(&self) -> &Path {
        &self.placement.folder
    }

    /// The options, with defaults filled in.
    pub fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    /// Starts a transaction on the newest committed state. See [`crate::max_time_from_minutes`] for `max_time`.
    pub fn begin(
        self: &Arc<Self>,
        mode: TransactionMode,
        max_time: Duration,
        cancel: &CancelToken,
    ) -> Result<Arc<Transaction>> {
        Ok(Arc::new(Transaction::begin(self, mode, max_time, cancel)?))
    }

    /// Ends the use of this database; a later `begin` fails. The folder itself is closed, and transactions that are
    /// still open on it fail, once no other `Database` of this process uses it. Closing twice is no error.
    pub fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        match self.release() {
            Some(engine) => Ok(engine.close()?),
            None => Ok(()),
        }
    }

    /// Makes every relaxed commit durable that was acknowledged before this call, in whichever process.
    pub fn flush(&self, cancel: &CancelToken) -> Result<()> {
        self.with_existing(cancel, engine::Database::flush)
    }

    /// Starts a transaction of the engine. Opening is cheap when the folder is open already, and notices a folder
    /// that was closed, poisoned, or removed and made anew.
    pub(crate) fn begin_engine(
        &self,
        mode: engine::Mode,
        cancel: &CancelToken,
    ) -> Result<engine::Transaction> {
        self.check_open(cancel)?;
        let mut transaction = self.with_engine(|engine| engine.begin(mode))?;
        transaction.set_cancel(cancel);
        Ok(transaction)
    }

    /// Runs `work`, of milliseconds, on the newest committed state: neither is the folder looked at again, nor are its files kept from
    /// being removed; where that goes wrong it is run once more with both.
    pub(crate) fn read_brief<R>(
        &self,
        cancel: &CancelToken,
        mut work: impl FnMut(&mut engine::Transaction) -> Result<R>,
    ) -> Result<R> {
        self.check_open(cancel)?;
        let known = lock(&self.used).as_ref().map(|used| used.engine.clone());
        if let Some(engine) = known
            && let Ok(mut transaction) = engine.begin_brief(engine::Mode::Read)
        {
            transaction.set_cancel(cancel);
            match work(&mut transaction) {
                Err(error) if error.is_retryable() => {}
                result => return result,
            }
        }
        work(&mut self.begin_engine(engine::Mode::Read, cancel)?)
    }

    /// Runs `work` on a database that must be there already.
    pub(crate) fn with_existing<R>(
        &self,
        cancel: &CancelToken,
        work: impl FnMut(&engine::Database) -> engine::Result<R>,
    ) -> Result<R> {
        self.check_open(cancel)?;
        if !self.placement.holds_database() {
            return Err(invalid(format!("there is no database in {}", self.placement.folder.display())));
        }
        self.with_engine(work)
    }

    /// The opened folder, for calls that do not look whether it was removed and made anew.
    pub(crate) fn engine(&self, cancel: &CancelToken) -> Result<engine::Database> {
        self.check_open(cancel)?;
        self.with_engine(|engine| Ok(engine.clone()))
    }

    /// Fails when this database was closed, or the call is cancelled.
    pub(crate) fn check_open(&self, cancel: &CancelToken) -> Result<()> {
        cancel.check()?;
        if self.closed.load(Ordering::Acquire) {
            let message =
                format!("the database {} was closed; open it again", self.placement.folder.display());
            return Err(Error::new(ErrorCode::Closed, message));
        }
        Ok(())
    }

    fn with_engine<R>(&self, mut work: impl FnMut(&engine::Database) -> engine::Result<R>) -> Result<R> {
        let options = self.engine_options()?;
        let db_type = self.db_type(&options)?;
        let coordinator = self.coordinator(db_type)?;
        let mut open_and_work = || {
            let engine = match self.open_engine(db_type, &options, coordinator.clone()) {
                // Of one with copies nothing but who has it open says how it is opened.
                Err(error)
                    if error.kind() == engine::ErrorKind::Locked
                        && self.options.as_found
                        && options.has_copies() =>
                {
                    self.open_engine(CLUSTERED, &options, coordinator.clone())?
                }
                opened => opened?,
            };
            self.acquire(&engine, coordinator.clone());
            work(&engine)
        };
        let worked = match open_and_work() {
            // It was idle, and closed before this database counted as its user.
            Err(error) if error.kind() == engine::ErrorKind::Closed => open_and_work(),
            worked => worked,
        };
        Ok(worked?)
    }

    /// How the folder is to be opened.
    fn db_type(&self, options: &engine::Options) -> Result<i32> {
        if options.read_only {
            // There is one way to read: what is there is read as it is.
            return Ok(STANDALONE);
        }
        if options.has_copies() || !self.options.as_found {
            return Ok(self.options.db_type);
        }
        Ok(if engine::Database::is_shared_folder(&self.placement.folder)? { CLUSTERED } else { STANDALONE })
    }

    /// What carries hints, from the first opening of the folder on.
    fn coordinator(&self, db_type: i32) -> Result<Option<Arc<dyn Coordinator>>> {
        if let Some(used) = lock(&self.used).as_ref().filter(|used| Arc::ptr_eq(&used.users, &USERS.get())) {
            return Ok(used.coordinator.clone());
        }
        match self.connect {
            Some(connect) if db_type == CLUSTERED => match connect() {
                Err(_) if self.options.as_found => Ok(None),
                connected => connected.map(Some),
            },
            _ => Ok(None),
        }
    }

    pub(crate) fn engine_options(&self) -> Result<engine::Options> {
        self.options.engine_options(&self.placement)
    }

    fn open_engine(
        &self,
        db_type: i32,
        options: &engine::Options,
        coordinator: Option<Arc<dyn Coordinator>>,
    ) -> engine::Result<engine::Database> {
        let folder = &self.placement.folder;
        let open = || match db_type {
            CLUSTERED => engine::Database::open_shared(folder, options, coordinator.clone()),
            _ => engine::Database::open(folder, options),
        };
        match open() {
            // This process may have left it open in the other way, with nobody who uses it.
            Err(error)
                if error.kind() == engine::ErrorKind::Locked && close_idle(&self.placement.folder)? =>
            {
                open()
            }
            opened => opened,
        }
    }

    /// Counts this database as a user of the folder, once, and remembers the newest handle.
    fn acquire(&self, engine: &engine::Database, coordinator: Option<Arc<dyn Coordinator>>) {
        let mut used = lock(&self.used);
        if let Some(used) = used.as_mut().filter(|used| Arc::ptr_eq(&used.users, &USERS.get())) {
            used.engine = engine.clone();
            return;
        }
        let users = USERS.get();
        let folder = open_folder(engine);
        {
            let mut folders = lock(&users);
            folders.forget_idle(&folder);
            *folders.counts.entry(folder.clone()).or_default() += 1;
        }
        *used = Some(Used { users, folder, engine: engine.clone(), coordinator });
    }

    /// Gives the folder back; returns its handle when this was its last user.
    fn release(&self) -> Option<engine::Database> {
        let used = lock(&self.used).take()?;
        if !Arc::ptr_eq(&used.users, &USERS.get()) {
            // Counted before a fork: the parent's business.
            return None;
        }
        let mut folders = lock(&used.users);
        let count = folders.counts.get_mut(&used.folder)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        folders.counts.remove(&used.folder);
        Some(used.engine)
    }
}

impl Drop for Database {
    /// Leaves the folder open, which makes the next open cheap, and closes the one that is idle for the longest time when
    /// they become many.
    fn drop(&mut self) {
        let Some(engine) = self.release() else {
            return;
        };
        let users = USERS.get();
        let mut folders = lock(&users);
        if folders.is_used(&open_folder(&engine)) {
            return;
        }
        if let Some(idle) = folders.keep_open(engine) {
            drop(folders);
            // Nobody is there to tell an error to.
            let _ = idle.close();
        }
    }
}

/// Closes a folder that is open though nobody uses it. False when there is none.
fn close_idle(folder: &Path) -> engine::Result<bool> {
    // Compared as the engine knows it; a folder that cannot be resolved is not open.
    let Ok(folder) = folder.canonicalize() else { return Ok(false) };
    let users = USERS.get();
    let idle = {
        let mut folders = lock(&users);
        let found = folders.idle.iter().position(|idle| open_folder(idle) == (folder.clone(), false));
        found.and_then(|index| folders.idle.remove(index))
    };
    match idle {
        Some(idle) => idle.close().map(|()| true),
        None => Ok(false),
    }
}

/// Locks what no panic can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(json: &str) -> Result<Arc<Database>> {
        Database::open(serde_json::from_str(json).unwrap())
    }

    fn code(json: &str) -> ErrorCode {
        open(json).err().unwrap().code()
    }

    #[test]
    fn folder_is_the_first_of_stores_folders_or_the_storage_path() {
        assert_eq!(open(r#"{"storage_path": "/a"}"#).unwrap().folder(), Path::new("/a"));
        assert_eq!(
            open(r#"{"storage_path": "/a", "stores_folders": []}"#).unwrap().folder(),
            Path::new("/a")
        );
        assert_eq!(
            open(r#"{"storage_path": "/a", "stores_folders": ["/b"]}"#).unwrap().folder(),
            Path::new("/b")
        );
    }

    #[test]
    fn nulls_and_unknown_fields_are_as_if_absent() {
        let json = r#"{"storage_path": "/a", "stores_folders": null, "erasure_config": {}, "db_type": null,
                       "registry_hash_mod": 0, "memory_limit": null, "keyspace": "x"}"#;
        assert_eq!(open(json).unwrap().options().registry_hash_mod, 250);
    }

    #[test]
    fn out_of_range_is_a_validation_error() {
        assert_eq!(code("{}"), ErrorCode::Validation);
        assert_eq!(code(r#"{"storage_path": "/a", "db_type": 2}"#), ErrorCode::Validation);
        assert_eq!(code(r#"{"storage_path": "/a", "registry_hash_mod": 100}"#), ErrorCode::Validation);
        assert_eq!(code(r#"{"storage_path": "/a", "memory_limit": 1}"#), ErrorCode::Validation);
        assert_eq!(code(r#"{"storage_path": "/a\u0000"}"#), ErrorCode::Validation);
    }

    #[test]
    fn erasure_config_and_mirrors_are_checked() {
        let coded =
            |config: &str| open(&format!(r#"{{"storage_path": "/a", "erasure_config": {{"": {config}}}}}"#));
        let settings = |data: u32, drives: &str| {
            format!(
                r#"{{"data_shards_count": {data}, "parity_shards_count": 1, "base_folder_paths_across_drives": {drives}}}"#
            )
        };
        assert!(coded(&settings(1, r#"["/x", "/y"]"#)).is_ok());
        for wrong in [settings(0, r#"["/x"]"#), settings(1, r#"["/x"]"#), settings(1, r#"["/x", "/x"]"#)] {
            assert_eq!(coded(&wrong).err().unwrap().code(), ErrorCode::Validation, "{wrong}");
        }
        assert_eq!(code(r#"{"stores_folders": ["/a", "/a"]}"#), ErrorCode::Validation);
        assert_eq!(code(r#"{"stores_folders": ["/a", ""]}"#), ErrorCode::Validation);
    }
}
