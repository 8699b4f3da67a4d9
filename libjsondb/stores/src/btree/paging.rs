//! Walking: pages from the cursor, and ranges in batches.

use std::ops::Bound;

use engine::{Direction, Entry, Transaction as EngineTransaction, ValueRef};
use serde_json::value::RawValue;

use super::Btree;
use super::cursor::Cursor;
use super::item::{Item, Paging, RangeBatch, RangeQuery};
use crate::{CancelToken, Error, ErrorCode, Result, hex, walk};

/// A batch of a range ends once its values have this many bytes, however few they are.
const BATCH_BYTES: usize = 16 << 20;

/// What a walk has met: an item yet to be loaded, or one whose key is all that was wanted.
enum Met {
    Entry(Entry),
    KeyOnly(Item),
}

/// As [`crate::walk::Span`], with keys of its own.
type OwnedSpan = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Btree {
    /// Fetches a page from the cursor and leaves the cursor on the item after it. Without a cursor, a forward page
    /// starts at the first item and a backward one at the last. After the last item, pages are empty until the cursor
    /// is moved.
    pub fn page(&self, cancel: &CancelToken, paging: &Paging, with_values: bool) -> Result<Vec<Item>> {
        let Window { skip, take, direction } = Window::of(paging)?;
        let mut cursor = self.cursor();
        self.transaction.with(cancel, |engine| {
            let Some(span) = cursor.span(direction) else {
                return Ok(Vec::new());
            };
            let mut met = Vec::new();
            let mut next = None;
            let mut passed = 0;
            walk::visit(engine, self.store, span, direction, |key, value| {
                passed += 1;
                if passed <= skip {
                    return Ok(true);
                }
                if passed - skip > take {
                    next = Some(key.to_vec());
                    return Ok(false);
                }
                met.push(self.meet(key, value, with_values)?);
                Ok(true)
            })?;
            let items = self.load_met(cancel, engine, met, with_values)?;
            match next {
                Some(key) => *cursor = Cursor::At(key),
                // An empty store has no end to stand at.
                None if passed == 0 && *cursor == Cursor::Unset => {}
                None => *cursor = Cursor::end_of(direction),
            }
            Ok(items)
        })
    }

    /// Up to `limit` items of a range, and where to go on; fewer when their values are large. Neither looks at the
    /// cursor nor moves it.
    pub fn range(
        &self,
        cancel: &CancelToken,
        query: &RangeQuery<'_>,
        limit: usize,
        with_values: bool,
    ) -> Result<RangeBatch> {
        if limit == 0 {
            return Err(invalid("a range batch has a limit of at least 1"));
        }
        let (start, end) = self.range_span(query)?;
        let direction = if query.reverse { Direction::Backward } else { Direction::Forward };
        self.transaction.with(cancel, |engine| {
            let mut met = Vec::new();
            let mut bytes = 0;
            let mut resume = None;
            let span = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
            walk::visit(engine, self.store, span, direction, |key, value| {
                met.push(self.meet(key, value, with_values)?);
                bytes += if with_values { len(value) } else { 0 };
                let is_full = met.len() == limit || bytes >= BATCH_BYTES;
                resume = is_full.then(|| hex::encode(key));
                Ok(!is_full)
            })?;
            Ok(RangeBatch { items: self.load_met(cancel, engine, met, with_values)?, resume })
        })
    }

    fn range_span(&self, query: &RangeQuery<'_>) -> Result<OwnedSpan> {
        let bound = |key: Option<&RawValue>| key.map(|key| self.layout.encode_bound(key)).transpose();
        let mut start = bound(query.start)?.map_or(Bound::Unbounded, Bound::Included);
        let mut end = bound(query.stop)?.map_or(Bound::Unbounded, Bound::Excluded);
        if let Some(token) = &query.resume {
            let last =
                hex::decode(token).ok_or_else(|| invalid("a resume token is what the batch before gave"))?;
            let near = if query.reverse { &mut end } else { &mut start };
            *near = Bound::Excluded(last);
        }
        Ok((start, end))
    }

    /// Keeps what is needed of an entry. Keys are taken from the bytes at hand; a large value is never read for them,
    /// unless fields ride on the key.
    fn meet(&self, key: &[u8], value: ValueRef<'_>, with_values: bool) -> Result<Met> {
        let text = match value {
            _ if with_values => None,
            ValueRef::Inline(bytes) => Some(self.layout.key_text(key, self.layout.record(bytes)?)?),
            ValueRef::Blob(_) if self.layout.has_ride_on_fields() => None,
            ValueRef::Blob(_) => Some(self.layout.decode(key)?),
        };
        Ok(match text {
            Some(text) => Met::KeyOnly(Item { key: text, value: None, id: self.layout.id(key) }),
            None => Met::Entry(Entry { key: key.to_vec(), value: value.to_value() }),
        })
    }

    fn load_met(
        &self,
        cancel: &CancelToken,
        engine: &EngineTransaction,
        met: Vec<Met>,
        with_values: bool,
    ) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(met.len());
        for met in met {
            items.push(match met {
                Met::KeyOnly(item) => item,
                Met::Entry(entry) => {
                    cancel.check()?;
                    let item = self.to_item(engine, &entry)?;
                    Item { value: item.value.filter(|_| with_values), ..item }
                }
            });
        }
        Ok(items)
    }
}

/// A page in items.
struct Window {
    skip: u64,
    take: u64,
    direction: Direction,
}

impl Window {
    fn of(paging: &Paging) -> Result<Self> {
        let page_offset = at_least("page_offset", paging.page_offset, 0)?;
        let fetch_count = at_least("fetch_count", paging.fetch_count, 0)?;
        // The size of a page only matters when pages are skipped, or when no count is given.
        let page_size = at_least("page_size", paging.page_size, i64::from(fetch_count == 0))?;
        let direction = match paging.direction {
            0 => Direction::Forward,
            1 => Direction::Backward,
            other => return Err(invalid(format!("direction is 0 (forward) or 1 (backward), not {other}"))),
        };
        let take = if fetch_count == 0 { page_size } else { fetch_count };
        Ok(Self { skip: page_offset.saturating_mul(page_size), take, direction })
    }
}

fn len(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Inline(bytes) => bytes.len(),
        ValueRef::Blob(blob) => blob.len() as usize,
    }
}

fn at_least(name: &str, number: i64, least: i64) -> Result<u64> {
    if number < least {
        return Err(invalid(format!("{name} is at least {least}, not {number}")));
    }
    Ok(number.unsigned_abs())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Validation, message)
}
