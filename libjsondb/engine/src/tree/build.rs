//! Merging sorted changes into a tree: every page on the way to a change is written anew, all others are kept.
//!
//! Pages are replaced, never changed, so the old root stays a whole tree for the snapshots that hold it.

use std::collections::{BTreeMap, HashSet};

use super::changes::{Change, Changes, WholeLeaf};
use super::{DEPTH_MAX, Pages};
use crate::page::{self, INLINE_VALUE_MAX, PAGE_BYTES, Page, PageKind};
use crate::segment::{BlobKind, SegmentId, SegmentWriter};
use crate::{BlobRef, CancelToken, Error, Result, Value, ValueRef};

/// A leaf below this size takes in its right neighbour.
const UNDERFULL_BYTES: usize = PAGE_BYTES / 4;
/// A run is cut into leaves once it holds this much.
const RUN_FLUSH_BYTES: usize = 64 * PAGE_BYTES;

/// What a merge wrote and what it no longer needs.
#[derive(Default)]
pub(crate) struct Accounting {
    /// Bytes of blobs newly referred to, by segment (including value segments that transactions wrote).
    pub(crate) added: BTreeMap<SegmentId, u64>,
    /// Bytes of blobs no longer referred to.
    pub(crate) freed: BTreeMap<SegmentId, u64>,
}

impl Accounting {
    fn add(&mut self, blob: &BlobRef) {
        *self.added.entry(blob.segment).or_default() += u64::from(blob.stored_len);
    }

    fn free(&mut self, blob: &BlobRef) {
        *self.freed.entry(blob.segment).or_default() += u64::from(blob.stored_len);
    }
}

/// A child of a branch under construction: the lowest key it may hold, and where it is.
pub(crate) struct Child {
    pub(crate) lowest: Vec<u8>,
    pub(crate) blob: BlobRef,
}

/// A value of a leaf under construction.
enum LeafValue {
    Inline(Vec<u8>),
    Blob(BlobRef),
}

impl LeafValue {
    fn as_ref(&self) -> ValueRef<'_> {
        match self {
            LeafValue::Inline(bytes) => ValueRef::Inline(bytes),
            LeafValue::Blob(blob) => ValueRef::Blob(*blob),
        }
    }
}

/// Entries of neighbouring leaves, gathered until they are cut into pages.
#[derive(Default)]
struct LeafRun {
    lowest: Option<Vec<u8>>,
    entries: Vec<(Vec<u8>, LeafValue)>,
    bytes: usize,
}

impl LeafRun {
    fn push(&mut self, key: Vec<u8>, value: LeafValue) {
        if self.entries.is_empty() {
            self.lowest.get_or_insert_with(|| key.clone());
        }
        self.bytes += page::entry_bytes(&key, &value.as_ref());
        self.entries.push((key, value));
    }
}

/// Merges changes into one tree.
pub(crate) struct Builder<'a, C: Changes> {
    pages: &'a Pages,
    writer: SegmentWriter,
    changes: C,
    victims: &'a HashSet<SegmentId>,
    accounting: Accounting,
    cancel: &'a CancelToken,
}

/// A new tree whose files are durable.
pub(crate) struct Built {
    pub(crate) root: Option<BlobRef>,
    pub(crate) accounting: Accounting,
    /// Segments written, with their bytes of blobs.
    pub(crate) segments: Vec<(SegmentId, u64)>,
}

impl<'a, C: Changes> Builder<'a, C> {
    /// What lies in `victims` and is met on the way is moved.
    pub(crate) fn new(
        pages: &'a Pages,
        changes: C,
        victims: &'a HashSet<SegmentId>,
        cancel: &'a CancelToken,
    ) -> Self {
        let writer = SegmentWriter::new(pages.segments());
        Self { pages, writer, changes, victims, accounting: Accounting::default(), cancel }
    }

    pub(crate) fn build(mut self, root: Option<BlobRef>) -> Result<Built> {
        let mut children = match root {
            Some(root) => self.merge_children(vec![Child { lowest: Vec::new(), blob: root }], None, 0)?,
            None => {
                let mut out = Vec::new();
                let mut run = LeafRun { lowest: Some(Vec::new()), ..LeafRun::default() };
                self.merge_leaf(None, None, &mut run, &mut out)?;
                self.flush_run(&mut run, &mut out)?;
                out
            }
        };
        while children.len() > 1 {
            children = self.write_branches(&children)?;
        }
        let root = self.collapse(children.pop())?;
        Ok(Built { root, accounting: self.accounting, segments: self.writer.finish()? })
    }

    /// A root with one child is not needed.
    fn collapse(&mut self, root: Option<Child>) -> Result<Option<BlobRef>> {
        let Some(mut root) = root.map(|child| child.blob) else { return Ok(None) };
        for _ in 0..DEPTH_MAX {
            let page = self.read(&root)?;
            if page.kind() == PageKind::Leaf || page.count() > 1 {
                return Ok(Some(root));
            }
            let child = page.child(0);
            self.release(&root);
            root = child;
        }
        Err(self.pages.too_deep(&root))
    }

    /// Reads a page that may have been written by this builder.
    fn read(&mut self, blob: &BlobRef) -> Result<Page> {
        let bytes = self.writer.read(blob)?;
        Page::decode(bytes).ok_or_else(|| self.pages.damaged(blob, "not a page of the tree"))
    }

    /// True when the next change lies below `upper` (None: the end of the key space).
    fn has_change_below(&self, upper: Option<&[u8]>) -> bool {
        match (self.changes.key(), upper) {
            (Some(key), Some(upper)) => key < upper,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Merges the changes below `upper` into sibling pages. Gives the siblings that take their place.
    fn merge_children(
        &mut self,
        children: Vec<Child>,
        upper: Option<&[u8]>,
        depth: usize,
    ) -> Result<Vec<Child>> {
        let mut out = Vec::with_capacity(children.len());
        let mut run = LeafRun::default();
        let mut children = children.into_iter().peekable();
        while let Some(child) = children.next() {
            let child_upper = children.peek().map(|next| next.lowest.clone());
            let child_upper = child_upper.as_deref().or(upper);
            let touched = self.has_change_below(child_upper);
            let fill = !run.entries.is_empty() && run.bytes < UNDERFULL_BYTES;
            if !touched && !fill {
                self.flush_run(&mut run, &mut out)?;
                out.push(child);
                continue;
            }
            self.cancel.check()?;
            let page = self.read(&child.blob)?;
            match page.kind() {
                PageKind::Branch => self.merge_branch(child, &page, child_upper, depth, &mut out)?,
                PageKind::Leaf if touched && self.only_relocates(&child, &page, child_upper)? => {
                    self.flush_run(&mut run, &mut out)?;
                    out.push(child);
                }
                PageKind::Leaf => {
                    self.release(&child.blob);
                    if run.entries.is_empty() {
                        run.lowest.get_or_insert(child.lowest);
                    }
                    self.merge_leaf(Some(&page), child_upper, &mut run, &mut out)?;
                }
            }
        }
        self.flush_run(&mut run, &mut out)?;
        Ok(out)
    }

    fn merge_branch(
        &mut self,
        child: Child,
        page: &Page,
        upper: Option<&[u8]>,
        depth: usize,
        out: &mut Vec<Child>,
    ) -> Result<()> {
        if depth >= DEPTH_MAX {
            return Err(self.pages.too_deep(&child.blob));
        }
        let mut grandchildren = Vec::with_capacity(page.count());
        for index in 0..page.count() {
            let mut lowest = Vec::new();
            page.key_into(index, &mut lowest);
            grandchildren.push(Child { lowest, blob: page.child(index) });
        }
        let before: Vec<BlobRef> = grandchildren.iter().map(|child| child.blob).collect();
        // Deletions may have removed the first grandchild: the branch keeps covering the same keys.
        if let Some(first) = grandchildren.first_mut() {
            first.lowest.clone_from(&child.lowest);
        }
        let mut merged = self.merge_children(grandchildren, upper, depth + 1)?;
        let unchanged = merged.iter().map(|child| child.blob).eq(before.iter().copied());
        if unchanged && !self.victims.contains(&child.blob.segment) {
            out.push(child);
            return Ok(());
        }
        self.release(&child.blob);
        if let Some(first) = merged.first_mut() {
            first.lowest = child.lowest;
            out.append(&mut self.write_branches(&merged)?);
        }
        Ok(())
    }

    /// True when the changes below `upper` are relocations and nothing of this leaf lies in a victim. Drops the
    /// relocations it has looked at: a leaf that is not in a victim has no use for them.
    fn only_relocates(&mut self, child: &Child, page: &Page, upper: Option<&[u8]>) -> Result<bool> {
        let in_victim = |index| match page.entry(index).1 {
            ValueRef::Blob(blob) => self.victims.contains(&blob.segment),
            ValueRef::Inline(_) => false,
        };
        if self.victims.contains(&child.blob.segment) || (0..page.count()).any(in_victim) {
            return Ok(false);
        }
        while self.has_change_below(upper) {
            if !self.changes.is_relocation() {
                return Ok(false);
            }
            self.changes.next()?;
        }
        Ok(true)
    }

    /// Merges one leaf (None: no leaf yet) and the changes below `upper` into the run.
    fn merge_leaf(
        &mut self,
        page: Option<&Page>,
        upper: Option<&[u8]>,
        run: &mut LeafRun,
        out: &mut Vec<Child>,
    ) -> Result<()> {
        let count = page.map_or(0, Page::count);
        let mut index = 0;
        let mut key = Vec::new();
        loop {
            let old = match page {
                Some(page) if index < count => {
                    key.clear();
                    page.key_into(index, &mut key);
                    Some(page.entry(index).1)
                }
                _ => None,
            };
            let change_first = match (self.changes.key(), old) {
                (Some(changed), Some(_)) if changed <= key.as_slice() => true,
                (Some(_), Some(_)) | (None, _) => false,
                (Some(_), None) => self.has_change_below(upper),
            };
            if change_first {
                let next = old.map(|_| key.as_slice()).or(upper);
                if let Some(leaf) = self.adoptable(run, next) {
                    self.adopt(&leaf, run, out)?;
                    continue;
                }
                let Some((changed, change)) = self.changes.next()? else { break };
                let replaced = old.filter(|_| changed == key);
                index += usize::from(replaced.is_some());
                if let Some(value) = self.apply(&changed, change, replaced)? {
                    run.push(changed, value);
                }
            } else if let Some(old) = old {
                index += 1;
                let value = self.keep(&key, old)?;
                run.push(key.clone(), value);
            } else {
                break;
            }
            if run.bytes >= RUN_FLUSH_BYTES {
                self.flush_run(run, out)?;
            }
        }
        Ok(())
    }

    /// The next changes, when they are a leaf that fits in before `next` (None: the end) as it is. The leaf before it is not left too small.
    fn adoptable(&self, run: &LeafRun, next: Option<&[u8]>) -> Option<WholeLeaf> {
        let closes_well = run.entries.is_empty() || run.bytes >= UNDERFULL_BYTES;
        let leaf = closes_well.then(|| self.changes.leaf()).flatten()?;
        next.is_none_or(|next| leaf.last.as_slice() < next).then_some(leaf)
    }

    /// Takes over a leaf that a transaction wrote.
    fn adopt(&mut self, leaf: &WholeLeaf, run: &mut LeafRun, out: &mut Vec<Child>) -> Result<()> {
        self.cancel.check()?;
        let lowest = if run.entries.is_empty() { run.lowest.take() } else { None };
        self.flush_run(run, out)?;
        let lowest = lowest.unwrap_or_else(|| {
            let mut first = Vec::new();
            leaf.page.key_into(0, &mut first);
            first
        });
        self.accounting.add(&leaf.blob);
        for index in 0..leaf.page.count() {
            if let ValueRef::Blob(blob) = leaf.page.entry(index).1 {
                self.accounting.add(&blob);
            }
        }
        out.push(Child { lowest, blob: leaf.blob });
        self.changes.skip_leaf()
    }

    /// The value after a change; None when the key is gone.
    fn apply(&mut self, key: &[u8], change: Change, old: Option<ValueRef<'_>>) -> Result<Option<LeafValue>> {
        let value = match change {
            Change::Relocate => return old.map(|old| self.keep(key, old)).transpose(),
            Change::Add(delta) => {
                let before = match old {
                    Some(ValueRef::Inline(bytes)) => bytes.try_into().map_or(0, i64::from_le_bytes),
                    _ => 0,
                };
                let sum = before.wrapping_add(delta);
                return Ok((sum != 0).then(|| LeafValue::Inline(sum.to_le_bytes().to_vec())));
            }
            Change::Put(value) => Some(value),
            Change::Delete => None,
        };
        if let Some(ValueRef::Blob(blob)) = old {
            self.accounting.free(&blob);
        }
        value.map(|value| self.place(key, value)).transpose()
    }

    /// Small values go into the leaf, large ones into a value blob.
    fn place(&mut self, key: &[u8], value: Value) -> Result<LeafValue> {
        match value {
            Value::Inline(bytes) if bytes.len() <= INLINE_VALUE_MAX => Ok(LeafValue::Inline(bytes.to_vec())),
            Value::Inline(bytes) => self.write_value(key, &bytes),
            Value::Blob(blob) if blob.len as usize <= INLINE_VALUE_MAX => {
                Ok(LeafValue::Inline(self.pages.segments().read(&blob)?))
            }
            Value::Blob(blob) => {
                self.accounting.add(&blob);
                Ok(LeafValue::Blob(blob))
            }
        }
    }

    fn keep(&mut self, key: &[u8], old: ValueRef<'_>) -> Result<LeafValue> {
        match old {
            ValueRef::Inline(bytes) => Ok(LeafValue::Inline(bytes.to_vec())),
            ValueRef::Blob(blob) if self.victims.contains(&blob.segment) => {
                let bytes = self.pages.segments().read(&blob)?;
                self.accounting.free(&blob);
                self.write_value(key, &bytes)
            }
            ValueRef::Blob(blob) => Ok(LeafValue::Blob(blob)),
        }
    }

    fn write_value(&mut self, key: &[u8], bytes: &[u8]) -> Result<LeafValue> {
        let blob = self.writer.add(BlobKind::Value, key, bytes)?;
        self.accounting.add(&blob);
        Ok(LeafValue::Blob(blob))
    }

    fn write_leaf(&mut self, first: &[u8], entries: &[(Vec<u8>, LeafValue)]) -> Result<BlobRef> {
        let entries = entries.iter().map(|(key, value)| (key.as_slice(), value.as_ref()));
        let page = page::encode(PageKind::Leaf, entries).ok_or_else(|| out_of_order(&self.writer))?;
        let blob = self.writer.add(BlobKind::Page, first, &page)?;
        self.accounting.add(&blob);
        Ok(blob)
    }

    fn release(&mut self, blob: &BlobRef) {
        self.accounting.free(blob);
    }

    /// Cuts the run into leaves of even size.
    fn flush_run(&mut self, run: &mut LeafRun, out: &mut Vec<Child>) -> Result<()> {
        let (run, pages) = (std::mem::take(run), self.pages);
        let mut lowest = run.lowest;
        let sets = pages.segments().sets();
        for entries in run.entries.chunk_by(|(a, _), (b, _)| sets.of_key(a) == sets.of_key(b)) {
            let sizes = entries.iter().map(|(key, value)| page::entry_bytes(key, &value.as_ref()));
            for range in even_ranges(sizes, 1) {
                let entries = entries.get(range).unwrap_or_default();
                let (Some((first, _)), previous) = (entries.first(), lowest.take()) else { continue };
                // The run's first leaf covers from where the run began; later ones from their first key.
                let lowest = previous.unwrap_or_else(|| first.clone());
                let blob = self.write_leaf(first, entries)?;
                out.push(Child { lowest, blob });
            }
        }
        Ok(())
    }

    fn write_branches(&mut self, children: &[Child]) -> Result<Vec<Child>> {
        let branches = write_branches(&mut self.writer, children)?;
        branches.iter().for_each(|branch| self.accounting.add(&branch.blob));
        Ok(branches)
    }
}

/// Writes the branches over a row of siblings: one for about a page of them.
pub(crate) fn write_branches(writer: &mut SegmentWriter, children: &[Child]) -> Result<Vec<Child>> {
    let value = |child: &Child| ValueRef::Blob(child.blob);
    let sizes = children.iter().map(|child| page::entry_bytes(&child.lowest, &value(child)));
    let mut out = Vec::new();
    for range in even_ranges(sizes, 2) {
        let group = children.get(range).unwrap_or_default();
        let Some(first) = group.first() else { continue };
        let entries = group.iter().map(|child| (child.lowest.as_slice(), value(child)));
        let page = page::encode(PageKind::Branch, entries).ok_or_else(|| out_of_order(writer))?;
        let blob = writer.add_branch(&first.lowest, &page)?;
        out.push(Child { lowest: first.lowest.clone(), blob });
    }
    Ok(out)
}

/// Pages that fit their checksums, but not together.
fn out_of_order(writer: &SegmentWriter) -> Error {
    Error::corrupt(writer.folder(), 0, "keys of the tree are out of order")
}

/// Cuts a row of sizes into ranges of about equal sums, each at most about a page, each of at least `count_min` (the last may
/// be shorter by what is left).
fn even_ranges(sizes: impl Iterator<Item = usize> + Clone, count_min: usize) -> Vec<std::ops::Range<usize>> {
    let total: usize = sizes.clone().sum();
    let pages = total.div_ceil(PAGE_BYTES).max(1);
    let target = total.div_ceil(pages);
    let mut ranges = Vec::with_capacity(pages);
    let (mut start, mut sum, mut end) = (0, 0, 0);
    for size in sizes {
        sum += size;
        end += 1;
        if sum >= target && end - start >= count_min {
            ranges.push(start..end);
            (start, sum) = (end, 0);
        }
    }
    if start < end {
        ranges.push(start..end);
    }
    ranges
}
