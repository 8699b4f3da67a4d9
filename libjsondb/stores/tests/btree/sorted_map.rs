//! What a B-tree store is: a sorted map with a cursor. A transaction of the model is a copy of it, and a note of what it read and wrote.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stores::{Move, WriteOp};

/// Key, and the call that added it: among equals the newest comes first. In a unique store every item has birth 0.
pub type Id = (u8, Reverse<usize>);

/// Values are the numbers of the calls that wrote them.
pub type Items = BTreeMap<Id, usize>;

/// Where the cursor is: at an item, or where it was before it was removed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Unset,
    At(Id),
    Before,
    Past,
}

/// A store as one transaction sees it.
pub struct SortedMap {
    is_unique: bool,
    pub items: Items,
    place: Place,
    /// What it wrote or removed.
    pub written: BTreeSet<Id>,
    /// Keys it looked up.
    pub looked_up: BTreeSet<u8>,
    /// It went over items, so what it read is more than keys.
    pub walked: bool,
}

impl SortedMap {
    pub fn new(is_unique: bool, items: Items) -> Self {
        let (written, looked_up) = Default::default();
        Self { is_unique, items, place: Place::Unset, written, looked_up, walked: false }
    }

    /// Value of the current item.
    pub fn current(&self) -> Option<usize> {
        self.current_id().and_then(|id| self.items.get(&id).copied())
    }

    fn current_id(&self) -> Option<Id> {
        let Place::At(id) = self.place else { return None };
        self.items.contains_key(&id).then_some(id)
    }

    fn first_equal(&self, key: u8) -> Option<Id> {
        self.items.keys().find(|id| id.0 == key).copied()
    }

    /// Of equal items the one at the cursor, else the newest.
    fn chosen(&mut self, key: u8) -> Option<Id> {
        self.looked_up.insert(key);
        self.current_id().filter(|id| id.0 == key).or_else(|| self.first_equal(key))
    }

    fn put(&mut self, id: Id, value: usize) -> bool {
        self.written.insert(id);
        self.items.insert(id, value);
        true
    }

    pub fn write(&mut self, op: WriteOp, key: u8, value: usize) -> bool {
        if op == WriteOp::Add && !self.is_unique {
            return self.put((key, Reverse(value)), value);
        }
        match (self.chosen(key), op) {
            (None, WriteOp::Update) => false,
            (None, _) => self.put((key, Reverse(if self.is_unique { 0 } else { value })), value),
            (Some(id), WriteOp::Update | WriteOp::Upsert) => self.put(id, value),
            (Some(id), _) => {
                self.place = Place::At(id);
                false
            }
        }
    }

    pub fn remove(&mut self, key: u8) -> bool {
        let chosen = self.chosen(key);
        self.remove_id(chosen)
    }

    pub fn remove_current(&mut self) -> bool {
        self.remove_id(self.current_id())
    }

    pub fn update_current(&mut self, value: usize) -> bool {
        self.current_id().is_some_and(|id| self.put(id, value))
    }

    fn remove_id(&mut self, id: Option<Id>) -> bool {
        self.written.extend(id);
        id.is_some_and(|id| self.items.remove(&id).is_some())
    }

    pub fn find(&mut self, key: u8) -> bool {
        self.looked_up.insert(key);
        let found = self.first_equal(key);
        self.walked |= found.is_none();
        let greater = self.items.keys().find(|id| id.0 > key).or_else(|| self.items.keys().next_back());
        self.place = found.or(greater.copied()).map_or(Place::Unset, Place::At);
        found.is_some()
    }

    /// Items a walk meets, the current one first.
    fn ahead(&self, backward: bool) -> Vec<Id> {
        let ids = self.items.keys().copied();
        match (self.place, backward) {
            (Place::Past, false) | (Place::Before, true) => Vec::new(),
            (Place::At(at), false) => ids.filter(|id| *id >= at).collect(),
            (Place::At(at), true) => ids.rev().filter(|id| *id <= at).collect(),
            (_, false) => ids.collect(),
            (_, true) => ids.rev().collect(),
        }
    }

    fn walk_to(&mut self, next: Option<&Id>, backward: bool) {
        self.walked = true;
        self.place = match next {
            Some(id) => Place::At(*id),
            None if self.items.is_empty() && self.place == Place::Unset => Place::Unset,
            None if backward => Place::Before,
            None => Place::Past,
        };
    }

    pub fn step(&mut self, to: Move) -> bool {
        let backward = matches!(to, Move::Last | Move::Previous);
        if matches!(to, Move::First | Move::Last) {
            self.place = Place::Unset;
        }
        let skip = usize::from(self.current_id().is_some());
        let ahead = self.ahead(backward);
        self.walk_to(ahead.get(skip), backward);
        ahead.len() > skip
    }

    /// Values of a page.
    pub fn page(&mut self, skip: usize, take: usize, backward: bool) -> Vec<usize> {
        let ahead = self.ahead(backward);
        self.walk_to(ahead.get(skip + take), backward);
        ahead.iter().skip(skip).take(take).map(|id| self.items[id]).collect()
    }

    /// Keys and values with `start <= key < stop`.
    pub fn range(&mut self, start: u8, stop: u8, reverse: bool) -> Vec<usize> {
        self.walked = true;
        let inside = self.items.iter().filter(|(id, _)| (start..stop).contains(&id.0));
        let values = inside.map(|(_, value)| *value);
        if reverse { values.rev().collect() } else { values.collect() }
    }
}
