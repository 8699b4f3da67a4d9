//! Handles come and go: none is left when its owner is done. One test, for it counts all handles of its process.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)] // Every pointer here is to a local.

mod common;

use common::{In, begin, btree, c, database, models, ok, take, vectors, write};
use jsondb::*;

#[test]
fn no_handle_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(sop_handle_count(), 0);
    let database = database(&folder);
    released_handles_are_gone(database);
    releasing_a_transaction_rolls_it_back(database);
    ending_a_legacy_transaction_takes_its_stores_along(database);
    a_handle_has_one_uuid(database);
    a_million_transactions_leave_nothing(database);
    ok(sop_database_close(0, database));
    ok(sop_database_close(0, database));
    sop_handle_release(database);
    assert_eq!(sop_handle_count(), 0);
}

fn released_handles_are_gone(database: u64) {
    let transaction = begin(database);
    let tree = btree(transaction, r#"{"name": "t"}"#);
    let (vectors, models) = (vectors(transaction), models(transaction));
    assert_eq!(sop_handle_count(), 5);
    // The transaction before its stores: they stay, and say that it has ended.
    sop_handle_release(transaction);
    assert_eq!(sop_handle_count(), 4);
    let mut out = -1;
    assert_eq!(unsafe { sop_btree_count(0, tree, &mut out) }, SopErrorCode::InvalidState as i32);
    for handle in [tree, vectors, models, tree, transaction] {
        sop_handle_release(handle);
    }
    assert_eq!(sop_handle_count(), 1);
    assert_eq!(unsafe { sop_btree_count(0, tree, &mut out) }, SopErrorCode::InvalidHandle as i32);
    assert_eq!(out, -1);
}

fn releasing_a_transaction_rolls_it_back(database: u64) {
    let first = begin(database);
    let tree = btree(first, r#"{"name": "rolled"}"#);
    assert!(write(tree, 3, r#"[{"key": 1}]"#));
    sop_handle_release(first);
    sop_handle_release(tree);
    let second = begin(database);
    let (name, mut out) = (In::new("rolled"), 0);
    let code = unsafe { sop_btree_open(0, second, name.data, name.len, &mut out) };
    assert_eq!(code, SopErrorCode::StoreNotFound as i32);
    sop_handle_release(second);
}

fn ending_a_legacy_transaction_takes_its_stores_along(database: u64) {
    let uuid = |handle: u64| {
        let mut out = std::ptr::null_mut();
        ok(unsafe { sop_handle_uuid(handle, &mut out) });
        take(out).unwrap()
    };
    for action in [3, 4] {
        let target = c(&uuid(database));
        let begun = take(unsafe { manageDatabase(0, 2, target.as_ptr(), c("1").as_ptr()) }).unwrap();
        let options = format!(r#"{{"name": "legacy", "transaction_id": "{begun}"}}"#);
        for _ in 0..3 {
            take(unsafe { manageBtree(0, 1, c(&options).as_ptr(), std::ptr::null()) }).unwrap();
        }
        assert_eq!(sop_handle_count(), 5);
        assert_eq!(take(unsafe { manageTransaction(0, action, c(&begun).as_ptr()) }), None);
        assert_eq!(sop_handle_count(), 1);
    }
}

fn a_handle_has_one_uuid(database: u64) {
    let (mut one, mut two) = (std::ptr::null_mut(), std::ptr::null_mut());
    ok(unsafe { sop_handle_uuid(database, &mut one) });
    ok(unsafe { sop_handle_uuid(database, &mut two) });
    let uuid = take(one).unwrap();
    assert_eq!(Some(&uuid), take(two).as_ref());
    assert_eq!(uuid::Uuid::try_parse(&uuid).unwrap().get_version_num(), 8);
}

/// Debug builds do a part of the million.
fn a_million_transactions_leave_nothing(database: u64) {
    let cycles = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    for _ in 0..cycles {
        let mut transaction = 0;
        ok(unsafe { sop_transaction_begin(0, database, 2, 0.0, &mut transaction) });
        ok(sop_transaction_commit(0, transaction));
        sop_handle_release(transaction);
    }
    assert_eq!(sop_handle_count(), 1);
}
