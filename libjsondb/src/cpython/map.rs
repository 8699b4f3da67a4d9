//! The builtin functions of a map, `sop.Map` in Python: opening one, and what they share.

use std::rc::Rc;
use std::sync::Arc;

use stores::map::Map;
use stores::{BtreeOptions, KeyOut};

use super::api::Py;
use super::bind::Bind;
use super::codec;
use super::exit::or_stay;
use super::function::{Arguments, Bound, Failure, Outcome, builtin, make_all, new, without_gil};
use super::{map_read, map_walk, map_write, tuple};
use crate::actions::SopDurability;
use crate::database::OpenDatabase;
use crate::process;
use crate::strings::{invalid, json};
use crate::transaction::OpenTransaction;

builtin!(OPEN, c"open_map", (), open);
builtin!(WITHIN, c"within", Arc<Map>, within);

/// `open_map(context, database, name, options, durability)`: a tuple of the map's functions.
fn open(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &bound.bind;
    let names = ["context", "database", "name", "options", "durability"];
    let [context, database, name, options, durability] = arguments.take(names, 5)?;
    let number = |object| number(bind, object);
    let process = process::current();
    let cancel = process.contexts.token(number(context)? as i64)?;
    let held = process.handles.get::<OpenDatabase>(number(database)?)?;
    let name = utf8(bind, name.unwrap_or(bind.objects.none))?;
    let options = match options {
        Some(options) if options != bind.objects.none => {
            Some(json::<BtreeOptions>("B-tree options", utf8(bind, options)?)?)
        }
        _ => None,
    };
    let durability = SopDurability::from_number(number(durability)? as i32)?;
    let map = without_gil(bind, || Map::open(&cancel, &held.database, name, options, durability))?;
    functions(bind, Arc::new(map))
}

/// `within(context, transaction)`: the functions of the same map in a transaction.
fn within(bound: &Bound<Arc<Map>>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &bound.bind;
    let [context, transaction] = arguments.take(["context", "transaction"], 2)?;
    let process = process::current();
    let cancel = process.contexts.token(number(bind, context)? as i64)?;
    let held = process.handles.get::<OpenTransaction>(number(bind, transaction)?)?;
    let map = without_gil(bind, || bound.state.within(&cancel, &held.transaction))?;
    functions(bind, Arc::new(map))
}

/// In the order of `MapFunctions` in `_native.py`.
fn functions(bind: &Rc<Bind>, map: Arc<Map>) -> Outcome {
    let definitions = [
        &map_read::GET,
        &map_read::CONTAINS,
        &map_read::GET_MANY,
        &map_read::COUNT,
        &map_read::PAGE,
        &map_walk::WALK,
        &map_write::PUT,
        &map_write::PUT_MANY,
        &map_write::REMOVE,
        &map_write::POP,
        &map_write::REMOVE_MANY,
        &map_write::MODIFY,
        &WITHIN,
    ];
    tuple(bind, &make_all(&definitions, bind, map)?)
}

/// How a value is given to the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    Object,
    /// Its JSON text, as bytes.
    Raw,
}

impl As {
    /// From a `raw` argument: false when it is missing.
    pub(super) fn of(bind: &Bind, raw: Option<Py>) -> Result<Self, Failure> {
        Ok(if truth(bind, raw)? { As::Raw } else { As::Object })
    }

    /// A new reference to a value. Python code may run.
    pub(super) fn value(self, bind: &Bind, text: &[u8]) -> Outcome {
        match self {
            As::Object => codec::read(bind, text),
            As::Raw => new(codec::new_bytes(bind, text)),
        }
    }
}

/// A new reference to a key. Python code may run.
pub(super) fn key_object(bind: &Bind, key: KeyOut<'_>) -> Outcome {
    match key {
        // SAFETY: the GIL is held.
        KeyOut::Integer(integer) => new(unsafe { (bind.api.PyLong_FromLongLong)(integer) }),
        KeyOut::Text(text) => new(bind.new_str(text.as_bytes())),
        KeyOut::Json(text) => codec::read(bind, &text),
    }
}

/// Whether an argument is true; a missing one is not. Python code may run.
pub(super) fn truth(bind: &Bind, object: Option<Py>) -> Result<bool, Failure> {
    let Some(object) = object.filter(|object| *object != bind.objects.no) else { return Ok(false) };
    // SAFETY: the GIL is held.
    match or_stay(|| unsafe { (bind.api.PyObject_IsTrue)(object) }) {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::Raised),
    }
}

/// A number that the package passes.
pub(super) fn number(bind: &Bind, object: Option<Py>) -> Result<u64, Failure> {
    // SAFETY: the GIL is held; a wrong type is told by an exception.
    let number = unsafe { (bind.api.PyLong_AsUnsignedLongLong)(object.unwrap_or(bind.objects.none)) };
    // SAFETY: the GIL is held.
    if number == u64::MAX && !unsafe { (bind.api.PyErr_Occurred)() }.is_null() {
        return Err(Failure::Raised);
    }
    Ok(number)
}

fn utf8<'a>(bind: &Bind, object: Py) -> Result<&'a str, Failure> {
    let bytes = codec::bytes(bind, object)?;
    Ok(std::str::from_utf8(bytes).map_err(|_| invalid("a text is not UTF-8"))?)
}
