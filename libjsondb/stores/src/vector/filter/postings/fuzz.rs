//! A fuzz target: postings as they lie in the engine, and the terms of any payload.

#![allow(clippy::unwrap_used)]

use engine::ValueRef;

use super::terms::Terms;
use super::{directory, lists};

/// A key, of as many bytes as the first one says, and its value; or a payload.
pub(in crate::vector) fn postings(input: &[u8]) {
    let Some((len, rest)) = input.split_first() else { return };
    let (key, value) = rest.split_at(rest.len().min(usize::from(*len)));
    directory::check(key, value);
    let mut ordinals = 0;
    let _ = lists::each_of(key, ValueRef::Inline(value), |_| ordinals += 1);
    assert!(ordinals <= value.len() + 1);
    let mut terms = Terms::default();
    let met = terms.read(rest).inspect(|term| assert!(term.starts_with(b"f"))).count();
    assert!(met <= 65, "the fields of a payload are bounded");
}

pub(in crate::vector) fn seeds() -> Vec<Vec<u8>> {
    let entry = |key: &[u8], value: &[u8]| [&[key.len() as u8], key, value].concat();
    vec![
        entry(b"f\0\0\0\0\x07", &[0x80, 0x80, 4, 0xff, 1, 2, 3, 6, 0]),
        entry(b"f\x01\x06a\0\x01\x04\0\0\0\x01", &[1, 1, 2, 0x80, 1]),
        entry(b"f\x02\0\0\0\x01", &[9]),
        entry(b"", br#"{"a": 1, "b": ["x"], "a": "y", "c": null, "d": 1e999}"#),
    ]
}
