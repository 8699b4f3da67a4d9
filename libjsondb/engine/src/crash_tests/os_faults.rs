//! Failing calls: one history, run again and again with another call to the operating system failing each time, in every way.
//!
//! `SOP_COUNT` sets the number of histories, `SOP_SEED` the first one.

use super::{EINTR, EIO, ENOSPC, Model, Shape, commit, open_process, options, state};
use crate::common::{self, Random, scratch};
use crate::os::faults::{self, Fault, Faults};
use crate::os::trace;
use crate::{CancelToken, Database, Error, ErrorKind, Progress, Result};

/// Commits and checkpoints until something fails. Gives the state that was being committed.
fn work(database: &Database, random: &mut Random, model: &mut Model) -> (Model, Result<()>) {
    for number in 1..12 {
        let mut next = model.clone();
        if let Err(error) = commit(database, random, number, &mut next) {
            return (next, Err(error));
        }
        model.clone_from(&next);
        if number % 4 == 0
            && let Err(error) = database.checkpoint()
        {
            return (next, Err(error));
        }
    }
    (model.clone(), Ok(()))
}

/// Ways a call fails, and how often in a row.
const WAYS: [(Fault, u64); 8] = [
    (Fault::Error(EIO), 1),
    (Fault::Error(EIO), u64::MAX),
    (Fault::Error(ENOSPC), 1),
    (Fault::Error(ENOSPC), u64::MAX),
    (Fault::Error(EINTR), 3),
    (Fault::Short, 3),
    (Fault::ShortThen(EIO), 1),
    (Fault::ShortThen(ENOSPC), 1),
];

/// Whether the caller was told the right thing.
fn is_right(error: &Error, fault: Fault, shape: Shape) -> bool {
    let is_full = matches!(fault, Fault::Error(ENOSPC) | Fault::ShortThen(ENOSPC));
    match error.kind() {
        ErrorKind::DiskFull => is_full,
        // Of a sync nobody knows the outcome, whatever its error.
        ErrorKind::Io => !is_full || error.message().contains("whether the last commit was stored"),
        // The background met it first, and a later call was told.
        ErrorKind::Closed => true,
        ErrorKind::DrivesLost => shape == Shape::Coded,
        _ => false,
    }
}

/// A call fails: the error says so, nothing acknowledged is lost, and the folder opens and works again. True when the call was
/// reached.
fn survives(seed: u64, shape: Shape, faults: &Faults) -> std::result::Result<bool, String> {
    let folder = scratch();
    let root = folder.path().canonicalize().unwrap();
    trace::start(&root);
    faults::set(&root, faults.clone());
    let mut model = Model::new();
    let mut random = Random::new(seed);
    let mut next = Model::new();
    let failed = match open_process(&root, shape) {
        Err(error) => Some(error),
        Ok(database) => {
            let (attempted, outcome) = work(&database, &mut random, &mut model);
            next = attempted;
            database.inner.background.wait();
            outcome.err()
        }
    };
    let left = faults::clear(&root);
    faults::forget(&root);
    trace::finish(&root);
    if let Some(error) = &failed {
        if !is_right(error, faults.fault, shape) {
            return Err(format!("{:?}: {error}", error.kind()));
        }
        if matches!(faults.fault, Fault::Short | Fault::Error(EINTR)) {
            return Err(format!("a call that only has to be made again failed: {error}"));
        }
    }
    let fail = |what: &str, error: Error| format!("{what}: {error} (after {failed:?})");
    // As after the death of the process: nothing was closed in order.
    let database = Database::open(&root, &options(&root, shape)).map_err(|error| fail("reopen", error))?;
    let found = state(&database).map_err(|error| fail("read", error))?;
    if found != model && found != next {
        return Err(format!("what came back is neither state around the failure (after {failed:?})"));
    }
    let promises_nothing =
        |error: &Error| matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::DrivesLost);
    if found != model && failed.as_ref().is_some_and(promises_nothing) {
        return Err(format!("stored, although it was told that nothing was (after {failed:?})"));
    }
    let mut model = found;
    let (_, outcome) = work(&database, &mut random, &mut model);
    outcome.map_err(|error| fail("work on", error))?;
    // Copies of the metadata that were dropped: the folder is verified, and it may be one.
    let mut report = |_, _| true;
    let progress = &mut Progress::new(&CancelToken::new(), &mut report);
    database.reinstate(None, &[], progress).map_err(|error| fail("reinstate", error))?;
    database.verify().map_err(|error| fail("verify", error))?;
    database.close().map_err(|error| fail("close", error))?;
    Ok(left < faults.count || matches!(faults.fault, Fault::ShortThen(_)) && left == 0)
}

/// Each of the calls that `only` selects fails in this way; gives their number.
fn enumerate(
    seed: u64,
    shape: Shape,
    only: Option<(&'static str, &'static str)>,
    fault: Fault,
    count: u64,
) -> std::result::Result<u64, String> {
    for after in 0.. {
        let faults = Faults { only, after, count, fault };
        if !survives(seed, shape, &faults).map_err(|error| format!("seed {seed}, {faults:?}: {error}"))? {
            return Ok(after);
        }
    }
    Ok(0)
}

#[test]
fn every_call_to_the_operating_system_may_fail() {
    let (histories, first) = (common::count(1), common::seed());
    for seed in first..first + histories {
        for (fault, count) in WAYS {
            let reached = enumerate(seed, Shape::Plain, None, fault, count).unwrap();
            println!("seed {seed}, {fault:?}, {count} in a row: {reached} calls failed");
            assert!(reached > 50);
        }
        let syncs = enumerate(seed, Shape::Plain, Some(("sync", "wal")), Fault::Error(EIO), 1).unwrap();
        println!("seed {seed}: {syncs} syncs of the log failed");
        assert!(syncs > 5);
    }
}

#[test]
fn every_call_may_fail_where_segments_lie_on_drives() {
    let (histories, first) = (common::count(1), common::seed());
    for seed in first..first + histories {
        for (fault, count) in
            [(Fault::Error(EIO), 1), (Fault::Error(EIO), u64::MAX), (Fault::ShortThen(ENOSPC), 1)]
        {
            let reached = enumerate(seed, Shape::Coded, None, fault, count).unwrap();
            println!("seed {seed}, {fault:?}, {count} in a row: {reached} calls failed");
            assert!(reached > 50);
        }
    }
}
