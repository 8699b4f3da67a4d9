//! The engine against a sorted map, under random operations with tiny memtables: checkpoints, garbage collection and reopening
//! happen all the time.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::ops::Bound;

use engine::{Database, Direction, Mode, Options, Placement, StoreId, Transaction};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// One transaction: writes (key, length of the value or None to delete, eager), committed or dropped.
    Transaction(Vec<(u16, Option<u32>, bool)>, bool),
    Checkpoint,
    Reopen,
    /// A reader that stays open for some steps.
    HoldReader,
    Check,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![
        5 => (0u32..200).prop_map(Some),
        2 => (3000u32..6000).prop_map(Some),
        1 => (60_000u32..140_000).prop_map(Some),
        3 => Just(None),
    ];
    let write = (0u16..300, len, any::<bool>());
    let step = prop_oneof![
        8 => (prop::collection::vec(write, 1..40), prop::bool::weighted(0.9))
            .prop_map(|(writes, commit)| Step::Transaction(writes, commit)),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::HoldReader),
        2 => Just(Step::Check),
    ];
    prop::collection::vec(step, 1..40)
}

fn value(key: u16, len: u32, salt: usize) -> Vec<u8> {
    (0..len).map(|index| (index as usize * 31 + usize::from(key) + salt) as u8).collect()
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn check(transaction: &mut Transaction, store: StoreId, model: &Model) {
    let mut forward = Vec::new();
    let all = (Bound::Unbounded, Bound::Unbounded);
    for entry in transaction.scan(store, all.0, all.1, Direction::Forward, usize::MAX).unwrap() {
        let bytes = transaction.load(&entry.value).unwrap();
        assert_eq!(model.get(&entry.key), Some(&bytes), "key {:?}", entry.key);
        forward.push(entry.key);
    }
    assert_eq!(forward, model.keys().cloned().collect::<Vec<_>>());
    let backward = transaction.scan(store, all.0, all.1, Direction::Backward, usize::MAX).unwrap();
    assert!(backward.iter().map(|entry| &entry.key).eq(model.keys().rev()));
    for key in (0u16..300).step_by(7) {
        let key = key.to_be_bytes();
        let found = transaction.get(store, &key).unwrap().map(|value| transaction.load(&value).unwrap());
        assert_eq!(found.as_ref(), model.get(&key[..]));
        let start = Bound::Excluded(&key[..]);
        let next = transaction.scan(store, start, Bound::Unbounded, Direction::Forward, 1).unwrap();
        let expected = model.range::<[u8], _>((start, Bound::Unbounded)).next();
        assert_eq!(next.first().map(|entry| &entry.key), expected.map(|(key, _)| key));
        let previous = transaction.scan(store, Bound::Unbounded, start, Direction::Backward, 1).unwrap();
        let expected = model.range::<[u8], _>((Bound::Unbounded, start)).next_back();
        assert_eq!(previous.first().map(|entry| &entry.key), expected.map(|(key, _)| key));
    }
    assert_eq!(transaction.counter(store, b"n").unwrap(), model.len() as i64);
}

fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        memtable_bytes: 32 << 10,
        page_cache_bytes: 256 << 10,
        write_set_bytes: 16 << 10,
        ..Options::default()
    };
    let mut database = Database::open(folder.path(), &options).unwrap();
    let mut model = Model::new();
    let mut held: Vec<(Transaction, Model)> = Vec::new();
    let store = {
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("model", b"").unwrap();
        transaction.commit().unwrap();
        store
    };
    for (salt, step) in steps.into_iter().enumerate() {
        match step {
            Step::Transaction(writes, commit) => {
                let mut transaction = database.begin(Mode::Write).unwrap();
                let mut next = model.clone();
                for (key, len, eager) in writes {
                    let bytes = key.to_be_bytes();
                    match len {
                        Some(len) => {
                            let placement = if eager { Placement::Eager } else { Placement::Auto };
                            let value = value(key, len, salt);
                            transaction.put(store, &bytes, &value, placement).unwrap();
                            next.insert(bytes.to_vec(), value);
                        }
                        None => {
                            transaction.delete(store, &bytes).unwrap();
                            next.remove(&bytes[..]);
                        }
                    }
                }
                let delta = next.len() as i64 - model.len() as i64;
                transaction.add_to_counter(store, b"n", delta).unwrap();
                check(&mut transaction, store, &next);
                if commit {
                    transaction.commit().unwrap();
                    database.verify().unwrap();
                    model = next;
                }
            }
            Step::Checkpoint => {
                database.checkpoint().unwrap();
                database.verify().unwrap();
            }
            Step::Reopen => {
                held.clear();
                database.close().unwrap();
                database = Database::open(folder.path(), &options).unwrap();
            }
            Step::HoldReader => held.push((database.begin(Mode::Read).unwrap(), model.clone())),
            Step::Check => {
                check(&mut database.begin(Mode::Read).unwrap(), store, &model);
                for (transaction, model) in &mut held {
                    check(transaction, store, model);
                }
                if held.len() > 2 {
                    held.remove(0);
                }
            }
        }
    }
    for (transaction, model) in &mut held {
        check(transaction, store, model);
    }
    check(&mut database.begin(Mode::Read).unwrap(), store, &model);
    drop(held);
    database.close().unwrap();
    let database = Database::open(folder.path(), &options).unwrap();
    check(&mut database.begin(Mode::Read).unwrap(), store, &model);
    database.close().unwrap();
}

proptest! {
    #![proptest_config(common::cases(64))]

    #[test]
    fn the_engine_is_a_sorted_map(steps in steps()) {
        run(steps);
    }
}
