//! Keys of a model store.
//!
//! * `m` category name: which versions there are ([`super::record::Head`]);
//! * `v` category name version (8 bytes, big endian): a version ([`super::record::Record`]);
//! * `a` artefact id (16 bytes) chunk (4 bytes, big endian): bytes of an artefact.
//!
//! Category and name are written with each 00 as 00 FF, and ended by 00 01: bytes then compare as the pairs do, and the names of one
//! category are neighbours.

use crate::{Error, ErrorCode, Result};

/// First byte of the keys of models.
pub(crate) const MODEL: u8 = b'm';
const VERSION: u8 = b'v';
const ARTIFACT: u8 = b'a';

const PART_BYTES_MAX: usize = 1024;

/// Names an artefact: random.
pub(super) type ArtifactId = uuid::Uuid;

/// Category and name, encoded.
#[derive(Clone)]
pub(super) struct ModelKey(Vec<u8>);

impl ModelKey {
    pub(super) fn new(category: &str, name: &str) -> Result<ModelKey> {
        let mut bytes = part("category", category)?;
        bytes.extend(part("name", name)?);
        Ok(ModelKey(bytes))
    }

    pub(super) fn head(&self) -> Vec<u8> {
        join(&[&[MODEL], &self.0])
    }

    pub(super) fn version(&self, version: u64) -> Vec<u8> {
        join(&[&[VERSION], &self.0, &version.to_be_bytes()])
    }
}

/// All models, or those of a category: the start of their keys.
pub(super) fn models_of(category: Option<&str>) -> Result<Vec<u8>> {
    let part = category.map(|category| part("category", category)).transpose()?;
    Ok(join(&[&[MODEL], &part.unwrap_or_default()]))
}

pub(super) fn chunk(artifact: &ArtifactId, chunk: u32) -> Vec<u8> {
    join(&[&[ARTIFACT], artifact.as_bytes(), &chunk.to_be_bytes()])
}

/// Category and name of a model's key.
pub(super) fn names_of(head: &[u8]) -> Option<(String, String)> {
    let (kind, pair) = head.split_first()?;
    let (category, name) = (*kind == MODEL).then(|| split(pair))??;
    Some((text_of(category)?, text_of(name)?))
}

/// A key as users know it, in errors about conflicts.
pub(crate) fn describe(key: &[u8]) -> serde_json::Value {
    let pair = match key.split_first() {
        Some((&MODEL, pair)) => split(pair),
        Some((&VERSION, pair)) => pair.split_last_chunk::<8>().and_then(|(pair, _)| split(pair)),
        _ => None,
    };
    match pair.map(|(category, name)| (text_of(category), text_of(name))) {
        Some((Some(category), Some(name))) => format!("{category}/{name}").into(),
        _ => "a model".into(),
    }
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.windows(2).position(|end| end == [0, 1])?;
    Some(pair.split_at(at + 2))
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
pub(crate) fn text_of(part: &[u8]) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_pairs_do() {
        let texts = ["\0", "\0\0", "\0a", "\u{1}", "a", "a\0", "a\0b", "aa", "b", "é"];
        let mut pairs: Vec<(&str, &str)> =
            texts.iter().flat_map(|category| texts.iter().map(move |name| (*category, *name))).collect();
        pairs.sort();
        let key = |pair: (&str, &str)| ModelKey::new(pair.0, pair.1).unwrap().head();
        for pair in pairs.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
        for pair in pairs {
            assert_eq!(names_of(&key(pair)), Some((pair.0.to_owned(), pair.1.to_owned())));
        }
        assert_eq!(text_of(&[b'a', 0, 2]), None);
        assert_eq!(text_of(&[b'a', 0, b'b', 0, 1]), None);
    }

    #[test]
    fn conflicts_name_category_and_name() {
        let key = ModelKey::new("a\0", "b").unwrap();
        assert_eq!(describe(&key.head()), "a\0/b");
        assert_eq!(describe(&key.version(7)), "a\0/b");
        assert_eq!(describe(b"?"), "a model");
        assert_eq!(describe(b"v"), "a model");
    }

    #[test]
    fn parts_are_bounded() {
        assert_eq!(part("name", "").unwrap_err().code(), ErrorCode::Validation);
        assert_eq!(part("name", &"x".repeat(1_025)).unwrap_err().code(), ErrorCode::Validation);
        assert!(part("name", &"x".repeat(1_024)).is_ok());
    }
}
