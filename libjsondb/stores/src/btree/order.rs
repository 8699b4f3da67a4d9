//! The order of keys as values, for tests to hold the order of the bytes against.

#![allow(clippy::unwrap_used)]

use std::cmp::Ordering;

use serde_json::{Map, Number, Value, json};

/// The order as the contract has it, said without bytes.
pub(super) fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare_numbers(one, other),
        (Value::String(one), Value::String(other)) => one.as_bytes().cmp(other.as_bytes()),
        (Value::Array(one), Value::Array(other)) => compare_lists(one.iter(), other.iter()),
        (Value::Object(one), Value::Object(other)) => compare_lists(pairs(one).iter(), pairs(other).iter()),
        _ => rank(one).cmp(&rank(other)),
    }
}

fn pairs(fields: &Map<String, Value>) -> Vec<Value> {
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort();
    names.into_iter().flat_map(|name| [json!(name), fields[name].clone()]).collect()
}

fn compare_lists<'a>(
    one: impl Iterator<Item = &'a Value>,
    mut other: impl Iterator<Item = &'a Value>,
) -> Ordering {
    for element in one {
        match other.next().map(|other| compare(element, other)) {
            Some(Ordering::Equal) => {}
            Some(unequal) => return unequal,
            None => return Ordering::Greater,
        }
    }
    other.next().map_or(Ordering::Equal, |_| Ordering::Less)
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    }
}

fn compare_numbers(one: &Number, other: &Number) -> Ordering {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(one), None) => compare_whole(one, other.as_f64().unwrap()),
        (None, Some(other)) => compare_whole(other, one.as_f64().unwrap()).reverse(),
        (None, None) => one.as_f64().unwrap().partial_cmp(&other.as_f64().unwrap()).unwrap(),
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or(number.as_u64().map(i128::from))
}

fn compare_whole(whole: i128, float: f64) -> Ordering {
    if float.abs() >= 1e30 {
        return if float > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    let floor = float.floor();
    whole.cmp(&(floor as i128)).then(if float > floor { Ordering::Less } else { Ordering::Equal })
}
