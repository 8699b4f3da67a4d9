//! Looking up: find, the cursor's item, values of given keys. A lookup reads no more than it has to, because what it
//! reads is validated when the transaction commits.

use std::ops::Bound;

use engine::{Direction, Entry, Transaction as EngineTransaction};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::cursor::Cursor;
use super::item::{Item, ItemInput, Move};
use super::{Btree, Chunk, Rows};
use crate::walk::{self, Span};
use crate::{CancelToken, Error, ErrorCode, Result};

impl Btree {
    /// Moves the cursor to the key: True. Of several equal ones, to the newest. When there is none, to the next greater
    /// key, else to the last one: False.
    pub fn find(&self, cancel: &CancelToken, key: &RawValue) -> Result<bool> {
        Ok(self.find_entry(cancel, key)?.is_some())
    }

    /// As [`Btree::find`], and gives the item. Both values of `first_only` give the newest of several equal items.
    pub fn find_one(&self, cancel: &CancelToken, key: &RawValue, _first_only: bool) -> Result<Option<Item>> {
        let encoded = self.layout.encode(key)?.bytes;
        let mut cursor = self.cursor();
        self.transaction.with(cancel, |engine| {
            let found = self.seek(engine, &mut cursor, &encoded)?;
            found.map(|entry| self.to_item(engine, &entry)).transpose()
        })
    }

    /// As [`Btree::find_one`] for an encoded key: a row, or none.
    pub fn find_one_row(&self, cancel: &CancelToken, encoded: &[u8], rows: &mut Rows) -> Result<()> {
        let mut cursor = self.cursor();
        self.transaction.with(cancel, |engine| {
            if let Some(entry) = self.seek(engine, &mut cursor, encoded)? {
                rows.push_entry(&entry);
                rows.load(engine)?;
            }
            Ok(())
        })
    }

    /// As [`Btree::values`] for encoded keys: a row for each, not found where there is none.
    pub fn value_rows(&self, cancel: &CancelToken, keys: &Chunk, rows: &mut Rows) -> Result<()> {
        self.transaction.with(cancel, |engine| {
            for (encoded, _) in keys.iter() {
                cancel.check()?;
                match self.first_equal(engine, encoded)? {
                    Some(entry) => rows.push_entry(&entry),
                    None => rows.push_answer(None),
                }
            }
            rows.load(engine)
        })
    }

    /// Moves the cursor to the item with this key and id. A miss moves it as [`Btree::find`] does.
    pub fn find_with_id(&self, cancel: &CancelToken, key: &RawValue, id: &str) -> Result<bool> {
        let encoded = self.layout.encode(key)?.bytes;
        let engine_key = self.layout.engine_key(&encoded, parse_id(id)?);
        let mut cursor = self.cursor();
        self.transaction.with(cancel, |engine| {
            let entry = engine_key.map(|key| self.entry(engine, key)).transpose()?.flatten();
            if let Some(entry) = entry {
                *cursor = Cursor::At(entry.key);
                return Ok(true);
            }
            self.seek(engine, &mut cursor, &encoded)?;
            Ok(false)
        })
    }

    /// Moves the cursor; False when there is no item to move to, and then there is no current item.
    pub fn step(&self, cancel: &CancelToken, to: Move) -> Result<bool> {
        let direction = match to {
            Move::First | Move::Next => Direction::Forward,
            Move::Last | Move::Previous => Direction::Backward,
        };
        let mut cursor = self.cursor();
        self.transaction.with(cancel, |engine| {
            if matches!(to, Move::First | Move::Last) {
                *cursor = Cursor::Unset;
            }
            let Some(span) = cursor.span_beyond(direction) else {
                return Ok(false);
            };
            let reached = self.first_key(engine, span, direction)?;
            let moved = reached.is_some();
            match reached {
                Some(key) => *cursor = Cursor::At(key),
                // An empty store has no end to stand at.
                None if *cursor == Cursor::Unset => {}
                None => *cursor = Cursor::end_of(direction),
            }
            Ok(moved)
        })
    }

    /// The item at the cursor.
    pub fn current(&self, cancel: &CancelToken) -> Result<Option<Item>> {
        let cursor = self.cursor();
        self.transaction.with(cancel, |engine| {
            let entry = self.entry_at_cursor(engine, &cursor)?;
            entry.map(|entry| self.to_item(engine, &entry)).transpose()
        })
    }

    /// The items with these keys, in this order; where an id is given that is not zero, the item with that id. A key
    /// that is not there comes back without value and with the zero id. The cursor stays.
    pub fn values(&self, cancel: &CancelToken, keys: &[ItemInput<'_>]) -> Result<Vec<Item>> {
        let mut wanted = Vec::with_capacity(keys.len());
        for input in keys {
            let id = input.id.map(parse_id).transpose()?.filter(|id| !id.is_nil());
            wanted.push((input.key, self.layout.encode(input.key)?.bytes, id));
        }
        self.transaction.with(cancel, |engine| {
            let mut items = Vec::with_capacity(wanted.len());
            for (key, encoded, id) in &wanted {
                cancel.check()?;
                let entry = match id {
                    None => self.first_equal(engine, encoded)?,
                    Some(id) => match self.layout.engine_key(encoded, *id) {
                        None => None,
                        Some(engine_key) => self.entry(engine, engine_key)?,
                    },
                };
                items.push(match entry {
                    Some(entry) => self.to_item(engine, &entry)?,
                    None => Item { key: (*key).to_owned(), value: None, id: Uuid::nil() },
                });
            }
            Ok(items)
        })
    }

    fn find_entry(&self, cancel: &CancelToken, key: &RawValue) -> Result<Option<Entry>> {
        let encoded = self.layout.encode(key)?.bytes;
        let mut cursor = self.cursor();
        self.transaction.with(cancel, |engine| self.seek(engine, &mut cursor, &encoded))
    }

    /// Moves the cursor to the first item with this key and gives it; else moves it near.
    fn seek(
        &self,
        engine: &mut EngineTransaction,
        cursor: &mut Cursor,
        encoded: &[u8],
    ) -> Result<Option<Entry>> {
        let found = self.first_equal(engine, encoded)?;
        *cursor = match &found {
            Some(entry) => Cursor::At(entry.key.clone()),
            None => self.near(engine, encoded)?,
        };
        Ok(found)
    }

    /// Where a find that missed leaves the cursor.
    fn near(&self, engine: &mut EngineTransaction, encoded: &[u8]) -> Result<Cursor> {
        let after = (Bound::Excluded(encoded), Bound::Unbounded);
        if let Some(key) = self.first_key(engine, after, Direction::Forward)? {
            return Ok(Cursor::At(key));
        }
        let before = (Bound::Unbounded, Bound::Excluded(encoded));
        let last = self.first_key(engine, before, Direction::Backward)?;
        Ok(last.map_or(Cursor::Unset, Cursor::At))
    }

    /// Of the items with this key, the one at the cursor, else the first.
    pub(super) fn chosen_equal(
        &self,
        engine: &mut EngineTransaction,
        cursor: &Cursor,
        encoded: &[u8],
    ) -> Result<Option<Entry>> {
        let is_choice = |key: &&[u8]| !self.is_unique() && self.layout.is_equal(key, encoded);
        let at_cursor = match cursor.key().filter(is_choice) {
            Some(key) => self.entry(engine, key.to_vec())?,
            None => None,
        };
        match at_cursor {
            None => self.first_equal(engine, encoded),
            chosen => Ok(chosen),
        }
    }

    /// The first item with this key.
    fn first_equal(&self, engine: &mut EngineTransaction, encoded: &[u8]) -> Result<Option<Entry>> {
        if self.is_unique() {
            return self.entry(engine, encoded.to_vec());
        }
        let last = self.layout.last_equal(encoded);
        let (start, end) = (Bound::Included(encoded), Bound::Included(last.as_slice()));
        Ok(engine.scan(self.store, start, end, Direction::Forward, 1)?.pop())
    }

    pub(super) fn entry_at_cursor(
        &self,
        engine: &mut EngineTransaction,
        cursor: &Cursor,
    ) -> Result<Option<Entry>> {
        match cursor.key() {
            Some(key) => self.entry(engine, key.to_vec()),
            None => Ok(None),
        }
    }

    fn entry(&self, engine: &mut EngineTransaction, key: Vec<u8>) -> Result<Option<Entry>> {
        let value = engine.get(self.store, &key)?;
        Ok(value.map(|value| Entry { key, value }))
    }

    /// The first key a walk meets.
    fn first_key(
        &self,
        engine: &mut EngineTransaction,
        span: Span<'_>,
        direction: Direction,
    ) -> Result<Option<Vec<u8>>> {
        let mut first = None;
        walk::visit(engine, self.store, span, direction, |key, _| {
            first = Some(key.to_vec());
            Ok(false)
        })?;
        Ok(first)
    }

    /// The item with its value.
    pub(super) fn to_item(&self, engine: &EngineTransaction, entry: &Entry) -> Result<Item> {
        let bytes = engine.load(&entry.value)?;
        let record = self.layout.record(&bytes)?;
        let key = self.layout.key_text(&entry.key, record)?;
        let value = Some(self.layout.raw_value(record.value)?);
        Ok(Item { key, value, id: self.layout.id(&entry.key) })
    }
}

fn parse_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| {
        let message = match text.len() {
            32 | 36 | 38 | 45 => "error parsing UUID, details: invalid UUID format".to_owned(),
            len => format!("error parsing UUID, details: invalid UUID length: {len}"),
        };
        Error::new(ErrorCode::Validation, message)
    })
}
