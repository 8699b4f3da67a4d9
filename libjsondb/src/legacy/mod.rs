//! The functions of sop4py 2.0.17, by the same names, with the same numbers and texts.
//!
//! They name objects by UUID text and give an error's text in the place of a result; otherwise they do what the sop_
//! functions do, and set the thread's last error as those do. Where 2.0.17 had no way to give a handle back, it goes by
//! itself: the handle of a transaction, and those of its stores, when the transaction ends.

#![allow(non_snake_case)]

mod database;
mod transaction;

mod btree;
mod vector;

mod model;

use std::ffi::{c_char, c_longlong};
use std::sync::Arc;

use serde::Deserialize;
use stores::{CancelToken, Error, ErrorCode, Result};
use uuid::Uuid;

use crate::database::OpenDatabase;
use crate::handles::{self, Held, Missing, OpenStore};
use crate::process::{self, Process};
use crate::strings::{invalid, terminated};
use crate::transaction::OpenTransaction;

pub use btree::*;
pub use database::*;
pub use model::*;
pub use transaction::*;
pub use vector::*;

/// What most functions begin with: the process, the context's token, and two texts, each of which may be NULL. `first_name`
/// is for messages.
///
/// # Safety
/// As [`terminated`], for both texts.
unsafe fn arguments<'a>(
    ctx: c_longlong,
    first_name: &str,
    first: *const c_char,
    payload: *const c_char,
) -> Result<(&'static Process, CancelToken, Option<&'a str>, Option<&'a str>)> {
    let process = process::current();
    let cancel = process.contexts.token(ctx)?;
    // SAFETY: the same contract.
    let (first, payload) = unsafe { (terminated(first_name, first)?, terminated("payload", payload)?) };
    Ok((process, cancel, first, payload))
}

/// A text argument that this action needs.
fn required<'a>(what: &str, text: Option<&'a str>) -> Result<&'a str> {
    text.ok_or_else(|| invalid(format!("{what}: null pointer")))
}

/// Reads JSON, with the error text of 2.0.17. `what` is its name for the type.
fn unmarshal<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| invalid(format!("error Unmarshal {what}, details: {error}")))
}

fn parse_uuid(text: &str) -> Result<Uuid> {
    let refused = |why: String| invalid(format!("error parsing UUID, details: {why}"));
    match text.len() {
        32 | 36 | 38 | 45 => Uuid::try_parse(text).map_err(|_| refused("invalid UUID format".to_owned())),
        len => Err(refused(format!("invalid UUID length: {len}"))),
    }
}

fn not_found(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidHandle, message)
}

/// The database of a UUID, and its handle.
fn database(process: &Process, text: &str) -> Result<(u64, Arc<OpenDatabase>)> {
    let handle = handles::handle_of(parse_uuid(text)?);
    match process.handles.find(handle) {
        Ok(held) => Ok((handle, held)),
        Err(Missing::Forked) => Err(Missing::Forked.error(handle, Some(OpenDatabase::KIND))),
        Err(_) => Err(not_found("Database not found")),
    }
}

/// The transaction of a UUID, and its handle.
fn transaction(process: &Process, text: &str) -> Result<(u64, Arc<OpenTransaction>)> {
    let uuid = parse_uuid(text)?;
    let handle = handles::handle_of(uuid);
    match process.handles.find(handle) {
        Ok(held) => Ok((handle, held)),
        Err(Missing::Forked) => Err(Missing::Forked.error(handle, Some(OpenTransaction::KIND))),
        Err(Missing::Released) => {
            let message = format!("UUID {uuid} not found: the transaction has ended, begin a new one");
            Err(Error::new(ErrorCode::InvalidState, message))
        }
        Err(_) => Err(not_found(format!("UUID {uuid} not found"))),
    }
}

/// The store of a UUID in the transaction of another. `missing` makes the text for one that is not there.
fn store<S>(
    process: &Process,
    transaction_text: &str,
    store_text: &str,
    missing: impl FnOnce(Uuid) -> String,
) -> Result<Arc<OpenStore<S>>>
where
    OpenStore<S>: Held,
{
    let (parent, _) = transaction(process, transaction_text)?;
    let uuid = parse_uuid(store_text)?;
    match process.handles.find::<OpenStore<S>>(handles::handle_of(uuid)) {
        Ok(held) if held.parent == parent => Ok(held),
        _ => Err(not_found(missing(uuid))),
    }
}

/// How manageVectorDB and manageModelStore name a store.
#[derive(Deserialize)]
struct StoreTarget {
    #[serde(default)]
    id: String,
    #[serde(default)]
    transaction_id: String,
}

fn uuid_text(handle: u64) -> String {
    handles::uuid_of(handle).to_string()
}
