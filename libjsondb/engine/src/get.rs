//! Point reads: one key, its value seen in place.

use crate::manifest::ManifestRef;
use crate::tree::Wait;
use crate::{BlobRef, Database, Error, ErrorKind, Mode, Result, StoreId, Transaction, ValueRef, catalog};

impl Database {
    /// Shows `look` the value of a key in the newest committed state, None when there is none; gives what `look` gives.
    pub fn get_with<R>(
        &self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let look = match show(look, |show| self.find(store, key, Wait::AsLongAsNeeded, show))? {
            Shown::Done(answer) => return Ok(answer),
            Shown::Elsewhere(blob, look) => match self.inner.pages.read_value(&blob) {
                Err(error) if error.is_missing_file() => look,
                bytes => return Ok(look(Some(&bytes?))),
            },
            Shown::Nothing => return Err(no_answer()),
        };
        // A checkpoint removed the value's file meanwhile.
        self.begin(Mode::Read)?.get_with(store, key, look)
    }

    /// As [`Database::get_with`]; None, and `look` is not called, when the answer would take a look at the disk or wait for a lock.
    pub fn get_cached_with<R>(
        &self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<Option<R>> {
        Ok(show(look, |show| self.find(store, key, Wait::Never, show))?.in_memory())
    }

    /// Shows the value of a key in the newest committed state. False, and nothing is shown, when that takes a wait that is not allowed.
    fn find(
        &self,
        store: StoreId,
        key: &[u8],
        wait: Wait,
        show: &mut dyn FnMut(Option<ValueRef<'_>>),
    ) -> Result<bool> {
        let inner = &self.inner;
        inner.check_usable()?;
        if !inner.refresh(wait)? {
            return Ok(false);
        }
        let snapshot = inner.current.load();
        // Not pinned, which would take longer than the read.
        match catalog::with_full_key(store, key, |full| snapshot.find(&inner.pages, full, wait, show)) {
            Err(error) if error.is_missing_file() => self.begin(Mode::Read)?.find(store, key, wait, show),
            found => found,
        }
    }
}

impl Transaction {
    /// As [`Transaction::get`], showing `look` the bytes of the value, None when there is none; gives what `look` gives.
    pub fn get_with<R>(
        &mut self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        match show(look, |show| self.find(store, key, Wait::AsLongAsNeeded, show))? {
            Shown::Done(answer) => Ok(answer),
            Shown::Elsewhere(blob, look) => Ok(look(Some(&self.load_ref(ValueRef::Blob(blob))?))),
            Shown::Nothing => Err(no_answer()),
        }
    }

    /// Puts `len` bytes of a value, from `offset` on, into `out`, or as many as it has there; None when there is no value. Of a large
    /// value that lies on disk uncompressed no more than that is read, and nothing checks it: the caller keeps a checksum of its own.
    pub fn get_part(
        &mut self,
        store: StoreId,
        key: &[u8],
        offset: usize,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<Part>> {
        out.clear();
        let (mut blob, mut found) = (None, None);
        self.find(store, key, Wait::AsLongAsNeeded, &mut |value| match value {
            Some(ValueRef::Inline(bytes)) => {
                out.extend_from_slice(part_of(bytes, offset, len));
                found = Some(Part { value_len: bytes.len(), place: None });
            }
            Some(ValueRef::Blob(reference)) => blob = Some(reference),
            None => {}
        })?;
        let Some(blob) = blob else { return Ok(found) };
        let is_partly_read = self.load_part(&blob, offset, len, out)?;
        if !is_partly_read {
            out.extend_from_slice(part_of(&self.load_ref(ValueRef::Blob(blob))?, offset, len));
        }
        let place = is_partly_read.then_some(ValuePlace(blob));
        Ok(Some(Part { value_len: blob.len() as usize, place }))
    }

    /// As [`Transaction::get_part`], of a value that was found by a transaction that reads the same tree: that is there as long as the
    /// tree is, whether or not the key has another value by now. Spares the way to it.
    pub fn get_part_at(
        &self,
        place: ValuePlace,
        offset: usize,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<Part> {
        self.tree()?;
        let ValuePlace(blob) = place;
        if !self.load_part(&blob, offset, len, out)? {
            out.clear();
            out.extend_from_slice(part_of(&self.load_ref(ValueRef::Blob(blob))?, offset, len));
        }
        Ok(Part { value_len: blob.len() as usize, place: Some(place) })
    }

    /// Names the tree under this transaction's snapshot: what the last checkpoint left.
    pub fn tree(&self) -> Result<TreeName> {
        Ok(TreeName(self.state()?.manifest.name))
    }

    /// As [`Transaction::get_with`]; None, and `look` is not called, when the answer would take a look at the disk or wait for a
    /// lock.
    pub fn get_cached_with<R>(
        &mut self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<Option<R>> {
        Ok(show(look, |show| self.find(store, key, Wait::Never, show))?.in_memory())
    }
}

/// A value of which a part was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the whole value.
    pub value_len: usize,
    /// Where it lies; None unless it lies on disk for itself, uncompressed.
    pub place: Option<ValuePlace>,
}

/// Where a value lies, for those that read the tree it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValuePlace(BlobRef);

/// A tree, told from all others that ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeName(ManifestRef);

fn part_of(bytes: &[u8], offset: usize, len: usize) -> &[u8] {
    let start = offset.min(bytes.len());
    &bytes[start..start.saturating_add(len).min(bytes.len())]
}

/// What came of showing a value to `F`.
enum Shown<R, F> {
    Done(R),
    /// The value lies in a segment of values: it is shown once it was loaded.
    Elsewhere(BlobRef, F),
    /// That would have taken a wait that is not allowed.
    Nothing,
}

impl<R, F> Shown<R, F> {
    fn in_memory(self) -> Option<R> {
        match self {
            Shown::Done(answer) => Some(answer),
            Shown::Elsewhere(..) | Shown::Nothing => None,
        }
    }
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Internal, "a read that may wait has no answer")
}

/// Shows what `find` finds to `look`.
fn show<R, F: FnOnce(Option<&[u8]>) -> R>(
    look: F,
    find: impl FnOnce(&mut dyn FnMut(Option<ValueRef<'_>>)) -> Result<bool>,
) -> Result<Shown<R, F>> {
    let (mut look, mut shown) = (Some(look), Shown::Nothing);
    find(&mut |value| {
        let Some(look) = look.take() else { return };
        shown = match value {
            Some(ValueRef::Inline(bytes)) => Shown::Done(look(Some(bytes))),
            Some(ValueRef::Blob(blob)) => Shown::Elsewhere(blob, look),
            None => Shown::Done(look(None)),
        };
    })?;
    Ok(shown)
}
