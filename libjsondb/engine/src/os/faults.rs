//! Calls to the operating system that fail, or look at what happens, because a test wants it.
//!
//! Compiled for tests only: the engine's own, and with the feature `recording` those of others.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this error number, and nothing is done.
    Error(i32),
    /// A read or write does half of what it was asked, as a signal or a full pipe may cause: no error.
    Short,
    /// A read or write does half of what it was asked, and the next call fails with this error number.
    ShortThen(i32),
}

/// Which calls fail, and how.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Only calls of this kind on files of this extension; None: all.
    pub only: Option<(&'static str, &'static str)>,
    /// How many such calls succeed before.
    pub after: u64,
    /// How many fail then.
    pub count: u64,
    /// How they fail.
    pub fault: Fault,
}

/// Told before a sync of a log file begins.
type Observer = Arc<dyn Fn() + Send + Sync>;

struct Watched {
    root: PathBuf,
    faults: Option<Faults>,
    observer: Option<Observer>,
}

thread_local! {
    /// The observer is at work on this thread: its own calls neither fail nor are told.
    static OBSERVING: Cell<bool> = const { Cell::new(false) };
}

static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

fn watched() -> MutexGuard<'static, Vec<Watched>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(path: &Path, act: impl FnOnce(&mut Watched) -> Option<T>) -> Option<T> {
    if OBSERVING.get() {
        return None;
    }
    watched().iter_mut().find(|watched| path.starts_with(&watched.root)).and_then(act)
}

fn entry<T>(root: &Path, act: impl FnOnce(&mut Watched) -> T) -> T {
    let mut all = watched();
    if !all.iter().any(|watched| watched.root == root) {
        all.push(Watched { root: root.to_owned(), faults: None, observer: None });
    }
    let index = all.iter().position(|watched| watched.root == root).unwrap_or_default();
    act(&mut all[index])
}

/// Makes calls below `root` fail.
pub fn set(root: &Path, faults: Faults) {
    entry(root, |watched| watched.faults = Some(faults));
}

/// Ends it. Gives how many calls were still to fail.
pub fn clear(root: &Path) -> u64 {
    entry(root, |watched| watched.faults.take()).map_or(0, |faults| faults.count)
}

/// Has `observer` told whenever a sync of a log file below `root` begins.
pub fn observe(root: &Path, observer: impl Fn() + Send + Sync + 'static) {
    entry(root, |watched| watched.observer = Some(Arc::new(observer)));
}

/// Forgets everything about `root`.
pub fn forget(root: &Path) {
    let forgotten: Vec<Watched> = watched().extract_if(.., |watched| watched.root == root).collect();
    // The observer may hold a database, whose end makes calls of its own: not while the list is locked.
    drop(forgotten);
}

impl Faults {
    /// Whether this call is the one.
    fn strikes(&mut self, action: &str, path: &Path) -> bool {
        if let Some((only, extension)) = self.only
            && (only != action || path.extension().is_none_or(|found| found != extension))
        {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        let strikes = self.count > 0;
        self.count = self.count.saturating_sub(1);
        strikes
    }
}

/// The error of a call that is to fail.
pub(super) fn meet(action: &str, path: &Path) -> io::Result<()> {
    let mut observer = None;
    let error = with(path, |watched| {
        if action == "sync" && path.extension().is_some_and(|extension| extension == "wal") {
            observer.clone_from(&watched.observer);
        }
        let faults = watched.faults.as_mut()?;
        let Fault::Error(errno) = faults.fault else { return None };
        faults.strikes(action, path).then(|| io::Error::from_raw_os_error(errno))
    });
    if let Some(observer) = observer {
        OBSERVING.set(true);
        observer();
        OBSERVING.set(false);
    }
    error.map_or(Ok(()), Err)
}

/// How much of `len` bytes a read or write does at once.
pub(super) fn granted(action: &str, path: &Path, len: usize) -> usize {
    let short = with(path, |watched| {
        let faults = watched.faults.as_mut()?;
        let fault = faults.fault;
        if len < 2 || matches!(fault, Fault::Error(_)) || !faults.strikes(action, path) {
            return None;
        }
        if let Fault::ShortThen(errno) = fault {
            faults.fault = Fault::Error(errno);
            (faults.after, faults.count) = (0, 1);
        }
        Some(len / 2)
    });
    short.unwrap_or(len)
}
