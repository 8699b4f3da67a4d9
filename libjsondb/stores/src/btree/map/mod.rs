//! Maps: the fast calls on a unique B-tree. Each call of a map is a transaction of its own on the newest committed state, or
//! one step of the caller's transaction.
//!
//! Callers bring keys encoded ([`Map::encode_key`]) and values as JSON text, in [`Chunk`]s, and get [`Rows`] of bytes back: a host
//! language turns them into its objects without locks of ours being held.

mod change;
mod chunk;
mod read;
mod rows;
mod scope;
mod write;

use std::sync::Arc;

use engine::{Durability, StoreId};
use serde_json::value::RawValue;

use super::key::{self, SimpleKey};
use super::layout::Layout;
use super::shape::KeySource;
use super::{Btree, BtreeOptions, record};
use crate::{CancelToken, Database, Error, ErrorCode, Result, Session, Transaction};
pub use change::Change;
pub use chunk::Chunk;
pub use read::{Walk, What};
pub use rows::{Found, Rows};
use scope::Scope;
pub use write::Load;

/// A unique B-tree as a map. Any thread may use it.
pub struct Map {
    scope: Scope,
    store: StoreId,
    options: BtreeOptions,
    layout: Layout,
    cancel: CancelToken,
}

/// A key on its way out.
pub enum KeyOut<'a> {
    /// An integer.
    Integer(i64),
    /// A string.
    Text(&'a str),
    /// JSON text.
    Json(Box<RawValue>),
}

impl Map {
    /// Opens the B-tree, and creates it when there is none. Without options: with those it has, or the default ones.
    /// Every call of the map looks at `cancel`. Commits of its own are made with `durability`.
    pub fn open(
        cancel: &CancelToken,
        database: &Arc<Database>,
        name: &str,
        options: Option<BtreeOptions>,
        durability: Durability,
    ) -> Result<Map> {
        let btree = Session::Auto(database.clone()).write(cancel, |transaction| match &options {
            Some(options) => Btree::create_or_open(cancel, transaction, options.clone()),
            None => match Btree::open(cancel, transaction, name) {
                Err(error) if error.code() == ErrorCode::StoreNotFound => {
                    let options = BtreeOptions { is_unique: true, ..BtreeOptions::new(name) };
                    Btree::create_or_open(cancel, transaction, options)
                }
                opened => opened,
            },
        })?;
        let engine = database.engine(cancel)?;
        Self::over(btree, Scope::Auto { database: database.clone(), engine, durability }, cancel)
    }

    /// The same map inside a transaction.
    pub fn within(&self, cancel: &CancelToken, transaction: &Arc<Transaction>) -> Result<Map> {
        let btree = Btree::open(cancel, transaction, &self.options.name)?;
        Self::over(btree, Scope::In(transaction.clone()), cancel)
    }

    fn over(btree: Btree, scope: Scope, cancel: &CancelToken) -> Result<Map> {
        if !btree.is_unique() {
            let name = btree.options.name.as_str();
            let message = format!("B-tree {name:?} keeps duplicates: a map is on a unique one");
            return Err(Error::new(ErrorCode::Validation, message).with_detail("store", name));
        }
        let Btree { store, options, layout, .. } = btree;
        Ok(Map { scope, store, options, layout, cancel: cancel.clone() })
    }

    /// Appends the encoding of a key; True when the bytes give the key back exactly, else its JSON text belongs into the record.
    /// What was appended before a failure is the caller's to remove.
    pub fn encode_key<'a, K: KeySource<'a>>(
        &self,
        key: K,
        out: &mut Vec<u8>,
    ) -> std::result::Result<bool, K::Error> {
        key::append(key, self.layout.specification(), out)
    }

    /// As [`Map::encode_key`], from JSON text.
    pub fn encode_key_text(&self, key: &RawValue, out: &mut Vec<u8>) -> Result<bool> {
        let encoded = self.layout.encode(key)?;
        out.extend_from_slice(&encoded.bytes);
        Ok(encoded.is_canonical)
    }

    /// Appends the encoding of a bound. With an index specification, fields missing at its end are left open.
    pub fn encode_bound<'a, K: KeySource<'a>>(
        &self,
        bound: K,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), K::Error> {
        key::append_bound(bound, self.layout.specification(), out)
    }

    /// As [`Map::encode_bound`], from JSON text.
    pub fn encode_bound_text(&self, bound: &RawValue, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&self.layout.encode_bound(bound)?);
        Ok(())
    }

    /// The key of a row that a walk has met.
    pub fn key<'a>(&self, found: Found<'a>) -> Result<KeyOut<'a>> {
        let text = found.record.and_then(record::split).and_then(|(key, _)| key);
        if text.is_none() && self.layout.specification().is_none() {
            match key::simple(found.key) {
                Some(SimpleKey::Integer(integer)) => return Ok(KeyOut::Integer(integer)),
                Some(SimpleKey::Text(text)) => return Ok(KeyOut::Text(text)),
                None => {}
            }
        }
        let record = self.layout.record(found.record.unwrap_or_default())?;
        Ok(KeyOut::Json(self.layout.key_text(found.key, record)?))
    }

    /// The JSON text of a row's value; None for a key that is not there.
    pub fn value<'a>(&self, found: Found<'a>) -> Result<Option<&'a [u8]>> {
        found.record.map(|record| self.value_of(record)).transpose()
    }

    fn value_of<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let (_, value) = record::split(bytes).ok_or_else(|| self.layout.damaged("record"))?;
        Ok(value)
    }

    /// Number of items.
    pub fn count(&self) -> Result<u64> {
        let count =
            self.scope.read(&self.cancel, |engine| Ok(engine.counter(self.store, super::COUNTER)?))?;
        u64::try_from(count).map_err(|_| self.layout.damaged("count"))
    }
}
