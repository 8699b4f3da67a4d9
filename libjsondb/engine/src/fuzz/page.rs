//! Pages: decoding, and everything that reads a decoded one.

use crate::page::{self, Page, PageKind};
use crate::segment::SegmentId;
use crate::{BlobRef, Value, ValueRef};

/// Entries may lie over each other: a small page may have keys of many bytes altogether.
const KEY_BYTES_MAX: usize = 1 << 20;

pub(super) fn page(input: &[u8]) {
    let Some(page) = Page::decode(input.to_vec()) else { return };
    assert!(page.count() > 0 && page.weight() >= input.len() as u64);
    let mut key_bytes = 0;
    for index in 0..page.count() {
        key_bytes += look_at(&page, index);
    }
    for probe in [&b""[..], input, page.prefix(), &[0xff; 8]] {
        assert_eq!(page.search(probe), searched_linearly(&page, probe));
        assert!(page.child_index(probe) < page.count());
    }
    if key_bytes <= KEY_BYTES_MAX {
        comes_back(&page);
    }
}

/// Checks one entry with its neighbours; gives the length of its key.
fn look_at(page: &Page, index: usize) -> usize {
    let mut key = Vec::new();
    page.key_into(index, &mut key);
    assert_eq!(page.search(&key), Ok(index));
    assert_eq!(page.child_index(&key), index);
    if page.kind() == PageKind::Branch {
        assert!(matches!(page.entry(index).1, ValueRef::Blob(blob) if blob == page.child(index)));
    }
    key.push(0);
    assert!(matches!(page.search(&key), Ok(found) | Err(found) if found == index + 1));
    key.len()
}

fn searched_linearly(page: &Page, probe: &[u8]) -> Result<usize, usize> {
    let mut key = Vec::new();
    for index in 0..page.count() {
        key.clear();
        page.key_into(index, &mut key);
        if key.as_slice() >= probe {
            return if key == probe { Ok(index) } else { Err(index) };
        }
    }
    Err(page.count())
}

pub(super) fn entries(page: &Page) -> Vec<(Vec<u8>, Value)> {
    let entry = |index| {
        let mut key = Vec::new();
        page.key_into(index, &mut key);
        (key, page.entry(index).1.to_value())
    };
    (0..page.count()).map(entry).collect()
}

pub(super) fn encode(kind: PageKind, entries: &[(Vec<u8>, Value)]) -> Option<Vec<u8>> {
    page::encode(kind, entries.iter().map(|(key, value)| (key.as_slice(), borrowed(value))))
}

fn borrowed(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Inline(bytes) => ValueRef::Inline(bytes),
        Value::Blob(blob) => ValueRef::Blob(*blob),
    }
}

fn comes_back(page: &Page) {
    let before = entries(page);
    // Keys of more than 64 KiB are none of ours: they have no encoding.
    if let Some(bytes) = encode(page.kind(), &before) {
        let again = Page::decode(bytes).unwrap();
        assert_eq!((page.kind(), before), (again.kind(), entries(&again)));
    }
}

/// A leaf with values of both kinds, a branch, and a page of one entry.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let blob =
        BlobRef { segment: SegmentId { owner: 1, number: 2 }, offset: 3, len: 9, stored_len: 4, crc: 5 };
    let inline = |text: &str| Value::Inline(text.as_bytes().into());
    let leaf = [("user:1", inline("Alice")), ("user:3", Value::Blob(blob)), ("user:5", inline(""))];
    let branch = ["", "b", "user:3", "z"].map(|key| (key, Value::Blob(blob)));
    let owned = |entries: &[(&str, Value)]| -> Vec<(Vec<u8>, Value)> {
        entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.clone())).collect()
    };
    vec![
        encode(PageKind::Leaf, &owned(&leaf)).unwrap(),
        encode(PageKind::Branch, &owned(&branch)).unwrap(),
        encode(PageKind::Leaf, &owned(&leaf[..1])).unwrap(),
    ]
}
