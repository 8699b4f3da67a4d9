//! Pages of the tree: sorted entries behind a shared key prefix, searched in place.
//!
//! A leaf entry is a key and a value (its bytes, or a reference to a value blob); a branch entry is the lowest key a
//! child may hold and the reference to the child. Layout in libjsondb/docs/format.md.

mod prefix;
mod slots;

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapWeak;

use crate::bytes::{Put, Reader};
use crate::{BlobRef, StoreId, ValueRef, catalog};
use prefix::Prefix;
use slots::{REFERENCE, Slot, Spread, head_of};

/// Pages are closed at about this size. A page with one large key or value may be larger.
pub(crate) const PAGE_BYTES: usize = 8 << 10;
/// Longest value kept inside a leaf.
pub(crate) const INLINE_VALUE_MAX: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    Leaf = 1,
    Branch = 2,
}

const TAG_INLINE: u8 = 0;
const TAG_BLOB: u8 = 1;
/// kind 1, zero 1, prefix length 2, count 4.
const HEADER_LEN: usize = 8;
/// Keys that begin alike are searched on their own when they are at least one in so many.
const CORE_SHARE_MIN: usize = 4;
/// What a branch keeps of a child in memory.
const CHILD_BYTES: usize = size_of::<ArcSwapWeak<Page>>() + size_of::<Page>();
/// key length 2, tag 1, value length 2.
const ENTRY_HEADER_LEN: u32 = 5;

/// A decoded page: its bytes, and where in them the entries lie, checked once.
pub(crate) struct Page {
    bytes: Box<[u8]>,
    /// By rising key.
    slots: Box<[Slot]>,
    core: Core,
    kind: PageKind,
    prefix_len: usize,
    /// Pages of a branch's children that were read before, as long as somebody keeps them.
    children: OnceLock<Box<[ArcSwapWeak<Page>]>>,
    /// Reached past the cache.
    is_used: AtomicBool,
}

impl Page {
    /// Checks the structure, and that keys rise, which searches rely on; None when it is not a page.
    pub(crate) fn decode(bytes: Vec<u8>) -> Option<Page> {
        let mut reader = Reader::new(&bytes);
        let kind = match reader.u8()? {
            1 => PageKind::Leaf,
            2 => PageKind::Branch,
            _ => return None,
        };
        reader.u8()?;
        let prefix_len = usize::from(reader.u16()?);
        let count = usize::try_from(reader.u32()?).ok()?;
        reader.take(prefix_len)?;
        let offsets = reader.take(count.checked_mul(4)?)?;
        let mut slots: Vec<Slot> = Vec::with_capacity(count);
        for offset in offsets.as_chunks().0 {
            let slot = read_entry(&bytes, u32::from_le_bytes(*offset))?;
            let is_wrong_kind = kind == PageKind::Branch && slot.value_len != REFERENCE;
            let rises = slots.last().is_none_or(|previous| compare_keys(&bytes, previous, &slot).is_lt());
            if is_wrong_kind || !rises {
                return None;
            }
            slots.push(slot);
        }
        if slots.is_empty() {
            return None;
        }
        let prefix = &bytes[HEADER_LEN..HEADER_LEN + prefix_len];
        let core = Core::choose(&bytes, prefix, &mut slots);
        Some(Page {
            bytes: bytes.into_boxed_slice(),
            slots: slots.into_boxed_slice(),
            core,
            kind,
            prefix_len,
            children: OnceLock::new(),
            is_used: AtomicBool::new(false),
        })
    }

    /// The page of a branch's child, when it was remembered and is still in memory.
    pub(crate) fn known_child(&self, index: usize) -> Option<Arc<Page>> {
        let page = self.children.get()?.get(index)?.load().upgrade()?;
        page.mark_used();
        Some(page)
    }

    /// The page was reached past the cache.
    pub(crate) fn mark_used(&self) {
        // Read before it is written: pages in use by all would be fought for.
        if !self.is_used.load(atomic::Ordering::Relaxed) {
            self.is_used.store(true, atomic::Ordering::Relaxed);
        }
    }

    pub(crate) fn remember_child(&self, index: usize, page: &Arc<Page>) {
        let nobody = || ArcSwapWeak::from(Weak::new());
        let children = self.children.get_or_init(|| (0..self.count()).map(|_| nobody()).collect());
        if let Some(child) = children.get(index) {
            child.store(Arc::downgrade(page));
        }
    }

    /// Whether the page was reached past the cache since the last time this was asked.
    pub(crate) fn take_used(&self) -> bool {
        self.is_used.swap(false, atomic::Ordering::Relaxed)
    }

    pub(crate) fn kind(&self) -> PageKind {
        self.kind
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// The store of the first entry. All of a page are of it, most of the time.
    pub(crate) fn store(&self) -> StoreId {
        let mut first = Vec::new();
        self.key_into(0, &mut first);
        catalog::store_of(&first)
    }

    /// Bytes of memory, for the cache.
    pub(crate) fn weight(&self) -> u64 {
        // What is left of a child that was dropped stays until its place is taken.
        let per_entry = size_of::<Slot>() + if self.kind == PageKind::Branch { CHILD_BYTES } else { 0 };
        (self.bytes.len() + self.slots.len() * per_entry + size_of::<Page>()) as u64
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..HEADER_LEN + self.prefix_len]
    }

    /// Key without the prefix, and value. `index` is below `count`.
    pub(crate) fn entry(&self, index: usize) -> (&[u8], ValueRef<'_>) {
        let slot = self.slots[index];
        let (key, rest) = self.bytes[slot.offset as usize..].split_at(usize::from(slot.key_len));
        let value = match slot.value_len {
            REFERENCE => ValueRef::Blob(read_reference(rest).expect("`decode` read it before")),
            len => ValueRef::Inline(&rest[..usize::from(len)]),
        };
        (key, value)
    }

    /// The child of a branch entry.
    pub(crate) fn child(&self, index: usize) -> BlobRef {
        match self.entry(index).1 {
            ValueRef::Blob(blob) => blob,
            ValueRef::Inline(_) => unreachable!("`decode` refuses a branch that holds a value"),
        }
    }

    /// Appends the whole key of an entry to `out`.
    pub(crate) fn key_into(&self, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(self.entry(index).0);
    }

    /// Position of `key` (Ok), or where it would be (Err).
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Core { start, end, ref prefix, ref spread } = self.core;
        let shared = &key[..key.len().min(prefix.len())];
        let (from, found) = match shared.cmp(prefix) {
            Ordering::Equal => {
                let rest = &key[prefix.len()..];
                let skipped = prefix.len() - self.prefix_len;
                let compare = |slot: &Slot| key_of(&self.bytes, slot)[skipped..].cmp(rest);
                (start, spread.search(&self.slots[start..end], head_of(rest), compare))
            }
            Ordering::Less => (0, self.search_whole_keys(&self.slots[..start], key)),
            Ordering::Greater => (end, self.search_whole_keys(&self.slots[end..], key)),
        };
        found.map(|index| from + index).map_err(|index| from + index)
    }

    /// As [`Page::search`], among the few slots outside the core.
    fn search_whole_keys(&self, slots: &[Slot], key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        slots.binary_search_by(|slot| {
            let shared = &key[..key.len().min(prefix.len())];
            let rest = &key[shared.len()..];
            prefix.cmp(shared).then_with(|| key_of(&self.bytes, slot).cmp(rest))
        })
    }

    /// Index of the child of a branch that covers `key`: the last whose lowest key is not above it.
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }
}

/// The slots that searches are made for: nearly always all. A page that begins in one store and goes on in another has keys that
/// share little; then it is the longest part whose keys begin alike.
struct Core {
    start: usize,
    end: usize,
    /// What the keys of these slots share; their heads are of what follows. It begins with the page's prefix.
    prefix: Prefix,
    spread: Spread,
}

impl Core {
    /// `slots`: all of the page, with heads of what follows the page's prefix; those of the core are made anew.
    fn choose(page: &[u8], prefix: &[u8], slots: &mut [Slot]) -> Core {
        let middle = slots[slots.len() / 2].head;
        let start = slots.partition_point(|slot| slot.head < middle);
        let end = slots.partition_point(|slot| slot.head <= middle);
        if (end - start) * CORE_SHARE_MIN < slots.len() || end - start == 1 {
            let spread = Spread::of(slots);
            return Core { start: 0, end: slots.len(), prefix: Prefix::new(&[prefix]), spread };
        }
        let core = &mut slots[start..end];
        let shared = shared_len(key_of(page, &core[0]), key_of(page, &core[core.len() - 1]));
        let prefix = Prefix::new(&[prefix, &key_of(page, &core[0])[..shared]]);
        for slot in core.iter_mut() {
            slot.head = head_of(&key_of(page, slot)[shared..]);
        }
        Core { start, end, prefix, spread: Spread::of(core) }
    }
}

/// The entry that begins at `offset`; None when it does not lie inside the page.
fn read_entry(page: &[u8], offset: u32) -> Option<Slot> {
    let mut reader = Reader::new(page.get(usize::try_from(offset).ok()?..)?);
    let key_len = reader.u16()?;
    let (tag, value_len) = (reader.u8()?, reader.u16()?);
    let key = reader.take(usize::from(key_len))?;
    let value_len = match tag {
        TAG_INLINE if value_len != REFERENCE => {
            reader.take(usize::from(value_len))?;
            value_len
        }
        TAG_BLOB => {
            BlobRef::read(&mut reader)?;
            REFERENCE
        }
        _ => return None,
    };
    Some(Slot { head: head_of(key), offset: offset.checked_add(ENTRY_HEADER_LEN)?, key_len, value_len })
}

fn read_reference(bytes: &[u8]) -> Option<BlobRef> {
    BlobRef::read(&mut Reader::new(bytes))
}

/// The key of an entry, without the prefix.
fn key_of<'a>(page: &'a [u8], slot: &Slot) -> &'a [u8] {
    &page[slot.offset as usize..][..usize::from(slot.key_len)]
}

fn compare_keys(page: &[u8], one: &Slot, other: &Slot) -> Ordering {
    one.head.cmp(&other.head).then_with(|| key_of(page, one).cmp(key_of(page, other)))
}

fn shared_len(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Bytes an entry takes in a page, without what the prefix saves.
pub(crate) fn entry_bytes(key: &[u8], value: &ValueRef<'_>) -> usize {
    let value_len = match value {
        ValueRef::Inline(bytes) => bytes.len(),
        ValueRef::Blob(_) => BlobRef::ENCODED_LEN,
    };
    4 + 5 + key.len() + value_len
}

/// Encodes a page from entries in key order; None when they are not, which happens when they come from damaged pages. Keys are
/// at most 64 KiB, inline values at most [`INLINE_VALUE_MAX`].
pub(crate) fn encode<'a>(
    kind: PageKind,
    entries: impl ExactSizeIterator<Item = (&'a [u8], ValueRef<'a>)> + Clone,
) -> Option<Vec<u8>> {
    if !entries.clone().map(|(key, _)| key).is_sorted_by(|one, next| one < next) {
        return None;
    }
    let count = entries.len();
    let first = entries.clone().next().map_or(&[][..], |(key, _)| key);
    let last = entries.clone().last().map_or(&[][..], |(key, _)| key);
    let prefix_len = shared_len(first, last);
    let mut out = Vec::with_capacity(PAGE_BYTES + PAGE_BYTES / 4);
    out.put_u8(kind as u8);
    out.put_u8(0);
    out.put_u16(u16::try_from(prefix_len).ok()?);
    out.put_u32(count as u32);
    out.extend_from_slice(&first[..prefix_len]);
    let slots = out.len();
    out.resize(slots + 4 * count, 0);
    for (index, (key, value)) in entries.enumerate() {
        let offset = (out.len() as u32).to_le_bytes();
        out[slots + 4 * index..slots + 4 * index + 4].copy_from_slice(&offset);
        let suffix = &key[prefix_len..];
        out.put_u16(u16::try_from(suffix.len()).ok()?);
        match value {
            ValueRef::Inline(bytes) => {
                out.put_u8(TAG_INLINE);
                out.put_u16(u16::try_from(bytes.len()).ok()?);
                out.extend_from_slice(suffix);
                out.extend_from_slice(bytes);
            }
            ValueRef::Blob(blob) => {
                out.put_u8(TAG_BLOB);
                out.put_u16(0);
                out.extend_from_slice(suffix);
                blob.put(&mut out);
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentId;

    #[test]
    fn search_finds_keys_and_gaps() {
        let blob =
            BlobRef { segment: SegmentId { owner: 1, number: 2 }, offset: 3, len: 9, stored_len: 4, crc: 5 };
        let entries = [
            (&b"user:1"[..], ValueRef::Inline(b"Alice")),
            (b"user:3", ValueRef::Blob(blob)),
            (b"user:5", ValueRef::Inline(b"")),
        ];
        let page = Page::decode(encode(PageKind::Leaf, entries.into_iter()).unwrap()).unwrap();
        assert_eq!(page.prefix(), b"user:");
        assert_eq!(page.search(b"user:3"), Ok(1));
        assert_eq!(page.search(b"user:2"), Err(1));
        assert_eq!(page.search(b"a"), Err(0));
        assert_eq!(page.search(b"use"), Err(0));
        assert_eq!(page.search(b"z"), Err(3));
        assert!(matches!(page.entry(0).1, ValueRef::Inline(b"Alice")));
        assert!(matches!(page.entry(1).1, ValueRef::Blob(found) if found == blob));
        assert_eq!(page.child_index(b"user:4"), 1);
        assert_eq!(page.child_index(b"a"), 0);
    }

    /// Finds each key of a page, and each gap, as a plain search does.
    fn check_searches(keys: &std::collections::BTreeSet<Vec<u8>>) {
        let entries: Vec<_> = keys.iter().map(|key| (key.as_slice(), ValueRef::Inline(b"x"))).collect();
        let page = Page::decode(encode(PageKind::Leaf, entries.iter().copied()).unwrap()).unwrap();
        let sorted: Vec<&Vec<u8>> = keys.iter().collect();
        for key in keys {
            for probe in
                [&key[..], &key[..key.len() / 2], &[key, &[0][..]].concat(), &[key, &[255][..]].concat()]
            {
                assert_eq!(
                    page.search(probe),
                    sorted.binary_search_by(|key| key.as_slice().cmp(probe)),
                    "{probe:?}"
                );
            }
        }
    }

    #[test]
    fn keys_that_begin_alike_are_told_apart() {
        let zeros = |len: usize| vec![0; len];
        check_searches(&(0..20).map(zeros).collect());
        check_searches(&(0..200_u32).map(|n| format!("the same beginning {n}").into_bytes()).collect());
        check_searches(
            &(0..200_u32)
                .map(|n| [b"a".repeat(9), n.to_be_bytes().to_vec()].concat())
                .chain([vec![0], vec![255; 9]])
                .collect(),
        );
    }

    #[test]
    fn keys_of_several_stores_in_one_page_are_told_apart() {
        let store = |store: u64, key: u64| [store.to_be_bytes(), key.to_be_bytes()].concat();
        check_searches(
            &(0..200).map(|n| store(7, n)).chain([store(0, 1), store(9, 1), store(9, 2)]).collect(),
        );
        check_searches(&(0..200).map(|n| store(n / 90, n)).chain([b"a".repeat(90)]).collect());
        let long = |n: u64| [b"b".repeat(90), n.to_be_bytes().to_vec()].concat();
        check_searches(
            &(0..200).map(long).chain([b"a".repeat(90), b"b".repeat(90), b"b".repeat(89)]).collect(),
        );
    }

    #[test]
    fn keys_spread_evenly_or_not_are_found() {
        check_searches(&(0..300_u64).map(|n| (n * n * n * n).to_be_bytes().to_vec()).collect());
        check_searches(&(0..300_u64).map(|n| n.to_be_bytes().to_vec()).collect());
        check_searches(&(0..63).map(|n| (1_u64 << n).to_be_bytes().to_vec()).collect());
        check_searches(
            &(0..300_u64).map(|n| (u64::MAX - n).to_be_bytes().to_vec()).chain([vec![]]).collect(),
        );
    }

    #[test]
    fn keys_out_of_order_are_refused_before_a_search_relies_on_them() {
        let entries = [(&b"a"[..], ValueRef::Inline(b"1")), (b"b", ValueRef::Inline(b"2"))];
        assert_eq!(encode(PageKind::Leaf, entries.into_iter().rev()), None);
        assert_eq!(encode(PageKind::Leaf, [entries[0], entries[0]].into_iter()), None);
        let bytes = encode(PageKind::Leaf, entries.into_iter()).unwrap();
        let mut swapped = bytes.clone();
        swapped[HEADER_LEN..HEADER_LEN + 8].rotate_left(4);
        assert!(Page::decode(bytes).is_some());
        assert!(Page::decode(swapped).is_none());
    }

    #[test]
    fn a_branch_that_holds_a_value_is_refused() {
        let entries = [(&b"a"[..], ValueRef::Inline(b"1"))];
        assert!(Page::decode(encode(PageKind::Branch, entries.into_iter()).unwrap()).is_none());
    }

    #[test]
    fn decode_refuses_every_truncation() {
        let entries = [(&b"a"[..], ValueRef::Inline(b"1")), (b"b", ValueRef::Inline(b"2"))];
        let bytes = encode(PageKind::Leaf, entries.into_iter()).unwrap();
        for len in 0..bytes.len() {
            assert!(Page::decode(bytes[..len].to_vec()).is_none(), "{len}");
        }
    }
}
