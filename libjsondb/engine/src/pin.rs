//! Pins: each process says which checkpoint it still reads, so that no other removes its files.
//!
//! A pin is a file `pin/<process id>` with the oldest checkpoint in use, or that none is: a process without open transactions
//! holds no file back. Beside it lies `pin/<process id>.lock`, whose lock the process holds while it lives: a pin whose lock can
//! be taken belongs to a dead process. (Two files, because Windows lets nobody read a file that another one has locked.)

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bytes::{Put, Reader, is_intact};
use crate::os::{self, File};
use crate::{Error, ErrorKind, Result, Seq};

/// What an idle process publishes: it reads nothing, so it keeps no file from being removed.
const IDLE: Seq = Seq(u64::MAX);

/// Making a pin is tried this often: a checkpoint sweeps a staged one at most once.
const CREATE_ATTEMPTS: usize = 10;

/// This process's pin.
pub(crate) struct Pin {
    /// Held while the process lives.
    _lock: File,
    file: File,
    paths: [PathBuf; 2],
    state: Mutex<PinState>,
    generation: u32,
}

struct PinState {
    /// Snapshots in use.
    users: usize,
    published: Seq,
}

impl Pin {
    /// Publishes a pin on everything, before anything is read; it counts as used until the first [`Pin::leave`]. The lock file gets
    /// its name only when its lock is held: else it would count as dead.
    pub(crate) fn create(folder: &Path, staging: &Path, owner: u64) -> Result<Pin> {
        for _ in 1..CREATE_ATTEMPTS {
            match Pin::try_create(folder, staging, owner) {
                // Swept from the staging folder: without its pin this process counted as dead.
                Err(_) if !staged_pin(staging, owner).exists() => {}
                created => return created,
            }
        }
        Pin::try_create(folder, staging, owner)
    }

    fn try_create(folder: &Path, staging: &Path, owner: u64) -> Result<Pin> {
        let paths = paths(folder, owner);
        let [path, lock_path] = &paths;
        let staged = staged_pin(staging, owner);
        let lock = File::create_new_to_lock(&staged)?;
        if !lock.try_lock()? {
            return Err(Error::new(ErrorKind::Internal, "a new pin is locked by somebody else"));
        }
        os::rename(&staged, lock_path)?;
        // An empty pin is one on everything, and a full disk has room for it.
        let file = File::open_or_create(path)?;
        let state = Mutex::new(PinState { users: 1, published: Seq(0) });
        Ok(Pin { _lock: lock, file, paths, state, generation: os::process_generation() })
    }

    /// A snapshot is about to be taken; nothing older than `oldest` is in use. To be called before the newest state is looked
    /// for: whoever removed files without seeing this pin had announced its checkpoint before (I9).
    pub(crate) fn enter(&self, oldest: Seq) -> Result<()> {
        let mut state = self.lock();
        if state.users == 0 {
            self.write(&mut state, oldest)?;
        }
        state.users += 1;
        Ok(())
    }

    /// A snapshot was given back.
    pub(crate) fn leave(&self) -> Result<()> {
        let mut state = self.lock();
        state.users = state.users.saturating_sub(1);
        if state.users == 0 { self.write(&mut state, IDLE) } else { Ok(()) }
    }

    /// Says that nothing older than `oldest` is in use here.
    pub(crate) fn publish(&self, oldest: Seq) -> Result<()> {
        let mut state = self.lock();
        if state.users > 0 { self.write(&mut state, oldest) } else { Ok(()) }
    }

    fn write(&self, state: &mut PinState, oldest: Seq) -> Result<()> {
        if state.published != oldest {
            match self.file.write_all_at(&encode(oldest), 0) {
                // A pin that stays too old only keeps files longer.
                Err(error) if error.kind() == ErrorKind::DiskFull && state.published < oldest => {
                    return Ok(());
                }
                written => written?,
            }
            state.published = oldest;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, PinState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.generation == os::process_generation() {
            for path in &self.paths {
                // A pin left behind is unlocked, so it counts as dead and is swept.
                let _ = os::remove(path);
            }
        }
    }
}

/// The pin and its lock.
fn paths(folder: &Path, owner: u64) -> [PathBuf; 2] {
    [folder.join(format!("{owner:016x}")), folder.join(format!("{owner:016x}.lock"))]
}

fn staged_pin(staging: &Path, owner: u64) -> PathBuf {
    staging.join(format!("{owner:016x}-pin"))
}

pub(crate) fn encode(checkpoint: Seq) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    out.put_u64(checkpoint.0);
    out.put_u32(crc32fast::hash(&out));
    out
}

/// None when these are not the bytes of a pin.
pub(crate) fn decode(bytes: &[u8]) -> Option<Seq> {
    let mut reader = Reader::new(bytes);
    let checkpoint = reader.u64()?;
    is_intact(bytes.get(..8)?, reader.u32()?).then_some(Seq(checkpoint))
}

/// All pins of a folder at one moment.
#[derive(Debug, Default)]
pub(crate) struct PinSurvey {
    /// Processes that live, by id.
    pub(crate) alive: std::collections::BTreeSet<u64>,
    /// Oldest checkpoint in use by any of them.
    pub(crate) oldest: Option<Seq>,
    /// Files of dead processes' pins.
    pub(crate) dead: Vec<PathBuf>,
}

pub(crate) fn survey(folder: &Path) -> Result<PinSurvey> {
    let mut survey = PinSurvey::default();
    for (name, _) in os::list(folder)? {
        let owner = name.strip_suffix(".lock").and_then(|owner| u64::from_str_radix(owner, 16).ok());
        let Some(owner) = owner else { continue };
        let paths = paths(folder, owner);
        let [path, lock_path] = &paths;
        let Some(lock) = File::open_to_lock(lock_path)? else { continue };
        if lock.try_lock()? {
            survey.dead.extend(paths);
            continue;
        }
        let mut bytes = [0; 12];
        if let Some(file) = File::open(path)? {
            file.read_at(&mut bytes, 0)?;
        }
        // Not there yet, empty or half-written: everything counts as in use.
        let checkpoint = decode(&bytes).unwrap_or(Seq(0));
        survey.alive.insert(owner);
        survey.oldest = Some(survey.oldest.map_or(checkpoint, |oldest| oldest.min(checkpoint)));
    }
    Ok(survey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_pin_holds_and_a_dead_one_does_not() {
        let (pins, staging) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Pin::create(pins.path(), staging.path(), 1).unwrap();
        let second = Pin::create(pins.path(), staging.path(), 2).unwrap();
        let idle = Pin::create(pins.path(), staging.path(), 4).unwrap();
        idle.leave().unwrap();
        idle.publish(Seq(1)).unwrap();
        first.publish(Seq(7)).unwrap();
        second.publish(Seq(5)).unwrap();
        let survey_now = survey(pins.path()).unwrap();
        assert_eq!(survey_now.oldest, Some(Seq(5)));
        assert_eq!(survey_now.alive.len(), 3);
        for path in paths(pins.path(), 3) {
            std::fs::write(path, encode(Seq(1))).unwrap();
        }
        drop(second);
        let survey_now = survey(pins.path()).unwrap();
        assert_eq!((survey_now.oldest, survey_now.dead.len()), (Some(Seq(7)), 2));
    }

    #[test]
    fn a_staged_pin_that_is_swept_is_made_again() {
        let (pins, staging) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let swept = std::sync::atomic::AtomicUsize::new(0);
        let count = || swept.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while count() < 3 {
                    for (name, _) in os::list(staging.path()).unwrap() {
                        if std::fs::remove_file(staging.path().join(name)).is_ok() {
                            swept.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                }
            });
            for owner in 0.. {
                let created = Pin::create(pins.path(), staging.path(), owner).map(drop);
                if count() >= 3 || created.is_err() {
                    swept.store(3, std::sync::atomic::Ordering::Relaxed);
                    created.unwrap();
                    break;
                }
            }
        });
    }
}
