//! Reading a filter.

use serde_json::{Map, Value};

use super::{Field, Filter, Node, Operand, Relation, Test, Values};
use crate::{Error, ErrorCode, Result};

/// Deepest nesting of `$and`, `$or` and `$not`.
const DEPTH_MAX: usize = 32;

const COMBINATIONS: &str = "$and, $or, $not";
const OPERATORS: &str = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists";

impl Filter {
    /// The filter in `value`; None when it lets everything pass.
    pub(in crate::vector) fn parse(value: Option<&Value>) -> Result<Option<Self>> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
        let mut parser = Parser { fields: Vec::new(), tests: 0 };
        let root = parser.filter("a filter", value, 0)?;
        if parser.tests == 0 && root.holds(&[]) {
            return Ok(None);
        }
        Ok(Some(Self { text: value.to_string(), fields: parser.fields, root }))
    }
}

struct Parser {
    fields: Vec<Field>,
    /// How many there are so far.
    tests: usize,
}

impl Parser {
    fn filter(&mut self, what: &str, value: &Value, depth: usize) -> Result<Node> {
        if depth > DEPTH_MAX {
            return Err(refused(format!("a filter is nested at most {DEPTH_MAX} deep")));
        }
        let Value::Object(parts) = value else {
            return Err(refused(format!(
                "{what} is an object of payload fields and what they must be, not {}",
                kind(value)
            )));
        };
        let mut nodes = Vec::with_capacity(parts.len());
        for (name, value) in parts {
            nodes.push(match name.as_str() {
                "$and" => Node::All(self.filters(name, value, depth + 1)?),
                "$or" => Node::Any(self.filters(name, value, depth + 1)?),
                "$not" => Node::Not(Box::new(self.filter("$not", value, depth + 1)?)),
                _ if name.starts_with('$') => return Err(unknown(name, "beside fields", COMBINATIONS)),
                _ => self.field(name, value)?,
            });
        }
        Ok(all(nodes))
    }

    fn filters(&mut self, name: &str, value: &Value, depth: usize) -> Result<Vec<Node>> {
        match value {
            Value::Array(filters) if !filters.is_empty() => {
                filters.iter().map(|filter| self.filter(name, filter, depth)).collect()
            }
            other => Err(wrong(name, "a list of filters, at least one", other)),
        }
    }

    /// What a field must be: a value, or operators.
    fn field(&mut self, name: &str, value: &Value) -> Result<Node> {
        match operators(name, value)? {
            None => Ok(self.test(name, Test::OneOf(Values::of([value])))),
            Some(operators) => {
                let nodes =
                    operators.iter().map(|(operator, operand)| self.operator(name, operator, operand));
                Ok(all(nodes.collect::<Result<_>>()?))
            }
        }
    }

    fn operator(&mut self, field: &str, operator: &str, operand: &Value) -> Result<Node> {
        let (test, holds) = match operator {
            "$eq" => (Test::OneOf(Values::of([operand])), true),
            "$ne" => (Test::OneOf(Values::of([operand])), false),
            "$in" => (one_of(operator, operand)?, true),
            "$nin" => (one_of(operator, operand)?, false),
            "$gt" => (compares(operator, Relation::Above, operand)?, true),
            "$gte" => (compares(operator, Relation::AtLeast, operand)?, true),
            "$lt" => (compares(operator, Relation::Below, operand)?, true),
            "$lte" => (compares(operator, Relation::AtMost, operand)?, true),
            "$exists" => match operand {
                Value::Bool(exists) => (Test::Exists, *exists),
                other => return Err(wrong(operator, "true or false", other)),
            },
            unknown_one => return Err(unknown(unknown_one, &format!("of the field {field:?}"), OPERATORS)),
        };
        let node = self.test(field, test);
        Ok(if holds { node } else { Node::Not(Box::new(node)) })
    }

    fn test(&mut self, name: &str, test: Test) -> Node {
        let number = self.tests;
        self.tests += 1;
        match self.fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.tests.push((number, test)),
            None => self.fields.push(Field { name: name.to_owned(), tests: vec![(number, test)] }),
        }
        Node::Test(number)
    }
}

/// The operators in the place of a value; None when it is a value.
fn operators<'a>(field: &str, value: &'a Value) -> Result<Option<&'a Map<String, Value>>> {
    let Value::Object(parts) = value else { return Ok(None) };
    let count = parts.keys().filter(|name| name.starts_with('$')).count();
    if count == 0 {
        return Ok(None);
    }
    if count < parts.len() {
        return Err(refused(format!(
            "the field {field:?} has operators beside other keys: it is either {OPERATORS}, or a value"
        )));
    }
    Ok(Some(parts))
}

fn all(mut nodes: Vec<Node>) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        Some(last) => {
            nodes.push(last);
            Node::All(nodes)
        }
        None => Node::All(nodes),
    }
}

fn one_of(operator: &str, operand: &Value) -> Result<Test> {
    match operand {
        Value::Array(values) => Ok(Test::OneOf(Values::of(values))),
        other => Err(wrong(operator, "a list of values", other)),
    }
}

fn compares(operator: &str, relation: Relation, operand: &Value) -> Result<Test> {
    match Operand::of(operand) {
        Some(scalar) if scalar != Operand::Null => Ok(Test::Compares(relation, scalar)),
        _ => Err(wrong(operator, "a number, a string or a bool", operand)),
    }
}

impl Values {
    fn of<'a>(values: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut all = Self::default();
        for value in values {
            match Operand::of(value) {
                Some(scalar) => all.scalars.push(scalar),
                None => all.composites.push(value.clone()),
            }
        }
        all.scalars.sort_unstable();
        all.scalars.dedup();
        all
    }
}

fn wrong(operator: &str, expected: &str, found: &Value) -> Error {
    refused(format!("{operator} in a filter takes {expected}, not {}", kind(found)))
}

fn unknown(operator: &str, place: &str, known: &str) -> Error {
    let shown: String = operator.chars().take(64).collect();
    refused(format!("a filter has no operator {shown:?} {place}: known are {known}"))
}

fn refused(message: String) -> Error {
    Error::new(ErrorCode::Filter, message)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(list) if list.is_empty() => "an empty list",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
