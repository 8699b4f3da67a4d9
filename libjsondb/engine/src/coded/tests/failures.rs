//! Drives that fail while something is written: as many as may be lost change nothing, one more stores nothing.

use super::*;
use crate::os::faults::{self, Fault, Faults};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn break_drive(path: &Path, after: u64, errno: i32) {
    faults::set(path, Faults { only: None, after, count: u64::MAX, fault: Fault::Error(errno) });
}

/// A commit with a run and a value of its own, and a checkpoint.
fn work(database: &Database, keys: std::ops::Range<u32>) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("s", b"")?;
    for key in keys {
        let placement = if key.is_multiple_of(7) { Placement::Eager } else { Placement::Auto };
        transaction.put(store, &key.to_be_bytes(), &value_of(key), placement)?;
    }
    transaction.commit()?;
    database.checkpoint()
}

impl Bench {
    fn small_memory(mut self) -> Bench {
        self.options.write_set_bytes = 64 << 10;
        self
    }

    fn break_drives(&self, count: usize, after: u64, errno: i32) {
        (0..count).for_each(|index| break_drive(&self.drive(index).canonicalize().unwrap(), after, errno));
    }

    fn mend_drives(&self) {
        for index in 0..self.options.coding[0].drives.len() {
            faults::forget(&self.drive(index).canonicalize().unwrap());
        }
    }
}

#[test]
fn a_drive_that_fails_at_any_call_is_not_missed() {
    for (data, parity) in [(2, 1), (2, 2)] {
        let bench = Bench::new(data, parity).small_memory();
        drop(bench.filled());
        for (round, after) in (0..60).step_by(3).enumerate() {
            let database = bench.open();
            let keys = 200 + round as u32 * 20;
            bench.break_drives(parity, after, if round % 2 == 0 { EIO } else { ENOSPC });
            work(&database, keys..keys + 20).unwrap();
            check(&database, 0..keys + 20).unwrap();
            bench.mend_drives();
            check(&database, 0..keys + 20).unwrap();
            database.verify().unwrap();
        }
        let database = bench.open();
        let missing = |database: &Database| -> u64 {
            let status = database.drive_status().unwrap();
            status.sets[0].drives.iter().map(|drive| drive.missing).sum()
        };
        assert!(missing(&database) > 0, "what was not written is debt");
        with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
        assert_eq!(missing(&database), 0);
        assert!(with_progress(|progress| database.scrub(progress)).unwrap().findings.is_empty());
    }
}

#[test]
fn more_drives_than_may_be_lost_store_nothing() {
    let bench = Bench::new(2, 1).small_memory();
    drop(bench.filled());
    for after in 0..30 {
        let database = bench.open();
        bench.break_drives(2, after, EIO);
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        let put = transaction.put(store, &999_u32.to_be_bytes(), &value_of(10), Placement::Eager);
        let committed = put.and_then(|()| transaction.commit()).map(drop);
        bench.mend_drives();
        match committed {
            // Everything was written before.
            Ok(()) => {
                let mut transaction = database.begin(Mode::Write).unwrap();
                transaction.delete(store, &999_u32.to_be_bytes()).unwrap();
                transaction.commit().unwrap();
                assert!(after > 5, "{after}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::DrivesLost, "{after} {error}"),
        }
        check(&database, 0..200).unwrap();
        database.verify().unwrap();
    }
}

#[test]
fn a_checkpoint_without_drives_changes_nothing_and_is_made_later() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    fill(&database, 200..220);
    bench.break_drives(2, 0, EIO);
    assert_eq!(database.checkpoint().unwrap_err().kind(), ErrorKind::DrivesLost);
    bench.mend_drives();
    check(&database, 0..220).unwrap();
    database.checkpoint().unwrap();
    check(&database, 0..220).unwrap();
    database.close().unwrap();
}

#[test]
fn full_disks_alone_are_told_as_such() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    fill(&database, 200..220);
    // Writes to shards only: a full disk can be read.
    let fail = |index: usize, action, errno| {
        let only = Some((action, ["0", "1"][index]));
        let faults = Faults { only, after: 0, count: u64::MAX, fault: Fault::Error(errno) };
        faults::set(&bench.drive(index).canonicalize().unwrap(), faults);
    };
    fail(0, "write", ENOSPC);
    fail(1, "write", ENOSPC);
    assert_eq!(database.checkpoint().unwrap_err().kind(), ErrorKind::DiskFull);
    // One is lost, which may be; and one is full.
    fail(0, "create", EIO);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(database.checkpoint().unwrap_err().kind(), ErrorKind::DiskFull);
    bench.mend_drives();
    database.checkpoint().unwrap();
}

#[test]
fn a_drive_that_fails_while_it_is_repaired_is_told_and_another_is_finished() {
    for after in 0..25 {
        let bench = Bench::new(2, 2);
        let database = bench.filled();
        bench.replace(0);
        bench.replace(1);
        bench.break_drives(1, after, EIO);
        let repair = with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
        bench.mend_drives();
        assert!(repair.failed.iter().all(|finding| finding.index == 0), "{:?}", repair.failed);
        let status = database.drive_status().unwrap();
        assert_eq!(status.sets[0].drives[1].state, DriveState::Ok);
        check(&database, 0..200).unwrap();
        let again = with_progress(|progress| database.repair(RepairScope::Missing, progress)).unwrap();
        assert!(again.failed.is_empty(), "{:?}", again.failed);
        assert!(with_progress(|progress| database.scrub(progress)).unwrap().findings.is_empty());
    }
}

#[test]
fn a_drive_that_failed_a_moment_ago_is_tried_where_it_is_needed() {
    let bench = Bench::new(2, 1);
    let database = bench.filled();
    fill(&database, 200..220);
    break_drive(&bench.drive(0).canonicalize().unwrap(), 0, EIO);
    database.checkpoint().unwrap();
    bench.mend_drives();
    fill(&database, 220..240);
    let only = Some(("create", "1"));
    let faults = Faults { only, after: 0, count: u64::MAX, fault: Fault::Error(EIO) };
    faults::set(&bench.drive(1).canonicalize().unwrap(), faults);
    database.checkpoint().unwrap();
    bench.mend_drives();
    check(&database, 0..240).unwrap();
}
