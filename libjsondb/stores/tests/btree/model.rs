//! Random calls against a plain list: the same answers, the same items, the same place.

use std::cmp::Ordering;

use proptest::prelude::*;
use stores::{BtreeOptions, Move, Paging, RangeQuery, WriteOp};

use crate::common;
use crate::fixture::{Fixture, Store, duplicates, keys_of, raw, token, unique, value_of};

#[derive(Clone, Debug)]
enum Call {
    Write(WriteOp, u8),
    Remove(u8),
    Find(u8),
    Step(Move),
    UpdateCurrent,
    RemoveCurrent,
    Page { offset: i64, size: i64, direction: i64 },
    Range { start: u8, stop: u8, reverse: bool, limit: usize },
    Reopen,
}

/// Where the list's cursor is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Unset,
    /// At the item with this value.
    At(usize),
    /// Where an item with this key was removed: before the item at this index.
    Gap {
        key: u8,
        index: usize,
    },
    Before,
    Past,
}

/// A store as a list in key order. Values are the numbers of the calls that wrote them, so no two are equal.
struct Model {
    is_unique: bool,
    items: Vec<(u8, usize)>,
    place: Place,
}

impl Model {
    fn position(&self) -> Option<usize> {
        let Place::At(value) = self.place else { return None };
        self.items.iter().position(|item| item.1 == value)
    }

    fn first_at_least(&self, key: u8) -> usize {
        self.items.iter().position(|item| item.0 >= key).unwrap_or(self.items.len())
    }

    fn first_equal(&self, key: u8) -> Option<usize> {
        self.items.iter().position(|item| item.0 == key)
    }

    fn chosen(&self, key: u8) -> Option<usize> {
        self.position().filter(|&index| self.items[index].0 == key).or_else(|| self.first_equal(key))
    }

    fn set_value(&mut self, index: usize, value: usize) {
        if self.place == Place::At(self.items[index].1) {
            self.place = Place::At(value);
        }
        self.items[index].1 = value;
    }

    fn write(&mut self, op: WriteOp, key: u8, value: usize) -> bool {
        match (self.chosen(key), op) {
            (None, WriteOp::Update) => false,
            (Some(index), WriteOp::Update | WriteOp::Upsert) => {
                self.set_value(index, value);
                true
            }
            (Some(index), WriteOp::Add | WriteOp::AddIfNotExists)
                if self.is_unique || op == WriteOp::AddIfNotExists =>
            {
                self.place = Place::At(self.items[index].1);
                false
            }
            _ => {
                self.insert_at(self.first_at_least(key), key, value);
                true
            }
        }
    }

    fn insert_at(&mut self, at: usize, key: u8, value: usize) {
        self.items.insert(at, (key, value));
        if let Place::Gap { key: gone, index } = self.place {
            self.place = match at.cmp(&index) {
                _ if self.is_unique && key == gone => Place::At(value),
                Ordering::Greater => self.place,
                // Among equals the newest comes first.
                Ordering::Equal if key > gone => self.place,
                _ => Place::Gap { key: gone, index: index + 1 },
            };
        }
    }

    fn remove_at(&mut self, index: Option<usize>) -> bool {
        if let Some(at) = index {
            let (key, value) = self.items.remove(at);
            self.place = match self.place {
                Place::At(current) if current == value => Place::Gap { key, index: at },
                Place::Gap { key, index } if at < index => Place::Gap { key, index: index - 1 },
                place => place,
            };
        }
        index.is_some()
    }

    fn place_at(&self, index: usize) -> Place {
        self.items.get(index).map_or(Place::Unset, |item| Place::At(item.1))
    }

    fn find(&mut self, key: u8) -> bool {
        let found = self.first_equal(key);
        let near = self.first_at_least(key).min(self.items.len().saturating_sub(1));
        self.place = self.place_at(found.unwrap_or(near));
        found.is_some()
    }

    /// Items a walk meets, as values, the current one first.
    fn ahead(&self, backward: bool) -> Vec<usize> {
        let values = self.items.iter().map(|item| item.1);
        match (self.place, backward) {
            (Place::Past, false) | (Place::Before, true) => Vec::new(),
            (Place::Gap { index, .. }, false) => values.skip(index).collect(),
            (Place::Gap { index, .. }, true) => values.take(index).rev().collect(),
            (_, false) => values.skip(self.position().unwrap_or(0)).collect(),
            (_, true) => values.take(self.position().map_or(usize::MAX, |index| index + 1)).rev().collect(),
        }
    }

    fn walk_to(&mut self, next: Option<&usize>, backward: bool) {
        self.place = match next {
            Some(&value) => Place::At(value),
            None if self.items.is_empty() && self.place == Place::Unset => Place::Unset,
            None if backward => Place::Before,
            None => Place::Past,
        };
    }

    fn step(&mut self, to: Move) -> bool {
        let backward = matches!(to, Move::Last | Move::Previous);
        if matches!(to, Move::First | Move::Last) {
            self.place = Place::Unset;
        }
        let skip = usize::from(self.position().is_some());
        let ahead = self.ahead(backward);
        self.walk_to(ahead.get(skip), backward);
        ahead.len() > skip
    }

    fn page(&mut self, skip: usize, take: usize, backward: bool) -> Vec<usize> {
        let ahead = self.ahead(backward);
        self.walk_to(ahead.get(skip + take), backward);
        ahead.into_iter().skip(skip).take(take).collect()
    }
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let key = 0u8..8;
    let op = prop_oneof![
        3 => Just(WriteOp::Add),
        1 => Just(WriteOp::AddIfNotExists),
        1 => Just(WriteOp::Update),
        1 => Just(WriteOp::Upsert),
    ];
    let step = prop_oneof![Just(Move::First), Just(Move::Last), Just(Move::Next), Just(Move::Previous)];
    let call = prop_oneof![
        6 => (op, key.clone()).prop_map(|(op, key)| Call::Write(op, key)),
        2 => key.clone().prop_map(Call::Remove),
        2 => key.clone().prop_map(Call::Find),
        4 => step.prop_map(Call::Step),
        1 => Just(Call::UpdateCurrent),
        1 => Just(Call::RemoveCurrent),
        3 => (0..3i64, 1..4i64, 0..2i64)
            .prop_map(|(offset, size, direction)| Call::Page { offset, size, direction }),
        2 => (key.clone(), key, any::<bool>(), 1..4usize)
            .prop_map(|(start, stop, reverse, limit)| Call::Range { start, stop, reverse, limit }),
        1 => Just(Call::Reopen),
    ];
    prop::collection::vec(call, 1..60)
}

fn run(options: BtreeOptions, calls: &[Call]) {
    let fixture = Fixture::new();
    let mut transaction = fixture.write();
    let mut store = Store::create(&transaction, options.clone());
    let mut model = Model { is_unique: options.is_unique, items: Vec::new(), place: Place::Unset };
    for (number, call) in calls.iter().enumerate() {
        let value = number.to_string();
        match *call {
            Call::Write(op, key) => {
                let answer = store.write(op, &[(&key.to_string(), &value)]);
                assert_eq!(answer, model.write(op, key, number));
            }
            Call::Remove(key) => {
                let expected = model.chosen(key);
                assert_eq!(store.remove(&[&key.to_string()]), model.remove_at(expected));
            }
            Call::Find(key) => assert_eq!(store.find(&key.to_string()), model.find(key)),
            Call::Step(to) => assert_eq!(store.step(to), model.step(to)),
            Call::UpdateCurrent => {
                let at = model.position();
                assert_eq!(store.0.update_current(&token(), &raw(&value)).unwrap(), at.is_some());
                at.into_iter().for_each(|index| model.set_value(index, number));
            }
            Call::RemoveCurrent => {
                let at = model.position();
                assert_eq!(store.0.remove_current(&token()).unwrap(), model.remove_at(at));
            }
            Call::Page { offset, size, direction } => {
                let paging = Paging { page_offset: offset, page_size: size, fetch_count: 0, direction };
                let page = store.try_page(paging).unwrap();
                let values: Vec<usize> = page.iter().map(|item| value_of(item).parse().unwrap()).collect();
                assert_eq!(values, model.page((offset * size) as usize, size as usize, direction == 1));
            }
            Call::Range { start, stop, reverse, limit } => {
                check_range(&store, &model, start, stop, reverse, limit)
            }
            Call::Reopen => {
                transaction.commit(&token()).unwrap();
                transaction = fixture.write();
                store = Store::open(&transaction, "model");
                model.place = Place::Unset;
            }
        }
        let current = store.current().map(|item| value_of(&item).parse::<usize>().unwrap());
        assert_eq!(current, model.position().map(|index| model.items[index].1), "after {call:?}");
        assert_eq!(store.count(), model.items.len() as u64);
    }
}

fn check_range(store: &Store, model: &Model, start: u8, stop: u8, reverse: bool, limit: usize) {
    let (from, to) = (raw(&start.to_string()), raw(&stop.to_string()));
    let mut found = Vec::new();
    let mut resume = None;
    loop {
        let query = RangeQuery { start: Some(&from), stop: Some(&to), reverse, resume };
        let batch = store.0.range(&token(), &query, limit, false).unwrap();
        found.extend(keys_of(&batch.items));
        resume = batch.resume;
        if resume.is_none() {
            break;
        }
    }
    let mut expected: Vec<String> = model
        .items
        .iter()
        .filter(|item| (start..stop).contains(&item.0))
        .map(|item| item.0.to_string())
        .collect();
    if reverse {
        expected.reverse();
    }
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..common::cases(100) })]

    #[test]
    fn a_unique_store_is_a_sorted_list(calls in calls()) {
        run(unique("model"), &calls);
    }

    #[test]
    fn a_store_with_duplicates_is_a_sorted_list_newest_first(calls in calls()) {
        run(duplicates("model"), &calls);
    }
}
