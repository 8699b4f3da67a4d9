//! The builtin functions of `sop.Btree`: the calls of the C ABI that carry items, without JSON envelopes around them.
//!
//! A function that meets an argument which only Python knows to judge, an Item of a class of its own say, answers None; the
//! package goes the way over the C ABI then.

use std::ops::Bound as Edge;
use std::sync::{Arc, Mutex, PoisonError};

use stores::{Btree, CancelToken, Chunk, Direction, Found, Layout, Paging, Rows, What};

use super::api::Py;
use super::bind::{Bind, kind};
use super::codec;
use super::encode::text;
use super::exit::or_stay;
use super::function::{Arguments, Bound, Failure, Outcome, builtin, make, new, without_gil};
use super::iterate::for_each_of_list;
use super::key;
use super::map::{As, key_object, number, truth};
use super::map_read::list;
use super::map_walk::{BATCH_MAX, BATCH_MIN, Parts};
use super::map_write::fill;
use super::owned::Owned;
use crate::actions::SopWriteAction;
use crate::handles::OpenStore;
use crate::process;
use crate::strings::invalid;

builtin!(WRITE, c"btree_write", (), write);
builtin!(FIND_ONE, c"btree_find_one", (), find_one);
builtin!(VALUES, c"btree_values", (), values);
builtin!(PAGE, c"btree_page", (), page);
builtin!(RANGE, c"btree_range", (), range);
builtin!(NEXT, c"next_batch", Range, next_batch);

type Held = Arc<OpenStore<Btree>>;

/// The context's token and the store of a call.
fn enter(bind: &Bind, context: Option<Py>, btree: Option<Py>) -> Result<(CancelToken, Held), Failure> {
    let process = process::current();
    let cancel = process.contexts.token(number(bind, context)? as i64)?;
    Ok((cancel, process.handles.get::<OpenStore<Btree>>(number(bind, btree)?)?))
}

/// `btree_write(context, btree, action, items)`: True when all succeeded; None for items of other classes.
fn write(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let [context, btree, action, items] = arguments.take(["context", "btree", "action", "items"], 4)?;
    let (cancel, held) = enter(bind, context, btree)?;
    let operation = SopWriteAction::from_number(number(bind, action)? as i32)?.operation();
    let mut chunk = Chunk::default();
    let is_plain = for_each_of_list(bind, items.unwrap_or(bind.objects.none), |item| {
        if kind(item) != bind.objects.item {
            return Ok(false);
        }
        let key = attribute(bind, item, bind.objects.key)?;
        let value = attribute(bind, item, bind.objects.value)?;
        fill(bind, held.store.layout(), key.get(), value.get(), &mut chunk)?;
        Ok(true)
    })?;
    if !is_plain {
        return Ok(bind.none());
    }
    Ok(bind.truth(without_gil(bind, || held.store.write_chunk(&cancel, operation, &chunk))?))
}

/// `btree_find_one(context, btree, key)`: an Item or None.
fn find_one(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let [context, btree, key] = arguments.take(["context", "btree", "key"], 3)?;
    let (cancel, held) = enter(bind, context, btree)?;
    let mut encoded = Vec::with_capacity(32);
    key::append(bind, held.store.layout(), key.unwrap_or(bind.objects.none), &mut encoded)?;
    let mut rows = Rows::default();
    without_gil(bind, || held.store.find_one_row(&cancel, &encoded, &mut rows))?;
    match rows.iter().next() {
        Some(found) => new_item(bind, held.store.layout(), found, What::Items),
        None => Ok(bind.none()),
    }
}

/// `btree_values(context, btree, keys)`: a list of Items; None when there are Items among the keys.
fn values(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let [context, btree, keys] = arguments.take(["context", "btree", "keys"], 3)?;
    let (cancel, held) = enter(bind, context, btree)?;
    let layout = held.store.layout();
    let keys = keys.unwrap_or(bind.objects.none);
    let mut chunk = Chunk::default();
    let mut wanted = Vec::new();
    let is_plain = for_each_of_list(bind, keys, |object| {
        let is_item = kind(object) == bind.objects.item;
        let key = if is_item {
            attribute(bind, object, bind.objects.key)?
        } else {
            Owned::new(bind, bind.keep(object))
        };
        if is_item && !has_no_id(bind, object)? || is_derived_item(bind, object)? {
            return Ok(false);
        }
        key::append(bind, layout, key.get(), chunk.buffer())?;
        chunk.end_key_only();
        wanted.push(key);
        Ok(true)
    })?;
    if !is_plain {
        return Ok(bind.none());
    }
    let mut rows = Rows::default();
    without_gil(bind, || held.store.value_rows(&cancel, &chunk, &mut rows))?;
    list(bind, rows.len(), rows.iter().zip(wanted), |(found, key)| match layout.value(found)? {
        Some(_) => new_item(bind, layout, found, What::Items),
        None => {
            let key = as_it_comes_back(bind, key)?;
            item_of(bind, key, Owned::new(bind, bind.none()), Owned::new(bind, bind.keep(bind.objects.nil)))
        }
    })
}

/// `btree_page(context, btree, offset, size, fetch, direction, with_values)`: a list of Items.
fn page(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let names = ["context", "btree", "offset", "size", "fetch", "direction", "with_values"];
    let [context, btree, offset, size, fetch, direction, with_values] = arguments.take(names, 7)?;
    let (cancel, held) = enter(bind, context, btree)?;
    let integer = |object| number(bind, object).map(|number| number as i64);
    let paging = Paging {
        page_offset: integer(offset)?,
        page_size: integer(size)?,
        fetch_count: integer(fetch)?,
        direction: integer(direction)?,
    };
    let what = if truth(bind, with_values)? { What::Items } else { What::Keys };
    let mut rows = Rows::default();
    without_gil(bind, || held.store.page_rows(&cancel, &paging, what, &mut rows))?;
    items(bind, held.store.layout(), &rows, what)
}

/// A range that is walked over, without the cursor, in batches.
pub(super) struct Range {
    cancel: CancelToken,
    held: Held,
    position: Mutex<Option<Position>>,
    direction: Direction,
    parts: Parts,
}

/// Where the next batch is. It is taken out while a call uses it.
struct Position {
    start: Edge<Vec<u8>>,
    stop: Edge<Vec<u8>>,
    limit: usize,
    has_ended: bool,
}

/// `btree_range(context, btree, start, stop, reverse, parts)`; parts as for a map. Gives batch after batch, then None.
fn range(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &bound.bind;
    let names = ["context", "btree", "start", "stop", "reverse", "parts"];
    let [context, btree, start, stop, reverse, parts] = arguments.take(names, 6)?;
    let (cancel, held) = enter(bind, context, btree)?;
    let layout = held.store.layout();
    let start = key::edge(bind, layout, start)?.map_or(Edge::Unbounded, Edge::Included);
    let stop = key::edge(bind, layout, stop)?.map_or(Edge::Unbounded, Edge::Excluded);
    let direction = if truth(bind, reverse)? { Direction::Backward } else { Direction::Forward };
    let position = Position { start, stop, limit: BATCH_MIN, has_ended: false };
    let parts = Parts::of(number(bind, parts)?);
    make(&NEXT, bind, Range { cancel, held, position: Mutex::new(Some(position)), direction, parts })
}

fn next_batch(bound: &Bound<Range>, arguments: &Arguments<'_>) -> Outcome {
    let [] = arguments.take([], 0)?;
    let taken = bound.state.position.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut position = taken.ok_or_else(|| invalid("another thread is using this iterator"))?;
    let outcome = batch(&bound.bind, &bound.state, &mut position);
    *bound.state.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    outcome
}

fn batch(bind: &Bind, range: &Range, position: &mut Position) -> Outcome {
    if position.has_ended {
        return Ok(bind.none());
    }
    let Range { cancel, held, direction, parts, .. } = range;
    let what = parts.what();
    let mut rows = Rows::default();
    let span = (position.start.as_ref().map(Vec::as_slice), position.stop.as_ref().map(Vec::as_slice));
    let goes_on = without_gil(bind, || {
        held.store.range_rows(cancel, span, *direction, position.limit, what, &mut rows)
    })?;
    position.has_ended = !goes_on;
    position.limit = (position.limit * 2).min(BATCH_MAX);
    let Some(last) = rows.last_key() else { return Ok(bind.none()) };
    let near = if *direction == Direction::Forward { &mut position.start } else { &mut position.stop };
    *near = Edge::Excluded(last.to_vec());
    let layout = held.store.layout();
    match parts {
        Parts::Items => items(bind, layout, &rows, what),
        _ => list(bind, rows.len(), rows.iter(), |found| parts.one(bind, layout, found, As::Object)),
    }
}

/// A list of Items. Python code may run.
fn items(bind: &Bind, layout: &Layout, rows: &Rows, what: What) -> Outcome {
    list(bind, rows.len(), rows.iter(), |found| new_item(bind, layout, found, what))
}

/// A new Item of a row. Python code may run.
fn new_item(bind: &Bind, layout: &Layout, found: Found<'_>, what: What) -> Outcome {
    let key = Owned::new(bind, key_object(bind, layout.key(found)?)?);
    let value = match (what, layout.value(found)?) {
        (What::Items, Some(text)) => codec::read(bind, text)?,
        _ => bind.none(),
    };
    let value = Owned::new(bind, value);
    let id = layout.row_id(found).hyphenated();
    let id = new(bind.new_str(id.encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes()))?;
    item_of(bind, key, value, Owned::new(bind, id))
}

/// A new Item, as its class makes it.
fn item_of(bind: &Bind, key: Owned<'_>, value: Owned<'_>, id: Owned<'_>) -> Outcome {
    let objects = &bind.objects;
    // SAFETY: the class of items takes no memory but its dict; the GIL is held.
    let item = Owned::new(bind, new(unsafe { (bind.api.PyType_GenericAlloc)(objects.item, 0) })?);
    for (name, field) in [(objects.key, &key), (objects.value, &value), (objects.id, &id)] {
        // SAFETY: an Item takes a reference of its own; the GIL is held.
        if or_stay(|| unsafe { (bind.api.PyObject_SetAttr)(item.get(), name, field.get()) }) != 0 {
            return Err(Failure::Raised);
        }
    }
    Ok(item.into_inner())
}

/// An attribute of an Item. Python code may run.
fn attribute<'b>(bind: &'b Bind, item: Py, name: Py) -> Result<Owned<'b>, Failure> {
    // SAFETY: the GIL is held.
    Ok(Owned::new(bind, new(or_stay(|| unsafe { (bind.api.PyObject_GetAttr)(item, name) }))?))
}

/// A key as JSON gives it back: a tuple as a list, a dataclass as a dict. Python code may run.
fn as_it_comes_back<'b>(bind: &'b Bind, key: Owned<'b>) -> Result<Owned<'b>, Failure> {
    let objects = &bind.objects;
    let comes_back_itself = [objects.int, objects.str, objects.float].contains(&kind(key.get()))
        || [objects.none, objects.yes, objects.no].contains(&key.get());
    if comes_back_itself {
        return Ok(key);
    }
    let mut text = Vec::with_capacity(64);
    codec::write(bind, key.get(), "the key", &mut text)?;
    Ok(Owned::new(bind, codec::read(bind, &text)?))
}

/// True for an Item of a class derived from it. Python code may run.
fn is_derived_item(bind: &Bind, object: Py) -> Result<bool, Failure> {
    let known = [bind.objects.int, bind.objects.str, bind.objects.item];
    Ok(!known.contains(&kind(object)) && key::is_item(bind, object)?)
}

/// True for an Item with the id that means none.
fn has_no_id(bind: &Bind, item: Py) -> Result<bool, Failure> {
    let id = attribute(bind, item, bind.objects.id)?;
    let is_nil =
        |id: Py| kind(id) == bind.objects.str && text(bind, id).ok() == text(bind, bind.objects.nil).ok();
    Ok(id.get() == bind.objects.nil || is_nil(id.get()))
}
