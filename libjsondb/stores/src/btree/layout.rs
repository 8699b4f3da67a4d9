//! How items of a store lie in the engine: which key tells items apart, and which id they have.
//!
//! A unique store has one engine key per key. Its items' ids are computed from it and take no space. In a store with
//! duplicates the engine key ends with 16 bytes that tell them apart: the complement of the item's id, a version 7 UUID,
//! which rises with time; so the newest of equal keys comes first.

use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::index::IndexSpecification;
use super::key::{self, EncodedKey, SimpleKey};
use super::record::{self, Record};
use super::rows::{Found, KeyOut};
use super::shape::KeySource;
use crate::{Error, ErrorCode, Result, hex};

/// Length of what tells duplicates apart.
const ID_LEN: usize = 16;

/// Layout of one store: how its keys become bytes, and bytes its keys.
#[derive(Clone, Debug)]
pub struct Layout {
    name: String,
    is_unique: bool,
    specification: Option<IndexSpecification>,
}

impl Layout {
    pub(super) fn new(name: &str, is_unique: bool, specification: Option<IndexSpecification>) -> Self {
        Self { name: name.to_owned(), is_unique, specification }
    }

    /// True when keys carry fields that neither order nor identify them.
    pub(super) fn has_ride_on_fields(&self) -> bool {
        self.specification.is_some()
    }

    pub(super) fn encode(&self, key: &RawValue) -> Result<EncodedKey> {
        key::encode(key, self.specification.as_ref())
            .map_err(|error| error.with_detail("store", self.name.as_str()))
    }

    pub(super) fn encode_bound(&self, key: &RawValue) -> Result<Vec<u8>> {
        key::encode_bound(key, self.specification.as_ref())
            .map_err(|error| error.with_detail("store", self.name.as_str()))
    }

    /// Appends the encoding of a key; True when the bytes give the key back exactly, else its JSON text belongs into the record.
    /// What was appended before a failure is the caller's to remove.
    pub fn append_key<'a, K: KeySource<'a>>(
        &self,
        key: K,
        out: &mut Vec<u8>,
    ) -> std::result::Result<bool, K::Error> {
        key::append(key, self.specification.as_ref(), out)
    }

    /// As [`Layout::append_key`], from JSON text.
    pub fn append_key_text(&self, key: &RawValue, out: &mut Vec<u8>) -> Result<bool> {
        let encoded = self.encode(key)?;
        out.extend_from_slice(&encoded.bytes);
        Ok(encoded.is_canonical)
    }

    /// Appends the encoding of a bound. With an index specification, fields missing at its end are left open.
    pub fn append_bound<'a, K: KeySource<'a>>(
        &self,
        bound: K,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), K::Error> {
        key::append_bound(bound, self.specification.as_ref(), out)
    }

    /// As [`Layout::append_bound`], from JSON text.
    pub fn append_bound_text(&self, bound: &RawValue, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&self.encode_bound(bound)?);
        Ok(())
    }

    /// The key of a row that a walk has met.
    pub fn key<'a>(&self, found: Found<'a>) -> Result<KeyOut<'a>> {
        let (text, _) = found.record.and_then(record::split).ok_or_else(|| self.damaged("record"))?;
        if let Some(text) = text {
            return Ok(KeyOut::Json(text.into()));
        }
        if self.specification.is_none() {
            match key::simple(self.key_part(found.key)) {
                Some(SimpleKey::Integer(integer)) => return Ok(KeyOut::Integer(integer)),
                Some(SimpleKey::Text(text)) => return Ok(KeyOut::Text(text)),
                None => {}
            }
        }
        Ok(KeyOut::Json(self.decode_text(found.key)?.into_bytes().into()))
    }

    /// The JSON text of a row's value; None for a key that is not there.
    pub fn value<'a>(&self, found: Found<'a>) -> Result<Option<&'a [u8]>> {
        found.record.map(|record| self.value_of(record)).transpose()
    }

    /// The id of a row that a walk has met.
    pub fn row_id(&self, found: Found<'_>) -> Uuid {
        self.id(found.key)
    }

    /// The value's JSON text in a record.
    pub(super) fn value_of<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let (_, value) = record::split(bytes).ok_or_else(|| self.damaged("record"))?;
        Ok(value)
    }

    /// Engine key of an item that is about to be added.
    pub(super) fn new_engine_key(&self, encoded: &[u8]) -> Vec<u8> {
        if self.is_unique { encoded.to_vec() } else { with_id(encoded, crate::ids::new()) }
    }

    /// Engine key of the item with this key and id; None when no item can have them.
    pub(super) fn engine_key(&self, encoded: &[u8], id: Uuid) -> Option<Vec<u8>> {
        if self.is_unique {
            (self.id(encoded) == id).then(|| encoded.to_vec())
        } else {
            Some(with_id(encoded, id))
        }
    }

    /// True when the engine key belongs to an item with this key.
    pub(super) fn is_equal(&self, engine_key: &[u8], encoded: &[u8]) -> bool {
        self.key_part(engine_key) == encoded
    }

    /// Last engine key an item with this key can have.
    pub(super) fn last_equal(&self, encoded: &[u8]) -> Vec<u8> {
        if self.is_unique { encoded.to_vec() } else { with_id(encoded, Uuid::nil()) }
    }

    /// Id of the item under an engine key.
    pub(super) fn id(&self, engine_key: &[u8]) -> Uuid {
        match engine_key.last_chunk::<ID_LEN>() {
            Some(id) if !self.is_unique => Uuid::from_bytes(id.map(|byte| !byte)),
            _ => derived_id(&self.name, engine_key),
        }
    }

    /// The user's key: from the record when it is there, else from the engine key.
    pub(super) fn key_text(&self, engine_key: &[u8], record: Record<'_>) -> Result<Box<RawValue>> {
        match record.key {
            Some(text) => self.raw_value(text),
            None => self.decode(engine_key),
        }
    }

    /// The user's key from the engine key alone. It compares equal to what was written; ride-on fields are lost, and
    /// 1.0 becomes 1.
    pub(super) fn decode(&self, engine_key: &[u8]) -> Result<Box<RawValue>> {
        RawValue::from_string(self.decode_text(engine_key)?).map_err(|_| self.damaged("key"))
    }

    fn decode_text(&self, engine_key: &[u8]) -> Result<String> {
        self.key_json(engine_key).ok_or_else(|| self.damaged("key"))
    }

    pub(super) fn record<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>> {
        Record::decode(bytes).ok_or_else(|| self.damaged("record"))
    }

    pub(super) fn raw_value(&self, text: &str) -> Result<Box<RawValue>> {
        RawValue::from_string(text.to_owned()).map_err(|_| self.damaged("record"))
    }

    /// The key as it is shown in a conflict; hexadecimal when it can't be decoded.
    pub(super) fn describe(&self, engine_key: &[u8]) -> Value {
        let encoded = self.key_part(engine_key);
        let key = match &self.specification {
            None => key::decode(encoded),
            Some(specification) => key::decode_fields(encoded, specification),
        };
        key.unwrap_or_else(|| Value::String(hex::encode(engine_key)))
    }

    fn key_json(&self, engine_key: &[u8]) -> Option<String> {
        let encoded = self.key_part(engine_key);
        match &self.specification {
            None => key::decode(encoded).map(|key| key.to_string()),
            Some(specification) => key::fields_text(encoded, specification),
        }
    }

    fn key_part<'a>(&self, engine_key: &'a [u8]) -> &'a [u8] {
        let id_len = if self.is_unique { 0 } else { ID_LEN };
        &engine_key[..engine_key.len().saturating_sub(id_len)]
    }

    pub(super) fn damaged(&self, what: &str) -> Error {
        let message = format!("a {what} of B-tree {:?} is damaged", self.name);
        Error::new(ErrorCode::Corruption, message).with_detail("store", self.name.as_str())
    }
}

fn with_id(encoded: &[u8], id: Uuid) -> Vec<u8> {
    let mut key = Vec::with_capacity(encoded.len() + ID_LEN);
    key.extend_from_slice(encoded);
    key.extend(id.as_bytes().iter().map(|byte| !byte));
    key
}

fn derived_id(store: &str, encoded: &[u8]) -> Uuid {
    let mut named = Vec::with_capacity(store.len() + 1 + encoded.len());
    named.extend_from_slice(store.as_bytes());
    // Names have no control characters, so the two parts can't run into each other.
    named.push(0);
    named.extend_from_slice(encoded);
    Uuid::new_v8(xxh3_128(&named).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn encoded(layout: &Layout, text: &str) -> Vec<u8> {
        layout.encode(&raw(text)).unwrap().bytes
    }

    #[test]
    fn ids_of_a_unique_store_follow_from_name_and_key() {
        let (one, other) = (Layout::new("a", true, None), Layout::new("b", true, None));
        let key = encoded(&one, "1");
        assert_eq!(one.id(&key), one.id(&encoded(&one, "1.0")));
        assert_ne!(one.id(&key), one.id(&encoded(&one, "2")));
        assert_ne!(one.id(&key), other.id(&key));
        assert_eq!(one.id(&key).get_version_num(), 8);
        assert_eq!(one.engine_key(&key, one.id(&key)), Some(key.clone()));
        assert_eq!(one.engine_key(&key, Uuid::nil()), None);
    }

    #[test]
    fn duplicates_lie_newest_first_between_their_neighbours() {
        let layout = Layout::new("a", false, None);
        let key = encoded(&layout, "\"x\"");
        let keys: Vec<Vec<u8>> = (0..100).map(|_| layout.new_engine_key(&key)).collect();
        assert!(keys.windows(2).all(|pair| pair[1] < pair[0]));
        assert!(keys.iter().all(|engine_key| layout.is_equal(engine_key, &key)));
        assert!(keys.iter().all(|engine_key| key < *engine_key && *engine_key <= layout.last_equal(&key)));
        assert!(layout.last_equal(&encoded(&layout, "\"w\"")) < keys[99]);
        assert!(keys[0] < encoded(&layout, "\"xa\""));
        let id = layout.id(&keys[3]);
        assert_eq!(layout.engine_key(&key, id), Some(keys[3].clone()));
    }

    #[test]
    fn the_record_says_what_the_bytes_cannot() {
        let layout = Layout::new("a", true, None);
        let key = encoded(&layout, "1.0");
        assert_eq!(layout.key_text(&key, Record { key: None, value: "null" }).unwrap().get(), "1");
        assert_eq!(layout.key_text(&key, Record { key: Some("1.0"), value: "null" }).unwrap().get(), "1.0");
    }

    #[test]
    fn damage_is_corruption() {
        let layout = Layout::new("a", true, None);
        assert_eq!(layout.decode(&[0xee]).unwrap_err().code(), ErrorCode::Corruption);
        assert_eq!(layout.record(&[7]).unwrap_err().code(), ErrorCode::Corruption);
        assert_eq!(layout.raw_value("{").unwrap_err().code(), ErrorCode::Corruption);
        assert_eq!(layout.describe(&[0xee]), Value::String("ee".into()));
        assert!(Layout::new("a", false, None).decode(&[1]).is_err());
    }
}
