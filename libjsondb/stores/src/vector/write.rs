//! Rows in, and rows gone: upsert, delete.
//!
//! A writer touches only keys of its own rows and of the item ids it was given, so writers of different items never conflict, whatever the
//! index does meanwhile.

use std::collections::HashMap;
use std::ops::Bound;

use engine::{CancelToken, Direction, Placement, StoreId, Transaction};
use serde_json::value::RawValue;

use super::counters::Counts;
use super::entry::{Entry, parts};
use super::heap::Heap;
use super::keys::{self, ID_BYTES_MAX, METADATA, RowId, damaged};
use super::list::{Coded, List};
use super::shape::Shape;
use super::state::Config;
use super::types::Metric;
use super::{UsageMode, VectorItem, VectorStore};
use crate::{Error, ErrorCode, Result};

/// Rows written between two looks at the cancel token.
const ROWS_PER_CHECK: usize = 256;

/// `content_size` of payloads that go to disk at once.
const CONTENT_BIG: i32 = 2;

/// An item to upsert, wherever its parts lie.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    id: &'a str,
    vector: &'a [f32],
    payload: Option<&'a RawValue>,
    centroid_id: i64,
}

impl<'a> From<&'a VectorItem> for Row<'a> {
    fn from(item: &'a VectorItem) -> Self {
        Row {
            id: &item.id,
            vector: &item.vector,
            payload: item.payload.as_deref(),
            centroid_id: item.centroid_id,
        }
    }
}

/// The rows of [`VectorStore::upsert_arrays`].
pub(super) fn rows_of_arrays<'a>(
    ids: &'a [String],
    dimension: usize,
    vectors: &'a [f32],
    payloads: Option<&'a [Box<RawValue>]>,
) -> Result<Vec<Row<'a>>> {
    if dimension == 0 && !ids.is_empty() {
        return Err(Error::new(ErrorCode::Validation, "the vectors are empty"));
    }
    if ids.len().checked_mul(dimension) != Some(vectors.len()) {
        let message = format!(
            "{} ids of dimension {dimension} need another number of numbers than {}",
            ids.len(),
            vectors.len()
        );
        return Err(Error::new(ErrorCode::Validation, message));
    }
    if let Some(payloads) = payloads.filter(|payloads| payloads.len() != ids.len()) {
        let message = format!("{} ids, but {} payloads", ids.len(), payloads.len());
        return Err(Error::new(ErrorCode::Validation, message));
    }
    let vectors = vectors.chunks_exact(dimension.max(1));
    let row = |(index, (id, vector)): (usize, (&'a String, &'a [f32]))| {
        let payload = payloads.and_then(|payloads| payloads.get(index)).map(|payload| &**payload);
        Row { id, vector, payload, centroid_id: 0 }
    };
    Ok(ids.iter().zip(vectors).enumerate().map(row).collect())
}

impl VectorStore {
    /// Removes the items with these ids; those that don't exist are passed over.
    pub fn delete(&self, cancel: &CancelToken, ids: &[impl AsRef<str>]) -> Result<()> {
        let remove = |t: &mut Transaction| {
            let Some(shape) = self.shape(t)? else { return Ok(()) };
            let mut counts = Counts::default();
            for (index, id) in ids.iter().map(AsRef::as_ref).enumerate() {
                if index % ROWS_PER_CHECK == 0 {
                    cancel.check()?;
                }
                let row = if is_valid_id(id) { find_item(t, shape.store, id)? } else { None };
                if let Some(row) = row {
                    t.delete(shape.store, &keys::item(id))?;
                    retire(t, shape.store, row, &mut counts)?;
                    counts.live -= 1;
                }
            }
            counts.store(t, shape.store)
        };
        self.write(cancel, |_| Ok(()), remove)
    }

    pub(super) fn write_rows(&self, cancel: &CancelToken, rows: &[Row<'_>]) -> Result<()> {
        rows.iter().enumerate().try_for_each(|(index, row)| self.check(index, row))?;
        let dimension = rows.first().map_or(0, |row| row.vector.len());
        let check = |found: Option<usize>| {
            let expected = found.unwrap_or(dimension);
            match rows.iter().find(|row| row.vector.len() != expected) {
                Some(row) => Err(self.dimension_mismatch(expected, row.vector.len(), row.id)),
                None => Ok(()),
            }
        };
        check(None)?;
        let rows = last_of_each_id(rows);
        let check = |t: &mut Transaction| check(self.shape(t)?.map(|shape| shape.dimension()));
        self.write(cancel, check, |t| {
            if rows.is_empty() {
                return Ok(());
            }
            let store = t.ensure_store(&self.engine_name, METADATA)?;
            if Config::read(t, store)?.is_none() {
                let config = Config {
                    dimension: dimension as u32,
                    metric: self.options.metric.map_or(Ok(Metric::default()), Metric::from_number)?,
                    usage_mode: UsageMode::from_number(self.options.usage_mode)?,
                    id: uuid::Uuid::new_v4().as_u64_pair().1,
                };
                config.write(t, store)?;
            }
            let shape = self.shape(t)?.ok_or_else(|| damaged("its configuration is gone"))?;
            rows.iter().try_for_each(|row| shape.check_length(row.vector, row.id))?;
            self.put_rows(t, &shape, &rows, cancel)
        })
    }

    fn check(&self, index: usize, row: &Row<'_>) -> Result<()> {
        let invalid = |what: String| {
            let message = format!("item {index} ({:?}): {what}", shortened(row.id));
            Err(Error::new(ErrorCode::Validation, message).with_detail("store", self.name()))
        };
        if !is_valid_id(row.id) {
            return invalid(format!("an id has 1 to {ID_BYTES_MAX} bytes, this one has {}", row.id.len()));
        }
        if row.vector.is_empty() {
            return invalid("the vector is empty".to_owned());
        }
        if u32::try_from(row.vector.len()).is_err() {
            return invalid("the vector is too long".to_owned());
        }
        match row.vector.iter().position(|number| !number.is_finite()) {
            Some(position) => {
                invalid(format!("the vector holds {} at position {position}", row.vector[position]))
            }
            None => Ok(()),
        }
    }

    pub(super) fn dimension_mismatch(&self, expected: usize, found: usize, what: &str) -> Error {
        let message = format!("vectors here have {expected} numbers, {:?} has {found}", shortened(what));
        Error::new(ErrorCode::DimensionMismatch, message)
            .with_detail("store", self.name())
            .with_detail("expected", expected)
            .with_detail("found", found)
    }

    fn put_rows(
        &self,
        t: &mut Transaction,
        shape: &Shape,
        rows: &[Row<'_>],
        cancel: &CancelToken,
    ) -> Result<()> {
        let placement =
            if self.options.content_size == CONTENT_BIG { Placement::Eager } else { Placement::Auto };
        let (store, heap) = (shape.store, Heap::new(shape.dimension()));
        let per_block = heap.rows_per_block();
        let first = unused_blocks(t, store, rows.len().div_ceil(per_block) as u64)?;
        let mut counts = Counts::default();
        let mut coder = Coder::new(shape);
        for (block, rows) in (first..).zip(rows.chunks(per_block)) {
            cancel.check()?;
            heap.put(t, store, block, rows.iter().map(|row| row.vector))?;
            let mut codes = List::new(shape.words());
            for (slot, row) in rows.iter().enumerate() {
                let address = RowId::new(block, slot);
                coder.code(row.vector, address, &mut codes);
                let centroid_id = u64::try_from(row.centroid_id).unwrap_or(0);
                match find_item(t, store, row.id)? {
                    Some(old) => retire(t, store, old, &mut counts)?,
                    None => counts.live += 1,
                }
                t.put(store, &keys::item(row.id), &address.0.to_be_bytes(), Placement::Auto)?;
                let payload = row.payload.map_or("null", RawValue::get).trim_ascii();
                let payload = if payload == "null" { "" } else { payload };
                let entry = Entry::encode(row.id, centroid_id, payload.as_bytes())?;
                t.put(store, &keys::entry(address), &entry, placement)?;
                counts.explicit(centroid_id, 1);
            }
            t.put(store, &keys::fresh(block), &codes.pack(0..codes.len()), Placement::Auto)?;
        }
        counts.added += rows.len() as i64;
        counts.fresh += rows.len() as i64;
        counts.store(t, store)
    }
}

/// Codes of rows that are in no cluster: relative to zero.
struct Coder<'a> {
    shape: &'a Shape,
    rotated: Vec<f32>,
    origin: Vec<f32>,
    code: Vec<u64>,
}

impl<'a> Coder<'a> {
    fn new(shape: &'a Shape) -> Self {
        let padded = shape.rotation.padded();
        Self { shape, rotated: vec![0.0; padded], origin: vec![0.0; padded], code: vec![0; shape.words()] }
    }

    fn code(&mut self, vector: &[f32], row: RowId, codes: &mut List) {
        let prepared = self.shape.prepared(vector);
        self.shape.rotation.apply(&prepared, &mut self.rotated);
        let factors = self.shape.encode(&self.rotated, &self.origin, &mut self.code);
        codes.push(Coded { row, is_primary: true, factors, code: &self.code });
    }
}

/// The first of so many block numbers that no row has.
fn unused_blocks(t: &mut Transaction, store: StoreId, count: u64) -> Result<u64> {
    loop {
        let first = keys::new_block();
        let (start, end) = (keys::vectors(first), keys::vectors(first + count));
        let bounds = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
        if t.scan(store, bounds.0, bounds.1, Direction::Forward, 1)?.is_empty() {
            return Ok(first);
        }
    }
}

/// Takes a row out of sight; what is left of it is removed later.
fn retire(t: &mut Transaction, store: StoreId, row: RowId, counts: &mut Counts) -> Result<()> {
    let key = keys::entry(row);
    let centroid_id = t.get_with(store, &key, |entry| match entry {
        Some(bytes) => Ok(parts(bytes)?.1),
        None => Err(damaged("an item has no entry")),
    })??;
    counts.explicit(centroid_id, -1);
    t.delete(store, &key)?;
    t.put(store, &keys::dead(row), &[], Placement::Auto)?;
    counts.dead += 1;
    Ok(())
}

/// The row of an item, if it exists.
pub(super) fn find_item(t: &mut Transaction, store: StoreId, id: &str) -> Result<Option<RowId>> {
    t.get_with(store, &keys::item(id), |bytes| bytes.map(RowId::from_bytes).transpose())?
}

pub(super) fn is_valid_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
}

/// Enough of an id to recognise it in a message.
fn shortened(id: &str) -> &str {
    match id.char_indices().nth(64) {
        Some((end, _)) => &id[..end],
        None => id,
    }
}

fn last_of_each_id<'a>(rows: &[Row<'a>]) -> Vec<Row<'a>> {
    let last: HashMap<&str, usize> = rows.iter().enumerate().map(|(index, row)| (row.id, index)).collect();
    rows.iter()
        .enumerate()
        .filter(|(index, row)| last.get(row.id) == Some(index))
        .map(|(_, row)| *row)
        .collect()
}
