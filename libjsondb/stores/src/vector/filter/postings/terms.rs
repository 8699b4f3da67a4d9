//! What a payload is found by.

use super::super::fields::{Depth, Reader, Seen, read};
use crate::btree::Scalar;

/// All terms lie between these two.
pub(super) const FIRST: [u8; 2] = [b'f', 1];
pub(super) const END: [u8; 2] = [b'f', 3];
/// Begins the terms of fields.
const FIELD: [u8; 2] = FIRST;
/// The term of rows that may have more than their terms say.
pub(super) const UNREAD: [u8; 2] = [b'f', 2];
/// Strings of more bytes are found by a hash.
const TEXT_BYTES_MAX: usize = 64;
/// Payloads with more fields, or with longer names, are not read.
const FIELDS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 256;

/// In the place of a value.
const LONG_TEXT: u8 = Scalar::FIRST_BYTES_END;
const COMPOSITE: u8 = LONG_TEXT + 1;

/// The beginning of all terms of a field.
pub(super) fn field(name: &str) -> Vec<u8> {
    let mut term = FIELD.to_vec();
    Scalar::Text(name).append(&mut term);
    term
}

/// Appends what stands for a value. True when it stands for no other one.
pub(super) fn append_value(value: Scalar<'_>, out: &mut Vec<u8>) -> bool {
    match value {
        Scalar::Text(text) if text.len() > TEXT_BYTES_MAX => {
            out.push(LONG_TEXT);
            out.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(text.as_bytes()).to_be_bytes());
            false
        }
        value => {
            value.append(out);
            true
        }
    }
}

/// The term of all lists and objects in a field.
pub(super) fn composite(name: &str) -> Vec<u8> {
    let mut term = field(name);
    term.push(COMPOSITE);
    term
}

/// The beginning of the terms of all long strings in a field.
pub(super) fn long_texts(name: &str) -> Vec<u8> {
    let mut term = field(name);
    term.push(LONG_TEXT);
    term
}

/// Terms of a payload, in memory that is used again for the next one.
#[derive(Default)]
pub(super) struct Terms {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Some of it has no term.
    is_unread: bool,
}

/// Where a term is.
struct Span {
    start: usize,
    /// Where the field ends and the value begins.
    value: usize,
    end: usize,
}

impl Terms {
    /// The terms of a payload, each once.
    pub(super) fn read(&mut self, payload: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.bytes.clear();
        self.spans.clear();
        self.is_unread = false;
        if !read(payload, self) {
            self.is_unread = true;
        }
        let terms = self.spans.iter().map(|span| &self.bytes[span.start..span.end]);
        terms.chain(self.is_unread.then_some(&UNREAD[..]))
    }
}

impl Reader for Terms {
    fn wants(&mut self, name: &str) -> Depth {
        if self.spans.len() == FIELDS_MAX || name.len() > NAME_BYTES_MAX {
            self.is_unread = true;
            return Depth::Nothing;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&FIELD);
        Scalar::Text(name).append(&mut self.bytes);
        let value = self.bytes.len();
        let (bytes, field) = (&self.bytes, &self.bytes[start..]);
        self.spans.retain(|span| &bytes[span.start..span.value] != field);
        self.spans.push(Span { start, value, end: value });
        Depth::Scalars
    }

    fn take(&mut self, value: Seen<'_>) {
        match value {
            Seen::Scalar(scalar) => drop(append_value(scalar, &mut self.bytes)),
            Seen::Composite(_) => self.bytes.push(COMPOSITE),
        }
        if let Some(span) = self.spans.last_mut() {
            span.end = self.bytes.len();
        }
    }
}
