//! A memtable against a sorted map, and read while it is written.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Batch, Memtable, Window};
use crate::common::Random;
use crate::{Seq, ValueRef};

/// By key, then by commit.
type Model = BTreeMap<Vec<u8>, BTreeMap<u64, Option<u64>>>;

/// Long shared beginnings, and keys that are the beginning of others, with zeros behind.
fn random_key(random: &mut Random) -> Vec<u8> {
    let mut key = vec![b'k'; random.below(30) as usize];
    key.extend_from_slice(&[0; 3][..random.below(4) as usize]);
    key.extend_from_slice(&(random.below(300) as u16).to_be_bytes());
    key
}

fn number(value: Option<ValueRef<'_>>) -> Option<u64> {
    value.map(|value| match value {
        ValueRef::Inline(bytes) => u64::from_le_bytes(bytes.try_into().unwrap()),
        ValueRef::Blob(_) => panic!("none was written"),
    })
}

fn commit(table: &Memtable, seq: u64, writes: &BTreeMap<Vec<u8>, Option<u64>>) {
    let mut batch = Batch::default();
    for (key, value) in writes {
        let bytes = value.map(u64::to_le_bytes);
        batch.add(key, bytes.as_ref().map(|bytes| ValueRef::Inline(bytes)));
    }
    table.add(Seq(seq), &batch);
}

fn visible(model: &Model, window: Window) -> Vec<(Vec<u8>, Option<u64>)> {
    let newest = |versions: &BTreeMap<u64, Option<u64>>| {
        let (seq, value) = versions.range(..=window.upto.0).next_back()?;
        (*seq > window.after.0).then_some(*value)
    };
    model.iter().filter_map(|(key, versions)| Some((key.clone(), newest(versions)?))).collect()
}

#[test]
fn it_is_a_sorted_map_at_every_commit() {
    let mut random = Random::new(11);
    let (table, mut model) = (Memtable::default(), Model::new());
    let commits = 3000;
    for seq in 1..=commits {
        let writes: BTreeMap<_, _> = (0..1 + random.below(5))
            .map(|_| (random_key(&mut random), (!random.one_in(5)).then_some(seq)))
            .collect();
        commit(&table, seq, &writes);
        for (key, value) in writes {
            model.entry(key).or_default().insert(seq, value);
        }
    }
    for _ in 0..20 {
        let upto = random.below(commits + 2);
        let window = Window { after: Seq(upto.saturating_sub(random.below(commits))), upto: Seq(upto) };
        let expected = visible(&model, window);
        let mut cursor = table.cursor(window);
        cursor.seek_forward(Bound::Unbounded);
        let mut seen = Vec::new();
        while let Some((key, value)) = cursor.current() {
            seen.push((key.to_vec(), number(value)));
            cursor.forward();
        }
        assert_eq!(seen, expected);
        cursor.seek_backward(Bound::Unbounded);
        for (key, value) in expected.iter().rev() {
            assert_eq!(
                cursor.current().map(|(key, value)| (key.to_vec(), number(value))),
                Some((key.clone(), *value))
            );
            cursor.backward();
        }
        assert!(cursor.current().is_none());
        for _ in 0..50 {
            let key = random_key(&mut random);
            let same = expected.binary_search_by(|(other, _)| other.cmp(&key)).ok().map(|at| expected[at].1);
            assert_eq!(table.find(&key, window).map(number), same);
            let last = model.get(&key).and_then(|versions| versions.keys().next_back()).map(|seq| Seq(*seq));
            assert_eq!(table.newest_of(&key), last);
            cursor.seek_forward(Bound::Excluded(&key));
            let next = expected.iter().find(|(other, _)| *other > key).map(|(other, _)| other.as_slice());
            assert_eq!(cursor.current().map(|(key, _)| key), next);
            cursor.seek_backward(Bound::Included(&key));
            let last =
                expected.iter().rev().find(|(other, _)| *other <= key).map(|(other, _)| other.as_slice());
            assert_eq!(cursor.current().map(|(key, _)| key), last);
        }
    }
}

#[test]
fn readers_see_every_commit_that_was_told_whole_while_more_are_added() {
    let table = Memtable::default();
    let told = AtomicU64::new(0);
    let (keys, commits) = (50, 3000);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut random = Random::new(5);
                while told.load(Ordering::Acquire) < commits {
                    let upto = told.load(Ordering::Acquire);
                    let window = Window { after: Seq(0), upto: Seq(upto) };
                    let mut cursor = table.cursor(window);
                    cursor.seek_forward(Bound::Unbounded);
                    let mut sum = 0;
                    while let Some((_, value)) = cursor.current() {
                        sum += number(value).unwrap();
                        cursor.forward();
                    }
                    // Each commit adds 1 to one key.
                    assert_eq!(sum, upto, "at {upto}");
                    let key = random.below(keys).to_be_bytes();
                    assert_eq!(
                        table.find(&key, window).is_some(),
                        first_commit_of(upto, &key, keys).is_some()
                    );
                }
            });
        }
        let mut sums = BTreeMap::new();
        for seq in 1..=commits {
            let key = (seq * 7 % keys).to_be_bytes().to_vec();
            let sum = sums.entry(key.clone()).and_modify(|sum| *sum += 1).or_insert(1);
            commit(&table, seq, &BTreeMap::from([(key, Some(*sum))]));
            told.store(seq, Ordering::Release);
        }
    });
}

/// The commit that first wrote a key, if that is not after `upto`.
fn first_commit_of(upto: u64, key: &[u8; 8], keys: u64) -> Option<u64> {
    (1..=upto.min(keys)).find(|seq| (seq * 7 % keys).to_be_bytes() == *key)
}
