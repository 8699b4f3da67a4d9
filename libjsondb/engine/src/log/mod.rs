//! The write-ahead log: files of frames, each frame chained to the one before it.

pub(crate) mod frame;
pub(crate) mod read_ahead;
pub(crate) mod record;
pub(crate) mod tail;
pub(crate) mod wal;

use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

use crate::manifest::ManifestRef;
use crate::{Error, ErrorKind, Result, Seq};
use frame::{ALIGNMENT, FrameHeader, FrameKind, HEADER_LEN};
use read_ahead::ReadAhead;
use tail::Mark;
use wal::{Found, Frame, Previous, WAL_HEADER_LEN, Wal};

/// A place in the log: the file (by its first transaction) and the offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogEnd {
    pub(crate) wal: Seq,
    pub(crate) offset: u64,
}

/// Folders the log uses.
#[derive(Clone, Debug)]
pub(crate) struct LogFolder {
    pub(crate) path: PathBuf,
    /// New files are staged here under names that begin with the process's id.
    pub(crate) staging: PathBuf,
    pub(crate) owner: u64,
}

impl LogFolder {
    /// A name in the staging folder that says whose it is.
    pub(crate) fn staged(&self, what: &str) -> PathBuf {
        self.staging.join(format!("{:016x}-{what}", self.owner))
    }
}

/// Where a reader or writer of the log stands: everything before was read and checked.
#[derive(Clone)]
pub(crate) enum Position {
    /// In a log of files, which the processes of one machine append to ([`wal`]).
    File(FilePosition),
    /// In a log of slots, which machines share ([`crate::shared`]): the next one. A slot's number is that of its commit.
    Slot(Seq),
}

impl Position {
    /// Before the first frame of a file.
    pub(crate) fn at_start(wal: Wal) -> Position {
        Position::File(FilePosition::at_start(wal))
    }

    pub(crate) fn end(&self) -> LogEnd {
        match self {
            Position::File(position) => position.end(),
            Position::Slot(next) => LogEnd { wal: *next, offset: 0 },
        }
    }

    pub(crate) fn next_seq(&self) -> Seq {
        match self {
            Position::File(position) => position.next_seq,
            Position::Slot(next) => *next,
        }
    }

    /// The last transaction before this place.
    pub(crate) fn last_seq(&self) -> Seq {
        Seq(self.next_seq().0.saturating_sub(1))
    }

    /// As others are told of it.
    pub(crate) fn mark(&self) -> Mark {
        Mark { end: self.end(), seq: self.last_seq() }
    }

    /// The place in a file, for those who append to files.
    pub(crate) fn file(&self) -> Result<&FilePosition> {
        match self {
            Position::File(position) => Ok(position),
            Position::Slot(_) => Err(not_files()),
        }
    }
}

/// Who appends to files was given a log of slots.
pub(crate) fn not_files() -> Error {
    Error::new(ErrorKind::Internal, "the log is not one of files")
}

/// A place in a log of files.
#[derive(Clone)]
pub(crate) struct FilePosition {
    pub(crate) wal: Arc<Wal>,
    pub(crate) offset: u64,
    /// Checksum of the last frame's header.
    pub(crate) chain: u32,
    /// Sequence number of the next transaction.
    pub(crate) next_seq: Seq,
}

impl FilePosition {
    /// Before the first frame of a file.
    pub(crate) fn at_start(wal: Wal) -> FilePosition {
        let (chain, next_seq) = (wal.header_crc(), wal.header.first_seq);
        FilePosition { wal: Arc::new(wal), offset: WAL_HEADER_LEN, chain, next_seq }
    }

    pub(crate) fn end(&self) -> LogEnd {
        LogEnd { wal: self.wal.header.first_seq, offset: self.offset }
    }

    /// The last transaction before this place.
    pub(crate) fn last_seq(&self) -> Seq {
        Seq(self.next_seq.0.saturating_sub(1))
    }

    /// As others are told of it.
    pub(crate) fn mark(&self) -> Mark {
        Mark { end: self.end(), seq: self.last_seq() }
    }

    /// Where in this file the log is durable up to `durable`: at its start, when that is an earlier file.
    pub(crate) fn durable_offset(&self, durable: LogEnd) -> u64 {
        if durable.wal == self.wal.header.first_seq { durable.offset } else { WAL_HEADER_LEN }
    }

    /// What stands here; `ahead` is of this file.
    pub(crate) fn look(&self, ahead: &mut ReadAhead) -> Result<Found> {
        self.wal.look(ahead, self.offset, self.chain, self.next_seq)
    }

    /// For a walk from here on, when the log does not change any more before `end`.
    pub(crate) fn read_ahead(&self, end: LogEnd) -> ReadAhead {
        let here = self.wal.header.first_seq;
        ReadAhead::until(match here.cmp(&end.wal) {
            Ordering::Less => u64::MAX,
            Ordering::Equal => end.offset,
            Ordering::Greater => 0,
        })
    }

    /// Moves behind a frame that stands here.
    pub(crate) fn step(&mut self, frame: &Frame) {
        self.offset = frame.end;
        self.chain = frame.header_crc;
        self.next_seq = Seq(self.next_seq.0 + u64::from(frame.header.count));
    }

    /// The next file of the log, when it continues exactly here.
    pub(crate) fn next_file(&self, folder: &LogFolder) -> Result<Option<FilePosition>> {
        if self.next_seq == self.wal.header.first_seq {
            // A file without transactions has no successor: it would take the same name.
            return Ok(None);
        }
        let Some(next) = Wal::open(&folder.path, self.next_seq)? else { return Ok(None) };
        let previous = next.header.previous;
        if previous.is_some_and(|previous| {
            previous.first_seq == self.wal.header.first_seq && previous.len > self.offset
        }) {
            return Err(self.corrupt("a frame that had been stored"));
        }
        if previous != Some(self.as_previous()) {
            let what = "the log file does not continue the one before it";
            return Err(Error::corrupt(next.path(), 0, what));
        }
        Ok(Some(FilePosition::at_start(next)))
    }

    /// True when the file need not grow for so many bytes.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.wal.reaches(self.offset.saturating_add(bytes))
    }

    /// How the next file names this place.
    pub(crate) fn as_previous(&self) -> Previous {
        Previous { first_seq: self.wal.header.first_seq, len: self.offset, chain: self.chain }
    }

    /// This place is damaged.
    pub(crate) fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(self.wal.path(), self.offset, what)
    }

    /// Encodes a frame for this place in `buffer`, which holds [`HEADER_LEN`] free bytes and then the body. The log is durable up to
    /// `durable`.
    pub(crate) fn seal_frame(
        &self,
        kind: FrameKind,
        count: u32,
        durable: LogEnd,
        buffer: &mut Vec<u8>,
    ) -> Frame {
        let body = buffer.get(HEADER_LEN..).unwrap_or_default();
        let header = FrameHeader {
            kind,
            body_len: body.len() as u64,
            body_crc: crc32fast::hash(body),
            first_seq: self.next_seq,
            count,
            chain: self.chain,
            durable: self.durable_offset(durable),
            offset: self.offset,
            wal_id: self.wal.header.id,
        };
        let (bytes, header_crc) = header.encode();
        buffer[..HEADER_LEN].copy_from_slice(&bytes);
        buffer.resize(buffer.len().next_multiple_of(ALIGNMENT as usize), 0);
        Frame { header, header_crc, end: self.offset + buffer.len() as u64 }
    }
}

/// Body of a CHECKPOINT frame.
pub(crate) struct CheckpointRecord {
    pub(crate) manifest: ManifestRef,
    /// The manifest it was built on.
    pub(crate) base: ManifestRef,
}

impl CheckpointRecord {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.manifest.put(out);
        self.base.put(out);
    }

    pub(crate) fn decode(body: &[u8]) -> Option<CheckpointRecord> {
        let mut reader = crate::bytes::Reader::new(body);
        let manifest = ManifestRef::read(&mut reader)?;
        let base = ManifestRef::read(&mut reader)?;
        reader.is_empty().then_some(CheckpointRecord { manifest, base })
    }
}
