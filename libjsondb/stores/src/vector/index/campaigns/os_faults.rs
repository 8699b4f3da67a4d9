//! Failing calls: steps of a history during which one call to the operating system fails, or all from one on, as on a full disk.
//!
//! `SOP_COUNT` sets the number of failures, `SOP_SEED` the first one.

use std::path::Path;

use engine::faults::{self, Fault, Faults};

use super::audit::audit;
use super::{Rows, Verdict, Writer, copy, make, open, prepared, wrong};
use crate::common::{self, Random, scratch};
use crate::{Error, ErrorCode};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOSPC: i32 = 28;

/// Ways a call fails, and how often in a row.
const WAYS: [(Fault, u64); 6] = [
    (Fault::Error(EIO), 1),
    (Fault::Error(EIO), u64::MAX),
    (Fault::Error(ENOSPC), 1),
    (Fault::Error(ENOSPC), u64::MAX),
    (Fault::Error(EINTR), 3),
    (Fault::ShortThen(EIO), 1),
];

/// Steps before, and those during which calls fail.
const BEFORE: u64 = 3;
const DURING: u64 = 4;

/// Whether the caller was told the right thing.
fn is_right(error: &Error, fault: Fault) -> bool {
    match error.code() {
        ErrorCode::DiskFull => fault == Fault::Error(ENOSPC),
        // Of a sync nobody knows the outcome, whatever its error.
        ErrorCode::Io | ErrorCode::Closed => fault != Fault::Error(EINTR),
        _ => false,
    }
}

/// Gives the writer's number after the last step that was done, and whether a call failed.
fn survives(prepared: &Writer, folder: &Path, faults: Faults) -> Verdict<bool> {
    let fault = faults.fault;
    let mut writer = prepared.clone();
    let database = open(folder);
    faults::set(folder, faults);
    let (mut before, mut failed): (Rows, _) = (writer.rows.clone(), None);
    for _ in 0..DURING {
        let step = writer.step();
        if let Err(error) = make(&database, &step, || ()) {
            failed = Some(error);
            break;
        }
        before.clone_from(&writer.rows);
    }
    let was_reached = faults::clear(folder) == 0;
    faults::forget(folder);
    if let Some(error) = failed.as_ref().filter(|error| !is_right(error, fault)) {
        return wrong(format!("{:?}: {error}", error.code()));
    }
    // As after the death of the process: nothing was closed in order.
    drop(database);
    let database = open(folder);
    // A step is there whole, or not at all.
    let number = super::number_in(&database, &writer.name)?;
    if number != writer.number {
        writer = Writer::at(&writer.name, number);
        if writer.rows.keys().ne(before.keys()) {
            return wrong(format!("step {number} is the last one (after {failed:?})"));
        }
    }
    audit(&database, &writer.rows, 1)?;
    for _ in 0..2 {
        make(&database, &writer.step(), || ())?;
    }
    audit(&database, &writer.rows, 16)?;
    database.close()?;
    Ok(was_reached || failed.is_some())
}

#[test]
fn a_failing_call_leaves_a_whole_index() {
    let (wanted, first) = (common::count(12), common::seed());
    let folder = scratch();
    let root = folder.path().canonicalize().unwrap();
    let (base, place) = (root.join("base"), |number: u64| root.join(format!("copy-{number}")));
    let writer = prepared(&base, &format!("f{first}"), BEFORE);
    let (mut random, mut reached) = (Random::new(first), 0);
    for number in 0..wanted {
        copy(&base, &place(number));
        let (fault, count) = WAYS[number as usize % WAYS.len()];
        let faults = Faults { only: None, after: random.below(500), count, fault };
        match survives(&writer, &place(number), faults.clone()) {
            Ok(was_reached) => reached += u64::from(was_reached),
            Err(broken) => panic!("seed {first}, number {number}, {faults:?}: {broken}"),
        }
        std::fs::remove_dir_all(place(number)).unwrap();
    }
    println!("failing calls: {wanted}, of which {reached} were reached, from seed {first}");
    assert!(reached > wanted / 2, "{reached} of {wanted} calls were made at all");
}
