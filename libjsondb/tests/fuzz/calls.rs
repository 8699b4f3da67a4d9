//! The calls: each takes its arguments from a step, and checks what comes out.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use jsondb::*;

use crate::program::Kind::{Btree, Database, Model, Transaction, Upload, Vector};
use crate::program::{Kind, Machine, Step, data, len, pointer, terminated};
use crate::texts::*;

/// Name in programs, and what it does.
pub type Call = (&'static str, fn(&mut Machine, Step));

const FLOATS: usize = 64;

/// A call on a handle that gives only its code.
fn plain(m: &mut Machine, s: Step, kind: Kind, call: impl Fn(i64, u64) -> i32) {
    let code = call(m.ctx(s), m.handle(s, kind));
    m.ended(code);
}

/// A call on a handle that gives text.
fn gives(m: &mut Machine, s: Step, kind: Kind, call: impl Fn(i64, u64, *mut *mut std::ffi::c_char) -> i32) {
    let mut out = null_mut();
    // Also without a place for the result.
    let place = if s.twist == 199 { null_mut() } else { &raw mut out };
    let code = call(m.ctx(s), m.handle(s, kind), place);
    m.gave(code, out);
}

/// A call on a handle that gives a number.
fn counts<T: Default>(m: &mut Machine, s: Step, kind: Kind, call: impl Fn(i64, u64, *mut T) -> i32) {
    let mut out = T::default();
    let place = if s.twist == 199 { null_mut() } else { &raw mut out };
    let code = call(m.ctx(s), m.handle(s, kind), place);
    m.ended(code);
}

/// A call on a handle that gives a handle.
fn opens(m: &mut Machine, s: Step, kind: Kind, call: impl Fn(i64, u64, *mut u64) -> i32) {
    let mut out = 0;
    let place = if s.twist == 199 { null_mut() } else { &raw mut out };
    let code = call(m.ctx(s), m.handle(s, kind), place);
    m.opened(code, out);
}

/// Gives a call a progress function that may stop it.
fn with_progress(s: Step, call: impl FnOnce(SopProgress, *mut c_void)) {
    unsafe extern "C" fn report(left: *mut c_void, done: u64, total: u64) -> i32 {
        assert!(done <= total);
        let left = unsafe { &mut *left.cast::<u8>() };
        *left = left.saturating_sub(1);
        i32::from(*left == 0)
    }
    let (mut left, mut cell) = (s.twist, [0, 0, u64::from(s.twist == 2)]);
    let (progress, data): (SopProgress, _) = match s.twist {
        0 => (None, null_mut()),
        1 => (Some(sop_progress_to_cell), null_mut()),
        2 | 3 => (Some(sop_progress_to_cell), (&raw mut cell).cast()),
        _ => (Some(report), (&raw mut left).cast()),
    };
    call(progress, data);
    assert!(cell[0] <= cell[1]);
}

/// A long call on a database.
fn long(
    m: &mut Machine,
    s: Step,
    call: impl Fn(i64, u64, SopProgress, *mut c_void, *mut *mut std::ffi::c_char) -> i32,
) {
    with_progress(s, |progress, data| gives(m, s, Database, |c, h, o| call(c, h, progress, data, o)));
}

/// Where a store that may commit by itself is opened.
fn parent(s: Step) -> Kind {
    if s.twist.is_multiple_of(2) { Database } else { Transaction }
}

fn action(s: Step, first: i32, count: i32) -> i32 {
    if s.twist > 190 { i32::from(s.twist) - 200 } else { first + i32::from(s.twist) % count }
}

/// As many floats as are said, never more than there are.
fn matrix(s: Step) -> (usize, usize, Vec<f32>) {
    let (count, dimension) = ((2 + usize::from(s.text)) % 5, 2 + usize::from(s.twist) % 3);
    let special = [1.0, 0.5, -1.0, f32::NAN, f32::INFINITY, f32::MAX, 1e-40, 0.0];
    let well = s.twist < 128;
    let number = |index: usize| if well { index as f32 + 1.0 } else { special[index % special.len()] };
    (count, dimension, (0..FLOATS).map(number).collect())
}

fn upsert_arrays(m: &mut Machine, s: Step) {
    let ((count, dimension, floats), ids) = (matrix(s), m.text(IDS, s));
    let (count, vectors) = if s.handle == 255 { (usize::MAX, null()) } else { (count, floats.as_ptr()) };
    let (ctx, store) = (m.ctx(s), m.handle(s, Vector));
    let code = unsafe {
        sop_vector_upsert_arrays(ctx, store, data(&ids), len(&ids), count, dimension, vectors, null(), 0)
    };
    m.ended(code);
}

fn query_arrays(m: &mut Machine, s: Step) {
    let ((count, dimension, floats), options) = (matrix(s), m.text(ARRAY_QUERY, s));
    let k = if count == 0 { i64::from(s.handle) << 55 } else { i64::from(s.twist % 16) - 2 };
    let (mut ids, mut scores) = (null_mut(), [0.0f32; FLOATS]);
    let (ctx, store, queries) = (m.ctx(s), m.handle(s, Vector), floats.as_ptr());
    let (options, options_len) = (data(&options), len(&options));
    let code = unsafe {
        let (ids, scores) = (&mut ids, scores.as_mut_ptr());
        sop_vector_query_arrays(ctx, store, count, dimension, queries, k, options, options_len, ids, scores)
    };
    m.gave(code, ids);
}

fn get_arrays(m: &mut Machine, s: Step) {
    let ((count, dimension, mut floats), ids) = (matrix(s), m.text(IDS, s));
    let (mut items, ctx, store) = (null_mut(), m.ctx(s), m.handle(s, Vector));
    let (ids, ids_len, vectors) = (data(&ids), len(&ids), floats.as_mut_ptr());
    let code =
        unsafe { sop_vector_get_arrays(ctx, store, ids, ids_len, count, dimension, &mut items, vectors) };
    m.gave(code, items);
}

fn model(m: &mut Machine, s: Step, call: impl Fn(i64, u64, &Option<Vec<u8>>) -> i32) {
    let text = m.text(ID, s);
    let code = call(m.ctx(s), m.handle(s, Model), &text);
    m.ended(code);
}

/// A call of 2.0.17: context, action, two texts.
type Legacy =
    unsafe extern "C" fn(i64, i32, *const std::ffi::c_char, *const std::ffi::c_char) -> *mut std::ffi::c_char;

fn legacy(m: &mut Machine, s: Step, call: Legacy, action: i32, meta: (&[&str], [Kind; 2]), payload: &[&str]) {
    // One text is hostile at a time: else the second were never looked at.
    let first = m.named(meta.0, if s.handle < 200 { Step { text: 0, ..s } } else { s }, meta.1);
    let second = m.named(payload, s, [Transaction, meta.1[1]]);
    let text = unsafe { call(m.ctx(s), action, pointer(&first), pointer(&second)) };
    m.told(text);
}

/// The store a legacy call is about, or, for the actions that open one, the options.
fn store_legacy(m: &mut Machine, s: Step, call: Legacy, actions: &[i32], kind: Kind) {
    let plausible = actions.get(usize::from(s.text)).copied();
    let action = if s.twist == 0 { plausible.unwrap_or(0) } else { action(s, 0, 13) };
    let meta = if kind == Btree && s.text == 0 {
        OPEN_META
    } else if kind == Btree {
        META
    } else {
        &META[1..]
    };
    let is_open = kind != Btree && s.text >= 10;
    let meta = if is_open { (&UUID[..1], [Database, kind]) } else { (meta, [Transaction, kind]) };
    legacy(m, s, call, action, meta, PAYLOAD);
}

pub const CALLS: &[Call] = &[
    ("open", |m, s| {
        let (options, mut out) = (m.database_options(s), 0);
        let code = unsafe { sop_database_open(m.ctx(s), data(&options), len(&options), &mut out) };
        m.opened(code, out);
    }),
    ("begin", |m, s| {
        let mode = [1, 2, 0, 1, 7][usize::from(s.twist) % 5];
        let minutes = [0.0, 1.0, f64::NAN, f64::INFINITY, -1.0, 1e-9, 1e300][usize::from(s.text) % 7];
        opens(m, s, Database, |c, h, o| unsafe { sop_transaction_begin(c, h, mode, minutes, o) });
    }),
    ("commit", |m, s| plain(m, s, Transaction, |c, h| sop_transaction_commit(c, h))),
    ("rollback", |m, s| plain(m, s, Transaction, |c, h| sop_transaction_rollback(c, h))),
    ("is_active", |m, s| counts(m, s, Transaction, |_, h, o| unsafe { sop_transaction_is_active(h, o) })),
    ("close", |m, s| plain(m, s, Database, |c, h| sop_database_close(c, h))),
    ("verify", |m, s| long(m, s, |c, h, p, d, o| unsafe { sop_database_verify(c, h, p, d, o) })),
    ("compact", |m, s| long(m, s, |c, h, p, d, o| unsafe { sop_database_compact(c, h, p, d, o) })),
    ("status", |m, s| gives(m, s, Database, |c, h, o| unsafe { sop_database_status(c, h, o) })),
    ("scrub", |m, s| long(m, s, |c, h, p, d, o| unsafe { sop_database_scrub(c, h, p, d, o) })),
    ("repair", |m, s| {
        let missing_only = action(s, 0, 2);
        long(m, s, |c, h, p, d, o| unsafe { sop_database_repair(c, h, missing_only, p, d, o) });
    }),
    ("reinstate", |m, s| {
        let t = m.text(&[r#"{"lost": []}"#, r#"{"lost": [0, 7]}"#], s);
        long(m, s, |c, h, p, d, o| unsafe { sop_database_reinstate(c, h, data(&t), len(&t), p, d, o) });
    }),
    ("backup", |m, s| {
        let (t, check) = (m.backup_target(s), action(s, 0, 2));
        long(m, s, |c, h, p, d, o| unsafe { sop_database_backup(c, h, data(&t), len(&t), check, p, d, o) });
    }),
    ("info", |m, s| gives(m, s, Database, |c, h, o| unsafe { sop_database_info(c, h, o) })),
    ("stores", |m, s| gives(m, s, Database, |c, h, o| unsafe { sop_database_stores(c, h, o) })),
    ("release", |m, s| sop_handle_release(m.handle(s, Btree))),
    ("release_transaction", |m, s| sop_handle_release(m.handle(s, Transaction))),
    ("handle_count", |_, _| assert!(sop_handle_count() < 1000 && !sop_version().is_null())),
    ("uuid", |m, s| {
        let (handle, mut out) = (m.handle(s, Model), null_mut());
        let code = unsafe { sop_handle_uuid(handle, &mut out) };
        m.ended(code);
        unsafe { freeString(out) };
    }),
    ("btree_new", |m, s| {
        let t = m.text(OPTIONS, s);
        opens(m, s, Transaction, |c, h, o| unsafe { sop_btree_new(c, h, data(&t), len(&t), o) });
    }),
    ("btree_open", |m, s| {
        let t = m.text(NAMES, s);
        opens(m, s, Transaction, |c, h, o| unsafe { sop_btree_open(c, h, data(&t), len(&t), o) });
    }),
    ("btree_info", |m, s| gives(m, s, Btree, |c, h, o| unsafe { sop_btree_info(c, h, o) })),
    ("btree_count", |m, s| counts(m, s, Btree, |c, h, o| unsafe { sop_btree_count(c, h, o) })),
    ("btree_write", |m, s| {
        let (t, a) = (m.text(ITEMS, s), action(s, 3, 4));
        counts(m, s, Btree, |c, h, o| unsafe { sop_btree_write(c, h, a, data(&t), len(&t), o) });
    }),
    ("btree_remove", |m, s| {
        let t = m.text(KEYS, s);
        counts(m, s, Btree, |c, h, o| unsafe { sop_btree_remove(c, h, data(&t), len(&t), o) });
    }),
    ("btree_find", |m, s| {
        let t = m.text(KEY, s);
        let id = terminated(m.text(UUID, s)).filter(|_| s.twist % 4 == 1);
        counts(m, s, Btree, |c, h, o| unsafe { sop_btree_find(c, h, data(&t), len(&t), pointer(&id), o) });
    }),
    ("btree_find_one", |m, s| {
        let t = m.text(KEY, s);
        gives(m, s, Btree, |c, h, o| unsafe { sop_btree_find_one(c, h, data(&t), len(&t), 1, o) });
    }),
    ("btree_step", |m, s| {
        let a = action(s, 0, 4);
        counts(m, s, Btree, |c, h, o| unsafe { sop_btree_step(c, h, a, o) });
    }),
    ("btree_current", |m, s| gives(m, s, Btree, |c, h, o| unsafe { sop_btree_current(c, h, o) })),
    ("btree_update_current", |m, s| {
        let t = m.text(KEY, s);
        counts(m, s, Btree, |c, h, o| unsafe { sop_btree_update_current(c, h, data(&t), len(&t), o) });
    }),
    ("btree_remove_current", |m, s| {
        counts(m, s, Btree, |c, h, o| unsafe { sop_btree_remove_current(c, h, o) });
    }),
    ("btree_page", |m, s| {
        let (t, values) = (m.text(PAGING, s), i32::from(s.twist % 2));
        gives(m, s, Btree, |c, h, o| unsafe { sop_btree_page(c, h, data(&t), len(&t), values, o) });
    }),
    ("btree_values", |m, s| {
        let t = m.text(ITEMS, s);
        gives(m, s, Btree, |c, h, o| unsafe { sop_btree_values(c, h, data(&t), len(&t), o) });
    }),
    ("btree_range", |m, s| {
        let t = m.text(RANGE, s);
        gives(m, s, Btree, |c, h, o| unsafe { sop_btree_range(c, h, data(&t), len(&t), o) });
    }),
    ("vector_open", |m, s| {
        let t = m.text(VECTOR_OPTIONS, s);
        opens(m, s, parent(s), |c, h, o| unsafe { sop_vector_open(c, h, data(&t), len(&t), o) });
    }),
    ("vector_upsert", |m, s| {
        let t = m.text(VECTORS, s);
        let code = unsafe { sop_vector_upsert(m.ctx(s), m.handle(s, Vector), data(&t), len(&t)) };
        m.ended(code);
    }),
    ("vector_upsert_arrays", upsert_arrays),
    ("vector_get", |m, s| {
        let t = m.text(ID, s);
        gives(m, s, Vector, |c, h, o| unsafe { sop_vector_get(c, h, data(&t), len(&t), o) });
    }),
    ("vector_get_many", |m, s| {
        let t = m.text(IDS, s);
        gives(m, s, Vector, |c, h, o| unsafe { sop_vector_get_many(c, h, data(&t), len(&t), o) });
    }),
    ("vector_get_arrays", get_arrays),
    ("vector_ids", |m, s| {
        let t = m.text(ID_RANGE, s);
        gives(m, s, Vector, |c, h, o| unsafe { sop_vector_ids(c, h, data(&t), len(&t), o) });
    }),
    ("vector_dimension", |m, s| counts(m, s, Vector, |c, h, o| unsafe { sop_vector_dimension(c, h, o) })),
    ("vector_delete", |m, s| {
        let t = m.text(IDS, s);
        let code = unsafe { sop_vector_delete(m.ctx(s), m.handle(s, Vector), data(&t), len(&t)) };
        m.ended(code);
    }),
    ("vector_count", |m, s| counts(m, s, Vector, |c, h, o| unsafe { sop_vector_count(c, h, o) })),
    ("vector_query", |m, s| {
        let t = m.text(QUERY, s);
        gives(m, s, Vector, |c, h, o| unsafe { sop_vector_query(c, h, data(&t), len(&t), o) });
    }),
    ("vector_query_arrays", query_arrays),
    ("vector_optimize", |m, s| {
        with_progress(s, |p, d| plain(m, s, Vector, |c, h| unsafe { sop_vector_optimize(c, h, p, d) }))
    }),
    ("vector_stats", |m, s| gives(m, s, Vector, |c, h, o| unsafe { sop_vector_stats(c, h, o) })),
    ("model_open", |m, s| {
        let t = m.text(NAMES, s);
        opens(m, s, parent(s), |c, h, o| unsafe { sop_model_open(c, h, data(&t), len(&t), o) });
    }),
    ("model_save", |m, s| {
        let value = m.text(MODEL, s);
        model(m, s, |c, h, t| unsafe {
            sop_model_save(c, h, data(t), len(t), data(t), len(t), data(&value), len(&value), &mut 0)
        });
    }),
    ("model_get", |m, s| {
        let (t, version) = (m.text(ID, s), u64::from(s.twist % 4));
        gives(m, s, Model, |c, h, o| unsafe {
            sop_model_get(c, h, data(&t), len(&t), data(&t), len(&t), version, o)
        });
    }),
    ("model_versions", |m, s| {
        let t = m.text(ID, s);
        gives(m, s, Model, |c, h, o| unsafe {
            sop_model_versions(c, h, data(&t), len(&t), data(&t), len(&t), o)
        });
    }),
    ("model_active", |m, s| {
        model(m, s, |c, h, t| unsafe { sop_model_active(c, h, data(t), len(t), data(t), len(t), &mut 0) });
    }),
    ("model_promote", |m, s| {
        let version = u64::from(s.twist % 4);
        model(m, s, |c, h, t| unsafe { sop_model_promote(c, h, data(t), len(t), data(t), len(t), version) });
    }),
    ("model_categories", |m, s| gives(m, s, Model, |c, h, o| unsafe { sop_model_categories(c, h, o) })),
    ("model_upload", |m, s| {
        let t = m.text(ID, s);
        opens(m, s, Model, |c, h, o| unsafe {
            sop_model_upload(c, h, data(&t), len(&t), data(&t), len(&t), data(&t), len(&t), o)
        });
    }),
    ("model_upload_write", |m, s| {
        let bytes = m.text(MODEL, s);
        let (pointer, count) = (data(&bytes).cast(), bytes.as_ref().map_or(7, Vec::len));
        plain(m, s, Upload, |c, h| unsafe { sop_model_upload_write(c, h, pointer, count) });
    }),
    ("model_upload_save", |m, s| {
        let value = m.text(MODEL, s);
        plain(m, s, Upload, |c, h| unsafe { sop_model_upload_save(c, h, data(&value), len(&value), &mut 0) });
    }),
    ("model_read_artifact", |m, s| {
        let offset = u64::from(s.text);
        model(m, s, |c, h, t| unsafe {
            let (mut buffer, mut count) = ([0u8; 64], 0);
            let room = buffer.as_mut_ptr().cast();
            let (text, length) = (data(t), len(t));
            sop_model_read_artifact(c, h, text, length, text, length, 0, offset, room, 64, &mut count)
        });
    }),
    ("model_delete", |m, s| {
        let version = u64::from(s.twist % 3);
        model(m, s, |c, h, t| unsafe { sop_model_delete(c, h, data(t), len(t), data(t), len(t), version) });
    }),
    ("model_list", |m, s| {
        let t = m.text(ID, s);
        gives(m, s, Model, |c, h, o| unsafe { sop_model_list(c, h, data(&t), len(&t), o) });
    }),
    ("redis_open", |m, s| {
        let t = m.text(REDIS, Step { text: s.text % 64, ..s });
        let code = unsafe { sop_redis_open(data(&t), len(&t)) };
        m.ended(code);
    }),
    ("redis_close", |m, _| {
        let code = sop_redis_close();
        m.ended(code);
    }),
    ("redis_open_legacy", |m, s| {
        let t = terminated(m.text(REDIS, Step { text: s.text % 64, ..s }));
        let text = unsafe { openRedisConnection(pointer(&t)) };
        m.told(text);
    }),
    ("redis_close_legacy", |m, _| {
        let text = closeRedisConnection();
        m.told(text);
    }),
    ("create_context", |m, _| {
        let context = createContext();
        m.contexts.push(context);
    }),
    ("cancel_context", |m, s| cancelContext(m.ctx(Step { twist: s.twist.max(200), ..s }))),
    ("remove_context", |m, s| removeContext(m.ctx(Step { twist: s.twist.max(200), ..s }))),
    ("context_error", |m, s| unsafe { freeString(contextError(m.ctx(s))) }),
    ("last_error", |_, _| unsafe { freeString(sop_last_error()) }),
    ("database", |m, s| {
        let options = terminated(m.database_options(s));
        let text = unsafe { manageDatabase(m.ctx(s), 1, null(), pointer(&options)) };
        m.told(text);
    }),
    ("begin_legacy", |m, s| legacy(m, s, manageDatabase, 2, (&UUID[..1], [Database, Transaction]), BEGIN)),
    ("close_legacy", |m, s| {
        let action = [3, 3, 2, 0, 4][usize::from(s.twist) % 5];
        legacy(m, s, manageDatabase, action, (&UUID[..1], [Database, Transaction]), BEGIN);
    }),
    ("end_legacy", |m, s| {
        let transaction = m.named(UUID, s, [Transaction, Database]);
        let text = unsafe { manageTransaction(m.ctx(s), action(s, 3, 2), pointer(&transaction)) };
        m.told(text);
    }),
    ("btree_legacy", |m, s| {
        let actions = [1, 3, 7, 6];
        store_legacy(m, s, manageBtree, &actions, Btree);
    }),
    ("navigate", |m, s| {
        let action = [8, 9, 13, 14, 15][usize::from(s.twist) % 5];
        legacy(m, s, navigateBtree, action, (META, [Transaction, Btree]), PAYLOAD);
    }),
    ("get_from", |m, s| {
        let meta = m.named(META, s, [Transaction, Btree]);
        let payload = terminated(m.text(if s.handle < 100 { PAGING } else { PAYLOAD }, s));
        let action = action(s, 10, 8);
        let given = unsafe { getFromBtree(m.ctx(s), action, pointer(&meta), pointer(&payload)) };
        assert!(given.r0.is_null() != given.r1.is_null());
        let code = sop_last_error_code();
        assert_eq!(code == 0, given.r1.is_null());
        m.gave(code, given.r0);
        unsafe { freeString(given.r1) };
    }),
    ("is_unique", |m, s| {
        let meta = m.named(META, s, [Transaction, Btree]);
        let text = unsafe { isUniqueBtree(pointer(&meta)) };
        m.told(text);
    }),
    ("item_count", |m, s| {
        let meta = m.named(META, s, [Transaction, Btree]);
        let given = unsafe { getBtreeItemCount(pointer(&meta)) };
        m.ended(sop_last_error_code());
        unsafe { freeString(given.r1) };
    }),
    ("vector_legacy", |m, s| {
        let actions = [8, 10, 11, 8, 4, 3, 5, 7, 8, 6, 2];
        store_legacy(m, s, manageVectorDB, &actions, Vector);
    }),
    ("model_legacy", |m, s| {
        let actions = [6, 6, 6, 6, 6, 6, 6, 6, 4, 6, 1, 1];
        store_legacy(m, s, manageModelStore, &actions, Model);
    }),
    ("flush", |m, s| plain(m, s, Database, |c, h| sop_database_flush(c, h))),
    ("set_durability", |m, s| {
        let durability = action(s, 0, 2);
        plain(m, s, Transaction, |_, h| sop_transaction_set_durability(h, durability));
    }),
    ("btree_put_columns", |m, s| {
        let (t, a, count) = (m.text(KEY, s), action(s, 3, 4), usize::from(s.twist) % 3);
        let lens = [len(&t) as u32, u32::from(s.twist)];
        counts(m, s, Btree, |c, h, o| unsafe {
            let column = (data(&t), len(&t), lens.as_ptr());
            sop_btree_put_columns(
                c, h, a, count, column.0, column.1, column.2, column.0, column.1, column.2, o,
            )
        });
    }),
    ("btree_get_columns", |m, s| {
        let (t, count) = (m.text(KEY, s), usize::from(s.twist) % 3);
        let lens = [len(&t) as u32, u32::from(s.twist)];
        let (mut found, mut out) = ([0; 2], null_mut());
        let (context, store) = (m.ctx(s), m.handle(s, Btree));
        let code = unsafe {
            let found = found.as_mut_ptr();
            sop_btree_get_columns(context, store, count, data(&t), len(&t), lens.as_ptr(), found, &mut out)
        };
        m.ended(code);
        unsafe { freeString(out) };
    }),
];
