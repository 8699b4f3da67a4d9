//! Shared state that a forked child does not inherit.

use std::sync::Arc;

use arc_swap::ArcSwap;
use once_cell::sync::OnceCell;

use crate::os::process_generation;

/// A static value that each process has for itself. A child made by fork begins with a fresh one: locks that other threads held at the
/// fork are never released in the child, so the parent's value is left alone there, neither used nor dropped.
pub struct PerProcess<T>(OnceCell<ArcSwap<Generation<T>>>);

struct Generation<T> {
    number: u32,
    value: Arc<T>,
}

impl<T: Default> PerProcess<T> {
    /// For a `static`.
    pub const fn new() -> PerProcess<T> {
        PerProcess(OnceCell::new())
    }

    /// This process's value, made at the first call.
    pub fn get(&self) -> Arc<T> {
        let fresh = || Generation { number: process_generation(), value: Arc::default() };
        let cell = self.0.get_or_init(|| ArcSwap::from_pointee(fresh()));
        let current = cell.load_full();
        if current.number == process_generation() {
            return Arc::clone(&current.value);
        }
        // Dropping the parent's value could wait for its locks.
        std::mem::forget(Arc::clone(&current));
        let replaced = cell.compare_and_swap(&current, Arc::new(fresh()));
        drop(replaced);
        Arc::clone(&cell.load().value)
    }
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}
