//! Looking after a database: verify, info, stores, backup, compact, and what is there more than once: status, scrub, repair, reinstate.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use stores::{BackupCheck, CancelToken, Database, Progress, ReinstateOptions, Result};

use crate::boundary;
use crate::database::OpenDatabase;
use crate::process;
use crate::strings::{Out, input, json, to_json};

/// Told by a long call how far it is: bytes done, and bytes to do in all, an estimate that may grow. Not 0: the call is to stop, and
/// ends with SOP_ERROR_CODE_CANCELLED. Called on the thread of the call; it may call any function of this library.
pub type SopProgress =
    Option<unsafe extern "C" fn(user_data: *mut c_void, bytes_done: u64, bytes_total: u64) -> i32>;

/// A progress function for those that cannot be called from a thread of this library: give it as progress, and as user_data the address of
/// three uint64_t, 0 at first: bytes done, bytes to do in all, and one that stops the call once it is not 0. They stay where they are
/// until the call ends, and are read and written as a whole.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_progress_to_cell(
    user_data: *mut c_void,
    bytes_done: u64,
    bytes_total: u64,
) -> i32 {
    let numbers = user_data.cast::<AtomicU64>();
    if numbers.is_null() || !numbers.is_aligned() {
        return 0;
    }
    // SAFETY: the caller's part.
    let [done, total, stop] = unsafe { [&*numbers, &*numbers.add(1), &*numbers.add(2)] };
    done.store(bytes_done, Ordering::Relaxed);
    total.store(bytes_total, Ordering::Relaxed);
    i32::from(stop.load(Ordering::Relaxed) != 0)
}

/// Runs a long call with the caller's progress function.
///
/// # Safety
/// `report` is NULL or may be called with `user_data` until this returns.
pub(crate) unsafe fn with_progress<T>(
    cancel: &CancelToken,
    report: SopProgress,
    user_data: *mut c_void,
    work: impl FnOnce(&mut Progress<'_>) -> Result<T>,
) -> Result<T> {
    let mut go_on = |done, total| match report {
        // SAFETY: the same contract.
        Some(report) => unsafe { report(user_data, done, total) == 0 },
        None => true,
    };
    work(&mut Progress::new(cancel, &mut go_on))
}

/// Asks a database, and writes the answer as JSON.
///
/// # Safety
/// `out` is NULL or may be written to.
unsafe fn answer<T: Serialize>(
    ctx: i64,
    database: u64,
    out: *mut *mut c_char,
    ask: impl FnOnce(&Database, &CancelToken) -> Result<T>,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        let held = process.handles.get::<OpenDatabase>(database)?;
        // SAFETY: the same contract.
        let out = unsafe { Out::new("out", out) }?;
        out.set_text(&to_json(&ask(&held.database, &cancel)?)?);
        Ok(())
    })
}

/// Checks all that is stored in a database without changing anything, and goes on after a finding. Others may use it meanwhile; it is not opened.
/// Writes {"intact":true,"findings":[{"file":"...","offset":0,"what":"..."}],"stores":[...],"entries":0,"pages":0,"values":0,
/// "bytes":0,"log":{...}}. Damage is no error of this function. progress may be NULL. Free the text with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_verify(
    ctx: i64,
    database: u64,
    progress: SopProgress,
    user_data: *mut c_void,
    out: *mut *mut c_char,
) -> i32 {
    // SAFETY: the caller's part, see the crate's documentation.
    let ask = |database: &Database, cancel: &CancelToken| unsafe {
        with_progress(cancel, progress, user_data, |p| database.verify(p))
    };
    // SAFETY: as above.
    unsafe { answer(ctx, database, out, ask) }
}

/// Writes what a database takes on disk, its newest transaction, and how many processes have it open, as JSON. Free it with
/// freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_info(ctx: i64, database: u64, out: *mut *mut c_char) -> i32 {
    // SAFETY: the caller's part, see the crate's documentation.
    unsafe { answer(ctx, database, out, Database::info) }
}

/// Writes the stores of a database: [{"name":"...","kind":"btree","items":0,"options":{...}}]; kind is btree, vector or model. Free
/// it with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_stores(ctx: i64, database: u64, out: *mut *mut c_char) -> i32 {
    // SAFETY: the caller's part, see the crate's documentation.
    unsafe { answer(ctx, database, out, Database::stores) }
}

/// Copies the newest committed state to a folder that is missing or empty, while others read and write. The copy is durable and a
/// database of its own; when this fails or is interrupted, the target is none. verify: 0, or 1 to read the copy back and check
/// it. progress may be NULL. Writes {"sequence":0,"files":0,"bytes":0,"verified":true}. Free it with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_backup(
    ctx: i64,
    database: u64,
    target: *const c_char,
    target_len: usize,
    verify: i32,
    progress: SopProgress,
    user_data: *mut c_void,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        let held = process.handles.get::<OpenDatabase>(database)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (target, out) = unsafe { (input("target", target, target_len)?, Out::new("out", out)?) };
        let check = if verify == 0 { BackupCheck::None } else { BackupCheck::Full };
        let copy = |p: &mut Progress<'_>| held.database.backup(&cancel, Path::new(target), check, p);
        // SAFETY: as above.
        let made = unsafe { with_progress(&cancel, progress, user_data, copy) }?;
        out.set_text(&to_json(&made)?);
        Ok(())
    })
}

/// Moves what is live out of files that are mostly garbage and removes what nobody needs, while others read and write. progress may
/// be NULL. Writes {"before":{...},"after":{...},"checkpoints":0}. Free it with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_compact(
    ctx: i64,
    database: u64,
    progress: SopProgress,
    user_data: *mut c_void,
    out: *mut *mut c_char,
) -> i32 {
    // SAFETY: the caller's part, see the crate's documentation.
    let ask = |database: &Database, cancel: &CancelToken| unsafe {
        with_progress(cancel, progress, user_data, |p| database.compact(cancel, p))
    };
    // SAFETY: as above.
    unsafe { answer(ctx, database, out, ask) }
}

/// Writes which copies and drives of a database with mirrored folders or erasure coding are there:
/// {"healthy":true,"copies":[{"index":0,"role":"...","path":"...","state":"current","sequence":0}],"sets":[{"name":"","data":2,
/// "parity":1,"segments":0,"spare":[0,0],"lost":0,"drives":[{"index":0,"path":"...","state":"ok","missing":0,"bytes":0}]}]}. Names are
/// looked at, not contents. Free the text with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_status(ctx: i64, database: u64, out: *mut *mut c_char) -> i32 {
    // SAFETY: the caller's part, see the crate's documentation.
    unsafe { answer(ctx, database, out, Database::status) }
}

/// Reads every shard and every copy, and changes nothing. Damage is no error of this function. progress may be NULL. Writes
/// {"intact":true,"findings":[{"file":"...","offset":0,"what":"..."}],"shards":0,"bytes":0}. Free the text with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_scrub(
    ctx: i64,
    database: u64,
    progress: SopProgress,
    user_data: *mut c_void,
    out: *mut *mut c_char,
) -> i32 {
    // SAFETY: the caller's part, see the crate's documentation.
    let ask = |database: &Database, cancel: &CancelToken| unsafe {
        with_progress(cancel, progress, user_data, |p| database.scrub(cancel, p))
    };
    // SAFETY: as above.
    unsafe { answer(ctx, database, out, ask) }
}

/// Rebuilds what is missing or damaged on drives and in copies, while others read and write; it may be stopped and run again.
/// missing_only: 0, or 1 not to read shards that are there. progress may be NULL. Writes
/// {"rebuilt":0,"bytes":0,"seconds":0.0,"copies":[],"failed":[{"file":"...","offset":0,"what":"..."}]}. Free the text with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_repair(
    ctx: i64,
    database: u64,
    missing_only: i32,
    progress: SopProgress,
    user_data: *mut c_void,
    out: *mut *mut c_char,
) -> i32 {
    // SAFETY: the caller's part, see the crate's documentation.
    let ask = |database: &Database, cancel: &CancelToken| unsafe {
        with_progress(cancel, progress, user_data, |p| database.repair(cancel, missing_only != 0, p))
    };
    // SAFETY: as above.
    unsafe { answer(ctx, database, out, ask) }
}

/// Brings copies that are stale or were replaced up to date, and back among those that count, while others read and write. options
/// (JSON): {"lost":[0]} names copies that will not come back, by the index of sop_database_status: what only they hold is given
/// up. progress may be NULL. Writes the new status, as sop_database_status. Free the text with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_database_reinstate(
    ctx: i64,
    database: u64,
    options: *const c_char,
    options_len: usize,
    progress: SopProgress,
    user_data: *mut c_void,
    out: *mut *mut c_char,
) -> i32 {
    let ask = |database: &Database, cancel: &CancelToken| {
        // SAFETY: the caller's part, see the crate's documentation.
        let options: ReinstateOptions =
            json("reinstate options", unsafe { input("options", options, options_len) }?)?;
        let work = |p: &mut Progress<'_>| database.reinstate(cancel, &options.lost, p);
        // SAFETY: as above.
        unsafe { with_progress(cancel, progress, user_data, work) }
    };
    // SAFETY: as above.
    unsafe { answer(ctx, database, out, ask) }
}
