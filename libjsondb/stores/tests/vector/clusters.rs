//! Clusters: optimize, usage modes, explicit centroids, statistics.

use stores::{CentroidStats, QueryOptions, Stats, VectorItem, VectorStore};

use crate::support::*;

fn counts(stats: &Stats) -> (u64, u64) {
    let sum = |explicit: bool| -> u64 {
        stats
            .centroids
            .iter()
            .filter(|centroid| centroid.explicit == explicit)
            .map(|centroid| centroid.count)
            .sum()
    };
    (sum(false), sum(true))
}

fn automatic(stats: &Stats) -> Vec<&CentroidStats> {
    stats.centroids.iter().filter(|centroid| !centroid.explicit).collect()
}

#[test]
fn optimize_of_nothing_is_no_error() {
    let fixture = Fixture::new();
    for mode in 0..3 {
        let store = fixture.store_in_mode(mode);
        store.optimize(&fixture.cancel).unwrap();
        assert_eq!(
            store.stats(&fixture.cancel).unwrap(),
            Stats { count: 0, centroids: Vec::new(), skew: 0.0, usage_mode: mode, dimension: 0 }
        );
    }
    let store = fixture.store();
    store.upsert(&fixture.cancel, &[item("a", &[1.0])]).unwrap();
    store.delete(&fixture.cancel, &["a"]).unwrap();
    store.optimize(&fixture.cancel).unwrap();
    assert_eq!(store.stats(&fixture.cancel).unwrap().count, 0);
    store.upsert(&fixture.cancel, &[item("b", &[1.0])]).unwrap();
    assert_eq!(ids(&store.query(&fixture.cancel, &query(&[1.0], 5)).unwrap()), ["b"]);
}

#[test]
fn all_modes_stay_right_through_all_changes() {
    for mode in 0..3 {
        let fixture = Fixture::new();
        changes_in_mode(&fixture, &fixture.store_in_mode(mode), mode);
    }
}

fn changes_in_mode(fixture: &Fixture, store: &VectorStore, mode: i32) {
    let cancel = &fixture.cancel;
    let mut items = clustered(5_000, 12, 21);
    for (index, item) in items.iter_mut().enumerate().filter(|(index, _)| index % 50 == 0) {
        item.centroid_id = 1_000 + (index % 3) as i64;
    }
    let mut known = by_id(&items);
    let check = |known: &std::collections::BTreeMap<String, VectorItem>, what: &str| {
        let stats = store.stats(cancel).unwrap();
        let explicit = known.values().filter(|item| item.centroid_id > 0).count() as u64;
        assert_eq!(stats.count, known.len() as u64, "mode {mode}, {what}");
        assert_eq!(counts(&stats), (stats.count, explicit), "mode {mode}, {what}");
        assert_eq!((stats.usage_mode, stats.dimension), (mode, 12));
        let vector = Random(stats.count).vector(12);
        let hits = store.query(cancel, &QueryOptions { exact: true, ..query(&vector, 30) }).unwrap();
        assert_same(&hits, &brute_force(known, &vector, 30, |_| true));
        stats
    };
    store.upsert(cancel, &items).unwrap();
    let stats = check(&known, "after a large batch");
    let clusters = automatic(&stats).len();
    assert_eq!(clusters, 1, "mode {mode}: so few rows are one cluster, or none until a build");

    let removed: Vec<&str> = items[..900].iter().map(|item| item.id.as_str()).collect();
    store.delete(cancel, &removed).unwrap();
    removed.iter().for_each(|id| assert!(known.remove(*id).is_some()));
    check(&known, "after deletes");

    store.optimize(cancel).unwrap();
    let stats = check(&known, "after optimize");
    let clusters = automatic(&stats);
    assert!(
        clusters.len() > 30 && clusters.iter().all(|cluster| cluster.id > 0),
        "mode {mode}: {clusters:?}"
    );
    assert!(stats.skew >= 1.0);

    let mut moved = clustered(300, 12, 22);
    moved
        .iter_mut()
        .for_each(|item| item.id = format!("item-{:06}", 1_000 + item.id.len() + known.len() % 7));
    moved.truncate(1);
    moved.extend(clustered(1_200, 12, 23).split_off(850));
    store.upsert(cancel, &moved).unwrap();
    known.extend(by_id(&moved));
    let stats = check(&known, "after upserts into clusters");
    assert!(stats.centroids.iter().all(|cluster| cluster.id > 0), "mode {mode}: rows find a cluster");

    store.optimize(cancel).unwrap();
    check(&known, "after a second optimize");
    let all: Vec<String> = known.keys().cloned().collect();
    store.delete(cancel, &all).unwrap();
    known.clear();
    let stats = store.stats(cancel).unwrap();
    assert_eq!((stats.count, counts(&stats), stats.skew), (0, (0, 0), 0.0), "mode {mode}");
    store.optimize(cancel).unwrap();
    assert!(
        store.stats(cancel).unwrap().centroids.is_empty(),
        "mode {mode}: clusters without rows are dropped"
    );
}

#[test]
fn explicit_centroids_are_kept_by_optimize() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let cancel = &fixture.cancel;
    let mut items = clustered(2_000, 8, 31);
    items.iter_mut().step_by(4).for_each(|item| item.centroid_id = 500);
    store.upsert(cancel, &items).unwrap();
    for _ in 0..2 {
        store.optimize(cancel).unwrap();
        for item in items.iter().step_by(97) {
            let found = store.get(cancel, &item.id).unwrap();
            assert_eq!((found.centroid_id, &found.vector), (item.centroid_id, &item.vector));
        }
        let stats = store.stats(cancel).unwrap();
        assert_eq!(stats.centroids.last(), Some(&CentroidStats { id: 500, count: 500, explicit: true }));
        let vector = Random(1).vector(8);
        let options = QueryOptions { centroid_ids: Some(vec![500]), ..query(&vector, 600) };
        let expected = brute_force(&by_id(&items), &vector, 600, |item| item.centroid_id == 500);
        assert_same(&store.query(cancel, &options).unwrap(), &expected);
    }
}

#[test]
fn automatic_and_explicit_ids_never_mix() {
    let fixture = Fixture::new();
    let store = fixture.store_in_mode(1);
    let cancel = &fixture.cancel;
    store.upsert(cancel, &clustered(5_000, 4, 41)).unwrap();
    store.optimize(cancel).unwrap();
    let before = store.stats(cancel).unwrap();
    store.upsert(cancel, &[pinned("x", &[1.0; 4], 1), pinned("y", &[1.0; 4], i64::MAX)]).unwrap();
    let after = store.stats(cancel).unwrap();
    assert_eq!(automatic(&before), automatic(&after)[1..], "the two rows are not clustered yet");
    let explicit: Vec<(u64, u64)> =
        after.centroids.iter().filter(|c| c.explicit).map(|c| (c.id, c.count)).collect();
    assert_eq!(explicit, [(1, 1), (i64::MAX as u64, 1)]);
    store.upsert(cancel, &[pinned("x", &[1.0; 4], -5)]).unwrap();
    assert_eq!(store.get(cancel, "x").unwrap().centroid_id, 0);
}

#[test]
fn clusters_are_split_where_rows_come() {
    let fixture = Fixture::new();
    let store = fixture.store_in_mode(1);
    let cancel = &fixture.cancel;
    store.upsert(cancel, &clustered(5_000, 8, 51)).unwrap();
    store.optimize(cancel).unwrap();
    let before = store.stats(cancel).unwrap();
    let mut random = Random(52);
    let lump: Vec<VectorItem> = (0..4_000)
        .map(|index| {
            let noise: Vec<f32> = random.vector(8).iter().map(|number| 1.0 + 0.1 * number).collect();
            item(&format!("lump-{index}"), &noise)
        })
        .collect();
    lump.chunks(250).for_each(|items| store.upsert(cancel, items).unwrap());
    let after = store.stats(cancel).unwrap();
    assert_eq!((after.count, counts(&after).0), (9_000, 9_000), "no row is in two clusters, or in none");
    assert!(after.centroids.len() > before.centroids.len() + 20, "{} clusters", after.centroids.len());
    let largest = after.centroids.iter().map(|cluster| cluster.count).max().unwrap();
    assert!(largest < 400, "a cluster of {largest} rows");
}

#[test]
fn the_mode_of_the_creation_stays() {
    let fixture = Fixture::new();
    fixture.store_in_mode(1).upsert(&fixture.cancel, &[item("a", &[1.0])]).unwrap();
    let store = fixture.store_in_mode(0);
    store.upsert(&fixture.cancel, &[item("b", &[1.0])]).unwrap();
    let stats = store.stats(&fixture.cancel).unwrap();
    assert_eq!((stats.usage_mode, stats.count, counts(&stats)), (1, 2, (2, 0)));
}

#[test]
fn equal_vectors_can_be_optimized() {
    let fixture = Fixture::new();
    let store = fixture.store();
    for (name, vector) in [("same", [1.0, 2.0]), ("zero", [0.0, 0.0])] {
        let items: Vec<VectorItem> =
            (0..4_500).map(|index| item(&format!("{name}-{index:04}"), &vector)).collect();
        store.upsert(&fixture.cancel, &items).unwrap();
        store.optimize(&fixture.cancel).unwrap();
    }
    let stats = store.stats(&fixture.cancel).unwrap();
    assert_eq!((stats.count, automatic(&stats).len()), (9_000, 2), "{stats:?}");
    let hits = store.query(&fixture.cancel, &query(&[1.0, 2.0], 3)).unwrap();
    assert_eq!(ids(&hits), ["same-0000", "same-0001", "same-0002"]);
}

#[test]
fn a_store_that_is_built_once_has_no_garbage() {
    let fixture = Fixture::new();
    let store = fixture.store_in_mode(0);
    let cancel = &fixture.cancel;
    clustered(6_000, 64, 61).chunks(500).for_each(|items| store.upsert(cancel, items).unwrap());
    store.optimize(cancel).unwrap();
    let compacted =
        fixture.database.compact(cancel, &mut stores::Progress::new(cancel, &mut |_, _| true)).unwrap();
    let (before, after) = (compacted.before.bytes, compacted.after.bytes);
    assert!(after * 10 > before * 9, "{before} bytes, of which {after} were needed");
}
