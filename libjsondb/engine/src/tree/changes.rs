//! What changes a tree: changes in key order, and whole leaves that are taken over as they are.

use std::sync::Arc;

use crate::page::Page;
use crate::{BlobRef, Result, Value};

/// One change to a key.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Value),
    Delete,
    /// Adds to a counter: an 8-byte little-endian integer, absent when 0.
    Add(i64),
    /// Changes nothing, but moves what lies in a segment to be emptied on the way to this key.
    Relocate,
}

/// A leaf whose entries are the next changes, all of them puts, with no other change in between.
pub(crate) struct WholeLeaf {
    pub(crate) page: Arc<Page>,
    pub(crate) blob: BlobRef,
    /// Its highest key.
    pub(crate) last: Vec<u8>,
}

/// Changes in key order, one per key.
pub(crate) trait Changes {
    /// The next key.
    fn key(&self) -> Option<&[u8]>;

    /// True when the next change is a [`Change::Relocate`].
    fn is_relocation(&self) -> bool;

    fn next(&mut self) -> Result<Option<(Vec<u8>, Change)>>;

    /// The next changes, when they are a whole leaf.
    fn leaf(&self) -> Option<WholeLeaf>;

    /// Steps over the changes that [`Changes::leaf`] gave.
    fn skip_leaf(&mut self) -> Result<()>;
}
