//! Options of a B-tree store: given, checked, stored as the engine's store metadata, given back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::index::IndexSpecification;
use crate::{Error, ErrorCode, Result};

const SLOT_LENGTH_DEFAULT: i64 = 500;
const SLOT_LENGTH_MIN: i64 = 2;
const SLOT_LENGTH_MAX: i64 = 20_000;
/// Longest duration in a cache: a year.
const MINUTES_MAX: f64 = 366.0 * 24.0 * 60.0;

/// Options of a B-tree store, by the names Python has for them. Unknown fields are ignored; a null is the same as no
/// field.
///
/// `name`, `is_unique`, `index_specification` and the placement of values mean something to this engine. The others are
/// checked, stored and given back, and count when two sets of options are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Given")]
pub struct BtreeOptions {
    /// Name of the store, unique among B-trees of the database.
    pub name: String,
    /// True: one item per key. False: duplicates are kept, newest first.
    pub is_unique: bool,
    /// Items per node of the original engine, 2..=20,000.
    pub slot_length: i64,
    /// Free text.
    pub description: String,
    /// Small values: kept beside their keys.
    pub is_value_data_in_node_segment: bool,
    /// Big values: written to disk when added, not at commit.
    pub is_value_data_actively_persisted: bool,
    /// Medium values: kept in the shared cache of the original engine.
    pub is_value_data_globally_cached: bool,
    /// JSON text of an [`IndexSpecification`], or empty.
    pub index_specification: String,
    /// Of the caller's transaction; not stored.
    pub transaction_id: String,
    /// Durations in minutes and flags, as given. See [`BtreeOptions::cache_durations`].
    pub cache_config: Option<BTreeMap<String, Value>>,
    /// False when keys are objects.
    pub is_primitive_key: bool,
    /// Balancing of the original engine's leaves.
    pub leaf_load_balancing: bool,
}

impl BtreeOptions {
    /// The defaults, for a store of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Given { name: Some(name.into()), ..Given::default() }.into()
    }

    /// Puts values into their range, and the index specification into its one spelling.
    pub(super) fn normalise(mut self) -> Result<(Self, Option<IndexSpecification>)> {
        self.slot_length = self.slot_length.clamp(SLOT_LENGTH_MIN, SLOT_LENGTH_MAX);
        self.transaction_id = uuid::Uuid::nil().to_string();
        let specification = IndexSpecification::parse(&self.index_specification)?;
        self.index_specification = specification.as_ref().map(IndexSpecification::text).unwrap_or_default();
        Ok((self, specification))
    }

    /// How long a Clustered database keeps what it reads of the store for other processes: `node_cache_duration` for pages,
    /// `value_data_cache_duration` for large values. What is not said is as by default: 5 minutes, and not at all. With
    /// `is_node_cache_ttl` or `is_value_data_cache_ttl` each read lets the time begin anew.
    pub fn cache_durations(&self) -> engine::CacheDurations {
        let given = |field: &str| self.cache_config.as_ref().and_then(|config| config.get(field));
        let duration = |minutes: &str, is_sliding: &str, otherwise: engine::CacheDuration| {
            let time = given(minutes).and_then(Value::as_f64).map_or(otherwise.time, |minutes| {
                Duration::from_secs_f64(60.0 * minutes.clamp(0.0, MINUTES_MAX))
            });
            let is_sliding = given(is_sliding).and_then(Value::as_bool).unwrap_or(otherwise.is_sliding);
            engine::CacheDuration { time, is_sliding }
        };
        let default = engine::CacheDurations::default();
        engine::CacheDurations {
            pages: duration("node_cache_duration", "is_node_cache_ttl", default.pages),
            values: duration("value_data_cache_duration", "is_value_data_cache_ttl", default.values),
        }
    }

    /// The engine's metadata of the store: equal bytes for equal options, in whatever transaction.
    pub(super) fn to_metadata(&self) -> Result<Vec<u8>> {
        let mut value = serde_json::to_value(self).map_err(internal)?;
        if let Value::Object(fields) = &mut value {
            fields.remove("transaction_id");
        }
        serde_json::to_vec(&value).map_err(internal)
    }

    /// The options without what is not the store's own: its name, and a transaction.
    pub(super) fn to_listing(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self).map_err(internal)?;
        if let Value::Object(fields) = &mut value {
            fields.retain(|field, _| field != "name" && field != "transaction_id");
        }
        Ok(value)
    }

    pub(super) fn from_metadata(name: &str, metadata: &[u8]) -> Result<Self> {
        serde_json::from_slice(metadata).map_err(|error| {
            let message = format!("the stored options of B-tree {name:?} are damaged: {error}");
            Error::new(ErrorCode::Corruption, message).with_detail("store", name)
        })
    }

    /// Names of the options by which two stores of one name differ. Both sides are normalised.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("is_unique", self.is_unique == other.is_unique),
            ("slot_length", self.slot_length == other.slot_length),
            (
                "is_value_data_in_node_segment",
                self.is_value_data_in_node_segment == other.is_value_data_in_node_segment,
            ),
            (
                "is_value_data_actively_persisted",
                self.is_value_data_actively_persisted == other.is_value_data_actively_persisted,
            ),
            (
                "is_value_data_globally_cached",
                self.is_value_data_globally_cached == other.is_value_data_globally_cached,
            ),
            ("index_specification", self.index_specification == other.index_specification),
            ("is_primitive_key", self.is_primitive_key == other.is_primitive_key),
            ("leaf_load_balancing", self.leaf_load_balancing == other.leaf_load_balancing),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

fn internal(error: serde_json::Error) -> Error {
    Error::new(ErrorCode::Internal, format!("can't write options as JSON: {error}"))
}

/// Options as they arrive: every field may be missing or null.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Given {
    name: Option<String>,
    is_unique: Option<bool>,
    slot_length: Option<i64>,
    description: Option<String>,
    is_value_data_in_node_segment: Option<bool>,
    is_value_data_actively_persisted: Option<bool>,
    is_value_data_globally_cached: Option<bool>,
    index_specification: Option<String>,
    transaction_id: Option<String>,
    cache_config: Option<BTreeMap<String, Value>>,
    is_primitive_key: Option<bool>,
    leaf_load_balancing: Option<bool>,
}

impl From<Given> for BtreeOptions {
    fn from(given: Given) -> Self {
        Self {
            name: given.name.unwrap_or_default(),
            is_unique: given.is_unique.unwrap_or(false),
            slot_length: given.slot_length.unwrap_or(SLOT_LENGTH_DEFAULT),
            description: given.description.unwrap_or_default(),
            is_value_data_in_node_segment: given.is_value_data_in_node_segment.unwrap_or(true),
            is_value_data_actively_persisted: given.is_value_data_actively_persisted.unwrap_or(false),
            is_value_data_globally_cached: given.is_value_data_globally_cached.unwrap_or(false),
            index_specification: given.index_specification.unwrap_or_default(),
            transaction_id: given.transaction_id.unwrap_or_else(|| uuid::Uuid::nil().to_string()),
            cache_config: given.cache_config,
            is_primitive_key: given.is_primitive_key.unwrap_or(true),
            leaf_load_balancing: given.leaf_load_balancing.unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: &str) -> BtreeOptions {
        serde_json::from_str::<BtreeOptions>(json).unwrap().normalise().unwrap().0
    }

    #[test]
    fn missing_and_null_fields_have_the_defaults_of_the_dataclass() {
        let json = r#"{"name": "x", "slot_length": null, "is_primitive_key": null, "cel": 1}"#;
        assert_eq!(options(json), BtreeOptions::new("x"));
        assert_eq!(BtreeOptions::new("x").slot_length, 500);
        assert!(BtreeOptions::new("x").is_value_data_in_node_segment);
    }

    #[test]
    fn slot_length_is_clamped_and_odd_ones_stay() {
        assert_eq!(options(r#"{"name": "x", "slot_length": 1}"#).slot_length, 2);
        assert_eq!(options(r#"{"name": "x", "slot_length": 501}"#).slot_length, 501);
        assert_eq!(options(r#"{"name": "x", "slot_length": 100000}"#).slot_length, 20_000);
    }

    #[test]
    fn metadata_is_the_same_in_every_transaction_and_comes_back() {
        let json = r#"{"name": "x", "cache_config": {"b": 1, "a": 2}, "description": "d", "transaction_id": "T",
                       "index_specification": "{ \"index_fields\": [ {\"field_name\": \"a\"} ] }"}"#;
        let other = json.replace("\"T\"", "\"U\"").replace("{ \\\"index", "{\\\"index");
        let metadata = options(json).to_metadata().unwrap();
        assert_eq!(metadata, options(&other).to_metadata().unwrap());
        assert!(!String::from_utf8_lossy(&metadata).contains("transaction_id"));
        assert_eq!(BtreeOptions::from_metadata("x", &metadata).unwrap(), options(json));
    }

    #[test]
    fn differences_name_the_fields() {
        let one = BtreeOptions::new("x");
        let mut other = BtreeOptions { description: "other".into(), ..one.clone() };
        assert!(one.differences(&other).is_empty());
        other.is_unique = true;
        other.slot_length = 7;
        assert_eq!(one.differences(&other), ["is_unique", "slot_length"]);
    }

    #[test]
    fn cache_durations_are_minutes() {
        let durations = |config: &str| {
            let durations =
                options(&format!(r#"{{"name": "x", "cache_config": {config}}}"#)).cache_durations();
            (durations.pages.time.as_secs(), durations.values.time.as_secs())
        };
        assert_eq!(durations("null"), (300, 0));
        assert_eq!(durations(r#"{"node_cache_duration": 1, "value_data_cache_duration": 0.5}"#), (60, 30));
        assert_eq!(durations(r#"{"node_cache_duration": 0, "value_data_cache_duration": -1}"#), (0, 0));
        assert_eq!(durations(r#"{"node_cache_duration": "long"}"#), (300, 0));
        assert_eq!(durations(r#"{"node_cache_duration": 1e300}"#).0, 366 * 24 * 3600);
    }

    #[test]
    fn a_time_to_live_of_the_cache_begins_anew_with_each_read() {
        let are_sliding = |config: &str| {
            let durations =
                options(&format!(r#"{{"name": "x", "cache_config": {config}}}"#)).cache_durations();
            (durations.pages.is_sliding, durations.values.is_sliding)
        };
        assert_eq!(are_sliding("null"), (false, false));
        assert_eq!(are_sliding(r#"{"is_node_cache_ttl": true}"#), (true, false));
        assert_eq!(
            are_sliding(r#"{"is_node_cache_ttl": false, "is_value_data_cache_ttl": true}"#),
            (false, true)
        );
        assert_eq!(
            are_sliding(r#"{"is_registry_cache_ttl": true, "is_store_info_cache_ttl": true}"#),
            (false, false)
        );
    }

    #[test]
    fn damaged_metadata_is_corruption() {
        assert_eq!(BtreeOptions::from_metadata("x", b"{").unwrap_err().code(), ErrorCode::Corruption);
    }
}
