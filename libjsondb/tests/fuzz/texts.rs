//! Texts that go in: plausible ones by what they are for, and hostile ones.

use crate::common::Random;
use crate::fuzz_driver::mutate;

/// What a function expects of a text. `$0`, `$1`, .. stand for the UUIDs of handles.
pub const OPTIONS: &[&str] = &[
    r#"{"name": "t", "is_unique": true}"#,
    r#"{"name": "dup"}"#,
    r#"{"name": "spec", "is_unique": true, "index_specification": "{\"index_fields\": [{\"field_name\": \"a\"}]}"}"#,
];
pub const NAMES: &[&str] = &["t", "dup", "spec", "missing", ""];
pub const ITEMS: &[&str] = &[
    r#"[{"key": 1, "value": "one"}, {"key": 2, "value": {"two": [2]}}]"#,
    r#"[{"key": {"a": 1, "b": "x"}, "value": null}, {"key": {"a": 2}}]"#,
    r#"[{"key": "s", "value": 1.5, "id": "00000000-0000-0000-0000-000000000000"}, {"key": [1, null, true]}]"#,
    "[]",
];
pub const KEYS: &[&str] = &["[1, 2]", r#"["s", {"a": 1}]"#, "[]"];
pub const KEY: &[&str] = &["1", "2", r#"{"a": 1}"#, r#""s""#, "18446744073709551616", "1e400"];
pub const PAGING: &[&str] = &[
    "{}",
    r#"{"page_offset": 1, "page_size": 1}"#,
    r#"{"fetch_count": 9223372036854775807, "direction": 1}"#,
    r#"{"page_offset": 9223372036854775807, "page_size": 9223372036854775807}"#,
];
pub const RANGE: &[&str] = &[
    "{}",
    r#"{"start": 1, "stop": 9, "limit": 1, "reverse": true}"#,
    r#"{"limit": 9223372036854775807, "with_values": false}"#,
    r#"{"resume": "0500", "limit": 0}"#,
];
pub const VECTOR_OPTIONS: &[&str] = &[
    r#"{"name": "v"}"#,
    r#"{"name": "w", "usage_mode": 1, "content_size": 2, "metric": 2}"#,
    r#"{"name": "v", "metric": 1}"#,
];
pub const VECTORS: &[&str] = &[
    r#"[{"id": "a", "vector": [1, 0], "payload": {"x": 1}}, {"id": "b", "vector": [0.5, 1]}]"#,
    r#"[{"id": "c", "vector": [1e38, -1e38], "centroid_id": 3}]"#,
    r#"[{"id": "d", "vector": [1, 2, 3]}]"#,
];
pub const ID_RANGE: &[&str] = &[
    "{}",
    r#"{"start": "a", "stop": "b", "limit": 1}"#,
    r#"{"resume": "a", "limit": 9}"#,
    r#"{"start": "b", "stop": "a"}"#,
];
pub const IDS: &[&str] = &[r#"["a", "b"]"#, r#"["a", "a"]"#, "[]"];
pub const ID: &[&str] = &["a", "b", "nobody", ""];
pub const QUERY: &[&str] = &[
    r#"{"vector": [1, 0], "k": 2}"#,
    r#"{"vector": [1, 0], "k": 9223372036854775807, "filter": {"x": 1}, "exact": true}"#,
    r#"{"vector": [1, 0], "nprobe": 4294967295, "centroid_ids": [3, -1, 0]}"#,
    r#"{"vector": [1, 0], "filter": {"$or": [{"x": {"$gte": 0, "$ne": 2}}, {"$not": {"y": {"$in": [null]}}}]}}"#,
    r#"{"vector": [1, 0], "target_recall": 0.99, "filter": {"x": {"$exists": true, "$lt": "z"}}}"#,
];
pub const ARRAY_QUERY: &[&str] = &[
    "{}",
    r#"{"filter": {"x": 1}, "nprobe": 1, "threads": 3}"#,
    r#"{"target_recall": 1, "centroid_ids": [3], "filter": {"x": {"$nin": [1]}}}"#,
];
pub const MODEL: &[&str] = &[r#"{"w": [1, 2]}"#, "null"];
pub const DATABASE: &[&str] = &[
    r#"{"storage_path": "$F"}"#,
    r#"{"stores_folders": ["$F"], "memory_limit": 16777216}"#,
    r#"{"stores_folders": [], "db_type": 1}"#,
];
pub const BACKUP: &[&str] = &["$Bone", "$Btwo", "$B", ""];
/// Only addresses where nobody listens: no fuzzing goes over a network.
pub const REDIS: &[&str] = &["", "nonsense", "http://127.0.0.1", "redis://127.0.0.1:1", "x\u{e9}://["];
pub const BEGIN: &[&str] = &["1", r#"{"mode": 1, "max_time": 5}"#, "2", r#"{"mode": 9}"#];
pub const META: &[&str] =
    &[r#"{"transaction_id": "$0", "btree_id": "$1"}"#, r#"{"transaction_id": "$0", "id": "$1"}"#];
pub const OPEN_META: &[&str] = &[r#"{"transaction_id": "$0", "name": "legacy", "is_unique": true}"#];
pub const PAYLOAD: &[&str] = &[
    r#"{"items": [{"key": 1, "value": "one"}]}"#,
    r#"{"items": [{"key": 1, "id": "00000000-0000-0000-0000-000000000000"}]}"#,
    "[1]",
    "{}",
    r#"[{"id": "a", "vector": [1, 0]}]"#,
    r#"{"id": "a", "vector": [1, 0], "payload": 7}"#,
    "a",
    r#"{"vector": [1, 0], "k": 2}"#,
    r#"{"category": "c", "name": "n", "model": {"w": 1}}"#,
    "c",
    r#"{"transaction_id": "$0", "name": "lv", "config": {"usage_mode": 1}}"#,
    r#"{"transaction_id": "$0", "path": "lm"}"#,
];
pub const UUID: &[&str] = &["$0", "$1", "{$0}", "urn:uuid:$0", "00000000-0000-0000-0000-000000000000", "x"];

/// The text a selector stands for: below 64 one of `choices` as it is, then mutated, then hostile. None is NULL.
pub fn text(choices: &[&str], selector: u8, twist: u8) -> Option<Vec<u8>> {
    let chosen = choices[usize::from(selector) % choices.len()];
    match selector {
        0..64 => Some(chosen.into()),
        64..192 => {
            let mut random = Random::new(u64::from(selector) << 8 | u64::from(twist));
            let bases: Vec<Vec<u8>> = choices.iter().map(|text| text.as_bytes().to_vec()).collect();
            Some(mutate(&mut random, &bases))
        }
        _ => hostile(chosen, selector - 192, usize::from(twist) + 1),
    }
}

fn hostile(chosen: &str, which: u8, size: usize) -> Option<Vec<u8>> {
    let depth = size * 4000;
    Some(match which % 12 {
        0 => return None,
        1 => vec![0xff; size],
        2 => "[".repeat(depth).into(),
        3 => [r#"{"a":"#.repeat(depth), "1".into(), "}".repeat(depth)].concat().into(),
        4 => ["[".repeat(size), "]".repeat(size)].concat().into(),
        5 => ["1", &"0".repeat(size * 10)].concat().into(),
        6 => format!("[{}]", "1e308,".repeat(size)).into(),
        7 => [chosen.as_bytes(), b"\0", chosen.as_bytes()].concat(),
        8 => chosen.replace(char::is_numeric, "18446744073709551615").into(),
        9 => chosen.replace(char::is_numeric, "-9223372036854775808").into(),
        10 => format!("\"{}\"", "\u{10ffff}".repeat(size * 20)).into(),
        _ => chosen.replace('"', "\\u0000\"").into(),
    })
}
