//! The codec with Python's own behind it: whatever value comes, its meaning is that of `_json.py`.

use std::ffi::c_char;

use super::api::Py;
use super::bind::{Bind, kind};
use super::decode;
use super::encode;
use super::function::{Arguments, Bound, Failure, Outcome, builtin, call, new, raise_type_error};

builtin!(ENCODE, c"encode", (), encode_value);
builtin!(DECODE, c"decode", (), decode_text);

/// Appends the JSON text of a value. `what` names it in errors. Python code may run.
pub(super) fn write(bind: &Bind, value: Py, what: &str, out: &mut Vec<u8>) -> Result<(), Failure> {
    let start = out.len();
    if encode::encode(bind, value, out).is_ok() {
        return Ok(());
    }
    out.truncate(start);
    write_by_python(bind, value, what, out)
}

#[cold]
fn write_by_python(bind: &Bind, value: Py, what: &str, out: &mut Vec<u8>) -> Result<(), Failure> {
    let what = bind.new_str(what.as_bytes());
    let text = call(bind, bind.objects.dumps, &[bind.keep(value), what])?;
    let appended = bytes(bind, text).map(|text| out.extend_from_slice(text));
    bind.release(text);
    appended
}

/// A new reference to the value of a JSON text. Python code may run.
pub(super) fn read(bind: &Bind, text: &[u8]) -> Outcome {
    match decode::decode(bind, text) {
        Ok(value) => Ok(value),
        Err(_) => call(bind, bind.objects.loads, &[new_bytes(bind, text)]),
    }
}

/// A new bytes object; NULL when Python has no memory.
pub(super) fn new_bytes(bind: &Bind, bytes: &[u8]) -> Py {
    // SAFETY: so many bytes; the GIL is held.
    unsafe { (bind.api.PyBytes_FromStringAndSize)(bytes.as_ptr().cast(), bytes.len() as isize) }
}

/// The bytes of a bytes object, valid as long as it lives.
pub(super) fn bytes<'a>(bind: &Bind, object: Py) -> Result<&'a [u8], Failure> {
    if kind(object) != bind.objects.bytes {
        return Err(raise_type_error(bind, "expected bytes"));
    }
    let (mut data, mut len): (*mut c_char, isize) = (std::ptr::null_mut(), 0);
    // SAFETY: `object` is a bytes object.
    if unsafe { (bind.api.PyBytes_AsStringAndSize)(object, &mut data, &mut len) } != 0 {
        return Err(Failure::Raised);
    }
    // SAFETY: Python gives so many bytes, which never change and live as long as the object.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len as usize) })
}

fn encode_value(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let [value] = arguments.take(["value"], 1)?;
    let mut out = Vec::with_capacity(256);
    write(&bound.bind, value.unwrap_or(bound.bind.objects.none), "the value", &mut out)?;
    new(new_bytes(&bound.bind, &out))
}

fn decode_text(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let [text] = arguments.take(["text"], 1)?;
    read(&bound.bind, bytes(&bound.bind, text.unwrap_or(bound.bind.objects.none))?)
}
