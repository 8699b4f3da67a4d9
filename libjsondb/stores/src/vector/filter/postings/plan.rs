//! A filter on postings: sets of ordinals for its tests, combined as they are.

use std::ops::Bound;

use engine::{StoreId, Transaction};

use super::super::{Filter, Node, Operand, Relation, Test, Values};
use super::{Found, Ordinal, Ordinals, directory, lists, terms};
use crate::{Result, walk};

/// The indexed rows that may pass a filter; None when the postings cannot tell. Reads do not count.
pub(in crate::vector::filter) fn find(
    t: &mut Transaction,
    store: StoreId,
    filter: &Filter,
) -> Result<Option<Found>> {
    t.untracked(|t| {
        let bound = directory::count(t, store)?;
        let mut plan = Plan { t, store, tests: tests(filter), bound };
        let Some(found) = plan.node(&filter.root)? else { return Ok(None) };
        let mut unread = Ordinals::none(bound);
        plan.add_term(&terms::UNREAD, &mut unread)?;
        let is_exact = found.is_exact && unread.is_empty();
        let rows = directory::rows_of(t, store, &found.ordinals.union(&unread))?;
        Ok(Some(Found { rows, is_exact }))
    })
}

/// Tests by their number, with the field that each is about.
fn tests(filter: &Filter) -> Vec<(&str, &Test)> {
    let named = |field: &'_ super::super::Field| field.tests.len();
    let mut tests: Vec<_> = Vec::with_capacity(filter.fields.iter().map(named).sum());
    for field in &filter.fields {
        tests.extend(field.tests.iter().map(|(number, test)| (*number, (field.name.as_str(), test))));
    }
    tests.sort_unstable_by_key(|(number, _)| *number);
    tests.into_iter().map(|(_, test)| test).collect()
}

/// Rows that may pass a part of a filter.
struct Candidates {
    ordinals: Ordinals,
    is_exact: bool,
}

struct Plan<'a> {
    t: &'a mut Transaction,
    store: StoreId,
    tests: Vec<(&'a str, &'a Test)>,
    /// How many ordinals there are.
    bound: Ordinal,
}

impl Plan<'_> {
    /// None: any row may pass.
    fn node(&mut self, node: &Node) -> Result<Option<Candidates>> {
        match node {
            Node::Test(number) => self.test(*number),
            Node::Not(node) => Ok(match self.node(node)? {
                Some(Candidates { ordinals, is_exact: true }) => {
                    Some(Candidates { ordinals: ordinals.complement(), is_exact: true })
                }
                _ => None,
            }),
            Node::All(nodes) => self.all(nodes),
            Node::Any(nodes) => self.any(nodes),
        }
    }

    fn all(&mut self, nodes: &[Node]) -> Result<Option<Candidates>> {
        let mut all: Option<Candidates> = None;
        let mut is_exact = true;
        for node in nodes {
            let Some(part) = self.node(node)? else {
                is_exact = false;
                continue;
            };
            is_exact &= part.is_exact;
            let ordinals = match all {
                Some(before) => before.ordinals.intersection(&part.ordinals),
                None => part.ordinals,
            };
            if ordinals.is_empty() {
                return Ok(Some(Candidates { ordinals, is_exact: true }));
            }
            all = Some(Candidates { ordinals, is_exact });
        }
        Ok(match all {
            Some(all) => Some(Candidates { is_exact, ..all }),
            // A filter without parts.
            None if is_exact => {
                Some(Candidates { ordinals: Ordinals::none(self.bound).complement(), is_exact })
            }
            None => None,
        })
    }

    fn any(&mut self, nodes: &[Node]) -> Result<Option<Candidates>> {
        let mut any = Candidates { ordinals: Ordinals::none(self.bound), is_exact: true };
        for node in nodes {
            let Some(part) = self.node(node)? else { return Ok(None) };
            any.ordinals = any.ordinals.union(&part.ordinals);
            any.is_exact &= part.is_exact;
        }
        Ok(Some(any))
    }

    fn test(&mut self, number: usize) -> Result<Option<Candidates>> {
        let (name, test) = self.tests[number];
        let mut ordinals = Ordinals::none(self.bound);
        let is_exact = match test {
            Test::Exists => {
                self.add_prefix(&terms::field(name), &mut ordinals)?;
                true
            }
            Test::OneOf(values) => self.add_values(name, values, &mut ordinals)?,
            Test::Compares(relation, operand) => self.add_range(name, *relation, operand, &mut ordinals)?,
        };
        Ok(Some(Candidates { ordinals, is_exact }))
    }

    /// Adds the rows with one of the values. False when some of them may not have it.
    fn add_values(&mut self, name: &str, values: &Values, ordinals: &mut Ordinals) -> Result<bool> {
        let mut is_exact = true;
        for scalar in &values.scalars {
            let mut term = terms::field(name);
            is_exact &= terms::append_value(scalar.as_scalar(), &mut term);
            self.add_term(&term, ordinals)?;
        }
        if !values.composites.is_empty() {
            is_exact = false;
            self.add_term(&terms::composite(name), ordinals)?;
        }
        Ok(is_exact)
    }

    /// Adds the rows whose value compares so. False when some of them may not.
    fn add_range(
        &mut self,
        name: &str,
        relation: Relation,
        operand: &Operand,
        ordinals: &mut Ordinals,
    ) -> Result<bool> {
        let field = terms::field(name);
        let first_bytes = operand.as_scalar().first_bytes();
        let edge = |byte: u8| [&*field, &[byte]].concat();
        let (start, end) = (edge(first_bytes.start), edge(first_bytes.end));
        let mut term = field.clone();
        operand.as_scalar().append(&mut term);
        let (low, high) = lists::keys_of(&term);
        let span = match relation {
            Relation::Below => (Bound::Included(&*start), Bound::Excluded(&*low)),
            Relation::AtMost => (Bound::Included(&*start), Bound::Included(&*high)),
            Relation::Above => (Bound::Excluded(&*high), Bound::Excluded(&*end)),
            Relation::AtLeast => (Bound::Included(&*low), Bound::Excluded(&*end)),
        };
        self.add(span, ordinals)?;
        if !matches!(operand, Operand::Text(_)) {
            return Ok(true);
        }
        // How long ones compare, their hashes do not tell.
        let mut long = Ordinals::none(self.bound);
        self.add_prefix(&terms::long_texts(name), &mut long)?;
        let is_exact = long.is_empty();
        *ordinals = long.union(ordinals);
        Ok(is_exact)
    }

    fn add_term(&mut self, term: &[u8], ordinals: &mut Ordinals) -> Result<()> {
        let (first, last) = lists::keys_of(term);
        self.add((Bound::Included(&*first), Bound::Included(&*last)), ordinals)
    }

    /// Adds the rows of all terms that begin so.
    fn add_prefix(&mut self, prefix: &[u8], ordinals: &mut Ordinals) -> Result<()> {
        // What follows is less: the first byte of a value.
        let end = [prefix, &[u8::MAX; 16]].concat();
        self.add((Bound::Included(prefix), Bound::Excluded(&*end)), ordinals)
    }

    fn add(&mut self, span: walk::Span<'_>, ordinals: &mut Ordinals) -> Result<()> {
        lists::collect(self.t, self.store, span, ordinals)
    }
}
