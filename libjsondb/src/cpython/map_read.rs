//! The reading functions of a map.

use std::ops::Bound as Edge;
use std::sync::Arc;

use stores::map::Map;
use stores::{Chunk, Direction, Layout, Rows};

use super::api::Py;
use super::bind::{Bind, give_back};
use super::exit::or_stay;
use super::function::{Arguments, Bound, Failure, Outcome, builtin, new, without_gil};
use super::iterate::for_each;
use super::key;
use super::map::{As, key_object, truth};
use super::owned::Owned;
use crate::strings::invalid;

builtin!(
    GET,
    c"get",
    Arc<Map>,
    get,
    c"get(key, default=None, raw=False)\n--\n\nThe value of a key, or the default."
);
builtin!(CONTAINS, c"contains", Arc<Map>, contains);
builtin!(GET_MANY, c"get_many", Arc<Map>, get_many);
builtin!(COUNT, c"count", Arc<Map>, count);
builtin!(
    PAGE,
    c"page",
    Arc<Map>,
    page,
    c"page(start, count, reverse=False, raw=False)\n--\n\n\
      The first `count` (key, value) with start <= key; with `reverse` the last ones with key < start.\n\n\
      `start` None is the end that the page begins at."
);

/// `get(key, default=None, raw=False)`
fn get(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let (wanted, default, form) = match arguments.only() {
        Some(key) => (key, None, As::Object),
        None => {
            let [key, default, raw] = arguments.take(["key", "default", "raw"], 1)?;
            (key.unwrap_or(bind.objects.none), default, As::of(bind, raw)?)
        }
    };
    let mut value = bind.scratch.take();
    value.clear();
    let outcome = match find(bind, &bound.state, wanted, &mut value) {
        Ok(true) => form.value(bind, &value),
        Ok(false) => Ok(bind.keep(default.unwrap_or(bind.objects.none))),
        Err(failure) => Err(failure),
    };
    give_back(&bind.scratch, value);
    outcome
}

/// `contains(key)`
fn contains(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let [key] = arguments.take(["key"], 1)?;
    let mut value = Vec::new();
    let found = find(bind, &bound.state, key.unwrap_or(bind.objects.none), &mut value)?;
    Ok(bind.truth(found))
}

/// Appends the JSON text of a key's value to `out`; false when there is none. Answers from memory under the GIL, else without.
fn find(bind: &Bind, map: &Map, wanted: Py, out: &mut Vec<u8>) -> Result<bool, Failure> {
    let mut encoded = bind.key_scratch.take();
    encoded.clear();
    let found = key::append(bind, map.layout(), wanted, &mut encoded).and_then(|_| {
        let mut copy = |text: Option<&[u8]>| text.map(|text| out.extend_from_slice(text)).is_some();
        match map.get_cached_with(&encoded, &mut copy)? {
            Some(found) => Ok(found),
            None => Ok(without_gil(bind, || map.get_with(&encoded, &mut copy))?),
        }
    });
    give_back(&bind.key_scratch, encoded);
    found
}

/// `get_many(keys, default=None, raw=False)`
fn get_many(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [keys, default, raw] = arguments.take(["keys", "default", "raw"], 1)?;
    let form = As::of(bind, raw)?;
    let mut chunk = Chunk::default();
    for_each(bind, keys.unwrap_or(bind.objects.none), |object| {
        key::append(bind, map.layout(), object, chunk.buffer())?;
        chunk.end_key_only();
        Ok(())
    })?;
    let mut rows = Rows::default();
    without_gil(bind, || map.get_many(&chunk, &mut rows))?;
    list(bind, rows.len(), rows.iter(), |found| match map.layout().value(found)? {
        Some(text) => form.value(bind, text),
        None => Ok(bind.keep(default.unwrap_or(bind.objects.none))),
    })
}

/// `count()`
fn count(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let [] = arguments.take([], 0)?;
    let count = without_gil(&bound.bind, || bound.state.count())?;
    // SAFETY: the GIL is held.
    new(unsafe { (bound.bind.api.PyLong_FromUnsignedLongLong)(count) })
}

/// `page(start, count, reverse=False, raw=False)`: a list of (key, value), from `start` on, or from before it backwards.
fn page(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [start, count, reverse, raw] = arguments.take(["start", "count", "reverse", "raw"], 2)?;
    let count = items_max(bind, count.unwrap_or(bind.objects.none))?;
    let form = As::of(bind, raw)?;
    let near = key::edge(bind, map.layout(), start)?;
    let near = near.as_deref();
    let (first, last, direction) = if truth(bind, reverse)? {
        (Edge::Unbounded, near.map_or(Edge::Unbounded, Edge::Excluded), Direction::Backward)
    } else {
        (near.map_or(Edge::Unbounded, Edge::Included), Edge::Unbounded, Direction::Forward)
    };
    let mut rows = Rows::default();
    without_gil(bind, || map.page(first, last, direction, count, &mut rows))?;
    items(bind, map.layout(), &rows, form)
}

/// How many items a page has at most: an int, or what stands for one, from 0 on.
fn items_max(bind: &Bind, object: Py) -> Result<usize, Failure> {
    // SAFETY: the GIL is held.
    let count = Owned::new(bind, new(or_stay(|| unsafe { (bind.api.PyNumber_Index)(object) }))?);
    let mut overflow = 0;
    // SAFETY: it is an int; the GIL is held.
    let number = unsafe { (bind.api.PyLong_AsLongLongAndOverflow)(count.get(), &mut overflow) };
    if overflow > 0 {
        return Ok(usize::MAX);
    }
    Ok(usize::try_from(number).map_err(|_| invalid("the count of a page is at least 0"))?)
}

/// A list of the (key, value) of rows. Python code may run.
pub(super) fn items(bind: &Bind, layout: &Layout, rows: &Rows, form: As) -> Outcome {
    list(bind, rows.len(), rows.iter(), |found| {
        let key = Owned::new(bind, key_object(bind, layout.key(found)?)?);
        let value = Owned::new(bind, form.value(bind, layout.value(found)?.unwrap_or_default())?);
        // SAFETY: the GIL is held.
        let pair = new(unsafe { (bind.api.PyTuple_New)(2) })?;
        // SAFETY: a new tuple of two takes the references over.
        unsafe {
            (bind.api.PyTuple_SetItem)(pair, 0, key.into_inner());
            (bind.api.PyTuple_SetItem)(pair, 1, value.into_inner());
        }
        Ok(pair)
    })
}

/// A new list of so many objects, made one by one. Python code may run.
pub(super) fn list<T>(
    bind: &Bind,
    len: usize,
    each: impl Iterator<Item = T>,
    mut make: impl FnMut(T) -> Outcome,
) -> Outcome {
    let mut objects = Vec::with_capacity(len);
    for element in each {
        objects.push(Owned::new(bind, make(element)?));
    }
    // Last: `gc.get_objects` shows a list to others from when it is made, and one with gaps would crash them.
    // SAFETY: the GIL is held.
    let list = new(unsafe { (bind.api.PyList_New)(objects.len() as isize) })?;
    for (index, object) in objects.into_iter().enumerate() {
        // SAFETY: a new list of that length takes the reference over; no Python code runs meanwhile.
        unsafe { (bind.api.PyList_SetItem)(list, index as isize, object.into_inner()) };
    }
    Ok(list)
}
