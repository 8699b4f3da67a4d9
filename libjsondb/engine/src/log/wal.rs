//! One file of the log, and reading frames from it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::frame::{ALIGNMENT, FrameHeader, HEADER_LEN};
use super::read_ahead::ReadAhead;
use crate::bytes::{Put, Reader, is_intact};
use crate::manifest::ManifestRef;
use crate::os::{self, File};
use crate::{Error, Result, Seq};

const MAGIC: &[u8; 8] = b"SOPWAL\r\n";
const VERSION: u32 = 1;
/// The file header takes a whole block: frames never share one with it.
pub(crate) const WAL_HEADER_LEN: u64 = 4096;
/// The file grows by writing this many zeros ahead, so that most syncs change no file length. (More at once would stall the commit
/// that syncs them; the others cost what they cost in a file that never grows.)
/// As much as there is already, within these bounds: an opening reads them, and that of a small log is to be quick.
const GROWTH_MIN: u64 = 64 << 10;
const GROWTH_MAX: u64 = 1 << 20;
/// Files are searched, written again and wiped in blocks of this size.
const BLOCK: usize = 1 << 20;

/// Each opening looks for zeros, in blocks of this size.
const BLANK_BLOCK: usize = 32 << 10;

/// The file before this one, and where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) first_seq: Seq,
    pub(crate) len: u64,
    pub(crate) chain: u32,
}

/// What a log file's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalHeader {
    pub(crate) id: u64,
    pub(crate) first_seq: Seq,
    pub(crate) previous: Option<Previous>,
    /// The manifest in force when the file was made.
    pub(crate) manifest: ManifestRef,
}

impl WalHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(WAL_HEADER_LEN as usize);
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(self.id);
        out.put_u64(self.first_seq.0);
        let previous = self.previous.unwrap_or(Previous { first_seq: Seq(u64::MAX), len: 0, chain: 0 });
        out.put_u64(previous.first_seq.0);
        out.put_u64(previous.len);
        out.put_u32(previous.chain);
        self.manifest.put(&mut out);
        out.put_u32(crc32fast::hash(&out));
        out.resize(WAL_HEADER_LEN as usize, 0);
        out
    }

    /// The header and its checksum.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(WalHeader, u32)> {
        let mut reader = Reader::new(bytes);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let (id, first_seq) = (reader.u64()?, Seq(reader.u64()?));
        let previous = Previous { first_seq: Seq(reader.u64()?), len: reader.u64()?, chain: reader.u32()? };
        let previous = (previous.first_seq != Seq(u64::MAX)).then_some(previous);
        let manifest = ManifestRef::read(&mut reader)?;
        // magic 8, version 4, id 8, first seq 8, previous 20, manifest 24
        let crc = reader.u32()?;
        is_intact(bytes.get(..72)?, crc).then_some((WalHeader { id, first_seq, previous, manifest }, crc))
    }
}

/// An open log file.
#[derive(Debug)]
pub(crate) struct Wal {
    file: File,
    pub(crate) header: WalHeader,
    header_crc: u32,
    /// The file is at least this long.
    len: AtomicU64,
}

/// A frame as it lies in the file.
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) header_crc: u32,
    pub(crate) end: u64,
}

/// What stands at an offset.
pub(crate) enum Found {
    Frame(Frame),
    /// Nothing was written here.
    End,
    /// Bytes that are not a whole frame that follows the one before.
    Bad,
}

/// Name of the file whose first transaction is `first_seq`.
pub(crate) fn path(folder: &Path, first_seq: Seq) -> PathBuf {
    folder.join(file_name(first_seq))
}

fn file_name(first_seq: Seq) -> String {
    format!("{:020}.wal", first_seq.0)
}

/// First transactions of the files in the log folder, rising.
pub(crate) fn list(folder: &Path) -> Result<Vec<Seq>> {
    // A listing may miss a file that comes while it is made, and show the one before it that goes: all of the log could be missing
    // from it. Two that agree do not.
    let mut files = list_once(folder)?;
    loop {
        let again = list_once(folder)?;
        if again == files {
            return Ok(files);
        }
        files = again;
    }
}

fn list_once(folder: &Path) -> Result<Vec<Seq>> {
    let names = os::list(folder)?;
    Ok(names.iter().filter_map(|(name, _)| first_seq_of_file_name(name)).collect())
}

/// The first transaction of the file with this name.
pub(crate) fn first_seq_of_file_name(name: &str) -> Option<Seq> {
    name.strip_suffix(".wal")?.parse().ok().map(Seq)
}

impl Wal {
    /// Writes a new file and makes it and its name durable before anything refers to it.
    pub(crate) fn create(folder: &Path, staging: &Path, header: &WalHeader) -> Result<Wal> {
        os::write_durably(folder, &file_name(header.first_seq), staging, &header.encode())?;
        Wal::open(folder, header.first_seq)?.ok_or_else(|| Error::missing(&path(folder, header.first_seq)))
    }

    /// As [`Wal::create`], unless there is one.
    pub(crate) fn create_once(folder: &Path, staging: &Path, header: &WalHeader) -> Result<()> {
        os::write_once_durably(folder, &file_name(header.first_seq), staging, &header.encode()).map(drop)
    }

    /// Opens for reading and, where the folder allows it, writing. None when the file was trimmed.
    pub(crate) fn open(folder: &Path, first_seq: Seq) -> Result<Option<Wal>> {
        let path = path(folder, first_seq);
        let Some(file) = File::open_writable(&path)? else { return Ok(None) };
        let mut bytes = vec![0; WAL_HEADER_LEN as usize];
        file.read_at(&mut bytes, 0)?;
        match WalHeader::decode(&bytes) {
            Some((header, header_crc)) if header.first_seq == first_seq => {
                Ok(Some(Wal { file, header, header_crc, len: AtomicU64::new(0) }))
            }
            _ => Err(Error::corrupt(&path, 0, "the header of the log file")),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Checksum that the first frame names as its predecessor.
    pub(crate) fn header_crc(&self) -> u32 {
        self.header_crc
    }

    /// Looks at the header of the frame at `offset`, which must follow `chain` and begin at `next_seq`.
    pub(crate) fn look(
        &self,
        ahead: &mut ReadAhead,
        offset: u64,
        chain: u32,
        next_seq: Seq,
    ) -> Result<Found> {
        let bytes = ahead.read(&self.file, offset, HEADER_LEN)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Found::End);
        }
        let Some((header, header_crc)) = FrameHeader::decode(bytes) else { return Ok(Found::Bad) };
        if (header.offset, header.wal_id, header.chain, header.first_seq)
            != (offset, self.header.id, chain, next_seq)
        {
            return Ok(Found::Bad);
        }
        let numbers_end = header.first_seq.0.checked_add(u64::from(header.count));
        let Some(end) = header.end().filter(|_| numbers_end.is_some()) else { return Ok(Found::Bad) };
        Ok(Found::Frame(Frame { header, header_crc, end }))
    }

    /// The body of a frame; None when it does not match its checksum.
    pub(crate) fn body<'a>(
        &self,
        ahead: &'a mut ReadAhead,
        header: &FrameHeader,
    ) -> Result<Option<&'a [u8]>> {
        let offset = header.offset.saturating_add(HEADER_LEN as u64);
        // A length that damage made large is not worth that much memory.
        if header.body_len > BLOCK as u64 && offset.saturating_add(header.body_len) > self.file.len()? {
            return Ok(None);
        }
        let body = ahead.read(&self.file, offset, header.body_len as usize)?;
        let is_whole = body.len() as u64 == header.body_len && is_intact(body, header.body_crc);
        Ok(is_whole.then_some(body))
    }

    /// True when nothing but zeros stands from `offset` on.
    pub(crate) fn is_blank_from(&self, offset: u64) -> Result<bool> {
        let zeros = [0; BLANK_BLOCK];
        let mut block = [0; BLANK_BLOCK];
        let mut at = offset;
        loop {
            let count = self.file.read_at(&mut block, at)?;
            if block[..count] != zeros[..count] {
                return Ok(false);
            }
            if count < block.len() {
                return Ok(true);
            }
            at += count as u64;
        }
    }

    /// The first whole frame of this file somewhere after `offset` that was written when `offset` was durable: what stands there is
    /// damaged, not torn.
    pub(crate) fn proof_after(&self, offset: u64, next_seq: Seq) -> Result<Option<FrameHeader>> {
        let mut at = offset + ALIGNMENT;
        let mut block = vec![0; BLOCK];
        loop {
            let count = self.file.read_at(&mut block, at)?;
            if count < HEADER_LEN {
                return Ok(None);
            }
            let last = count - HEADER_LEN;
            for start in (0..=last).step_by(ALIGNMENT as usize) {
                let found = FrameHeader::decode(&block[start..start + HEADER_LEN]);
                if let Some((header, _)) = found {
                    let here = (header.offset, header.wal_id) == (at + start as u64, self.header.id);
                    let proves = here && header.durable > offset && header.first_seq >= next_seq;
                    if proves && self.body(&mut ReadAhead::none(), &header)?.is_some() {
                        return Ok(Some(header));
                    }
                }
            }
            at += (last as u64 / ALIGNMENT + 1) * ALIGNMENT;
        }
    }

    /// True when the file is known to be this long.
    pub(crate) fn reaches(&self, end: u64) -> bool {
        end <= self.len.load(Ordering::Relaxed)
    }

    /// Writes a frame at `offset` (header and body in one buffer), and zeros behind it when the file has to grow.
    pub(crate) fn write(&self, frame: &[u8], offset: u64) -> Result<()> {
        let end = offset + frame.len() as u64;
        if !self.reaches(end) {
            self.check_named()?;
        }
        let grows = !self.reaches(end);
        if let Err(error) = self.file.write_all_at(frame, offset) {
            // A whole frame that was reported as failed must not come back: best effort, its checksum guards as well.
            let _ = self.file.write_all_at(&[0; HEADER_LEN], offset);
            return Err(error);
        }
        // Growing ahead is for speed only, and the frame is whole by now: a failure here must not be taken for one of the
        // commit.
        let growth = end.clamp(GROWTH_MIN, GROWTH_MAX);
        if grows && self.file.write_all_at(&vec![0; growth as usize], end).is_ok() {
            self.len.store(end + growth, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fails unless whole frames stand from `offset` to `end`: what the system could not write it may have dropped.
    pub(crate) fn check_frames(&self, mut offset: u64, end: u64) -> Result<()> {
        let mut ahead = ReadAhead::until(end);
        while offset < end {
            let header =
                FrameHeader::decode(ahead.read(&self.file, offset, HEADER_LEN)?).map(|(header, _)| header);
            let own = header.filter(|header| (header.offset, header.wal_id) == (offset, self.header.id));
            let next = match &own {
                Some(header) if self.body(&mut ahead, header)?.is_some() => header.end(),
                _ => None,
            };
            offset = next.ok_or_else(|| {
                Error::corrupt(self.path(), offset, "a frame that was being synced when the sync failed")
            })?;
        }
        Ok(())
    }

    /// Writes `len` bytes from `offset` once more as they are, so that the next sync covers them whoever wrote them.
    pub(crate) fn rewrite(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset + len;
        let mut at = offset;
        let mut block = vec![0; BLOCK];
        while at < end {
            let part = block.len().min((end - at) as usize);
            let Some(bytes) = block.get_mut(..part) else { break };
            // The last frame's padding may lie past the end of the file: nothing to rewrite there.
            let count = self.file.read_at(bytes, at)?;
            if count == 0 {
                break;
            }
            self.file.write_all_at(&bytes[..count], at)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Makes zeros of what stands from `offset` on; true when there was anything. A frame that was written behind a torn one, and not
    /// synced, must not fit again one day.
    pub(crate) fn wipe(&self, offset: u64) -> Result<bool> {
        let mut at = offset;
        let mut block = vec![0; BLOCK];
        let mut wiped = false;
        loop {
            let count = self.file.read_at(&mut block, at)?;
            if count == 0 {
                return Ok(wiped);
            }
            let bytes = block.get_mut(..count).unwrap_or_default();
            if bytes.iter().any(|byte| *byte != 0) {
                bytes.fill(0);
                self.file.write_all_at(bytes, at)?;
                wiped = true;
            }
            at += count as u64;
        }
    }

    /// Fails when the file was removed: what is written to it is gone when it is closed.
    pub(crate) fn check_named(&self) -> Result<()> {
        self.len.store(self.file.len_while_named()?, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentId;

    #[test]
    fn header_round_trip_and_every_flipped_byte_is_noticed() {
        let id = SegmentId { owner: 1, number: 2 };
        let header = WalHeader {
            id: 3,
            first_seq: Seq(4),
            previous: Some(Previous { first_seq: Seq(1), len: 5, chain: 6 }),
            manifest: ManifestRef { id, checkpoint: Seq(7) },
        };
        let bytes = header.encode();
        assert_eq!(WalHeader::decode(&bytes).unwrap().0, header);
        for index in 0..76 {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(WalHeader::decode(&damaged), None, "{index}");
        }
    }
}
