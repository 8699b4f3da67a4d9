//! Databases, and what all handles have in common: release, UUID.

use std::ffi::c_char;
use std::sync::Arc;

use stores::{Database, DatabaseOptions, Result};

use crate::handles::{self, Object};
use crate::process::{self, Process};
use crate::strings::{Out, input, json};
use crate::{boundary, redis, transaction};

/// A database that a caller holds.
pub(crate) struct OpenDatabase {
    pub(crate) database: Arc<Database>,
}

/// Checks the options and takes the database in.
pub(crate) fn open(process: &Process, options: &str) -> Result<u64> {
    let options: DatabaseOptions = json("database options", options)?;
    process.handles.insert(OpenDatabase { database: Database::open_with(options, Some(redis::coordinator))? })
}

/// Opens a database; the folder itself is opened by the first transaction. Options (JSON): "storage_path" or
/// "stores_folders" (the folder, then those that mirror it), "erasure_config" ({"store or empty for all others":
/// {"data_shards_count":2,"parity_shards_count":1,"base_folder_paths_across_drives":["...","...","..."],
/// "repair_corrupted_shards":true}}), "db_type" (0 Standalone, 1 Clustered), "registry_hash_mod", "memory_limit" (bytes), "read_only"
/// (true: what is there is read, as it was opened last, and nothing is written to its folders); for tools
/// "as_found" (true: as it was opened last), "drives" (folders of erasure coding in any order, whose own files say what they are).
/// Release the handle with sop_handle_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_open(
    ctx: i64,
    options: *const c_char,
    options_len: usize,
    out: *mut u64,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        process.contexts.token(ctx)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (options, out) = unsafe { (input("options", options, options_len)?, Out::new("out", out)?) };
        out.set(open(process, options)?);
        Ok(())
    })
}

/// Closes a database: waits for its background work, then transactions still open on it fail with
/// SOP_ERROR_CODE_CLOSED, unless another database handle of this process uses the same folder. Closing twice is no
/// error. The handle stays until it is released.
#[unsafe(no_mangle)]
pub extern "C" fn sop_database_close(ctx: i64, database: u64) -> i32 {
    boundary::code(|| {
        let process = process::current();
        process.contexts.token(ctx)?;
        process.handles.get::<OpenDatabase>(database)?.database.close()
    })
}

/// Makes every relaxed commit durable that was acknowledged before this call (see sop_transaction_set_durability).
#[unsafe(no_mangle)]
pub extern "C" fn sop_database_flush(ctx: i64, database: u64) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        process.handles.get::<OpenDatabase>(database)?.database.flush(&cancel)
    })
}

/// Gives a handle of any kind back. A transaction that is neither committed nor rolled back is rolled back, after a
/// call that is running on it; a database is not closed. 0 and handles released before are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn sop_handle_release(handle: u64) {
    // Nothing to report to: an error here can only be a panic.
    let _ = boundary::guarded(|| {
        release(process::current(), handle);
        Ok(())
    });
}

/// As [`sop_handle_release`].
pub(crate) fn release(process: &Process, handle: u64) {
    if let Ok(Object::Transaction(held)) = process.handles.find_any(handle) {
        transaction::forget(process, handle, &held);
        if !held.committed() {
            held.roll_back_quietly();
        }
    } else {
        process.handles.remove(handle);
    }
}

/// Number of handles that are open in this process, those that the functions of 2.0.17 name by UUID included.
#[unsafe(no_mangle)]
pub extern "C" fn sop_handle_count() -> u64 {
    boundary::guarded(|| Ok(process::current().handles.len() as u64)).unwrap_or(0)
}

/// The UUID text by which the functions of 2.0.17 name the object of a handle. Free it with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_handle_uuid(handle: u64, out: *mut *mut c_char) -> i32 {
    boundary::code(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        process::current().handles.find_any(handle).map_err(|missing| missing.error(handle, None))?;
        out.set_text(&handles::uuid_of(handle).to_string());
        Ok(())
    })
}
