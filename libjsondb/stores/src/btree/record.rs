//! What the engine keeps under a key: the value's JSON text as the caller wrote it, and the key's where its bytes do not
//! say all of it.
//!
//! Layout: flags (bit 0: key text follows), [length of the key text as a varint, key text,] value text.

use std::borrow::Cow;

const HAS_KEY: u8 = 1;
/// A record without a value, of a key that its bytes tell.
pub(super) const KEY_IN_BYTES: &[u8] = &[0];
/// Text of a value that was not given.
pub(super) const NO_VALUE: &str = "null";

/// A record, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: Option<&'a str>,
    pub(super) value: &'a str,
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let key_len = self.key.map_or(0, |key| key.len() + 10);
        let mut out = Vec::with_capacity(1 + key_len + self.value.len());
        begin(self.key.map(str::as_bytes), &mut out);
        out.extend_from_slice(self.value.as_bytes());
        out
    }

    /// None for bytes that [`Record::encode`] never writes.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (key, value) = split(bytes)?;
        let key = key.map(std::str::from_utf8).transpose().ok()?;
        Some(Self { key, value: std::str::from_utf8(value).ok()? })
    }
}

/// Appends what stands before the value's text.
pub(super) fn begin(key: Option<&[u8]>, out: &mut Vec<u8>) {
    match key {
        None => out.extend_from_slice(KEY_IN_BYTES),
        Some(key) => {
            out.push(HAS_KEY);
            put_varint(out, key.len() as u64);
            out.extend_from_slice(key);
        }
    }
}

/// The texts of key and value, not checked to be UTF-8. None for bytes that are no record.
pub(super) fn split(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (&flags, rest) = bytes.split_first()?;
    match flags {
        0 => Some((None, rest)),
        HAS_KEY => {
            let (len, rest) = take_varint(rest)?;
            let (key, value) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            Some((Some(key), value))
        }
        _ => None,
    }
}

/// The new value beside the old key; None when one of them is no record.
pub(super) fn with_key_of<'a>(old: &[u8], new: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let (key, _) = split(old)?;
    let (new_key, value) = split(new)?;
    if key == new_key {
        return Some(Cow::Borrowed(new));
    }
    let mut joined = Vec::with_capacity(old.len() + new.len());
    begin(key, &mut joined);
    joined.extend_from_slice(value);
    Some(Cow::Owned(joined))
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let long = "k".repeat(300);
        for key in [None, Some("1.0"), Some(""), Some(long.as_str())] {
            for value in ["null", "{\"a\": 1}", "\"é\""] {
                let record = Record { key, value };
                assert_eq!(Record::decode(&record.encode()), Some(record));
            }
        }
    }

    #[test]
    fn damage_is_seen_not_followed() {
        for bytes in
            [&b""[..], &[2, 0], &[1], &[1, 5, b'a'], &[1, 0x80], &[0, 0xff], &[1; 20][..2], &[1, 0xff, 0xff]]
        {
            assert_eq!(Record::decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(Record::decode(&[[1].as_slice(), &[0xff; 12]].concat()), None);
    }
}
