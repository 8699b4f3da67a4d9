//! What a key looks like, whoever holds it: JSON text, or an object of the caller's language.

use serde_json::Value;

use crate::Error;

/// One level of a JSON value. The parts of a list or an object are looked at when they are met.
#[derive(Debug)]
pub enum Shape<'a, V> {
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
    /// The fields; no two have one name.
    Object(Vec<(&'a str, V)>),
}

/// A value that keys can be encoded from.
pub trait KeySource<'a>: Copy {
    /// Why a value is no key.
    type Error: From<Error>;

    /// What it is.
    fn shape(self) -> Result<Shape<'a, Self>, Self::Error>;
}

impl<'a> KeySource<'a> for &'a Value {
    type Error = Error;

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
            Value::Object(fields) => {
                Shape::Object(fields.iter().map(|(name, value)| (name.as_str(), value)).collect())
            }
        })
    }
}
