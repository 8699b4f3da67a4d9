//! Indexes that grow, and shrink, without being built anew.

use std::collections::BTreeMap;

use stores::{QueryOptions, VectorItem, VectorStore};

use crate::support::*;

const DIMENSION: usize = 32;

/// Mean recall of the default query over some vectors.
fn mean_recall(
    store: &VectorStore,
    fixture: &Fixture,
    known: &BTreeMap<String, VectorItem>,
    seed: u64,
) -> f64 {
    let mut random = Random(seed);
    let all: Vec<&VectorItem> = known.values().collect();
    let mut sum = 0.0;
    for _ in 0..100 {
        let near = all[(random.next() % all.len() as u64) as usize];
        let vector: Vec<f32> = near.vector.iter().map(|number| number + 0.2 * random.number()).collect();
        let hits = store.query(&fixture.cancel, &query(&vector, 10)).unwrap();
        sum += recall(&hits, &brute_force(known, &vector, 10, |_| true));
    }
    sum / 100.0
}

#[test]
fn recall_stays_when_rows_come_one_by_one() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cancel = &fixture.cancel;
    let items = clustered(12_000, DIMENSION, 71);
    store.upsert(cancel, &items[..6_000]).unwrap();
    store.optimize(cancel).unwrap();
    items[6_000..].iter().for_each(|item| store.upsert(cancel, std::slice::from_ref(item)).unwrap());
    let known = by_id(&items);
    let grown = mean_recall(&store, &fixture, &known, 72);
    store.optimize(cancel).unwrap();
    let built = mean_recall(&store, &fixture, &known, 72);
    assert!(grown > built - 0.01 && grown > 0.94, "{grown} when grown, {built} when built");
}

#[test]
fn deleted_rows_are_never_seen_and_their_space_comes_back() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cancel = &fixture.cancel;
    let items = clustered(9_000, DIMENSION, 73);
    store.upsert(cancel, &items).unwrap();
    store.optimize(cancel).unwrap();
    let mut known = by_id(&items);
    for part in items.chunks(500).take(14) {
        let ids: Vec<&str> = part.iter().map(|item| item.id.as_str()).collect();
        store.delete(cancel, &ids).unwrap();
        ids.iter().for_each(|id| drop(known.remove(*id)));
        let hits = store.query(cancel, &query(&part[0].vector, 50)).unwrap();
        assert!(hits.iter().all(|hit| known.contains_key(&hit.id)));
    }
    let stats = store.stats(cancel).unwrap();
    assert_eq!(stats.centroids.iter().map(|cluster| cluster.count).sum::<u64>(), 2_000);
    let small = stats.centroids.iter().filter(|cluster| cluster.count < 6).count();
    assert!(
        small * 4 < stats.centroids.len(),
        "{small} of {} clusters are nearly empty",
        stats.centroids.len()
    );
    let vector = &items[8_000].vector;
    let hits = store.query(cancel, &QueryOptions { exact: true, ..query(vector, 2_500) }).unwrap();
    assert_same(&hits, &brute_force(&known, vector, 2_500, |_| true));
    assert!(fixture.database.verify(&mut stores::Progress::new(cancel, &mut |_, _| true)).unwrap().intact);
}

#[test]
fn equal_rows_without_end_are_one_cluster() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cancel = &fixture.cancel;
    store.upsert(cancel, &clustered(2_000, 8, 74)).unwrap();
    store.optimize(cancel).unwrap();
    for batch in 0..10 {
        let items: Vec<VectorItem> =
            (0..300).map(|index| item(&format!("equal-{batch}-{index:03}"), &[1.0; 8])).collect();
        store.upsert(cancel, &items).unwrap();
    }
    let hits = store.query(cancel, &query(&[1.0; 8], 3_000)).unwrap();
    assert_eq!(hits.len(), 3_000);
    assert_eq!(hits[2].id, "equal-0-002", "equals are in order of id");
}
