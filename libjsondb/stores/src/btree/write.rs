//! Writing: add, update, upsert, remove.

use engine::{Entry, Transaction as EngineTransaction};
use serde_json::value::RawValue;

use super::cursor::Cursor;
use super::item::{ItemInput, WriteOp};
use super::key::EncodedKey;
use super::record::{self, NO_VALUE, Record};
use super::{Btree, COUNTER, Chunk};
use crate::{CancelToken, Error, ErrorCode, Result};

/// Longest JSON text of a value: what the engine takes, less the key beside it.
pub const VALUE_BYTES_MAX: usize = (1 << 30) - (1 << 20);

/// What became of one element of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Added,
    Updated,
    /// The answer is False.
    Refused,
}

impl Btree {
    /// Writes the items one after the other; True when every one succeeded. A False does not stop the list and undoes
    /// nothing. Keys and values are checked first: when one is refused by an error, nothing of the list is written.
    pub fn write(&self, cancel: &CancelToken, op: WriteOp, items: &[ItemInput<'_>]) -> Result<bool> {
        self.check_writable()?;
        let mut chunk = Chunk::default();
        for item in items {
            let is_canonical = self.layout.append_key_text(item.key, chunk.buffer())?;
            chunk.end_key((!is_canonical).then(|| item.key.get().as_bytes()));
            let value = item.value.map_or(NO_VALUE, RawValue::get);
            self.check_value(value.len())?;
            chunk.buffer().extend_from_slice(value.as_bytes());
            chunk.end_item();
        }
        self.write_chunk(cancel, op, &chunk)
    }

    /// As [`Btree::write`], of items whose keys are encoded and whose values are JSON text.
    pub fn write_chunk(&self, cancel: &CancelToken, op: WriteOp, items: &Chunk) -> Result<bool> {
        self.check_writable()?;
        let mut cursor = self.cursor();
        self.transaction.with_all_or_end(cancel, |engine| {
            let mut added = 0;
            let mut all_succeeded = true;
            for (key, record) in items.iter() {
                cancel.check()?;
                match self.write_item(engine, &mut cursor, op, key, record)? {
                    Outcome::Added => added += 1,
                    Outcome::Updated => {}
                    Outcome::Refused => all_succeeded = false,
                }
            }
            if added != 0 {
                engine.add_to_counter(self.store, COUNTER, added)?;
            }
            Ok(all_succeeded)
        })
    }

    fn check_writable(&self) -> Result<()> {
        self.transaction.check_writable(&format!("write to B-tree {:?}", self.options.name))
    }

    /// Removes one item per key; True when every key existed. As [`Btree::write`] for the rest.
    pub fn remove(&self, cancel: &CancelToken, keys: &[&RawValue]) -> Result<bool> {
        self.transaction.check_writable(&format!("remove from B-tree {:?}", self.options.name))?;
        let keys = keys.iter().map(|key| self.layout.encode(key)).collect::<Result<Vec<EncodedKey>>>()?;
        let cursor = self.cursor();
        self.transaction.with_all_or_end(cancel, |engine| {
            let mut removed = 0;
            for key in &keys {
                cancel.check()?;
                if let Some(entry) = self.chosen_equal(engine, &cursor, &key.bytes)? {
                    engine.delete(self.store, &entry.key)?;
                    removed += 1;
                }
            }
            if removed != 0 {
                engine.add_to_counter(self.store, COUNTER, -removed)?;
            }
            Ok(removed as usize == keys.len())
        })
    }

    /// Replaces the value of the current item; False when there is none.
    pub fn update_current(&self, cancel: &CancelToken, value: &RawValue) -> Result<bool> {
        self.check_writable()?;
        self.check_value(value.get().len())?;
        let cursor = self.cursor();
        self.transaction.with_all_or_end(cancel, |engine| {
            let Some(entry) = self.entry_at_cursor(engine, &cursor)? else {
                return Ok(false);
            };
            let bytes = engine.load(&entry.value)?;
            let record = Record { value: value.get(), ..self.layout.record(&bytes)? };
            engine.put(self.store, &entry.key, &record.encode(), self.placement())?;
            Ok(true)
        })
    }

    /// Removes the current item; False when there is none. The cursor stays at its place: there is no current item, and a walk
    /// goes on with the neighbour.
    pub fn remove_current(&self, cancel: &CancelToken) -> Result<bool> {
        self.transaction.check_writable(&format!("remove from B-tree {:?}", self.options.name))?;
        let cursor = self.cursor();
        self.transaction.with_all_or_end(cancel, |engine| {
            let Some(entry) = self.entry_at_cursor(engine, &cursor)? else {
                return Ok(false);
            };
            engine.delete(self.store, &entry.key)?;
            engine.add_to_counter(self.store, COUNTER, -1)?;
            Ok(true)
        })
    }

    fn write_item(
        &self,
        engine: &mut EngineTransaction,
        cursor: &mut Cursor,
        op: WriteOp,
        key: &[u8],
        record: &[u8],
    ) -> Result<Outcome> {
        if op == WriteOp::Add && !self.is_unique() {
            return self.insert(engine, key, record);
        }
        let existing = self.chosen_equal(engine, cursor, key)?;
        match (existing, op) {
            (None, WriteOp::Update) => Ok(Outcome::Refused),
            (None, _) => self.insert(engine, key, record),
            (Some(existing), WriteOp::Add | WriteOp::AddIfNotExists) => {
                *cursor = Cursor::At(existing.key);
                Ok(Outcome::Refused)
            }
            (Some(existing), WriteOp::Update | WriteOp::Upsert) => self.replace(engine, record, &existing),
        }
    }

    fn insert(&self, engine: &mut EngineTransaction, key: &[u8], record: &[u8]) -> Result<Outcome> {
        if self.is_unique() {
            engine.put(self.store, key, record, self.placement())?;
        } else {
            engine.put(self.store, &self.layout.new_engine_key(key), record, self.placement())?;
        }
        Ok(Outcome::Added)
    }

    /// The stored key is only looked at when it says more than the bytes do: a large value would have to be read.
    fn replace(&self, engine: &mut EngineTransaction, record: &[u8], existing: &Entry) -> Result<Outcome> {
        if self.layout.has_ride_on_fields() {
            let old = engine.load(&existing.value)?;
            let joined = record::with_key_of(&old, record).ok_or_else(|| self.layout.damaged("record"))?;
            engine.put(self.store, &existing.key, &joined, self.placement())?;
        } else {
            engine.put(self.store, &existing.key, record, self.placement())?;
        }
        Ok(Outcome::Updated)
    }

    fn check_value(&self, len: usize) -> Result<()> {
        if len > VALUE_BYTES_MAX {
            let message = format!("a value takes at most {VALUE_BYTES_MAX} bytes, this one takes {len}");
            return Err(
                Error::new(ErrorCode::Validation, message).with_detail("store", self.options.name.as_str())
            );
        }
        Ok(())
    }
}
