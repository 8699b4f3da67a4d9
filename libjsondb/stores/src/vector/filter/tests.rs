use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ErrorCode;

fn matches(filter: Value, payload: &str) -> bool {
    Filter::parse(Some(&filter)).unwrap().is_none_or(|filter| filter.matches(payload.as_bytes()))
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
    assert!(matches(json!({"n": {"$gt": 9007199254740992.0}}), r#"{"n":9007199254740993}"#));
    assert!(matches(json!({"n": u64::MAX}), r#"{"n":18446744073709551615}"#));
    assert!(!matches(json!({"n": -1}), r#"{"n":18446744073709551615}"#));
    assert!(matches(json!({"n": 0.5}), r#"{"n":5e-1}"#));
    assert!(matches(json!({"n": 1e300}), r#"{"n":1e300}"#));
    assert!(!matches(json!({"n": 1}), r#"{"n":true}"#));
    assert!(!matches(json!({"n": 1}), r#"{"n":"1"}"#));
}

#[test]
fn odd_payloads_have_no_fields_or_do_not_match() {
    for payload in ["", "null", "[1]", "\"a\"", "7", " [{\"a\":1}]", "{\"a\":", "{\"a\":1e999}"] {
        assert!(!matches(json!({"a": 1}), payload), "{payload}");
    }
    for payload in ["", "null", "[1]", "7", "{}"] {
        assert!(matches(json!({"a": {"$ne": 1}}), payload), "{payload}");
        assert!(matches(json!({"a": {"$exists": false}}), payload), "{payload}");
    }
    for payload in ["{\"a\":", "{\"a\":1e999}"] {
        assert!(!matches(json!({"a": {"$ne": 1}}), payload), "{payload}");
    }
    assert!(matches(json!({"a": 1}), " \n{\"a\":1}"));
    assert!(matches(json!({"a": 2}), r#"{"a":1,"a":2}"#));
    assert!(!matches(json!({"a": 1}), r#"{"a":1,"a":2}"#));
    assert!(matches(json!({"é\n": 2}), r#"{"\u00e9\n":2}"#));
}

#[test]
fn operators_compare_within_one_type() {
    let payload = r#"{"n":5,"s":"b","t":true,"l":[5],"z":null}"#;
    for (filter, expected) in [
        (json!({"n": {"$gt": 4}}), true),
        (json!({"n": {"$gt": 5}}), false),
        (json!({"n": {"$gte": 5, "$lt": 5.5}}), true),
        (json!({"n": {"$gte": 5, "$lt": 5}}), false),
        (json!({"n": {"$lte": "9"}}), false),
        (json!({"n": {"$gte": false}}), false),
        (json!({"s": {"$gt": "a"}}), true),
        (json!({"s": {"$lt": "b"}}), false),
        (json!({"s": {"$lt": "ba"}}), true),
        (json!({"s": {"$lt": "é"}}), true),
        (json!({"t": {"$gt": false}}), true),
        (json!({"l": {"$gte": 0}}), false),
        (json!({"z": {"$lte": 0}}), false),
        (json!({"missing": {"$lte": 0}}), false),
        (json!({"n": {"$eq": 5}}), true),
        (json!({"n": {"$ne": 5}}), false),
        (json!({"l": {"$eq": [5.0]}}), true),
        (json!({"l": {"$in": [1, [5]]}}), true),
        (json!({"l": {"$nin": [[5]]}}), false),
        (json!({"n": {"$in": []}}), false),
        (json!({"n": {"$nin": []}}), true),
        (json!({"n": {"$in": [7, "x", 5.0]}}), true),
    ] {
        assert_eq!(matches(filter.clone(), payload), expected, "{filter}");
    }
}

#[test]
fn a_missing_field_passes_what_negates_and_nothing_else() {
    let payload = r#"{"other":1}"#;
    for filter in [
        json!({"a": {"$ne": 1}}),
        json!({"a": {"$nin": [1]}}),
        json!({"$not": {"a": 1}}),
        json!({"a": {"$exists": false}}),
    ] {
        assert!(matches(filter.clone(), payload), "{filter}");
    }
    for filter in [
        json!({"a": null}),
        json!({"a": {"$eq": null}}),
        json!({"a": {"$in": [null]}}),
        json!({"a": {"$lt": 1}}),
        json!({"a": {"$exists": true}}),
    ] {
        assert!(!matches(filter.clone(), payload), "{filter}");
    }
    assert!(matches(json!({"a": {"$exists": true}}), r#"{"a":null}"#));
    assert!(matches(json!({"a": {"$exists": true}}), r#"{"a":{"b":1}}"#));
}

#[test]
fn combinations_nest() {
    let payload = r#"{"a":1,"b":2}"#;
    assert!(matches(json!({"$or": [{"a": 2}, {"b": 2}]}), payload));
    assert!(!matches(json!({"$and": [{"a": 1}, {"b": 3}]}), payload));
    assert!(matches(json!({"$not": {"$and": [{"a": 1}, {"b": 3}]}, "a": 1}), payload));
    assert!(matches(json!({"$or": [{"a": 7}, {"$not": {"b": {"$gt": 2}}}]}), payload));
    assert!(!matches(json!({"$not": {}}), payload));
    assert!(matches(json!({"$or": [{}]}), payload));
}

#[test]
fn objects_without_operators_are_values() {
    assert!(matches(json!({"a": {"x": {"$gt": 1}}}), r#"{"a":{"x":{"$gt":1}}}"#));
    assert!(matches(json!({"a": {}}), r#"{"a":{}}"#));
    assert!(!matches(json!({"a": {}}), r#"{"a":1}"#));
    assert!(matches(json!({"a": {"$eq": {"$gt": 1}}}), r#"{"a":{"$gt":1}}"#));
}

#[test]
fn what_is_no_filter_is_told() {
    for (filter, told) in [
        (json!([1]), "a filter is an object"),
        (json!("a"), "not a string"),
        (json!(true), "not a bool"),
        (json!({"a": {"$near": 1}}), "$near"),
        (json!({"a": {"$not": {"$gt": 1}}}), "known are $eq"),
        (json!({"$nor": []}), "known are $and"),
        (json!({"$and": {}}), "$and in a filter takes a list"),
        (json!({"$or": []}), "$or in a filter takes a list of filters, at least one, not an empty list"),
        (json!({"$or": [1]}), "not a number"),
        (json!({"$not": [1]}), "$not is an object"),
        (json!({"a": {"$gt": null}}), "$gt in a filter takes a number, a string or a bool, not null"),
        (json!({"a": {"$lt": [1]}}), "$lt"),
        (json!({"a": {"$in": 1}}), "$in in a filter takes a list of values, not a number"),
        (json!({"a": {"$nin": {}}}), "$nin"),
        (json!({"a": {"$exists": 1}}), "$exists in a filter takes true or false, not a number"),
        (json!({"a": {"$gt": 1, "b": 2}}), "operators beside other keys"),
    ] {
        let error = Filter::parse(Some(&filter)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Filter);
        assert!(error.message().contains(told), "{filter}: {}", error.message());
    }
    assert_eq!(Filter::parse(None).unwrap(), None);
    assert_eq!(Filter::parse(Some(&Value::Null)).unwrap(), None);
    assert_eq!(Filter::parse(Some(&json!({"$and": [{}]}))).unwrap(), None);
}

#[test]
fn depth_is_bounded() {
    let nested = |depth| (0..depth).fold(json!({"a": 1}), |filter, _| json!({"$not": filter}));
    assert!(matches(nested(32), r#"{"a":1}"#));
    assert_eq!(Filter::parse(Some(&nested(33))).unwrap_err().code(), ErrorCode::Filter);
}

/// What the filter language means, on parsed values.
fn reference(filter: &Value, payload: &Value) -> bool {
    filter.as_object().unwrap().iter().all(|(name, value)| match name.as_str() {
        "$and" => value.as_array().unwrap().iter().all(|filter| reference(filter, payload)),
        "$or" => value.as_array().unwrap().iter().any(|filter| reference(filter, payload)),
        "$not" => !reference(value, payload),
        name => match value.as_object().filter(|parts| parts.keys().any(|key| key.starts_with('$'))) {
            None => payload.get(name).is_some_and(|found| same(found, value)),
            Some(operators) => operators.iter().all(|(operator, operand)| {
                let found = payload.get(name);
                let is_in = |list: &Value| {
                    list.as_array().unwrap().iter().any(|one| found.is_some_and(|found| same(found, one)))
                };
                match operator.as_str() {
                    "$eq" => found.is_some_and(|found| same(found, operand)),
                    "$ne" => !found.is_some_and(|found| same(found, operand)),
                    "$in" => is_in(operand),
                    "$nin" => !is_in(operand),
                    "$exists" => found.is_some() == operand.as_bool().unwrap(),
                    "$gt" => found.and_then(|found| order(found, operand)).is_some_and(|o| o.is_gt()),
                    "$gte" => found.and_then(|found| order(found, operand)).is_some_and(|o| o.is_ge()),
                    "$lt" => found.and_then(|found| order(found, operand)).is_some_and(|o| o.is_lt()),
                    "$lte" => found.and_then(|found| order(found, operand)).is_some_and(|o| o.is_le()),
                    other => panic!("{other}"),
                }
            }),
        },
    })
}

fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.chars().cmp(b.chars())),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..4i32).prop_map(Value::from),
        (-3..4i32).prop_map(|number| json!(f64::from(number) / 2.0)),
        "[ab\"é]{0,2}".prop_map(Value::from),
        // Beyond what postings keep as text.
        "[xy]".prop_map(|text| Value::from(text.repeat(70))),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let few = prop::collection::vec(scalar(), 0..3);
    prop_oneof![
        6 => scalar(),
        1 => few.prop_map(Value::from),
        1 => scalar().prop_map(|value| json!({ "x": value })),
        1 => Just(json!({})),
    ]
}

pub(super) fn any_payload() -> impl Strategy<Value = Value> {
    let object = prop::collection::btree_map("[abc]", any_value(), 0..4);
    prop_oneof![12 => object.prop_map(|fields| json!(fields)), 1 => any_value().prop_map(|value| json!([value]))]
}

fn condition() -> impl Strategy<Value = Value> {
    let comparable = || scalar().prop_filter("not null", |value| !value.is_null());
    let list = || prop::collection::vec(any_value(), 0..4);
    prop_oneof![
        any_value(),
        any_value().prop_map(|value| json!({ "$eq": value })),
        any_value().prop_map(|value| json!({ "$ne": value })),
        list().prop_map(|list| json!({ "$in": list })),
        list().prop_map(|list| json!({ "$nin": list })),
        comparable().prop_map(|value| json!({ "$gt": value })),
        comparable().prop_map(|value| json!({ "$lte": value })),
        (comparable(), comparable()).prop_map(|(low, high)| json!({"$gte": low, "$lt": high})),
        any::<bool>().prop_map(|exists| json!({ "$exists": exists })),
    ]
}

pub(super) fn any_filter() -> impl Strategy<Value = Value> {
    let leaf = prop::collection::btree_map("[abc]", condition(), 0..3).prop_map(|fields| json!(fields));
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            list().prop_map(|filters| json!({ "$and": filters })),
            list().prop_map(|filters| json!({ "$or": filters })),
            inner.prop_map(|filter| json!({ "$not": filter })),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_filter_means_what_the_reference_says(filter in any_filter(), payload in any_payload()) {
        let expected = reference(&filter, &payload);
        prop_assert_eq!(matches(filter, &payload.to_string()), expected);
    }
}
