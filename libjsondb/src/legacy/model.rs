//! manageModelStore.

use std::ffi::{c_char, c_int, c_longlong};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use stores::{CancelToken, Error, ErrorCode, ModelStore, Result, Session};

use super::{StoreTarget, arguments, database, required, store, transaction, unmarshal, uuid_text};
use crate::actions::SopModelAction;
use crate::boundary;
use crate::handles::OpenStore;
use crate::process::Process;
use crate::strings::{invalid, present, to_json};

const OPEN_NOT_SUPPORTED: &str = "OpenModelStore not supported in this version. Use NewBTreeModelStore.";
/// The store of callers who name none.
const DEFAULT_NAME: &str = "global";

/// Model stores by UUID. Action: SopModelAction. NewModelDb, CloseModelDb: as manageDatabase. NewBtreeModelStore: payload
/// is {"transaction_id":..,"path":".."}, path being the store's name ("global" when left out); gives the store's UUID.
/// Others: target is {"id":..,"transaction_id":..}; payload is {"category":..,"name":..,"model":..}, for List the category.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn manageModelStore(
    ctx: c_longlong,
    action: c_int,
    target: *const c_char,
    payload: *const c_char,
) -> *mut c_char {
    boundary::text(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (process, cancel, target, payload) = unsafe { arguments(ctx, "target", target, payload) }?;
        match SopModelAction::from_number(action)? {
            SopModelAction::NewModelDb => database::open(process, payload),
            SopModelAction::CloseModelDb => database::close(process, target),
            SopModelAction::OpenModelStore => Err(Error::new(ErrorCode::Unsupported, OPEN_NOT_SUPPORTED)),
            SopModelAction::NewBtreeModelStore => open(process, required("payload", payload)?).map(Some),
            action => {
                let held = held(process, required("target", target)?)?;
                work(&cancel, &held.store, action, required("payload", payload)?)
            }
        }
    })
}

fn work(
    cancel: &CancelToken,
    store: &ModelStore,
    action: SopModelAction,
    payload: &str,
) -> Result<Option<String>> {
    if action == SopModelAction::List {
        return to_json(&store.list(cancel, payload)?).map(Some);
    }
    let Payload { category, name, model } = unmarshal("model payload", payload)?;
    match action {
        SopModelAction::Save => {
            let model = model.ok_or_else(|| invalid("model payload: there is no model in it"))?;
            store.save(cancel, &category, &name, model)?;
        }
        SopModelAction::Load => {
            return Ok(Some(store.get(cancel, &category, &name, None)?.model.get().to_owned()));
        }
        SopModelAction::Delete => store.delete(cancel, &category, &name, None)?,
        other => return Err(invalid(format!("unsupported action {}", other as i32))),
    }
    Ok(None)
}

#[derive(Deserialize)]
struct Payload<'a> {
    category: String,
    name: String,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OpenPayload {
    #[serde(default)]
    transaction_id: String,
    #[serde(default)]
    path: Option<String>,
}

fn open(process: &Process, payload: &str) -> Result<String> {
    let options: OpenPayload = unmarshal("ModelStoreOptions", payload)?;
    let (parent, held) = transaction(process, &options.transaction_id)?;
    let name = options.path.as_deref().filter(|path| !path.is_empty()).unwrap_or(DEFAULT_NAME);
    let store = ModelStore::open(Session::In(held.transaction.clone()), name)?;
    Ok(uuid_text(held.insert_store(process, OpenStore { store, parent })?))
}

fn held(process: &Process, target: &str) -> Result<Arc<OpenStore<ModelStore>>> {
    let target: StoreTarget = unmarshal("model store target", target)?;
    store(process, &target.transaction_id, &target.id, |_| "Model Store not found in transaction".to_owned())
}
