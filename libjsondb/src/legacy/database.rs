//! manageDatabase, and the database actions that manageVectorDB and manageModelStore share with it.

use std::ffi::{c_char, c_int, c_longlong};
use std::sync::Arc;

use serde::Deserialize;
use stores::{CancelToken, Database, DatabaseOptions, Result, TransactionMode, max_time_from_minutes};

use super::{arguments, database, required, unmarshal, uuid_text};
use crate::actions::SopDatabaseAction;
use crate::boundary;
use crate::database::{self as databases, OpenDatabase};
use crate::handles::Object;
use crate::process::Process;
use crate::strings::invalid;
use crate::transaction::OpenTransaction;

/// Databases by UUID. Action: SopDatabaseAction. New: payload is the options of sop_database_open; gives the UUID.
/// BeginTransaction: target is the database; payload is a mode, or {"mode":..,"max_time":..}; gives the transaction's
/// UUID. Close: target is the database; transactions begun on it can still be ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manageDatabase(
    ctx: c_longlong,
    action: c_int,
    target: *const c_char,
    payload: *const c_char,
) -> *mut c_char {
    boundary::text(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (process, cancel, target, payload) = unsafe { arguments(ctx, "target", target, payload) }?;
        match SopDatabaseAction::from_number(action)? {
            SopDatabaseAction::New => open(process, payload),
            SopDatabaseAction::BeginTransaction => begin(process, &cancel, target, payload),
            SopDatabaseAction::Close => close(process, target),
        }
    })
}

pub(super) fn open(process: &Process, payload: Option<&str>) -> Result<Option<String>> {
    Ok(Some(uuid_text(databases::open(process, required("payload", payload)?)?)))
}

pub(super) fn begin(
    process: &Process,
    cancel: &CancelToken,
    target: Option<&str>,
    payload: Option<&str>,
) -> Result<Option<String>> {
    let (handle, held) = database(process, required("target", target)?)?;
    let (options, on) = begin_options(&held, payload.unwrap_or_default().trim())?;
    let max_time = max_time_from_minutes(options.max_time.unwrap_or(0.0));
    let transaction = on.begin(TransactionMode::try_from(options.mode.unwrap_or(1))?, max_time, cancel)?;
    Ok(Some(uuid_text(process.handles.insert(OpenTransaction::new(transaction, handle))?)))
}

/// What a transaction is begun with: a number is the mode alone.
#[derive(Default, Deserialize)]
struct BeginOptions {
    mode: Option<i32>,
    max_time: Option<f64>,
}

/// The options of a payload, and the database that they name: usually the one of the call, but stores_folders in them
/// count for the transaction, as they did in 2.0.17.
fn begin_options(held: &OpenDatabase, payload: &str) -> Result<(BeginOptions, Arc<Database>)> {
    let own = held.database.clone();
    if payload.is_empty() {
        return Ok((BeginOptions::default(), own));
    }
    if !payload.starts_with('{') {
        let mode = payload.parse().map_err(|_| invalid(format!("invalid transaction mode: {payload}")))?;
        return Ok((BeginOptions { mode: Some(mode), max_time: None }, own));
    }
    let options: BeginOptions = unmarshal("TransactionOptions", payload)?;
    let mut place: DatabaseOptions = unmarshal("TransactionOptions", payload)?;
    if place.stores_folders.as_ref().is_none_or(Vec::is_empty) {
        place.stores_folders = None;
        place.storage_path = own.folder().to_string_lossy().into_owned();
    }
    let named = Database::open_with(place, Some(crate::redis::coordinator))?;
    if named.folder() != own.folder() {
        return Ok((options, named));
    }
    let (asked, is) = (&named.options().erasure_config, &own.options().erasure_config);
    if asked.as_ref().is_some_and(|asked| !asked.is_empty() && Some(asked) != is.as_ref()) {
        return Err(invalid("erasure_config is not the one the database was opened with: leave it out"));
    }
    // 0 is also what they hold who name no database.
    let (asked, is) = (named.options().db_type, own.options().db_type);
    if asked != 0 && asked != is {
        return Err(invalid(format!("the database was opened with db_type {is}, not {asked}: leave it out")));
    }
    Ok((options, own))
}

/// As 2.0.17 did, leaves transactions that are open on the database to be committed or rolled back; without any, the
/// database is closed at once.
pub(super) fn close(process: &Process, target: Option<&str>) -> Result<Option<String>> {
    let (handle, held) = database(process, required("target", target)?)?;
    process.handles.remove(handle);
    let uses = |object: &Object| matches!(object, Object::Transaction(open) if open.database == handle);
    if !process.handles.any(uses) {
        held.database.close()?;
    }
    Ok(None)
}
