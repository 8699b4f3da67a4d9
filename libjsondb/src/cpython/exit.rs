//! The end of the interpreter, while daemon threads are in calls.
//!
//! Up to 3.13, CPython ends a thread that waits for the GIL when the interpreter goes, by unwinding its stack. Through frames of
//! Rust that aborts the process. So when the interpreter is about to go, threads that come back from work wait here instead, and for
//! ever once it has gone.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::api::Api;
use super::bind::Bind;
use super::function::{Arguments, Bound, Outcome, builtin, without_gil};
use super::map::truth;

builtin!(LEAVE, c"leave", (), leave);

/// So long the exit waits for calls that are running Python code, the function of a `modify` say.
const PATIENCE: Duration = Duration::from_millis(500);
/// So long a call waits for the interpreter to go. Then it goes on: what runs at the exit may be waiting for its thread.
const GRACE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_micros(200);

thread_local! {
    /// True on the thread that ends the interpreter.
    static IS_LEAVING: Cell<bool> = const { Cell::new(false) };
}

/// Which threads of an interpreter are in calls, and whether it is about to go.
#[derive(Default)]
pub(super) struct Exit {
    has_begun: AtomicBool,
    /// Threads that wait for the GIL.
    waiting: AtomicUsize,
    /// Calls that hold the GIL, or run Python code. The GIL guards it.
    inside: Cell<usize>,
}

impl Exit {
    /// A call begins, or has the GIL again.
    pub(super) fn enter(&self) {
        self.inside.set(self.inside.get() + 1);
    }

    /// A call ends, or is about to release the GIL.
    pub(super) fn leave(&self) {
        self.inside.set(self.inside.get().saturating_sub(1));
    }

    /// True when a call has to let the interpreter go before it does anything.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed) && !IS_LEAVING.get()
    }

    /// Takes the GIL by `retake`, unless the interpreter goes: then it never returns.
    pub(super) fn retake(&self, api: &Api, retake: impl FnOnce()) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if self.has_begun.load(Ordering::SeqCst) && !IS_LEAVING.get() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            outlast(api);
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        retake();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits whether the interpreter goes.
#[cold]
fn outlast(api: &Api) {
    let begun = Instant::now();
    while begun.elapsed() < GRACE {
        while is_gone(api) {
            thread::sleep(GRACE);
        }
        thread::sleep(PAUSE);
    }
}

fn is_gone(api: &Api) -> bool {
    let asked = [api.Py_IsFinalizing, api._Py_IsFinalizing];
    // SAFETY: it reads a flag, and needs no GIL.
    asked.into_iter().flatten().next().is_some_and(|is_finalizing| unsafe { is_finalizing() } != 0)
}

/// `leave(waits)`: the interpreter is about to go. Returns once no other thread is where that would end it, or after a while.
fn leave(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind: &Bind = &bound.bind;
    let [waits] = arguments.take(["waits"], 1)?;
    let waits = truth(bind, waits)?;
    IS_LEAVING.set(true);
    let exit = &bind.exit;
    exit.has_begun.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    // This call is one of those inside.
    let is_busy = || exit.inside.get() > 1 || exit.waiting.load(Ordering::SeqCst) > 0;
    while waits && is_busy() && begun.elapsed() < PATIENCE {
        without_gil(bind, || {
            thread::sleep(PAUSE);
            Ok(())
        })?;
    }
    Ok(bind.none())
}
