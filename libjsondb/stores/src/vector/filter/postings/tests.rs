use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Filter;
use super::super::tests::{any_filter, any_payload};
use super::*;

/// A store of nothing but postings, and what they were made of.
struct Subject {
    _folder: tempfile::TempDir,
    database: engine::Database,
    rows: Vec<(RowId, String)>,
}

impl Subject {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = engine::Database::open(folder.path(), &engine::Options::default()).unwrap();
        Self { _folder: folder, database, rows: Vec::new() }
    }

    fn write<R>(&self, work: impl FnOnce(&mut Transaction, StoreId) -> Result<R>) -> R {
        let mut t = self.database.begin(engine::Mode::Write).unwrap();
        let store = t.ensure_store("v", b"").unwrap();
        let result = work(&mut t, store).unwrap();
        t.commit().unwrap();
        result
    }

    fn add(&mut self, rows: Vec<(RowId, String)>) {
        self.write(|t, store| add(t, store, rows.iter().map(|(row, payload)| (*row, payload))));
        self.rows.extend(rows);
    }

    fn find(&self, filter: &Filter) -> Option<Found> {
        self.write(|t, store| find(t, store, filter))
    }

    /// Compares with a look at all payloads; gives what postings found.
    fn check(&self, filter: &Value) -> Option<Found> {
        let filter = Filter::parse(Some(filter)).unwrap()?;
        let found = self.find(&filter)?;
        for (row, payload) in &self.rows {
            let passes = filter.matches(payload.as_bytes());
            assert!(found.rows.contains(*row) || !passes, "missed {payload}");
            assert!(!found.is_exact || found.rows.contains(*row) == passes, "wrongly found {payload}");
        }
        assert!(found.rows.len() <= self.rows.len() as u64);
        Some(found)
    }

    fn entries(&self) -> Vec<engine::Entry> {
        let whole = (Bound::Unbounded, Bound::Unbounded);
        self.write(|t, store| Ok(t.scan(store, whole.0, whole.1, Direction::Forward, usize::MAX)?))
    }
}

fn rows(numbers: std::ops::Range<u64>, payload: impl Fn(u64) -> Value) -> Vec<(RowId, String)> {
    numbers.map(|n| (RowId::new((1 << 50) + n / 39, (n % 39) as usize), payload(n).to_string())).collect()
}

#[test]
fn fields_of_few_values_take_up_to_three_bytes_a_row() {
    let mut subject = Subject::new();
    let payload = |n: u64| json!({"ten": n * 7919 % 10, "hundred": n * 7919 % 100, "even": n.is_multiple_of(2), "kind": format!("noun.{}", n * 31 % 45)});
    for batch in 0..10 {
        subject.add(rows(batch * 2_000..(batch + 1) * 2_000, payload));
    }
    let of = |filter| subject.check(&filter).unwrap();
    assert_eq!(of(json!({"ten": 3})).rows.len(), 2_000);
    assert_eq!(of(json!({"hundred": 3, "ten": 3})).rows.len(), 200);
    assert_eq!(of(json!({"hundred": {"$lt": 50}, "even": false})).rows.len(), 5_000);
    assert!(of(json!({"$not": {"kind": "noun.5"}})).is_exact);
    let bytes: usize = subject
        .entries()
        .iter()
        .map(|entry| match &entry.value {
            engine::Value::Inline(value) => entry.key.len() + value.len(),
            engine::Value::Blob(_) => panic!("postings are small"),
        })
        .sum();
    assert!(bytes < 2 * 4 * 20_000, "{bytes} bytes");
}

#[test]
fn what_postings_cannot_tell_they_do_not_pretend_to() {
    let mut subject = Subject::new();
    let long = "x".repeat(65);
    let payload = |n: u64| match n % 4 {
        0 => json!({"a": [n], "text": long}),
        1 => json!({"a": {"b": n}, "text": "short"}),
        2 => json!({"a": n, "text": format!("{long}{n}")}),
        _ => Value::Null,
    };
    subject.add(rows(0..100, payload));
    let of = |filter| subject.check(&filter);
    let found = of(json!({"a": [4]})).unwrap();
    assert_eq!((found.rows.len(), found.is_exact), (50, false));
    let found = of(json!({"text": long})).unwrap();
    assert_eq!((found.rows.len(), found.is_exact), (25, false));
    assert!(!of(json!({"text": {"$gt": "a"}})).unwrap().is_exact);
    assert!(of(json!({"text": {"$ne": long}})).is_none());
    assert!(of(json!({"$or": [{"a": 2}, {"$not": {"a": [1]}}]})).is_none());
    assert_eq!(of(json!({"a": 2, "$not": {"a": [1]}})).unwrap().rows.len(), 1);
    assert!(of(json!({"a": {"$exists": false}})).unwrap().is_exact);
}

#[test]
fn payloads_too_large_to_be_read_are_met_by_every_filter() {
    let mut subject = Subject::new();
    let wide: Value = (0..100).map(|n| (format!("f{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    let named = json!({ "n".repeat(300): 1 });
    subject.add(rows(0..3, |n| [json!({"a": 1}), wide.clone(), named.clone()][n as usize].clone()));
    let beyond_all_floats = (RowId::new(1 << 51, 0), r#"{"a": 1e999}"#.to_owned());
    subject.add(vec![beyond_all_floats]);
    for filter in [json!({"a": 1}), json!({"f99": 99}), json!({"n".repeat(300): 1}), json!({"a": {"$ne": 1}})]
    {
        let found = subject.check(&filter).unwrap();
        assert!(!found.is_exact && found.rows.len() >= 3, "{filter}");
    }
}

#[test]
fn rows_that_are_gone_are_found_no_more() {
    let mut subject = Subject::new();
    subject.add(rows(0..1_000, |n| json!({ "a": n % 2 })));
    let is_kept = |row: RowId| !row.slot().is_multiple_of(3);
    let census = subject.write(|t, store| retain(t, store, is_kept));
    assert_eq!(census.live + census.gone, 1_000);
    subject.rows.retain(|(row, _)| is_kept(*row));
    assert_eq!(census.live, subject.rows.len() as u64);
    let both = subject.check(&json!({"a": {"$exists": true}})).unwrap();
    assert_eq!(both.rows.len(), census.live);
    subject.check(&json!({"a": {"$ne": 1}})).unwrap();
    subject.add(rows(1_000..1_100, |n| json!({ "a": n % 2 })));
    subject.check(&json!({"a": 1})).unwrap();
    let rows = std::mem::take(&mut subject.rows);
    subject.write(clear);
    assert!(subject.entries().is_empty());
    subject.add(rows);
    let again = subject.write(|t, store| retain(t, store, |_| true));
    assert_eq!(again, Census { live: census.live + 100, gone: 0 });
}

/// A store whose rows are replaced again and again.
#[test]
fn rows_that_are_gone_do_not_pile_up() {
    let mut subject = Subject::new();
    let payload = |n: u64| match n % 50 {
        0 => Value::Null,
        1 => Value::from_iter((0..70).map(|f| (format!("f{f}"), json!(n)))),
        _ => json!({"a": n % 7, "b": format!("b{}", n % 3), "c": [n]}),
    };
    let mut sizes = Vec::new();
    for step in 0..24 {
        subject.add(rows(step * 500..(step + 1) * 500, payload));
        let is_kept = |row: RowId| row.0 >= rows(step * 500 + 100..step * 500 + 101, payload)[0].0.0;
        subject.write(|t, store| retain(t, store, is_kept));
        subject.rows.retain(|(row, _)| is_kept(*row));
        sizes.push(subject.entries().iter().map(|entry| entry.key.len()).sum::<usize>());
        for filter in
            [json!({"a": 3}), json!({"b": {"$ne": "b1"}}), json!({"c": {"$exists": true}}), json!({"f1": 1})]
        {
            subject.check(&filter).unwrap();
        }
    }
    let census = subject.write(|t, store| retain(t, store, |_| true));
    assert_eq!(census.live, subject.rows.len() as u64);
    assert!(census.gone < 6_000, "{census:?}");
    assert!(sizes.windows(2).any(|pair| pair[1] < pair[0] / 2), "{sizes:?}");
}

/// So many rows that not all of their postings fit into memory.
#[test]
fn rows_numbered_anew_term_by_term_are_those_that_were() {
    for at_once in [1, 300, 4000] {
        let mut subject = Subject::new();
        let payload = |n: u64| json!({"a": n % 7, "b": format!("b{}", n % 300), "c": [n]});
        subject.add(rows(0..3_000, payload));
        let is_kept = |row: RowId| row.slot() % 5 == 1;
        subject.write(|t, store| retain(t, store, is_kept));
        subject.rows.retain(|(row, _)| is_kept(*row));
        subject.write(|t, store| compact::compact(t, store, at_once));
        let census = subject.write(|t, store| retain(t, store, |_| true));
        assert_eq!(census, Census { live: subject.rows.len() as u64, gone: 0 });
        subject.add(rows(3_000..3_100, payload));
        for filter in [json!({"a": 3}), json!({"b": {"$gte": "b27"}}), json!({"c": {"$exists": true}})] {
            subject.check(&filter).unwrap();
        }
    }
}

#[test]
fn rows_that_come_out_of_order_are_found_as_well() {
    let mut subject = Subject::new();
    for blocks in [[5, 3], [4, 3], [9, 1]] {
        let slot = (blocks[0] * 7 % 60) as usize;
        subject
            .add(blocks.map(|block| (RowId::new(block, slot), json!({ "a": block }).to_string())).to_vec());
    }
    for block in 0..10 {
        subject.check(&json!({ "a": block })).unwrap();
    }
    let all = subject.check(&json!({"a": {"$gte": 3}})).unwrap();
    assert_eq!(all.rows.len(), 5);
    assert!(all.rows.rows().is_sorted());
}

#[test]
fn damaged_postings_are_told() {
    let mut subject = Subject::new();
    subject.add(rows(0..10, |n| json!({ "a": n })));
    let term = [terms::field("a"), vec![5]].concat();
    for (key, value) in [
        ([&*term, &[9, 9, 9, 9]].concat(), vec![]),
        ([&*term, &[0, 0, 0, 0]].concat(), vec![0x80]),
        ([&*term, &[0, 0, 0, 1]].concat(), vec![0xff; 11]),
    ] {
        let mut t = subject.database.begin(engine::Mode::Write).unwrap();
        let store = t.ensure_store("v", b"").unwrap();
        t.put(store, &key, &value, engine::Placement::Auto).unwrap();
        let filter = Filter::parse(Some(&json!({"a": {"$exists": true}}))).unwrap().unwrap();
        assert_eq!(find(&mut t, store, &filter).unwrap_err().code(), crate::ErrorCode::Corruption);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn postings_find_what_a_look_at_all_payloads_finds(
        payloads in prop::collection::vec(any_payload(), 1..60),
        batch in 1..30usize,
        gone in any::<u64>(),
        filters in prop::collection::vec(any_filter(), 12),
    ) {
        let mut subject = Subject::new();
        let all = rows(0..payloads.len() as u64, |n| payloads[n as usize].clone());
        for part in all.chunks(batch) {
            subject.add(part.to_vec());
        }
        let is_kept = |row: RowId| gone >> row.slot() & 1 == 0;
        subject.write(|t, store| retain(t, store, is_kept));
        subject.rows.retain(|(row, _)| is_kept(*row));
        for filter in &filters {
            subject.check(filter);
        }
    }
}
