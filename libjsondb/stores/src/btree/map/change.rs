//! Read, compute, write: one key of a map, changed without losing what others write.

use engine::Transaction as EngineTransaction;

use super::scope::Retries;
use super::{Chunk, Map, Scope};
use crate::Result;

/// A change of one key. Its owner repeats: [`Change::read`], compute, [`Change::write`], until that gives true.
pub struct Change<'m> {
    map: &'m Map,
    key: Vec<u8>,
    /// The transaction of the step that was begun, where it is not the caller's.
    own: Option<EngineTransaction>,
    retries: Retries,
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
        let mut look = |record: Option<&[u8]>| match record {
            Some(record) => {
                map.layout.value_of(record).map(|value| out.extend_from_slice(value)).map(|()| true)
            }
            None => Ok(false),
        };
        match &map.scope {
            Scope::In(transaction) => {
                transaction.check_writable("write to a map")?;
                transaction.with(&map.cancel, |engine| engine.get_with(map.store, &self.key, &mut look)?)
            }
            Scope::Auto { .. } => loop {
                let engine = self.own.insert(map.scope.begin(&map.cancel)?);
                match engine.get_with(map.store, &self.key, &mut look) {
                    Ok(found) => return found,
                    Err(error) => self.retries.after_work(error.into(), &map.cancel)?,
                }
            },
        }
    }

    /// Writes the new value, a chunk of one item, and commits. False when another transaction was faster: the change starts
    /// again. In the caller's transaction it is written, and the caller commits.
    pub fn write(&mut self, item: &Chunk) -> Result<bool> {
        let map = self.map;
        let Some(mut engine) = self.own.take() else {
            map.scope.write(&map.cancel, &map.layout, |engine| map.put_into(engine, item))?;
            return Ok(true);
        };
        match map.put_into(&mut engine, item) {
            Ok(()) => match engine.commit() {
                Ok(_) => return Ok(true),
                Err(error) => self.retries.after(error, &map.layout, &map.cancel)?,
            },
            Err(error) => self.retries.after_work(error, &map.cancel)?,
        }
        Ok(false)
    }
}
