//! Stretches of the key space in which a snapshot has no key. Loads put many keys into one: each is looked up, and the one look at the
//! stretch answers for all.

use std::ops::Bound;

use crate::snapshot::{Merge, Snapshot};
use crate::tree::{Keep, Pages};
use crate::{Direction, Result};

/// So many keys are missing before the gap around one is looked for, which takes as long as some look-ups.
const MISSES_MIN: u32 = 8;
/// Where gaps answered too little, twice as many each time, up to this.
const MISSES_MAX: u32 = 1 << 16;

/// No key lies between the two; None is the end of the key space.
pub(crate) struct Gap {
    after: Option<Box<[u8]>>,
    before: Option<Box<[u8]>>,
}

impl Gap {
    fn covers(&self, key: &[u8]) -> bool {
        self.after.as_deref().is_none_or(|after| key > after)
            && self.before.as_deref().is_none_or(|before| key < before)
    }
}

impl Snapshot {
    /// The gap around a key that is missing. A key that was removed may end it as well.
    pub(crate) fn gap_around(&self, pages: &Pages, key: &[u8]) -> Result<Gap> {
        let nearest = |direction| -> Result<Option<Box<[u8]>>> {
            let sources = self.memtable_sources(pages).chain(self.tree_source(pages, Keep::All)).collect();
            let merge = Merge::new(sources, Bound::Excluded(key), direction)?;
            Ok(merge.current().map(|(key, _)| key.into()))
        };
        Ok(Gap { after: nearest(Direction::Backward)?, before: nearest(Direction::Forward)? })
    }
}

/// What a transaction has learned of the gaps of its snapshot, which never changes: the last one found.
pub(crate) struct Gaps {
    known: Option<Gap>,
    /// Keys that the last one answered for.
    answers: u32,
    /// Keys missing since.
    misses: u32,
    misses_wanted: u32,
}

impl Default for Gaps {
    fn default() -> Self {
        Self { known: None, answers: 0, misses: 0, misses_wanted: MISSES_MIN }
    }
}

impl Gaps {
    /// True when the key is known to be missing.
    pub(crate) fn cover(&mut self, key: &[u8]) -> bool {
        let is_covered = self.known.as_ref().is_some_and(|gap| gap.covers(key));
        self.answers = self.answers.saturating_add(u32::from(is_covered));
        is_covered
    }

    /// Counts a key that was missing; true when it is time to learn the gap around it.
    pub(crate) fn miss(&mut self) -> bool {
        self.misses += 1;
        self.misses >= self.misses_wanted
    }

    pub(crate) fn learn(&mut self, gap: Gap) {
        let was_worth_it = self.known.is_none() || self.answers >= self.misses_wanted;
        self.misses_wanted = if was_worth_it { MISSES_MIN } else { (self.misses_wanted * 2).min(MISSES_MAX) };
        self.known = Some(gap);
        self.answers = 0;
        self.misses = 0;
    }
}
