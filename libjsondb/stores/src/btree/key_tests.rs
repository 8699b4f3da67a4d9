//! Key encoding against a plain comparison of values.

use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::json;

use super::super::index::IndexField;
use super::super::order::compare;
use super::super::shape::{KeySource, Shape};
use super::*;
use serde_json::Number;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn encode_value(value: &Value) -> EncodedKey {
    encode(&raw(&value.to_string()), None).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    encode_value(value).bytes
}

fn specification(fields: &[(&str, bool)]) -> IndexSpecification {
    let fields = fields
        .iter()
        .map(|&(name, ascending_sort_order)| IndexField { field_name: name.into(), ascending_sort_order });
    IndexSpecification { index_fields: fields.collect() }
}

fn without_objects(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Array(fields.into_values().map(without_objects).collect()),
        Value::Array(elements) => Value::Array(elements.into_iter().map(without_objects).collect()),
        other => other,
    }
}

/// An object that keeps the order of its fields, as Python's do, or a value of one.
#[derive(Clone, Copy)]
enum Given<'a> {
    Fields(&'a [(&'a str, &'a Value)]),
    Value(&'a Value),
}

#[derive(Clone)]
struct GivenFields<'a>(std::slice::Iter<'a, (&'a str, &'a Value)>);

impl<'a> Iterator for GivenFields<'a> {
    type Item = Result<(&'a str, Given<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| Ok((*name, Given::Value(value))))
    }
}

impl<'a> KeySource<'a> for Given<'a> {
    type Error = Error;
    type Fields = GivenFields<'a>;

    fn shape(self) -> Result<Shape<'a, Self>> {
        Ok(match self {
            Given::Fields(fields) => Shape::Object(GivenFields(fields.iter())),
            Given::Value(value) => match value.shape()? {
                Shape::Null => Shape::Null,
                Shape::Bool(truth) => Shape::Bool(truth),
                Shape::Integer(integer) => Shape::Integer(integer),
                Shape::Unsigned(integer) => Shape::Unsigned(integer),
                Shape::Float(float) => Shape::Float(float),
                Shape::String(string) => Shape::String(string),
                Shape::List(elements) => Shape::List(elements.into_iter().map(Given::Value).collect()),
                Shape::Object(_) => return Err(invalid("objects inside are another test's")),
            },
        })
    }
}

fn code_of(text: &str) -> ErrorCode {
    encode(&raw(text), None).unwrap_err().code()
}

fn numbers() -> impl Strategy<Value = Value> {
    let edge = prop_oneof![Just(1i64 << 53), Just(-(1i64 << 53)), Just(1i64 << 60), Just(0i64)];
    let near = (edge, -3i64..4).prop_map(|(edge, offset)| edge + offset);
    prop_oneof![
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        near.clone().prop_map(|number| json!(number)),
        near.prop_map(|number| json!(number as f64)),
        (-4i64..4).prop_map(|number| json!(number as f64 / 2.0)),
        any::<f64>().prop_filter_map("JSON has no such number", |float| Some(Value::Number(
            Number::from_f64(float)?
        ))),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        numbers(),
        "[\0\u{1}\u{ff}ab\u{10ffff}]{0,4}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[\0ab]{0,2}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bytes_compare_as_values_do(one in values(), other in values()) {
        prop_assert_eq!(bytes(&one).cmp(&bytes(&other)), compare(&one, &other));
    }

    #[test]
    fn numbers_compare_exactly(one in numbers(), other in numbers()) {
        prop_assert_eq!(bytes(&one).cmp(&bytes(&other)), compare(&one, &other));
    }

    #[test]
    fn decoding_gives_an_equal_key_and_the_same_one_when_canonical(value in values()) {
        let encoded = encode_value(&value);
        let decoded = decode(&encoded.bytes).unwrap();
        prop_assert_eq!(compare(&decoded, &value), Ordering::Equal);
        if encoded.is_canonical {
            prop_assert_eq!(decoded, value);
        }
    }

    #[test]
    fn no_encoding_is_a_prefix_of_another(one in values(), other in values()) {
        let (one, other) = (bytes(&one), bytes(&other));
        prop_assert!(one == other || !other.starts_with(&one));
    }

    #[test]
    fn index_fields_order_and_descend(
        one in (prop::option::of(values()), prop::option::of(values()), values()),
        other in (prop::option::of(values()), prop::option::of(values()), values()),
    ) {
        let specification = specification(&[("a", true), ("b", false)]);
        let key = |(a, b, rides): &(Option<Value>, Option<Value>, Value)| {
            let mut fields = Map::from_iter([("z".to_owned(), rides.clone())]);
            fields.extend(a.clone().map(|a| ("a".to_owned(), a)));
            fields.extend(b.clone().map(|b| ("b".to_owned(), b)));
            Value::Object(fields)
        };
        let encoded = |value| encode(&raw(&key(value).to_string()), Some(&specification)).unwrap();
        let field = |one: &Option<Value>, other: &Option<Value>| match (one, other) {
            (Some(one), Some(other)) => compare(one, other),
            _ => one.is_some().cmp(&other.is_some()),
        };
        let expected = field(&one.0, &other.0).then(field(&one.1, &other.1).reverse());
        prop_assert_eq!(encoded(&one).bytes.cmp(&encoded(&other).bytes), expected);
        let decoded = decode_fields(&encoded(&one).bytes, &specification).unwrap();
        prop_assert_eq!(decoded.get("a").is_some(), one.0.is_some());
        prop_assert_eq!(decoded.get("b").is_some(), one.1.is_some());
        if let Some(b) = &one.1 {
            prop_assert_eq!(compare(&decoded["b"], b), Ordering::Equal);
        }
    }

    #[test]
    fn a_key_of_index_fields_comes_back_from_its_bytes_only_as_it_was(
        values in prop::collection::vec(values().prop_map(without_objects), 4),
        fields in Just(vec!["b", "a", "c", "z"]).prop_shuffle(),
        count in 0..5_usize,
    ) {
        let specification = specification(&[("b", true), ("a", false), ("c", true)]);
        let fields: Vec<_> = fields.into_iter().zip(&values).take(count).collect();
        let bodies = fields.iter().map(|(name, value)| format!("{name:?}:{value}")).collect::<Vec<_>>();
        let text = format!("{{{}}}", bodies.join(","));
        let from_text = encode(&raw(&text), Some(&specification)).unwrap();
        let mut bytes = Vec::new();
        let is_canonical = append(Given::Fields(&fields), Some(&specification), &mut bytes).unwrap();
        prop_assert_eq!(&bytes, &from_text.bytes);
        let back = fields_text(&bytes, &specification).unwrap();
        prop_assert_eq!(from_text.is_canonical, back == text);
        // Of a value all is known that its own bytes tell; names and their order are the specification's.
        let is_listed = fields.iter().map(|(name, _)| *name).eq(["b", "a", "c"].into_iter().take(count));
        let all_canonical = values[..count.min(4)].iter().all(|value| encode_value(value).is_canonical);
        prop_assert_eq!(is_canonical, is_listed && all_canonical);
        prop_assert!(!is_canonical || back == text);
    }

    #[test]
    fn foreign_bytes_are_refused_not_followed(bytes in prop::collection::vec(0u8..10, 0..12)) {
        // Whatever decodes was either encoded so, or is refused.
        let _ = decode(&bytes);
        let _ = decode_fields(&bytes, &specification(&[("a", true), ("b", false)]));
    }
}

#[test]
fn the_types_have_one_order() {
    let ascending = [
        json!(null),
        json!(false),
        json!(true),
        json!(-1),
        json!(1),
        json!(""),
        json!("a"),
        json!([]),
        json!({}),
    ];
    for pair in ascending.windows(2) {
        assert!(bytes(&pair[0]) < bytes(&pair[1]), "{} < {}", pair[0], pair[1]);
    }
}

#[test]
fn one_key_has_one_encoding() {
    assert_eq!(
        bytes(&json!({"a": 1, "b": 2})),
        encode(&raw(r#"{"b": 2.0, "a": 7, "a": 1}"#), None).unwrap().bytes
    );
    assert_eq!(bytes(&json!("é")), encode(&raw(r#""\u00e9""#), None).unwrap().bytes);
}

#[test]
fn what_decoding_would_change_is_not_canonical() {
    for (text, expected) in [
        ("null", true),
        ("\"a\"", true),
        ("[1, [\"a\", true]]", true),
        ("18446744073709551615", true),
        ("1.0", false),
        ("-0", false),
        ("[1.5]", false),
        ("{}", false),
    ] {
        assert_eq!(encode(&raw(text), None).unwrap().is_canonical, expected, "{text}");
    }
}

#[test]
fn integers_beyond_64_bits_are_refused_never_rounded() {
    for text in [
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "[\"18446744073709551616\\\"\", {\"a\": 18446744073709551616}]",
    ] {
        assert_eq!(code_of(text), ErrorCode::Validation, "{text}");
    }
    for text in ["18446744073709551615", "1e30", "18446744073709551616.0", "[1e30, \"18446744073709551616\"]"]
    {
        assert!(encode(&raw(text), None).is_ok(), "{text}");
    }
}

#[test]
fn the_nearest_float_counts_not_one_beside_it() {
    let long = "0.1000000000000000055511151231257827021181583404541015625";
    assert_eq!(bytes(&json!(0.1)), encode(&raw(long), None).unwrap().bytes);
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(encode(&raw(&nested(64)), None).is_ok());
    assert_eq!(code_of(&nested(65)), ErrorCode::Validation);
    assert_eq!(code_of(&nested(100_000)), ErrorCode::Validation);
    assert!(encode(&raw(&format!("{:?}", "x".repeat(KEY_BYTES_MAX - 3))), None).is_ok());
    assert_eq!(code_of(&format!("{:?}", "x".repeat(KEY_BYTES_MAX - 2))), ErrorCode::Validation);
}

#[test]
fn keys_that_are_no_text_are_refused() {
    assert_eq!(code_of(r#""\ud800""#), ErrorCode::Validation);
    assert_eq!(code_of("1e400"), ErrorCode::Validation);
}

#[test]
fn with_an_index_specification_a_key_is_an_object() {
    let specification = specification(&[("a", true)]);
    for text in ["1", "null", "[1]", "\"a\""] {
        assert_eq!(encode(&raw(text), Some(&specification)).unwrap_err().code(), ErrorCode::Validation);
    }
}

#[test]
fn a_bound_leaves_missing_fields_at_its_end_open() {
    let specification = specification(&[("a", true), ("b", false)]);
    let bound = encode_bound(&raw(r#"{"a": 1}"#), Some(&specification)).unwrap();
    for key in [r#"{"a": 1}"#, r#"{"a": 1, "b": null}"#, r#"{"a": 1, "b": {"x": 1}}"#] {
        assert!(encode(&raw(key), Some(&specification)).unwrap().bytes.starts_with(&bound), "{key}");
    }
    assert!(encode(&raw(r#"{"a": 0, "b": 1}"#), Some(&specification)).unwrap().bytes < bound);
    assert!(encode_bound(&raw("{}"), Some(&specification)).unwrap().is_empty());
}
