//! What a key looks like, whoever holds it: JSON text, or an object of the caller's language.

use serde_json::{Value, map};

use crate::Error;

/// One level of a JSON value. The parts of a list or an object are looked at when they are met.
pub enum Shape<'a, V: KeySource<'a>> {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// An integer above `i64::MAX`.
    Unsigned(u64),
    /// A number with a fraction or an exponent; finite.
    Float(f64),
    /// A string.
    String(&'a str),
    /// The elements in their order.
    List(Vec<V>),
    /// The fields in their order; no two have one name.
    Object(V::Fields),
}

/// A value that keys can be encoded from.
pub trait KeySource<'a>: Copy {
    /// Why a value is no key.
    type Error: From<Error>;
    /// Goes through the fields of an object.
    type Fields: Iterator<Item = Result<(&'a str, Self), Self::Error>> + Clone;

    /// What it is.
    fn shape(self) -> Result<Shape<'a, Self>, Self::Error>;
}

impl<'a> KeySource<'a> for &'a Value {
    type Error = Error;
    type Fields = ValueFields<'a>;

    fn shape(self) -> Result<Shape<'a, Self>, Error> {
        Ok(match self {
            Value::Null => Shape::Null,
            Value::Bool(truth) => Shape::Bool(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => Shape::Integer(integer),
                (None, Some(integer)) => Shape::Unsigned(integer),
                // JSON has no NaN and no infinity.
                (None, None) => Shape::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(string) => Shape::String(string),
            Value::Array(elements) => Shape::List(elements.iter().collect()),
            Value::Object(fields) => Shape::Object(ValueFields(fields.iter())),
        })
    }
}

/// The fields of a parsed object. Parsing has sorted them by name.
#[derive(Clone)]
pub struct ValueFields<'a>(map::Iter<'a>);

impl<'a> Iterator for ValueFields<'a> {
    type Item = Result<(&'a str, &'a Value), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| Ok((name.as_str(), value)))
    }
}
