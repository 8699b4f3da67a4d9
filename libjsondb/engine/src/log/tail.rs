//! The durable end of the log, announced after each sync: 32 bytes overwritten in place, never synced themselves.
//!
//! A hint only for speed: a reader of another process learns from it how far it may read. Older than the truth it only delays; it is
//! never newer, because it is written after the sync (I3 in libjsondb/docs/protocol.md).

use std::path::Path;

use super::LogEnd;
use crate::bytes::{Put, Reader, is_intact};
use crate::os::File;
use crate::{Result, Seq};

pub(crate) const LEN: usize = 32;
/// A reader that meets a half-written tail looks again this often.
const ATTEMPTS: usize = 100;

/// Where the durable log ends, and whether its last writer was about to start a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) end: LogEnd,
    pub(crate) seq: Seq,
    pub(crate) rotating: bool,
}

pub(crate) struct TailFile(File);

impl TailFile {
    pub(crate) fn open_or_create(path: &Path) -> Result<TailFile> {
        File::open_or_create(path).map(TailFile)
    }

    /// For a folder that cannot be written; None when there is no tail file.
    pub(crate) fn open(path: &Path) -> Result<Option<TailFile>> {
        Ok(File::open(path)?.map(TailFile))
    }

    /// None when the file does not hold a whole tail: a new or damaged one.
    pub(crate) fn read(&self) -> Result<Option<Tail>> {
        let mut bytes = [0; LEN];
        for _ in 0..ATTEMPTS {
            if self.0.read_at(&mut bytes, 0)? < LEN {
                return Ok(None);
            }
            if let Some(tail) = decode(&bytes) {
                return Ok(Some(tail));
            }
            std::thread::yield_now();
        }
        Ok(None)
    }

    pub(crate) fn write(&self, tail: &Tail) -> Result<()> {
        self.0.write_all_at(&encode(tail), 0)
    }
}

pub(crate) fn encode(tail: &Tail) -> Vec<u8> {
    let mut out = Vec::with_capacity(LEN);
    out.put_u64(tail.end.wal.0);
    out.put_u64(tail.end.offset);
    out.put_u64(tail.seq.0);
    out.put_u32(u32::from(tail.rotating));
    out.put_u32(crc32fast::hash(&out));
    out
}

/// None when these are not the bytes of a tail.
pub(crate) fn decode(bytes: &[u8; LEN]) -> Option<Tail> {
    let mut reader = Reader::new(bytes);
    let end = LogEnd { wal: Seq(reader.u64()?), offset: reader.u64()? };
    let (seq, flags) = (Seq(reader.u64()?), reader.u32()?);
    is_intact(bytes.get(..LEN - 4)?, reader.u32()?).then_some(Tail { end, seq, rotating: flags & 1 == 1 })
}
