//! What this process holds: handles, contexts, the Redis connection. A forked child starts with its own.
//!
//! A child inherits the parent's memory, but not its threads: a lock that another thread held at the fork stays locked
//! for ever, and files that the parent writes must not be written by the child. So the state remembers the process it
//! was made in; the first call in a child leaves it where it is, untouched, and begins anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use cluster::Redis;

use crate::context::Contexts;
use crate::handles::HandleTable;

/// The state of one process.
pub(crate) struct Process {
    generation: u32,
    /// What callers hold by number.
    pub(crate) handles: HandleTable,
    /// What callers cancel by number.
    pub(crate) contexts: Contexts,
    /// The Redis server opened last, if any.
    pub(crate) redis: Arc<Redis>,
    /// The state of the process this one was forked from: never used, never freed.
    _parent: Option<&'static Process>,
}

static CURRENT: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());

/// The state of the running process, made at the first call.
pub(crate) fn current() -> &'static Process {
    let generation = stores::process_generation();
    let seen = CURRENT.load(Ordering::Acquire);
    // SAFETY: `seen` is null or came from `begin`, which publishes complete states and frees none that was published.
    match unsafe { seen.as_ref() } {
        Some(process) if process.generation == generation => process,
        parent => begin(generation, seen, parent),
    }
}

#[cold]
fn begin(generation: u32, seen: *mut Process, parent: Option<&'static Process>) -> &'static Process {
    let process = Process {
        generation,
        handles: HandleTable::new(parent.map(|parent| &parent.handles)),
        contexts: Contexts::new(parent.map(|parent| &parent.contexts)),
        redis: Arc::default(),
        _parent: parent,
    };
    let fresh = Box::into_raw(Box::new(process));
    match CURRENT.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: `fresh` is published and lives for ever.
        Ok(_) => unsafe { &*fresh },
        Err(winner) => {
            // SAFETY: `fresh` was not published, so this is the only pointer to it.
            drop(unsafe { Box::from_raw(fresh) });
            // SAFETY: another thread of this process published `winner`; it lives for ever.
            unsafe { &*winner }
        }
    }
}
