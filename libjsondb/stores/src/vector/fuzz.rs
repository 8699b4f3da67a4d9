//! Fuzz targets: rows, postings, centroids, configuration, filters and JSON of vector stores.

#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::entry::Entry;
use super::filter::{Filter, postings};
use super::heap::Heap;
use super::keys::{self, ListKey, RowId};
use super::list::{Coded, List};
use super::rabitq::Factors;
use super::state::{Change, Config, IndexState};
use super::types::{
    ArrayQueryOptions, IdRange, Metric, QueryOptions, UsageMode, VectorItem, VectorOptions, check_options,
};

/// Words of the codes, and the dimension of the vectors, that inputs are taken for.
const WORDS: usize = 2;
const DIMENSION: usize = 3;

/// Keys and values as they lie in the engine.
pub(crate) fn vector_layout(input: &[u8]) {
    assert!(!keys::describe(input).is_null());
    if let Ok(row) = RowId::from_bytes(input) {
        assert_eq!(row.0.to_be_bytes(), input);
    }
    if let Ok(cluster) = keys::cluster_of_centroid(input) {
        assert_eq!(keys::centroid(cluster), input);
    }
    if let Ok(entry) = Entry::decode(input) {
        assert_eq!(Entry::encode(&entry.id, entry.centroid_id, &entry.payload).unwrap(), input);
    }
    if let Ok(config) = Config::from_bytes(input) {
        assert_eq!(config.to_bytes(), input);
    }
    if let Ok(state) = IndexState::from_bytes(input) {
        assert_eq!(state.to_bytes(), input);
    }
    if let Ok((stamp, change)) = Change::from_bytes(input) {
        let again = change.to_bytes(stamp);
        assert!(again == input || again.len() == input.len() && input[8] > 1);
    }
    let mut list = List::new(WORDS);
    if list.unpack(input).is_ok() {
        assert_eq!(list.pack(0..list.len()), input);
    }
    if let Ok(rows) = Heap::new(DIMENSION).rows(7, input) {
        assert!(rows.iter().all(|(row, stored)| row.block() == 7 && stored.bytes.len() == 4 * DIMENSION));
    }
}

pub(crate) fn vector_layout_seeds() -> Vec<Vec<u8>> {
    let row = RowId::new(keys::new_block(), 5);
    let mut list = List::new(WORDS);
    for number in 0..20 {
        let factors = Factors { add: 0.5, scale: 0.25 };
        let row = RowId::new(row.block(), number);
        list.push(Coded { row, is_primary: number % 2 == 0, factors, code: &[7, number as u64] });
    }
    let config = Config { dimension: 384, metric: Metric::L2, usage_mode: UsageMode::Dynamic, id: 7 };
    let change = Change { is_rebuild: false, centroids: vec![1, 2], lists: vec![3] };
    vec![
        row.0.to_be_bytes().to_vec(),
        keys::centroid(70_000),
        keys::item("naïve"),
        keys::entry(row),
        ListKey::Cluster(7).loose(row),
        ListKey::Explicit(7).packed(1),
        Entry::encode("naïve", 0, br#"{"a": 1}"#).unwrap(),
        Entry::encode("a", 500, b"").unwrap(),
        config.to_bytes().to_vec(),
        IndexState::default().to_bytes(),
        change.to_bytes(9),
        list.pack(0..20),
        list.pack(0..3),
        super::heap::block(
            DIMENSION,
            7,
            [[1.0, 2.0, 3.0], [0.0, -0.0, 1e30]].iter().map(<[f32; 3]>::as_slice),
        ),
    ]
}

pub(crate) fn vector_postings(input: &[u8]) {
    postings::fuzz::postings(input);
}

pub(crate) fn vector_postings_seeds() -> Vec<Vec<u8>> {
    postings::fuzz::seeds()
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
    let _ = serde_json::from_slice::<IdRange>(input);
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
        r#"{"start": "a", "stop": null, "resume": "b", "limit": 7}"#,
        r#"{"filter": null, "nprobe": null, "exact": false, "threads": 2}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
