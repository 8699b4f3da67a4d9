//! What belongs to a thread or a process: the last error, contexts and cancelling.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)] // Every pointer here is to a local.

mod common;

use std::time::{Duration, Instant};

use common::{In, begin, btree, database, last_error, ok, take, write};
use jsondb::*;

#[test]
fn the_last_error_belongs_to_its_thread() {
    assert_eq!(sop_transaction_commit(0, 7), SopErrorCode::InvalidHandle as i32);
    std::thread::spawn(|| {
        assert_eq!(sop_last_error_code(), 0);
        assert_eq!(sop_transaction_commit(-1, 7), SopErrorCode::ContextNotFound as i32);
    })
    .join()
    .unwrap();
    assert_eq!(sop_last_error_code(), SopErrorCode::InvalidHandle as i32);
    assert_eq!(last_error().unwrap()["name"], "InvalidHandle");
    // Asking does not use it up; a success does.
    assert_eq!(last_error().unwrap()["retryable"], false);
    ok(sop_redis_close());
    assert_eq!(last_error(), None);
}

#[test]
fn a_conflict_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder);
    let first = begin(database);
    let tree = btree(first, r#"{"name": "t", "is_unique": true}"#);
    assert!(write(tree, 3, r#"[{"key": "a", "value": 1}]"#));
    ok(sop_transaction_commit(0, first));
    let (one, two) = (begin(database), begin(database));
    for transaction in [one, two] {
        let tree = btree(transaction, r#"{"name": "t", "is_unique": true}"#);
        assert!(write(tree, 5, r#"[{"key": "a", "value": 2}]"#));
    }
    ok(sop_transaction_commit(0, one));
    assert_eq!(sop_transaction_commit(0, two), SopErrorCode::Conflict as i32);
    let error = last_error().unwrap();
    assert_eq!((&error["retryable"], &error["details"]["store"]), (&true.into(), &"t".into()));
    assert_eq!(error["details"]["key"], "a");
}

#[test]
fn contexts_are_valid_until_cancelled_or_removed() {
    let (one, two) = (createContext(), createContext());
    assert!(one > 0 && two > one);
    assert_eq!(take(contextError(one)), None);
    cancelContext(one);
    cancelContext(one);
    removeContext(two);
    for ctx in [one, two, 0, -1, i64::MAX] {
        assert_eq!(take(contextError(ctx)).as_deref(), Some("context not found"));
    }
    assert_eq!(sop_transaction_commit(one, 7), SopErrorCode::ContextNotFound as i32);
    let message = last_error().unwrap()["message"].as_str().unwrap().to_owned();
    assert_eq!(message, format!("context with ID {one} not found"));
}

/// Scans a store again and again until a call fails; gives its code.
fn scan_until_refused(ctx: i64, tree: u64) -> i32 {
    let query = In::new(r#"{"limit": 1000000}"#);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        let mut out = std::ptr::null_mut();
        let code = unsafe { sop_btree_range(ctx, tree, query.data, query.len, &mut out) };
        take(out);
        if code != 0 {
            return code;
        }
    }
    0
}

#[test]
fn cancelling_ends_a_running_call_on_another_thread() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder);
    let transaction = begin(database);
    let tree = btree(transaction, r#"{"name": "t"}"#);
    let items: Vec<String> = (0..50_000).map(|key| format!(r#"{{"key": {key}}}"#)).collect();
    assert!(write(tree, 3, &format!("[{}]", items.join(","))));
    let cancelled_while_scanning = |pause: u64| {
        let ctx = createContext();
        let worker = std::thread::spawn(move || scan_until_refused(ctx, tree));
        std::thread::sleep(Duration::from_millis(10 + pause));
        cancelContext(ctx);
        worker.join().unwrap()
    };
    // A cancel between two calls refuses the next; most come in the middle of one.
    let codes: Vec<i32> = (0..10).map(cancelled_while_scanning).collect();
    let (cancelled, refused) = (SopErrorCode::Cancelled as i32, SopErrorCode::ContextNotFound as i32);
    assert!(codes.iter().all(|code| [cancelled, refused].contains(code)), "{codes:?}");
    assert!(codes.contains(&cancelled), "{codes:?}");
    // The transaction is as usable as before.
    assert!(write(tree, 3, r#"[{"key": -1}]"#));
    ok(sop_transaction_commit(0, transaction));
}
