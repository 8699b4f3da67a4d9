//! Error codes, and the last error of each thread.

use std::cell::Cell;
use std::ffi::c_char;

use serde_json::json;
use stores::Error;

use crate::boundary;
use crate::strings;

/// What a function of this library returns, by what the caller has to do about it. New codes may appear between these.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopErrorCode {
    /// Success.
    Ok = 0,
    /// Another transaction committed first to what this one read or wrote. Nothing was stored; run it again.
    Conflict = 10,
    /// The transaction's snapshot is too old. Nothing was stored; run it again.
    SnapshotTooOld = 11,
    /// The transaction's time limit passed. Nothing was stored; run it again.
    Timeout = 12,
    /// The call's context was cancelled.
    Cancelled = 13,
    /// Another process holds a lock for too long; run it again.
    Locked = 14,
    /// The transaction was already committed or rolled back.
    InvalidState = 20,
    /// A write in a transaction that only reads.
    ReadOnlyTransaction = 21,
    /// There is no store of this name.
    StoreNotFound = 30,
    /// There is no vector or model of this name.
    ItemNotFound = 31,
    /// A store of this name exists with other options.
    StoreExists = 32,
    /// An argument is wrong: outside its limits, a null pointer, not UTF-8, not the JSON that was expected.
    Validation = 40,
    /// A vector of another dimension than the store's.
    DimensionMismatch = 41,
    /// A filter that cannot be applied.
    Filter = 42,
    /// The operating system refused a file operation.
    Io = 50,
    /// Bytes read from disk are not the bytes once written there.
    Corruption = 51,
    /// The disk is full. Nothing was stored.
    DiskFull = 52,
    /// The folder cannot be written.
    ReadOnlyFolder = 53,
    /// More drives or copies are lost than the redundancy tolerates. Nothing was stored.
    DrivesLost = 54,
    /// The database was closed; open it again.
    Closed = 60,
    /// The handle was made in another process, before a fork; open the database again.
    Forked = 61,
    /// The handle is none, of another kind, or was released.
    InvalidHandle = 62,
    /// The context was cancelled or removed before the call, or never made.
    ContextNotFound = 63,
    /// Not available in this version.
    Unsupported = 70,
    /// Redis cannot be reached or answered with an error.
    Redis = 71,
    /// A defect of this library, met and contained.
    Internal = 80,
    /// A defect of this library: a panic, contained at the boundary.
    Panic = 90,
}

thread_local! {
    static LAST: Cell<Option<Box<Error>>> = const { Cell::new(None) };
}

/// Remembers how this thread's call ended.
pub(crate) fn set_last(error: Option<Error>) {
    // Fails only while the thread ends: then nobody can ask any more.
    let _ = LAST.try_with(|last| last.set(error.map(Box::new)));
}

fn with_last<T>(read: impl FnOnce(&Error) -> T) -> Option<T> {
    let read_and_put_back = |last: &Cell<Option<Box<Error>>>| {
        let error = last.take();
        let result = error.as_deref().map(read);
        last.set(error);
        result
    };
    LAST.try_with(read_and_put_back).ok().flatten()
}

/// Code of this thread's last call: 0 when it succeeded. Functions without an error leave it as it is: those that return
/// nothing, sop_version, sop_handle_count, createContext, contextError and the two sop_last_error functions.
#[unsafe(no_mangle)]
pub extern "C" fn sop_last_error_code() -> i32 {
    with_last(|error| error.code() as i32).unwrap_or(0)
}

/// Error of this thread's last call, NULL when it succeeded:
/// {"code":10,"name":"Conflict","message":"...","retryable":true,"details":{...}}. Free it with freeString.
#[unsafe(no_mangle)]
pub extern "C" fn sop_last_error() -> *mut c_char {
    let text = boundary::guarded(|| Ok(with_last(describe)));
    text.ok().flatten().map_or(std::ptr::null_mut(), |text| strings::allocate(&text))
}

fn describe(error: &Error) -> String {
    let described = json!({
        "code": error.code() as i32,
        "name": error.code().name(),
        "message": error.message(),
        "retryable": error.is_retryable(),
        "details": error.details(),
    });
    described.to_string()
}

#[cfg(test)]
mod tests {
    use super::SopErrorCode;
    use stores::ErrorCode;

    macro_rules! assert_same {
        ($($name:ident)+) => {
            $(assert_eq!(SopErrorCode::$name as i32, ErrorCode::$name as i32, stringify!($name));)+
            // Does not compile when a code is missing above.
            let _ = |code: ErrorCode| match code { $(ErrorCode::$name => (),)+ };
        };
    }

    #[test]
    fn header_codes_are_the_stores_codes() {
        assert_same! {
            Conflict SnapshotTooOld Timeout Cancelled Locked InvalidState ReadOnlyTransaction StoreNotFound ItemNotFound
            StoreExists Validation DimensionMismatch Filter Io Corruption DiskFull ReadOnlyFolder DrivesLost Closed Forked
            InvalidHandle ContextNotFound Unsupported Redis Internal Panic
        }
    }
}
