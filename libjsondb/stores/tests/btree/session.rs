//! Calls in a transaction of their own, and inside the caller's.

use std::thread;

use stores::{Error, ErrorCode, Session};

use crate::fixture::{Fixture, Store, token, unique};

#[test]
fn writes_of_their_own_retry_until_they_win() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("counters"), &["0"]);
    let session = Session::Auto(fixture.database.clone());
    thread::scope(|scope| {
        for _ in 0..4 {
            let session = session.clone();
            scope.spawn(move || {
                for _ in 0..25 {
                    let increment = |transaction: &_| {
                        let store = Store::open(transaction, "counters");
                        let count: u32 = store.value("0").unwrap().parse().unwrap();
                        assert!(store.update("0", &(count + 1).to_string()));
                        Ok(())
                    };
                    while let Err(error) = session.write(&token(), increment) {
                        assert!(error.is_retryable(), "{error}");
                    }
                }
            });
        }
    });
    let value =
        session.read(&token(), |transaction| Ok(Store::open(transaction, "counters").value("0"))).unwrap();
    assert_eq!(value.unwrap(), "100");
}

#[test]
fn a_failing_call_stores_nothing_and_is_not_run_again() {
    let fixture = Fixture::new();
    fixture.commit_keys(unique("users"), &[]);
    let session = Session::Auto(fixture.database.clone());
    let mut runs = 0;
    let error = session
        .write(&token(), |transaction| {
            runs += 1;
            Store::open(transaction, "users").add("1", "1");
            Err::<(), _>(Error::new(ErrorCode::Validation, "no"))
        })
        .unwrap_err();
    assert_eq!((runs, error.message()), (1, "no"));
    assert_eq!(Store::open(&fixture.read(), "users").count(), 0);
}

#[test]
fn retries_end() {
    let fixture = Fixture::new();
    let session = Session::Auto(fixture.database.clone());
    let mut runs = 0;
    let result = session.write(&token(), |_| {
        runs += 1;
        Err::<(), _>(Error::new(ErrorCode::Conflict, "always"))
    });
    assert_eq!((runs, result.unwrap_err().code()), (21, ErrorCode::Conflict));
}

#[test]
fn inside_a_transaction_the_caller_commits() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    let session = Session::In(transaction.clone());
    session
        .write(&token(), |transaction| {
            Store::create(transaction, unique("users")).add("1", "1");
            Ok(())
        })
        .unwrap();
    assert!(session.read(&token(), |transaction| Ok(Store::open(transaction, "users").find("1"))).unwrap());
    assert!(transaction.is_active());
    transaction.commit(&token()).unwrap();
    assert_eq!(Store::open(&fixture.read(), "users").count(), 1);
}
