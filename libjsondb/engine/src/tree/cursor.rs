//! A position in the tree that moves both ways.

use std::ops::Bound;
use std::sync::Arc;

use super::{DEPTH_MAX, Keep, Pages, Wait};
use crate::page::{Page, PageKind};
use crate::{BlobRef, Result, ValueRef};

/// A position on a leaf entry, or nowhere.
pub(crate) struct TreeCursor<'a> {
    pages: &'a Pages,
    root: Option<BlobRef>,
    /// From the root to the leaf: page and the entry the path goes through.
    path: Vec<(Arc<Page>, usize)>,
    key: Vec<u8>,
    keep: Keep,
}

impl<'a> TreeCursor<'a> {
    pub(crate) fn new(pages: &'a Pages, root: Option<BlobRef>) -> TreeCursor<'a> {
        TreeCursor { pages, root, path: Vec::new(), key: Vec::new(), keep: Keep::All }
    }

    /// With another choice of the pages that stay in memory.
    pub(crate) fn keeping(self, keep: Keep) -> TreeCursor<'a> {
        TreeCursor { keep, ..self }
    }

    pub(crate) fn current(&self) -> Option<(&[u8], ValueRef<'_>)> {
        let (page, index) = self.path.last()?;
        Some((&self.key, page.entry(*index).1))
    }

    /// Moves to the first key at or after (after: when excluded) the bound.
    pub(crate) fn seek_forward(&mut self, bound: Bound<&[u8]>) -> Result<()> {
        match bound {
            Bound::Unbounded => self.descend(|_| 0)?,
            Bound::Included(key) | Bound::Excluded(key) => {
                // May point one past the leaf's last entry: `settle_forward` moves on to the next leaf.
                let after = matches!(bound, Bound::Excluded(_));
                self.descend(|page| match page.kind() {
                    PageKind::Branch => page.child_index(key),
                    PageKind::Leaf => match page.search(key) {
                        Ok(index) => index + usize::from(after),
                        Err(index) => index,
                    },
                })?;
            }
        }
        self.settle_forward()
    }

    /// Moves to the last key at or before (before: when excluded) the bound.
    pub(crate) fn seek_backward(&mut self, bound: Bound<&[u8]>) -> Result<()> {
        match bound {
            Bound::Unbounded => self.descend(|page| page.count() - 1)?,
            Bound::Included(key) | Bound::Excluded(key) => {
                let before = matches!(bound, Bound::Excluded(_));
                // Points one past the wanted entry, so that one step back reaches it.
                self.descend(|page| match page.kind() {
                    PageKind::Branch => page.child_index(key),
                    PageKind::Leaf => match page.search(key) {
                        Ok(index) => index + usize::from(!before),
                        Err(index) => index,
                    },
                })?;
                return self.backward();
            }
        }
        self.load_key();
        Ok(())
    }

    pub(crate) fn forward(&mut self) -> Result<()> {
        if let Some((_, index)) = self.path.last_mut() {
            *index += 1;
        }
        self.settle_forward()
    }

    /// The leaf and its place in the file, when the position is on its first entry.
    pub(crate) fn begun_leaf(&self) -> Option<(&Arc<Page>, BlobRef)> {
        let ((leaf, index), branches) = self.path.split_last()?;
        let blob = match branches.last() {
            Some((branch, child)) => branch.child(*child),
            None => self.root?,
        };
        (*index == 0).then_some((leaf, blob))
    }

    /// Moves to the first entry of the next leaf.
    pub(crate) fn forward_leaf(&mut self) -> Result<()> {
        if let Some((page, index)) = self.path.last_mut() {
            *index = page.count();
        }
        self.settle_forward()
    }

    pub(crate) fn backward(&mut self) -> Result<()> {
        while let Some((_, index)) = self.path.last_mut() {
            if let Some(previous) = index.checked_sub(1) {
                *index = previous;
                self.descend_from_top(|page| page.count() - 1)?;
                break;
            }
            self.path.pop();
        }
        self.load_key();
        Ok(())
    }

    /// When the path points one past a page's end, moves on to the next page.
    fn settle_forward(&mut self) -> Result<()> {
        while let Some((page, index)) = self.path.last() {
            if *index < page.count() {
                self.descend_from_top(|_| 0)?;
                break;
            }
            self.path.pop();
            if let Some((_, index)) = self.path.last_mut() {
                *index += 1;
            }
        }
        self.load_key();
        Ok(())
    }

    fn descend(&mut self, choose: impl Fn(&Page) -> usize) -> Result<()> {
        self.path.clear();
        let Some(root) = self.root else { return Ok(()) };
        let Some(page) = self.pages.root(&root, Wait::AsLongAsNeeded)? else { return Ok(()) };
        let index = choose(&page);
        self.path.push((page, index));
        self.descend_from_top(choose)
    }

    /// From the last page of the path down to a leaf.
    fn descend_from_top(&mut self, choose: impl Fn(&Page) -> usize) -> Result<()> {
        while let Some((page, index)) = self.path.last() {
            if page.kind() == PageKind::Leaf {
                return Ok(());
            }
            if self.path.len() >= DEPTH_MAX {
                return Err(self.pages.too_deep(&page.child(*index)));
            }
            let child = self.pages.child(page, *index, self.keep)?;
            let index = choose(&child);
            self.path.push((child, index));
        }
        Ok(())
    }

    fn load_key(&mut self) {
        self.key.clear();
        if let Some((page, index)) = self.path.last() {
            page.key_into(*index, &mut self.key);
        }
    }
}
