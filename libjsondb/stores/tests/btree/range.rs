//! Ranges in batches.

use serde_json::value::RawValue;
use stores::{ErrorCode, Move, RangeQuery};

use crate::fixture::{Fixture, Store, duplicates, indexed, keys_of, raw, token, unique, value_of};

/// All keys of a range, and how many batches it took.
fn walk(
    store: &Store,
    start: Option<&str>,
    stop: Option<&str>,
    reverse: bool,
    limit: usize,
) -> (Vec<String>, usize) {
    let (start, stop) = (start.map(raw), stop.map(raw));
    let (mut keys, mut batches, mut resume) = (Vec::new(), 0, None);
    loop {
        let query = RangeQuery { start: start.as_deref(), stop: stop.as_deref(), reverse, resume };
        let batch = store.0.range(&token(), &query, limit, true).unwrap();
        assert!(batch.items.len() <= limit);
        assert!(batch.items.iter().all(|item| item.value.is_some()));
        keys.extend(keys_of(&batch.items));
        batches += 1;
        resume = batch.resume;
        if resume.is_none() {
            return (keys, batches);
        }
    }
}

fn hundred(fixture: &Fixture) -> Store {
    let store = Store::create(&fixture.write(), unique("numbers"));
    for key in 0..100 {
        assert!(store.add(&key.to_string(), &key.to_string()));
    }
    store
}

fn strings(range: impl Iterator<Item = i32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn start_is_in_stop_is_out_whatever_the_batches() {
    let fixture = Fixture::new();
    let store = hundred(&fixture);
    for limit in [1, 7, 10, 100, 1000] {
        assert_eq!(walk(&store, None, None, false, limit).0, strings(0..100));
        assert_eq!(walk(&store, None, None, true, limit).0, strings((0..100).rev()));
        assert_eq!(walk(&store, Some("10"), Some("20"), false, limit).0, strings(10..20));
        assert_eq!(walk(&store, Some("10"), Some("20"), true, limit).0, strings((10..20).rev()));
        assert_eq!(walk(&store, Some("9.5"), Some("12.5"), false, limit).0, strings(10..13));
        assert_eq!(walk(&store, Some("\"\""), None, false, limit).0, strings(0..0));
        assert_eq!(walk(&store, Some("20"), Some("10"), true, limit).0, strings(0..0));
        assert_eq!(walk(&store, Some("20"), Some("20"), false, limit).0, strings(0..0));
    }
    assert_eq!(walk(&store, None, None, false, 1000).1, 1);
}

#[test]
fn the_cursor_has_no_part_in_it() {
    let fixture = Fixture::new();
    let store = hundred(&fixture);
    assert!(store.find("50"));
    walk(&store, Some("10"), None, false, 10);
    assert_eq!(store.current_key().unwrap(), "50");
    store.step(Move::Last);
    assert_eq!(walk(&store, None, Some("3"), false, 10).0, strings(0..3));
}

#[test]
fn all_duplicates_of_a_bound_are_in_or_out() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), duplicates("log"));
    for (key, value) in [("1", "1"), ("2", "2"), ("2", "3"), ("3", "4"), ("3", "5")] {
        store.add(key, value);
    }
    for limit in [1, 2, 10] {
        assert_eq!(walk(&store, Some("2"), Some("3"), false, limit).0, ["2", "2"]);
        assert_eq!(walk(&store, Some("2"), None, true, limit).0, ["3", "3", "2", "2"]);
    }
    let items = store.0.range(&token(), &RangeQuery::default(), 10, true).unwrap().items;
    assert_eq!(items.iter().map(value_of).collect::<Vec<_>>(), ["1", "3", "2", "5", "4"]);
}

#[test]
fn an_object_bound_may_leave_fields_open() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), indexed("teams"));
    for (region, rank) in [("as", 1), ("eu", 1), ("eu", 2), ("us", 1)] {
        store.add(&format!("{{\"region\": \"{region}\", \"rank\": {rank}}}"), "0");
    }
    let eu = walk(&store, Some(r#"{"region": "eu"}"#), Some(r#"{"region": "us"}"#), false, 10).0;
    assert_eq!(eu, [r#"{"region": "eu", "rank": 2}"#, r#"{"region": "eu", "rank": 1}"#]);
    assert_eq!(walk(&store, Some("{}"), None, false, 10).0.len(), 4);
}

#[test]
fn batches_of_large_values_stay_small() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), unique("large"));
    let value = format!("{:?}", "v".repeat(3 << 20));
    for key in 0..10 {
        assert!(store.add(&key.to_string(), &value));
    }
    let (keys, batches) = walk(&store, None, None, false, 1000);
    assert_eq!((keys, batches), (strings(0..10), 2));
    assert_eq!(store.0.range(&token(), &RangeQuery::default(), 1000, false).unwrap().items.len(), 10);
}

#[test]
fn keys_only_and_bad_arguments() {
    let fixture = Fixture::new();
    let store = hundred(&fixture);
    let batch = store.0.range(&token(), &RangeQuery::default(), 3, false).unwrap();
    assert!(batch.items.iter().all(|item| item.value.is_none()));
    let refused =
        |query: RangeQuery, limit| store.0.range(&token(), &query, limit, false).unwrap_err().code();
    assert_eq!(refused(RangeQuery::default(), 0), ErrorCode::Validation);
    assert_eq!(
        refused(RangeQuery { resume: Some("xyz".into()), ..Default::default() }, 1),
        ErrorCode::Validation
    );
    let big: Box<RawValue> = raw("99999999999999999999");
    assert_eq!(refused(RangeQuery { start: Some(&big), ..Default::default() }, 1), ErrorCode::Validation);
    assert!(store.0.transaction().is_active());
}

#[test]
fn a_query_is_read_from_json_where_null_is_open() {
    let query: RangeQuery = serde_json::from_str(r#"{"start": null, "stop": [1], "reverse": true}"#).unwrap();
    assert!(query.start.is_none() && query.reverse);
    assert_eq!(query.stop.unwrap().get(), "[1]");
}
