//! What is stored is what was given.

use serde_json::json;
use stores::{ErrorCode, QueryOptions, VectorItem, VectorOptions};

use crate::support::*;

#[test]
fn items_come_back_as_they_were() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let vector = [0.1, -0.0, 1e-45, f32::MIN_POSITIVE, f32::MAX, -3.25e-7];
    let payloads = [
        json!({"name": "Laptop", "price": 999, "nested": {"a": [1, 2.5, null]}, "ü": "naïve \u{1F600}"}),
        json!({}),
        json!([1, 2]),
        json!("text"),
        json!(7),
        json!(false),
    ];
    for (index, payload) in payloads.iter().enumerate() {
        let id = format!("id {index} \u{1F600}");
        store.upsert(&fixture.cancel, &[item_with(&id, &vector, payload.clone())]).unwrap();
        let found = store.get(&fixture.cancel, &id).unwrap();
        assert_eq!(found.id, id);
        assert_eq!(found.vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), vector.map(f32::to_bits));
        assert_eq!(found.payload.unwrap().get(), payload.to_string());
        assert_eq!(found.centroid_id, 0);
    }
    store.upsert(&fixture.cancel, &[item_with("null", &vector, json!(null)), item("none", &vector)]).unwrap();
    assert!(store.get(&fixture.cancel, "null").unwrap().payload.is_none());
    assert!(store.get(&fixture.cancel, "none").unwrap().payload.is_none());
    assert_eq!(store.count(&fixture.cancel).unwrap(), 8);
}

#[test]
fn json_in_and_out_has_the_names_of_the_interface() {
    let text = r#"{"id":"a","vector":[0.1,2],"payload":{"x":1},"centroid_id":5,"unknown":true}"#;
    let item: VectorItem = serde_json::from_str(text).unwrap();
    assert_eq!(
        (item.id.as_str(), item.vector.as_slice(), item.centroid_id),
        ("a", [0.1f32, 2.0].as_slice(), 5)
    );
    let text = serde_json::to_string(&item).unwrap();
    assert_eq!(text, r#"{"ID":"a","Vector":[0.1,2.0],"Payload":{"x":1},"CentroidID":5}"#);
    let item: VectorItem = serde_json::from_str(r#"{"id":"a","vector":null,"payload":null}"#).unwrap();
    assert!(item.vector.is_empty() && item.payload.is_none() && item.centroid_id == 0);
    let options: QueryOptions = serde_json::from_str(r#"{"vector":[1],"filter":null}"#).unwrap();
    assert_eq!(options, query(&[1.0], 10));
    let options: VectorOptions = serde_json::from_str(r#"{"name":"x"}"#).unwrap();
    assert_eq!(options, VectorOptions { usage_mode: 2, metric: None, content_size: 1 });
}

#[test]
fn upserting_again_replaces_everything() {
    let fixture = Fixture::new();
    let store = fixture.store_in_mode(1);
    let cancel = &fixture.cancel;
    store.upsert(cancel, &[item_with("a", &[1.0, 0.0], json!({"v": 1})), item("b", &[0.0, 1.0])]).unwrap();
    store
        .upsert(cancel, &[VectorItem { payload: Some(raw(&json!({"w": 2}))), ..pinned("a", &[0.0, 3.0], 9) }])
        .unwrap();
    let found = store.get(cancel, "a").unwrap();
    assert_eq!((found.vector, found.centroid_id), (vec![0.0, 3.0], 9));
    assert_eq!(found.payload.unwrap().get(), r#"{"w":2}"#);
    assert_eq!(store.count(cancel).unwrap(), 2);
    let hits = store.query(cancel, &query(&[1.0, 0.0], 10)).unwrap();
    assert_eq!(ids(&hits), ["a", "b"]);
    assert!(hits.iter().all(|hit| hit.score == 0.0), "the old vector is gone");
    store.upsert(cancel, &[item("a", &[1.0, 1.0])]).unwrap();
    let found = store.get(cancel, "a").unwrap();
    assert!(found.payload.is_none() && found.centroid_id == 0);
    let stats = store.stats(cancel).unwrap();
    assert_eq!(
        stats.centroids.iter().map(|c| (c.id, c.count, c.explicit)).collect::<Vec<_>>(),
        [(0, 2, false)]
    );
}

#[test]
fn the_last_of_equal_ids_in_a_batch_wins() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let batch =
        [item("a", &[1.0]), pinned("b", &[2.0], 4), item("a", &[3.0]), item("b", &[4.0]), item("a", &[5.0])];
    store.upsert(&fixture.cancel, &batch).unwrap();
    assert_eq!(store.count(&fixture.cancel).unwrap(), 2);
    assert_eq!(store.get(&fixture.cancel, "a").unwrap().vector, [5.0]);
    assert_eq!(store.get(&fixture.cancel, "b").unwrap().vector, [4.0]);
    assert_eq!(store.get(&fixture.cancel, "b").unwrap().centroid_id, 0);
}

#[test]
fn deleted_items_are_gone() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cancel = &fixture.cancel;
    store.delete(cancel, &["unknown"]).unwrap();
    let items = clustered(50, 4, 1);
    store.upsert(cancel, &items).unwrap();
    store.delete(cancel, &["item-000003", "unknown", "item-000004", "item-000003", ""]).unwrap();
    assert_eq!(store.count(cancel).unwrap(), 48);
    let error = store.get(cancel, "item-000003").unwrap_err();
    assert_eq!((error.code(), error.message()), (ErrorCode::ItemNotFound, "item not found: item-000003"));
    let hits = store.query(cancel, &query(&items[3].vector, 100)).unwrap();
    assert_eq!(hits.len(), 48);
    assert!(!ids(&hits).contains(&"item-000004"));
    store.delete(cancel, &[] as &[&str]).unwrap();
    store.upsert(cancel, &items[3..4]).unwrap();
    assert_eq!(store.count(cancel).unwrap(), 49);
    assert_eq!(store.get(cancel, "item-000003").unwrap().vector, items[3].vector);
}

#[test]
fn getting_what_is_not_there_is_an_error() {
    let fixture = Fixture::new();
    let store = fixture.store();
    for id in ["a", "", &"x".repeat(20_000)] {
        assert_eq!(store.get(&fixture.cancel, id).unwrap_err().code(), ErrorCode::ItemNotFound);
    }
    store.upsert(&fixture.cancel, &[item("b", &[1.0])]).unwrap();
    for id in ["a", "", &"x".repeat(20_000)] {
        assert_eq!(store.get(&fixture.cancel, id).unwrap_err().code(), ErrorCode::ItemNotFound);
    }
}

#[test]
fn arrays_store_what_items_store() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cancel = &fixture.cancel;
    let names: Vec<String> = (0..100).map(|index| format!("{index}")).collect();
    let numbers = Random(2).vector(100 * 6);
    store.upsert_arrays(cancel, &names, 6, &numbers, None).unwrap();
    assert_eq!(store.get(cancel, "42").unwrap().vector, numbers[42 * 6..43 * 6]);
    assert!(store.get(cancel, "42").unwrap().payload.is_none());
    let payloads = (0..100).map(|index| raw(&json!({"index": index}))).collect();
    store.upsert_arrays(cancel, &names, 6, &numbers, Some(payloads)).unwrap();
    assert_eq!(store.get(cancel, "42").unwrap().payload.unwrap().get(), r#"{"index":42}"#);
    assert_eq!(store.count(cancel).unwrap(), 100);
    store.upsert_arrays(cancel, &[], 0, &[], None).unwrap();
    store.upsert_arrays(cancel, &[], 6, &[], Some(Vec::new())).unwrap();
    assert_eq!(store.count(cancel).unwrap(), 100);
}

#[test]
fn payloads_of_all_sizes_and_placements() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    for content_size in 0..3 {
        let store = fixture.store_with(VectorOptions { content_size, ..VectorOptions::default() });
        for size in [0, 3_000, 5_000, 300_000] {
            let text = "x".repeat(size);
            let id = format!("{content_size} {size}");
            store
                .upsert(cancel, &[item_with(&id, &[1.0, size as f32], json!({"text": text, "size": size}))])
                .unwrap();
            let options = QueryOptions { filter: Some(json!({"size": size})), ..query(&[1.0, 1.0], 10) };
            let hits = store.query(cancel, &options).unwrap();
            assert!(ids(&hits).contains(&id.as_str()));
            assert!(store.get(cancel, &id).unwrap().payload.unwrap().get().len() >= size);
        }
    }
    assert_eq!(fixture.store().count(cancel).unwrap(), 12);
}

#[test]
fn everything_is_there_after_reopening() {
    let fixture = Fixture::new();
    let items = clustered(5_000, 8, 3);
    fixture.store().upsert(&fixture.cancel, &items).unwrap();
    fixture.store().upsert(&fixture.cancel, &[pinned("pinned", &[1.0; 8], 12)]).unwrap();
    let before = fixture.store().stats(&fixture.cancel).unwrap();
    let fixture = fixture.reopen();
    let store = fixture.store();
    assert_eq!(store.stats(&fixture.cancel).unwrap(), before);
    assert_eq!(store.count(&fixture.cancel).unwrap(), 5_001);
    assert_eq!(store.get(&fixture.cancel, "pinned").unwrap().centroid_id, 12);
    let hits = store.query(&fixture.cancel, &query(&items[17].vector, 10)).unwrap();
    assert_same(&hits, &{
        let mut known = by_id(&items);
        known.insert("pinned".to_owned(), item("pinned", &[1.0; 8]));
        brute_force(&known, &items[17].vector, 10, |_| true)
    });
}

#[test]
fn the_longest_ids_work() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = "é".repeat(512);
    store.upsert(&fixture.cancel, &[item(&id, &[1.0])]).unwrap();
    assert_eq!(store.get(&fixture.cancel, &id).unwrap().id, id);
    assert_eq!(ids(&store.query(&fixture.cancel, &query(&[1.0], 1)).unwrap()), [id.as_str()]);
}
