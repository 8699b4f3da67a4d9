//! Model stores: JSON documents by category and name.
//!
//! The engine's key is category and name, each with 00 written as 00 FF and ended by 00 01: bytes then
//! compare as the pairs do, and the names of one category are neighbours.

use std::ops::Bound;
use std::sync::Arc;

use engine::{CancelToken, Direction, Placement, StoreId, Value};
use serde_json::value::RawValue;

use crate::names::{StoreKind, engine_name};
use crate::{Error, ErrorCode, Result, Session, walk};

const METADATA: &[u8] = br#"{"format":1}"#;
const PART_BYTES_MAX: usize = 1024;
const KEYS_PER_CHECK: usize = 1024;

/// A model store bound to a [`Session`]: its calls commit by themselves, or run inside a transaction. It
/// comes into being with the first save; before that it reads as empty.
pub struct ModelStore {
    session: Session,
    name: String,
    engine_name: String,
}

impl ModelStore {
    /// The store `name` of the session. Touches no file.
    pub fn open(session: Session, name: &str) -> Result<Self> {
        let engine_name = engine_name(StoreKind::Model, name)?;
        Ok(Self { session, name: name.to_owned(), engine_name })
    }

    /// Name of the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a model, replacing the one of this category and name.
    pub fn save(&self, cancel: &CancelToken, category: &str, name: &str, model: &RawValue) -> Result<()> {
        let key = key(category, name)?;
        self.write(cancel, |t| {
            let store = t.ensure_store(&self.engine_name, METADATA)?;
            Ok(t.put(store, &key, model.get().as_bytes(), Placement::Auto)?)
        })
    }

    /// The model of this category and name.
    pub fn get(&self, cancel: &CancelToken, category: &str, name: &str) -> Result<Box<RawValue>> {
        let key = key(category, name)?;
        let found = self.read(cancel, |t, store| match store {
            Some(store) => load(t, store, &key),
            None => Ok(None),
        })?;
        let missing = || {
            Error::new(ErrorCode::ItemNotFound, format!("model not found: {category}/{name}"))
                .with_detail("store", self.name.as_str())
                .with_detail("key", format!("{category}/{name}"))
        };
        let text =
            String::from_utf8(found.ok_or_else(missing)?).map_err(|_| damaged("a model is not UTF-8"))?;
        RawValue::from_string(text).map_err(|_| damaged("a model is not JSON"))
    }

    /// Removes a model; one that doesn't exist is passed over.
    pub fn delete(&self, cancel: &CancelToken, category: &str, name: &str) -> Result<()> {
        let key = key(category, name)?;
        self.write(cancel, |t| {
            if let Some((store, _)) = t.store(&self.engine_name)? {
                t.delete(store, &key)?;
            }
            Ok(())
        })
    }

    /// Names of the models of a category, in order.
    pub fn list(&self, cancel: &CancelToken, category: &str) -> Result<Vec<String>> {
        let start = part("category", category)?;
        let mut end = start.clone();
        // The terminator 00 01 of the category becomes 00 02, which nothing in a key is followed by.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.read(cancel, |t, store| {
            let mut names = Vec::new();
            let Some(store) = store else {
                return Ok(names);
            };
            let span = (Bound::Included(&*start), Bound::Excluded(&*end));
            walk::visit(t, store, span, Direction::Forward, |key, _| {
                if names.len().is_multiple_of(KEYS_PER_CHECK) {
                    cancel.check()?;
                }
                let name = key.get(start.len()..).and_then(name_of);
                names.push(name.ok_or_else(|| damaged("a key is not a category and a name"))?);
                Ok(true)
            })?;
            Ok(names)
        })
    }

    fn read<R>(
        &self,
        cancel: &CancelToken,
        f: impl Fn(&mut engine::Transaction, Option<StoreId>) -> Result<R>,
    ) -> Result<R> {
        self.session.read(cancel, |transaction| {
            transaction.with(cancel, |t| {
                let store = t.store(&self.engine_name)?.map(|(store, _)| store);
                f(t, store)
            })
        })
    }

    fn write<R>(&self, cancel: &CancelToken, f: impl Fn(&mut engine::Transaction) -> Result<R>) -> Result<R> {
        self.session.write(cancel, |transaction| {
            transaction.check_writable(&format!("change model store {:?}", self.name))?;
            transaction.name_keys(&self.engine_name, Arc::new(describe_key));
            transaction.with(cancel, &f)
        })
    }
}

/// A key as users know it, in errors about conflicts.
pub(crate) fn describe_key(key: &[u8]) -> serde_json::Value {
    let split = key.windows(2).position(|pair| pair == [0, 1]).map(|at| key.split_at(at + 2));
    match split.map(|(category, name)| (name_of(category), name_of(name))) {
        Some((Some(category), Some(name))) => format!("{category}/{name}").into(),
        _ => "a model".into(),
    }
}

fn load(t: &mut engine::Transaction, store: StoreId, key: &[u8]) -> Result<Option<Vec<u8>>> {
    match t.get(store, key)? {
        Some(Value::Inline(bytes)) => Ok(Some(bytes.to_vec())),
        Some(value) => Ok(Some(t.load(&value)?)),
        None => Ok(None),
    }
}

fn key(category: &str, name: &str) -> Result<Vec<u8>> {
    let mut key = part("category", category)?;
    key.extend(part("name", name)?);
    Ok(key)
}

/// A category or name as part of a key.
pub(crate) fn part(what: &str, text: &str) -> Result<Vec<u8>> {
    if !(1..=PART_BYTES_MAX).contains(&text.len()) {
        let message =
            format!("a model's {what} has 1 to {PART_BYTES_MAX} bytes, this one has {}", text.len());
        return Err(Error::new(ErrorCode::Validation, message));
    }
    let mut part = Vec::with_capacity(text.len() + 2);
    for byte in text.bytes() {
        part.push(byte);
        if byte == 0 {
            part.push(0xff);
        }
    }
    part.extend_from_slice(&[0, 1]);
    Ok(part)
}

/// The text in bytes made by [`part`].
pub(crate) fn name_of(part: &[u8]) -> Option<String> {
    let mut text = Vec::with_capacity(part.len());
    let mut bytes = part.strip_suffix(&[0, 1])?.iter();
    while let Some(byte) = bytes.next() {
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
        text.push(*byte);
    }
    String::from_utf8(text).ok()
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorCode::Corruption, format!("a model store is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_pairs_do() {
        let texts = ["\0", "\0\0", "\0a", "\u{1}", "a", "a\0", "a\0b", "aa", "b", "é"];
        let mut pairs: Vec<(&str, &str)> =
            texts.iter().flat_map(|category| texts.iter().map(move |name| (*category, *name))).collect();
        pairs.sort();
        for pair in pairs.windows(2) {
            assert!(key(pair[0].0, pair[0].1).unwrap() < key(pair[1].0, pair[1].1).unwrap(), "{pair:?}");
        }
        for text in texts {
            assert_eq!(name_of(&part("name", text).unwrap()).as_deref(), Some(text));
        }
        assert_eq!(name_of(&[b'a', 0, 2]), None);
        assert_eq!(name_of(&[b'a', 0, b'b', 0, 1]), None);
    }

    #[test]
    fn conflicts_name_category_and_name() {
        assert_eq!(describe_key(&key("a\0", "b").unwrap()), "a\0/b");
        assert_eq!(describe_key(b"?"), "a model");
    }

    #[test]
    fn parts_are_bounded() {
        assert_eq!(part("name", "").unwrap_err().code(), ErrorCode::Validation);
        assert_eq!(part("name", &"x".repeat(1_025)).unwrap_err().code(), ErrorCode::Validation);
        assert!(part("name", &"x".repeat(1_024)).is_ok());
    }
}
