//! Keys as bytes: comparing the bytes compares the keys.
//!
//! The order is total: (missing <) null < false < true < number < string < list < object. An encoding is a tag and what
//! follows from it, and no encoding is a prefix of another, so encodings can be put one after the other:
//!
//! | key | bytes after the tag |
//! |---|---|
//! | number | 8 or 10, see [`super::number`] |
//! | string | UTF-8 with 00 written as 00 FF; 00 01 |
//! | list | the elements; 00 |
//! | object | name (as a string with its tag) and value of each field, by name; 00 |
//!
//! With an index specification a key has no tag of its own, see [`fields`].

mod fields;
mod scalar;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::index::IndexSpecification;
use super::number::{self, OrderedNumber};
use super::shape::{KeySource, Shape};
use crate::{Error, ErrorCode, Result};
pub(super) use fields::{decode_fields, fields_text};
pub(crate) use scalar::Scalar;

/// Ends a list or object; smaller than every tag, so that a shorter one comes first.
const END: u8 = 0x00;
const MISSING: u8 = 0x01;
const NULL: u8 = 0x02;
const FALSE: u8 = 0x03;
const TRUE: u8 = 0x04;
const NUMBER: u8 = 0x05;
const STRING: u8 = 0x06;
const LIST: u8 = 0x07;
const OBJECT: u8 = 0x08;

/// After 00 inside a string: the 00 belongs to it.
const ESCAPED: u8 = 0xff;
/// After 00 inside a string: the string ends.
const STRING_END: u8 = 0x01;

/// Deepest nesting of lists and objects in a key.
const DEPTH_MAX: usize = 64;
/// Longest encoded key: what the engine takes, less the id that tells duplicates apart.
const KEY_BYTES_MAX: usize = (16 << 10) - 32;

/// A key as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EncodedKey {
    pub(super) bytes: Vec<u8>,
    /// True when decoding the bytes gives the key back exactly; else its JSON text has to be kept.
    pub(super) is_canonical: bool,
}

/// Encodes a key given as JSON text.
pub(super) fn encode(text: &RawValue, specification: Option<&IndexSpecification>) -> Result<EncodedKey> {
    encode_with(text, specification, Trailing::Kept)
}

/// Encodes a bound of a range. With an index specification, fields missing at its end are left open: `{"a": 1}` is the
/// edge before all keys with that `a`, whatever their other fields.
pub(super) fn encode_bound(text: &RawValue, specification: Option<&IndexSpecification>) -> Result<Vec<u8>> {
    Ok(encode_with(text, specification, Trailing::Open)?.bytes)
}

/// What becomes of index fields that are missing at the end of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trailing {
    Kept,
    Open,
}

fn encode_with(
    text: &RawValue,
    specification: Option<&IndexSpecification>,
    trailing: Trailing,
) -> Result<EncodedKey> {
    let key: Value = serde_json::from_str(text.get())
        .map_err(|error| invalid(format!("a key is not valid JSON: {error}")))?;
    let mut bytes = Vec::with_capacity(16);
    let traits = append_with(&key, specification, trailing, &mut bytes)?;
    if traits.saw_suspect {
        check_integers(text.get())?;
    }
    let is_canonical = match specification {
        None => traits.is_canonical,
        // The parsed key has forgotten the order of its fields.
        Some(specification) => fields_text(&bytes, specification).as_deref() == Some(text.get()),
    };
    Ok(EncodedKey { bytes, is_canonical })
}

/// Appends the encoding of a key; True when decoding the bytes gives the key back exactly. What was appended before a failure
/// is the caller's to remove.
pub(super) fn append<'a, K: KeySource<'a>>(
    key: K,
    specification: Option<&IndexSpecification>,
    out: &mut Vec<u8>,
) -> std::result::Result<bool, K::Error> {
    Ok(append_with(key, specification, Trailing::Kept, out)?.is_canonical)
}

/// As [`append`] for a bound, see [`encode_bound`].
pub(super) fn append_bound<'a, K: KeySource<'a>>(
    key: K,
    specification: Option<&IndexSpecification>,
    out: &mut Vec<u8>,
) -> std::result::Result<(), K::Error> {
    append_with(key, specification, Trailing::Open, out).map(drop)
}

fn append_with<'a, K: KeySource<'a>>(
    key: K,
    specification: Option<&IndexSpecification>,
    trailing: Trailing,
    out: &mut Vec<u8>,
) -> std::result::Result<Traits, K::Error> {
    let start = out.len();
    let mut encoder = Encoder { out, traits: Traits { is_canonical: true, saw_suspect: false } };
    match specification {
        None => encoder.value(key, 0)?,
        Some(specification) => encoder.fields(key, specification, trailing)?,
    }
    let traits = encoder.traits;
    let len = out.len() - start;
    if len > KEY_BYTES_MAX {
        return Err(
            invalid(format!("a key takes at most {KEY_BYTES_MAX} bytes, this one takes {len}")).into()
        );
    }
    Ok(traits)
}

/// What was noticed while a key was encoded.
struct Traits {
    /// Nothing was met that its bytes do not tell exactly: a float, or the order of an object's fields.
    is_canonical: bool,
    /// A number was met that may be an integer beyond 64 bits, rounded.
    saw_suspect: bool,
}

struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    traits: Traits,
}

impl Encoder<'_> {
    fn value<'a, K: KeySource<'a>>(&mut self, value: K, depth: usize) -> std::result::Result<(), K::Error> {
        match value.shape()? {
            Shape::Null => Scalar::Null.append(self.out),
            Shape::Bool(truth) => Scalar::Bool(truth).append(self.out),
            Shape::Integer(integer) => self.number(OrderedNumber::from_integer(integer)),
            Shape::Unsigned(integer) => self.number(OrderedNumber::from_unsigned(integer)),
            Shape::Float(float) => {
                self.traits.is_canonical = false;
                self.traits.saw_suspect |= number::may_be_rounded(float);
                self.number(OrderedNumber::from_float(float));
            }
            Shape::String(string) => self.string(string),
            Shape::List(elements) => self.list(elements, depth + 1)?,
            Shape::Object(fields) => self.object::<K>(fields, depth + 1)?,
        }
        Ok(())
    }

    fn number(&mut self, number: OrderedNumber) {
        Scalar::Number(number).append(self.out);
    }

    fn string(&mut self, string: &str) {
        Scalar::Text(string).append(self.out);
    }

    fn list<'a, K: KeySource<'a>>(
        &mut self,
        elements: Vec<K>,
        depth: usize,
    ) -> std::result::Result<(), K::Error> {
        check_depth(depth)?;
        self.out.push(LIST);
        for element in elements {
            self.value(element, depth)?;
        }
        self.out.push(END);
        Ok(())
    }

    fn object<'a, K: KeySource<'a>>(
        &mut self,
        fields: K::Fields,
        depth: usize,
    ) -> std::result::Result<(), K::Error> {
        check_depth(depth)?;
        self.traits.is_canonical = false;
        self.out.push(OBJECT);
        let mut fields = fields.collect::<std::result::Result<Vec<_>, _>>()?;
        fields.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in fields {
            self.string(name);
            self.value(value, depth)?;
        }
        self.out.push(END);
        Ok(())
    }
}

fn check_depth(depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(invalid(format!("a key is nested at most {DEPTH_MAX} deep")));
    }
    Ok(())
}

/// Fails for an integer literal that needs more than 64 bits. `text` is valid JSON.
fn check_integers(text: &str) -> Result<()> {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[start..];
        let len = if rest.starts_with('"') {
            string_len(rest)
        } else {
            let len = rest
                .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
                .unwrap_or(rest.len());
            check_integer(&rest[..len])?;
            len
        };
        rest = &rest[len..];
    }
    Ok(())
}

fn check_integer(literal: &str) -> Result<()> {
    let is_integer = !literal.contains(['.', 'e', 'E']);
    if is_integer && literal.parse::<i64>().is_err() && literal.parse::<u64>().is_err() {
        let shown: String = literal.chars().take(40).collect();
        return Err(invalid(format!("an integer in a key has at most 64 bits, {shown} has more")));
    }
    Ok(())
}

/// Length of the string literal that `text` starts with, quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Decodes a key that was encoded without an index specification. None for bytes that are no such key.
pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    let (value, rest) = decode_value(bytes, 0)?;
    rest.is_empty().then_some(value)
}

/// A key that needs no decoding.
pub(super) enum SimpleKey<'a> {
    Integer(i64),
    Text(&'a str),
}

/// Reads the commonest keys from their encoding. None for all others, and for bytes that are no key.
pub(super) fn simple(bytes: &[u8]) -> Option<SimpleKey<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    match tag {
        NUMBER => number::decode_integer(rest).map(SimpleKey::Integer),
        STRING => {
            let text = rest.strip_suffix(&[0, STRING_END])?;
            (!text.contains(&0)).then(|| std::str::from_utf8(text).ok().map(SimpleKey::Text)).flatten()
        }
        _ => None,
    }
}

fn decode_value(bytes: &[u8], depth: usize) -> Option<(Value, &[u8])> {
    if depth > DEPTH_MAX {
        return None;
    }
    let (&tag, rest) = bytes.split_first()?;
    match tag {
        NULL => Some((Value::Null, rest)),
        FALSE => Some((Value::Bool(false), rest)),
        TRUE => Some((Value::Bool(true), rest)),
        NUMBER => number::decode(rest).map(|(number, rest)| (Value::Number(number), rest)),
        STRING => decode_string(rest).map(|(string, rest)| (Value::String(string), rest)),
        LIST => decode_list(rest, depth + 1),
        OBJECT => decode_object(rest, depth + 1),
        _ => None,
    }
}

fn decode_string(mut bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut string = Vec::new();
    loop {
        let len = bytes.iter().position(|&byte| byte == 0)?;
        let (part, rest) = bytes.split_at(len);
        string.extend_from_slice(part);
        let (&[_, mark], rest) = rest.split_first_chunk::<2>()?;
        match mark {
            ESCAPED => string.push(0),
            STRING_END => return Some((String::from_utf8(string).ok()?, rest)),
            _ => return None,
        }
        bytes = rest;
    }
}

fn decode_list(mut bytes: &[u8], depth: usize) -> Option<(Value, &[u8])> {
    let mut elements = Vec::new();
    loop {
        if let Some((&END, rest)) = bytes.split_first() {
            return Some((Value::Array(elements), rest));
        }
        let (element, rest) = decode_value(bytes, depth)?;
        elements.push(element);
        bytes = rest;
    }
}

fn decode_object(mut bytes: &[u8], depth: usize) -> Option<(Value, &[u8])> {
    let mut fields = Map::new();
    loop {
        match bytes.split_first()? {
            (&END, rest) => return Some((Value::Object(fields), rest)),
            (&STRING, rest) => {
                let (name, rest) = decode_string(rest)?;
                let (value, rest) = decode_value(rest, depth)?;
                fields.insert(name, value);
                bytes = rest;
            }
            _ => return None,
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Validation, message)
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
