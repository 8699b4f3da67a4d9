//! The encoding of what has no parts.

use std::ops::Range;

use super::super::number::OrderedNumber;
use super::{ESCAPED, FALSE, LIST, NULL, NUMBER, STRING, STRING_END, TRUE};

/// A value without parts. Compares as keys do: null < false < true < number < string, strings by code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(OrderedNumber),
    Text(&'a str),
}

impl Scalar<'_> {
    /// The encoding of no scalar begins with this byte or a greater one.
    pub(crate) const FIRST_BYTES_END: u8 = LIST;

    /// What the encodings of this type, and of no other, begin with.
    pub(crate) fn first_bytes(self) -> Range<u8> {
        match self {
            Scalar::Null => NULL..FALSE,
            Scalar::Bool(_) => FALSE..NUMBER,
            Scalar::Number(_) => NUMBER..STRING,
            Scalar::Text(_) => STRING..LIST,
        }
    }

    /// Appends the encoding; no encoding is a prefix of another, and bytes compare as the scalars do.
    #[inline]
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        match self {
            Scalar::Null => out.push(NULL),
            Scalar::Bool(false) => out.push(FALSE),
            Scalar::Bool(true) => out.push(TRUE),
            Scalar::Number(number) => {
                out.push(NUMBER);
                number.append(out);
            }
            Scalar::Text(text) => append_text(text, out),
        }
    }
}

fn append_text(text: &str, out: &mut Vec<u8>) {
    out.push(STRING);
    let mut rest = text.as_bytes();
    while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[0, ESCAPED]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, STRING_END]);
}
