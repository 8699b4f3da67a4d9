//! Writing a map: chunks of items, removals, loads of any size.

use engine::{Mode, Placement, Transaction as EngineTransaction};

use super::super::{COUNTER, record};
use super::scope::Sees;
use super::{Chunk, Map, Scope};
use crate::transaction::commit_error;
use crate::{Error, ErrorCode, Result};

impl Map {
    /// Puts a chunk's items, replacing those that are there, in one transaction. Of equal keys the last item counts.
    pub fn put(&self, items: &mut Chunk) -> Result<()> {
        items.sort();
        self.scope.write(&self.cancel, &self.layout, |engine| self.put_into(engine, items))
    }

    /// As [`Map::put`] of a small chunk, if that waits for nobody: no sync, no lock that is held, no look at the disk. False, and nothing
    /// was stored, where it may have to wait.
    pub fn try_put(&self, items: &mut Chunk) -> Result<bool> {
        if !self.is_quick(items) {
            return Ok(false);
        }
        items.sort();
        let done =
            self.scope.try_write(&self.cancel, Sees::Known, |engine| self.try_put_into(engine, items))?;
        Ok(done.is_some())
    }

    /// Removes a chunk's keys in one transaction; gives how many were there.
    pub fn remove(&self, keys: &mut Chunk) -> Result<u64> {
        keys.sort();
        self.scope.write(&self.cancel, &self.layout, |engine| self.remove_from(engine, keys))
    }

    /// As [`Map::remove`], in the way of [`Map::try_put`]; None where it may have to wait.
    pub fn try_remove(&self, keys: &mut Chunk) -> Result<Option<u64>> {
        if !self.is_quick(keys) {
            return Ok(None);
        }
        keys.sort();
        // A key that is not there is read, not written.
        self.scope.try_write(&self.cancel, Sees::Newest, |engine| self.try_remove_from(engine, keys))
    }

    /// True for a chunk that is written in a few microseconds, if nobody is in the way.
    pub(super) fn is_quick(&self, chunk: &Chunk) -> bool {
        match &self.scope {
            Scope::Auto { .. } => self.scope.is_relaxed() && chunk.is_small(),
            Scope::In(_) => chunk.len() <= 1 && chunk.is_small(),
        }
    }

    /// Begins a transaction of any number of chunks.
    pub fn load(&self) -> Result<Load<'_>> {
        if let Scope::In(transaction) = &self.scope {
            transaction.check_writable("write to a map")?;
        }
        let own = self.scope.begin_lasting(&self.cancel, Mode::Write)?;
        Ok(Load { map: self, own, is_partial: false })
    }

    /// Removes a key; its value's JSON text is `out` then. False when it is not there.
    pub fn take(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.scope.write(&self.cancel, &self.layout, |engine| {
            out.clear();
            let look = |record: Option<&[u8]>| {
                record.map(|record| self.layout.value_of(record).map(|value| out.extend_from_slice(value)))
            };
            let was_there = engine.get_with(self.store, key, look)?.transpose()?.is_some();
            if was_there {
                engine.delete(self.store, key)?;
                self.count_up(engine, -1)?;
            }
            Ok(was_there)
        })
    }

    pub(super) fn put_into(&self, engine: &mut EngineTransaction, items: &Chunk) -> Result<()> {
        let mut added = 0;
        for (key, record) in items.iter() {
            added += i64::from(self.put_one(engine, key, record)?);
        }
        self.count_up(engine, added)
    }

    /// As [`Map::put_into`]; None, when a part is not written, where that would have to wait.
    pub(super) fn try_put_into(&self, engine: &mut EngineTransaction, items: &Chunk) -> Result<Option<()>> {
        // Of these the old record is looked at, or a file written.
        if self.layout.has_ride_on_fields() || self.placement() == Placement::Eager {
            return Ok(None);
        }
        let mut added = 0;
        for (key, record) in items.iter() {
            match engine.try_upsert(self.store, key, record)? {
                Some(is_new) => added += i64::from(is_new),
                None => return Ok(None),
            }
        }
        self.count_up(engine, added).map(Some)
    }

    /// True when the key was not there.
    fn put_one(&self, engine: &mut EngineTransaction, key: &[u8], record: &[u8]) -> Result<bool> {
        // A replaced value keeps its item's key, which may have fields beyond those of the index.
        if self.layout.has_ride_on_fields() {
            let joined =
                engine.get_with(self.store, key, |old| old.map(|old| record::with_key_of(old, record)))?;
            if let Some(joined) = joined {
                let joined = joined.ok_or_else(|| self.layout.damaged("record"))?;
                engine.put(self.store, key, &joined, self.placement())?;
                return Ok(false);
            }
            engine.put(self.store, key, record, self.placement())?;
            return Ok(true);
        }
        Ok(engine.upsert(self.store, key, record, self.placement())?)
    }

    fn remove_from(&self, engine: &mut EngineTransaction, keys: &Chunk) -> Result<u64> {
        let mut removed = 0;
        for (key, _) in keys.iter() {
            removed += i64::from(engine.remove(self.store, key)?);
        }
        self.count_up(engine, -removed)?;
        Ok(removed.unsigned_abs())
    }

    /// As [`Map::remove_from`]; None, when a part is removed, where that would have to wait.
    fn try_remove_from(&self, engine: &mut EngineTransaction, keys: &Chunk) -> Result<Option<u64>> {
        let mut removed = 0;
        for (key, _) in keys.iter() {
            match engine.try_remove(self.store, key)? {
                Some(was_there) => removed += i64::from(was_there),
                None => return Ok(None),
            }
        }
        self.count_up(engine, -removed)?;
        Ok(Some(removed.unsigned_abs()))
    }

    pub(super) fn count_up(&self, engine: &mut EngineTransaction, added: i64) -> Result<()> {
        if added != 0 {
            engine.add_to_counter(self.store, COUNTER, added)?;
        }
        Ok(())
    }

    fn placement(&self) -> Placement {
        if self.options.is_value_data_actively_persisted { Placement::Eager } else { Placement::Auto }
    }
}

/// A transaction that takes in chunk after chunk. It is not run again after a conflict: the chunks are gone.
pub struct Load<'m> {
    map: &'m Map,
    /// None where the caller's transaction is written to.
    own: Option<EngineTransaction>,
    /// True while a part of it is in the caller's transaction.
    is_partial: bool,
}

impl Load<'_> {
    /// Puts a chunk's items, as [`Map::put`].
    pub fn put(&mut self, items: &mut Chunk) -> Result<()> {
        items.sort();
        self.run(|map, engine| map.put_into(engine, items))
    }

    /// Removes a chunk's keys, as [`Map::remove`].
    pub fn remove(&mut self, keys: &mut Chunk) -> Result<u64> {
        keys.sort();
        self.run(|map, engine| map.remove_from(engine, keys))
    }

    fn run<R>(&mut self, work: impl FnOnce(&Map, &mut EngineTransaction) -> Result<R>) -> Result<R> {
        let map = self.map;
        map.cancel.check()?;
        match (&mut self.own, &map.scope) {
            (Some(engine), _) => work(map, engine),
            (None, Scope::In(transaction)) => {
                self.is_partial = true;
                transaction.with_all_or_end(&map.cancel, |engine| work(map, engine))
            }
            (None, Scope::Auto { .. }) => {
                Err(Error::new(ErrorCode::Internal, "a load without a transaction"))
            }
        }
    }

    /// Commits, unless the transaction is the caller's.
    pub fn commit(mut self) -> Result<()> {
        self.is_partial = false;
        let Some(engine) = self.own.take() else { return Ok(()) };
        engine.commit().map(drop).map_err(|error| commit_error(error, |key| self.map.layout.describe(key)))
    }
}

impl Drop for Load<'_> {
    /// The caller's transaction is ended, when only a part was written to it: that part must not be committed.
    fn drop(&mut self) {
        if self.is_partial
            && let Scope::In(transaction) = &self.map.scope
        {
            transaction.end_unless_ended("writing to a map stopped halfway");
        }
    }
}
