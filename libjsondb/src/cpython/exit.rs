//! The end of the interpreter, while daemon threads are in calls.
//!
//! Up to 3.13, CPython ends a thread that waits for the GIL when the interpreter goes: by `pthread_exit`, which with glibc unwinds
//! the thread's stack. Through frames of Rust that aborts the process.

use std::thread;
use std::time::Duration;

/// Runs a function of CPython that may wait for the GIL, because it takes it or runs Python code. A thread that is ended there
/// stays here until the process ends, as it would in 3.14: nothing above is unwound.
pub(super) fn or_stay<R>(call: impl FnOnce() -> R) -> R {
    let stay = Stay;
    let result = call();
    std::mem::forget(stay);
    result
}

/// Dropped by unwinding only.
struct Stay;

impl Drop for Stay {
    fn drop(&mut self) {
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}
