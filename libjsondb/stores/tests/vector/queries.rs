//! What queries find.

use serde_json::json;
use stores::{ArrayQueryOptions, CentroidStats, QueryOptions, VectorItem, VectorStore};

use crate::support::*;

/// Enough rows for clusters to be searched instead of everything.
const LARGE: usize = 12_000;
const DIMENSION: usize = 24;

fn group_of(item: &VectorItem) -> Option<u64> {
    let payload: serde_json::Value = serde_json::from_str(item.payload.as_ref()?.get()).unwrap();
    payload["group"].as_u64()
}

fn large(fixture: &Fixture) -> (VectorStore, Vec<VectorItem>) {
    let store = fixture.store();
    let items = clustered(LARGE, DIMENSION, 1);
    store.upsert(&fixture.cancel, &items).unwrap();
    store.optimize(&fixture.cancel).unwrap();
    assert!(store.stats(&fixture.cancel).unwrap().centroids.len() > 50);
    (store, items)
}

#[test]
fn small_stores_answer_exactly() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let items = clustered(900, DIMENSION, 2);
    for batch in items.chunks(250) {
        store.upsert(&fixture.cancel, batch).unwrap();
    }
    let known = by_id(&items);
    let mut random = Random(3);
    for k in [1, 2, 10, 100, 900, 5_000] {
        let vector = random.vector(DIMENSION);
        let hits = store.query(&fixture.cancel, &query(&vector, k)).unwrap();
        assert_same(&hits, &brute_force(&known, &vector, k as usize, |_| true));
        for hit in &hits {
            assert_eq!(
                hit.payload.as_ref().map(|payload| payload.get()),
                known[&hit.id].payload.as_ref().map(|payload| payload.get())
            );
        }
    }
}

#[test]
fn searches_find_nothing_else_in_memory_left_by_those_of_other_stores() {
    let (wide, narrow) = (Fixture::new(), Fixture::new());
    let (wide_items, narrow_items) = (clustered(600, 200, 4), clustered(600, 9, 5));
    let (wide_store, narrow_store) = (wide.store(), narrow.store());
    wide_store.upsert(&wide.cancel, &wide_items).unwrap();
    wide_store.optimize(&wide.cancel).unwrap();
    narrow_store.upsert(&narrow.cancel, &narrow_items).unwrap();
    narrow_store.optimize(&narrow.cancel).unwrap();
    let mut random = Random(6);
    for _ in 0..5 {
        let (long, short) = (random.vector(200), random.vector(9));
        let hits = wide_store.query(&wide.cancel, &query(&long, 10)).unwrap();
        assert_same(&hits, &brute_force(&by_id(&wide_items), &long, 10, |_| true));
        let hits = narrow_store.query(&narrow.cancel, &query(&short, 10)).unwrap();
        assert_same(&hits, &brute_force(&by_id(&narrow_items), &short, 10, |_| true));
    }
}

#[test]
fn filters_are_exact_in_small_stores() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let items = clustered(900, DIMENSION, 4);
    store.upsert(&fixture.cancel, &items).unwrap();
    let known = by_id(&items);
    let mut random = Random(5);
    for group in 0..8u64 {
        let vector = random.vector(DIMENSION);
        let options = QueryOptions { filter: Some(json!({"group": group as f64})), ..query(&vector, 40) };
        let hits = store.query(&fixture.cancel, &options).unwrap();
        assert_same(&hits, &brute_force(&known, &vector, 40, |item| group_of(item) == Some(group)));
    }
    let both = json!({"group": 1, "name": "item-000001"});
    let options = QueryOptions { filter: Some(both), ..query(&items[0].vector, 40) };
    assert_eq!(ids(&store.query(&fixture.cancel, &options).unwrap()), ["item-000001"]);
}

#[test]
fn ties_are_ordered_by_id() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let items: Vec<VectorItem> =
        (0..700).rev().map(|index| item(&format!("{index:04}"), &[1.0, 2.0, 3.0])).collect();
    store.upsert(&fixture.cancel, &items).unwrap();
    store
        .upsert(&fixture.cancel, &[item("best", &[3.0, 2.0, 1.0]), item("9zero", &[0.0, 0.0, 0.0])])
        .unwrap();
    let hits = store.query(&fixture.cancel, &query(&[3.0, 2.0, 1.0], 4)).unwrap();
    assert_eq!(ids(&hits), ["best", "0000", "0001", "0002"]);
    // A scaled vector points the same way.
    store.upsert(&fixture.cancel, &[item("0000a", &[2.0, 4.0, 6.0])]).unwrap();
    let hits = store.query(&fixture.cancel, &query(&[3.0, 2.0, 1.0], 3)).unwrap();
    assert_eq!(ids(&hits), ["best", "0000", "0000a"]);
}

#[test]
fn zero_vectors_score_zero() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let items = [item("zero", &[0.0, 0.0]), item("up", &[0.0, 1.0]), item("down", &[0.0, -1.0])];
    store.upsert(&fixture.cancel, &items).unwrap();
    let hits = store.query(&fixture.cancel, &query(&[0.0, 2.0], 5)).unwrap();
    let found: Vec<(&str, f32)> = hits.iter().map(|hit| (hit.id.as_str(), hit.score)).collect();
    assert_eq!(found, [("up", 1.0), ("zero", 0.0), ("down", -1.0)]);
    let hits = store.query(&fixture.cancel, &query(&[0.0, 0.0], 5)).unwrap();
    assert_eq!(ids(&hits), ["down", "up", "zero"]);
    assert!(hits.iter().all(|hit| hit.score == 0.0));
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let fixture = Fixture::new();
    let store = fixture.store();
    assert!(store.query(&fixture.cancel, &query(&[1.0], 5)).unwrap().is_empty());
    assert_eq!(store.count(&fixture.cancel).unwrap(), 0);
    store.upsert(&fixture.cancel, &[item("a", &[1.0, 1.0])]).unwrap();
    for k in [0, -1, i64::MIN] {
        assert!(store.query(&fixture.cancel, &query(&[1.0, 0.0], k)).unwrap().is_empty());
    }
    assert_eq!(store.query(&fixture.cancel, &query(&[1.0, 0.0], i64::MAX)).unwrap().len(), 1);
    store.delete(&fixture.cancel, &["a"]).unwrap();
    assert!(store.query(&fixture.cancel, &query(&[1.0, 0.0], 5)).unwrap().is_empty());
}

#[test]
fn large_stores_answer_exactly_when_asked() {
    let fixture = Fixture::new();
    let (store, items) = large(&fixture);
    let known = by_id(&items);
    let mut random = Random(6);
    for _ in 0..5 {
        let vector = random.vector(DIMENSION);
        let expected = brute_force(&known, &vector, 20, |_| true);
        let exact = QueryOptions { exact: true, ..query(&vector, 20) };
        assert_same(&store.query(&fixture.cancel, &exact).unwrap(), &expected);
        let all_probes = QueryOptions { target_recall: Some(1.0), ..query(&vector, 20) };
        assert_same(&store.query(&fixture.cancel, &all_probes).unwrap(), &expected);
    }
}

#[test]
fn large_stores_find_most_by_default() {
    let fixture = Fixture::new();
    let (store, items) = large(&fixture);
    let known = by_id(&items);
    let mut sum = 0.0;
    for query_item in items.iter().step_by(LARGE / 60) {
        let mut random = Random(query_item.vector[0].to_bits().into());
        let vector: Vec<f32> =
            query_item.vector.iter().map(|number| number + 0.2 * random.number()).collect();
        let hits = store.query(&fixture.cancel, &query(&vector, 10)).unwrap();
        sum += recall(&hits, &brute_force(&known, &vector, 10, |_| true));
    }
    assert!(sum / 60.0 >= 0.95, "recall {}", sum / 60.0);
}

#[test]
fn filters_reach_all_matching_rows_of_large_stores() {
    let fixture = Fixture::new();
    let (store, items) = large(&fixture);
    let mut rare = clustered(6, DIMENSION, 99);
    for (index, item) in rare.iter_mut().enumerate() {
        item.id = format!("rare-{index}");
        item.payload = Some(raw(&json!({"rare": true})));
    }
    store.upsert(&fixture.cancel, &rare).unwrap();
    let options = QueryOptions { filter: Some(json!({"rare": true})), ..query(&items[0].vector, 10) };
    let hits = store.query(&fixture.cancel, &options).unwrap();
    assert_same(&hits, &brute_force(&by_id(&rare), &items[0].vector, 10, |_| true));
    let options =
        QueryOptions { nprobe: Some(1), filter: Some(json!({"group": 3})), ..query(&items[0].vector, 500) };
    let hits = store.query(&fixture.cancel, &options).unwrap();
    assert_eq!(hits.len(), 500);
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
}

#[test]
fn one_probe_still_gives_k_hits() {
    let fixture = Fixture::new();
    let (store, items) = large(&fixture);
    let options = QueryOptions { nprobe: Some(1), ..query(&items[7].vector, 2_000) };
    let hits = store.query(&fixture.cancel, &options).unwrap();
    assert_eq!(hits.len(), 2_000);
    assert_eq!(hits[0].id, items[7].id);
    let mut found = ids(&hits);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 2_000, "no row twice");
}

#[test]
fn queries_in_arrays_find_what_single_ones_find() {
    let fixture = Fixture::new();
    let (store, items) = large(&fixture);
    let mut random = Random(8);
    let count = 70;
    let mut queries: Vec<f32> = Vec::new();
    for index in 0..count {
        queries.extend(items[index * 100].vector.iter().map(|number| number + 0.1 * random.number()));
    }
    for (filter, exact) in [(None, false), (None, true), (Some(json!({"group": 2})), false)] {
        let options = ArrayQueryOptions { filter: filter.clone(), exact, ..ArrayQueryOptions::default() };
        let alone = store.query_arrays(&fixture.cancel, DIMENSION, &queries, 10, &options).unwrap();
        let threads = ArrayQueryOptions { threads: 4, ..options };
        let together = store.query_arrays(&fixture.cancel, DIMENSION, &queries, 10, &threads).unwrap();
        assert_eq!(alone, together);
        for (index, vector) in queries.chunks(DIMENSION).enumerate() {
            let options = QueryOptions { filter: filter.clone(), exact, ..query(vector, 10) };
            let hits = store.query(&fixture.cancel, &options).unwrap();
            let row = index * 10..index * 10 + 10;
            assert_eq!(ids(&hits), alone.0[row.clone()]);
            assert_eq!(hits.iter().map(|hit| hit.score).collect::<Vec<_>>(), alone.1[row]);
        }
    }
}

#[test]
fn missing_hits_in_arrays_are_empty_and_nan() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let options = ArrayQueryOptions::default();
    let (found, scores) = store.query_arrays(&fixture.cancel, 2, &[1.0, 0.0], 2, &options).unwrap();
    assert_eq!(found, ["", ""]);
    assert!(scores.iter().all(|score| score.is_nan()));
    store.upsert(&fixture.cancel, &[item("a", &[1.0, 0.0])]).unwrap();
    let (found, scores) = store.query_arrays(&fixture.cancel, 2, &[1.0, 0.0, 0.0, 1.0], 2, &options).unwrap();
    assert_eq!(found, ["a", "", "a", ""]);
    assert_eq!(scores[0], 1.0);
    assert_eq!(scores[2], 0.0);
    assert!(scores[1].is_nan() && scores[3].is_nan());
    let nothing: (Vec<String>, Vec<f32>) = (Vec::new(), Vec::new());
    assert_eq!(store.query_arrays(&fixture.cancel, 2, &[1.0, 0.0], 0, &options).unwrap(), nothing);
    assert_eq!(store.query_arrays(&fixture.cancel, 2, &[], 5, &options).unwrap(), nothing);
}

#[test]
fn vectors_larger_than_a_page_are_found() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let items = clustered(300, 1_536, 11);
    store.upsert(&fixture.cancel, &items).unwrap();
    let known = by_id(&items);
    let vector = Random(12).vector(1_536);
    let check = || {
        let hits = store.query(&fixture.cancel, &query(&vector, 25)).unwrap();
        assert_same(&hits, &brute_force(&known, &vector, 25, |_| true));
    };
    check();
    store.optimize(&fixture.cancel).unwrap();
    check();
    assert_eq!(store.get(&fixture.cancel, "item-000123").unwrap().vector, items[123].vector);
}

#[test]
fn a_query_can_stay_in_explicit_clusters() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let mut random = Random(13);
    let mut items: Vec<VectorItem> = Vec::new();
    for index in 0..600 {
        items.push(pinned(&format!("{index:03}"), &random.vector(8), index % 4));
    }
    store.upsert(&fixture.cancel, &items).unwrap();
    let vector = random.vector(8);
    for wanted in [vec![1], vec![2, 3, 2], vec![99, 3], vec![99], vec![]] {
        let options = QueryOptions { centroid_ids: Some(wanted.clone()), ..query(&vector, 500) };
        let hits = store.query(&fixture.cancel, &options).unwrap();
        let expected = brute_force(&by_id(&items), &vector, 500, |item| wanted.contains(&item.centroid_id));
        assert_same(&hits, &expected);
    }
}

#[test]
fn queries_without_centroid_ids_search_explicit_clusters_too() {
    let fixture = Fixture::new();
    let (store, items) = large(&fixture);
    let cancel = &fixture.cancel;
    let far: Vec<f32> = items[5].vector.iter().map(|number| -number).collect();
    for _ in 0..2 {
        let hits = store.query(cancel, &query(&far, 1)).unwrap();
        assert_ne!(hits[0].id, "pinned");
    }
    store.upsert(cancel, &[pinned("pinned", &far, 77)]).unwrap();
    assert_eq!(
        ids(&store.query(cancel, &query(&far, 1)).unwrap()),
        ["pinned"],
        "a new cluster is seen at once"
    );
    let clusters = store.stats(cancel).unwrap().centroids;
    assert_eq!(clusters.last(), Some(&CentroidStats { id: 77, count: 1, explicit: true }));
}

#[test]
fn lengths_of_vectors_do_not_matter_to_clusters() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let mut random = Random(14);
    let mut items = clustered(LARGE, DIMENSION, 15);
    for item in &mut items {
        let scale = 10f32.powf(4.0 * random.number());
        item.vector.iter_mut().for_each(|number| *number *= scale);
    }
    store.upsert(&fixture.cancel, &items).unwrap();
    let known = by_id(&items);
    let mut sum = 0.0;
    for query_item in items.iter().step_by(LARGE / 40) {
        let hits = store.query(&fixture.cancel, &query(&query_item.vector, 10)).unwrap();
        sum += recall(&hits, &brute_force(&known, &query_item.vector, 10, |_| true));
    }
    assert!(sum / 40.0 >= 0.95, "recall {}", sum / 40.0);
}
