//! Index transactions: what they read of the index counts as read by its state alone, so that of two that overlap one fails.

use std::sync::Arc;

use engine::{CancelToken, Durability, Mode, Transaction};

use super::lease::{self, Owner};
use crate::vector::VectorStore;
use crate::vector::shape::Shape;
use crate::vector::state::{Change, IndexState};
use crate::vector::table::Table;
use crate::{Database, Result};

/// An engine transaction that changes the index, and the state of the index that it began with.
pub(super) struct IndexTransaction {
    pub(super) t: Transaction,
    pub(super) shape: Shape,
    pub(super) state: IndexState,
}

impl VectorStore {
    /// Begins an index transaction; None when there is no store yet, or when somebody else than `owner` builds the index.
    pub(super) fn begin_index(
        &self,
        database: &Arc<Database>,
        owner: Option<Owner>,
        cancel: &CancelToken,
    ) -> Result<Option<IndexTransaction>> {
        let mut t = database.begin_engine(Mode::Write, cancel)?;
        let Some(shape) = self.shape(&mut t)? else { return Ok(None) };
        if lease::is_held_by_another(&mut t, shape.store, owner)? {
            return Ok(None);
        }
        let state = IndexState::read(&mut t, shape.store)?;
        Ok(Some(IndexTransaction { t, shape, state }))
    }
}

impl IndexTransaction {
    /// The index as it was when the transaction began.
    pub(super) fn table(&mut self) -> Result<Arc<Table>> {
        let Self { t, shape, .. } = self;
        t.untracked(|t| Table::read(t, shape.store, shape.rotation.padded(), shape.config.metric))
    }

    /// Makes the index that of the next version, whose stamp it gives. What a power cut takes back is done again, so it waits for no sync.
    pub(super) fn commit(mut self, change: &Change) -> Result<u64> {
        self.state.advance(&mut self.t, self.shape.store, change)?;
        self.t.set_durability(Durability::Relaxed);
        self.t.commit()?;
        Ok(self.state.stamp)
    }
}
