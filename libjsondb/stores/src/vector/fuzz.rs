//! Fuzz targets: rows, postings, centroids, configuration, filters and JSON of vector stores.

#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::config::Config;
use super::filter::Filter;
use super::kernel;
use super::layout::{self, ClusterId, Entry, RowAddress};
use super::types::{ArrayQueryOptions, QueryOptions, UsageMode, VectorItem, VectorOptions, check_options};

/// Keys and values as they lie in the engine.
pub(crate) fn vector_layout(input: &[u8]) {
    assert!(!layout::describe_key(input).is_null());
    if let Ok(address) = RowAddress::from_bytes(input) {
        assert_eq!(address.to_bytes(), input);
    }
    if let Ok(address) = RowAddress::from_vector_key(input) {
        assert_eq!(address.vector_key(), input);
    }
    if let Ok(cluster) = layout::cluster_of_centroid_key(input) {
        assert_eq!(layout::centroid_key(cluster), input);
    }
    if let Ok(entry) = Entry::decode(input)
        && let Ok(payload) = std::str::from_utf8(&entry.payload)
    {
        assert_eq!(Entry::encode(&entry.id, payload).unwrap(), input);
    }
    if let Ok(config) = Config::from_bytes(input) {
        assert_eq!(config.to_bytes(), input);
    }
    if let Some(vector) = kernel::decode(input) {
        let again = kernel::encode(&vector);
        assert!(again == input || vector.iter().any(|number| number.is_nan()));
    }
}

pub(crate) fn vector_layout_seeds() -> Vec<Vec<u8>> {
    let address = RowAddress { cluster: ClusterId::automatic(3, 9), row: layout::new_row_id() };
    vec![
        address.to_bytes().to_vec(),
        address.vector_key(),
        layout::centroid_key(ClusterId::explicit(7).unwrap()),
        layout::item_key("naïve"),
        layout::payload_key(&address.row),
        Entry::encode("naïve", r#"{"a": 1}"#).unwrap(),
        Config::new(384, UsageMode::Dynamic).next_clustering(141).to_bytes().to_vec(),
        kernel::encode(&[0.0, -1.5, f32::MAX]),
    ]
}

/// A filter and a payload, a line each.
pub(crate) fn vector_filter(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (filter, payload) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Ok(value) = serde_json::from_slice::<Value>(filter)
        && let Ok(Some(filter)) = Filter::parse(Some(&value))
    {
        let passes = filter.matches(payload);
        let not = serde_json::json!({ "$not": value });
        if let (Ok(_), Ok(Some(not))) = (serde_json::from_slice::<Value>(payload), Filter::parse(Some(&not)))
        {
            assert_ne!(not.matches(payload), passes);
        }
    }
}

pub(crate) fn vector_filter_seeds() -> Vec<Vec<u8>> {
    let lines = [
        "{\"a\": 1, \"b\": [1.5, {\"c\": null}]}\n{\"b\": [1.5, {\"c\": null}], \"a\": 1.0}",
        "{\"$or\": [{\"a\": {\"$gte\": 1, \"$lt\": 3}}, {\"$not\": {\"b\": {\"$in\": [\"x\", null]}}}]}\n{\"a\": 2}",
        "{\"a\": {\"$exists\": false, \"$nin\": [true], \"$ne\": \"y\", \"$lte\": \"z\"}}\n{}",
        "{}\n{}",
        "null\n",
    ];
    lines.map(|lines| lines.as_bytes().to_vec()).to_vec()
}

/// What callers give as JSON.
pub(crate) fn vector_json(input: &[u8]) {
    let _ = serde_json::from_slice::<QueryOptions>(input);
    let _ = serde_json::from_slice::<ArrayQueryOptions>(input);
    if let Ok(options) = serde_json::from_slice::<VectorOptions>(input) {
        let _ = check_options(&options);
    }
    if let Ok(item) = serde_json::from_slice::<VectorItem>(input)
        && let Ok(text) = serde_json::to_string(&item)
        && item.vector.iter().all(|number| number.is_finite())
    {
        let again: VectorItem = serde_json::from_str(&text).unwrap();
        assert_eq!((again.id, again.vector, again.centroid_id), (item.id, item.vector, item.centroid_id));
    }
}

pub(crate) fn vector_json_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"id": "a", "vector": [1, 2.5, -1e-30], "payload": {"x": 1}, "centroid_id": 7}"#,
        r#"{"vector": [1, 2], "k": 3, "filter": {"x": 1}, "nprobe": 2, "exact": true, "centroid_ids": [1]}"#,
        r#"{"usage_mode": 1, "content_size": 2}"#,
        r#"{"filter": null, "nprobe": null, "exact": false, "threads": 2}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
