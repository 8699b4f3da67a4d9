//! The ordinals of a term, in chunks.

use std::ops::Bound;

use engine::{Direction, Placement, StoreId, Transaction, ValueRef};

use super::{Ordinal, Ordinals, unlike_written, varint};
use crate::{Result, walk};

const ORDINAL_BYTES: usize = size_of::<Ordinal>();
/// A chunk is at most so long; one that is longer than the second is not appended to, as that writes all of it again.
const CHUNK_BYTES: usize = 2 << 10;
const APPENDED_TO_BYTES: usize = 256;

/// Adds ordinals, rising and above those that the term has.
pub(super) fn append(
    t: &mut Transaction,
    store: StoreId,
    term: &[u8],
    ordinals: &[Ordinal],
    is_new: bool,
) -> Result<()> {
    let mut chunk = if is_new { None } else { last(t, store, term)? };
    for ordinal in ordinals {
        match &mut chunk {
            Some(chunk) if chunk.steps.len() < CHUNK_BYTES => {
                let step = ordinal.checked_sub(chunk.last).ok_or_else(unlike_written)?;
                varint::put(step.into(), &mut chunk.steps);
                chunk.last = *ordinal;
            }
            full => {
                if let Some(chunk) = full {
                    chunk.store(t, store, term)?;
                }
                chunk = Some(Chunk { first: *ordinal, last: *ordinal, steps: Vec::new() });
            }
        }
    }
    chunk.map_or(Ok(()), |chunk| chunk.store(t, store, term))
}

struct Chunk {
    first: Ordinal,
    last: Ordinal,
    steps: Vec<u8>,
}

impl Chunk {
    fn store(&self, t: &mut Transaction, store: StoreId, term: &[u8]) -> Result<()> {
        let key = [term, &self.first.to_be_bytes()].concat();
        Ok(t.put(store, &key, &self.steps, Placement::Auto)?)
    }
}

/// The last chunk of a term, when it is short enough to be appended to.
fn last(t: &mut Transaction, store: StoreId, term: &[u8]) -> Result<Option<Chunk>> {
    let mut found = None;
    let (start, end) = keys_of(term);
    let span = (Bound::Included(&*start), Bound::Included(&*end));
    walk::visit(t, store, span, Direction::Backward, |key, value| {
        let (first, steps) = parts(key, value)?;
        if steps.len() < APPENDED_TO_BYTES {
            let mut last = first;
            each(first, steps, |ordinal| {
                last = ordinal;
                true
            })?;
            found = Some(Chunk { first, last, steps: steps.to_vec() });
        }
        Ok(false)
    })?;
    Ok(found)
}

/// The first and the last key that a term can have.
pub(super) fn keys_of(term: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key = |ordinal: Ordinal| [term, &ordinal.to_be_bytes()].concat();
    (key(0), key(Ordinal::MAX))
}

/// Adds the ordinals of all terms between two keys.
pub(super) fn collect(
    t: &mut Transaction,
    store: StoreId,
    span: walk::Span<'_>,
    ordinals: &mut Ordinals,
) -> Result<()> {
    walk::visit(t, store, span, Direction::Forward, |key, value| {
        let (first, steps) = parts(key, value)?;
        each(first, steps, |ordinal| ordinals.add(ordinal))?;
        Ok(true)
    })
}

/// Shows the ordinals of a chunk.
pub(super) fn each_of(key: &[u8], value: ValueRef<'_>, mut show: impl FnMut(Ordinal)) -> Result<()> {
    let (first, steps) = parts(key, value)?;
    each(first, steps, |ordinal| {
        show(ordinal);
        true
    })
}

/// The term of a chunk.
pub(super) fn term_of(key: &[u8]) -> Result<&[u8]> {
    key.split_last_chunk::<ORDINAL_BYTES>().map(|(term, _)| term).ok_or_else(unlike_written)
}

fn parts<'a>(key: &[u8], value: ValueRef<'a>) -> Result<(Ordinal, &'a [u8])> {
    match (key.last_chunk::<ORDINAL_BYTES>(), value) {
        (Some(first), ValueRef::Inline(steps)) => Ok((Ordinal::from_be_bytes(*first), steps)),
        _ => Err(unlike_written()),
    }
}

/// Shows the ordinals of a chunk, which are unlike_written when one is refused.
fn each(first: Ordinal, mut steps: &[u8], mut show: impl FnMut(Ordinal) -> bool) -> Result<()> {
    let mut ordinal = first;
    loop {
        if !show(ordinal) {
            return Err(unlike_written());
        }
        if steps.is_empty() {
            return Ok(());
        }
        let step = varint::take(&mut steps).and_then(|step| Ordinal::try_from(step).ok());
        ordinal = step.and_then(|step| ordinal.checked_add(step)).ok_or_else(unlike_written)?;
    }
}
