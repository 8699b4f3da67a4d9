//! Checking a whole checkpoint: every page and value against its checksum, the order of keys, the bytes in use.

use std::collections::BTreeMap;

use crate::database::Inner;
use crate::manifest::Manifest;
use crate::page::PageKind;
use crate::segment::SegmentId;
use crate::tree::DEPTH_MAX;
use crate::{BlobRef, Error, Mode, Result, ValueRef};

/// What a verification has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Keys in the tree.
    pub entries: u64,
    /// Pages of the tree.
    pub pages: u64,
    /// Values outside the pages.
    pub values: u64,
    /// Bytes of pages and values.
    pub bytes: u64,
}

struct Walk<'a> {
    inner: &'a Inner,
    verified: Verified,
    live: BTreeMap<SegmentId, u64>,
    last_key: Option<Vec<u8>>,
}

impl Inner {
    /// Reads the whole tree of the newest checkpoint.
    pub(crate) fn verify(&self) -> Result<Verified> {
        let snapshot = self.newest_snapshot(Mode::Read)?;
        let verified = self.verify_tree(&snapshot.manifest);
        self.release(snapshot, Mode::Read);
        verified
    }

    fn verify_tree(&self, manifest: &Manifest) -> Result<Verified> {
        let mut walk =
            Walk { inner: self, verified: Verified::default(), live: BTreeMap::new(), last_key: None };
        if let Some(root) = manifest.root {
            walk.page(&root, &[], 0)?;
        }
        let listed = manifest.segments.iter().map(|(id, usage)| (*id, usage.live));
        if !listed.eq(walk.live.iter().map(|(id, live)| (*id, *live))) {
            let path = self.folders.manifests.join(manifest.name.file_name());
            let what = "the account of live bytes is not what the tree refers to";
            return Err(Error::corrupt(&path, 0, what));
        }
        Ok(walk.verified)
    }
}

impl Walk<'_> {
    fn page(&mut self, blob: &BlobRef, lowest: &[u8], depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(self.inner.pages.too_deep(blob));
        }
        let page = self.inner.pages.read_uncached(blob)?;
        self.use_blob(blob);
        self.verified.pages += 1;
        for index in 0..page.count() {
            let mut key = Vec::new();
            page.key_into(index, &mut key);
            if key.as_slice() < lowest {
                return Err(self.inner.pages.damaged(blob, "a key is below the page's range"));
            }
            match (page.kind(), page.entry(index).1) {
                (PageKind::Branch, ValueRef::Blob(child)) => self.page(&child, &key, depth + 1)?,
                (_, value) => self.entry(blob, key, value)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, page: &BlobRef, key: Vec<u8>, value: ValueRef<'_>) -> Result<()> {
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(self.inner.pages.damaged(page, "its keys are out of order"));
        }
        if let ValueRef::Blob(blob) = value {
            self.inner.pages.segments().read(&blob)?;
            self.use_blob(&blob);
            self.verified.values += 1;
        }
        self.verified.entries += 1;
        self.last_key = Some(key);
        Ok(())
    }

    fn use_blob(&mut self, blob: &BlobRef) {
        *self.live.entry(blob.segment).or_default() += u64::from(blob.len);
        self.verified.bytes += u64::from(blob.len);
    }
}
