//! Numbering the rows anew, so that those that are gone leave nothing behind. No payload is read.

use std::collections::HashMap;
use std::ops::Bound;

use engine::{Direction, StoreId, Transaction};

use super::directory::{self, Appender};
use super::{Census, Gathered, Ordinal, lists, terms};
use crate::{Result, walk};

/// Fewer rows that are gone are left.
const GONE_MIN: u64 = 4096;
/// With more rows there is too much to hold in memory: they wait for a build from scratch.
const LIVE_MAX: u64 = 1 << 20;

/// True when most ordinals are those of rows that are gone.
pub(super) fn is_due(census: Census) -> bool {
    census.gone > GONE_MIN + 2 * census.live && census.live <= LIVE_MAX
}

pub(super) fn compact(t: &mut Transaction, store: StoreId) -> Result<()> {
    let live = directory::live_rows(t, store)?;
    let numbers: HashMap<Ordinal, Ordinal> =
        live.iter().zip(0..).map(|((ordinal, _), number)| (*ordinal, number)).collect();
    let mut gathered = Gathered { terms: HashMap::new(), are_new: true };
    let span = (Bound::Included(&terms::FIRST[..]), Bound::Excluded(&terms::END[..]));
    walk::visit(t, store, span, Direction::Forward, |key, value| {
        lists::each_of(key, value, |term, ordinal| {
            if let Some(number) = numbers.get(&ordinal) {
                gathered.add(term, *number);
            }
        })
        .map(|()| true)
    })?;
    super::clear(t, store)?;
    let mut appender = Appender::open(t, store)?;
    for (_, row) in live {
        appender.add(t, store, row)?;
    }
    gathered.store(t, store)?;
    appender.store(t, store)
}
