//! Exchanging pages and values of equal length, which their checksums alone tell apart.

use std::path::{Path, PathBuf};

use crate::subject::Files;
use crate::trial::Damage;

/// A blob's file, offset and length.
type Blob = (PathBuf, usize, usize);

/// Every two blobs of equal length and different content exchange their places, within a segment and across segments.
pub fn exchanges(files: &Files) -> Vec<Damage> {
    let segments = files.iter().filter(|(path, _)| path.starts_with("seg"));
    let blobs: Vec<Blob> = segments.flat_map(|(path, bytes)| index(path, bytes)).collect();
    let mut damages = Vec::new();
    for (number, one) in blobs.iter().enumerate() {
        damages.extend(blobs[number + 1..].iter().filter(|other| other.2 == one.2).filter_map(|other| {
            let bytes = |(path, at, len): &Blob| files[path][*at..*at + *len].to_vec();
            (bytes(one) != bytes(other)).then(|| exchange(files, one, other, &bytes(one), &bytes(other)))
        }));
    }
    damages
}

fn exchange(files: &Files, one: &Blob, other: &Blob, ones: &[u8], others: &[u8]) -> Damage {
    let mut changed: Files = [&one.0, &other.0].map(|path| (path.clone(), files[path].clone())).into();
    changed.get_mut(&one.0).unwrap()[one.1..one.1 + one.2].copy_from_slice(others);
    changed.get_mut(&other.0).unwrap()[other.1..other.1 + other.2].copy_from_slice(ones);
    let files = changed.into_iter().map(|(path, bytes)| (path, Some(bytes))).collect();
    Damage { what: "blobs exchanged", files, at: one.1.max(other.1) }
}

/// The blobs that a segment's index names (libjsondb/docs/format.md).
fn index(path: &Path, bytes: &[u8]) -> Vec<Blob> {
    let trailer = bytes.len() - 28;
    let mut at = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap()) as usize;
    let mut blobs = Vec::new();
    while at < trailer {
        at += 1;
        let (offset, len) = (varint(bytes, &mut at), varint(bytes, &mut at));
        let key = varint(bytes, &mut at);
        at += key;
        blobs.push((path.to_owned(), offset, len));
    }
    blobs
}

fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
