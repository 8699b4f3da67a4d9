//! Transactions that write runs on a thread of their own.

use std::ops::Bound;

use super::*;
use crate::Direction;

fn process_of_runs(folder: &Path) -> Arc<Inner> {
    let options = Options { write_set_bytes: 32 << 10, ..small() };
    Arc::new(Inner::open(folder, &options).unwrap())
}

#[test]
fn a_disk_that_is_full_while_a_run_is_written_ends_the_transaction_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let process = process_of_runs(&path);
    put(&process, 0, 10, Placement::Auto);
    let files = || fs::read_dir(path.join("seg")).unwrap().count();
    // The file cannot be made; cannot be written, or synced, at the end.
    for call in ["create", "write", "sync"] {
        for reads in [false, true] {
            let mut transaction = begin(&process);
            let store = transaction.ensure_store("s", b"").unwrap();
            let fault = Fault::Error(libc::ENOSPC);
            faults::set(&path, Faults { only: Some((call, "seg")), after: 0, count: u64::MAX, fault });
            for key in 1..3000u32 {
                transaction.put(store, &key.to_be_bytes(), &[1; 50], Placement::Auto).unwrap();
            }
            if reads && call != "sync" {
                let read = transaction.get(store, &1u32.to_be_bytes());
                assert_eq!(read.unwrap_err().kind(), ErrorKind::DiskFull, "{call}");
            }
            let kind = transaction.commit().unwrap_err().kind();
            faults::forget(&path);
            assert_eq!(kind, ErrorKind::DiskFull, "{call}");
            assert_eq!(files(), 0, "{call}");
            assert_eq!(load(&process, 1).unwrap(), None);
            put(&process, 0, 10, Placement::Auto);
        }
    }
}

#[test]
fn what_is_committed_during_a_checkpoint_is_merged_without_a_later_commit() {
    let folder = tempfile::tempdir().unwrap();
    let process = process_of_runs(folder.path());
    for round in 0..40u8 {
        let mut transaction = begin(&process);
        let store = transaction.ensure_store("s", b"").unwrap();
        for key in 0..1000u32 {
            transaction.put(store, &key.to_be_bytes(), &[round; 50], Placement::Auto).unwrap();
        }
        transaction.commit().unwrap();
    }
    process.background.wait();
    assert!(!process.lock_replica().is_full());
    assert_eq!(load(&process, 999).unwrap(), Some(vec![39; 50]));
}

#[test]
fn a_child_forked_while_a_run_is_written_waits_for_nothing_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let process = process_of_runs(folder.path());
    put(&process, 0, 10, Placement::Auto);
    let mut transaction = begin(&process);
    let store = transaction.ensure_store("s", b"").unwrap();
    for key in 1..3000u32 {
        transaction.put(store, &key.to_be_bytes(), &[1; 50], Placement::Auto).unwrap();
    }
    // SAFETY: the child makes calls that fail at once, and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends a child that waits for the thread it does not have.
        unsafe { libc::alarm(20) };
        let all = Bound::Unbounded;
        let refused = [
            transaction.put(store, b"key", b"value", Placement::Auto).err(),
            transaction.get(store, &1u32.to_be_bytes()).err(),
            transaction.scan(store, all, all, Direction::Forward, 9).err(),
            transaction.commit().err(),
        ];
        let is_right =
            refused.iter().flatten().filter(|error| error.kind() == ErrorKind::Forked).count() == 4;
        // SAFETY: nothing of the parent's is cleaned up.
        unsafe { libc::_exit(i32::from(!is_right)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    transaction.commit().unwrap();
    assert_eq!(load(&process, 2999).unwrap(), Some(vec![1; 50]));
}
