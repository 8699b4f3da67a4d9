//! Runs of commits that no checkpoint has taken in: every page, the order of keys, and what the commit says about them.

use std::ops::Bound;

use super::state::State;
use super::{Check, Verification};
use crate::run::Run;
use crate::{Result, ValueRef};

impl Check<'_, '_> {
    /// True when all runs could be read. What is wrong with one is one finding.
    pub(super) fn runs(&mut self, state: &State, verification: &mut Verification) -> Result<bool> {
        let mut are_whole = true;
        for run in state.snapshot.runs() {
            let checked = self.run(state, run);
            match self.noted(checked)? {
                // The values are read, and counted, with the rest of the commits.
                Some(value_bytes) => verification.bytes += run.bytes.saturating_sub(value_bytes),
                None => are_whole = false,
            }
        }
        Ok(are_whole)
    }

    /// Gives the bytes of the values outside of its pages.
    fn run(&mut self, state: &State, run: &Run) -> Result<u64> {
        let mut cursor = run.cursor(&state.pages).tree;
        cursor.seek_forward(Bound::Unbounded)?;
        let (mut count, mut value_bytes) = (0, 0);
        let mut last: Option<Vec<u8>> = None;
        let wrong = |what: &str| Err(state.pages.damaged(&run.root, what));
        while let Some((key, value)) = cursor.current() {
            if last.as_deref().map_or(*key != *run.first, |last| last >= key) {
                return wrong("keys of a run are out of order");
            }
            if let ValueRef::Blob(blob) = value {
                value_bytes += u64::from(blob.stored_len);
            }
            last = Some(key.to_vec());
            count += 1;
            if count % 1024 == 0 {
                self.progress.advance(0)?;
            }
            cursor.forward()?;
        }
        if count != run.count || last.as_deref() != Some(&*run.last) {
            return wrong("a run does not hold what its commit says");
        }
        self.progress.advance(run.bytes.saturating_sub(value_bytes))?;
        Ok(value_bytes)
    }
}
