//! Vector stores.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use stores::{
    ArrayQueryOptions, CancelToken, Error, ErrorCode, IdRange, Progress, QueryOptions, Result, Session,
    VectorItem, VectorOptions, VectorStore,
};

use crate::boundary;
use crate::handles::{Kind, Missing, Object, OpenStore};
use crate::maintenance::{SopProgress, with_progress};
use crate::process::{self, Process};
use crate::strings::{Out, input, invalid, json, optional_input, slice, to_json};

type Held = Arc<OpenStore<VectorStore>>;

/// The context's token and the store of a call.
fn enter(ctx: i64, store: u64) -> Result<(CancelToken, Held)> {
    let process = process::current();
    Ok((process.contexts.token(ctx)?, process.handles.get::<OpenStore<VectorStore>>(store)?))
}

/// Where the calls of a store run: in the transaction of a handle, or each in one of its own on the database of a handle.
pub(crate) fn session(process: &Process, database_or_transaction: u64) -> Result<Session> {
    let missing = match process.handles.find_any(database_or_transaction) {
        Ok(Object::Database(held)) => return Ok(Session::Auto(held.database.clone())),
        Ok(Object::Transaction(held)) => return Ok(Session::In(held.transaction.clone())),
        Ok(other) => Missing::Other(other.kind()),
        Err(missing) => missing,
    };
    Err(missing.error(database_or_transaction, Some(Kind::Database)))
}

#[derive(Deserialize)]
struct OpenOptions {
    name: String,
    #[serde(flatten)]
    options: VectorOptions,
}

/// Opens a vector store, creating it with its first vector. With a database handle each call commits by itself; with a
/// transaction handle calls run inside it. Options (JSON): "name", "usage_mode" (0 BuildOnceQueryMany,
/// 1 DynamicWithVectorCountTracking, 2 Dynamic), "metric" (0 cosine, 1 dot product, 2 L2; a store keeps the one it is made with,
/// calls with another fail), "content_size".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_open(
    ctx: i64,
    database_or_transaction: u64,
    options: *const c_char,
    options_len: usize,
    out: *mut u64,
) -> i32 {
    boundary::code(|| {
        let process = process::current();
        process.contexts.token(ctx)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (options, out) = unsafe { (input("options", options, options_len)?, Out::new("out", out)?) };
        let OpenOptions { name, options } = json("vector store options", options)?;
        let store = VectorStore::open(session(process, database_or_transaction)?, &name, options)?;
        out.set(process.handles.insert(OpenStore { store, parent: database_or_transaction })?);
        Ok(())
    })
}

/// Adds or replaces items, a JSON array of {"id":"..","vector":[..],"payload":..,"centroid_id":0}. All or none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_upsert(
    ctx: i64,
    store: u64,
    items: *const c_char,
    items_len: usize,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let items = unsafe { input("items", items, items_len) }?;
        let items: Vec<VectorItem> = json("items", items)?;
        held.store.upsert(&cancel, &items)
    })
}

/// As sop_vector_upsert, for `count` vectors of `dimension` floats, one after the other. Ids: a JSON array of `count`
/// texts. Payloads: a JSON array of `count` values, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_upsert_arrays(
    ctx: i64,
    store: u64,
    ids: *const c_char,
    ids_len: usize,
    count: usize,
    dimension: usize,
    vectors: *const f32,
    payloads: *const c_char,
    payloads_len: usize,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (ids, vectors, payloads) = unsafe {
            let vectors = matrix("vectors", vectors, count, dimension)?;
            (input("ids", ids, ids_len)?, vectors, optional_input("payloads", payloads, payloads_len)?)
        };
        let ids: Vec<String> = json("ids", ids)?;
        if ids.len() != count {
            return Err(invalid(format!("ids: {} for {count} vectors", ids.len())));
        }
        let payloads: Option<Vec<Box<RawValue>>> = payloads.map(|text| json("payloads", text)).transpose()?;
        if let Some(payloads) = payloads.as_ref().filter(|payloads| payloads.len() != count) {
            return Err(invalid(format!("payloads: {} for {count} vectors", payloads.len())));
        }
        held.store.upsert_arrays(&cancel, &ids, dimension, vectors, payloads)
    })
}

/// `count` rows of `dimension` floats.
///
/// # Safety
/// `data` is NULL or points to so many floats that stay as they are while the result is used.
unsafe fn matrix<'a>(what: &str, data: *const f32, count: usize, dimension: usize) -> Result<&'a [f32]> {
    let len = floats(what, count, dimension)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: the same contract.
    unsafe { slice(what, data, len) }?.ok_or_else(|| invalid(format!("{what}: null pointer")))
}

/// The numbers of `count` rows of `dimension`.
fn floats(what: &str, count: usize, dimension: usize) -> Result<usize> {
    let product = count.checked_mul(dimension);
    product.ok_or_else(|| invalid(format!("{what}: {count} by {dimension} is impossible")))
}

/// Writes an item as JSON, {"ID":"..","Vector":[..],"Payload":..,"CentroidID":0}; missing: SOP_ERROR_CODE_ITEM_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_get(
    ctx: i64,
    store: u64,
    id: *const c_char,
    id_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (id, out) = unsafe { (input("id", id, id_len)?, Out::new("out", out)?) };
        out.set_text(&to_json(&held.store.get(&cancel, id)?)?);
        Ok(())
    })
}

/// Writes the items of ids, a JSON array of texts, as a JSON array in their order: as for sop_vector_get, null for one that is missing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_get_many(
    ctx: i64,
    store: u64,
    ids: *const c_char,
    ids_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (ids, out) = unsafe { (input("ids", ids, ids_len)?, Out::new("out", out)?) };
        let ids: Vec<String> = json("ids", ids)?;
        out.set_text(&to_json(&held.store.get_many(&cancel, &ids)?)?);
        Ok(())
    })
}

/// As sop_vector_get_many, of `count` ids. Writes those items that are there, without "Vector", and their vectors of `dimension` floats, one after
/// the other, to `out_vectors`, which the caller owns and has room for `count`. See sop_vector_dimension.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_get_arrays(
    ctx: i64,
    store: u64,
    ids: *const c_char,
    ids_len: usize,
    count: usize,
    dimension: usize,
    out_items: *mut *mut c_char,
    out_vectors: *mut f32,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (ids, out_items) = unsafe { (input("ids", ids, ids_len)?, Out::new("out_items", out_items)?) };
        // SAFETY: the caller's part: writable for count * dimension floats.
        let out_vectors =
            unsafe { OutArray::new("out_vectors", out_vectors, floats("vectors", count, dimension)?) }?;
        let ids: Vec<String> = json("ids", ids)?;
        if ids.len() != count {
            return Err(invalid(format!("ids: {} for room for {count}", ids.len())));
        }
        let (items, vectors) = held.store.get_arrays(&cancel, &ids, dimension)?;
        let items = to_json(&items)?;
        out_vectors.set(&vectors)?;
        out_items.set_text(&items);
        Ok(())
    })
}

/// Reads the ids in order of their bytes, in batches. Range (JSON): "start" (inclusive), "stop" (exclusive), left out or null when open; "limit"
/// (1000); "resume", as the batch before gave it. Writes {"ids":[..],"resume":".."}; after the last one resume is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_ids(
    ctx: i64,
    store: u64,
    range: *const c_char,
    range_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (range, out) = unsafe { (input("range", range, range_len)?, Out::new("out", out)?) };
        let range: IdRange = json("range", range)?;
        out.set_text(&to_json(&held.store.ids(&cancel, &range)?)?);
        Ok(())
    })
}

/// Writes the number of floats per vector; 0 before the first one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_dimension(ctx: i64, store: u64, out: *mut i64) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set(held.store.dimension(&cancel)?.cast_signed() as i64);
        Ok(())
    })
}

/// Removes items by id, a JSON array of texts. Unknown ids are ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_delete(ctx: i64, store: u64, ids: *const c_char, ids_len: usize) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let ids: Vec<String> = json("ids", unsafe { input("ids", ids, ids_len) }?)?;
        held.store.delete(&cancel, &ids)
    })
}

/// Writes the number of items.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_count(ctx: i64, store: u64, out: *mut i64) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set(held.store.count(&cancel)?.cast_signed());
        Ok(())
    })
}

/// Writes the items most similar to a vector as a JSON array of {"ID":"..","Score":..,"Payload":..}, best first. A greater score is
/// better: cosine, dot product, or the negative L2 distance. Options (JSON): "vector", "k" (10), "filter" (an object: payload fields and
/// their values, or operators: $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists; $and, $or, $not), "target_recall" (0.95), "nprobe"
/// (clusters to look into), "exact", "centroid_ids".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_query(
    ctx: i64,
    store: u64,
    options: *const c_char,
    options_len: usize,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (options, out) = unsafe { (input("options", options, options_len)?, Out::new("out", out)?) };
        let options: QueryOptions = json("query options", options)?;
        out.set_text(&to_json(&held.store.query(&cancel, &options)?)?);
        Ok(())
    })
}

/// Searches for `count` vectors of `dimension` floats at once. Options (JSON) or NULL: "filter", "target_recall", "nprobe", "exact",
/// "centroid_ids", as for sop_vector_query, and "threads". Writes count * k ids (k less than 0 is 0) as a JSON array, row by row, "" where fewer than k items match, and as many scores to
/// `out_scores`, which the caller owns; NaN where there is no id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_query_arrays(
    ctx: i64,
    store: u64,
    count: usize,
    dimension: usize,
    queries: *const f32,
    k: i64,
    options: *const c_char,
    options_len: usize,
    out_ids: *mut *mut c_char,
    out_scores: *mut f32,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (queries, options, out_ids) = unsafe {
            let queries = matrix("queries", queries, count, dimension)?;
            (queries, optional_input("options", options, options_len)?, Out::new("out_ids", out_ids)?)
        };
        let options: ArrayQueryOptions = json("query options", options.unwrap_or("{}"))?;
        // As for one query: none for less than 1.
        let len = count.checked_mul(usize::try_from(k).unwrap_or(0));
        let len = len.ok_or_else(|| invalid(format!("k is impossible: {k}")))?;
        // SAFETY: the caller's part: writable for count * k floats.
        let out_scores = unsafe { OutArray::new("out_scores", out_scores, len) }?;
        let (ids, scores) = held.store.query_arrays(&cancel, dimension, queries, k, &options)?;
        let ids = to_json(&ids)?;
        out_scores.set(&scores)?;
        out_ids.set_text(&ids);
        Ok(())
    })
}

/// Where a call puts an array of results.
struct OutArray {
    data: *mut f32,
    len: usize,
}

impl OutArray {
    /// Fails for NULL, unless nothing is to be written.
    ///
    /// # Safety
    /// `data` is NULL or may be written for `len` floats until the call returns.
    unsafe fn new(what: &str, data: *mut f32, len: usize) -> Result<Self> {
        if len > isize::MAX as usize / size_of::<f32>() {
            return Err(invalid(format!("{what}: length {len} is impossible")));
        }
        if len > 0 && (data.is_null() || !data.is_aligned()) {
            return Err(invalid(format!("{what}: null pointer, or its address is not a multiple of 4")));
        }
        Ok(Self { data, len })
    }

    fn set(self, values: &[f32]) -> Result<()> {
        if values.len() > self.len {
            let message = format!("{} numbers where there is room for {}", values.len(), self.len);
            return Err(Error::new(ErrorCode::Internal, message));
        }
        if !values.is_empty() {
            // SAFETY: not null and aligned by `new`, writable for `len` floats as its caller promised; `values` is memory
            // of this library and so elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.data, values.len()) };
        }
        Ok(())
    }
}

/// Rebuilds the clustering. Pending writes of the transaction are committed; it stays usable. Readers and writers go on. progress, which
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_optimize(
    ctx: i64,
    store: u64,
    progress: SopProgress,
    user_data: *mut c_void,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        let build = |p: &mut Progress<'_>| held.store.optimize_telling(&cancel, p);
        // SAFETY: the caller's part, see the crate's documentation.
        unsafe { with_progress(&cancel, progress, user_data, build) }
    })
}

/// Writes how the items spread over the clusters, as JSON: {"count":..,"centroids":[{"id":..,"count":..,
/// "explicit":..}],"skew":..,"usage_mode":..,"dimension":..}.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_vector_stats(ctx: i64, store: u64, out: *mut *mut c_char) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, store)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let out = unsafe { Out::new("out", out) }?;
        out.set_text(&to_json(&held.store.stats(&cancel)?)?);
        Ok(())
    })
}
