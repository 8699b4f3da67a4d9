//! Many rows at once, and which ids there are.

use std::num::NonZeroUsize;

use serde_json::json;
use stores::{CancelToken, ErrorCode, IdRange, TransactionMode, VectorStore};

use crate::support::*;

fn range(start: Option<&str>, stop: Option<&str>, limit: usize) -> IdRange {
    let text = |text: Option<&str>| text.map(str::to_owned);
    IdRange { start: text(start), stop: text(stop), resume: None, limit: NonZeroUsize::new(limit) }
}

/// All ids of a range, batch after batch.
fn walked(store: &VectorStore, mut range: IdRange) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let batch = store.ids(&CancelToken::new(), &range).unwrap();
        assert!(range.limit.is_none_or(|limit| batch.ids.len() <= limit.get()));
        found.extend(batch.ids);
        match batch.resume {
            Some(last) => range.resume = Some(last),
            None => return found,
        }
    }
}

#[test]
fn many_items_are_those_of_single_reads_in_the_order_asked_for() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    let long = "x".repeat(2_000);
    let asked = ["b", "none", "a", "", &long, "b"];
    assert!(store.get_many(cancel, &asked).unwrap().iter().all(Option::is_none), "there is no store yet");
    assert_eq!(store.dimension(cancel).unwrap(), 0);
    let second = item_with("b", &[0.0, 1e-45, f32::MAX], json!([1]));
    store.upsert(cancel, &[pinned("a", &[0.1, 2.0, -0.0], 7), second]).unwrap();
    let found = store.get_many(cancel, &asked).unwrap();
    let single = |id: &str| serde_json::to_string(&store.get(cancel, id).ok()).unwrap();
    let texts: Vec<String> = found.iter().map(|item| serde_json::to_string(item).unwrap()).collect();
    assert_eq!(texts, asked.map(single));
    assert_eq!(store.dimension(cancel).unwrap(), 3);

    let (items, numbers) = store.get_arrays(cancel, &asked, 3).unwrap();
    assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["b", "a", "b"]);
    assert_eq!((items[1].centroid_id, items[0].payload.as_ref().unwrap().get()), (7, "[1]"));
    let wanted = [0.0, 1e-45, f32::MAX, 0.1, 2.0, -0.0, 0.0, 1e-45, f32::MAX].map(f32::to_bits);
    assert_eq!(numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>(), wanted);
    assert_eq!(store.get_arrays(cancel, &["a"], 2).unwrap_err().code(), ErrorCode::DimensionMismatch);
    let cancelled = CancelToken::new();
    cancelled.cancel();
    assert!(store.get_many(&cancelled, &["a"]).is_err() && store.get_arrays(&cancelled, &["a"], 3).is_err());
}

#[test]
fn ids_are_walked_in_order_whatever_the_batches_are() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    assert!(walked(&store, IdRange::default()).is_empty());
    let mut names: Vec<String> = (0..2_500).map(|row| format!("{row:04}")).collect();
    names.extend(["ü", "\u{1F600}", "~"].map(str::to_owned));
    let items: Vec<_> = names.iter().map(|name| item(name, &[1.0, 2.0])).collect();
    store.upsert(cancel, &items).unwrap();
    names.sort();
    let deleted = names.remove(7);
    store.delete(cancel, &[deleted]).unwrap();
    for limit in [1, 7, 2_502, 5_000] {
        assert_eq!(walked(&store, range(None, None, limit)), names);
    }
    assert_eq!(walked(&store, IdRange::default()), names);
    assert_eq!(walked(&store, range(Some("0006"), Some("0010"), 2)), ["0006", "0008", "0009"]);
    assert_eq!(walked(&store, range(Some("~"), None, 2)), ["~", "ü", "\u{1F600}"]);
    assert!(walked(&store, range(Some("b"), Some("a"), 2)).is_empty());
    assert!(walked(&store, range(Some(""), Some(""), 2)).is_empty());
    assert_eq!(walked(&store, range(Some(&"0".repeat(3_000)), Some("0001"), 2)), Vec::<String>::new());
}

#[test]
fn in_a_transaction_a_walk_sees_its_snapshot_and_its_own_writes() {
    let fixture = Fixture::new();
    let (store, cancel) = (fixture.store(), &fixture.cancel);
    store.upsert(cancel, &[item("a", &[1.0]), item("c", &[3.0])]).unwrap();
    let transaction = fixture.begin(TransactionMode::ForWriting);
    let inside = fixture.store_in(&transaction);
    inside.upsert(cancel, &[item("b", &[2.0])]).unwrap();
    inside.delete(cancel, &["a"]).unwrap();
    store.upsert(cancel, &[item("d", &[4.0])]).unwrap();
    assert_eq!(walked(&inside, IdRange::default()), ["b", "c"]);
    assert_eq!(walked(&store, IdRange::default()), ["a", "c", "d"]);
    let found = inside.get_many(cancel, &["a", "b", "d"]).unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    // What was walked over counts as read.
    assert_eq!(transaction.commit(cancel).unwrap_err().code(), ErrorCode::Conflict);
}
