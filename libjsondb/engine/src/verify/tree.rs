//! Every page and value of the newest state: checksums, the order of keys, the account of bytes in use, and what stores hold.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::state::State;
use super::{Check, StoreContents, Verification};
use crate::catalog::{self, CatalogKey, STORE_LEN};
use crate::page::PageKind;
use crate::segment::SegmentId;
use crate::snapshot::{Merge, Source};
use crate::tree::DEPTH_MAX;
use crate::{BlobRef, Direction, Error, Result, StoreId, ValueRef};

impl Check<'_, '_> {
    pub(super) fn tree(&mut self, state: &State, verification: &mut Verification) -> Result<()> {
        let manifest = &state.snapshot.manifest;
        let path = self.folders.manifests.join(manifest.name.file_name());
        verification.manifest = path.strip_prefix(self.named).unwrap_or(&path).to_owned();
        self.progress.expect(manifest.segments.values().map(|usage| usage.live).sum());
        // Values of the commits behind the tree: about as much as their files hold.
        let later = state.segments.iter().filter(|id| !manifest.segments.contains_key(id));
        self.progress.expect(later.filter_map(|id| state.pages.segments().len(*id).ok()).sum());
        let Some(seen) = self.walk(state, verification)? else { return Ok(()) };
        for (id, usage) in &manifest.segments {
            let found = seen.live.get(id).copied().unwrap_or_default();
            if found != usage.live || usage.live > usage.total {
                let what = format!(
                    "segment {id} has {} live bytes of {}, but the tree refers to {found}",
                    usage.live, usage.total
                );
                self.find(&path, 0, what);
            }
        }
        for id in seen.live.keys().filter(|id| !manifest.segments.contains_key(id)) {
            self.find(&path, 0, format!("the tree refers to segment {id}, which is not listed"));
        }
        if state.is_complete {
            verification.stores = seen.contents.finish(&state.snapshot.counter_changes());
        }
        Ok(())
    }

    /// None when not everything could be read.
    fn walk(&mut self, state: &State, verification: &mut Verification) -> Result<Option<Seen>> {
        let runs_are_whole = self.runs(state, verification)?;
        let mut commits: Vec<_> = state.snapshot.memtable_sources(&state.pages).collect();
        commits.retain(|source| runs_are_whole || !matches!(source, Source::Run(_)));
        let mut walk = Walk {
            state,
            verification,
            commits: Merge::new(commits, Bound::Unbounded, Direction::Forward)?,
            seen: Seen::default(),
            last_key: None,
            is_whole: runs_are_whole,
            check: self,
        };
        if let Some(root) = state.snapshot.manifest.root {
            walk.page(&root, &[], None, 0)?;
        }
        walk.commits_before(None)?;
        Ok(walk.is_whole.then_some(walk.seen))
    }
}

/// What a walk adds up.
#[derive(Default)]
struct Seen {
    contents: Contents,
    /// Bytes that the tree refers to.
    live: BTreeMap<SegmentId, u64>,
}

struct Walk<'w, 'c, 'p> {
    check: &'w mut Check<'c, 'p>,
    state: &'w State,
    verification: &'w mut Verification,
    /// What was committed after the tree.
    commits: Merge<'w>,
    seen: Seen,
    last_key: Option<Vec<u8>>,
    /// Everything could be read so far.
    is_whole: bool,
}

impl Walk<'_, '_, '_> {
    /// A page whose keys are from `lowest` to below `upper` (None: the end).
    fn page(&mut self, blob: &BlobRef, lowest: &[u8], upper: Option<&[u8]>, depth: usize) -> Result<()> {
        let read = if depth > DEPTH_MAX {
            Err(self.state.pages.too_deep(blob))
        } else {
            self.state.pages.read_uncached(blob)
        };
        let Some(page) = self.noted(read)? else { return Ok(()) };
        self.use_blob(blob)?;
        self.verification.pages += 1;
        let mut keys = Vec::with_capacity(page.count());
        for index in 0..page.count() {
            let mut key = Vec::new();
            page.key_into(index, &mut key);
            keys.push(key);
        }
        for (index, key) in keys.iter().enumerate() {
            if key.as_slice() < lowest || upper.is_some_and(|upper| key.as_slice() >= upper) {
                self.wrong(blob, "a page holds a key outside its range")?;
            }
            let next = keys.get(index + 1).map(Vec::as_slice).or(upper);
            match (page.kind(), page.entry(index).1) {
                (PageKind::Branch, ValueRef::Blob(child)) => self.page(&child, key, next, depth + 1)?,
                (PageKind::Branch, ValueRef::Inline(_)) => {
                    self.wrong(blob, "a branch page holds a value")?;
                }
                (PageKind::Leaf, value) => {
                    if self.last_key.as_ref().is_some_and(|last| last >= key) {
                        self.wrong(blob, "keys are out of order")?;
                    }
                    self.entry(key, value)?;
                    self.last_key = Some(key.clone());
                }
            }
        }
        Ok(())
    }

    /// An entry of the tree. It belongs to the newest state unless its key was written since.
    fn entry(&mut self, key: &[u8], value: ValueRef<'_>) -> Result<()> {
        if let ValueRef::Blob(blob) = value {
            self.use_blob(&blob)?;
            self.value(&blob)?;
        }
        self.commits_before(Some(key))?;
        if self.commits.current().is_some_and(|(newer, _)| newer == key) {
            return Ok(());
        }
        self.newest(key, value)
    }

    /// Commits to keys below `key` (None: all others), which the tree does not hold.
    fn commits_before(&mut self, key: Option<&[u8]>) -> Result<()> {
        // Those of `key` itself are met with the next one.
        while let Some((newer, value)) = self.commits.current() {
            if key.is_some_and(|key| newer >= key) {
                break;
            }
            let (newer, value) = (newer.to_vec(), value.map(ValueRef::to_value));
            if let Some(value) = value {
                let value = crate::snapshot::value_ref(&value);
                if let ValueRef::Blob(blob) = value {
                    self.verification.bytes += u64::from(blob.stored_len);
                    self.check.progress.advance(u64::from(blob.stored_len))?;
                    self.value(&blob)?;
                }
                self.newest(&newer, value)?;
            }
            self.commits.advance()?;
        }
        Ok(())
    }

    fn value(&mut self, blob: &BlobRef) -> Result<()> {
        self.verification.values += 1;
        let read = self.state.pages.segments().read(blob);
        self.noted(read)?;
        Ok(())
    }

    /// An entry of the newest state.
    fn newest(&mut self, key: &[u8], value: ValueRef<'_>) -> Result<()> {
        self.verification.entries += 1;
        match catalog::decode_key(key) {
            Some(CatalogKey::Store(store)) => {
                let entry = match value {
                    ValueRef::Inline(bytes) => Ok(bytes.to_vec()),
                    ValueRef::Blob(blob) => self.state.pages.segments().read(&blob),
                };
                let entry = entry.and_then(|entry| {
                    let (name, metadata) = catalog::decode_entry(&entry)?;
                    Ok((name.to_owned(), metadata.to_vec()))
                });
                if let Some((name, metadata)) = self.noted(entry)? {
                    self.seen.contents.names.insert(store, (name, metadata));
                }
            }
            Some(CatalogKey::Counter) => {
                if let ValueRef::Inline(bytes) = value {
                    let sum = bytes.try_into().map_or(0, i64::from_le_bytes);
                    self.seen.contents.counters.insert(key.to_vec(), sum);
                }
            }
            None => self.seen.contents.add(key),
        }
        Ok(())
    }

    fn use_blob(&mut self, blob: &BlobRef) -> Result<()> {
        *self.seen.live.entry(blob.segment).or_default() += u64::from(blob.stored_len);
        self.verification.bytes += u64::from(blob.stored_len);
        self.check.progress.advance(u64::from(blob.stored_len))
    }

    fn wrong(&mut self, page: &BlobRef, what: &str) -> Result<()> {
        let path = self.state.pages.segments().path(page.segment);
        self.noted::<()>(Err(Error::corrupt(&path, page.offset, what))).map(drop)
    }

    fn noted<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        self.is_whole &= result.is_ok();
        self.check.noted(result)
    }
}

/// What the stores hold, added up entry by entry.
#[derive(Default)]
struct Contents {
    names: BTreeMap<StoreId, (String, Vec<u8>)>,
    counters: BTreeMap<Vec<u8>, i64>,
    entries: BTreeMap<StoreId, BTreeMap<u8, u64>>,
}

impl Contents {
    fn add(&mut self, key: &[u8]) {
        let Some((store, rest)) = key.split_first_chunk::<STORE_LEN>() else { return };
        let entries = self.entries.entry(StoreId(u64::from_be_bytes(*store))).or_default();
        *entries.entry(rest.first().copied().unwrap_or_default()).or_default() += 1;
    }

    fn finish(mut self, changes: &BTreeMap<Vec<u8>, i64>) -> BTreeMap<String, StoreContents> {
        for (key, change) in changes {
            let sum = self.counters.entry(key.clone()).or_default();
            *sum = sum.wrapping_add(*change);
        }
        self.counters.retain(|_, sum| *sum != 0);
        let mut stores = BTreeMap::new();
        for (id, (name, metadata)) in self.names {
            let prefix = catalog::counters_prefix(id);
            let counters = self
                .counters
                .range(prefix.clone()..)
                .map_while(|(key, sum)| Some((key.strip_prefix(prefix.as_slice())?.to_vec(), *sum)))
                .collect();
            let entries = self.entries.remove(&id).unwrap_or_default();
            stores.insert(name, StoreContents { metadata, entries, counters });
        }
        stores
    }
}
