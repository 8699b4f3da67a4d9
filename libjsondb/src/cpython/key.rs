//! Keys from Python objects, without JSON text in between for the types that the codec knows.

use serde_json::value::RawValue;
use stores::{Error, KeySource, Layout, Shape};

use super::api::Py;
use super::bind::{Bind, kind};
use super::codec;
use super::encode::{Foreign, Integer, float_of, integer_of, text};
use super::exit::or_stay;
use super::function::Failure;
use crate::strings::invalid;

/// A key, borrowed. While it is looked at no Python code runs that could change it.
#[derive(Clone, Copy)]
struct Key<'b> {
    bind: &'b Bind,
    object: Py,
}

/// Why an object is no key.
enum KeyFailure {
    Foreign,
    Store(Error),
}

impl From<Error> for KeyFailure {
    fn from(error: Error) -> Self {
        KeyFailure::Store(error)
    }
}

impl From<Foreign> for KeyFailure {
    fn from(_: Foreign) -> Self {
        KeyFailure::Foreign
    }
}

impl<'b> KeySource<'b> for Key<'b> {
    type Error = KeyFailure;
    type Fields = Fields<'b>;

    fn shape(self) -> Result<Shape<'b, Self>, KeyFailure> {
        let Key { bind, object } = self;
        let objects = &bind.objects;
        let kind = kind(object);
        Ok(if kind == objects.int {
            match integer_of(bind, object)? {
                Integer::Signed(integer) => Shape::Integer(integer),
                Integer::Unsigned(integer) => Shape::Unsigned(integer),
            }
        } else if kind == objects.str {
            Shape::String(text(bind, object)?)
        } else if kind == objects.dict {
            Shape::Object(Fields { bind, dict: object, place: 0 })
        } else if kind == objects.list {
            // SAFETY: `object` is a list; the GIL is held.
            let (len, at) = unsafe { ((bind.api.PyList_Size)(object), bind.api.PyList_GetItem) };
            // SAFETY: the list is that long, and its items live as long as it does.
            Shape::List((0..len).map(|index| Key { bind, object: unsafe { at(object, index) } }).collect())
        } else if kind == objects.tuple {
            // SAFETY: as for a list.
            let (len, at) = unsafe { ((bind.api.PyTuple_Size)(object), bind.api.PyTuple_GetItem) };
            // SAFETY: as above.
            Shape::List((0..len).map(|index| Key { bind, object: unsafe { at(object, index) } }).collect())
        } else if kind == objects.float {
            Shape::Float(float_of(bind, object)?)
        } else if object == objects.none {
            Shape::Null
        } else if object == objects.yes || object == objects.no {
            Shape::Bool(object == objects.yes)
        } else {
            return Err(KeyFailure::Foreign);
        })
    }
}

/// The fields of a dict, which nobody changes meanwhile.
#[derive(Clone, Copy)]
struct Fields<'b> {
    bind: &'b Bind,
    dict: Py,
    place: isize,
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(&'b str, Key<'b>), KeyFailure>;

    fn next(&mut self) -> Option<Self::Item> {
        let bind = self.bind;
        let (mut name, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a dict; its items live as long as it does; the GIL is held.
        if unsafe { (bind.api.PyDict_Next)(self.dict, &mut self.place, &mut name, &mut value) } == 0 {
            return None;
        }
        if kind(name) != bind.objects.str {
            return Some(Err(KeyFailure::Foreign));
        }
        let name = text(bind, name).map_err(KeyFailure::from);
        Some(name.map(|name| (name, Key { bind, object: value })))
    }
}

/// What the encoding of a key leaves out.
pub(super) enum Rest {
    /// Nothing: the bytes give the key back exactly.
    Nothing,
    /// The JSON text belongs beside them, and is still to be made.
    Text,
    /// The text that they were made from: asked again, the object might say something else.
    Known(Box<RawValue>),
}

/// Appends the encoding of a key. Python code may run.
pub(super) fn append(bind: &Bind, layout: &Layout, object: Py, out: &mut Vec<u8>) -> Result<Rest, Failure> {
    let start = out.len();
    let is_canonical = match layout.append_key(Key { bind, object }, out) {
        Ok(is_canonical) => is_canonical,
        Err(KeyFailure::Store(error)) => return Err(error.into()),
        Err(KeyFailure::Foreign) => {
            out.truncate(start);
            let text = json_text(bind, object)?;
            if !layout.append_key_text(&text, out)? {
                return Ok(Rest::Known(text));
            }
            true
        }
    };
    Ok(if is_canonical { Rest::Nothing } else { Rest::Text })
}

/// The encoding of a bound. Python code may run.
pub(super) fn bound(bind: &Bind, layout: &Layout, object: Py) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(32);
    match layout.append_bound(Key { bind, object }, &mut out) {
        Ok(()) => {}
        Err(KeyFailure::Store(error)) => return Err(error.into()),
        Err(KeyFailure::Foreign) => {
            out.clear();
            layout.append_bound_text(&json_text(bind, object)?, &mut out)?;
        }
    }
    Ok(out)
}

/// As [`bound`]; None for None and for no object.
pub(super) fn edge(bind: &Bind, layout: &Layout, object: Option<Py>) -> Result<Option<Vec<u8>>, Failure> {
    match object {
        Some(object) if object != bind.objects.none => bound(bind, layout, object).map(Some),
        _ => Ok(None),
    }
}

/// True for an Item, of a class derived from it too. Python code may run.
pub(super) fn is_item(bind: &Bind, object: Py) -> Result<bool, Failure> {
    // SAFETY: the GIL is held.
    match or_stay(|| unsafe { (bind.api.PyObject_IsInstance)(object, bind.objects.item) }) {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::Raised),
    }
}

#[cold]
fn json_text(bind: &Bind, object: Py) -> Result<Box<RawValue>, Failure> {
    if is_item(bind, object)? {
        return Err(invalid("expected a key, not an Item: pass item.key").into());
    }
    let mut text = Vec::new();
    codec::write(bind, object, "the key", &mut text)?;
    let text = String::from_utf8(text).map_err(|_| invalid("the key is not text"))?;
    RawValue::from_string(text).map_err(|error| invalid(format!("the key: {error}")).into())
}
