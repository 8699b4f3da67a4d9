//! Filters: which payloads a query may answer with.
//!
//! | Filter | A payload passes when |
//! |---|---|
//! | `{"f": value}`, `{"f": {"$eq": value}}` | its field `f` has this value: any JSON value, lists and objects as a whole |
//! | `{"f": {"$ne": value}}` | it does not pass `$eq` |
//! | `{"f": {"$in": [..]}}`, `{"f": {"$nin": [..]}}` | `f` has one of these values; it does not pass `$in` |
//! | `{"f": {"$gt": v}}`, `$gte`, `$lt`, `$lte` | `f` is of the type of `v` (number, string or bool) and compares so; strings by code points |
//! | `{"f": {"$exists": true}}` | it has a field `f`, be it null; with false: it has none |
//! | `{"$and": [..]}`, `{"$or": [..]}`, `{"$not": {..}}` | all, any, or not the filter inside |
//!
//! Several fields, and several operators of a field, are all required. Fields are those at the top of the payload; one that is not
//! there passes `$exists: false` and what negates (`$ne`, `$nin`, `$not`), nothing else. A payload that is no object has no fields.
//! Numbers compare by value: 999 is 999.0. An object in the place of a value whose keys do not begin with `$` is a value.
//!
//! `parse` reads that, `evaluate` applies it to one payload, `postings` finds rows that pass without reading payloads, and `matches`
//! keeps what was found.

mod evaluate;
mod fields;
mod matches;
mod parse;
pub(in crate::vector) mod postings;
mod row_set;

use serde_json::{Number, Value};

use crate::btree::{OrderedNumber, Scalar};
pub(in crate::vector) use matches::Matches;

/// A filter that does not let everything pass.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::vector) struct Filter {
    /// As JSON, in one form for all filters that read the same.
    text: String,
    /// The fields it asks for, each name once.
    fields: Vec<Field>,
    root: Node,
}

/// What is asked of a field. Each test has a number, by which nodes name it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Field {
    name: String,
    tests: Vec<(usize, Test)>,
}

/// How tests are combined.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Test(usize),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// A question about the value of a field that is there.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    OneOf(Values),
    Compares(Relation, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Values to be equal to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Values {
    /// Rising, none twice.
    scalars: Vec<Operand>,
    /// Lists and objects.
    composites: Vec<Value>,
}

/// A scalar of the filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operand {
    Null,
    Bool(bool),
    Number(OrderedNumber),
    Text(String),
}

impl Operand {
    /// None for lists and objects.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Operand::Null),
            Value::Bool(truth) => Some(Operand::Bool(*truth)),
            Value::Number(number) => Some(Operand::Number(ordered(number))),
            Value::String(text) => Some(Operand::Text(text.clone())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn as_scalar(&self) -> Scalar<'_> {
        match self {
            Operand::Null => Scalar::Null,
            Operand::Bool(truth) => Scalar::Bool(*truth),
            Operand::Number(number) => Scalar::Number(*number),
            Operand::Text(text) => Scalar::Text(text),
        }
    }
}

fn ordered(number: &Number) -> OrderedNumber {
    match (number.as_i64(), number.as_u64()) {
        (Some(integer), _) => OrderedNumber::from_integer(integer),
        (None, Some(integer)) => OrderedNumber::from_unsigned(integer),
        // JSON has no NaN and no infinity.
        (None, None) => OrderedNumber::from_float(number.as_f64().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
