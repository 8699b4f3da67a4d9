//! Threads of one process that want the same hot key: one after the other, in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::hot::HotKey;

/// Who waits looks so often whether it is still wanted.
const POLL: Duration = Duration::from_millis(20);

/// Who waits for which key. The first of each has it.
#[derive(Default)]
pub(crate) struct Lines {
    waiting: Mutex<HashMap<HotKey, Line>>,
    moved: Condvar,
}

struct Line {
    waiters: VecDeque<Waiter>,
    /// Since when the first one is the first.
    since: Instant,
}

impl Line {
    fn remove(&mut self, waiter: Waiter) {
        if self.waiters.front() == Some(&waiter) {
            self.since = Instant::now();
        }
        self.waiters.retain(|other| *other != waiter);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Waiter {
    ticket: u64,
    thread: ThreadId,
}

/// A place in a line. Left when it is dropped.
pub(crate) struct Place {
    lines: Arc<Lines>,
    key: HotKey,
    waiter: Waiter,
    generation: u32,
}

impl Lines {
    /// Waits to be the first, or until each that was before has been so for as long as the lease. None when it takes too long, and at once when
    /// this thread has it already: it would wait for itself.
    pub(crate) fn enter(
        self: &Arc<Lines>,
        key: HotKey,
        lease: Duration,
        deadline: Instant,
        is_wanted: &dyn Fn() -> bool,
    ) -> Option<Place> {
        let waiter = Waiter { ticket: crate::random_u64(), thread: std::thread::current().id() };
        let mut waiting = self.lock();
        let new = || Line { waiters: VecDeque::new(), since: Instant::now() };
        let line = waiting.entry(key).or_insert_with(new);
        if line.waiters.front().is_some_and(|first| first.thread == waiter.thread) {
            return None;
        }
        line.waiters.push_back(waiter);
        let place = Place { lines: Arc::clone(self), key, waiter, generation: engine::process_generation() };
        while let Some(line) = waiting.get_mut(&key)
            && let Some(first) = line.waiters.front().copied()
            && first != waiter
        {
            if line.since.elapsed() >= lease {
                line.remove(first);
                self.moved.notify_all();
                continue;
            }
            if Instant::now() >= deadline || !is_wanted() {
                drop(waiting);
                return None;
            }
            waiting = self.moved.wait_timeout(waiting, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(waiting);
        Some(place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HotKey, Line>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The line of a parent process: another thread may have held its lock at the fork.
        if self.generation != engine::process_generation() {
            return;
        }
        let mut waiting = self.lines.lock();
        if let Some(line) = waiting.get_mut(&self.key) {
            line.remove(self.waiter);
            if line.waiters.is_empty() {
                waiting.remove(&self.key);
            }
        }
        drop(waiting);
        self.lines.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use uuid::Uuid;

    const KEY: HotKey = (Uuid::from_u128(1), 7);

    const LONG: Duration = Duration::from_secs(60);

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn one_thread_at_a_time() {
        let (lines, inside) = (Arc::new(Lines::default()), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _place = lines.enter(KEY, LONG, later(), &|| true).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(lines.lock().is_empty());
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let lines = Arc::new(Lines::default());
        let place = lines.enter(KEY, LONG, later(), &|| true);
        assert!(place.is_some());
        assert!(lines.enter(KEY, LONG, later(), &|| true).is_none());
        assert!(lines.enter((KEY.0, 8), LONG, later(), &|| true).is_some());
    }

    #[test]
    fn who_gives_up_is_in_nobodys_way() {
        let (lines, wanted) = (Arc::new(Lines::default()), AtomicBool::new(true));
        let place = lines.enter(KEY, LONG, later(), &|| true);
        std::thread::scope(|scope| {
            let given_up =
                scope.spawn(|| lines.enter(KEY, LONG, later(), &|| wanted.load(Ordering::SeqCst)).is_none());
            let late = scope.spawn(|| lines.enter(KEY, LONG, Instant::now(), &|| true).is_none());
            assert!(late.join().unwrap());
            wanted.store(false, Ordering::SeqCst);
            assert!(given_up.join().unwrap());
        });
        drop(place);
        assert!(lines.lock().is_empty());
    }

    #[test]
    fn who_keeps_a_turn_for_too_long_loses_it() {
        let lines = Arc::new(Lines::default());
        let kept = lines.enter(KEY, LONG, later(), &|| true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let taken = lines.enter(KEY, Duration::ZERO, later(), &|| panic!("it waits"));
                assert!(taken.is_some());
                drop(kept);
                assert_eq!(lines.lock().len(), 1, "the one that has it now stays");
            });
        });
        assert!(lines.lock().is_empty());
    }
}
