//! Targets for fuzzing: every decoder of the stores, given any bytes.
//!
//! A target panics when a promise is broken: none may panic, take memory without bound or go on for ever; what a decoder accepts
//! comes back when it is encoded again.

#![allow(clippy::unwrap_used, missing_docs)]

use crate::{btree, hex, model, vector};

/// Name, what runs, valid inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

pub const TARGETS: &[Target] = &[
    ("key", btree::fuzz::key, btree::fuzz::key_seeds),
    ("key-order", btree::fuzz::key_order, btree::fuzz::key_order_seeds),
    ("key-bytes", btree::fuzz::key_bytes, btree::fuzz::key_bytes_seeds),
    ("item-layout", btree::fuzz::item_layout, btree::fuzz::key_bytes_seeds),
    ("item-record", btree::fuzz::item_record, btree::fuzz::item_record_seeds),
    ("btree-options", btree::fuzz::btree_options, btree::fuzz::btree_options_seeds),
    ("index-specification", btree::fuzz::index_specification, btree::fuzz::index_specification_seeds),
    ("vector-layout", vector::fuzz::vector_layout, vector::fuzz::vector_layout_seeds),
    ("vector-filter", vector::fuzz::vector_filter, vector::fuzz::vector_filter_seeds),
    ("vector-postings", vector::fuzz::vector_postings, vector::fuzz::vector_postings_seeds),
    ("vector-json", vector::fuzz::vector_json, vector::fuzz::vector_json_seeds),
    ("model-key", model_key, model_key_seeds),
    ("resume-token", resume_token, resume_token_seeds),
];

/// A key of a model store.
fn model_key(input: &[u8]) {
    assert!(!model::keys::describe(input).is_null());
    if let Some(name) = model::keys::text_of(input)
        && let Ok(part) = model::keys::part("name", &name)
    {
        assert_eq!(part, input);
    }
}

fn model_key_seeds() -> Vec<Vec<u8>> {
    let part = |text| model::keys::part("name", text).unwrap();
    vec![part("churn"), part("a\0b"), [part("é"), part("v1")].concat()]
}

/// The hexadecimal text by which a range goes on.
fn resume_token(input: &[u8]) {
    assert_eq!(hex::decode(&hex::encode(input)).as_deref(), Some(input));
    if let Ok(text) = std::str::from_utf8(input)
        && let Some(bytes) = hex::decode(text)
    {
        assert_eq!(hex::encode(&bytes), text);
    }
}

fn resume_token_seeds() -> Vec<Vec<u8>> {
    vec![b"0580000000".to_vec(), b"00af".to_vec(), Vec::new()]
}

#[cfg(test)]
#[test]
fn fuzz_every_decoder() {
    crate::fuzz_driver::run(TARGETS, 100_000, 64 << 20);
}
