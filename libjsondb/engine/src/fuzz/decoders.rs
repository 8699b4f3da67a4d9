//! Decoders of small, whole things.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::bytes::{Put, Reader};
use crate::folder::{FORMAT_LEN, check_format, encode_format};
use crate::log::frame::{FrameHeader, FrameKind, HEADER_LEN};
use crate::log::record::{self, RecordVisitor};
use crate::log::tail::{self, Mark, Tail};
use crate::log::wal::{Previous, WalHeader};
use crate::log::{CheckpointRecord, LogEnd, wal};
use crate::manifest::{Manifest, ManifestRef, SegmentUse};
use crate::run::{Run, RunKind};
use crate::segment::index::{self, Trailer};
use crate::segment::{BlobKind, SegmentId};
use crate::snapshot::value_ref;
use crate::{BlobRef, Seq, Value, ValueRef, catalog, pin};

const ID: SegmentId = SegmentId { owner: 0x0123_4567_89ab_cdef, number: 2 };
const BLOB: BlobRef = BlobRef { segment: ID, offset: 32, len: 4096, stored_len: 70, crc: 5 };
const NAME: ManifestRef = ManifestRef { id: ID, checkpoint: Seq(7) };

/// The input with the checksum at `at` mended, if it is that long.
fn mended(input: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    if bytes.len() >= at + 4 {
        let crc = crc32fast::hash(&bytes[..at]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// The input as one that ends with its checksum.
fn mended_at_end(input: &[u8]) -> Vec<u8> {
    mended(input, input.len().saturating_sub(4))
}

pub(super) fn reader(input: &[u8]) {
    let mut reader = Reader::new(input);
    while let Some(choice) = reader.u8() {
        let before = reader.rest();
        let read = match choice % 8 {
            0 => reader.u16().map(drop),
            1 => reader.u32().map(drop),
            2 => reader.u64().map(drop),
            3 => reader.bytes().map(|bytes| assert!(bytes.len() < before.len())),
            4 => reader.take(usize::from(choice)).map(drop),
            _ => reader.varint().map(|value| {
                let mut again = Vec::new();
                again.put_varint(value);
                assert_eq!(Reader::new(&again).varint(), Some(value));
                assert!(again.len() <= before.len() - reader.rest().len());
            }),
        };
        assert!(before.ends_with(reader.rest()));
        if read.is_none() {
            break;
        }
    }
}

pub(super) fn reader_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for value in [0, 127, 128, u64::from(u32::MAX), u64::MAX] {
        out.put_u8(5);
        out.put_varint(value);
        out.put_u8(3);
        out.put_bytes(b"bytes");
        out.put_u8(2);
        out.put_u64(value);
    }
    vec![out]
}

pub(super) fn format(input: &[u8]) {
    let Some((input, _)) = input.split_first_chunk::<FORMAT_LEN>() else { return };
    let bytes: [u8; FORMAT_LEN] = mended(input, FORMAT_LEN - 4).try_into().unwrap();
    let path = Path::new("FORMAT");
    let _ = check_format(path, input);
    if check_format(path, &bytes).is_ok() {
        assert_eq!(encode_format(Uuid::from_slice(&bytes[12..28]).unwrap()), bytes);
    }
}

pub(super) fn format_seeds() -> Vec<Vec<u8>> {
    vec![encode_format(Uuid::from_u128(7))]
}

pub(super) fn wal_header(input: &[u8]) {
    let _ = WalHeader::decode(input);
    let bytes = mended(input, 72);
    if let Some((header, crc)) = WalHeader::decode(&bytes) {
        let again = header.encode();
        assert_eq!(WalHeader::decode(&again).map(|(header, _)| header), Some(header));
        // Without a predecessor, its length and checksum say nothing.
        assert!(
            header.previous.is_none() || (again[..76] == bytes[..76] && again[72..76] == crc.to_le_bytes())
        );
    }
}

pub(super) fn wal_header_seeds() -> Vec<Vec<u8>> {
    let previous = Some(Previous { first_seq: Seq(1), len: 8192, chain: 6 });
    let header = WalHeader { id: 3, first_seq: Seq(4), previous, manifest: NAME };
    vec![header.encode(), WalHeader { previous: None, ..header }.encode()]
}

pub(super) fn frame_header(input: &[u8]) {
    let _ = FrameHeader::decode(input);
    let bytes = mended(input, HEADER_LEN - 4);
    if let Some((header, crc)) = FrameHeader::decode(&bytes) {
        let (again, _) = header.encode();
        assert_eq!(FrameHeader::decode(&again).map(|(header, _)| header), Some(header));
        assert_eq!(bytes[HEADER_LEN - 4..HEADER_LEN], crc.to_le_bytes());
        if let Some(end) = header.end() {
            assert!(end >= header.body_len && end > header.offset);
        }
    }
}

pub(super) fn frame_header_seeds() -> Vec<Vec<u8>> {
    let header = FrameHeader {
        kind: FrameKind::Commit,
        body_len: 100,
        body_crc: 1,
        first_seq: Seq(2),
        count: 3,
        chain: 4,
        durable: 4096,
        offset: 4096,
        wal_id: 5,
    };
    vec![header.encode().0, FrameHeader { kind: FrameKind::Checkpoint, count: 0, ..header }.encode().0]
}

/// What a transaction did, kept.
#[derive(Default, Debug, PartialEq)]
struct Seen {
    runs: Vec<Arc<Run>>,
    writes: Vec<(Vec<u8>, Option<Value>)>,
    counters: Vec<(Vec<u8>, i64)>,
}

impl RecordVisitor for Seen {
    fn runs(&mut self, runs: Vec<Run>) {
        self.runs = runs.into_iter().map(Arc::new).collect();
    }

    fn write(&mut self, key: &[u8], value: Option<ValueRef<'_>>) {
        self.writes.push((key.to_vec(), value.map(ValueRef::to_value)));
    }

    fn add_to_counter(&mut self, key: &[u8], delta: i64) {
        self.counters.push((key.to_vec(), delta));
    }
}

impl Seen {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let writes = self.writes.iter().map(|(key, value)| (key.as_slice(), value.as_ref().map(value_ref)));
        let counters = self.counters.iter().map(|(key, delta)| (key.as_slice(), *delta));
        record::encode(&self.runs, self.writes.len(), writes, counters, &mut out);
        out
    }
}

pub(super) fn commit(input: &[u8]) {
    let mut reader = Reader::new(input);
    loop {
        let (mut seen, before) = (Seen::default(), reader.rest());
        if record::decode(&mut reader, &mut seen).is_none() {
            break;
        }
        assert!(reader.rest().len() < before.len());
        let (again, mut seen_again) = (seen.encode(), Seen::default());
        assert!(again.len() <= before.len() - reader.rest().len());
        assert_eq!(record::decode(&mut Reader::new(&again), &mut seen_again), Some(()));
        assert_eq!(seen, seen_again);
    }
}

pub(super) fn commit_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| Some(Value::Inline(text.as_bytes().into()));
    let writes = vec![
        (catalog::entry_key(crate::StoreId(9)), text("name")),
        (catalog::full_key(crate::StoreId(9), b"user:1"), text("Alice")),
        (catalog::full_key(crate::StoreId(9), b"user:10"), None),
        (catalog::full_key(crate::StoreId(9), b"user:2"), Some(Value::Blob(BLOB))),
    ];
    let run = Run {
        kind: RunKind::Values,
        root: BLOB,
        count: 2,
        bytes: 300,
        first: catalog::full_key(crate::StoreId(9), b"user:1").into(),
        last: catalog::full_key(crate::StoreId(9), b"user:9").into(),
        segments: vec![ID],
    };
    let removed = Run { kind: RunKind::Deletions, segments: vec![ID, ID], ..run.clone() };
    let runs = vec![Arc::new(run), Arc::new(removed)];
    let seen = Seen { runs, writes, counters: vec![(catalog::counter_key(crate::StoreId(9), b"n"), -3)] };
    vec![seen.encode(), [seen.encode(), Seen::default().encode(), seen.encode()].concat()]
}

pub(super) fn checkpoint(input: &[u8]) {
    if let Some(record) = CheckpointRecord::decode(input) {
        let mut again = Vec::new();
        record.put(&mut again);
        assert_eq!(again, input);
    }
}

pub(super) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    CheckpointRecord { manifest: NAME, base: ManifestRef { checkpoint: Seq(0), ..NAME } }.put(&mut out);
    vec![out]
}

pub(super) fn tail(input: &[u8]) {
    let Some((input, _)) = input.split_first_chunk::<{ tail::LEN }>() else { return };
    let _ = tail::decode(input);
    let (appended, durable) = input.split_at(tail::DURABLE_AT);
    let mut bytes = mended(&appended[..tail::APPENDED_LEN], tail::APPENDED_LEN - 4);
    bytes.resize(tail::DURABLE_AT, 0);
    bytes.extend(mended(durable, durable.len() - 4));
    let decoded = tail::decode(bytes.as_slice().try_into().unwrap()).unwrap();
    assert_eq!(tail::encode(&decoded)[..48], bytes[..48]);
    assert_eq!(tail::decode(tail::encode(&decoded).as_slice().try_into().unwrap()), Some(decoded));
}

pub(super) fn tail_seeds() -> Vec<Vec<u8>> {
    let end = LogEnd { wal: Seq(1), offset: 4096 };
    let mut busy = Tail::settled(Mark { end, seq: Seq(3) });
    let settled = tail::encode(&busy);
    (busy.appended.rotating, busy.durable.syncing) = (true, true);
    vec![settled, tail::encode(&busy)]
}

pub(super) fn manifest(input: &[u8]) {
    let _ = Manifest::decode(input);
    let bytes = mended_at_end(input);
    if let Some(manifest) = Manifest::decode(&bytes) {
        let again = manifest.encode();
        // Segments listed twice or out of order become one sorted list.
        assert!(again == bytes || again.len() < bytes.len() || !manifest.segments.is_empty());
        assert_eq!(Manifest::decode(&again), Some(manifest));
    }
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    let mut full = Manifest { root: Some(BLOB), ..Manifest::empty(ID) };
    for number in 2..5 {
        full.segments.insert(SegmentId { number, ..ID }, SegmentUse { total: 100, live: 7 });
        full.retired.push((SegmentId { number: number + 100, ..ID }, Seq(number)));
    }
    vec![Manifest::empty(ID).encode(), full.encode()]
}

pub(super) fn pin(input: &[u8]) {
    let _ = pin::decode(input);
    let bytes = mended(input, 8);
    if let Some(seq) = pin::decode(&bytes) {
        assert_eq!(pin::encode(seq), bytes[..12]);
    }
}

pub(super) fn pin_seeds() -> Vec<Vec<u8>> {
    [0, 7, u64::MAX].map(|seq| pin::encode(Seq(seq))).to_vec()
}

/// An index, and behind it the trailer of a segment whose index begins at 64.
pub(super) fn segment_index(input: &[u8]) {
    let (index, trailer) = input.split_at(input.len().saturating_sub(28));
    if let Some(decoded) = Trailer::decode(trailer, 64 + index.len() as u64) {
        assert!(decoded.index_len <= 64 + index.len() as u64);
        let mut again = Vec::new();
        decoded.put(&mut again);
        assert_eq!(again, trailer);
    }
    if let Some(keys) = index::decode(index) {
        assert!(keys.iter().map(|key| key.len() + 4).sum::<usize>() <= index.len());
    }
}

pub(super) fn segment_index_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (kind, key) in [(BlobKind::Page, &b"a"[..]), (BlobKind::Value, b"longer"), (BlobKind::Value, b"")] {
        index::put_entry(kind, 32, 4096, key, &mut out);
    }
    let trailer = Trailer { index_offset: 64, index_len: out.len() as u64, index_crc: crc32fast::hash(&out) };
    trailer.put(&mut out);
    vec![out]
}

pub(super) fn catalog_entry(input: &[u8]) {
    if let Ok((name, metadata)) = catalog::decode_entry(input) {
        let again = catalog::encode_entry(name, metadata);
        assert!(again.len() <= input.len());
        assert_eq!(catalog::decode_entry(&again).unwrap(), (name, metadata));
    }
}

pub(super) fn catalog_entry_seeds() -> Vec<Vec<u8>> {
    vec![catalog::encode_entry("b/users", br#"{"format":1}"#), catalog::encode_entry(&"é".repeat(100), b"")]
}

pub(super) fn file_name(input: &[u8]) {
    let Ok(name) = std::str::from_utf8(input) else { return };
    if let Some(id) = SegmentId::from_file_name(name) {
        assert_eq!(SegmentId::from_file_name(&format!("{id}.seg")), Some(id));
    }
    if let Some(seq) = ManifestRef::checkpoint_of_file_name(name) {
        let again = ManifestRef { checkpoint: seq, ..NAME }.file_name();
        assert_eq!(ManifestRef::checkpoint_of_file_name(&again), Some(seq));
    }
    if let Some(seq) = wal::first_seq_of_file_name(name) {
        let path = wal::path(Path::new(""), seq);
        assert_eq!(path.to_str().and_then(wal::first_seq_of_file_name), Some(seq));
    }
}

pub(super) fn file_name_seeds() -> Vec<Vec<u8>> {
    let wal = wal::path(Path::new(""), Seq(17));
    [format!("{ID}.seg"), NAME.file_name(), wal.to_str().unwrap().to_owned()].map(String::into_bytes).to_vec()
}
