//! Reading a map: single keys, many keys, walks.

use std::ops::Bound;
use std::sync::Arc;

use engine::{Direction, Mode, Transaction as EngineTransaction};

use super::{Chunk, Map, Rows, Scope};
use crate::btree::rows::What;
use crate::walk;
use crate::{Error, Result};

/// A batch of a walk ends once it has this many bytes.
const BATCH_BYTES: usize = 4 << 20;

impl Map {
    /// Shows `look` the JSON text of a key's value, None when there is none; gives what `look` gives.
    pub fn get_with<R>(&self, key: &[u8], look: impl FnOnce(Option<&[u8]>) -> R) -> Result<R> {
        let look =
            |record: Option<&[u8]>| record.map(|record| self.layout.value_of(record)).transpose().map(look);
        match &self.scope {
            Scope::Auto { database, engine, .. } => {
                database.check_open(&self.cancel)?;
                engine.get_with(self.store, key, look)?
            }
            Scope::In(transaction) => {
                transaction.with(&self.cancel, |engine| engine.get_with(self.store, key, look)?)
            }
        }
    }

    /// As [`Map::get_with`]; None, and `look` is not called, when it would have to wait for the disk or a lock.
    pub fn get_cached_with<R>(&self, key: &[u8], look: impl FnOnce(Option<&[u8]>) -> R) -> Result<Option<R>> {
        let look =
            |record: Option<&[u8]>| record.map(|record| self.layout.value_of(record)).transpose().map(look);
        let looked = match &self.scope {
            Scope::Auto { database, engine, .. } => {
                database.check_open(&self.cancel)?;
                engine.get_cached_with(self.store, key, look)?
            }
            Scope::In(transaction) => {
                let tried = transaction
                    .try_with(&self.cancel, |engine| Ok(engine.get_cached_with(self.store, key, look)?));
                tried?.flatten()
            }
        };
        looked.transpose()
    }

    /// Looks up all keys of a chunk, in its order.
    pub fn get_many(&self, keys: &Chunk, rows: &mut Rows) -> Result<()> {
        self.scope.read(&self.cancel, |engine| {
            rows.clear();
            for (key, _) in keys.iter() {
                engine.get_with(self.store, key, |record| rows.push_answer(record))?;
            }
            Ok(())
        })
    }

    /// The first `count` items of a range, as one call. Bounds in key order, whatever the direction.
    pub fn page(
        &self,
        start: Bound<&[u8]>,
        stop: Bound<&[u8]>,
        direction: Direction,
        count: usize,
        rows: &mut Rows,
    ) -> Result<()> {
        self.scope.read(&self.cancel, |engine| {
            rows.clear();
            self.batch(engine, (start, stop), direction, What::Items, (count, usize::MAX), rows)
        })
    }

    /// Begins a walk over a range: one snapshot, or the caller's transaction as it is at each batch.
    pub fn walk(
        self: &Arc<Self>,
        start: Bound<Vec<u8>>,
        stop: Bound<Vec<u8>>,
        direction: Direction,
        what: What,
    ) -> Result<Walk> {
        let own = self.scope.begin_lasting(&self.cancel, Mode::Read)?;
        Ok(Walk { map: Arc::clone(self), own, start, stop, direction, what, has_ended: false })
    }

    /// Appends items of a range until there are `limits.0`, or `limits.1` bytes of them.
    fn batch(
        &self,
        engine: &mut EngineTransaction,
        span: walk::Span<'_>,
        direction: Direction,
        what: What,
        limits: (usize, usize),
        rows: &mut Rows,
    ) -> Result<()> {
        if limits.0 == 0 {
            return Ok(());
        }
        walk::visit(engine, self.store, span, direction, |key, value| {
            rows.meet(&self.layout, what, key, value)?;
            Ok(rows.len() < limits.0 && (limits.1 == usize::MAX || rows.size() < limits.1))
        })?;
        rows.load(engine)
    }
}

/// A walk over a range of a map, in batches.
pub struct Walk {
    map: Arc<Map>,
    /// The snapshot; None where the caller's transaction is read.
    own: Option<EngineTransaction>,
    start: Bound<Vec<u8>>,
    stop: Bound<Vec<u8>>,
    direction: Direction,
    what: What,
    has_ended: bool,
}

impl Walk {
    /// The map walked over.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The next items, about `limit` at most; none after the last.
    pub fn next_batch(&mut self, limit: usize, rows: &mut Rows) -> Result<()> {
        rows.clear();
        if self.has_ended {
            return Ok(());
        }
        let map = Arc::clone(&self.map);
        let span = (self.start.as_ref().map(Vec::as_slice), self.stop.as_ref().map(Vec::as_slice));
        let limits = (limit, BATCH_BYTES);
        match (&mut self.own, &map.scope) {
            (Some(engine), Scope::Auto { database, .. }) => {
                database.check_open(&map.cancel)?;
                map.batch(engine, span, self.direction, self.what, limits, rows)?;
            }
            (_, Scope::In(transaction)) => transaction.with(&map.cancel, |engine| {
                map.batch(engine, span, self.direction, self.what, limits, rows)
            })?,
            (None, Scope::Auto { .. }) => {
                return Err(Error::new(crate::ErrorCode::Internal, "a walk without a snapshot"));
            }
        }
        match rows.last_key() {
            Some(last) => {
                let near =
                    if self.direction == Direction::Forward { &mut self.start } else { &mut self.stop };
                *near = Bound::Excluded(last.to_vec());
                // A batch that is not full has met the end, and the snapshot is needed no more.
                self.has_ended = rows.len() < limit && rows.size() < BATCH_BYTES;
            }
            None => self.has_ended = true,
        }
        if self.has_ended {
            self.own = None;
        }
        Ok(())
    }
}
