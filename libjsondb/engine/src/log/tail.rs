//! Where the log ends: 96 bytes overwritten in place, never synced themselves.
//!
//! Two slots of a checksum each, because two locks guard them: who appends says how far the log is written and visible (under
//! `log/LOCK`); who syncs says how far it is durable (under `log/SYNC`). A process that is running may believe all of it. After a power
//! cut each slot may be any earlier one; the durable end is never ahead of the disk (I3 in libjsondb/docs/protocol.md), the other ends may be.

use std::path::Path;

use super::LogEnd;
use crate::bytes::{Put, Reader, is_intact};
use crate::os::File;
use crate::{Result, Seq};

/// Bytes of the file.
pub(crate) const LEN: usize = 96;
/// Two places of 24 bytes, flags 4, CRC 4.
pub(crate) const APPENDED_LEN: usize = 56;
pub(crate) const DURABLE_AT: usize = 64;
const DURABLE_LEN: usize = LEN - DURABLE_AT;
/// A reader that meets a half-written tail looks again this often.
const ATTEMPTS: usize = 100;

/// A place in the log between two frames, and the last transaction before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) end: LogEnd,
    pub(crate) seq: Seq,
}

/// What the last writer left. Changed under the log's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Frames are written up to here: the next one begins here.
    pub(crate) written: Mark,
    /// Readers may see everything up to here, durable or not.
    pub(crate) shown: Mark,
    /// Its writer was about to start a new file.
    pub(crate) rotating: bool,
}

/// What the last sync left. Changed under the sync's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durable {
    /// Everything before was synced.
    pub(crate) mark: Mark,
    /// A sync of what is behind has begun. Without its lock held: it failed, or its process died, and nobody knows what is on disk.
    pub(crate) syncing: bool,
}

/// Both slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) appended: Appended,
    pub(crate) durable: Durable,
}

impl Tail {
    /// Of a log that ends at `mark` and is durable up to there.
    pub(crate) fn settled(mark: Mark) -> Tail {
        Tail {
            appended: Appended { written: mark, shown: mark, rotating: false },
            durable: Durable { mark, syncing: false },
        }
    }

    /// What readers see: what is durable, and what relaxed commits have shown.
    pub(crate) fn visible(&self) -> Mark {
        self.appended.shown.max(self.durable.mark)
    }
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

    pub(crate) fn write_appended(&self, appended: &Appended) -> Result<()> {
        self.0.write_all_at(&encode_appended(appended), 0)
    }

    pub(crate) fn write_durable(&self, durable: &Durable) -> Result<()> {
        self.0.write_all_at(&encode_durable(durable), DURABLE_AT as u64)
    }
}

fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    out.put_u64(mark.end.wal.0);
    out.put_u64(mark.end.offset);
    out.put_u64(mark.seq.0);
}

fn read_mark(reader: &mut Reader<'_>) -> Option<Mark> {
    let end = LogEnd { wal: Seq(reader.u64()?), offset: reader.u64()? };
    Some(Mark { end, seq: Seq(reader.u64()?) })
}

fn encode_appended(appended: &Appended) -> Vec<u8> {
    let mut out = Vec::with_capacity(LEN);
    put_mark(&mut out, &appended.written);
    put_mark(&mut out, &appended.shown);
    out.put_u32(u32::from(appended.rotating));
    out.put_u32(crc32fast::hash(&out));
    out
}

fn encode_durable(durable: &Durable) -> Vec<u8> {
    let mut out = Vec::with_capacity(DURABLE_LEN);
    put_mark(&mut out, &durable.mark);
    out.put_u32(u32::from(durable.syncing));
    out.put_u32(crc32fast::hash(&out));
    out
}

pub(crate) fn encode(tail: &Tail) -> Vec<u8> {
    let mut out = encode_appended(&tail.appended);
    out.resize(DURABLE_AT, 0);
    out.extend_from_slice(&encode_durable(&tail.durable));
    out
}

/// None when these are not the bytes of a tail.
pub(crate) fn decode(bytes: &[u8; LEN]) -> Option<Tail> {
    let mut reader = Reader::new(bytes);
    let (written, shown, flags) = (read_mark(&mut reader)?, read_mark(&mut reader)?, reader.u32()?);
    if !is_intact(bytes.get(..APPENDED_LEN - 4)?, reader.u32()?) {
        return None;
    }
    let slot = bytes.get(DURABLE_AT..)?;
    let mut reader = Reader::new(slot);
    let (mark, syncing) = (read_mark(&mut reader)?, reader.u32()?);
    is_intact(slot.get(..DURABLE_LEN - 4)?, reader.u32()?).then_some(Tail {
        appended: Appended { written, shown, rotating: flags & 1 == 1 },
        durable: Durable { mark, syncing: syncing & 1 == 1 },
    })
}
