//! The copy-on-write B-tree of a checkpoint: look-ups and cursors over pages in segments. Building: [`build`].

pub(crate) mod build;
mod cursor;

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::page::{Page, PageKind};
use crate::segment::Segments;
use crate::{BlobRef, Error, Result, Value};

pub(crate) use cursor::TreeCursor;

/// Deeper than any tree of 2^64 entries: more is a cycle made by damage.
pub(crate) const DEPTH_MAX: usize = 64;

#[derive(Clone)]
struct PageWeight;

impl Weighter<BlobKey, Arc<Page>> for PageWeight {
    fn weight(&self, _: &BlobKey, page: &Arc<Page>) -> u64 {
        page.weight()
    }
}

/// Segment and offset: never reused, so a cached page is never stale.
type BlobKey = (crate::segment::SegmentId, u64);

/// Reads pages through a cache bounded in bytes.
pub(crate) struct Pages {
    segments: Arc<Segments>,
    cache: Cache<BlobKey, Arc<Page>, PageWeight>,
}

impl Pages {
    pub(crate) fn new(segments: Arc<Segments>, cache_bytes: u64) -> Pages {
        let expected = (cache_bytes / crate::page::PAGE_BYTES as u64).max(16) as usize;
        Pages { segments, cache: Cache::with_weighter(expected, cache_bytes, PageWeight) }
    }

    pub(crate) fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    pub(crate) fn read(&self, blob: &BlobRef) -> Result<Arc<Page>> {
        let key = (blob.segment, blob.offset);
        if let Some(page) = self.cache.get(&key) {
            return Ok(page);
        }
        let page = Arc::new(self.read_uncached(blob)?);
        self.cache.insert(key, Arc::clone(&page));
        Ok(page)
    }

    /// For walks over the whole tree, which would only push useful pages out.
    pub(crate) fn read_uncached(&self, blob: &BlobRef) -> Result<Page> {
        let bytes = self.segments.read(blob)?;
        Page::decode(bytes).ok_or_else(|| self.damaged(blob, "not a page of the tree"))
    }

    /// A page or value is not what belongs in its place.
    pub(crate) fn damaged(&self, blob: &BlobRef, what: &str) -> Error {
        Error::corrupt(&self.segments.path(blob.segment), blob.offset, what)
    }

    pub(crate) fn too_deep(&self, blob: &BlobRef) -> Error {
        self.damaged(blob, &format!("the tree is deeper than {DEPTH_MAX} pages"))
    }

    /// The value of a key in the tree under `root`.
    pub(crate) fn get(&self, root: Option<BlobRef>, key: &[u8]) -> Result<Option<Value>> {
        let Some(mut blob) = root else { return Ok(None) };
        for _ in 0..DEPTH_MAX {
            let page = self.read(&blob)?;
            match page.kind() {
                PageKind::Leaf => {
                    return Ok(page.search(key).ok().map(|index| page.entry(index).1.to_value()));
                }
                PageKind::Branch => blob = page.child(page.child_index(key)),
            }
        }
        Err(self.too_deep(&blob))
    }
}
