//! Keys that transactions met at lately, as far as this process knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// A key is hot for so long after a conflict.
pub(crate) const HOT_FOR: Duration = Duration::from_secs(2);
/// More are not remembered at a time.
const KEYS_MAX: usize = 1024;
/// What a pause is measured by: about the time of a commit.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest pause is so many times doubled.
const LEVEL_MAX: u32 = 5;

/// A key's hash, in a database.
pub(crate) type HotKey = (Uuid, u64);

struct Heat {
    until: Instant,
    /// A transaction of this process lost since the last attempt.
    has_lost: bool,
    /// Attempts that were lost one after the other.
    level: u32,
}

/// What is hot. Expired keys are forgotten when they are looked for, or room is needed.
#[derive(Default)]
pub(crate) struct HotKeys {
    keys: Mutex<HashMap<HotKey, Heat>>,
    /// So that who has no hot keys takes no lock.
    any: AtomicBool,
}

/// An attempt to change a hot key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The one before was lost.
    pub(crate) has_lost: bool,
    level: u32,
}

impl Attempt {
    /// Without a server to queue at: a random pause, longer after each loss, so that others come through.
    pub(crate) fn back_off(self, deadline: Instant) {
        if self.level > 0 {
            let longest = (PAUSE * (1 << self.level)).as_micros() as u64;
            let pause = Duration::from_micros(crate::random_u64() % longest);
            std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        }
    }
}

impl HotKeys {
    /// A transaction of this process lost the key to another one.
    pub(crate) fn note_conflict(&self, database: Uuid, key: u64) {
        self.warm(database, &[key], true);
    }

    /// Others say that these are hot.
    pub(crate) fn learn(&self, database: Uuid, keys: &[u64]) {
        if !keys.is_empty() {
            self.warm(database, keys, false);
        }
    }

    fn warm(&self, database: Uuid, hashes: &[u64], has_lost: bool) {
        let now = Instant::now();
        let mut keys = self.lock();
        if keys.len() + hashes.len() > KEYS_MAX {
            keys.retain(|_, heat| now < heat.until);
        }
        for hash in hashes {
            if keys.len() >= KEYS_MAX {
                break;
            }
            let heat =
                keys.entry((database, *hash)).or_insert(Heat { until: now, has_lost: false, level: 0 });
            heat.until = now + HOT_FOR;
            heat.has_lost |= has_lost;
        }
        self.any.store(true, Ordering::Release);
    }

    /// Whether transactions have met at the key within [`HOT_FOR`].
    pub(crate) fn contains(&self, database: Uuid, key: u64) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut keys = self.lock();
        let is_hot = keys.get(&(database, key)).is_some_and(|heat| Instant::now() < heat.until);
        if !is_hot {
            keys.remove(&(database, key));
            self.any.store(!keys.is_empty(), Ordering::Release);
        }
        is_hot
    }

    /// A transaction is about to change the key.
    pub(crate) fn begin_attempt(&self, database: Uuid, key: u64) -> Attempt {
        let mut keys = self.lock();
        let Some(heat) = keys.get_mut(&(database, key)) else { return Attempt::default() };
        let has_lost = std::mem::take(&mut heat.has_lost);
        heat.level = if has_lost { (heat.level + 1).min(LEVEL_MAX) } else { heat.level.saturating_sub(1) };
        Attempt { has_lost, level: heat.level }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HotKey, Heat>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: Uuid = Uuid::from_u128(1);

    #[test]
    fn a_key_is_hot_where_it_was_lost_and_in_no_other_database() {
        let hot = HotKeys::default();
        assert!(!hot.contains(DATABASE, 7));
        hot.note_conflict(DATABASE, 7);
        assert!(hot.contains(DATABASE, 7));
        assert!(!hot.contains(Uuid::from_u128(2), 7));
        assert!(!hot.contains(DATABASE, 8));
        assert!(hot.contains(DATABASE, 7), "looking for others forgets none");
    }

    #[test]
    fn pauses_grow_with_losses_and_shrink_with_the_others() {
        let hot = HotKeys::default();
        for level in [1, 2, 3, 4, 5, 5] {
            hot.note_conflict(DATABASE, 7);
            assert_eq!(hot.begin_attempt(DATABASE, 7), Attempt { has_lost: true, level });
        }
        assert_eq!(hot.begin_attempt(DATABASE, 7), Attempt { has_lost: false, level: 4 });
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let hot = HotKeys::default();
        hot.learn(DATABASE, &(0..10 * KEYS_MAX as u64).collect::<Vec<_>>());
        assert!(hot.lock().len() <= KEYS_MAX);
    }
}
