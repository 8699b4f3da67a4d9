//! Trees of any pages: searched, walked, merged into new ones.
//!
//! The input is a list of pages (length u16, bytes); the last is the root. References in a page are made to mean pages before it,
//! with the right checksum, so that damage lies in how pages fit together.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use super::page::{encode, entries};
use super::scratch;
use crate::bytes::{Put, Reader};
use crate::page::{Page, PageKind};
use crate::segment::{BlobKind, SegmentId, SegmentWriter, Segments};
use crate::tree::build::Builder;
use crate::tree::changes::{Change, Changes, WholeLeaf};
use crate::tree::{Pages, TreeCursor, Wait};
use crate::{BlobRef, CancelToken, Value};

const PAGES_MAX: usize = 8;
/// A page named many times makes a tree of many entries: nobody walks over all of them here.
const STEPS_MAX: usize = 1000;

/// The pages of the input, in one segment file.
pub(super) struct Planted {
    pub(super) segments: Arc<Segments>,
    pub(super) files: Vec<(SegmentId, u64)>,
    pages: Vec<PlantedPage>,
}

#[derive(Clone, Copy)]
struct PlantedPage {
    blob: BlobRef,
    /// Bytes in use under it, each counted as often as it is referred to.
    live: u64,
}

impl Planted {
    pub(super) fn root(&self) -> Option<BlobRef> {
        self.pages.last().map(|page| page.blob)
    }

    pub(super) fn live(&self) -> u64 {
        self.pages.last().map_or(0, |page| page.live)
    }
}

/// Reads pages from the input and writes them.
pub(super) fn plant(reader: &mut Reader<'_>, folder: &Path) -> Planted {
    let segments = Arc::new(Segments::new(folder.to_owned(), 7));
    let mut writer = SegmentWriter::new(&segments);
    let mut pages = Vec::new();
    while let Some(page) = reader.u16().and_then(|len| reader.take(usize::from(len))) {
        let (page, below) = refer_to(&pages, page).unwrap_or((page.to_vec(), 0));
        let blob = writer.add(BlobKind::Page, b"", &page).unwrap();
        pages.push(PlantedPage { blob, live: below.saturating_add(u64::from(blob.stored_len)) });
        if pages.len() == PAGES_MAX {
            break;
        }
    }
    let files = writer.finish().unwrap();
    Planted { segments, files, pages }
}

/// The page with its references changed to some of `pages`, and the bytes in use under it; None when it is no page.
fn refer_to(pages: &[PlantedPage], bytes: &[u8]) -> Option<(Vec<u8>, u64)> {
    let page = Page::decode(bytes.to_vec()).filter(|_| !pages.is_empty())?;
    let (mut entries, mut below) = (entries(&page), 0u64);
    for (_, value) in &mut entries {
        if let Value::Blob(blob) = value {
            let chosen = pages[blob.offset as usize % pages.len()];
            *blob = chosen.blob;
            let is_child = page.kind() == PageKind::Branch;
            below = below.saturating_add(if is_child { chosen.live } else { u64::from(blob.stored_len) });
        }
    }
    Some((encode(page.kind(), &entries)?, below))
}

pub(super) fn tree(input: &[u8]) {
    let folder = scratch();
    let planted = plant(&mut Reader::new(input), folder.path());
    let pages = Pages::new(Arc::clone(&planted.segments), 1 << 20);
    let root = planted.root();
    let probe = &input[input.len() / 2..];
    for wait in [Wait::Never, Wait::AsLongAsNeeded, Wait::Never] {
        let _ = pages.find(root, probe, wait, &mut |_| {});
    }
    walk(&pages, root, probe);
    let victims: [HashSet<SegmentId>; 2] =
        [HashSet::new(), planted.files.iter().map(|(id, _)| *id).collect()];
    for victims in &victims {
        if let Ok(built) = merge(&pages, root, probe, victims) {
            walk(&pages, built, probe);
        }
    }
}

fn walk(pages: &Pages, root: Option<BlobRef>, probe: &[u8]) {
    let mut cursor = TreeCursor::new(pages, root);
    for bound in [Bound::Unbounded, Bound::Included(probe), Bound::Excluded(probe)] {
        let mut moved = cursor.seek_forward(bound);
        for _ in 0..STEPS_MAX {
            if moved.is_err() || cursor.current().is_none() {
                break;
            }
            moved = cursor.forward();
        }
        let mut moved = cursor.seek_backward(bound);
        for _ in 0..STEPS_MAX {
            if moved.is_err() || cursor.current().is_none() {
                break;
            }
            moved = cursor.backward();
        }
    }
}

/// Merges changes at some keys of the tree, and beside them.
fn merge(
    pages: &Pages,
    root: Option<BlobRef>,
    probe: &[u8],
    victims: &HashSet<SegmentId>,
) -> crate::Result<Option<BlobRef>> {
    let mut changes = BTreeMap::new();
    for (index, key) in probe.chunks(5).take(20).enumerate() {
        let change = match index % 4 {
            0 => Change::Put(Value::Inline(key.into())),
            1 => Change::Delete,
            2 => Change::Add(-1),
            _ => Change::Relocate,
        };
        changes.insert([b"user:", key].concat(), change);
    }
    let changes = Listed(changes.into_iter().rev().collect());
    Ok(Builder::new(pages, changes, victims, &CancelToken::new()).build(root)?.root)
}

/// Highest key first.
struct Listed(Vec<(Vec<u8>, Change)>);

impl Changes for Listed {
    fn key(&self) -> Option<&[u8]> {
        self.0.last().map(|(key, _)| key.as_slice())
    }

    fn is_relocation(&self) -> bool {
        matches!(self.0.last(), Some((_, Change::Relocate)))
    }

    fn next(&mut self) -> crate::Result<Option<(Vec<u8>, Change)>> {
        Ok(self.0.pop())
    }

    fn leaf(&self) -> Option<WholeLeaf> {
        None
    }

    fn skip_leaf(&mut self) -> crate::Result<()> {
        Ok(())
    }
}

/// Appends a page as [`plant`] reads it.
fn put_page(out: &mut Vec<u8>, kind: PageKind, entries: &[(&str, Value)]) {
    let entries: Vec<_> =
        entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.clone())).collect();
    let page = encode(kind, &entries).unwrap();
    out.put_u16(page.len() as u16);
    out.extend_from_slice(&page);
}

/// A reference that [`plant`] makes one to the page of this index.
fn reference(index: u64) -> Value {
    Value::Blob(BlobRef {
        segment: SegmentId { owner: 1, number: 2 },
        offset: index,
        len: 9,
        stored_len: 4,
        crc: 5,
    })
}

/// Two leaves under a branch under a branch; one leaf alone; nothing.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let inline = |text: &str| Value::Inline(text.as_bytes().into());
    let (mut deep, mut flat) = (Vec::new(), Vec::new());
    let leaf = [("user:1", inline("Alice")), ("user:3", inline("Bob")), ("user:4", inline(""))];
    put_page(&mut flat, PageKind::Leaf, &leaf);
    put_page(&mut deep, PageKind::Leaf, &leaf);
    put_page(&mut deep, PageKind::Leaf, &[("user:5", reference(0)), ("user:7", inline("Eve"))]);
    put_page(&mut deep, PageKind::Branch, &[("", reference(0)), ("user:5", reference(1))]);
    put_page(&mut deep, PageKind::Leaf, &[("v", inline("7")), ("w", reference(1))]);
    put_page(&mut deep, PageKind::Branch, &[("", reference(2)), ("v", reference(3))]);
    vec![deep, flat, Vec::new()]
}
