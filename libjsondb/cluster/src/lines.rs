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
    waiting: Mutex<HashMap<HotKey, VecDeque<Waiter>>>,
    moved: Condvar,
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
    /// Waits to be the first. None when it takes too long, and at once when this thread has it already: it would wait for itself.
    pub(crate) fn enter(
        self: &Arc<Lines>,
        key: HotKey,
        deadline: Instant,
        is_wanted: &dyn Fn() -> bool,
    ) -> Option<Place> {
        let waiter = Waiter { ticket: crate::random_u64(), thread: std::thread::current().id() };
        let mut waiting = self.lock();
        let line = waiting.entry(key).or_default();
        if line.front().is_some_and(|first| first.thread == waiter.thread) {
            return None;
        }
        line.push_back(waiter);
        let place = Place { lines: Arc::clone(self), key, waiter, generation: engine::process_generation() };
        while waiting.get(&key).and_then(VecDeque::front) != Some(&waiter) {
            if Instant::now() >= deadline || !is_wanted() {
                drop(waiting);
                return None;
            }
            waiting = self.moved.wait_timeout(waiting, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(waiting);
        Some(place)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HotKey, VecDeque<Waiter>>> {
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
            line.retain(|waiter| *waiter != self.waiter);
            if line.is_empty() {
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
                        let _place = lines.enter(KEY, later(), &|| true).unwrap();
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
        let place = lines.enter(KEY, later(), &|| true);
        assert!(place.is_some());
        assert!(lines.enter(KEY, later(), &|| true).is_none());
        assert!(lines.enter((KEY.0, 8), later(), &|| true).is_some());
    }

    #[test]
    fn who_gives_up_is_in_nobodys_way() {
        let (lines, wanted) = (Arc::new(Lines::default()), AtomicBool::new(true));
        let place = lines.enter(KEY, later(), &|| true);
        std::thread::scope(|scope| {
            let given_up =
                scope.spawn(|| lines.enter(KEY, later(), &|| wanted.load(Ordering::SeqCst)).is_none());
            let late = scope.spawn(|| lines.enter(KEY, Instant::now(), &|| true).is_none());
            assert!(late.join().unwrap());
            wanted.store(false, Ordering::SeqCst);
            assert!(given_up.join().unwrap());
        });
        drop(place);
        assert!(lines.lock().is_empty());
    }
}
