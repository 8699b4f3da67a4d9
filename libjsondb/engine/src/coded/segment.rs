//! Reading a coded segment: from the drive where the bytes lie, and where that fails from the others.
//!
//! A healthy read is one read of one drive, checked by the checksum that its reference holds. When that does not fit, or there is
//! nothing to read, the units that it touches are read whole, with their own checksums, and what is missing is restored from the rest of its
//! stripe.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwapOption;

use super::layout::Layout;
use super::rebuild;
use super::set::{AfterReads, Set};
use super::shard::{HEADER_LEN, ShardName, TRAILER_LEN};
use super::stripes::Units;
use crate::os::File;
use crate::segment::SegmentId;
use crate::{Error, ErrorKind, Result};

/// All is on the drives: there is no more to be written.
const SEALED: u64 = u64::MAX;

/// A segment of a set, as its shards' files are opened.
pub(crate) struct CodedSegment {
    pub(crate) set: Arc<Set>,
    pub(crate) id: SegmentId,
    files: Box<[ArcSwapOption<File>]>,
    len: OnceLock<u64>,
    /// Up to here its bytes are in the files; the rest is in `tail`, while it is being written here.
    on_drives: AtomicU64,
    tail: RwLock<Vec<u8>>,
}

impl CodedSegment {
    /// One that was written before.
    pub(crate) fn new(set: &Arc<Set>, id: SegmentId) -> CodedSegment {
        CodedSegment {
            set: Arc::clone(set),
            id,
            files: (0..set.layout().shards()).map(|_| ArcSwapOption::empty()).collect(),
            len: OnceLock::new(),
            on_drives: AtomicU64::new(SEALED),
            tail: RwLock::default(),
        }
    }

    /// One that is being written.
    pub(super) fn unsealed(set: &Arc<Set>, id: SegmentId) -> CodedSegment {
        CodedSegment { on_drives: AtomicU64::new(0), ..CodedSegment::new(set, id) }
    }

    pub(super) fn tail(&self) -> &RwLock<Vec<u8>> {
        &self.tail
    }

    /// What was in the tail is in the files now.
    pub(super) fn drain_tail(&self) {
        let mut tail = self.tail.write().unwrap_or_else(PoisonError::into_inner);
        self.on_drives.fetch_add(tail.len() as u64, Ordering::Release);
        tail.clear();
    }

    /// Everything is in the files.
    pub(super) fn seal(&self) {
        let mut tail = self.tail.write().unwrap_or_else(PoisonError::into_inner);
        let _ = self.len.set(self.on_drives.load(Ordering::Acquire));
        self.on_drives.store(SEALED, Ordering::Release);
        *tail = Vec::new();
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.on_drives.load(Ordering::Acquire) == SEALED
    }

    pub(crate) fn layout(&self) -> &Layout {
        self.set.layout()
    }

    pub(crate) fn shard(&self, index: usize) -> ShardName {
        ShardName { segment: self.id, index }
    }

    /// Of a shard's file, whether or not it is there.
    pub(crate) fn path(&self, index: usize) -> std::path::PathBuf {
        self.set.shard_path(self.shard(index)).unwrap_or_default()
    }

    /// The file of a shard. Fails when it is not there or is not that shard's.
    pub(crate) fn file(&self, index: usize) -> Result<Arc<File>> {
        let place = self.files.get(index).ok_or_else(|| Error::missing(&self.path(index)))?;
        if let Some(file) = place.load_full() {
            return Ok(file);
        }
        let path = self.path(index);
        let file = File::open(&path)?.ok_or_else(|| Error::missing(&path))?;
        let mut header = [0; HEADER_LEN as usize];
        file.read_exact_at(&mut header, 0)?;
        if header.as_slice() != self.shard(index).encode_header(self.layout()) {
            return Err(Error::corrupt(&path, 0, "the header of the shard"));
        }
        let file = Arc::new(file);
        place.store(Some(Arc::clone(&file)));
        Ok(file)
    }

    /// Opens what it is read by, to stay open. False when nobody can read it, as files are not there.
    pub(crate) fn hold(&self) -> Result<bool> {
        let mut missing = BTreeSet::new();
        for index in 0..self.layout().shards() {
            match self.file(index) {
                Err(error) if error.kind() == ErrorKind::Exhausted => return Err(error),
                Err(error) if error.is_missing_file() => drop(missing.insert(index)),
                // Damage is told when it is read.
                _ => {}
            }
        }
        Ok(self.spare(|index| !missing.contains(&index)).is_some())
    }

    /// How many of the shards that are `here` may still be lost; None: too few are here. Those without data are not needed.
    pub(crate) fn spare(&self, here: impl Fn(usize) -> bool) -> Option<usize> {
        let layout = self.layout();
        let used = if (0..layout.shards()).all(&here) { layout.data } else { layout.used(self.len().ok()?) };
        let left = (0..used).chain(layout.data..layout.shards()).filter(|index| here(*index)).count();
        left.checked_sub(used)
    }

    /// Has the file of a shard opened by its name when it is read next.
    pub(crate) fn reopen(&self, index: usize) {
        if let Some(place) = self.files.get(index) {
            place.store(None);
        }
    }

    /// Length of the segment.
    pub(crate) fn len(&self) -> Result<u64> {
        if !self.is_sealed() {
            let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
            return Ok(self.on_drives.load(Ordering::Acquire) + tail.len() as u64);
        }
        if let Some(len) = self.len.get() {
            return Ok(*len);
        }
        let mut troubles = Troubles::default();
        for index in 0..self.layout().shards() {
            match self.len_by(index) {
                Ok(len) => return Ok(*self.len.get_or_init(|| len)),
                Err(error) => troubles.add(index, error)?,
            }
        }
        Err(self.lost(&troubles))
    }

    /// Length of the segment as one of its shards has it.
    pub(crate) fn len_by(&self, index: usize) -> Result<u64> {
        let file = self.file(index)?;
        let shard_len = file.len()?;
        let damaged = |what| Error::corrupt(file.path(), shard_len, what);
        let at = shard_len.checked_sub(TRAILER_LEN).ok_or_else(|| damaged("the trailer is missing"))?;
        let mut trailer = [0; TRAILER_LEN as usize];
        file.read_exact_at(&mut trailer, at)?;
        let len = self.shard(index).decode_trailer(&trailer).ok_or_else(|| damaged("the trailer"))?;
        if self.layout().trailer_at(index, len) != at {
            return Err(damaged("the file is not as long as its trailer says"));
        }
        Ok(len)
    }

    /// Fills `out` with the segment's bytes from `offset` on. `is_right` says whether they are those that were written there; it may be asked more
    /// than once.
    pub(crate) fn read_at(
        &self,
        out: &mut [u8],
        offset: u64,
        is_right: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        if self.read_direct(out, offset)? && is_right(out) {
            return Ok(());
        }
        let mut troubles = Troubles::default();
        let read = self.read_checked(out, offset, &mut troubles);
        self.repair_after_read(&troubles);
        read?;
        match is_right(out) {
            true => Ok(()),
            false => {
                let (path, offset) = self.place_of(offset);
                Err(Error::corrupt(&path, offset, format!("checksum of {} bytes", out.len())))
            }
        }
    }

    /// As [`CodedSegment::read_at`], for what has no checksum: every unit it touches is read whole and checked.
    pub(crate) fn read_whole_units_at(&self, out: &mut [u8], offset: u64) -> Result<()> {
        let mut troubles = Troubles::default();
        let read = self.read_checked(out, offset, &mut troubles);
        self.repair_after_read(&troubles);
        read
    }

    fn repair_after_read(&self, troubles: &Troubles) {
        if self.is_sealed() && self.set.after_reads == AfterReads::Repair && !troubles.is_empty() {
            rebuild::after_read(self, troubles);
        }
    }

    /// The file in which a byte of the segment lies, and where.
    fn place_of(&self, offset: u64) -> (std::path::PathBuf, u64) {
        let (unit, layout) = (offset / self.layout().unit, self.layout());
        let index = (unit % layout.data as u64) as usize;
        (self.path(index), layout.unit_at(unit / layout.data as u64) + offset % layout.unit)
    }

    /// Reads without looking at the units' checksums. False where something could not be read.
    fn read_direct(&self, out: &mut [u8], offset: u64) -> Result<bool> {
        let on_drives = self.on_drives.load(Ordering::Acquire);
        if offset.saturating_add(out.len() as u64) <= on_drives {
            return self.each_unit(out, offset, |unit, from, part| self.read_from_drive(unit, from, part));
        }
        // It is being written here.
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        let on_drives = self.on_drives.load(Ordering::Acquire);
        let in_files = (on_drives.saturating_sub(offset) as usize).min(out.len());
        let (first, rest) = out.split_at_mut(in_files);
        let start = offset.max(on_drives).saturating_sub(on_drives) as usize;
        if let Some(bytes) = tail.get(start..start + rest.len()) {
            rest.copy_from_slice(bytes);
        }
        self.each_unit(first, offset, |unit, from, part| self.read_from_drive(unit, from, part))
    }

    /// Cuts what is to be read where units end; false as soon as `read` says so.
    fn each_unit(
        &self,
        mut out: &mut [u8],
        mut offset: u64,
        mut read: impl FnMut(u64, u64, &mut [u8]) -> Result<bool>,
    ) -> Result<bool> {
        while !out.is_empty() {
            let from = offset % self.layout().unit;
            let len = ((self.layout().unit - from) as usize).min(out.len());
            let (part, rest) = std::mem::take(&mut out).split_at_mut(len);
            if !read(offset / self.layout().unit, from, part)? {
                return Ok(false);
            }
            (out, offset) = (rest, offset + len as u64);
        }
        Ok(true)
    }

    fn read_from_drive(&self, unit: u64, from: u64, part: &mut [u8]) -> Result<bool> {
        let data = self.layout().data as u64;
        let read = self.file((unit % data) as usize).and_then(|file| {
            let at = self.layout().unit_at(unit / data) + from;
            Ok(file.read_at(part, at)? == part.len())
        });
        match read {
            // The process may open no more files: that says nothing about the drive.
            Err(error) if error.kind() == ErrorKind::Exhausted => Err(error),
            read => Ok(read.unwrap_or(false)),
        }
    }

    /// As [`CodedSegment::read_at`], every unit checked and where needed restored.
    fn read_checked(&self, out: &mut [u8], offset: u64, troubles: &mut Troubles) -> Result<()> {
        let (len, wanted) = (self.len()?, out.len() as u64);
        if offset.saturating_add(wanted) > len {
            let what = format!(
                "the segment ends after {} of {wanted} bytes",
                len.saturating_sub(offset).min(wanted)
            );
            let (path, at) = self.place_of(offset.min(len));
            return Err(Error::corrupt(&path, at, what));
        }
        let on_drives = self.on_drives.load(Ordering::Acquire);
        let in_files = (on_drives.saturating_sub(offset) as usize).min(out.len());
        self.each_unit(&mut out[..in_files], offset, |unit, from, part| {
            let bytes = self.unit(unit, len, troubles)?;
            let from = from as usize;
            let bytes = bytes.get(from..from + part.len());
            bytes.inspect(|bytes| part.copy_from_slice(bytes));
            Ok(bytes.is_some())
        })?;
        if in_files < out.len() && !self.read_direct(&mut out[in_files..], offset + in_files as u64)? {
            return self.read_checked(out, offset, troubles);
        }
        Ok(())
    }

    /// A unit of the segment, by its number, right in any case.
    fn unit(&self, unit: u64, len: u64, troubles: &mut Troubles) -> Result<Arc<[u8]>> {
        let data = self.layout().data as u64;
        let (index, stripe) = ((unit % data) as usize, unit / data);
        let restored = self.set.restored(self.id, unit);
        if let Some(restored) = restored {
            return Ok(restored);
        }
        let mut bytes = Vec::new();
        let unit_len = self.layout().unit_len(index, stripe, len) as usize;
        match self.read_unit(index, stripe, len, &mut bytes) {
            Ok(()) => {
                bytes.truncate(unit_len);
                return Ok(bytes.into());
            }
            Err(error) => troubles.add(index, error)?,
        }
        let mut units = Units::default();
        self.read_enough(stripe, len, &|other| other != index, troubles, &mut units)?;
        bytes.resize(self.layout().coded_len(stripe, len) as usize, 0);
        let restorer = self.set.restorer(units.shards(), &[index])?;
        restorer.restore(0, units.iter(), &mut bytes);
        bytes.truncate(unit_len);
        let bytes: Arc<[u8]> = bytes.into();
        self.set.keep_restored(self.id, unit, Arc::clone(&bytes));
        Ok(bytes)
    }

    /// Why nothing more can be read.
    pub(super) fn lost(&self, troubles: &Troubles) -> Error {
        let layout = self.layout();
        let each: Vec<String> =
            troubles.list.iter().map(|(index, error)| format!("shard {index}: {error}")).collect();
        let what = format!(
            "segment {} cannot be read: {} of its {} shards are lost, {} may be ({}); bring a drive back, or restore a backup",
            self.id,
            troubles.list.len(),
            layout.shards(),
            layout.parity,
            each.join("; ")
        );
        Error::drives_lost(what, troubles.first_missing())
    }
}

/// Shards that could not be read, and why.
#[derive(Default)]
pub(crate) struct Troubles {
    list: Vec<(usize, Error)>,
}

impl Troubles {
    /// Notes a shard. Fails with what says nothing about its drive.
    pub(crate) fn add(&mut self, index: usize, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Exhausted {
            return Err(error);
        }
        if self.list.iter().all(|(known, _)| *known != index) {
            self.list.push((index, error));
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Error)> {
        self.list.iter().map(|(index, error)| (*index, error))
    }

    /// A file that is not there: somebody may have removed it with the segment.
    fn first_missing(&self) -> Option<&Error> {
        self.list.iter().map(|(_, error)| error).find(|error| error.is_missing_file())
    }
}
