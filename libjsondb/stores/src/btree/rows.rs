//! Items on their way out: keys and records, copied into one buffer, so that no lock is held while they are looked at.

use std::borrow::Cow;
use std::ops::Range;

use engine::{BlobRef, Entry, Transaction as EngineTransaction, Value, ValueRef};

use super::{Layout, record};
use crate::Result;

/// What a read has found, in its order.
#[derive(Default)]
pub struct Rows {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// Values that lie in value segments, by row: read once the walk is over.
    blobs: Vec<(usize, BlobRef)>,
}

struct Row {
    key: Range<usize>,
    /// None for a key that is not there.
    record: Option<Range<usize>>,
}

/// One row, borrowed.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The engine's key; empty where it was given.
    pub(super) key: &'a [u8],
    pub(super) record: Option<&'a [u8]>,
}

/// A key on its way out.
pub enum KeyOut<'a> {
    /// An integer.
    Integer(i64),
    /// A string.
    Text(&'a str),
    /// JSON text, not checked to be one.
    Json(Cow<'a, [u8]>),
}

/// What a walk gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Keys and values.
    Items,
    /// Keys; values are not read.
    Keys,
}

impl Rows {
    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
        self.blobs.clear();
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        self.rows.iter().map(|row| Found {
            key: &self.bytes[row.key.clone()],
            record: row.record.clone().map(|record| &self.bytes[record]),
        })
    }

    /// The engine's key of the last row.
    pub fn last_key(&self) -> Option<&[u8]> {
        self.rows.last().map(|row| &self.bytes[row.key.clone()])
    }

    /// Number of bytes so far, those of values not read yet included.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.blobs.iter().map(|(_, blob)| blob.len() as usize).sum::<usize>()
    }

    /// Appends an answer to a key that was given.
    pub(super) fn push_answer(&mut self, record: Option<&[u8]>) {
        let key = self.append(&[]);
        let record = record.map(|record| self.append(record));
        self.rows.push(Row { key, record });
    }

    /// Appends what a walk has met.
    pub(super) fn push(&mut self, key: &[u8], value: ValueRef<'_>) {
        let key = self.append(key);
        let record = match value {
            ValueRef::Inline(bytes) => Some(self.append(bytes)),
            ValueRef::Blob(blob) => {
                self.blobs.push((self.rows.len(), blob));
                None
            }
        };
        self.rows.push(Row { key, record });
    }

    /// As [`Rows::push`], of an entry.
    pub(super) fn push_entry(&mut self, entry: &Entry) {
        let value = match &entry.value {
            Value::Inline(bytes) => ValueRef::Inline(bytes),
            Value::Blob(blob) => ValueRef::Blob(*blob),
        };
        self.push(&entry.key, value);
    }

    /// Appends what is wanted of an entry. For a key, a large value is never read, unless fields ride on the key.
    pub(super) fn meet(
        &mut self,
        layout: &Layout,
        what: What,
        key: &[u8],
        value: ValueRef<'_>,
    ) -> Result<()> {
        match (what, value) {
            (What::Items, _) => self.push(key, value),
            (What::Keys, ValueRef::Inline(bytes)) => {
                let before_value = bytes.len() - layout.value_of(bytes)?.len();
                self.push(key, ValueRef::Inline(bytes.get(..before_value).unwrap_or_default()));
            }
            (What::Keys, ValueRef::Blob(_)) if layout.has_ride_on_fields() => self.push(key, value),
            (What::Keys, ValueRef::Blob(_)) => self.push(key, ValueRef::Inline(record::KEY_IN_BYTES)),
        }
        Ok(())
    }

    /// Reads the values that the walk left where they are.
    pub(super) fn load(&mut self, engine: &EngineTransaction) -> Result<()> {
        for (row, blob) in std::mem::take(&mut self.blobs) {
            let bytes = engine.load_ref(ValueRef::Blob(blob))?;
            let record = self.append(&bytes);
            self.rows[row].record = Some(record);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}
