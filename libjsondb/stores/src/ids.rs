//! Ids that rise with time, also those made within one millisecond of one process.

use std::sync::Mutex;

use engine::PerProcess;
use uuid::{ContextV7, Timestamp, Uuid};

/// Like `Uuid::now_v7`, whose lock a forked child would find held for ever when another thread was making an id at the fork.
static CLOCK: PerProcess<Mutex<ContextV7>> = PerProcess::new();

/// A version 7 UUID, greater than all made before it in this process.
pub(crate) fn new() -> Uuid {
    Uuid::new_v7(Timestamp::now(&*CLOCK.get()))
}
