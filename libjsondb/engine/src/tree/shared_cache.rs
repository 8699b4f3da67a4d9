//! Pages and values that other processes have read: kept by the coordinator, beside the files, as long as their stores say.
//!
//! Where the files are near, reading them takes less time than asking. So both are measured, and the faster one is used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::bytes::is_intact;
use crate::segment::Segments;
use crate::shared::coordinator::{CachedBlob, Coordinator};
use crate::{BlobRef, Result, StoreId, os};

/// What is larger is read from its file: it would push much else out.
const BYTES_MAX: u32 = 64 << 10;
/// Of so many reads one is made in either way, to know how long both take.
const MEASURE_EVERY: u64 = 64;

/// How long something is kept for other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheDuration {
    /// Zero: not at all.
    pub time: Duration,
    /// Each read lets the time begin anew.
    pub is_sliding: bool,
}

/// How long pages and values of a store are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheDurations {
    /// Pages of the tree, with small values in them.
    pub pages: CacheDuration,
    /// Values that lie beside the tree, up to 64 KiB. They do not know their store: of all stores that were opened the longest counts.
    pub values: CacheDuration,
}

impl Default for CacheDurations {
    fn default() -> Self {
        let pages = CacheDuration { time: Duration::from_secs(5 * 60), is_sliding: false };
        Self { pages, values: CacheDuration::default() }
    }
}

/// What of a store is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cached {
    Page(StoreId),
    Value,
}

/// The coordinator's cache, in front of the files of a database.
pub(crate) struct SharedCache {
    coordinator: Arc<dyn Coordinator>,
    database: Uuid,
    durations: Mutex<HashMap<StoreId, CacheDurations>>,
    reads: AtomicU64,
    asking: Pace,
    reading: Pace,
}

impl SharedCache {
    pub(crate) fn new(coordinator: Arc<dyn Coordinator>, database: Uuid) -> SharedCache {
        SharedCache {
            coordinator,
            database,
            durations: Mutex::default(),
            reads: AtomicU64::new(0),
            asking: Pace::default(),
            reading: Pace::default(),
        }
    }

    pub(crate) fn set_durations(&self, store: StoreId, durations: CacheDurations) {
        self.lock_durations().insert(store, durations);
    }

    /// The stored bytes of a blob, checked, decoded by `decode`, which also says what it is.
    pub(crate) fn read<T>(
        &self,
        segments: &Segments,
        blob: &BlobRef,
        decode: impl Fn(Vec<u8>) -> Result<(Cached, T)>,
    ) -> Result<T> {
        if blob.stored_len > BYTES_MAX {
            return decode(segments.read(blob)?).map(|(_, decoded)| decoded);
        }
        let name = CachedBlob::of(blob);
        if self.is_asked_first() {
            let found = self.asking.measure(|| self.coordinator.cached(self.database, name));
            // What is kept there may be anything.
            let intact =
                |bytes: &Vec<u8>| bytes.len() == blob.stored_len as usize && is_intact(bytes, blob.crc);
            if let Some(bytes) = found.filter(intact) {
                let (what, decoded) = decode(segments.unpack(blob, bytes)?)?;
                if let Some(kept) = self.duration(what).filter(|kept| kept.is_sliding) {
                    self.coordinator.keep(self.database, name, kept.time);
                }
                return Ok(decoded);
            }
        }
        let bytes = self.reading.measure(|| segments.read_stored(blob))?;
        let kept = self.asking_pays().then(|| bytes.clone());
        let (what, decoded) = decode(segments.unpack(blob, bytes)?)?;
        if let (Some(bytes), Some(kept)) = (kept, self.duration(what)) {
            self.coordinator.cache(self.database, name, &bytes, kept.time);
        }
        Ok(decoded)
    }

    /// As if files were slower than anything.
    #[cfg(test)]
    pub(crate) fn prefer_asking(&self) {
        self.reading.0.store(u64::MAX / 2, Ordering::Relaxed);
    }

    fn is_asked_first(&self) -> bool {
        match self.reads.fetch_add(1, Ordering::Relaxed) % MEASURE_EVERY {
            0 => true,
            1 => false,
            _ => self.asking_pays(),
        }
    }

    fn asking_pays(&self) -> bool {
        self.asking.mean() < self.reading.mean()
    }

    /// None: it is not to be kept.
    fn duration(&self, what: Cached) -> Option<CacheDuration> {
        let durations = self.lock_durations();
        let duration = match what {
            Cached::Page(store) => durations.get(&store).copied().unwrap_or_default().pages,
            Cached::Value => durations.values().map(|durations| durations.values).max().unwrap_or_default(),
        };
        (!duration.time.is_zero()).then_some(duration)
    }

    fn lock_durations(&self) -> MutexGuard<'_, HashMap<StoreId, CacheDurations>> {
        self.durations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long something takes, in nanoseconds: a mean in which the last times count most. Threads may lose each other's times.
#[derive(Default)]
struct Pace(AtomicU64);

impl Pace {
    fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = os::uptime();
        let done = work();
        let took = u64::try_from(os::uptime().saturating_sub(began).as_nanos()).unwrap_or(u64::MAX);
        let before = self.mean();
        self.0.store(before - before / 8 + took / 8, Ordering::Relaxed);
        done
    }

    fn mean(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
