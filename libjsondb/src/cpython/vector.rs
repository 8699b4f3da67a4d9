//! The builtin functions of `sop.ai.VectorStore`: the calls that carry vectors, ids and payloads, without JSON text of them.
//!
//! A function that meets an argument in another form, a matrix of doubles say, answers None; the package goes the way over the C ABI
//! then, which says what is wrong with it, if anything.

use std::sync::Arc;

use serde_json::value::RawValue;
use stores::{ArrayQueryOptions, CancelToken, Hit, QueryOptions, VectorStore};

use super::api::Py;
use super::bind::{Bind, kind};
use super::buffer::Floats;
use super::codec;
use super::encode::{Integer, integer_of, text};
use super::function::{Arguments, Bound, Failure, Outcome, builtin, new, without_gil};
use super::iterate::for_each_of_list;
use super::map::number;
use super::map_read::list;
use super::owned::Owned;
use super::tuple;
use crate::handles::OpenStore;
use crate::process;
use crate::strings::invalid;

builtin!(UPSERT_ARRAYS, c"vector_upsert_arrays", (), upsert_arrays);
builtin!(QUERY, c"vector_query", (), query);
builtin!(QUERY_ARRAYS, c"vector_query_arrays", (), query_arrays);

type Held = Arc<OpenStore<VectorStore>>;

/// The context's token and the store of a call.
fn enter(bind: &Bind, context: Option<Py>, store: Option<Py>) -> Result<(CancelToken, Held), Failure> {
    let process = process::current();
    let (context, store) = (number(bind, context)? as i64, number(bind, store)?);
    let found = process.contexts.token(context).and_then(|cancel| Ok((cancel, process.handles.get(store)?)));
    found.map_err(Failure::Plain)
}

/// `vector_upsert_arrays(context, store, ids, vectors, payloads)`: True when it is done; None when it was not tried.
fn upsert_arrays(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let names = ["context", "store", "ids", "vectors", "payloads"];
    let [context, store, ids, vectors, payloads] = arguments.take(names, 5)?;
    let (cancel, held) = enter(bind, context, store)?;
    let or_none = |object: Option<Py>| object.unwrap_or(bind.objects.none);
    let (Some(vectors), Some(ids)) = (Floats::of(bind, or_none(vectors)), ids_of(bind, or_none(ids))?) else {
        return Ok(bind.none());
    };
    let Some((rows, dimension)) = vectors.rows_and_columns().filter(|(rows, _)| *rows == ids.len()) else {
        return Ok(bind.none());
    };
    let payloads = match payloads.filter(|payloads| *payloads != bind.objects.none) {
        None => None,
        Some(payloads) => match payloads_of(bind, payloads)? {
            Some(payloads) if payloads.len() == rows => Some(payloads),
            _ => return Ok(bind.none()),
        },
    };
    let numbers = vectors.as_slice();
    without_gil(bind, || held.store.upsert_arrays(&cancel, &ids, dimension, numbers, payloads))
        .map_err(Failure::Plain)?;
    Ok(bind.truth(true))
}

/// The texts of a list of str; None for all else.
fn ids_of(bind: &Bind, ids: Py) -> Result<Option<Vec<String>>, Failure> {
    let mut texts = Vec::new();
    let is_plain = for_each_of_list(bind, ids, |id| {
        let id = if kind(id) == bind.objects.str { text(bind, id).ok() } else { None };
        texts.extend(id.map(str::to_owned));
        Ok(id.is_some())
    })?;
    Ok(is_plain.then_some(texts))
}

/// The JSON texts of a list of values; None for all else. Python code may run.
fn payloads_of(bind: &Bind, payloads: Py) -> Result<Option<Vec<Box<RawValue>>>, Failure> {
    let (mut texts, mut buffer) = (Vec::new(), Vec::with_capacity(256));
    let is_list = for_each_of_list(bind, payloads, |payload| {
        buffer.clear();
        codec::write(bind, payload, "the payloads", &mut buffer).map_err(plain)?;
        let text = serde_json::from_slice(&buffer)
            .map_err(|error| Failure::Plain(invalid(format!("a payload is not JSON: {error}"))))?;
        texts.push(text);
        Ok(true)
    })?;
    Ok(is_list.then_some(texts))
}

fn plain(failure: Failure) -> Failure {
    match failure {
        Failure::Store(error) => Failure::Plain(error),
        other => other,
    }
}

/// `vector_query(context, store, vector, k, options)`: a list of (id, score, payload); None when it was not tried.
fn query(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let [context, store, vector, k, options] =
        arguments.take(["context", "store", "vector", "k", "options"], 5)?;
    let (cancel, held) = enter(bind, context, store)?;
    let Some(vector) = vector_of(bind, vector.unwrap_or(bind.objects.none)) else {
        return Ok(bind.none());
    };
    let ArrayQueryOptions { filter, nprobe, target_recall, exact, centroid_ids, .. } =
        read_options(bind, options)?;
    let k = hits_max(bind, k)?;
    let options = QueryOptions { vector, k, filter, nprobe, target_recall, exact, centroid_ids };
    let hits = without_gil(bind, || held.store.query(&cancel, &options)).map_err(Failure::Plain)?;
    list(bind, hits.len(), hits.iter(), |hit| hit_of(bind, hit))
}

/// A tuple of a hit. Python code may run.
fn hit_of(bind: &Bind, hit: &Hit) -> Outcome {
    let payload = match &hit.payload {
        Some(payload) => codec::read(bind, payload.get().as_bytes())?,
        None => bind.none(),
    };
    let payload = Owned::new(bind, payload);
    let id = Owned::new(bind, new(bind.new_str(hit.id.as_bytes()))?);
    // SAFETY: the GIL is held.
    let score = new(unsafe { (bind.api.PyFloat_FromDouble)(hit.score.into()) })?;
    tuple(bind, &[id.into_inner(), score, payload.into_inner()])
}

/// One vector: float32 in a row, or a list or tuple of floats and ints.
fn vector_of(bind: &Bind, object: Py) -> Option<Vec<f32>> {
    let (api, objects) = (&bind.api, &bind.objects);
    let (len, at): (isize, unsafe extern "C" fn(Py, isize) -> Py) = if kind(object) == objects.list {
        // SAFETY: it is a list; the GIL is held.
        (unsafe { (api.PyList_Size)(object) }, api.PyList_GetItem)
    } else if kind(object) == objects.tuple {
        // SAFETY: it is a tuple; the GIL is held.
        (unsafe { (api.PyTuple_Size)(object) }, api.PyTuple_GetItem)
    } else {
        let floats = Floats::of(bind, object)?;
        return (floats.shape().len() == 1).then(|| floats.as_slice().to_vec());
    };
    let mut vector = Vec::with_capacity(len as usize);
    for index in 0..len {
        // SAFETY: no Python code runs here that could change its length.
        let element = unsafe { at(object, index) };
        vector.push(if kind(element) == objects.float {
            // SAFETY: it is a float; the GIL is held.
            unsafe { (api.PyFloat_AsDouble)(element) as f32 }
        } else if kind(element) == objects.int {
            match integer_of(bind, element).ok()? {
                Integer::Signed(integer) => integer as f32,
                Integer::Unsigned(integer) => integer as f32,
            }
        } else {
            return None;
        });
    }
    Some(vector)
}

/// `vector_query_arrays(context, store, queries, k, options, scores)`: a list of ids for each query, the scores are written; None when
/// it was not tried.
fn query_arrays(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let names = ["context", "store", "queries", "k", "options", "scores"];
    let [context, store, queries, k, options, scores] = arguments.take(names, 6)?;
    let (cancel, held) = enter(bind, context, store)?;
    let or_none = |object: Option<Py>| object.unwrap_or(bind.objects.none);
    let floats = (Floats::of(bind, or_none(queries)), Floats::to_write(bind, or_none(scores)));
    let (Some(queries), Some(mut scores)) = floats else { return Ok(bind.none()) };
    let Some((rows, dimension)) = queries.rows_and_columns() else { return Ok(bind.none()) };
    let options = read_options(bind, options)?;
    let k = hits_max(bind, k)?;
    let numbers = queries.as_slice();
    let (ids, found) =
        without_gil(bind, || held.store.query_arrays(&cancel, dimension, numbers, k, &options))
            .map_err(Failure::Plain)?;
    if !scores.write(&found) {
        return Err(Failure::Plain(invalid("the scores have another number of places than there are hits")));
    }
    let width = ids.len() / rows.max(1);
    list(bind, rows, 0..rows, |row| {
        let ids = ids[row * width..][..width].iter().filter(|id| !id.is_empty());
        list(bind, width, ids, |id| new(bind.new_str(id.as_bytes())))
    })
}

/// JSON text of options; None: those by default.
fn read_options(bind: &Bind, options: Option<Py>) -> Result<ArrayQueryOptions, Failure> {
    match options.filter(|options| *options != bind.objects.none) {
        None => Ok(ArrayQueryOptions::default()),
        Some(options) => serde_json::from_slice(codec::bytes(bind, options)?)
            .map_err(|error| Failure::Plain(invalid(format!("query options: {error}")))),
    }
}

/// The number of hits asked for, which the package has checked to be an int: as for the C ABI, none below 1.
fn hits_max(bind: &Bind, k: Option<Py>) -> Result<i64, Failure> {
    Ok(match integer_of(bind, k.unwrap_or(bind.objects.none)) {
        Ok(Integer::Signed(k)) => k,
        Ok(Integer::Unsigned(_)) => i64::MAX,
        Err(_) => return Err(Failure::Plain(invalid("k has at most 64 bits"))),
    })
}
