//! Model stores: JSON documents by category, name and version, with artefacts.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use stores::{CancelToken, ModelStore, Result, Upload};

use crate::boundary;
use crate::handles::OpenStore;
use crate::process;
use crate::strings::{Out, input, invalid, json, slice, to_json};
use crate::vector::session;

type Held = Arc<OpenStore<ModelStore>>;

/// An artefact that a caller is writing. One call at a time.
pub(crate) struct OpenUpload(Mutex<Upload>);

/// Which model a call is about.
#[derive(Clone, Copy)]
struct Named<'a> {
    category: &'a str,
    name: &'a str,
}

impl<'a> Named<'a> {
    /// # Safety
    /// As [`input`].
    unsafe fn new(
        (category, category_len): (*const c_char, usize),
        (name, name_len): (*const c_char, usize),
    ) -> Result<Named<'a>> {
        // SAFETY: the same contract.
        let (category, name) =
            unsafe { (input("category", category, category_len)?, input("name", name, name_len)?) };
        Ok(Named { category, name })
    }
}

/// A version as C says it: 0 is none.
fn numbered(version: u64) -> Option<u64> {
    (version != 0).then_some(version)
}

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

/// Saves a model (JSON) as a new version of its category and name, and writes the version: from 1, rising. If it is an object whose field
/// is_active is true it becomes the active version.
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
    version: *mut u64,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (named, model, out) = unsafe {
            let named = Named::new((category, category_len), (name, name_len))?;
            (named, input("model", model, model_len)?, Out::new("version", version)?)
        };
        out.set(held.store.save(&cancel, named.category, named.name, json("model", model)?)?);
        Ok(())
    })
}

/// Writes a version (0: the newest one) of a model: {"version":1,"saved_at":0,"is_active":false,"metrics":{},"sha256":"...",
/// "artifact":{"bytes":0,"sha256":"...","format":"..."},"model":...}; saved_at in milliseconds since 1970, metrics and artifact null if there
/// are none, the model as it was saved but for its field is_active, which says what is so now. Missing:
/// SOP_ERROR_CODE_ITEM_NOT_FOUND. Free the text with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_get(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    version: u64,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (named, out) =
            unsafe { (Named::new((category, category_len), (name, name_len))?, Out::new("out", out)?) };
        let found = held.store.get(&cancel, named.category, named.name, numbered(version))?;
        out.set_text(&to_json(&found)?);
        Ok(())
    })
}

/// Writes all versions of a model, the oldest first, as a JSON array of what sop_model_get writes, without the models. Free it with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_versions(
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
        let (named, out) =
            unsafe { (Named::new((category, category_len), (name, name_len))?, Out::new("out", out)?) };
        out.set_text(&to_json(&held.store.versions(&cancel, named.category, named.name)?)?);
        Ok(())
    })
}

/// Writes the active version of a model, 0 if none is. No such model: SOP_ERROR_CODE_ITEM_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_active(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    version: *mut u64,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (named, out) = unsafe {
            (Named::new((category, category_len), (name, name_len))?, Out::new("version", version)?)
        };
        out.set(held.store.active(&cancel, named.category, named.name)?.unwrap_or(0));
        Ok(())
    })
}

/// Makes a version of a model the active one, and all others not; 0: none is active then. No such version: SOP_ERROR_CODE_ITEM_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_promote(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    version: u64,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let named = unsafe { Named::new((category, category_len), (name, name_len)) }?;
        held.store.promote(&cancel, named.category, named.name, numbered(version))
    })
}

/// Removes a version (0: all) of a model with its artefact. A missing one is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_delete(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    version: u64,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let named = unsafe { Named::new((category, category_len), (name, name_len)) }?;
        held.store.delete(&cancel, named.category, named.name, numbered(version))
    })
}

/// Writes the names of a category's models in order, as a JSON array. Free it with freeString.
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

/// Writes the categories that have models in order, as a JSON array. Free it with freeString.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_categories(ctx: i64, store: u64, out: *mut *mut c_char) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set_text(&to_json(&held.store.categories(&cancel)?)?);
        Ok(())
    })
}

/// Begins to write the artefact of a new version: write it with sop_model_upload_write, save it with sop_model_upload_save, release the
/// handle with sop_handle_release; released before it was saved, nothing is left of it. format says what the bytes are, in the caller's words.
/// Opened on a database it is a transaction of its own, which saving commits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_upload(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    format: *const c_char,
    format_len: usize,
    out: *mut u64,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (named, format, out) = unsafe {
            let named = Named::new((category, category_len), (name, name_len))?;
            (named, input("format", format, format_len)?, Out::new("out", out)?)
        };
        let upload = held.store.upload(&cancel, named.category, named.name, format)?;
        out.set(process::current().handles.insert(OpenUpload(Mutex::new(upload)))?);
        Ok(())
    })
}

/// Adds len bytes to an artefact.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_upload_write(
    ctx: i64,
    upload: u64,
    data: *const c_void,
    len: usize,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        let held = process.handles.get::<OpenUpload>(upload)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let bytes = unsafe { slice("data", data.cast::<u8>(), len) }?;
        let bytes = bytes.ok_or_else(|| invalid("data: null pointer"))?;
        held.0.lock().unwrap_or_else(PoisonError::into_inner).write(&cancel, bytes)
    })
}

/// Saves a model (JSON) with the artefact that was written, and writes its version; otherwise as sop_model_save. It is not run again when it lost
/// against another transaction: then the artefact is to be written again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_upload_save(
    ctx: i64,
    upload: u64,
    model: *const c_char,
    model_len: usize,
    version: *mut u64,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        let cancel = process.contexts.token(ctx)?;
        let held = process.handles.get::<OpenUpload>(upload)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (model, out) = unsafe { (input("model", model, model_len)?, Out::new("version", version)?) };
        let model = json("model", model)?;
        out.set(held.0.lock().unwrap_or_else(PoisonError::into_inner).save(&cancel, model)?);
        Ok(())
    })
}

/// Reads bytes of the artefact of a version (0: the newest one) from offset on into buffer, which has room for len, and writes how many there
/// were: fewer only at the end. No such version, or one without an artefact: SOP_ERROR_CODE_ITEM_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_model_read_artifact(
    ctx: i64,
    store: u64,
    category: *const c_char,
    category_len: usize,
    name: *const c_char,
    name_len: usize,
    version: u64,
    offset: u64,
    buffer: *mut c_void,
    len: usize,
    out: *mut usize,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        if buffer.is_null() || len > isize::MAX as usize {
            return Err(invalid("buffer: null pointer, or its length is impossible"));
        }
        // SAFETY: the caller's part, see the crate's documentation.
        let (named, out) =
            unsafe { (Named::new((category, category_len), (name, name_len))?, Out::new("out", out)?) };
        // What is in it may be uninitialised: it is set before it is a slice.
        // SAFETY: not null, and has room for `len` bytes as the caller promises.
        let buffer = unsafe {
            std::ptr::write_bytes(buffer.cast::<u8>(), 0, len);
            std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len)
        };
        let Named { category, name } = named;
        out.set(held.store.read_artifact(&cancel, category, name, numbered(version), offset, buffer)?);
        Ok(())
    })
}
