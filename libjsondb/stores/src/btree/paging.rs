//! Walking: pages from the cursor, and ranges in batches.

use std::ops::Bound;

use engine::Direction;
use serde_json::value::RawValue;

use super::cursor::Cursor;
use super::item::{Item, Paging, RangeBatch, RangeQuery};
use super::rows::What;
use super::{Btree, Rows};
use crate::{CancelToken, Error, ErrorCode, Result, hex, walk};

/// A batch of a range ends once its values have this many bytes, however few they are.
const BATCH_BYTES: usize = 16 << 20;

/// As [`crate::walk::Span`], with keys of its own.
type OwnedSpan = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Btree {
    /// Fetches a page from the cursor and leaves the cursor on the item after it. Without a cursor, a forward page
    /// starts at the first item and a backward one at the last. After the last item, pages are empty until the cursor
    /// is moved.
    pub fn page(&self, cancel: &CancelToken, paging: &Paging, with_values: bool) -> Result<Vec<Item>> {
        let mut rows = Rows::default();
        self.page_rows(cancel, paging, what(with_values), &mut rows)?;
        self.to_items(cancel, &rows, with_values)
    }

    /// As [`Btree::page`], copied.
    pub fn page_rows(
        &self,
        cancel: &CancelToken,
        paging: &Paging,
        what: What,
        rows: &mut Rows,
    ) -> Result<()> {
        let Window { skip, take, direction } = Window::of(paging)?;
        let mut cursor = self.cursor();
        self.transaction.with(cancel, |engine| {
            let Some(span) = cursor.span(direction) else {
                return Ok(());
            };
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
                rows.meet(&self.layout, what, key, value)?;
                Ok(true)
            })?;
            rows.load(engine)?;
            match next {
                Some(key) => *cursor = Cursor::At(key),
                // An empty store has no end to stand at.
                None if passed == 0 && *cursor == Cursor::Unset => {}
                None => *cursor = Cursor::end_of(direction),
            }
            Ok(())
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
        let (start, end) = self.range_span(query)?;
        let direction = if query.reverse { Direction::Backward } else { Direction::Forward };
        let span = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        let mut rows = Rows::default();
        let goes_on = self.range_rows(cancel, span, direction, limit, what(with_values), &mut rows)?;
        let resume = rows.last_key().filter(|_| goes_on).map(hex::encode);
        Ok(RangeBatch { items: self.to_items(cancel, &rows, with_values)?, resume })
    }

    /// As [`Btree::range`] between two engine keys, copied; true when there may be more.
    pub fn range_rows(
        &self,
        cancel: &CancelToken,
        span: walk::Span<'_>,
        direction: Direction,
        limit: usize,
        what: What,
        rows: &mut Rows,
    ) -> Result<bool> {
        if limit == 0 {
            return Err(invalid("a range batch has a limit of at least 1"));
        }
        self.transaction.with(cancel, |engine| {
            let mut goes_on = false;
            walk::visit(engine, self.store, span, direction, |key, value| {
                rows.meet(&self.layout, what, key, value)?;
                goes_on = rows.len() >= limit || rows.size() >= BATCH_BYTES;
                Ok(!goes_on)
            })?;
            rows.load(engine)?;
            Ok(goes_on)
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

    fn to_items(&self, cancel: &CancelToken, rows: &Rows, with_values: bool) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(rows.len());
        for found in rows.iter() {
            cancel.check()?;
            let record = self.layout.record(found.record.unwrap_or_default())?;
            let key = self.layout.key_text(found.key, record)?;
            let value = with_values.then(|| self.layout.raw_value(record.value)).transpose()?;
            items.push(Item { key, value, id: self.layout.id(found.key) });
        }
        Ok(items)
    }
}

fn what(with_values: bool) -> What {
    if with_values { What::Items } else { What::Keys }
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

fn at_least(name: &str, number: i64, least: i64) -> Result<u64> {
    if number < least {
        return Err(invalid(format!("{name} is at least {least}, not {number}")));
    }
    Ok(number.unsigned_abs())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Validation, message)
}
