//! Filters: all rows that pass and no other, whatever state they are in, and none lost on the way.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stores::{ArrayQueryOptions, ErrorCode, QueryOptions, TransactionMode, VectorItem};

use crate::support::{Fixture, Random, assert_same, brute_force, by_id, ids, item_with, query, raw, recall};

/// Rows around few centres, with payloads that say so.
fn rows(count: usize, dimension: usize) -> Vec<VectorItem> {
    let mut random = Random(17);
    let centres: Vec<Vec<f32>> = (0..40).map(|_| random.vector(dimension)).collect();
    let row = |number: usize| {
        let place = (random.next() % 40) as usize;
        let vector: Vec<f32> = centres[place].iter().map(|at| at + 0.3 * random.number()).collect();
        item_with(
            &format!("r{number:06}"),
            &vector,
            json!({"ten": number % 10, "hundred": number % 100, "place": place, "text": format!("t{}", number % 1000)}),
        )
    };
    (0..count).map(row).collect()
}

fn payload(item: &VectorItem) -> Value {
    item.payload.as_ref().map_or(Value::Null, |payload| serde_json::from_str(payload.get()).unwrap())
}

type Passes = fn(&Value) -> bool;

fn filters() -> Vec<(Value, Passes)> {
    vec![
        (json!({"ten": 3}), |p| p["ten"] == 3),
        (json!({"hundred": 42}), |p| p["hundred"] == 42),
        // Of one region: what a search that filters afterwards does not find from elsewhere.
        (json!({"place": 5}), |p| p["place"] == 5),
        (json!({"place": {"$in": [5, 6]}, "ten": {"$ne": 3}}), |p| {
            (p["place"] == 5 || p["place"] == 6) && p["ten"] != 3
        }),
        (json!({"hundred": {"$gte": 10, "$lt": 12}}), |p| (10..12).contains(&p["hundred"].as_i64().unwrap())),
        (json!({"$not": {"ten": {"$lt": 9}}}), |p| p["ten"] == 9),
        (json!({"text": "t77"}), |p| p["text"] == "t77"),
        (json!({"place": 41}), |_| false),
    ]
}

fn filtered(vector: &[f32], k: i64, filter: &Value) -> QueryOptions {
    QueryOptions { filter: Some(filter.clone()), ..query(vector, k) }
}

/// At every selectivity: as many hits as there may be, all of which pass, and nearly all of the best ones.
#[test]
fn filters_of_every_selectivity_keep_their_recall() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    let all = rows(20_000, 24);
    for batch in all.chunks(5_000) {
        store.upsert(cancel, batch).unwrap();
    }
    store.optimize(cancel).unwrap();
    let known = by_id(&all);
    let mut random = Random(4);
    for (filter, passes) in filters() {
        let mut found = Vec::new();
        for _ in 0..20 {
            let vector = random.vector(24);
            let expected = brute_force(&known, &vector, 10, |item| passes(&payload(item)));
            let hits = store.query(cancel, &filtered(&vector, 10, &filter)).unwrap();
            assert_eq!(hits.len(), expected.len(), "{filter}");
            assert!(hits.iter().all(|hit| passes(&payload(&known[&hit.id]))), "{filter}");
            found.push(if expected.is_empty() { 1.0 } else { recall(&hits, &expected) });
            let exact = QueryOptions { exact: true, ..filtered(&vector, 10, &filter) };
            assert_same(&store.query(cancel, &exact).unwrap(), &expected);
        }
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        assert!(mean >= 0.9, "{filter}: {mean}");
    }
}

/// What changes after a filter was first asked is seen the next time: in no cluster yet, moved into one, replaced and removed.
#[test]
fn filters_see_every_change_of_the_rows() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    let mut known: BTreeMap<String, VectorItem> = BTreeMap::new();
    let mut random = Random(9);
    let all = rows(3_000, 8);
    for (step, batch) in all.chunks(150).enumerate() {
        store.upsert(cancel, batch).unwrap();
        known.extend(batch.iter().map(|item| (item.id.clone(), item.clone())));
        let victims: Vec<String> = known.keys().step_by(11).cloned().collect();
        let (replaced, removed) = victims.split_at(victims.len() / 2);
        for id in replaced {
            let changed =
                VectorItem { payload: Some(raw(&json!({"ten": 3, "step": step}))), ..known[id].clone() };
            store.upsert(cancel, std::slice::from_ref(&changed)).unwrap();
            known.insert(id.clone(), changed);
        }
        store.delete(cancel, removed).unwrap();
        removed.iter().for_each(|id| drop(known.remove(id)));
        if step == 10 {
            store.optimize(cancel).unwrap();
        }
        for (filter, passes) in [
            (json!({"ten": 3}), (|p| p["ten"] == 3) as Passes),
            (json!({"step": {"$exists": true}}), |p| !p["step"].is_null()),
            (json!({"step": {"$exists": false}, "ten": {"$gt": 7}}), |p| {
                p["step"].is_null() && p["ten"].as_i64() > Some(7)
            }),
        ] {
            let vector = random.vector(8);
            let expected = brute_force(&known, &vector, 10_000, |item| passes(&payload(item)));
            let hits = store.query(cancel, &filtered(&vector, 10_000, &filter)).unwrap();
            let (mut found, mut wanted) =
                (ids(&hits), expected.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>());
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "step {step}: {filter}");
        }
    }
}

/// A reader goes on to find what its snapshot has, whoever asks the same since.
#[test]
fn a_filter_answers_each_snapshot_with_its_own_rows() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    store.upsert(cancel, &rows(500, 8)).unwrap();
    store.optimize(cancel).unwrap();
    let filter = json!({"ten": 3, "text": {"$ne": "no such text, which is so long that postings do not know it by itself"}});
    let before = fixture.begin(TransactionMode::ForReading);
    let gone: Vec<String> = (3..500).step_by(10).take(20).map(|number| format!("r{number:06}")).collect();
    store.delete(cancel, &gone).unwrap();
    let ask = filtered(&[1.0; 8], 1_000, &filter);
    assert_eq!(store.query(cancel, &ask).unwrap().len(), 30);
    assert_eq!(fixture.store_in(&before).query(cancel, &ask).unwrap().len(), 50);
    assert_eq!(store.query(cancel, &ask).unwrap().len(), 30);
    let writing = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&writing);
    inside.delete(cancel, &["r000493"]).unwrap();
    inside.upsert(cancel, &[item_with("new", &[1.0; 8], json!({"ten": 3, "text": "n"}))]).unwrap();
    inside.upsert(cancel, &[item_with("r000483", &[1.0; 8], json!({"ten": 4}))]).unwrap();
    let hits = inside.query(cancel, &ask).unwrap();
    assert_eq!((hits.len(), hits[0].id.as_str()), (29, "new"));
    writing.rollback(cancel).unwrap();
    assert_eq!(store.query(cancel, &ask).unwrap().len(), 30);
}

#[test]
fn arrays_of_queries_are_filtered_as_single_ones() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    store.upsert(cancel, &rows(6_000, 8)).unwrap();
    store.optimize(cancel).unwrap();
    let mut random = Random(2);
    let queries: Vec<f32> = (0..30).flat_map(|_| random.vector(8)).collect();
    for (filter, _) in filters() {
        for threads in [1, 3] {
            let options = ArrayQueryOptions { filter: Some(filter.clone()), threads, ..Default::default() };
            let (found, scores) = store.query_arrays(cancel, 8, &queries, 7, &options).unwrap();
            for (number, vector) in queries.chunks(8).enumerate() {
                let hits = store.query(cancel, &filtered(vector, 7, &filter)).unwrap();
                let (found, scores) = (&found[number * 7..][..7], &scores[number * 7..][..7]);
                assert_eq!(found[..hits.len()], ids(&hits), "{filter}");
                assert!(found[hits.len()..].iter().all(String::is_empty));
                assert!(scores[hits.len()..].iter().all(|score| score.is_nan()));
            }
        }
    }
}

#[test]
fn what_is_no_filter_is_refused_at_every_door() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    // Before there is a store, too.
    for _ in 0..2 {
        for filter in
            [json!([]), json!("a"), json!({"a": {"$gt": null}}), json!({"$or": {}}), json!({"$x": 1})]
        {
            let options = filtered(&[1.0, 0.0], 1, &filter);
            assert_eq!(store.query(cancel, &options).unwrap_err().code(), ErrorCode::Filter, "{filter}");
            let options = ArrayQueryOptions { filter: Some(filter), ..Default::default() };
            let error = store.query_arrays(cancel, 2, &[1.0, 0.0], 1, &options).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Filter);
        }
        store.upsert(cancel, &[item_with("a", &[1.0, 0.0], json!({"a": 1}))]).unwrap();
    }
}
