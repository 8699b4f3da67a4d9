//! The state at one sequence number: a checkpoint's tree and the memtables over it. Taken with one pointer, read without
//! locks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::log::LogEnd;
use crate::manifest::Manifest;
use crate::memtable::{MemCursor, Memtable, Window};
use crate::run::{Run, RunCursor, RunKind, Sought};
use crate::segment::SegmentId;
use crate::tree::changes::WholeLeaf;
use crate::tree::{Keep, Pages, TreeCursor, Wait};
use crate::write_set::{WriteCursor, WriteSet};
use crate::{Direction, Result, Seq, Value, ValueRef};

/// Everything committed up to `seq`.
pub(crate) struct Snapshot {
    pub(crate) manifest: Arc<Manifest>,
    /// Newest first; together they hold every commit after the manifest's checkpoint.
    pub(crate) memtables: Arc<[Arc<Memtable>]>,
    pub(crate) seq: Seq,
    /// End of the log this state was read from.
    pub(crate) log_end: LogEnd,
}

impl Snapshot {
    /// The commits that come from memtables.
    pub(crate) fn window(&self) -> Window {
        Window { after: self.manifest.name.checkpoint, upto: self.seq }
    }

    /// Segments that the tree refers to, and those that later commits do.
    pub(crate) fn segments(&self) -> BTreeSet<SegmentId> {
        let later = self.memtables.iter().flat_map(|memtable| memtable.value_segments(self.window()));
        self.manifest.segments.keys().copied().chain(later).collect()
    }

    pub(crate) fn get(&self, pages: &Pages, key: &[u8]) -> Result<Option<Value>> {
        let mut found = None;
        self.find(pages, key, Wait::AsLongAsNeeded, &mut |value| found = value.map(ValueRef::to_value))?;
        Ok(found)
    }

    /// Shows the value of a key, None when there is none. False, and nothing is shown, when that takes a wait that is not allowed.
    pub(crate) fn find(
        &self,
        pages: &Pages,
        key: &[u8],
        wait: Wait,
        show: &mut dyn FnMut(Option<ValueRef<'_>>),
    ) -> Result<bool> {
        for memtable in self.memtables.iter().filter(|memtable| !memtable.is_empty()) {
            if let Some(value) = memtable.find(key, self.window()) {
                show(value);
                return Ok(true);
            }
            for run in memtable.runs(self.window()) {
                match run.find(pages, key, wait, show)? {
                    Sought::Shown => return Ok(true),
                    Sought::MustWait => return Ok(false),
                    Sought::Absent => {}
                }
            }
        }
        pages.find(self.manifest.root, key, wait, show)
    }

    /// A counter's sum: what the tree holds, and what the memtables add.
    pub(crate) fn counter(&self, pages: &Pages, key: &[u8]) -> Result<i64> {
        let mut sum = 0;
        pages.find(self.manifest.root, key, Wait::AsLongAsNeeded, &mut |value| {
            if let Some(ValueRef::Inline(bytes)) = value {
                sum = bytes.try_into().map_or(0, i64::from_le_bytes);
            }
        })?;
        for memtable in self.memtables.iter() {
            // A memtable may reach back before the checkpoint: those additions are in the tree already.
            let counted = memtable.counter(key, self.manifest.name.checkpoint);
            sum = sum.wrapping_add(memtable.counter(key, self.seq).wrapping_sub(counted));
        }
        Ok(sum)
    }

    /// What the memtables add to each counter, beyond what the tree holds.
    pub(crate) fn counter_changes(&self) -> BTreeMap<Vec<u8>, i64> {
        let window = self.window();
        let mut sums: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for memtable in self.memtables.iter() {
            for key in memtable.counter_keys() {
                let before = memtable.counter(&key, window.after);
                let change = memtable.counter(&key, window.upto).wrapping_sub(before);
                let sum = sums.entry(key.into_vec()).or_default();
                *sum = sum.wrapping_add(change);
            }
        }
        sums
    }

    /// All runs that the tree does not hold yet.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.memtables.iter().flat_map(|memtable| memtable.runs(self.window()))
    }

    /// Cursors over the memtables and runs, newest first.
    pub(crate) fn memtable_sources<'a>(&'a self, pages: &'a Pages) -> impl Iterator<Item = Source<'a>> {
        let window = self.window();
        let memtables = self.memtables.iter().filter(|memtable| !memtable.is_empty());
        memtables.flat_map(move |memtable| memtable.sources(window, pages))
    }

    /// A cursor over the tree.
    pub(crate) fn tree_source<'a>(&self, pages: &'a Pages, keep: Keep) -> Option<Source<'a>> {
        self.manifest.root.map(|root| Source::Tree(TreeCursor::new(pages, Some(root)).keeping(keep)))
    }
}

impl Memtable {
    /// Cursors over what commits after `seq` wrote, newest first.
    pub(crate) fn sources_after<'a>(
        &'a self,
        seq: Seq,
        pages: &'a Pages,
    ) -> impl Iterator<Item = Source<'a>> {
        self.sources(Window::after(seq), pages)
    }

    /// Cursors over what commits inside `window` wrote, newest first.
    fn sources<'a>(&'a self, window: Window, pages: &'a Pages) -> impl Iterator<Item = Source<'a>> {
        let runs = self.runs(window).iter().map(|run| Source::Run(run.cursor(pages)));
        std::iter::once(Source::Memtable(self.cursor(window))).chain(runs)
    }
}

/// One part of what a scan merges.
pub(crate) enum Source<'a> {
    Writes(WriteCursor<'a>),
    Memtable(MemCursor<'a>),
    Run(RunCursor<'a>),
    Tree(TreeCursor<'a>),
}

impl<'a> Source<'a> {
    pub(crate) fn writes(writes: &'a WriteSet) -> Source<'a> {
        Source::Writes(WriteCursor::new(writes))
    }

    /// Key, and value or tombstone.
    pub(crate) fn current(&self) -> Option<(&[u8], Option<ValueRef<'_>>)> {
        match self {
            Source::Writes(cursor) => cursor.current(),
            Source::Memtable(cursor) => cursor.current(),
            Source::Run(RunCursor { tree, run }) => {
                tree.current().map(|(key, value)| (key, (run.kind == RunKind::Values).then_some(value)))
            }
            Source::Tree(cursor) => cursor.current().map(|(key, value)| (key, Some(value))),
        }
    }

    pub(crate) fn seek(&mut self, bound: Bound<&[u8]>, direction: Direction) -> Result<()> {
        match (self, direction) {
            (Source::Writes(cursor), _) => cursor.seek(bound, direction),
            (Source::Memtable(cursor), Direction::Forward) => cursor.seek_forward(bound),
            (Source::Memtable(cursor), Direction::Backward) => cursor.seek_backward(bound),
            (Source::Run(RunCursor { tree: cursor, .. }) | Source::Tree(cursor), Direction::Forward) => {
                cursor.seek_forward(bound)?
            }
            (Source::Run(RunCursor { tree: cursor, .. }) | Source::Tree(cursor), Direction::Backward) => {
                cursor.seek_backward(bound)?
            }
        }
        Ok(())
    }

    fn step(&mut self, direction: Direction) -> Result<()> {
        match (self, direction) {
            (Source::Writes(cursor), _) => cursor.step(direction),
            (Source::Memtable(cursor), Direction::Forward) => cursor.forward(),
            (Source::Memtable(cursor), Direction::Backward) => cursor.backward(),
            (Source::Run(RunCursor { tree: cursor, .. }) | Source::Tree(cursor), Direction::Forward) => {
                cursor.forward()?
            }
            (Source::Run(RunCursor { tree: cursor, .. }) | Source::Tree(cursor), Direction::Backward) => {
                cursor.backward()?
            }
        }
        Ok(())
    }
}

pub(crate) fn value_ref(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Inline(bytes) => ValueRef::Inline(bytes),
        Value::Blob(blob) => ValueRef::Blob(*blob),
    }
}

/// Merges sources into one sequence of keys. Where several hold a key, the first source wins. Tombstones are shown.
pub(crate) struct Merge<'a> {
    /// Those that are not at their end.
    sources: Vec<Source<'a>>,
    direction: Direction,
    /// Index of the source whose entry is next. With no sources left, of none.
    leader: usize,
}

impl<'a> Merge<'a> {
    /// Starts at `start` in the given direction: its lower bound going forward, its upper bound going backward.
    pub(crate) fn new(
        mut sources: Vec<Source<'a>>,
        start: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Merge<'a>> {
        for source in &mut sources {
            source.seek(start, direction)?;
        }
        sources.retain(|source| source.current().is_some());
        let mut merge = Merge { sources, direction, leader: 0 };
        merge.choose_leader();
        Ok(merge)
    }

    fn choose_leader(&mut self) {
        self.leader = 0;
        // Nothing to choose most of the time: the tree alone.
        if self.sources.len() < 2 {
            return;
        }
        let mut nearest: Option<&[u8]> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some((key, _)) = source.current() else { continue };
            let is_nearer = nearest.is_none_or(|nearest| match self.direction {
                Direction::Forward => key < nearest,
                Direction::Backward => key > nearest,
            });
            if is_nearer {
                (self.leader, nearest) = (index, Some(key));
            }
        }
    }

    /// The next key, and its value or tombstone.
    pub(crate) fn current(&self) -> Option<(&[u8], Option<ValueRef<'_>>)> {
        self.sources.get(self.leader)?.current()
    }

    /// The leaf of a run whose entries come next, with none of another source in between. One of a run that `allow`s it.
    pub(crate) fn leaf(&self, allow: impl Fn(&Run) -> bool) -> Option<WholeLeaf> {
        let Source::Run(RunCursor { tree, run }) = self.sources.get(self.leader)? else { return None };
        if run.kind != RunKind::Values || !allow(run) {
            return None;
        }
        let (page, blob) = tree.begun_leaf()?;
        let mut last = Vec::new();
        page.key_into(page.count() - 1, &mut last);
        let mut others = self.sources.iter().enumerate().filter(|(index, _)| *index != self.leader);
        let stands_alone =
            others.all(|(_, other)| other.current().is_none_or(|(key, _)| key > last.as_slice()));
        stands_alone.then(|| WholeLeaf { page: Arc::clone(page), blob, last })
    }

    /// Steps over the entries that [`Merge::leaf`] gave.
    pub(crate) fn skip_leaf(&mut self) -> Result<()> {
        if let Some(Source::Run(RunCursor { tree, .. })) = self.sources.get_mut(self.leader) {
            tree.forward_leaf()?;
        }
        self.sources.retain(|source| source.current().is_some());
        self.choose_leader();
        Ok(())
    }

    /// Steps all sources off the current key.
    pub(crate) fn advance(&mut self) -> Result<()> {
        // Only sources behind the leader can hold the same key: an earlier one would lead.
        let Some((leader, others)) = self.sources.get_mut(self.leader..).and_then(<[_]>::split_first_mut)
        else {
            return Ok(());
        };
        let mut ended = false;
        if let Some((key, _)) = leader.current() {
            for source in others {
                if source.current().is_some_and(|(other, _)| other == key) {
                    source.step(self.direction)?;
                    ended |= source.current().is_none();
                }
            }
        }
        leader.step(self.direction)?;
        if ended || leader.current().is_none() {
            self.sources.retain(|source| source.current().is_some());
        }
        self.choose_leader();
        Ok(())
    }
}
