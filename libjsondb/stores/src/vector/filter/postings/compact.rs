//! Numbering the rows anew, so that those that are gone leave nothing behind. No payload is read.

use std::ops::Bound;

use engine::{Direction, StoreId, Transaction};

use super::directory::{self, Appender};
use super::ordinals::Ranks;
use super::{Census, Ordinal, lists, terms};
use crate::{Result, walk};

/// Fewer rows that are gone are left.
const GONE_MIN: u64 = 4096;

/// True when most ordinals are those of rows that are gone.
pub(super) fn is_due(census: Census) -> bool {
    census.gone > GONE_MIN + 2 * census.live
}

/// Holds about `at_once` ordinals in memory at once, those of one term in any case.
pub(super) fn compact(t: &mut Transaction, store: StoreId, at_once: usize) -> Result<()> {
    let (live, blocks) = directory::live(t, store)?;
    let numbers = Ranks::new(live);
    let mut start = Bound::Included(terms::FIRST.to_vec());
    while let Some(moved) = Moved::read(t, store, start.as_ref().map(Vec::as_slice), &numbers, at_once)? {
        start = Bound::Excluded(moved.last.clone());
        moved.store(t, store)?;
    }
    directory::clear(t, store)?;
    let mut appender = Appender::open(t, store)?;
    for row in blocks.into_iter().flat_map(|(block, slots)| directory::slots_of(block, slots)) {
        appender.add(t, store, row)?;
    }
    appender.store(t, store)
}

/// A term and its ordinals.
type Term = (Vec<u8>, Vec<Ordinal>);

/// Some terms, one after the other, with new ordinals.
struct Moved {
    terms: Vec<Term>,
    /// Where they were.
    keys: Vec<Vec<u8>>,
    /// The last key that the last of them can have.
    last: Vec<u8>,
}

impl Moved {
    fn read(
        t: &mut Transaction,
        store: StoreId,
        start: Bound<&[u8]>,
        numbers: &Ranks,
        at_once: usize,
    ) -> Result<Option<Self>> {
        let (mut terms, mut keys, mut count) = (Vec::<Term>::new(), Vec::new(), 0);
        let span = (start, Bound::Excluded(&terms::END[..]));
        walk::visit(t, store, span, Direction::Forward, |key, value| {
            let term = lists::term_of(key)?;
            if terms.last().is_none_or(|(last, _)| last != term) {
                if count >= at_once {
                    return Ok(false);
                }
                terms.push((term.to_vec(), Vec::new()));
            }
            let Some((_, ordinals)) = terms.last_mut() else { return Ok(false) };
            let before = ordinals.len();
            lists::each_of(key, value, |ordinal| ordinals.extend(numbers.rank(ordinal)))?;
            // A key takes room, too.
            count += 1 + ordinals.len() - before;
            keys.push(key.to_vec());
            Ok(true)
        })?;
        let last = terms.last().map(|(term, _)| lists::keys_of(term).1);
        Ok(last.map(|last| Self { terms, keys, last }))
    }

    fn store(self, t: &mut Transaction, store: StoreId) -> Result<()> {
        self.keys.iter().try_for_each(|key| t.delete(store, key))?;
        self.terms.iter().try_for_each(|(term, ordinals)| lists::append(t, store, term, ordinals, true))
    }
}
