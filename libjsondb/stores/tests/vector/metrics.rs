//! Metrics: what a score is, and that a store keeps its own.

use stores::{ErrorCode, Metric, QueryOptions, TransactionMode, VectorItem, VectorOptions};

use crate::support::{Fixture, Random, cosine, item, query};

fn options(metric: Metric) -> VectorOptions {
    VectorOptions { metric: Some(metric as i32), ..VectorOptions::default() }
}

fn score(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    match metric {
        Metric::Cosine => cosine(a, b),
        Metric::Dot => pairs().map(|(a, b)| a * b).sum(),
        Metric::L2 => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
    }
}

/// Vectors of very different lengths, which the metrics rank differently.
fn rows(count: usize) -> Vec<VectorItem> {
    let mut random = Random(23);
    let row = |number: usize| {
        let length = [0.2, 1.0, 3.0][(random.next() % 3) as usize];
        let vector: Vec<f32> = random.vector(16).iter().map(|number| number * length).collect();
        item(&format!("r{number}"), &vector)
    };
    (0..count).map(row).collect()
}

#[test]
fn every_metric_finds_its_own_best_rows() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let fixture = Fixture::new();
        let (store, cancel) = (fixture.store_with(options(metric)), &fixture.cancel);
        let all = rows(12_000);
        store.upsert(cancel, &all).unwrap();
        store.optimize(cancel).unwrap();
        let (mut random, mut found) = (Random(5), 0);
        for _ in 0..30 {
            let vector: Vec<f32> = random.vector(16);
            let mut expected: Vec<(&str, f64)> =
                all.iter().map(|item| (item.id.as_str(), score(metric, &vector, &item.vector))).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1));
            expected.truncate(10);
            for options in [query(&vector, 10), QueryOptions { exact: true, ..query(&vector, 10) }] {
                let hits = store.query(cancel, &options).unwrap();
                assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
                for hit in &hits {
                    let row = all.iter().find(|item| item.id == hit.id).unwrap();
                    let expected = score(metric, &vector, &row.vector);
                    let tolerance = 1e-5 * (1.0 + expected.abs());
                    assert!(
                        (f64::from(hit.score) - expected).abs() < tolerance,
                        "{metric:?} {} {expected}",
                        hit.score
                    );
                }
                if options.exact {
                    assert_eq!(
                        hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(),
                        expected.iter().map(|(id, _)| *id).collect::<Vec<_>>()
                    );
                } else {
                    found += expected.iter().filter(|(id, _)| hits.iter().any(|hit| hit.id == *id)).count();
                }
            }
        }
        assert!(found >= 280, "{metric:?}: {found} of 300");
    }
}

#[test]
fn a_store_refuses_another_metric_than_its_own() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    fixture.store_with(options(Metric::L2)).upsert(cancel, &[item("a", &[3.0, 4.0])]).unwrap();
    let other = fixture.store_with(options(Metric::Cosine));
    let told = |error: stores::Error| {
        assert_eq!(error.code(), ErrorCode::Validation);
        assert!(error.message().contains("made with the metric L2"), "{}", error.message());
    };
    told(other.upsert(cancel, &[item("b", &[1.0, 1.0])]).unwrap_err());
    told(other.query(cancel, &query(&[1.0, 1.0], 1)).map(drop).unwrap_err());
    told(other.get(cancel, "a").map(drop).unwrap_err());
    told(other.delete(cancel, &["a"]).unwrap_err());
    told(other.stats(cancel).map(drop).unwrap_err());
    told(other.optimize(cancel).unwrap_err());
    told(other.count(cancel).map(drop).unwrap_err());
    let own = fixture.store();
    assert_eq!(own.query(cancel, &query(&[0.0, 0.0], 1)).unwrap()[0].score, -5.0);
    // It leaves a transaction as it was.
    let transaction = fixture.begin(TransactionMode::ForWriting);
    fixture.store_in(&transaction).upsert(cancel, &[item("b", &[1.0, 1.0])]).unwrap();
    let inside = other.with_session(stores::Session::In(transaction.clone()));
    told(inside.upsert(cancel, &[item("c", &[1.0, 1.0])]).unwrap_err());
    transaction.commit(cancel).unwrap();
    assert_eq!(own.count(cancel).unwrap(), 2);
}

#[test]
fn metrics_that_are_none_are_refused() {
    for number in [-1, 3, i32::MAX] {
        assert_eq!(Metric::from_number(number).unwrap_err().code(), ErrorCode::Validation);
    }
}
