//! Postings: which indexed rows have which scalar in which field of their payload. Index transactions alone write them.
//!
//! | Key | Value |
//! |---|---|
//! | `f`, 0, first ordinal | rows by ordinal, see `directory` |
//! | `f`, 1, field, value, first ordinal | the ordinals behind the first, as steps from one to the next |
//! | `f`, 2, first ordinal | the same, of rows that are not in the postings of all their fields |
//!
//! An ordinal (u32) is the number of a row in the order in which rows were added. Field and value are encoded as in keys of B-trees.
//! In the place of a value, 7 and an XXH3-64 stand for strings of more than 64 bytes, 8 for all lists and objects. Steps are varints: a
//! byte per row for values that are not rare. A payload that cannot be read, that has more than 64 fields, or one with a name of more than
//! 256 bytes, is met by every filter, and checked.

mod compact;
mod directory;
#[cfg(any(test, feature = "fuzz"))]
pub(in crate::vector) mod fuzz;
mod lists;
mod ordinals;
mod plan;
mod terms;
mod varint;

use std::collections::HashMap;
use std::ops::Bound;

use engine::{Direction, StoreId, Transaction};

use self::directory::Appender;
use self::ordinals::Ordinals;
use self::terms::Terms;
use super::row_set::RowSet;
use crate::vector::keys::{RowId, damaged};
use crate::{Error, Result, walk};

pub(in crate::vector::filter) use plan::find;

type Ordinal = u32;

/// Terms that are gathered before they are written: what bounds the memory of a build.
const GATHERED_MAX: usize = 1 << 16;
/// Ordinals in memory at once while rows are numbered anew.
const MOVED_MAX: usize = 1 << 20;

/// Rows that have an ordinal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::vector) struct Census {
    pub(in crate::vector) live: u64,
    /// Not there any more: their ordinals are in postings until the rows are numbered anew, once they are most.
    pub(in crate::vector) gone: u64,
}

/// Rows that may pass a filter.
#[derive(Debug)]
pub(in crate::vector::filter) struct Found {
    /// At least the indexed rows that pass.
    pub(in crate::vector::filter) rows: RowSet,
    /// True when all of them pass.
    pub(in crate::vector::filter) is_exact: bool,
}

/// Adds rows with their payloads, which were not there. Costs the least when later rows lie behind earlier ones.
pub(in crate::vector) fn add<P: AsRef<[u8]>>(
    t: &mut Transaction,
    store: StoreId,
    rows: impl IntoIterator<Item = (RowId, P)>,
) -> Result<()> {
    let mut builder = Builder::new(t, store)?;
    rows.into_iter().try_for_each(|(row, payload)| builder.add(t, row, payload.as_ref()))?;
    builder.finish(t)
}

/// Adds rows one by one; all of them are there when it is finished.
pub(in crate::vector) struct Builder {
    store: StoreId,
    appender: Appender,
    gathered: Gathered,
    terms: Terms,
}

impl Builder {
    pub(in crate::vector) fn new(t: &mut Transaction, store: StoreId) -> Result<Self> {
        let appender = Appender::open(t, store)?;
        let gathered = Gathered { terms: HashMap::new(), are_new: appender.next() == 0 };
        Ok(Self { store, appender, gathered, terms: Terms::default() })
    }

    pub(in crate::vector) fn add(&mut self, t: &mut Transaction, row: RowId, payload: &[u8]) -> Result<()> {
        let ordinal = self.appender.add(t, self.store, row)?;
        let gathered = &mut self.gathered;
        self.terms.read(payload).for_each(|term| gathered.add(term, ordinal));
        if gathered.terms.len() >= GATHERED_MAX { gathered.store(t, self.store) } else { Ok(()) }
    }

    pub(in crate::vector) fn finish(mut self, t: &mut Transaction) -> Result<()> {
        self.gathered.store(t, self.store)?;
        self.appender.store(t, self.store)
    }
}

/// Removes all, so that the rows can be added anew.
pub(in crate::vector) fn clear(t: &mut Transaction, store: StoreId) -> Result<()> {
    let mut keys = Vec::new();
    let span = (Bound::Included(&b"f"[..]), Bound::Excluded(&b"g"[..]));
    walk::visit(t, store, span, Direction::Forward, |key, _| {
        keys.push(key.to_vec());
        Ok(true)
    })?;
    keys.into_iter().try_for_each(|key| Ok(t.delete(store, &key)?))
}

/// Forgets rows that are not kept: they are found no more.
pub(in crate::vector) fn retain(
    t: &mut Transaction,
    store: StoreId,
    keep: impl FnMut(RowId) -> bool,
) -> Result<Census> {
    let census = directory::retain(t, store, keep)?;
    if compact::is_due(census) {
        compact::compact(t, store, MOVED_MAX)?;
    }
    Ok(census)
}

/// Ordinals by term, before they are written.
struct Gathered {
    terms: HashMap<Box<[u8]>, Vec<Ordinal>>,
    /// None of them is in the store.
    are_new: bool,
}

impl Gathered {
    fn add(&mut self, term: &[u8], ordinal: Ordinal) {
        match self.terms.get_mut(term) {
            Some(ordinals) => ordinals.push(ordinal),
            None => drop(self.terms.insert(term.into(), vec![ordinal])),
        }
    }

    fn store(&mut self, t: &mut Transaction, store: StoreId) -> Result<()> {
        let mut terms: Vec<_> = self.terms.drain().collect();
        terms.sort_unstable();
        for (term, ordinals) in terms {
            lists::append(t, store, &term, &ordinals, self.are_new)?;
        }
        self.are_new = false;
        Ok(())
    }
}

fn unlike_written() -> Error {
    damaged("postings are not as they are written")
}

#[cfg(test)]
mod tests;
