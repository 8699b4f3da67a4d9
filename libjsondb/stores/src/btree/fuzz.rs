//! Fuzz targets: keys, records and options of B-trees.

#![allow(clippy::unwrap_used)]

use std::cmp::Ordering;

use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::index::{IndexField, IndexSpecification};
use super::key::{self, EncodedKey};
use super::layout::Layout;
use super::options::BtreeOptions;
use super::order::compare;
use super::record::Record;

const KEYS: [&str; 9] = [
    "null",
    "[true, false, -1.5, 9007199254740993, 18446744073709551615]",
    r#""text with \u0000 and é""#,
    r#"{"a": 1, "b": {"c": [null, "x"]}, "z": 1e300}"#,
    "-9223372036854775808",
    "0.1",
    "[[[[]]], {}]",
    r#"{"b": "descends", "a": [1, 2]}"#,
    "9223372036854775807.0",
];

fn raw(input: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(input.to_vec()).ok()?).ok()
}

fn specification() -> IndexSpecification {
    let field =
        |name: &str, ascending_sort_order| IndexField { field_name: name.into(), ascending_sort_order };
    IndexSpecification { index_fields: vec![field("a", true), field("b", false)] }
}

fn encode(value: &Value) -> Option<EncodedKey> {
    key::encode(&RawValue::from_string(value.to_string()).unwrap(), None).ok()
}

/// A key as JSON text: what is encoded comes back.
pub(crate) fn key(input: &[u8]) {
    let Some(text) = raw(input) else { return };
    if let Ok(encoded) = key::encode(&text, None) {
        let decoded = key::decode(&encoded.bytes).unwrap();
        let value: Value = serde_json::from_str(text.get()).unwrap();
        assert_eq!(compare(&decoded, &value), Ordering::Equal);
        assert!(!encoded.is_canonical || decoded == value);
        assert_eq!(encode(&decoded).unwrap().bytes, encoded.bytes);
        assert_eq!(key::encode_bound(&text, None).unwrap(), encoded.bytes);
    }
    let specification = specification();
    if let Ok(encoded) = key::encode(&text, Some(&specification)) {
        let fields = key::decode_fields(&encoded.bytes, &specification).unwrap();
        let again = RawValue::from_string(fields.to_string()).unwrap();
        assert_eq!(key::encode(&again, Some(&specification)).unwrap().bytes, encoded.bytes);
        assert!(encoded.bytes.starts_with(&key::encode_bound(&text, Some(&specification)).unwrap()));
    }
}

pub(crate) fn key_seeds() -> Vec<Vec<u8>> {
    KEYS.map(|key| key.as_bytes().to_vec()).to_vec()
}

/// Two keys as JSON texts, a line each: their bytes compare as they do.
pub(crate) fn key_order(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n').filter_map(raw);
    let (Some(one), Some(other)) = (lines.next(), lines.next()) else { return };
    let encoded = |text: &RawValue| key::encode(text, None).map(|encoded| encoded.bytes);
    if let (Ok(one_bytes), Ok(other_bytes)) = (encoded(&one), encoded(&other)) {
        let value = |text: &RawValue| serde_json::from_str::<Value>(text.get()).unwrap();
        assert_eq!(one_bytes.cmp(&other_bytes), compare(&value(&one), &value(&other)));
        assert!(one_bytes == other_bytes || !one_bytes.starts_with(&other_bytes));
    }
}

pub(crate) fn key_order_seeds() -> Vec<Vec<u8>> {
    KEYS.iter().flat_map(|one| KEYS.map(|other| format!("{one}\n{other}").into_bytes())).collect()
}

/// Bytes of a key: what is decoded has an encoding that means the same.
pub(crate) fn key_bytes(input: &[u8]) {
    if let Some(value) = key::decode(input)
        && let Some(encoded) = encode(&value)
    {
        let again = key::decode(&encoded.bytes).unwrap();
        assert_eq!(compare(&again, &value), Ordering::Equal);
        assert_eq!(encode(&again).unwrap().bytes, encoded.bytes);
    }
    let specification = specification();
    if let Some(fields) = key::decode_fields(input, &specification) {
        assert!(fields.as_object().unwrap().len() <= 2);
    }
}

pub(crate) fn key_bytes_seeds() -> Vec<Vec<u8>> {
    let plain = KEYS.map(|key| key::encode(&raw(key.as_bytes()).unwrap(), None).unwrap().bytes);
    let fields = key::encode(&raw(KEYS[7].as_bytes()).unwrap(), Some(&specification())).unwrap().bytes;
    [plain.to_vec(), vec![fields]].concat()
}

/// Bytes of an engine key, in stores of every kind.
pub(crate) fn item_layout(input: &[u8]) {
    for is_unique in [true, false] {
        for specification in [None, Some(specification())] {
            let layout = Layout::new("fuzz", is_unique, specification);
            let _ = layout.decode(input);
            let _ = layout.describe(input);
            let id = layout.id(input);
            if is_unique {
                assert_eq!(layout.engine_key(input, id).as_deref(), Some(input));
            } else if input.len() >= 16 {
                let key = &input[..input.len() - 16];
                assert!(layout.is_equal(input, key));
                assert_eq!(layout.engine_key(key, id).as_deref(), Some(input));
                assert!(input <= layout.last_equal(key).as_slice() && key < input);
            } else {
                assert_ne!(id, Uuid::nil());
            }
        }
    }
}

/// Bytes of a record.
pub(crate) fn item_record(input: &[u8]) {
    if let Some(record) = Record::decode(input) {
        let again = record.encode();
        assert!(again.len() <= input.len());
        assert_eq!(Record::decode(&again), Some(record));
    }
}

pub(crate) fn item_record_seeds() -> Vec<Vec<u8>> {
    let long = "k".repeat(300);
    [None, Some("1.0"), Some(long.as_str())]
        .map(|key| Record { key, value: r#"{"value": "é"}"# }.encode())
        .to_vec()
}

/// Options as callers give them, and as they are stored.
pub(crate) fn btree_options(input: &[u8]) {
    let _ = BtreeOptions::from_metadata("fuzz", input);
    let Ok(options) = serde_json::from_slice::<BtreeOptions>(input) else { return };
    if let Ok((options, _)) = options.normalise() {
        let metadata = options.to_metadata().unwrap();
        let stored = BtreeOptions::from_metadata("fuzz", &metadata).unwrap();
        assert!(options.differences(&stored).is_empty());
        let (stored, _) = stored.normalise().unwrap();
        assert_eq!(stored.to_metadata().unwrap(), metadata);
    }
}

pub(crate) fn btree_options_seeds() -> Vec<Vec<u8>> {
    let given = r#"{"name": "x", "is_unique": true, "slot_length": 501, "description": "d", "is_primitive_key": false,
        "index_specification": "{\"index_fields\": [{\"field_name\": \"a\"}]}", "cache_config": {"b": 1, "a": 2},
        "is_value_data_in_node_segment": false, "is_value_data_actively_persisted": true, "leaf_load_balancing": null}"#;
    vec![given.as_bytes().to_vec(), BtreeOptions::new("x").normalise().unwrap().0.to_metadata().unwrap()]
}

/// Text of an index specification.
pub(crate) fn index_specification(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(Some(specification)) = IndexSpecification::parse(text) {
        assert_eq!(IndexSpecification::parse(&specification.text()).unwrap(), Some(specification));
    }
}

pub(crate) fn index_specification_seeds() -> Vec<Vec<u8>> {
    vec![specification().text().into_bytes(), b"null".to_vec()]
}
