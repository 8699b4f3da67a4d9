//! Read, compute, write: one key of a map, changed without losing what others write.

use engine::{Transaction as EngineTransaction, Tried};

use super::scope::{Retries, Sees, has_lost};
use super::{Chunk, Map, Scope};
use crate::Result;

/// A change of one key. Its owner repeats: [`Change::read`], compute, [`Change::write`], until that gives true. Before each of the
/// two may stand its form that never waits.
pub struct Change<'m> {
    map: &'m Map,
    key: Vec<u8>,
    /// How far the attempt is, where the transaction is not the caller's.
    own: Option<Attempt>,
    retries: Retries,
}

enum Attempt {
    Begun(EngineTransaction),
    /// The new value is in it.
    Written(EngineTransaction),
    /// Another transaction was faster.
    Lost(engine::Error),
}

impl Map {
    /// Begins a change of the key with this encoding.
    pub fn change(&self, key: Vec<u8>) -> Change<'_> {
        Change { map: self, key, own: None, retries: Retries::default() }
    }
}

impl Change<'_> {
    /// Appends the JSON text of the value to `out`; false when there is none.
    pub fn read(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let map = self.map;
        let mut look = |record: Option<&[u8]>| copy_value(map, record, out);
        match &map.scope {
            Scope::In(transaction) => {
                transaction.check_writable("write to a map")?;
                transaction.with(&map.cancel, |engine| engine.get_with(map.store, &self.key, &mut look)?)
            }
            Scope::Auto { .. } => loop {
                let mut engine = map.scope.begin(&map.cancel)?;
                match engine.get_with(map.store, &self.key, &mut look) {
                    Ok(found) => {
                        self.own = Some(Attempt::Begun(engine));
                        return found;
                    }
                    Err(error) => self.retries.after_work(error.into(), &map.cancel)?,
                }
            },
        }
    }

    /// As [`Change::read`]; None, and nothing is appended, when that would have to wait.
    pub fn try_read(&mut self, out: &mut Vec<u8>) -> Result<Option<bool>> {
        let map = self.map;
        let look = |record: Option<&[u8]>| copy_value(map, record, out);
        let found = match &map.scope {
            Scope::In(transaction) => {
                transaction.check_writable("write to a map")?;
                let key = self.key.as_slice();
                let tried = transaction
                    .try_with(&map.cancel, |engine| Ok(engine.get_cached_with(map.store, key, look)?));
                tried?.flatten()
            }
            Scope::Auto { .. } => {
                let Some(mut engine) = map.scope.try_begin(&map.cancel, Sees::Newest)? else {
                    return Ok(None);
                };
                let found = engine.get_cached_with(map.store, &self.key, look)?;
                self.own = Some(Attempt::Begun(engine));
                found
            }
        };
        found.transpose()
    }

    /// Writes the new value, a chunk of one item, and commits. False when another transaction was faster: the change starts
    /// again. In the caller's transaction it is written, and the caller commits.
    pub fn write(&mut self, item: &Chunk) -> Result<bool> {
        let map = self.map;
        let engine = match self.own.take() {
            None => {
                map.scope.write(&map.cancel, &map.layout, |engine| map.put_into(engine, item))?;
                return Ok(true);
            }
            Some(Attempt::Begun(mut engine)) => match map.put_into(&mut engine, item) {
                Ok(()) => engine,
                Err(error) => return self.retries.after_work(error, &map.cancel).map(|()| false),
            },
            Some(Attempt::Written(engine)) => engine,
            Some(Attempt::Lost(error)) => return self.start_again(error),
        };
        match engine.commit() {
            Ok(_) => Ok(true),
            Err(error) => self.start_again(error),
        }
    }

    /// As [`Change::write`]; None when that would have to wait: [`Change::write`] goes on where this one stopped.
    pub fn try_write(&mut self, item: &mut Chunk) -> Result<Option<bool>> {
        let map = self.map;
        let mut engine = match self.own.take() {
            None => return Ok(map.try_put(item)?.then_some(true)),
            Some(Attempt::Begun(engine)) if map.is_quick(item) => engine,
            other => {
                self.own = other;
                return Ok(None);
            }
        };
        if map.try_put_into(&mut engine, item)?.is_none() {
            self.own = Some(Attempt::Begun(engine));
            return Ok(None);
        }
        match engine.try_commit() {
            Ok(Tried::Committed(_)) => return Ok(Some(true)),
            Ok(Tried::MustWait(engine)) => self.own = Some(Attempt::Written(*engine)),
            // The pause before the next attempt is a wait.
            Err(error) if has_lost(&error) => self.own = Some(Attempt::Lost(error)),
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }

    fn start_again(&mut self, error: engine::Error) -> Result<bool> {
        self.retries.after(error, &self.map.layout, &self.map.cancel).map(|()| false)
    }
}

fn copy_value(map: &Map, record: Option<&[u8]>, out: &mut Vec<u8>) -> Result<bool> {
    let Some(record) = record else { return Ok(false) };
    map.layout.value_of(record).map(|value| out.extend_from_slice(value)).map(|()| true)
}
