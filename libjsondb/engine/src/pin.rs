//! Pins: each process says which checkpoint it still reads, so that no other removes its files.
//!
//! A pin is a file `pin/<process id>` with the oldest checkpoint in use, or that none is: a process without open transactions
//! holds no file back. Beside it lies `pin/<process id>.lock`, whose lock the process holds while it lives: a pin whose lock can
//! be taken belongs to a dead process. (Two files, because Windows lets nobody read a file that another one has locked.)
//!
//! Behind the checkpoint the pin says who the process is: [`Holder`]. Where machines share the folder ([`Sharing::Machines`]) pins are written less
//! often, as each write has to be synced for others to see it: an idle process keeps its pin, and one that was not written for long holds no
//! file back. A process wrongly taken for dead there finds that out before it commits ([`crate::shared`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bytes::{Put, Reader, is_intact};
use crate::os::{self, File};
use crate::{Error, ErrorKind, Result, Seq};

/// What an idle process publishes: it reads nothing, so it keeps no file from being removed.
const IDLE: Seq = Seq(u64::MAX);

/// Making a pin is tried this often: a checkpoint sweeps a staged one at most once.
const CREATE_ATTEMPTS: usize = 10;

/// A pin that is used is written at least so often, where machines share the folder.
const TOUCH: Duration = Duration::from_secs(60);
/// One that was not written for so long belongs to a process without a transaction that its time limit has not ended.
const FORGOTTEN: Duration = Duration::from_secs(30 * 60);
/// A lock of another machine that can be taken may also mean that locks do not reach from one machine to another: then these are
/// believed only after so long.
const SILENT: Duration = Duration::from_secs(5 * 60);
/// Who opens the folder says who it is within milliseconds: it is looked for so often, with such pauses.
pub(crate) const SAY_ATTEMPTS: usize = 50;
pub(crate) const SAY_PAUSE: Duration = Duration::from_millis(2);
/// Where in the pin it says who the process is.
const HOLDER_AT: u64 = 16;

/// Who shares a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Processes of one machine: Standalone.
    Processes,
    /// Several machines: Clustered.
    Machines,
}

/// A process that has the folder open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) sharing: Sharing,
    pub(crate) pid: u32,
    pub(crate) machine: String,
}

impl Holder {
    pub(crate) fn this_process(sharing: Sharing) -> Holder {
        Holder { sharing, pid: std::process::id(), machine: os::machine_name() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(match self.sharing {
            Sharing::Processes => 1,
            Sharing::Machines => 2,
        });
        out.put_u32(self.pid);
        out.put_bytes(self.machine.as_bytes());
        out.put_u32(crc32fast::hash(&out));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Holder> {
        let mut reader = Reader::new(bytes);
        let sharing = match reader.u8()? {
            1 => Sharing::Processes,
            2 => Sharing::Machines,
            _ => return None,
        };
        let pid = reader.u32()?;
        let machine = String::from_utf8(reader.bytes()?.to_vec()).ok()?;
        let len = bytes.len() - reader.rest().len();
        is_intact(bytes.get(..len)?, reader.u32()?).then_some(Holder { sharing, pid, machine })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.sharing {
            Sharing::Processes => "Standalone",
            Sharing::Machines => "Clustered",
        };
        write!(f, "process {} of machine \"{}\" ({mode})", self.pid, self.machine)
    }
}

/// This process's pin.
pub(crate) struct Pin {
    paths: [PathBuf; 2],
    staged: PathBuf,
    sharing: Sharing,
    state: Mutex<PinState>,
    generation: u32,
}

struct PinState {
    /// Held while the process lives.
    _lock: File,
    file: File,
    /// Snapshots in use.
    users: usize,
    published: Seq,
    /// When it was written last, by [`os::uptime`].
    written: Duration,
}

impl Pin {
    /// Publishes a pin on everything, before anything is read; it counts as used until the first [`Pin::leave`]. The lock file gets
    /// its name only when its lock is held: else it would count as dead.
    pub(crate) fn create(folder: &Path, staging: &Path, owner: u64, sharing: Sharing) -> Result<Pin> {
        let (paths, staged) = (paths(folder, owner), staged_pin(staging, owner));
        let (lock, file) = create_files(&paths, &staged, sharing)?;
        let state = PinState { _lock: lock, file, users: 1, published: Seq(0), written: os::uptime() };
        let generation = os::process_generation();
        Ok(Pin { paths, staged, sharing, state: Mutex::new(state), generation })
    }

    /// Says what another one of this process says, on another copy.
    pub(crate) fn take_over(&self, other: &Pin) -> Result<()> {
        let (users, published) = {
            let other = other.lock();
            (other.users, other.published)
        };
        let mut state = self.lock();
        state.users = users;
        self.write(&mut state, published)
    }

    /// Makes the pin anew, on everything, after others have removed it: they had taken this process for dead.
    pub(crate) fn renew(&self) -> Result<()> {
        self.make_anew(&mut self.lock())
    }

    fn make_anew(&self, state: &mut PinState) -> Result<()> {
        let (lock, file) = create_files(&self.paths, &self.staged, self.sharing)?;
        *state = PinState { _lock: lock, file, users: state.users, published: Seq(0), written: os::uptime() };
        Ok(())
    }

    /// A snapshot is about to be taken; nothing older than `oldest` is in use. To be called before the newest state is looked
    /// for: whoever removed files without seeing this pin had announced its checkpoint before (I9).
    pub(crate) fn enter(&self, oldest: Seq) -> Result<()> {
        let mut state = self.lock();
        match self.sharing {
            Sharing::Processes if state.users == 0 => self.write(&mut state, oldest)?,
            Sharing::Processes => {}
            // What it says holds for this one, too; it is written again when it was not for long.
            Sharing::Machines => {
                let shown = state.published.min(oldest);
                self.write(&mut state, shown)?;
            }
        }
        state.users += 1;
        Ok(())
    }

    /// A snapshot was given back.
    pub(crate) fn leave(&self) -> Result<()> {
        let mut state = self.lock();
        state.users = state.users.saturating_sub(1);
        match self.sharing {
            Sharing::Processes if state.users == 0 => self.write(&mut state, IDLE),
            _ => Ok(()),
        }
    }

    /// Says that nothing older than `oldest` is in use here.
    pub(crate) fn publish(&self, oldest: Seq) -> Result<()> {
        let mut state = self.lock();
        if state.users > 0 || self.sharing == Sharing::Machines {
            self.write(&mut state, oldest)
        } else {
            Ok(())
        }
    }

    fn write(&self, state: &mut PinState, oldest: Seq) -> Result<()> {
        let now = os::uptime();
        let is_shared = self.sharing == Sharing::Machines;
        if state.published != oldest || is_shared && now.saturating_sub(state.written) >= TOUCH {
            let written = state.file.write_all_at(&encode(oldest), 0);
            // Another machine sees what was synced.
            match written.and_then(|()| if is_shared { state.file.sync() } else { Ok(()) }) {
                // Others took this process for dead. It finds out when it reads their fence, and needs a pin until then.
                Err(error) if error.is_missing_file() => return self.make_anew(state),
                // A pin that stays too old only keeps files longer.
                Err(error) if error.kind() == ErrorKind::DiskFull && state.published < oldest => {
                    return Ok(());
                }
                written => written?,
            }
            state.published = oldest;
            state.written = now;
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

fn create_files(paths: &[PathBuf; 2], staged: &Path, sharing: Sharing) -> Result<(File, File)> {
    for _ in 1..CREATE_ATTEMPTS {
        match try_create_files(paths, staged, sharing) {
            // Swept from the staging folder: without its pin this process counted as dead.
            Err(_) if !os::exists(staged)? => {}
            created => return created,
        }
    }
    try_create_files(paths, staged, sharing)
}

fn try_create_files(
    [path, lock_path]: &[PathBuf; 2],
    staged: &Path,
    sharing: Sharing,
) -> Result<(File, File)> {
    let lock = File::create_new_to_lock(staged)?;
    if !lock.try_lock()? {
        return Err(Error::new(ErrorKind::Internal, "a new pin is locked by somebody else"));
    }
    os::rename(staged, lock_path)?;
    let file = File::open_or_create(path)?;
    // Without a checkpoint it is a pin on everything.
    match file.write_all_at(&Holder::this_process(sharing).encode(), HOLDER_AT) {
        // A full disk has room for an empty one.
        Err(error) if error.kind() == ErrorKind::DiskFull => {}
        written => written?,
    }
    if sharing == Sharing::Machines {
        file.write_all_at(&encode(Seq(0)), 0)?;
        file.sync()?;
    }
    Ok((lock, file))
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
    /// Processes that live, by id, and who they are, if they say it.
    pub(crate) alive: BTreeMap<u64, Option<Holder>>,
    /// Oldest checkpoint in use by any of them.
    pub(crate) oldest: Option<Seq>,
    /// Dead processes, alike.
    pub(crate) dead: BTreeMap<u64, Option<Holder>>,
}

impl PinSurvey {
    /// What another copy says as well.
    pub(crate) fn add(&mut self, other: PinSurvey) {
        for (owner, holder) in other.alive {
            let known = self.alive.entry(owner).or_default();
            *known = known.take().or(holder);
        }
        self.oldest = match (self.oldest, other.oldest) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.dead.extend(other.dead);
        self.dead.retain(|owner, _| !self.alive.contains_key(owner));
    }

    /// Files of the dead processes' pins.
    pub(crate) fn dead_files(&self, folder: &Path) -> Vec<PathBuf> {
        self.dead.keys().flat_map(|owner| paths(folder, *owner)).collect()
    }

    /// Whether one of the dead, who may only sleep, was to open the folder as Clustered.
    pub(crate) fn has_dead_machine(&self) -> bool {
        self.dead
            .values()
            .any(|holder| holder.as_ref().is_none_or(|holder| holder.sharing == Sharing::Machines))
    }

    /// Fails when another process has the folder open.
    pub(crate) fn check_nobody(&self, owner: u64) -> Result<()> {
        let Some((_, holder)) = self.alive.iter().find(|(other, _)| **other != owner) else { return Ok(()) };
        let who = holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string);
        let what = format!("{who} has the folder open: close it there before it gets copies");
        Err(Error::new(ErrorKind::Locked, what))
    }

    /// Fails when a process has the folder open that this one cannot share it with.
    pub(crate) fn check_others(&self, owner: u64, sharing: Sharing) -> Result<()> {
        let here = os::machine_name();
        let is_in_the_way = |holder: &&Holder| {
            holder.sharing != sharing || sharing == Sharing::Processes && holder.machine != here
        };
        let others = || self.alive.iter().filter(|(other, _)| **other != owner).map(|(_, holder)| holder);
        // On a full disk nobody says who it is.
        let knows_itself = self.alive.get(&owner).is_some_and(Option::is_some);
        if others().any(Option::is_none) && (knows_itself || sharing == Sharing::Machines) {
            let what = "a process that does not say yet who it is has the folder open: try again";
            return Err(Error::new(ErrorKind::Locked, what));
        }
        let Some(holder) = others().flatten().find(is_in_the_way) else { return Ok(()) };
        let what = match (sharing, holder.sharing) {
            (Sharing::Processes, Sharing::Processes) => format!(
                "{holder} has the folder open: processes of several machines share it as Clustered only; close it there, or \
                 open it as Clustered everywhere"
            ),
            _ => format!("{holder} has the folder open: close it there, or open it here in the same way"),
        };
        Err(Error::new(ErrorKind::Locked, what))
    }
}

/// As [`survey`], when everybody who is opening the folder has said who it is, or takes too long. (What a Standalone process says reaches other
/// machines when it closes the folder: they are refused.)
pub(crate) fn survey_to_open(folder: &Path, own: u64, now: Option<Duration>) -> Result<PinSurvey> {
    let mut found = survey(folder, own, now)?;
    for _ in 0..SAY_ATTEMPTS {
        if found.alive.iter().all(|(owner, holder)| *owner == own || holder.is_some()) {
            break;
        }
        os::pause(SAY_PAUSE);
        found = survey(folder, own, now)?;
    }
    Ok(found)
}

/// Looks at all pins; the `own` one is that of a process that lives. `now` is the time for whoever keeps the files, where machines share the folder.
pub(crate) fn survey(folder: &Path, own: u64, now: Option<Duration>) -> Result<PinSurvey> {
    let mut survey = PinSurvey::default();
    let here = os::machine_name();
    for (name, _) in os::list(folder)? {
        let owner = name.strip_suffix(".lock").and_then(|owner| u64::from_str_radix(owner, 16).ok());
        let Some(owner) = owner else { continue };
        let [path, lock_path] = paths(folder, owner);
        let Some(lock) = File::open_to_lock(&lock_path)? else { continue };
        let is_free = match lock.try_lock() {
            Err(error) if error.is_missing_file() => continue,
            tried => tried? && owner != own,
        };
        let bytes = os::read_file(&path)?.unwrap_or_default();
        let holder = bytes.get(HOLDER_AT as usize..).and_then(Holder::decode);
        let age = match now {
            Some(now) => os::changed_at(&path)?.map_or(Duration::MAX, |then| now.saturating_sub(then)),
            None => Duration::ZERO,
        };
        let is_elsewhere = now.is_some() && holder.as_ref().is_some_and(|holder| holder.machine != here);
        if is_free && (!is_elsewhere || age >= SILENT) {
            survey.dead.insert(owner, holder);
            continue;
        }
        // Not there yet, empty or half-written: everything counts as in use.
        let checkpoint = decode(&bytes).unwrap_or(Seq(0));
        survey.alive.insert(owner, holder);
        if age < FORGOTTEN {
            survey.oldest = Some(survey.oldest.map_or(checkpoint, |oldest| oldest.min(checkpoint)));
        }
    }
    Ok(survey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_pin_holds_and_a_dead_one_does_not() {
        let (pins, staging) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Pin::create(pins.path(), staging.path(), 1, Sharing::Processes).unwrap();
        let second = Pin::create(pins.path(), staging.path(), 2, Sharing::Processes).unwrap();
        let idle = Pin::create(pins.path(), staging.path(), 4, Sharing::Processes).unwrap();
        idle.leave().unwrap();
        idle.publish(Seq(1)).unwrap();
        first.publish(Seq(7)).unwrap();
        second.publish(Seq(5)).unwrap();
        let survey_now = survey(pins.path(), 0, None).unwrap();
        assert_eq!(survey_now.oldest, Some(Seq(5)));
        assert_eq!(survey_now.alive.len(), 3);
        for path in paths(pins.path(), 3) {
            std::fs::write(path, encode(Seq(1))).unwrap();
        }
        drop(second);
        let survey_now = survey(pins.path(), 0, None).unwrap();
        assert_eq!((survey_now.oldest, survey_now.dead.len()), (Some(Seq(7)), 1));
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
                let created = Pin::create(pins.path(), staging.path(), owner, Sharing::Processes).map(drop);
                if count() >= 3 || created.is_err() {
                    swept.store(3, std::sync::atomic::Ordering::Relaxed);
                    created.unwrap();
                    break;
                }
            }
        });
    }
}
