//! Writing: add, update, upsert, remove.

use engine::{Entry, Transaction as EngineTransaction};
use serde_json::value::RawValue;

use super::cursor::Cursor;
use super::item::{ItemInput, WriteOp};
use super::key::EncodedKey;
use super::record::Record;
use super::{Btree, COUNTER};
use crate::{CancelToken, Error, ErrorCode, Result};

/// Longest JSON text of a value: what the engine takes, less the key beside it.
const VALUE_BYTES_MAX: usize = (1 << 30) - (1 << 20);

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
        self.transaction.check_writable(&format!("write to B-tree {:?}", self.options.name))?;
        let keys = items.iter().map(|item| self.check_item(item)).collect::<Result<Vec<EncodedKey>>>()?;
        let mut cursor = self.cursor();
        self.transaction.with_all_or_end(cancel, |engine| {
            let mut added = 0;
            let mut all_succeeded = true;
            for (item, key) in items.iter().zip(&keys) {
                cancel.check()?;
                match self.write_item(engine, &mut cursor, op, item, key)? {
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
        self.transaction.check_writable(&format!("write to B-tree {:?}", self.options.name))?;
        self.check_value(value)?;
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
        item: &ItemInput<'_>,
        key: &EncodedKey,
    ) -> Result<Outcome> {
        if op == WriteOp::Add && !self.is_unique() {
            return self.insert(engine, item, key);
        }
        let existing = self.chosen_equal(engine, cursor, &key.bytes)?;
        match (existing, op) {
            (None, WriteOp::Update) => Ok(Outcome::Refused),
            (None, _) => self.insert(engine, item, key),
            (Some(existing), WriteOp::Add | WriteOp::AddIfNotExists) => {
                *cursor = Cursor::At(existing.key);
                Ok(Outcome::Refused)
            }
            (Some(existing), WriteOp::Update | WriteOp::Upsert) => self.replace(engine, item, key, &existing),
        }
    }

    fn insert(
        &self,
        engine: &mut EngineTransaction,
        item: &ItemInput<'_>,
        key: &EncodedKey,
    ) -> Result<Outcome> {
        let key_text = (!key.is_canonical).then(|| item.key.get());
        let record = Record::new(key_text, item.value.map(RawValue::get)).encode();
        engine.put(self.store, &self.layout.new_engine_key(&key.bytes), &record, self.placement())?;
        Ok(Outcome::Added)
    }

    /// The stored key is only looked at when it says more than the bytes do: a large value would have to be read.
    fn replace(
        &self,
        engine: &mut EngineTransaction,
        item: &ItemInput<'_>,
        key: &EncodedKey,
        existing: &Entry,
    ) -> Result<Outcome> {
        let value = item.value.map(RawValue::get);
        let record = if self.layout.has_ride_on_fields() {
            let bytes = engine.load(&existing.value)?;
            Record::new(self.layout.record(&bytes)?.key, value).encode()
        } else {
            Record::new((!key.is_canonical).then(|| item.key.get()), value).encode()
        };
        engine.put(self.store, &existing.key, &record, self.placement())?;
        Ok(Outcome::Updated)
    }

    fn check_item(&self, item: &ItemInput<'_>) -> Result<EncodedKey> {
        if let Some(value) = item.value {
            self.check_value(value)?;
        }
        self.layout.encode(item.key)
    }

    fn check_value(&self, value: &RawValue) -> Result<()> {
        let len = value.get().len();
        if len > VALUE_BYTES_MAX {
            let message = format!("a value takes at most {VALUE_BYTES_MAX} bytes, this one takes {len}");
            return Err(
                Error::new(ErrorCode::Validation, message).with_detail("store", self.options.name.as_str())
            );
        }
        Ok(())
    }
}
