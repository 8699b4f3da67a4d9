//! Applying a filter to one payload.

use std::mem::discriminant;

use serde_json::Value;

use super::fields::{Depth, Reader, Seen, read};
use super::{Field, Filter, Node, Operand, Relation, Test, Values, ordered};
use crate::btree::Scalar;

impl Filter {
    /// True when the payload, as JSON text, passes. What cannot be read passes no filter.
    pub(in crate::vector) fn matches(&self, payload: &[u8]) -> bool {
        let tests = self.fields.iter().map(|field| field.tests.len()).sum();
        let mut truths = Truths { fields: &self.fields, holds: vec![false; tests], current: 0 };
        read(payload, &mut truths) && self.root.holds(&truths.holds)
    }
}

/// Which tests hold, as far as a payload has been read.
struct Truths<'f> {
    fields: &'f [Field],
    holds: Vec<bool>,
    /// The field whose value comes next.
    current: usize,
}

impl Reader for Truths<'_> {
    fn wants(&mut self, name: &str) -> Depth {
        match self.fields.iter().position(|field| field.name == name) {
            None => Depth::Nothing,
            Some(index) => {
                self.current = index;
                let is_whole = |(_, test): &(usize, Test)| matches!(test, Test::OneOf(values) if !values.composites.is_empty());
                if self.fields[index].tests.iter().any(is_whole) { Depth::Whole } else { Depth::Scalars }
            }
        }
    }

    fn take(&mut self, value: Seen<'_>) {
        for (number, test) in &self.fields[self.current].tests {
            self.holds[*number] = test.holds(&value);
        }
    }
}

impl Node {
    /// The depth of the recursion is bounded by the parser.
    pub(super) fn holds(&self, truths: &[bool]) -> bool {
        match self {
            Node::Test(number) => truths[*number],
            Node::Not(node) => !node.holds(truths),
            Node::All(nodes) => nodes.iter().all(|node| node.holds(truths)),
            Node::Any(nodes) => nodes.iter().any(|node| node.holds(truths)),
        }
    }
}

impl Test {
    fn holds(&self, value: &Seen<'_>) -> bool {
        match (self, value) {
            (Test::Exists, _) => true,
            (Test::OneOf(values), value) => values.hold(value),
            (Test::Compares(relation, operand), Seen::Scalar(scalar)) => relation.holds(*scalar, operand),
            (Test::Compares(..), Seen::Composite(_)) => false,
        }
    }
}

impl Relation {
    fn holds(self, scalar: Scalar<'_>, operand: &Operand) -> bool {
        let operand = operand.as_scalar();
        let of_one_type = discriminant(&scalar) == discriminant(&operand);
        of_one_type
            && match self {
                Relation::Below => scalar < operand,
                Relation::AtMost => scalar <= operand,
                Relation::Above => scalar > operand,
                Relation::AtLeast => scalar >= operand,
            }
    }
}

impl Values {
    fn hold(&self, value: &Seen<'_>) -> bool {
        match value {
            Seen::Scalar(scalar) => {
                self.scalars.binary_search_by(|operand| operand.as_scalar().cmp(scalar)).is_ok()
            }
            Seen::Composite(Some(value)) => self.composites.iter().any(|other| equals(value, other)),
            Seen::Composite(None) => false,
        }
    }
}

/// Equality of JSON values, numbers by value. Depth is bounded by the parser that made them.
fn equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => ordered(a) == ordered(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equals(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equals(a, b)))
        }
        _ => a == b,
    }
}
