//! Filters: fields of a payload that must have given values.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Number, Value};

use crate::{Error, ErrorCode, Result};

/// Top-level fields and the values they must have, all of them. Numbers compare by value: 999 equals 999.0. A
/// field that is absent equals nothing, not even null.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    fields: Vec<(String, Value)>,
}

impl Filter {
    /// The filter in `value`; None when it lets everything pass.
    pub(super) fn new(value: Option<&Value>) -> Result<Option<Self>> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) if fields.is_empty() => Ok(None),
            Some(Value::Object(fields)) => {
                let fields = fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                Ok(Some(Self { fields }))
            }
            Some(other) => {
                let message =
                    format!("a filter is an object of payload fields and their values, not {}", kind(other));
                Err(Error::new(ErrorCode::Filter, message))
            }
        }
    }

    /// True when the payload, as JSON text, has all fields. One that is no object never matches.
    pub(super) fn matches(&self, payload: &[u8]) -> bool {
        if payload.trim_ascii_start().first() != Some(&b'{') {
            return false;
        }
        let mut deserializer = serde_json::Deserializer::from_slice(payload);
        Fields(&self.fields).deserialize(&mut deserializer).unwrap_or(false)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads an object, keeps nothing but the fields asked for.
struct Fields<'a>(&'a [(String, Value)]);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<bool, A::Error> {
        let mut equal = vec![false; self.0.len()];
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.0.iter().position(|(wanted, _)| *wanted == name) {
                // A name that appears twice counts as its last value, as in the parsers of users.
                Some(index) => equal[index] = equals(&map.next_value()?, &self.0[index].1),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(equal.into_iter().all(|equal| equal))
    }
}

/// Equality of JSON values. Depth is bounded by the parser that made them.
fn equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => numbers_equal(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equals(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equals(a, b)))
        }
        _ => a == b,
    }
}

fn numbers_equal(a: &Number, b: &Number) -> bool {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.as_f64() == b.as_f64(),
        _ => false,
    }
}

/// The number as an integer, if its value is one.
fn integer(number: &Number) -> Option<i128> {
    if let Some(integer) = number.as_i128() {
        return Some(integer);
    }
    // Floats from 2^126 on are left to the comparison of floats: no integer of JSON reaches them.
    number
        .as_f64()
        .filter(|float| float.fract() == 0.0 && float.abs() < 2f64.powi(126))
        .map(|float| float as i128)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(filter: Value, payload: &str) -> bool {
        Filter::new(Some(&filter)).unwrap().is_none_or(|filter| filter.matches(payload.as_bytes()))
    }

    #[test]
    fn all_fields_must_match() {
        let payload = r#"{"name":"Laptop","price":999,"tags":["a","b"],"deep":{"x":1,"y":[2]},"none":null}"#;
        assert!(matches(json!({}), payload));
        assert!(matches(json!({"name": "Laptop"}), payload));
        assert!(matches(json!({"name": "Laptop", "price": 999.0}), payload));
        assert!(!matches(json!({"name": "Laptop", "price": 998}), payload));
        assert!(!matches(json!({"name": "laptop"}), payload));
        assert!(matches(json!({"tags": ["a", "b"]}), payload));
        assert!(!matches(json!({"tags": ["b", "a"]}), payload));
        assert!(matches(json!({"deep": {"y": [2.0], "x": 1}}), payload));
        assert!(!matches(json!({"deep": {"x": 1}}), payload));
        assert!(matches(json!({"none": null}), payload));
        assert!(!matches(json!({"absent": null}), payload));
        assert!(!matches(json!({"x": 1}), payload));
    }

    #[test]
    fn numbers_compare_by_value() {
        assert!(matches(json!({"n": 1e3}), r#"{"n":1000}"#));
        assert!(matches(json!({"n": 9007199254740993i64}), r#"{"n":9007199254740993}"#));
        assert!(!matches(json!({"n": 9007199254740993i64}), r#"{"n":9007199254740992.0}"#));
        assert!(matches(json!({"n": u64::MAX}), r#"{"n":18446744073709551615}"#));
        assert!(!matches(json!({"n": -1}), r#"{"n":18446744073709551615}"#));
        assert!(matches(json!({"n": 0.5}), r#"{"n":5e-1}"#));
        assert!(matches(json!({"n": 1e300}), r#"{"n":1e300}"#));
        assert!(!matches(json!({"n": 1}), r#"{"n":true}"#));
        assert!(!matches(json!({"n": 1}), r#"{"n":"1"}"#));
    }

    #[test]
    fn odd_payloads_do_not_match() {
        for payload in ["", "null", "[1]", "\"a\"", "7", " [{\"a\":1}]", "{\"a\":", "{\"a\":1e999}"] {
            assert!(!matches(json!({"a": 1}), payload), "{payload}");
        }
        assert!(matches(json!({"a": 1}), " \n{\"a\":1}"));
        assert!(matches(json!({"a": 2}), r#"{"a":1,"a":2}"#));
        assert!(matches(json!({"é\n": 2}), r#"{"\u00e9\n":2}"#));
    }

    #[test]
    fn filters_that_are_no_objects_are_refused() {
        for filter in [json!([1]), json!("a"), json!(1), json!(true)] {
            assert_eq!(Filter::new(Some(&filter)).unwrap_err().code(), ErrorCode::Filter);
        }
        assert_eq!(Filter::new(None).unwrap(), None);
        assert_eq!(Filter::new(Some(&Value::Null)).unwrap(), None);
    }
}
