//! Logs of any frames: opened and replayed.
//!
//! The input is a list of frames: kind, number of transactions, damage, length of the body u16, body. Checksums, places and
//! numbers are right but for the damage asked for.

use std::path::Path;

use super::scratch;
use crate::Seq;
use crate::bytes::{Put, Reader};
use crate::log::frame::{FrameHeader, FrameKind, HEADER_LEN};
use crate::log::wal::{self, Wal, WalHeader};
use crate::log::{FilePosition, LogEnd, LogFolder};
use crate::manifest::Manifest;
use crate::replica::{ReadLimit, Replica, ReplicaFolders};
use crate::segment::SegmentId;

const FRAMES_MAX: usize = 16;

/// Makes the folders, a manifest, and a log file with the frames of the input.
pub(super) fn plant(reader: &mut Reader<'_>, folder: &Path, manifest: &Manifest) -> ReplicaFolders {
    let log = LogFolder { path: folder.join("log"), staging: folder.join("tmp"), owner: 7 };
    let folders = ReplicaFolders::single(log, folder.join("man"));
    for path in [&folders.log.path, &folders.log.staging, &folders.manifests] {
        std::fs::create_dir_all(path).unwrap();
    }
    manifest.store(&folders.manifests, &folders.log.staging).unwrap();
    let first_seq = Seq(manifest.name.checkpoint.0 + 1);
    let header = WalHeader { id: 3, first_seq, previous: None, manifest: manifest.name };
    let wal = Wal::create(&folders.log.path, &folders.log.staged("wal"), &header).unwrap();
    let mut bytes = header.encode();
    let mut position = FilePosition::at_start(wal);
    for _ in 0..FRAMES_MAX {
        if append(reader, &mut position, &mut bytes).is_none() {
            break;
        }
    }
    // What is left of the input lies behind the last frame.
    bytes.extend_from_slice(reader.rest());
    std::fs::write(wal::path(&folders.log.path, first_seq), &bytes).unwrap();
    folders
}

/// Appends the next frame of the input; None when there is none.
fn append(reader: &mut Reader<'_>, position: &mut FilePosition, out: &mut Vec<u8>) -> Option<()> {
    let kind = if reader.u8()?.is_multiple_of(2) { FrameKind::Commit } else { FrameKind::Checkpoint };
    let (count, damage) = (reader.u8()?, reader.u8()?);
    let len = reader.u16()?;
    let mut buffer = vec![0; HEADER_LEN];
    buffer.extend_from_slice(reader.take(usize::from(len))?);
    let frame = position.seal_frame(kind, u32::from(count), position.end(), &mut buffer);
    let header = damaged(frame.header, damage, reader)?;
    buffer[..HEADER_LEN].copy_from_slice(&header.encode().0);
    out.extend_from_slice(&buffer);
    position.step(&frame);
    Some(())
}

/// The header, with one field taken from the input: damage that its checksum does not show.
fn damaged(mut header: FrameHeader, damage: u8, reader: &mut Reader<'_>) -> Option<FrameHeader> {
    match damage {
        1 => header.body_len = reader.u64()?,
        2 => header.first_seq = Seq(reader.u64()?),
        3 => header.count = reader.u32()?,
        4 => header.body_crc = reader.u32()?,
        5 => header.chain = reader.u32()?,
        6 => header.offset = reader.u64()?,
        7 => header.wal_id = reader.u64()?,
        _ => {}
    }
    Some(header)
}

pub(super) fn log(input: &[u8]) {
    let folder = scratch();
    let manifest = Manifest::empty(SegmentId { owner: 1, number: 2 });
    let folders = plant(&mut Reader::new(input), folder.path(), &manifest);
    let end = LogEnd { wal: Seq(1), offset: wal::WAL_HEADER_LEN + input.len() as u64 };
    for limit in [
        ReadLimit::Everything { durable: LogEnd::default() },
        ReadLimit::Announced { end, durable: LogEnd::default() },
        ReadLimit::Announced { end, durable: end },
    ] {
        if let Ok(replica) = Replica::open(folders.clone(), limit, 1 << 20) {
            let snapshot = replica.snapshot();
            assert!(snapshot.seq >= manifest.name.checkpoint);
        }
    }
}

fn put_frame(out: &mut Vec<u8>, kind: u8, count: u8, body: &[u8]) {
    out.extend_from_slice(&[kind, count, 0]);
    out.put_u16(body.len() as u16);
    out.extend_from_slice(body);
}

/// Commits, and a checkpoint that is not there.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let commits = super::decoders::commit_seeds();
    let mut out = Vec::new();
    put_frame(&mut out, 0, 1, &commits[0]);
    put_frame(&mut out, 0, 3, &commits[1]);
    let mut and_checkpoint = out.clone();
    put_frame(&mut and_checkpoint, 1, 0, &super::decoders::checkpoint_seeds()[0]);
    vec![out, and_checkpoint, Vec::new()]
}
