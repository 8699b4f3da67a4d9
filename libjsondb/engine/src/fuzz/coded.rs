//! What lies on drives: descriptions, and shards of any bytes.

use std::sync::Arc;

use uuid::Uuid;

use super::scratch;
use crate::coded::{AfterReads, CodedSegment, Drive, DriveRecord, Layout, Set, SetRecord, ShardName};
use crate::segment::SegmentId;

const NAME: ShardName = ShardName { segment: SegmentId { owner: 3, number: 1 << 56 | 2 }, index: 0 };
const LAYOUT: Layout = Layout { data: 2, parity: 1, unit: 64 };
const HEADER_LEN: usize = 40;
const TRAILER_LEN: usize = 20;

fn mended(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    if let Some(at) = bytes.len().checked_sub(4) {
        let crc = crc32fast::hash(&bytes[..at]);
        bytes[at..].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

fn record() -> SetRecord {
    SetRecord { number: 1, store: "users".to_owned(), layout: LAYOUT }
}

pub(super) fn set(input: &[u8]) {
    let _ = SetRecord::decode(input);
    if let Some(record) = SetRecord::decode(&mended(input)) {
        assert_eq!(SetRecord::decode(&record.encode()), Some(record));
    }
}

pub(super) fn set_seeds() -> Vec<Vec<u8>> {
    vec![record().encode()]
}

pub(super) fn drive(input: &[u8]) {
    let _ = DriveRecord::decode(input);
    let bytes = mended(input);
    if let Some(record) = DriveRecord::decode(&bytes) {
        assert_eq!(record.encode(), bytes);
    }
}

pub(super) fn drive_seeds() -> Vec<Vec<u8>> {
    vec![DriveRecord { database: Uuid::from_u128(7), set: 1, index: 2, data: 3, parity: 4 }.encode()]
}

/// The bytes of a shard behind its header, with right checksums.
fn shard_of(input: &[u8]) -> Vec<u8> {
    let mut bytes = NAME.encode_header(&LAYOUT);
    bytes.extend_from_slice(input);
    let end = bytes.len().saturating_sub(TRAILER_LEN).max(HEADER_LEN);
    let unit = LAYOUT.unit as usize;
    for (stripe, at) in (HEADER_LEN..end).step_by(unit + 4).enumerate() {
        let crc_at = (at + unit).min(end.saturating_sub(4));
        if crc_at > at {
            let crc = NAME.unit_crc(stripe as u64, &bytes[at..crc_at]);
            bytes[crc_at..crc_at + 4].copy_from_slice(&crc);
        }
    }
    if let Some(len) = bytes[end..].get(8..16) {
        let trailer = NAME.encode_trailer(u64::from_le_bytes(len.try_into().unwrap()));
        bytes.truncate(end);
        bytes.extend_from_slice(&trailer);
    }
    bytes
}

/// The first shard of a segment is any bytes; the others are missing, so all that is read is its.
pub(super) fn shard(input: &[u8]) {
    let folder = scratch();
    let paths: Vec<_> = (0..3).map(|index| folder.path().join(index.to_string())).collect();
    let drives =
        paths.iter().enumerate().map(|(index, path)| Drive::new(path, &record(), Uuid::nil(), index));
    let set = Arc::new(Set::new(record(), drives.collect(), AfterReads::Leave, 1));
    let path = set.shard_path(NAME).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, shard_of(input)).unwrap();
    let segment = CodedSegment::new(&set, NAME.segment);
    let _ = segment.read_at(&mut [0; 100], 50, |_| false);
    if let Ok(len) = segment.len() {
        assert!(len <= 2 * (input.len() as u64 + LAYOUT.unit));
        for offset in (0..len).step_by(50) {
            let mut out = [0; 50];
            let _ = segment.read_whole_units_at(&mut out, offset);
        }
    }
}

pub(super) fn shard_seeds() -> Vec<Vec<u8>> {
    let mut shard = vec![7; 64 + 4 + 10 + 4];
    shard.extend_from_slice(&NAME.encode_trailer(64 * 2 + 10));
    let empty = NAME.encode_trailer(0);
    vec![shard, empty]
}
