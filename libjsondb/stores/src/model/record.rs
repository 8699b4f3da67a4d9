//! What a model store keeps of a model: which versions there are, and each version.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::damaged;
use super::keys::ArtifactId;
use crate::Result;

/// Which versions of a model there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The newest one there ever was: numbers are not used again.
    pub(super) last: u64,
    /// The newest one there is.
    pub(super) newest: u64,
    /// The one that is active.
    pub(super) active: Option<u64>,
}

impl Head {
    pub(super) fn encode(self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self).map_err(|_| damaged("a model cannot be written"))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Head> {
        serde_json::from_slice(bytes).map_err(|_| damaged("the versions of a model"))
    }
}

/// Bytes that belong to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// How many.
    pub bytes: u64,
    /// SHA-256 of them, in hexadecimal digits.
    pub sha256: String,
    /// What they are, in the caller's words: "joblib".
    pub format: String,
}

/// An artefact, and by which id its chunks are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredArtifact {
    pub(super) id: ArtifactId,
    #[serde(flatten)]
    pub(super) artifact: Artifact,
}

/// What is known of a version without its model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// Milliseconds since 1970.
    pub(super) saved_at: u64,
    pub(super) sha256: String,
    pub(super) artifact: Option<StoredArtifact>,
}

/// A version as it is stored: length of [`About`] 4 (little endian), `About` as JSON, the model as it was given.
pub(super) struct Record {
    pub(super) about: About,
    pub(super) model: Box<RawValue>,
}

impl Record {
    pub(super) fn encode(about: &About, model: &RawValue) -> Result<Vec<u8>> {
        let head = serde_json::to_vec(about).map_err(|_| damaged("a model cannot be written"))?;
        let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
        bytes.extend(head);
        bytes.extend_from_slice(model.get().as_bytes());
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Record> {
        let parts = bytes.split_first_chunk::<4>().and_then(|(len, rest)| {
            let (head, model) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            Some((serde_json::from_slice(head).ok()?, String::from_utf8(model.to_vec()).ok()?))
        });
        let (about, model) = parts.ok_or_else(|| damaged("a version of a model"))?;
        let model = RawValue::from_string(model).map_err(|_| damaged("a model is not JSON"))?;
        Ok(Record { about, model })
    }
}

/// A JSON object whose fields keep their order and text.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Name of the field that says whether a version is the active one.
const IS_ACTIVE: &str = "is_active";

fn fields(model: &RawValue) -> Option<Fields> {
    serde_json::from_str(model.get()).ok()
}

/// True when a model says that it is to be the active one.
pub(super) fn wants_to_be_active(model: &RawValue) -> bool {
    let fields = fields(model);
    fields
        .is_some_and(|fields| fields.0.iter().any(|(name, value)| name == IS_ACTIVE && value.get() == "true"))
}

/// The model as it was saved, but that the field `is_active`, if it has one that is true or false, says what is so now.
pub(super) fn with_activity(model: Box<RawValue>, is_active: bool) -> Box<RawValue> {
    let Some(mut fields) = fields(&model) else { return model };
    let now = if is_active { "true" } else { "false" };
    let other = if is_active { "false" } else { "true" };
    let Some((_, field)) =
        fields.0.iter_mut().find(|(name, value)| name == IS_ACTIVE && value.get() == other)
    else {
        return model;
    };
    let Ok(value) = RawValue::from_string(now.to_owned()) else { return model };
    *field = value;
    serde_json::value::to_raw_value(&fields).unwrap_or(model)
}

/// The metrics of a model: its field of that name.
pub(super) fn metrics(model: &RawValue) -> Option<Box<RawValue>> {
    let fields = fields(model)?;
    fields.0.into_iter().find_map(|(name, value)| (name == "metrics").then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn only_the_activity_of_a_model_changes() {
        let saved = r#"{"z": 1.50, "is_active": true, "a": {"is_active": true}}"#;
        assert!(wants_to_be_active(&raw(saved)));
        assert_eq!(with_activity(raw(saved), true).get(), saved);
        assert_eq!(
            with_activity(raw(saved), false).get(),
            r#"{"z":1.50,"is_active":false,"a":{"is_active": true}}"#
        );
        for other in ["[1]", "null", r#"{"is_active": "yes"}"#, r#"{"a": 1}"#] {
            assert!(!wants_to_be_active(&raw(other)));
            assert_eq!(with_activity(raw(other), true).get(), other);
        }
    }

    #[test]
    fn damaged_records_are_errors() {
        let about = About { saved_at: 1, sha256: String::new(), artifact: None };
        let bytes = Record::encode(&about, &raw("7")).unwrap();
        assert_eq!(Record::decode(&bytes).unwrap().model.get(), "7");
        for end in 0..bytes.len() {
            assert!(Record::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Record::decode(&[0xff; 9]).is_err());
        assert!(Head::decode(b"{").is_err());
    }
}
