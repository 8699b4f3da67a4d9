//! What one transaction wrote, gathered before a memtable takes it.

use std::ops::Range;

use crate::bytes::Reader;
use crate::{BlobRef, ValueRef};

/// What a key was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Removed,
    Inline,
    Blob,
}

/// A write: its key and its value lie back to back in the batch's bytes.
pub(super) struct Write {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    pub(super) kind: Kind,
}

/// Writes in key order. Used again for the next transaction.
#[derive(Default)]
pub(crate) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) writes: Vec<Write>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.writes.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Number of writes.
    pub(super) fn len(&self) -> u64 {
        self.writes.len() as u64
    }

    /// Of keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Values that lie in segments.
    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobRef> {
        let blobs = self.writes.iter().filter(|write| write.kind == Kind::Blob);
        blobs.filter_map(|write| BlobRef::read(&mut Reader::new(self.bytes.get(write.value.clone())?)))
    }

    pub(crate) fn add(&mut self, key: &[u8], value: Option<ValueRef<'_>>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key = start..self.bytes.len();
        let kind = match value {
            None => Kind::Removed,
            Some(ValueRef::Inline(bytes)) => {
                self.bytes.extend_from_slice(bytes);
                Kind::Inline
            }
            Some(ValueRef::Blob(blob)) => {
                blob.put(&mut self.bytes);
                Kind::Blob
            }
        };
        let value = key.end..self.bytes.len();
        self.writes.push(Write { key, value, kind });
    }
}
