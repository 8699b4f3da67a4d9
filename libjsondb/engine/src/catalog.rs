//! The catalog, store 0: an entry per store (name and metadata) and an entry per counter.
//!
//! A store's id is a hash of its name, so two transactions that create the same store write the same entry. Should two names
//! ever share a hash, the second one's creation finds another name in the entry and is refused.

use std::ops::Bound;

use xxhash_rust::xxh3::xxh3_64;

use crate::bytes::{Put, Reader};
use crate::snapshot::Snapshot;
use crate::tree::Pages;
use crate::{Direction, Error, ErrorKind, Result, StoreId, Transaction, Value};

/// Bytes of the store id in front of every key.
pub(crate) const STORE_LEN: usize = 8;
/// Longest key inside a store.
pub(crate) const KEY_MAX: usize = 16 << 10;
/// Keys up to this length are put together on the stack.
const SHORT_KEY_MAX: usize = 120;
/// Longest key of the one key space: that of a counter.
pub(crate) const FULL_KEY_MAX: usize = 2 * STORE_LEN + 1 + KEY_MAX;
/// Longest value.
pub(crate) const VALUE_MAX: usize = 1 << 30;
/// Longest name of a store.
const NAME_MAX: usize = 1024;

const STORE: u8 = b's';
const COUNTER: u8 = b'c';

pub(crate) fn store_id(name: &str) -> Result<StoreId> {
    if name.is_empty() || name.len() > NAME_MAX {
        let what = format!("the name of a store has 1 to {NAME_MAX} bytes, not {}", name.len());
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    let hash = xxh3_64(name.as_bytes());
    // 0 is the catalog itself.
    Ok(StoreId(hash.max(1)))
}

/// The store that a key of the engine's key space belongs to.
pub(crate) fn store_of(full_key: &[u8]) -> StoreId {
    full_key.first_chunk().map_or(StoreId::CATALOG, |id| StoreId(u64::from_be_bytes(*id)))
}

/// Key of the engine's one key space.
pub(crate) fn full_key(store: StoreId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(STORE_LEN + key.len());
    out.extend_from_slice(&store.0.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Gives `then` the key of the engine's one key space. Asks for no memory unless the key is long.
pub(crate) fn with_full_key<R>(store: StoreId, key: &[u8], then: impl FnOnce(&[u8]) -> R) -> R {
    let mut short = [0; STORE_LEN + SHORT_KEY_MAX];
    match short.get_mut(..STORE_LEN + key.len()) {
        Some(full) => {
            let (head, rest) = full.split_at_mut(STORE_LEN);
            head.copy_from_slice(&store.0.to_be_bytes());
            rest.copy_from_slice(key);
            then(full)
        }
        None => then(&full_key(store, key)),
    }
}

/// Key of a store's entry.
pub(crate) fn entry_key(store: StoreId) -> Vec<u8> {
    let mut key = full_key(StoreId::CATALOG, &[STORE]);
    key.extend_from_slice(&store.0.to_be_bytes());
    key
}

/// Start of the entries of all stores.
pub(crate) fn entries_prefix() -> Vec<u8> {
    full_key(StoreId::CATALOG, &[STORE])
}

/// Key of a counter.
pub(crate) fn counter_key(store: StoreId, name: &[u8]) -> Vec<u8> {
    let mut key = counters_prefix(store);
    key.extend_from_slice(name);
    key
}

/// Start of the counters of a store.
pub(crate) fn counters_prefix(store: StoreId) -> Vec<u8> {
    let mut key = full_key(StoreId::CATALOG, &[COUNTER]);
    key.extend_from_slice(&store.0.to_be_bytes());
    key
}

/// What a key of the catalog names.
pub(crate) enum CatalogKey {
    Store(StoreId),
    Counter,
}

/// None for a key of another store, or of nothing known.
pub(crate) fn decode_key(key: &[u8]) -> Option<CatalogKey> {
    match key.strip_prefix(&StoreId::CATALOG.0.to_be_bytes())?.split_first()? {
        (&STORE, id) => Some(CatalogKey::Store(StoreId(u64::from_be_bytes(id.try_into().ok()?)))),
        (&COUNTER, _) => Some(CatalogKey::Counter),
        _ => None,
    }
}

pub(crate) fn encode_entry(name: &str, metadata: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + metadata.len() + 2);
    out.put_bytes(name.as_bytes());
    out.extend_from_slice(metadata);
    out
}

/// Name and metadata.
pub(crate) fn decode_entry(entry: &[u8]) -> Result<(&str, &[u8])> {
    let mut reader = Reader::new(entry);
    let name = reader.bytes().and_then(|name| std::str::from_utf8(name).ok());
    // Its checksum was right: this is what the engine wrote.
    let damaged = || Error::new(ErrorKind::Internal, "an entry of the catalog is not one");
    let name = name.ok_or_else(damaged)?;
    Ok((name, entry.get(entry.len() - reader.rest().len()..).ok_or_else(damaged)?))
}

/// A store in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// What its keys are found by.
    pub id: StoreId,
    /// As given to `ensure_store`.
    pub name: String,
    /// As given to `ensure_store`.
    pub metadata: Vec<u8>,
}

impl Transaction {
    /// All stores that were there when the transaction began, by id. Not tracked: that others make stores is no conflict.
    pub fn stores(&mut self) -> Result<Vec<Store>> {
        let mut found = Vec::new();
        let all = (Bound::Included(&[STORE][..]), Bound::Excluded(&[STORE + 1][..]));
        self.visit(StoreId::CATALOG, all.0, all.1, Direction::Forward, &mut |key, entry| {
            let id = key.get(1..).and_then(|id| id.try_into().ok()).map_or(0, u64::from_be_bytes);
            found.push((StoreId(id), entry.to_value()));
            Ok(true)
        })?;
        let mut stores = Vec::with_capacity(found.len());
        for (id, entry) in found {
            let entry = self.load(&entry)?;
            let (name, metadata) = decode_entry(&entry)?;
            stores.push(Store { id, name: name.to_owned(), metadata: metadata.to_vec() });
        }
        Ok(stores)
    }
}

/// Store name and key inside the store, for messages.
pub(crate) fn describe(snapshot: &Snapshot, pages: &Pages, key: &[u8]) -> (String, Vec<u8>) {
    let (store, rest) = key.split_at_checked(STORE_LEN).unwrap_or((&[], key));
    let mut id = store.try_into().map_or(StoreId::CATALOG, |bytes| StoreId(u64::from_be_bytes(bytes)));
    let mut rest = rest;
    if id == StoreId::CATALOG {
        // The entry of a store: created, dropped or opened.
        if let Some(store) = rest.get(1..9).and_then(|bytes| bytes.try_into().ok()) {
            id = StoreId(u64::from_be_bytes(store));
        }
        rest = &[];
    }
    let name = match snapshot.get(pages, &entry_key(id)) {
        Ok(Some(Value::Inline(entry))) => decode_entry(&entry).map(|(name, _)| name.to_owned()).ok(),
        _ => None,
    };
    (name.unwrap_or_else(|| id.to_string()), rest.to_vec())
}
