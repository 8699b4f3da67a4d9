//! Walks over a map: a builtin function that gives batch after batch, then None.

use std::ops::Bound as Edge;
use std::sync::{Arc, Mutex, PoisonError};

use stores::map::{Map, Walk};
use stores::{Direction, Found, Layout, Rows, What};

use super::bind::Bind;
use super::function::{Arguments, Bound, Outcome, builtin, make, without_gil};
use super::key;
use super::map::{As, key_object, number, truth};
use super::map_read::{items, list};
use crate::strings::invalid;

/// Items of the first batch: few, for walks that stop early. Each next one is twice as long, up to as many
/// as stay in the processor's cache as objects.
pub(super) const BATCH_MIN: usize = 64;
pub(super) const BATCH_MAX: usize = 256;

builtin!(WALK, c"walk", Arc<Map>, walk);
builtin!(NEXT, c"next_batch", Batches, next_batch);

/// A walk and what it gives. It is taken out while a call uses it.
pub(super) struct Batches {
    walk: Mutex<Option<Position>>,
    parts: Parts,
    form: As,
}

struct Position {
    walk: Walk,
    rows: Rows,
    limit: usize,
}

/// What is wanted of items.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    Items,
    Keys,
    Values,
}

impl Parts {
    /// 0 items, 1 keys, 2 values.
    pub(super) fn of(number: u64) -> Self {
        match number {
            0 => Parts::Items,
            1 => Parts::Keys,
            _ => Parts::Values,
        }
    }

    pub(super) fn what(self) -> What {
        if self == Parts::Keys { What::Keys } else { What::Items }
    }

    /// A new reference to the key of a row, or to its value. Python code may run.
    pub(super) fn one(self, bind: &Bind, layout: &Layout, found: Found<'_>, form: As) -> Outcome {
        match self {
            Parts::Keys => key_object(bind, layout.key(found)?),
            _ => form.value(bind, layout.value(found)?.unwrap_or_default()),
        }
    }
}

/// `walk(start, stop, reverse, parts, raw)`; parts: 0 items, 1 keys, 2 values.
fn walk(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&bound.bind, &bound.state);
    let [start, stop, reverse, parts, raw] =
        arguments.take(["start", "stop", "reverse", "parts", "raw"], 4)?;
    let start = key::edge(bind, map.layout(), start)?.map_or(Edge::Unbounded, Edge::Included);
    let stop = key::edge(bind, map.layout(), stop)?.map_or(Edge::Unbounded, Edge::Excluded);
    let direction = if truth(bind, reverse)? { Direction::Backward } else { Direction::Forward };
    let parts = Parts::of(number(bind, parts)?);
    let form = As::of(bind, raw)?;
    let walk = without_gil(bind, || map.walk(start, stop, direction, parts.what()))?;
    let position = Position { walk, rows: Rows::default(), limit: BATCH_MIN };
    make(&NEXT, bind, Batches { walk: Mutex::new(Some(position)), parts, form })
}

fn next_batch(bound: &Bound<Batches>, arguments: &Arguments<'_>) -> Outcome {
    let [] = arguments.take([], 0)?;
    let Batches { walk, parts, form } = &bound.state;
    let taken = walk.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut position = taken.ok_or_else(|| invalid("another thread is using this iterator"))?;
    let outcome = batch(&bound.bind, &mut position, *parts, *form);
    *walk.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    outcome
}

fn batch(bind: &Bind, position: &mut Position, parts: Parts, form: As) -> Outcome {
    let Position { walk, rows, limit } = position;
    without_gil(bind, || walk.next_batch(*limit, rows))?;
    *limit = (*limit * 2).min(BATCH_MAX);
    if rows.is_empty() {
        return Ok(bind.none());
    }
    let layout = walk.map().layout();
    match parts {
        Parts::Items => items(bind, layout, rows, form),
        _ => list(bind, rows.len(), rows.iter(), |found| parts.one(bind, layout, found, form)),
    }
}
