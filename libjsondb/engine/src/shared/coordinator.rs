//! What processes on a shared folder may tell each other beside it: hints, which make things fast and decide nothing.
//!
//! Whatever is answered here may be missing, old or wrong: the folder decides. So nothing here fails, and every wait is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::segment::SegmentId;
use crate::tree::shared_cache::SharedCache;
use crate::{BlobRef, Seq};

/// The newest slot is asked for at most this often: each time takes a round trip.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Carries hints between the processes that share folders. `database` is the id of one: hints of two databases never mix.
pub trait Coordinator: Send + Sync {
    /// The newest slot of the log that somebody announced; None when that is not known.
    fn head(&self, database: Uuid) -> Option<Seq>;

    /// This process has committed in `slot`. It is told without waiting for an answer.
    fn announce(&self, database: Uuid, slot: Seq);

    /// A transaction of this process lost `key` (a hash) to another one: for a while those who want it should queue.
    fn note_conflict(&self, database: Uuid, key: u64);

    /// Whether transactions have met at `key` lately. Answers from memory.
    fn is_hot(&self, database: Uuid, key: u64) -> bool;

    /// Waits for a turn with `key`, for a bounded time and no longer than `is_wanted`. None: go on without one.
    fn queue(&self, database: Uuid, key: u64, is_wanted: &dyn Fn() -> bool) -> Option<Turn>;

    /// The stored bytes of a page or value, if somebody kept them. The caller checks them.
    fn cached(&self, database: Uuid, blob: CachedBlob) -> Option<Vec<u8>>;

    /// Keeps the stored bytes of a page or value for others.
    fn cache(&self, database: Uuid, blob: CachedBlob, bytes: &[u8], keep: Duration);

    /// Keeps a page or value that is there for so long from now on.
    fn keep(&self, database: Uuid, blob: CachedBlob, keep: Duration);
}

/// A turn with a key. It is given back when this is dropped, and taken away from who keeps it too long.
pub type Turn = Box<dyn Send + Sync>;

/// Where a page or value lies. No other one is, or ever will be, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CachedBlob {
    /// The two halves of its segment's name.
    pub segment: (u64, u64),
    /// Where in the segment's file it begins.
    pub offset: u64,
}

impl CachedBlob {
    pub(crate) fn of(blob: &BlobRef) -> CachedBlob {
        let SegmentId { owner, number } = blob.segment;
        CachedBlob { segment: (owner, number), offset: blob.offset }
    }
}

/// The coordinator of one database, if it has one.
#[derive(Default)]
pub(crate) struct Peers {
    coordinator: Option<Arc<dyn Coordinator>>,
    database: Uuid,
    /// When the newest slot was asked for or got, in microseconds of the machine's clock.
    asked: AtomicU64,
}

impl Peers {
    pub(crate) fn new(coordinator: Option<Arc<dyn Coordinator>>, database: Uuid) -> Peers {
        Peers { coordinator, database, asked: AtomicU64::new(0) }
    }

    /// What the coordinator keeps of the files.
    pub(crate) fn cache(&self) -> Option<SharedCache> {
        let coordinator = self.coordinator.as_ref()?;
        Some(SharedCache::new(Arc::clone(coordinator), self.database))
    }

    /// True when somebody announced a slot that is not before `next`. Asked for now and then only.
    pub(crate) fn know_of(&self, next: Seq, now: Duration) -> bool {
        let Some(coordinator) = &self.coordinator else { return false };
        let now = micros(now);
        let asked = self.asked.load(Ordering::Relaxed);
        if asked != 0 && now.saturating_sub(asked) < ASK_EVERY.as_micros() as u64 {
            return false;
        }
        self.asked.store(now, Ordering::Relaxed);
        coordinator.head(self.database).is_some_and(|head| head >= next)
    }

    /// The next look at the log asks for the newest slot.
    pub(crate) fn ask_soon(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// This process got a slot: it need not ask which is the newest.
    pub(crate) fn announce(&self, slot: Seq, now: Duration) {
        if let Some(coordinator) = &self.coordinator {
            self.asked.store(micros(now), Ordering::Relaxed);
            coordinator.announce(self.database, slot);
        }
    }

    pub(crate) fn note_conflict(&self, key: &[u8]) {
        if let Some(coordinator) = &self.coordinator {
            coordinator.note_conflict(self.database, xxh3_64(key));
        }
    }

    pub(crate) fn is_hot(&self, key: &[u8]) -> bool {
        self.coordinator.as_ref().is_some_and(|coordinator| coordinator.is_hot(self.database, xxh3_64(key)))
    }

    pub(crate) fn queue(&self, key: &[u8], is_wanted: &dyn Fn() -> bool) -> Option<Turn> {
        let turn = self.coordinator.as_ref()?.queue(self.database, xxh3_64(key), is_wanted);
        self.ask_soon();
        turn
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or_default()
}
