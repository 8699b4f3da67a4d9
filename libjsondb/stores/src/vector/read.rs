//! Rows out: one, many, and which ids there are.
//!
//! Ids lie in order of their bytes, which is that of their characters.

use std::num::NonZeroUsize;
use std::ops::Bound;

use engine::{CancelToken, Direction, Transaction};

use super::entry::{Entry, payload};
use super::heap::Heap;
use super::keys::{self, KeyRange, damaged};
use super::shape::Shape;
use super::types::{IdBatch, IdRange};
use super::write::{find_item, is_valid_id};
use super::{VectorItem, VectorStore};
use crate::{Error, ErrorCode, Result, walk};

/// Ids of a batch when no limit is given.
const IDS_AT_ONCE: usize = 1000;

impl VectorStore {
    /// Numbers per vector; 0 before the first row.
    pub fn dimension(&self, cancel: &CancelToken) -> Result<usize> {
        self.read(cancel, |t| Ok(self.shape(t)?.map_or(0, |shape| shape.dimension())))
    }

    /// The item `id`. A row that the store placed itself is given with centroid id 0.
    pub fn get(&self, cancel: &CancelToken, id: &str) -> Result<VectorItem> {
        let item = self.get_many(cancel, &[id])?.pop().flatten();
        item.ok_or_else(|| {
            Error::new(ErrorCode::ItemNotFound, format!("item not found: {id}"))
                .with_detail("store", self.name())
                .with_detail("key", id)
        })
    }

    /// The items of ids as [`VectorStore::get`] gives them, in their order, None for one that is not there. Of one snapshot.
    pub fn get_many(&self, cancel: &CancelToken, ids: &[impl AsRef<str>]) -> Result<Vec<Option<VectorItem>>> {
        self.read(cancel, |t| {
            let Some(shape) = self.shape(t)? else { return Ok(ids.iter().map(|_| None).collect()) };
            let mut reader = Reader::new(&shape);
            let item = |id| {
                cancel.check()?;
                let mut vector = Vec::with_capacity(shape.dimension());
                Ok(reader.item(t, id, &mut vector)?.map(|item| VectorItem { vector, ..item }))
            };
            ids.iter().map(AsRef::as_ref).map(item).collect()
        })
    }

    /// The items of those ids that are there, in their order, their vectors not in them but one after the other. Fails unless vectors
    /// have `dimension` numbers.
    pub fn get_arrays(
        &self,
        cancel: &CancelToken,
        ids: &[impl AsRef<str>],
        dimension: usize,
    ) -> Result<(Vec<VectorItem>, Vec<f32>)> {
        self.read(cancel, |t| {
            let (mut items, mut numbers) = (Vec::new(), Vec::new());
            let Some(shape) = self.shape(t)? else { return Ok((items, numbers)) };
            if shape.dimension() != dimension {
                return Err(self.dimension_mismatch(shape.dimension(), dimension, "the array"));
            }
            let mut reader = Reader::new(&shape);
            for id in ids.iter().map(AsRef::as_ref) {
                cancel.check()?;
                items.extend(reader.item(t, id, &mut numbers)?);
            }
            Ok((items, numbers))
        })
    }

    /// The next ids of a range, in order.
    pub fn ids(&self, cancel: &CancelToken, range: &IdRange) -> Result<IdBatch> {
        let limit = range.limit.map_or(IDS_AT_ONCE, NonZeroUsize::get);
        let all = KeyRange::all(b'i');
        let key = |id: &Option<String>| id.as_deref().map(keys::item);
        let (start, stop, after) = (key(&range.start), key(&range.stop), key(&range.resume));
        let first = start.as_ref().unwrap_or(&all.start);
        let first = after.as_ref().map_or(Bound::Included(first.as_slice()), |last| Bound::Excluded(last));
        let end = Bound::Excluded(stop.as_ref().unwrap_or(&all.end).as_slice());
        self.read(cancel, |t| {
            let mut batch = IdBatch::default();
            let Some(shape) = self.shape(t)? else { return Ok(batch) };
            walk::visit(t, shape.store, (first, end), Direction::Forward, |key, _| {
                cancel.check()?;
                let id = std::str::from_utf8(key.get(1..).unwrap_or_default());
                batch.ids.push(id.map_err(|_| damaged("an item id is not UTF-8"))?.to_owned());
                Ok(batch.ids.len() < limit)
            })?;
            batch.resume = batch.ids.last().filter(|_| batch.ids.len() >= limit).cloned();
            Ok(batch)
        })
    }
}

/// Reads items of a store.
struct Reader<'a> {
    shape: &'a Shape,
    heap: Heap,
}

impl<'a> Reader<'a> {
    fn new(shape: &'a Shape) -> Self {
        Self { shape, heap: Heap::new(shape.dimension()) }
    }

    /// An item, its vector appended to `numbers`; None when it is not there.
    fn item(&mut self, t: &mut Transaction, id: &str, numbers: &mut Vec<f32>) -> Result<Option<VectorItem>> {
        let store = self.shape.store;
        let row = if is_valid_id(id) { find_item(t, store, id)? } else { None };
        let Some(row) = row else { return Ok(None) };
        let entry = Entry::load(t, store, row)?.ok_or_else(|| damaged("an item has no entry"))?;
        let stored = self.heap.read(t, store, row)?.ok_or_else(|| damaged("an item has no vector"))?;
        numbers.extend(stored.numbers());
        let centroid_id =
            i64::try_from(entry.centroid_id).map_err(|_| damaged("a centroid_id is out of range"))?;
        let payload = payload(entry.payload)?;
        Ok(Some(VectorItem { id: entry.id, vector: Vec::new(), payload, centroid_id }))
    }
}
