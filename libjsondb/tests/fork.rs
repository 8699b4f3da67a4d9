//! After a fork. Alone in its process: a fork while other tests work would copy their locks, held for ever.
#![cfg(unix)]
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)] // Every pointer here is to a local.

mod common;

use common::{begin, database, ok};
use jsondb::*;

#[test]
fn a_forked_child_cannot_use_handles_but_opens_anew() {
    let folder = tempfile::tempdir().unwrap();
    let before = database(&folder);
    let transaction = begin(before);
    let ctx = createContext();
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked = SopErrorCode::Forked as i32;
        let mut flag = -1;
        let checks = [
            sop_transaction_commit(0, transaction) == forked,
            sop_database_close(0, before) == forked,
            unsafe { sop_transaction_is_active(transaction, &mut flag) } == forked,
            sop_handle_count() == 0,
            contextError(ctx).is_null(),
            fresh_open_works(ctx, &folder),
            sop_transaction_commit(0, transaction) == forked,
        ];
        let failed = checks.iter().position(|&fine| !fine).map_or(0, |index| index as i32 + 1);
        // Without the test harness's own end, which belongs to the parent.
        unsafe { libc::_exit(failed) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "check {} failed in the child", status >> 8);
    ok(sop_transaction_commit(ctx, transaction));
}

fn fresh_open_works(ctx: i64, folder: &tempfile::TempDir) -> bool {
    let options = serde_json::json!({ "storage_path": folder.path().join("child") }).to_string();
    let (mut database, mut transaction) = (0, 0);
    let opened = unsafe { sop_database_open(ctx, options.as_ptr().cast(), options.len(), &mut database) };
    let begun = unsafe { sop_transaction_begin(ctx, database, 1, 0.0, &mut transaction) };
    opened == 0 && begun == 0 && sop_transaction_commit(ctx, transaction) == 0
}
