//! Work on all processors.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::Result;

/// Products of two numbers below which starting threads costs more than it saves.
const PRODUCTS_PER_THREAD_MIN: usize = 16 << 20;

pub(super) fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// How many threads are worth starting for so many products of two numbers.
pub(super) fn threads_for(products: usize) -> usize {
    (products / PRODUCTS_PER_THREAD_MIN).clamp(1, processors())
}

/// Does `work` for every item, each thread taking the next one when it is done, until one fails. Fewer threads do it
/// where the system has no more.
pub(super) fn for_each<T>(
    mut items: impl Iterator<Item = T> + Send,
    threads: usize,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    if threads <= 1 {
        return items.try_for_each(work);
    }
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || -> Result<()> {
        while let Some(item) = next() {
            work(item)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let helpers = (1..threads).map(|_| thread::Builder::new().spawn_scoped(scope, run));
        let helpers: Vec<_> = helpers.filter_map(|helper| helper.ok()).collect();
        let mut result = run();
        for helper in helpers {
            result = result.and(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;
    use engine::CancelToken;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn every_item_is_done_once() {
        for threads in [1, 2, 5] {
            let mut done = [0; 1_000];
            for_each(done.iter_mut(), threads, |item| {
                *item += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(done, [1; 1_000]);
        }
    }

    #[test]
    fn a_failure_is_told_and_ends_its_thread() {
        for threads in [1, 3] {
            let done = AtomicU32::new(0);
            let cancel = CancelToken::new();
            let result = for_each(0..1_000, threads, |_| {
                cancel.cancel();
                cancel.check()?;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            assert_eq!(result.unwrap_err().code(), ErrorCode::Cancelled);
            assert_eq!(done.into_inner(), 0);
        }
    }
}
