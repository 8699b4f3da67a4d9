//! The fields of a payload, read from its JSON text in one pass. Values that are not wanted are skipped, not built.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::btree::{OrderedNumber, Scalar};

/// How much of a field's value is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Nothing,
    /// Scalars; of lists and objects, that they are there.
    Scalars,
    /// All of it.
    Whole,
}

/// The value of a field.
#[derive(Debug, PartialEq)]
pub(super) enum Seen<'a> {
    Scalar(Scalar<'a>),
    /// A list or an object, if it was wanted.
    Composite(Option<Value>),
}

/// Is shown a payload's fields in their order. A name may come twice: the later one counts, as in the parsers of users.
pub(super) trait Reader {
    /// How much is wanted of the field `name`.
    fn wants(&mut self, name: &str) -> Depth;
    /// The value of that field.
    fn take(&mut self, value: Seen<'_>);
}

/// Shows the fields of a payload. False when it is not JSON, or holds what cannot be compared, such as a number beyond all floats.
pub(super) fn read(payload: &[u8], reader: &mut impl Reader) -> bool {
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return true;
    }
    Object(reader).deserialize(&mut serde_json::Deserializer::from_slice(payload)).is_ok()
}

struct Object<'r, R>(&'r mut R);

impl<'de, R: Reader> DeserializeSeed<'de> for Object<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, R: Reader> Visitor<'de> for Object<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(depth) = map.next_key_seed(Name(self.0))? {
            match depth {
                Depth::Nothing => drop(map.next_value::<IgnoredAny>()?),
                depth => map.next_value_seed(FieldValue { reader: self.0, depth })?,
            }
        }
        Ok(())
    }
}

struct Name<'r, R>(&'r mut R);

impl<'de, R: Reader> DeserializeSeed<'de> for Name<'_, R> {
    type Value = Depth;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Depth, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<R: Reader> Visitor<'_> for Name<'_, R> {
    type Value = Depth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Depth, E> {
        Ok(self.0.wants(name))
    }
}

struct FieldValue<'r, R> {
    reader: &'r mut R,
    depth: Depth,
}

impl<R: Reader> FieldValue<'_, R> {
    fn scalar<E>(self, scalar: Scalar<'_>) -> Result<(), E> {
        self.reader.take(Seen::Scalar(scalar));
        Ok(())
    }
}

impl<'de, R: Reader> DeserializeSeed<'de> for FieldValue<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, R: Reader> Visitor<'de> for FieldValue<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(Scalar::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.scalar(Scalar::Number(OrderedNumber::from_integer(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.scalar(Scalar::Number(OrderedNumber::from_unsigned(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.scalar(Scalar::Number(OrderedNumber::from_float(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let value = if self.depth == Depth::Whole {
            Some(Value::deserialize(SeqAccessDeserializer::new(list))?)
        } else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            None
        };
        self.reader.take(Seen::Composite(value));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let value = if self.depth == Depth::Whole {
            Some(Value::deserialize(MapAccessDeserializer::new(object))?)
        } else {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            None
        };
        self.reader.take(Seen::Composite(value));
        Ok(())
    }
}
