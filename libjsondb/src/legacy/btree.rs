//! manageBtree, navigateBtree, getFromBtree, isUniqueBtree, getBtreeItemCount.

use std::ffi::{c_char, c_int, c_longlong};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use stores::{Btree, BtreeOptions, CancelToken, ItemInput, Move, Paging, Result, WriteOp};

use super::{arguments, required, store, transaction, unmarshal, uuid_text};
use crate::actions::SopBtreeAction;
use crate::boundary;
use crate::handles::OpenStore;
use crate::process::{self, Process};
use crate::strings::{allocate, invalid, terminated, to_json};

/// How these functions name a store.
#[derive(Deserialize)]
struct MetaData {
    #[serde(default)]
    transaction_id: String,
    #[serde(default)]
    btree_id: String,
}

/// What items come in.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    items: Vec<ItemInput<'a>>,
}

/// Result of getFromBtree.
#[repr(C)]
pub struct GetFromBtreeReturn {
    /// The result, JSON, or NULL.
    pub r0: *mut c_char,
    /// The text of an error, or NULL.
    pub r1: *mut c_char,
}

/// Result of getBtreeItemCount.
#[repr(C)]
pub struct GetBtreeItemCountReturn {
    /// The count.
    pub r0: c_longlong,
    /// The text of an error, or NULL.
    pub r1: *mut c_char,
}

/// Opens and changes B-trees by UUID. Action: SopBtreeAction. New and Open: meta is the options with "transaction_id";
/// gives the store's UUID. Others: meta is {"transaction_id":..,"btree_id":..}, payload {"items":[..]}, or for Remove an
/// array of keys; gives "true" or "false".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manageBtree(
    ctx: c_longlong,
    action: c_int,
    meta: *const c_char,
    payload: *const c_char,
) -> *mut c_char {
    boundary::text(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (process, cancel, meta, payload) = unsafe { arguments(ctx, "meta", meta, payload) }?;
        let (meta, payload) = (required("meta", meta), required("payload", payload));
        let action = SopBtreeAction::from_number(action)?;
        let operation = match action {
            SopBtreeAction::New | SopBtreeAction::Open => {
                return open(process, &cancel, action, meta?).map(Some);
            }
            SopBtreeAction::Remove => {
                let keys: Vec<&RawValue> = unmarshal("keys array", payload?)?;
                return Ok(Some(held(process, meta?)?.store.remove(&cancel, &keys)?.to_string()));
            }
            SopBtreeAction::Add => WriteOp::Add,
            SopBtreeAction::AddIfNotExist => WriteOp::AddIfNotExists,
            SopBtreeAction::Update => WriteOp::Update,
            SopBtreeAction::Upsert => WriteOp::Upsert,
            other => return Err(unsupported(other)),
        };
        let held = held(process, meta?)?;
        Ok(Some(held.store.write(&cancel, operation, &items(payload?)?)?.to_string()))
    })
}

/// Moves the cursor. Action: SopBtreeAction; meta is {"transaction_id":..,"btree_id":..}; payload of Find and FindWithId
/// is {"items":[{"key":..,"id":..}]}. Gives "true" or "false".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn navigateBtree(
    ctx: c_longlong,
    action: c_int,
    meta: *const c_char,
    payload: *const c_char,
) -> *mut c_char {
    boundary::text(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (process, cancel, meta, payload) = unsafe { arguments(ctx, "meta", meta, payload) }?;
        let action = SopBtreeAction::from_number(action)?;
        let held = held(process, required("meta", meta)?)?;
        let found = match action {
            SopBtreeAction::First => held.store.step(&cancel, Move::First)?,
            SopBtreeAction::Last => held.store.step(&cancel, Move::Last)?,
            SopBtreeAction::Find | SopBtreeAction::FindWithId => {
                let items = items(required("payload", payload)?)?;
                let item = items.first().ok_or_else(|| invalid("payload: no item to find"))?;
                if action == SopBtreeAction::Find {
                    held.store.find(&cancel, item.key)?
                } else {
                    held.store.find_with_id(&cancel, item.key, item.id.unwrap_or(NO_ID))?
                }
            }
            other => return Err(unsupported(other)),
        };
        Ok(Some(found.to_string()))
    })
}

/// Reads from a B-tree. Action: SopBtreeAction; meta is {"transaction_id":..,"btree_id":..}. GetItems and GetKeys: payload
/// is the paging of sop_btree_page; GetValues: {"items":[..]}; GetStoreInfo: none. One of the two results is NULL; free
/// the other with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getFromBtree(
    ctx: c_longlong,
    action: c_int,
    meta: *const c_char,
    payload: *const c_char,
) -> GetFromBtreeReturn {
    let result = boundary::fallible(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (process, cancel, meta, payload) = unsafe { arguments(ctx, "meta", meta, payload) }?;
        let action = SopBtreeAction::from_number(action)?;
        let held = held(process, required("meta", meta)?)?;
        let payload = required("payload", payload);
        match action {
            SopBtreeAction::GetItems => page(&cancel, &held, payload?, true),
            SopBtreeAction::GetKeys => page(&cancel, &held, payload?, false),
            SopBtreeAction::GetValues => to_json(&held.store.values(&cancel, &items(payload?)?)?),
            SopBtreeAction::GetStoreInfo => {
                let transaction_id = uuid_text(held.parent);
                to_json(&BtreeOptions { transaction_id, ..held.store.options() })
            }
            other => Err(unsupported(other)),
        }
    });
    // The wrapper of 2.0.17 reads the result whenever there is no error: never both are NULL.
    match result {
        Ok(text) => GetFromBtreeReturn { r0: allocate(&text), r1: std::ptr::null_mut() },
        Err(error) => GetFromBtreeReturn { r0: std::ptr::null_mut(), r1: error },
    }
}

/// Gives "true" or "false", or the text of an error. Meta is {"transaction_id":..,"btree_id":..}.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isUniqueBtree(meta: *const c_char) -> *mut c_char {
    boundary::text(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let meta = unsafe { terminated("meta", meta) }?;
        let held = held(process::current(), required("meta", meta)?)?;
        Ok(Some(held.store.is_unique().to_string()))
    })
}

/// The number of items. Meta is {"transaction_id":..,"btree_id":..}. Free the error, if any, with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getBtreeItemCount(meta: *const c_char) -> GetBtreeItemCountReturn {
    let result = boundary::fallible(|| {
        let process = process::current();
        // SAFETY: the caller's part, see the crate's documentation.
        let meta = unsafe { terminated("meta", meta) }?;
        let held = held(process, required("meta", meta)?)?;
        held.store.count(&process.contexts.token(0)?)
    });
    match result {
        Ok(count) => GetBtreeItemCountReturn { r0: count.cast_signed(), r1: std::ptr::null_mut() },
        Err(error) => GetBtreeItemCountReturn { r0: 0, r1: error },
    }
}

fn open(process: &Process, cancel: &CancelToken, action: SopBtreeAction, meta: &str) -> Result<String> {
    let options: BtreeOptions = unmarshal("BtreeOptions", meta)?;
    let (parent, held) = transaction(process, &options.transaction_id)?;
    let store = match action {
        SopBtreeAction::New => Btree::create_or_open(cancel, &held.transaction, options)?,
        _ => Btree::open(cancel, &held.transaction, &options.name)?,
    };
    Ok(uuid_text(held.insert_store(process, OpenStore { store, parent })?))
}

fn held(process: &Process, meta: &str) -> Result<Arc<OpenStore<Btree>>> {
    let meta: MetaData = unmarshal("ManageBtreeMetaData", meta)?;
    store(process, &meta.transaction_id, &meta.btree_id, |id| {
        format!("did not find B-tree(id={id}) from lookup")
    })
}

/// What the wrapper of 2.0.17 sends where there is no id.
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

fn items(payload: &str) -> Result<Vec<ItemInput<'_>>> {
    Ok(unmarshal::<Payload<'_>>("ManageBtreePayload", payload)?.items)
}

fn page(cancel: &CancelToken, held: &OpenStore<Btree>, payload: &str, with_values: bool) -> Result<String> {
    let paging: Paging = unmarshal("PagingInfo", payload)?;
    to_json(&held.store.page(cancel, &paging, with_values)?)
}

fn unsupported(action: SopBtreeAction) -> stores::Error {
    invalid(format!("unsupported action {}", action as i32))
}
