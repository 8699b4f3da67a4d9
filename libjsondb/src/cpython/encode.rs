//! Python values to JSON text.
//!
//! What the codec writes itself: dict with str keys, list, tuple, str, int of 64 bits, finite float, bool, None, of exactly
//! these types. All else is foreign, and left to `_json.py`, so that there is one place that says what it means.

use super::api::Py;
use super::bind::{Bind, kind};
use super::scan::{append_plain, plain_end};

/// Deeper nesting is foreign.
const DEPTH_MAX: u32 = 100;

/// The value, or something in it, is not for this codec.
#[derive(Debug)]
pub(super) struct Foreign;

/// Appends the JSON text of a value. What was appended before a failure is the caller's to remove.
pub(super) fn encode(bind: &Bind, value: Py, out: &mut Vec<u8>) -> Result<(), Foreign> {
    encode_at(bind, value, out, 0)
}

fn encode_at(bind: &Bind, value: Py, out: &mut Vec<u8>, depth: u32) -> Result<(), Foreign> {
    let objects = &bind.objects;
    let kind = kind(value);
    if kind == objects.str {
        string(out, text(bind, value)?);
    } else if kind == objects.int {
        integer(bind, value, out)?;
    } else if kind == objects.float {
        float(bind, value, out)?;
    } else if kind == objects.dict {
        dict(bind, value, out, depth + 1)?;
    } else if kind == objects.list {
        list(bind, value, out, depth + 1)?;
    } else if kind == objects.tuple {
        tuple(bind, value, out, depth + 1)?;
    } else if value == objects.none {
        out.extend_from_slice(b"null");
    } else if value == objects.yes {
        out.extend_from_slice(b"true");
    } else if value == objects.no {
        out.extend_from_slice(b"false");
    } else {
        return Err(Foreign);
    }
    Ok(())
}

/// The UTF-8 of a str, which Python keeps with it. A lone surrogate is foreign.
#[inline]
pub(super) fn text<'a>(bind: &Bind, object: Py) -> Result<&'a str, Foreign> {
    match bind.ascii_text(object) {
        Some(text) => Ok(text),
        None => utf8(bind, object),
    }
}

fn utf8<'a>(bind: &Bind, object: Py) -> Result<&'a str, Foreign> {
    let mut len = 0;
    // SAFETY: `object` is a str; the GIL is held.
    let data = unsafe { (bind.api.PyUnicode_AsUTF8AndSize)(object, &mut len) };
    if data.is_null() {
        // SAFETY: the GIL is held.
        unsafe { (bind.api.PyErr_Clear)() };
        return Err(Foreign);
    }
    // SAFETY: Python gives `len` bytes of UTF-8, which live as long as the str. Callers use them before they let it go.
    Ok(unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(data.cast(), len as usize)) })
}

/// An int of 64 bits.
pub(super) enum Integer {
    Signed(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
}

pub(super) fn integer_of(bind: &Bind, object: Py) -> Result<Integer, Foreign> {
    let mut overflow = 0;
    // SAFETY: `object` is an int; the GIL is held.
    let signed = unsafe { (bind.api.PyLong_AsLongLongAndOverflow)(object, &mut overflow) };
    if overflow == 0 {
        return Ok(Integer::Signed(signed));
    }
    if overflow > 0 {
        // SAFETY: as above.
        let unsigned = unsafe { (bind.api.PyLong_AsUnsignedLongLong)(object) };
        // SAFETY: the GIL is held.
        if unsafe { (bind.api.PyErr_Occurred)() }.is_null() {
            return Ok(Integer::Unsigned(unsigned));
        }
        // SAFETY: the GIL is held.
        unsafe { (bind.api.PyErr_Clear)() };
    }
    Err(Foreign)
}

/// A float that JSON has: not NaN, not infinite.
pub(super) fn float_of(bind: &Bind, object: Py) -> Result<f64, Foreign> {
    // SAFETY: `object` is a float; the GIL is held.
    let float = unsafe { (bind.api.PyFloat_AsDouble)(object) };
    if float.is_finite() { Ok(float) } else { Err(Foreign) }
}

fn integer(bind: &Bind, object: Py, out: &mut Vec<u8>) -> Result<(), Foreign> {
    let mut digits = itoa::Buffer::new();
    let text = match integer_of(bind, object)? {
        Integer::Signed(integer) => digits.format(integer),
        Integer::Unsigned(integer) => digits.format(integer),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn float(bind: &Bind, object: Py, out: &mut Vec<u8>) -> Result<(), Foreign> {
    let mut digits = zmij::Buffer::new();
    out.extend_from_slice(digits.format_finite(float_of(bind, object)?).as_bytes());
    Ok(())
}

fn list(bind: &Bind, object: Py, out: &mut Vec<u8>, depth: u32) -> Result<(), Foreign> {
    // SAFETY: `object` is a list and no Python code runs here that could change it; its items live as long as it does.
    let (len, at) = unsafe { ((bind.api.PyList_Size)(object), bind.api.PyList_GetItem) };
    // SAFETY: as above.
    sequence(bind, len, |index| unsafe { at(object, index) }, out, depth)
}

fn tuple(bind: &Bind, object: Py, out: &mut Vec<u8>, depth: u32) -> Result<(), Foreign> {
    // SAFETY: as for a list.
    let (len, at) = unsafe { ((bind.api.PyTuple_Size)(object), bind.api.PyTuple_GetItem) };
    // SAFETY: as above.
    sequence(bind, len, |index| unsafe { at(object, index) }, out, depth)
}

fn sequence(
    bind: &Bind,
    len: isize,
    at: impl Fn(isize) -> Py,
    out: &mut Vec<u8>,
    depth: u32,
) -> Result<(), Foreign> {
    check_depth(depth)?;
    out.push(b'[');
    for index in 0..len {
        if index > 0 {
            out.push(b',');
        }
        encode_at(bind, at(index), out, depth)?;
    }
    out.push(b']');
    Ok(())
}

fn dict(bind: &Bind, object: Py, out: &mut Vec<u8>, depth: u32) -> Result<(), Foreign> {
    check_depth(depth)?;
    let mut place = 0;
    let (mut name, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
    out.push(b'{');
    let mut is_first = true;
    // SAFETY: `object` is a dict and no Python code runs here that could change it; its items live as long as it does.
    while unsafe { (bind.api.PyDict_Next)(object, &mut place, &mut name, &mut value) } != 0 {
        if kind(name) != bind.objects.str {
            return Err(Foreign);
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        string(out, text(bind, name)?);
        out.push(b':');
        encode_at(bind, value, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn check_depth(depth: u32) -> Result<(), Foreign> {
    if depth > DEPTH_MAX { Err(Foreign) } else { Ok(()) }
}

fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let plain = append_plain(out, bytes);
    if plain < bytes.len() {
        append_escaped(out, bytes, plain);
    }
    out.push(b'"');
}

#[cold]
fn append_escaped(out: &mut Vec<u8>, bytes: &[u8], mut start: usize) {
    loop {
        let end = plain_end(bytes, start);
        out.extend_from_slice(bytes.get(start..end).unwrap_or_default());
        let Some(&byte) = bytes.get(end) else { return };
        escape(out, byte);
        start = end + 1;
    }
}

#[cold]
fn escape(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let digit = |nibble: u8| HEX[usize::from(nibble & 15)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
