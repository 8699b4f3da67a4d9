//! Keys of a store with an index specification.
//!
//! Such a key is the listed fields in their order, a missing one as the tag MISSING, each field's bytes complemented when it
//! is descending. It is canonical when its fields are listed ones only, in the order of the list, and each value is: then the
//! bytes give it back, the order of its fields included.

use serde_json::{Map, Value};

use super::super::index::{IndexField, IndexSpecification};
use super::super::shape::{KeySource, Shape};
use super::{Encoder, MISSING, STRING, STRING_END, Trailing, decode_value, invalid};

impl Encoder<'_> {
    pub(super) fn fields<'a, K: KeySource<'a>>(
        &mut self,
        key: K,
        specification: &IndexSpecification,
        trailing: Trailing,
    ) -> Result<(), K::Error> {
        let Shape::Object(given) = key.shape()? else {
            return Err(invalid("a key of a store with an index specification is an object").into());
        };
        let start = self.out.len();
        if self.fields_in_order::<K>(given.clone(), specification, trailing)? {
            return Ok(());
        }
        self.out.truncate(start);
        self.traits.is_canonical = false;
        self.fields_by_name(&given.collect::<Result<Vec<_>, _>>()?, specification, trailing)
    }

    /// Encodes fields that come as they are listed, other ones behind them, without looking for any. False for all others;
    /// what was appended then is the caller's to remove.
    fn fields_in_order<'a, K: KeySource<'a>>(
        &mut self,
        mut given: K::Fields,
        specification: &IndexSpecification,
        trailing: Trailing,
    ) -> Result<bool, K::Error> {
        for field in &specification.index_fields {
            match given.next().transpose()? {
                Some((name, value)) if name == field.field_name => self.field(field, Some(value))?,
                Some(_) => return Ok(false),
                None if trailing == Trailing::Open => break,
                None => self.field::<K>(field, None)?,
            }
        }
        if given.next().is_some() {
            self.traits.is_canonical = false;
        }
        Ok(true)
    }

    fn fields_by_name<'a, K: KeySource<'a>>(
        &mut self,
        given: &[(&'a str, K)],
        specification: &IndexSpecification,
        trailing: Trailing,
    ) -> Result<(), K::Error> {
        let find = |field: &IndexField| given.iter().find(|(name, _)| *name == field.field_name);
        let mut fields = specification.index_fields.as_slice();
        if trailing == Trailing::Open {
            while let Some((_, before)) = fields.split_last().filter(|(last, _)| find(last).is_none()) {
                fields = before;
            }
        }
        fields.iter().try_for_each(|field| self.field(field, find(field).map(|(_, value)| *value)))
    }

    fn field<'a, K: KeySource<'a>>(&mut self, field: &IndexField, value: Option<K>) -> Result<(), K::Error> {
        let start = self.out.len();
        match value {
            Some(value) => self.value(value, 1)?,
            None => self.out.push(MISSING),
        }
        if !field.ascending_sort_order {
            self.out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }
}

/// The value of a field.
enum Part<'a> {
    Text(&'a str),
    Value(Value),
}

/// Decodes the index fields of a key. None for bytes that are no such key.
pub(in super::super) fn decode_fields(bytes: &[u8], specification: &IndexSpecification) -> Option<Value> {
    let mut fields = Map::new();
    visit(bytes, specification, |name, part| {
        let value = match part {
            Part::Text(text) => Value::String(text.to_owned()),
            Part::Value(value) => value,
        };
        fields.insert(name.to_owned(), value);
    })?;
    Some(Value::Object(fields))
}

/// The index fields of a key as JSON text, in their order. None for bytes that are no such key.
pub(in super::super) fn fields_text(bytes: &[u8], specification: &IndexSpecification) -> Option<String> {
    let mut text = Vec::with_capacity(2 * bytes.len() + 32);
    visit(bytes, specification, |name, part| {
        text.push(if text.is_empty() { b'{' } else { b',' });
        append_json(&mut text, name);
        text.push(b':');
        match part {
            Part::Text(part) => append_json(&mut text, part),
            Part::Value(value) => append_json(&mut text, &value),
        }
    })?;
    text.extend_from_slice(if text.is_empty() { b"{}" } else { b"}" });
    String::from_utf8(text).ok()
}

fn append_json<T: serde::Serialize + ?Sized>(text: &mut Vec<u8>, part: &T) {
    serde_json::to_writer(text, part).expect("strings and JSON values are always JSON");
}

/// Shows `each` the name and the value of every field that is there. None for bytes that are no such key.
fn visit(
    bytes: &[u8],
    specification: &IndexSpecification,
    mut each: impl FnMut(&str, Part<'_>),
) -> Option<()> {
    let mut rest = bytes;
    for field in &specification.index_fields {
        let complement: Vec<u8>;
        let from = if field.ascending_sort_order {
            rest
        } else {
            complement = rest.iter().map(|byte| !byte).collect();
            &complement
        };
        let after = match from.split_first()? {
            (&MISSING, after) => after,
            _ => {
                let (part, after) = part(from)?;
                each(&field.field_name, part);
                after
            }
        };
        rest = &rest[rest.len() - after.len()..];
    }
    rest.is_empty().then_some(())
}

/// Reads the value at the front of `bytes`: a string without a NUL is there as it is.
fn part(bytes: &[u8]) -> Option<(Part<'_>, &[u8])> {
    if let Some((&STRING, rest)) = bytes.split_first() {
        let (text, rest) = rest.split_at(rest.iter().position(|&byte| byte == 0)?);
        if let Some(after) = rest.strip_prefix(&[0, STRING_END]) {
            return Some((Part::Text(std::str::from_utf8(text).ok()?), after));
        }
    }
    decode_value(bytes, 1).map(|(value, after)| (Part::Value(value), after))
}
