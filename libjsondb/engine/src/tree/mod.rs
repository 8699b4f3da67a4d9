//! The copy-on-write B-tree of a checkpoint: look-ups and cursors over pages in segments. Building: [`build`].

pub(crate) mod build;
pub(crate) mod changes;
mod cursor;
pub(crate) mod shared_cache;

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use crate::page::{Page, PageKind};
use crate::segment::{SegmentId, Segments};
use crate::{BlobRef, Error, Result, ValueRef};

pub(crate) use cursor::TreeCursor;
use shared_cache::{Cached, SharedCache};

/// Deeper than any tree of 2^64 entries: more is a cycle made by damage.
pub(crate) const DEPTH_MAX: usize = 64;

/// Segment and offset: never reused, so a cached page is never stale.
type BlobKey = (SegmentId, u64);

#[derive(Clone)]
struct PageWeight;

impl Weighter<BlobKey, Arc<Page>> for PageWeight {
    fn weight(&self, _: &BlobKey, page: &Arc<Page>) -> u64 {
        page.weight()
    }
}

/// Keeps pages that were reached through their parent since the last look: the cache itself did not see that.
#[derive(Clone)]
struct SecondChance;

impl Lifecycle<BlobKey, Arc<Page>> for SecondChance {
    type RequestState = ();

    fn is_pinned(&self, _: &BlobKey, page: &Arc<Page>) -> bool {
        page.take_used()
    }

    fn on_evict(&self, (): &mut (), _: BlobKey, _: Arc<Page>) {}
}

/// Whether a read may wait for the disk or a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    AsLongAsNeeded,
    Never,
}

/// Which of the pages that had to be read stay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    All,
    /// Not the leaves: what is in them is read once.
    Branches,
}

/// Reads pages through a cache bounded in bytes.
pub(crate) struct Pages {
    segments: Arc<Segments>,
    cache: Cache<BlobKey, Arc<Page>, PageWeight, DefaultHashBuilder, SecondChance>,
    /// Roots that were read last, by a part of their place: every read begins at one, and all threads at the same.
    roots: [ArcSwapOption<KnownRoot>; ROOTS_KNOWN],
    /// What other processes read before, where machines share the folder.
    shared: Option<SharedCache>,
}

/// The page of a root, as long as somebody keeps it.
struct KnownRoot {
    key: BlobKey,
    page: Weak<Page>,
}

/// The checkpoint's root, and those of a few runs over it.
const ROOTS_KNOWN: usize = 8;

impl Pages {
    pub(crate) fn new(segments: Arc<Segments>, cache_bytes: u64) -> Pages {
        let expected = (cache_bytes / crate::page::PAGE_BYTES as u64).max(16) as usize;
        let cache =
            Cache::with(expected, cache_bytes, PageWeight, DefaultHashBuilder::default(), SecondChance);
        Pages { segments, cache, roots: Default::default(), shared: None }
    }

    /// With a cache that other processes share.
    pub(crate) fn with_shared(self, shared: Option<SharedCache>) -> Pages {
        Pages { shared, ..self }
    }

    pub(crate) fn shared(&self) -> Option<&SharedCache> {
        self.shared.as_ref()
    }

    pub(crate) fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    pub(crate) fn read(&self, blob: &BlobRef) -> Result<Arc<Page>> {
        let key = (blob.segment, blob.offset);
        if let Some(page) = self.cache.get(&key) {
            return Ok(page);
        }
        let page = Arc::new(self.read_shared(blob)?);
        self.cache.insert(key, Arc::clone(&page));
        Ok(page)
    }

    /// The page of a root; None when it would have to be read from disk and that is not allowed.
    fn root(&self, blob: &BlobRef, wait: Wait) -> Result<Option<Arc<Page>>> {
        let key = (blob.segment, blob.offset);
        let place = (blob.segment.number ^ blob.offset) as usize % ROOTS_KNOWN;
        let known = self.roots[place].load();
        if let Some(page) =
            known.as_ref().filter(|known| known.key == key).and_then(|known| known.page.upgrade())
        {
            page.mark_used();
            return Ok(Some(page));
        }
        let page = match wait {
            Wait::AsLongAsNeeded => Some(self.read(blob)?),
            Wait::Never => self.cache.get(&key),
        };
        if let Some(page) = &page {
            self.roots[place].store(Some(Arc::new(KnownRoot { key, page: Arc::downgrade(page) })));
        }
        Ok(page)
    }

    /// The page of a branch's child. One that is in memory is found without a look into the cache.
    pub(crate) fn child(&self, branch: &Page, index: usize, keep: Keep) -> Result<Arc<Page>> {
        if let Some(page) = self.child_in_memory(branch, index) {
            return Ok(page);
        }
        let blob = branch.child(index);
        let page = Arc::new(self.read_shared(&blob)?);
        if keep == Keep::All || page.kind() == PageKind::Branch {
            self.cache.insert((blob.segment, blob.offset), Arc::clone(&page));
            branch.remember_child(index, &page);
        }
        Ok(page)
    }

    /// As [`Pages::child`]; None when it would have to be read from disk.
    fn child_in_memory(&self, branch: &Page, index: usize) -> Option<Arc<Page>> {
        branch.known_child(index).or_else(|| {
            let blob = branch.child(index);
            let page = self.cache.get(&(blob.segment, blob.offset))?;
            branch.remember_child(index, &page);
            Some(page)
        })
    }

    fn read_shared(&self, blob: &BlobRef) -> Result<Page> {
        let Some(shared) = &self.shared else { return self.read_uncached(blob) };
        shared.read(&self.segments, blob, |bytes| {
            let page = self.decode(blob, bytes)?;
            Ok((Cached::Page(page.store()), page))
        })
    }

    /// A value that lies beside the tree.
    pub(crate) fn read_value(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        match &self.shared {
            Some(shared) => shared.read(&self.segments, blob, |bytes| Ok((Cached::Value, bytes))),
            None => self.segments.read(blob),
        }
    }

    fn decode(&self, blob: &BlobRef, bytes: Vec<u8>) -> Result<Page> {
        Page::decode(bytes).ok_or_else(|| self.damaged(blob, "not a page of the tree"))
    }

    /// For walks over the whole tree, which would only push useful pages out.
    pub(crate) fn read_uncached(&self, blob: &BlobRef) -> Result<Page> {
        self.decode(blob, self.segments.read(blob)?)
    }

    /// A page or value is not what belongs in its place.
    pub(crate) fn damaged(&self, blob: &BlobRef, what: &str) -> Error {
        Error::corrupt(&self.segments.path(blob.segment), blob.offset, what)
    }

    pub(crate) fn too_deep(&self, blob: &BlobRef) -> Error {
        self.damaged(blob, &format!("the tree is deeper than {DEPTH_MAX} pages"))
    }

    /// Shows the value of a key in the tree under `root`, None when there is none. False, and nothing is shown, when that takes a wait
    /// that is not allowed.
    pub(crate) fn find(
        &self,
        root: Option<BlobRef>,
        key: &[u8],
        wait: Wait,
        show: &mut dyn FnMut(Option<ValueRef<'_>>),
    ) -> Result<bool> {
        let Some(root) = root else {
            show(None);
            return Ok(true);
        };
        let Some(leaf) = self.leaf(&root, key, wait)? else { return Ok(false) };
        show(leaf.search(key).ok().map(|index| leaf.entry(index).1));
        Ok(true)
    }

    /// The leaf that covers `key`; None when that takes a wait that is not allowed.
    fn leaf(&self, root: &BlobRef, key: &[u8], wait: Wait) -> Result<Option<Arc<Page>>> {
        let Some(mut page) = self.root(root, wait)? else { return Ok(None) };
        for _ in 0..DEPTH_MAX {
            if page.kind() == PageKind::Leaf {
                return Ok(Some(page));
            }
            let index = page.child_index(key);
            page = match wait {
                Wait::AsLongAsNeeded => self.child(&page, index, Keep::All)?,
                Wait::Never => match self.child_in_memory(&page, index) {
                    Some(child) => child,
                    None => return Ok(None),
                },
            };
        }
        Err(self.too_deep(root))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound::Unbounded;

    use crate::{Database, Direction, Mode, Options, Placement, StoreId, Transaction};

    const CACHE_BYTES: u64 = 512 << 10;

    #[test]
    fn what_is_walked_over_once_takes_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open_alone(folder.path(), &Options::default()).unwrap();
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        for key in 0..5_000_u32 {
            transaction.put(store, &key.to_be_bytes(), &[key as u8; 100], Placement::Auto).unwrap();
        }
        transaction.commit().unwrap();
        database.checkpoint().unwrap();
        drop(database);
        let database = Database::open_alone(folder.path(), &Options::default()).unwrap();
        let mut read = database.begin(Mode::Read).unwrap();
        let memory = || database.inner.pages.cache.weight();
        let entries = |read: &mut Transaction, store: StoreId| {
            let mut entries = 0;
            let mut count = |_: &[u8], _: crate::ValueRef<'_>| {
                entries += 1;
                Ok(true)
            };
            read.visit(store, Unbounded, Unbounded, Direction::Forward, &mut count).unwrap();
            entries
        };
        assert_eq!(read.once(|read| entries(read, store)), 5_000);
        let branches = memory();
        assert!(branches < 64 << 10, "{branches} bytes");
        assert_eq!(entries(&mut read, store), 5_000);
        assert!(memory() > 500_000, "other walks keep what they read");
        assert_eq!(read.once(|read| entries(read, store)), 5_000, "what is there is used");
    }

    #[test]
    fn pages_stay_within_their_memory_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { page_cache_bytes: CACHE_BYTES, ..Options::default() };
        let database = Database::open_alone(folder.path(), &options).unwrap();
        let mut transaction = database.begin(Mode::Write).unwrap();
        let store = transaction.ensure_store("s", b"").unwrap();
        for key in 0..20_000_u32 {
            transaction.put(store, &key.to_be_bytes(), &[key as u8; 100], Placement::Auto).unwrap();
        }
        transaction.commit().unwrap();
        database.checkpoint().unwrap();
        let mut read = database.begin(Mode::Read).unwrap();
        for key in 0..20_000_u32 {
            // Scattered over all pages, which take several times the memory.
            let key = key.wrapping_mul(7919) % 20_000;
            let value = read.get_with(store, &key.to_be_bytes(), |value| value.map(<[u8]>::to_vec)).unwrap();
            assert_eq!(value, Some(vec![key as u8; 100]));
            assert!(database.inner.pages.cache.weight() <= CACHE_BYTES + CACHE_BYTES / 8);
        }
        let misses = (0..20_000_u32).filter(|key| {
            let key = (key.wrapping_mul(7919) % 20_000).to_be_bytes();
            read.get_with(store, &key, |_| ()).unwrap();
            let used = read.get_cached_with(store, &5_u32.to_be_bytes(), |_| ()).unwrap();
            read.get_with(store, &5_u32.to_be_bytes(), |_| ()).unwrap();
            used.is_none()
        });
        assert!(misses.count() < 200, "a page that is used all the time is pushed out");
    }
}
