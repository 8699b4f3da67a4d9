//! Model stores: JSON documents by category and name.

use std::ffi::c_char;
use std::sync::Arc;

use stores::{CancelToken, ModelStore, Result};

use crate::boundary;
use crate::handles::OpenStore;
use crate::process;
use crate::strings::{Out, input, json, to_json};
use crate::vector::session;

type Held = Arc<OpenStore<ModelStore>>;

/// The context's token and the store of a call.
fn enter(ctx: i64, store: u64) -> Result<(CancelToken, Held)> {
    let process = process::current();
    Ok((process.contexts.token(ctx)?, process.handles.get::<OpenStore<ModelStore>>(store)?))
}

/// Opens a model store, creating it with its first model. With a database handle each call commits by itself; with a
/// transaction handle calls run inside it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_open(
    ctx: i64,
    database_or_transaction: u64,
    name: *const c_char,
    name_len: usize,
    out: *mut u64,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        process.contexts.token(ctx)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (name, out) = unsafe { (input("name", name, name_len)?, Out::new("out", out)?) };
        let store = ModelStore::open(session(process, database_or_transaction)?, name)?;
        out.set(process.handles.insert(OpenStore { store, parent: database_or_transaction })?);
        Ok(())
    })
}

/// Saves a model (JSON), replacing the one of this category and name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_save(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    model: *const c_char,
    model_len: usize,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (category, name, model) = unsafe {
            let model = input("model", model, model_len)?;
            (input("category", category, category_len)?, input("name", name, name_len)?, model)
        };
        held.store.save(&cancel, category, name, json("model", model)?)
    })
}

/// Writes a model as it was saved; missing: SOP_ERROR_CODE_ITEM_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_get(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (category, name, out) = unsafe {
            (
                input("category", category, category_len)?,
                input("name", name, name_len)?,
                Out::new("out", out)?,
            )
        };
        out.set_text(held.store.get(&cancel, category, name)?.get());
        Ok(())
    })
}

/// Removes a model. A missing one is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_delete(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (category, name) =
            unsafe { (input("category", category, category_len)?, input("name", name, name_len)?) };
        held.store.delete(&cancel, category, name)
    })
}

/// Writes the names of a category's models in order, as a JSON array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_list(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (category, out) = unsafe { (input("category", category, category_len)?, Out::new("out", out)?) };
        out.set_text(&to_json(&held.store.list(&cancel, category)?)?);
        Ok(())
    })
}
