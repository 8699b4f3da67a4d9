//! Redis, as a run has it: away, right, or late, partitioned and set back at random. The engine must not mind.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::Seq;
use crate::random::Random;
use crate::shared::coordinator::{CachedBlob, Coordinator, Turn};

/// A server dumped long ago names a slot at most so far ahead of the log: it is another folder's by then.
const AHEAD_MAX: u64 = 1_000;

/// How it answers.
#[derive(Clone, Copy)]
enum Answers {
    Never,
    Right,
    AtRandom,
}

/// One server, for all processes of a run.
pub(super) struct Redis(Mutex<State>);

struct State {
    answers: Answers,
    random: Random,
    head: u64,
}

impl Redis {
    pub(super) fn new(seed: u64) -> Redis {
        let mut random = Random::new(seed);
        let answers = match random.below(4) {
            0 => Answers::Never,
            1 => Answers::Right,
            _ => Answers::AtRandom,
        };
        Redis(Mutex::new(State { answers, random, head: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coordinator for Redis {
    fn head(&self, _: Uuid) -> Option<Seq> {
        let mut state = self.lock();
        let head = state.head;
        match state.answers {
            Answers::Never => None,
            Answers::Right => Some(Seq(head)),
            Answers::AtRandom => match state.random.below(4) {
                0 => None,
                1 => Some(Seq(state.random.below(head + 1))),
                2 => Some(Seq(head + state.random.below(AHEAD_MAX))),
                _ => Some(Seq(head)),
            },
        }
    }

    fn announce(&self, _: Uuid, slot: Seq) {
        let mut state = self.lock();
        state.head = state.head.max(slot.0);
    }

    fn note_conflict(&self, _: Uuid, _: u64) {}

    fn is_hot(&self, _: Uuid, _: u64) -> bool {
        let mut state = self.lock();
        !matches!(state.answers, Answers::Never) && state.random.one_in(3)
    }

    fn queue(&self, _: Uuid, _: u64, is_wanted: &dyn Fn() -> bool) -> Option<Turn> {
        let has_turn = is_wanted() && self.lock().random.one_in(2);
        has_turn.then(|| Box::new(()) as Turn)
    }

    // Whether a cache is asked is decided by real time, which no seed repeats; wrong bytes: shared::coordinator_tests.
    fn cached(&self, _: Uuid, _: CachedBlob) -> Option<Vec<u8>> {
        None
    }

    fn cache(&self, _: Uuid, _: CachedBlob, _: &[u8], _: Duration) {}

    fn keep(&self, _: Uuid, _: CachedBlob, _: Duration) {}
}
