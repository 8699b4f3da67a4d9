//! Waiting for a lock that another process may hold.

use std::time::{Duration, Instant};

use crate::os::{self, File};
use crate::{Error, ErrorKind, Result};

/// What holds a lock takes microseconds, or one sync: so many tries are made before a thread sleeps.
const YIELDS: u32 = 100;
/// Shortest and longest pause between two tries then.
const PAUSE_MIN: Duration = Duration::from_micros(20);
const PAUSE_MAX: Duration = Duration::from_micros(200);

/// When a timeout that begins now is over; None: never, it is longer than the clock reaches.
pub(crate) fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Waits for a whole-file lock.
pub(crate) fn acquire(lock: &File, timeout: Duration, still_wanted: impl Fn() -> Result<()>) -> Result<()> {
    acquire_unless(lock, timeout, || still_wanted().map(|()| false)).map(drop)
}

/// Waits for a whole-file lock, or until it is needed no more: false.
pub(crate) fn acquire_unless(
    lock: &File,
    timeout: Duration,
    is_done: impl Fn() -> Result<bool>,
) -> Result<bool> {
    if lock.try_lock()? {
        return Ok(true);
    }
    let deadline = os::uptime().checked_add(timeout);
    let (mut yields, mut pause) = (0, PAUSE_MIN);
    loop {
        if is_done()? {
            return Ok(false);
        }
        if lock.try_lock()? {
            return Ok(true);
        }
        if yields < YIELDS {
            yields += 1;
            std::thread::yield_now();
            continue;
        }
        if deadline.is_some_and(|deadline| os::uptime() >= deadline) {
            let path = lock.path().display();
            let what = format!(
                "another process holds {path} for over {timeout:?}: if it is stopped, let it go on or end it"
            );
            return Err(Error::new(ErrorKind::Locked, what));
        }
        os::pause(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
