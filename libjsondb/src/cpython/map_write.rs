//! The writing functions of a map.

use std::sync::Arc;

use stores::map::{Load, Map};
use stores::{Chunk, Layout, VALUE_BYTES_MAX};

use super::api::Py;
use super::bind::{Bind, kind};
use super::codec;
use super::function::{
    Arguments, Bound, Failure, Outcome, builtin, call, new, raise_type_error, without_gil,
};
use super::iterate::{for_each, plain_pair};
use super::key::{self, Rest};
use super::owned::Owned;
use crate::strings::invalid;

builtin!(
    PUT,
    c"put",
    Arc<Map>,
    put,
    c"put(key, value)\n--\n\nSets the value of a key. `m[key] = value` is the same."
);
builtin!(PUT_MANY, c"put_many", Arc<Map>, put_many);
builtin!(REMOVE, c"remove", Arc<Map>, remove);
builtin!(POP, c"pop", Arc<Map>, pop);
builtin!(REMOVE_MANY, c"remove_many", Arc<Map>, remove_many);
builtin!(
    MODIFY,
    c"modify",
    Arc<Map>,
    modify,
    c"modify(key, function, default=None)\n--\n\n\
      Sets the value of a key to `function(value)`, and gives it; `default` stands for no value.\n\n\
      No change of others is lost: when one comes in between, `function` is called again with the newer\n\
      value. Inside a transaction the commit tells."
);

/// `put(key, value)`
fn put(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [key, value] = arguments.take(["key", "value"], 2)?;
    let none = bind.objects.none;
    let mut chunk = bind.chunk.take();
    let stored = fill(bind, map.layout(), key.unwrap_or(none), value.unwrap_or(none), &mut chunk)
        .and_then(|()| store(bind, map, &mut chunk));
    chunk.clear();
    bind.chunk.set(chunk);
    stored.map(|()| bind.none())
}

/// Puts a chunk under the GIL, if nothing has to be waited for: other threads would take longer to hand the GIL back.
fn store(bind: &Bind, map: &Map, chunk: &mut Chunk) -> Result<(), Failure> {
    if map.try_put(chunk)? { Ok(()) } else { Ok(without_gil(bind, || map.put(chunk))?) }
}

/// Removes the keys of a chunk, as [`store`] puts.
fn take_out(bind: &Bind, map: &Map, chunk: &mut Chunk) -> Result<u64, Failure> {
    match map.try_remove(chunk)? {
        Some(removed) => Ok(removed),
        None => Ok(without_gil(bind, || map.remove(chunk))?),
    }
}

/// `put_many(items)`: a mapping, or an iterable of (key, value).
fn put_many(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [items] = arguments.take(["items"], 1)?;
    let items = items.unwrap_or(bind.objects.none);
    // A list gives its elements itself; what anything else gives, Python tells.
    let pairs = match kind(items) == bind.objects.list {
        true => bind.keep(items),
        false => call(bind, bind.objects.pairs, &[bind.keep(items)])?,
    };
    let pairs = Owned::new(bind, pairs);
    let mut batch = Batch::new(bind, map, |load, chunk| load.put(chunk));
    for_each(bind, pairs.get(), |element| {
        match plain_pair(bind, element) {
            Some((key, value)) => fill(bind, map.layout(), key, value, &mut batch.chunk)?,
            None => {
                let pair = Owned::new(bind, call(bind, bind.objects.pair, &[bind.keep(element)])?);
                let (key, value) =
                    plain_pair(bind, pair.get()).ok_or_else(|| raise_type_error(bind, "expected a pair"))?;
                fill(bind, map.layout(), key, value, &mut batch.chunk)?;
            }
        }
        batch.flush_full()
    })?;
    batch.finish(store)?;
    Ok(bind.none())
}

/// `remove(key)`: whether it was there.
fn remove(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [key] = arguments.take(["key"], 1)?;
    let mut chunk = Chunk::default();
    key::append(bind, map.layout(), key.unwrap_or(bind.objects.none), chunk.buffer())?;
    chunk.end_key_only();
    let removed = take_out(bind, map, &mut chunk)?;
    Ok(bind.truth(removed > 0))
}

/// `pop(key, default=None)`: removes a key; its value.
fn pop(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [key, default] = arguments.take(["key", "default"], 1)?;
    let (mut encoded, mut text) = (Vec::with_capacity(32), Vec::new());
    key::append(bind, map.layout(), key.unwrap_or(bind.objects.none), &mut encoded)?;
    if without_gil(bind, || map.take(&encoded, &mut text))? {
        codec::read(bind, &text)
    } else {
        Ok(bind.keep(default.unwrap_or(bind.objects.none)))
    }
}

/// `remove_many(keys)`: how many were there.
fn remove_many(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [keys] = arguments.take(["keys"], 1)?;
    let mut batch = Batch::new(bind, map, |load, chunk| load.remove(chunk));
    for_each(bind, keys.unwrap_or(bind.objects.none), |object| {
        key::append(bind, map.layout(), object, batch.chunk.buffer())?;
        batch.chunk.end_key_only();
        batch.flush_full()
    })?;
    let removed = batch.finish(take_out)?.into_iter().sum();
    // SAFETY: the GIL is held.
    new(unsafe { (bind.api.PyLong_FromUnsignedLongLong)(removed) })
}

/// `modify(key, function, default=None)`: the new value.
fn modify(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let (bind, map) = (&*bound.bind, &bound.state);
    let [key, function, default] = arguments.take(["key", "function", "default"], 2)?;
    let (key, function) = (key.unwrap_or(bind.objects.none), function.unwrap_or(bind.objects.none));
    let default = default.unwrap_or(bind.objects.none);
    let mut encoded = Vec::with_capacity(32);
    key::append(bind, map.layout(), key, &mut encoded)?;
    let mut change = map.change(encoded);
    let (mut text, mut chunk) = (Vec::new(), Chunk::default());
    loop {
        text.clear();
        let found = match change.try_read(&mut text)? {
            Some(found) => found,
            None => without_gil(bind, || change.read(&mut text))?,
        };
        let old = match found {
            true => codec::read(bind, &text)?,
            false => bind.keep(default),
        };
        let value = Owned::new(bind, call(bind, function, &[old])?);
        chunk.clear();
        fill(bind, map.layout(), key, value.get(), &mut chunk)?;
        let is_written = match change.try_write(&mut chunk)? {
            Some(is_written) => is_written,
            None => without_gil(bind, || change.write(&chunk))?,
        };
        if is_written {
            return Ok(value.into_inner());
        }
    }
}

/// Appends an item to a chunk, or nothing. Python code may run.
pub(super) fn fill(
    bind: &Bind,
    layout: &Layout,
    key: Py,
    value: Py,
    chunk: &mut Chunk,
) -> Result<(), Failure> {
    let filled = fill_parts(bind, layout, key, value, chunk);
    if filled.is_err() {
        chunk.forget_unfinished();
    }
    filled
}

fn fill_parts(bind: &Bind, layout: &Layout, key: Py, value: Py, chunk: &mut Chunk) -> Result<(), Failure> {
    match key::append(bind, layout, key, chunk.buffer())? {
        Rest::Nothing => chunk.end_key(None),
        Rest::Known(text) => chunk.end_key(Some(text.get().as_bytes())),
        Rest::Text => {
            let mut text = Vec::with_capacity(64);
            codec::write(bind, key, "the key", &mut text)?;
            chunk.end_key(Some(&text));
        }
    }
    let start = chunk.buffer().len();
    codec::write(bind, value, "the value", chunk.buffer())?;
    let len = chunk.buffer().len() - start;
    if len > VALUE_BYTES_MAX {
        let message = format!("a value takes at most {VALUE_BYTES_MAX} bytes, this one takes {len}");
        return Err(invalid(message).into());
    }
    chunk.end_item();
    Ok(())
}

/// Items of any number: one chunk is written by one call, which runs again after a conflict; several go into a load.
struct Batch<'a, R, F> {
    bind: &'a Bind,
    map: &'a Map,
    chunk: Chunk,
    load: Option<Load<'a>>,
    write: F,
    results: Vec<R>,
}

impl<'a, R, F: Fn(&mut Load<'a>, &mut Chunk) -> stores::Result<R>> Batch<'a, R, F> {
    fn new(bind: &'a Bind, map: &'a Map, write: F) -> Self {
        Self { bind, map, chunk: bind.chunk.take(), load: None, write, results: Vec::new() }
    }

    fn flush_full(&mut self) -> Result<(), Failure> {
        if self.chunk.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let Self { bind, map, chunk, load, write, results } = self;
        let result = without_gil(bind, || {
            if load.is_none() {
                *load = Some(map.load()?);
            }
            load.as_mut().map(|load| write(load, chunk)).transpose()
        })?;
        results.extend(result);
        chunk.clear();
        Ok(())
    }

    /// Writes what is left, with `write_all` where it is all there is, and commits.
    fn finish(
        mut self,
        write_all: impl FnOnce(&Bind, &Map, &mut Chunk) -> Result<R, Failure>,
    ) -> Result<Vec<R>, Failure> {
        if self.load.is_none() {
            if !self.chunk.is_empty() {
                let result = write_all(self.bind, self.map, &mut self.chunk)?;
                self.results.push(result);
            }
            return Ok(std::mem::take(&mut self.results));
        }
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        let load = self.load.take();
        without_gil(self.bind, || load.map_or(Ok(()), Load::commit))?;
        Ok(std::mem::take(&mut self.results))
    }
}

impl<R, F> Drop for Batch<'_, R, F> {
    /// A load that is given up may have to wait for what it has begun to write.
    fn drop(&mut self) {
        let mut chunk = std::mem::take(&mut self.chunk);
        if chunk.is_small() {
            chunk.clear();
            self.bind.chunk.set(chunk);
        }
        if let Some(load) = self.load.take() {
            let _ = without_gil(self.bind, || {
                drop(load);
                Ok(())
            });
        }
    }
}
