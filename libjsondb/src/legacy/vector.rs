//! manageVectorDB.

use std::ffi::{c_char, c_int, c_longlong};
use std::sync::Arc;

use serde::Deserialize;
use stores::{CancelToken, QueryOptions, Result, Session, VectorItem, VectorOptions, VectorStore};

use super::{StoreTarget, arguments, database, required, store, transaction, unmarshal, uuid_text};
use crate::actions::SopVectorAction;
use crate::boundary;
use crate::handles::OpenStore;
use crate::process::Process;
use crate::strings::{invalid, to_json};

/// Vector stores by UUID. Action: SopVectorAction. NewVectorDb, BeginTransaction, CloseVectorDb: as manageDatabase.
/// OpenVectorStore: target is the database or NULL, payload {"transaction_id":..,"name":..,"config":{"usage_mode":..}};
/// gives the store's UUID. Others: target is {"id":..,"transaction_id":..}; payload of Upsert is an item, of UpsertBatch an
/// array of items, of Get and Delete an id, of Query the options of sop_vector_query.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manageVectorDB(
    ctx: c_longlong,
    action: c_int,
    target: *const c_char,
    payload: *const c_char,
) -> *mut c_char {
    boundary::text(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (process, cancel, target, payload) = unsafe { arguments(ctx, "target", target, payload) }?;
        match SopVectorAction::from_number(action)? {
            SopVectorAction::NewVectorDb => database::open(process, payload),
            SopVectorAction::BeginTransaction => database::begin(process, &cancel, target, payload),
            SopVectorAction::CloseVectorDb => database::close(process, target),
            SopVectorAction::OpenVectorStore => {
                open(process, target, required("payload", payload)?).map(Some)
            }
            action => {
                let held = held(process, required("target", target)?)?;
                work(&cancel, &held.store, action, required("payload", payload))
            }
        }
    })
}

fn work(
    cancel: &CancelToken,
    store: &VectorStore,
    action: SopVectorAction,
    payload: Result<&str>,
) -> Result<Option<String>> {
    match action {
        SopVectorAction::Upsert => store.upsert(cancel, &[read("item", payload?)?])?,
        SopVectorAction::UpsertBatch => store.upsert(cancel, &read::<Vec<VectorItem>>("items", payload?)?)?,
        SopVectorAction::Get => return to_json(&store.get(cancel, payload?)?).map(Some),
        SopVectorAction::Delete => store.delete(cancel, &[payload?])?,
        SopVectorAction::Query => {
            let options: QueryOptions = read("query options", payload?)?;
            return to_json(&store.query(cancel, &options)?).map(Some);
        }
        SopVectorAction::Count => return Ok(Some(store.count(cancel)?.to_string())),
        SopVectorAction::Optimize => store.optimize(cancel)?,
        other => return Err(invalid(format!("unsupported action {}", other as i32))),
    }
    Ok(None)
}

#[derive(Deserialize)]
struct OpenPayload {
    #[serde(default)]
    transaction_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    config: Option<VectorOptions>,
}

fn open(process: &Process, target: Option<&str>, payload: &str) -> Result<String> {
    if let Some(target) = target {
        super::database(process, target)?;
    }
    let options: OpenPayload = unmarshal("VectorStoreTransportOptions", payload)?;
    let (parent, held) = transaction(process, &options.transaction_id)?;
    let session = Session::In(held.transaction.clone());
    let store = VectorStore::open(session, &options.name, options.config.unwrap_or_default())?;
    Ok(uuid_text(held.insert_store(process, OpenStore { store, parent })?))
}

fn held(process: &Process, target: &str) -> Result<Arc<OpenStore<VectorStore>>> {
    let target: StoreTarget = unmarshal("vector store target", target)?;
    store(process, &target.transaction_id, &target.id, |_| "Vector Store not found in transaction".to_owned())
}

/// Reads JSON, with the error text of 2.0.17.
fn read<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| invalid(format!("invalid {what}: {error}")))
}
