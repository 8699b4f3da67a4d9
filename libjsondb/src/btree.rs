//! B-tree stores. Keys, values and items are JSON; an item is {"key":..,"value":..,"id":".."}.

use std::ffi::c_char;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use stores::{Btree, BtreeOptions, CancelToken, ItemInput, Move, Paging, RangeQuery, Result};

use crate::actions::{SopMove, SopWriteAction};
use crate::boundary;
use crate::handles::OpenStore;
use crate::process;
use crate::strings::{Out, input, invalid, json, terminated, to_json};
use crate::transaction::OpenTransaction;

/// A range query without a limit gives this many items.
const RANGE_LIMIT_DEFAULT: usize = 1000;

pub(crate) type Held = Arc<OpenStore<Btree>>;

/// The context's token and the store of a call.
pub(crate) fn enter(ctx: i64, btree: u64) -> Result<(CancelToken, Held)> {
    let process = process::current();
    Ok((process.contexts.token(ctx)?, process.handles.get::<OpenStore<Btree>>(btree)?))
}

fn open(
    ctx: i64,
    transaction: u64,
    make: impl FnOnce(&CancelToken, &Arc<stores::Transaction>) -> Result<Btree>,
) -> Result<u64> {
    let process = process::current();
    let cancel = process.contexts.token(ctx)?;
    let held = process.handles.get::<OpenTransaction>(transaction)?;
    let store = make(&cancel, &held.transaction)?;
    process.handles.insert(OpenStore { store, parent: transaction })
}

/// Creates a B-tree, or opens it when it exists with equal options; other options: SOP_ERROR_CODE_STORE_EXISTS.
/// Options (JSON): "name", "is_unique", "slot_length", "description", "is_primitive_key", "index_specification" and the
/// further fields of BtreeOptions in the Python package.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_new(
    ctx: i64,
    transaction: u64,
    options: *const c_char,
    options_len: usize,
    out: *mut u64,
) -> i32 {
    boundary::code(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (options, out) = unsafe { (input("options", options, options_len)?, Out::new("out", out)?) };
        let options: BtreeOptions = json("B-tree options", options)?;
        out.set(open(ctx, transaction, |cancel, transaction| {
            Btree::create_or_open(cancel, transaction, options)
        })?);
        Ok(())
    })
}

/// Opens a B-tree; missing: SOP_ERROR_CODE_STORE_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_open(
    ctx: i64,
    transaction: u64,
    name: *const c_char,
    name_len: usize,
    out: *mut u64,
) -> i32 {
    boundary::code(|| {
        // SAFETY: the caller's part, see the crate's documentation.
        let (name, out) = unsafe { (input("name", name, name_len)?, Out::new("out", out)?) };
        out.set(open(ctx, transaction, |cancel, transaction| Btree::open(cancel, transaction, name))?);
        Ok(())
    })
}

/// Writes the options the B-tree was created with, as JSON.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_info(ctx: i64, btree: u64, out: *mut *mut c_char) -> i32 {
    boundary::code(|| {
        let (_, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set_text(&to_json(&held.store.options())?);
        Ok(())
    })
}

/// Writes the number of items.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_count(ctx: i64, btree: u64, out: *mut i64) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set(held.store.count(&cancel)?.cast_signed());
        Ok(())
    })
}

/// Adds, updates or upserts items, a JSON array of {"key":..,"value":..,"id":".."} (value and id may be left out).
/// Action: SopWriteAction. All items are tried; writes 1 if all succeeded, 0 if some key was there already (add) or was
/// missing (update).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_write(
    ctx: i64,
    btree: u64,
    action: i32,
    items: *const c_char,
    items_len: usize,
    out: *mut i32,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (items, out) = unsafe { (input("items", items, items_len)?, Out::new("out", out)?) };
        let items: Vec<ItemInput<'_>> = json("items", items)?;
        let operation = SopWriteAction::from_number(action)?.operation();
        out.set(held.store.write(&cancel, operation, &items)?.into());
        Ok(())
    })
}

/// Removes items by key, a JSON array of keys. All are tried; writes 1 if all were there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_remove(
    ctx: i64,
    btree: u64,
    keys: *const c_char,
    keys_len: usize,
    out: *mut i32,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (keys, out) = unsafe { (input("keys", keys, keys_len)?, Out::new("out", out)?) };
        let keys: Vec<&RawValue> = json("keys", keys)?;
        out.set(held.store.remove(&cancel, &keys)?.into());
        Ok(())
    })
}

/// Moves the cursor to a key (JSON), and to the item with this id among its duplicates when an id (a UUID, ending with a
/// zero byte) is given. Writes 1 if found; else 0, and the cursor is on the next greater key, or else on the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_find(
    ctx: i64,
    btree: u64,
    key: *const c_char,
    key_len: usize,
    id: *const c_char,
    out: *mut i32,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (key, id, out) =
            unsafe { (input("key", key, key_len)?, terminated("id", id)?, Out::new("out", out)?) };
        let key = json("key", key)?;
        let found = match id {
            Some(id) => held.store.find_with_id(&cancel, key, id)?,
            None => held.store.find(&cancel, key)?,
        };
        out.set(found.into());
        Ok(())
    })
}

/// Moves the cursor to a key (JSON) and writes its item, or NULL when there is none. Of duplicates it is the newest,
/// whatever first_only says: that parameter is there for callers who pass it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_find_one(
    ctx: i64,
    btree: u64,
    key: *const c_char,
    key_len: usize,
    first_only: i32,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (key, out) = unsafe { (input("key", key, key_len)?, Out::new("out", out)?) };
        let item = held.store.find_one(&cancel, json("key", key)?, first_only != 0)?;
        out.set_json_or_null(item.as_ref())
    })
}

/// Moves the cursor: SopMove. Writes 1 if it is on an item now, 0 if there is none in that direction. Without a current
/// item, next is the first and previous the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_step(ctx: i64, btree: u64, step: i32, out: *mut i32) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        let step = match SopMove::from_number(step)? {
            SopMove::First => Move::First,
            SopMove::Last => Move::Last,
            SopMove::Next => Move::Next,
            SopMove::Previous => Move::Previous,
        };
        out.set(held.store.step(&cancel, step)?.into());
        Ok(())
    })
}

/// Writes the item at the cursor, or NULL when the cursor is on none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_current(ctx: i64, btree: u64, out: *mut *mut c_char) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set_json_or_null(held.store.current(&cancel)?.as_ref())
    })
}

/// Sets the value (JSON) of the item at the cursor. Writes 1, or 0 when the cursor is on none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_update_current(
    ctx: i64,
    btree: u64,
    value: *const c_char,
    value_len: usize,
    out: *mut i32,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (value, out) = unsafe { (input("value", value, value_len)?, Out::new("out", out)?) };
        out.set(held.store.update_current(&cancel, json("value", value)?)?.into());
        Ok(())
    })
}

/// Removes the item at the cursor. Writes 1, or 0 when the cursor is on none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_remove_current(ctx: i64, btree: u64, out: *mut i32) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set(held.store.remove_current(&cancel)?.into());
        Ok(())
    })
}

/// Writes a page of items from the cursor on, as a JSON array, and moves the cursor behind it; after the last item pages
/// are empty until the cursor is moved. Paging (JSON): "page_offset" (pages to skip), "page_size" (20), "fetch_count" (0:
/// page_size), "direction" (0 forward, 1 backward). With with_values 0 all values are null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_page(
    ctx: i64,
    btree: u64,
    paging: *const c_char,
    paging_len: usize,
    with_values: i32,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (paging, out) = unsafe { (input("paging", paging, paging_len)?, Out::new("out", out)?) };
        let paging: Paging = json("paging", paging)?;
        out.set_text(&to_json(&held.store.page(&cancel, &paging, with_values != 0)?)?);
        Ok(())
    })
}

/// Looks items up by key, and by id where one is given: items as for sop_btree_write. Writes them with their values as a
/// JSON array in the same order; a missing one has the value null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_values(
    ctx: i64,
    btree: u64,
    items: *const c_char,
    items_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (items, out) = unsafe { (input("items", items, items_len)?, Out::new("out", out)?) };
        let items: Vec<ItemInput<'_>> = json("items", items)?;
        out.set_text(&to_json(&held.store.values(&cancel, &items)?)?);
        Ok(())
    })
}

/// The query of `sop_btree_range`.
#[derive(Deserialize)]
struct Range<'a> {
    #[serde(borrow, default)]
    start: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop: Option<&'a RawValue>,
    #[serde(default)]
    reverse: bool,
    #[serde(default)]
    resume: Option<String>,
    limit: Option<i64>,
    #[serde(default = "yes")]
    with_values: bool,
}

fn yes() -> bool {
    true
}

/// Reads a range of keys in batches, without the cursor. Query (JSON): "start" (inclusive) and "stop" (exclusive), keys,
/// left out or null when open; "reverse"; "limit" (1000) and "with_values" (true); "resume", as the batch before gave it. Writes
/// {"items":[..],"resume":".."}. A batch may be shorter than the limit; after the last one resume is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_range(
    ctx: i64,
    btree: u64,
    query: *const c_char,
    query_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (query, out) = unsafe { (input("query", query, query_len)?, Out::new("out", out)?) };
        let Range { start, stop, reverse, resume, limit, with_values } = json("query", query)?;
        let limit = limit.map_or(Ok(RANGE_LIMIT_DEFAULT), usize::try_from);
        let limit = limit.map_err(|_| invalid("query: limit is negative"))?;
        let query = RangeQuery { start, stop, reverse, resume };
        out.set_text(&to_json(&held.store.range(&cancel, &query, limit, with_values)?)?);
        Ok(())
    })
}
