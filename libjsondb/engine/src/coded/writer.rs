//! Writing a coded segment: stripe by stripe to all drives, which are then synced at once.
//!
//! A drive on which anything fails is given up for this segment. The shards that are missing then are the debt that a repair finds; nothing
//! else remembers it.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::codec::Encoder;
use super::drive::Drive;
use super::layout::Layout;
use super::segment::CodedSegment;
use super::set::Set;
use super::shard::ShardName;
use crate::os::{self, File};
use crate::planted::{Bug, is_planted};
use crate::segment::SegmentId;
use crate::{Error, ErrorKind, Result};

/// A segment that is being written.
pub(crate) struct CodedWriter {
    segment: Arc<CodedSegment>,
    shards: Shards,
    encoder: Encoder,
    /// Full stripes written.
    stripes: u64,
}

/// The files of a segment's shards, as far as their drives work.
pub(crate) struct Shards {
    set: Arc<Set>,
    id: SegmentId,
    files: Vec<Option<File>>,
    failures: Vec<Error>,
}

impl CodedWriter {
    pub(crate) fn create(set: &Arc<Set>, id: SegmentId) -> Result<CodedWriter> {
        let segment = Arc::new(CodedSegment::unsealed(set, id));
        let shards = Shards::create(set, id)?;
        Ok(CodedWriter { segment, shards, encoder: Encoder::new(*set.layout())?, stripes: 0 })
    }

    /// For those who read it while it is written.
    pub(crate) fn segment(&self) -> &Arc<CodedSegment> {
        &self.segment
    }

    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        let stripe_bytes = self.segment.layout().stripe_bytes() as usize;
        while !bytes.is_empty() {
            let mut tail = self.segment.tail().write().unwrap_or_else(PoisonError::into_inner);
            let part = bytes.len().min(stripe_bytes - tail.len());
            let (now, later) = bytes.split_at(part);
            tail.extend_from_slice(now);
            bytes = later;
            let is_full = tail.len() == stripe_bytes;
            drop(tail);
            if is_full {
                self.write_stripe()?;
                self.stripes += 1;
                self.segment.drain_tail();
            }
        }
        Ok(())
    }

    /// Writes what is in the tail.
    fn write_stripe(&mut self) -> Result<()> {
        let CodedWriter { segment, shards, encoder, stripes } = self;
        let layout = *segment.layout();
        let tail = segment.tail().read().unwrap_or_else(PoisonError::into_inner);
        for (index, unit) in tail.chunks(layout.unit as usize).enumerate() {
            shards.write_unit(index, *stripes, unit)?;
        }
        encoder.encode(tail.chunks(layout.unit as usize), |index, unit| {
            shards.write_unit(layout.data + index, *stripes, unit)
        })
    }

    /// Writes what is left, and makes all shards durable; their names are not yet. To be called once.
    pub(crate) fn seal(&mut self) -> Result<()> {
        let len = self.segment.len()?;
        if len > self.stripes * self.segment.layout().stripe_bytes() {
            self.write_stripe()?;
            self.segment.drain_tail();
        }
        self.shards.end(len)?;
        self.segment.seal();
        Ok(())
    }

    /// What is left to be done: [`sync_names`].
    pub(crate) fn into_shards(self) -> Shards {
        self.shards
    }
}

impl Shards {
    fn create(set: &Arc<Set>, id: SegmentId) -> Result<Shards> {
        let count = set.layout().shards();
        let files = (0..count).map(|_| None).collect();
        let mut shards = Shards { set: Arc::clone(set), id, files, failures: Vec::new() };
        let (resting, others): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|index| set.drives.get(*index).is_some_and(Drive::rests));
        others.into_iter().try_for_each(|index| shards.begin(index))?;
        let spare = set.layout().parity.saturating_sub(shards.failures.len());
        // Without them all there may be too few.
        let may_rest = resting.len() <= spare;
        for index in resting {
            if may_rest {
                let what = format!("{} failed a moment ago", set.drives[index].path.display());
                shards.failures.push(Error::new(ErrorKind::Io, what));
            } else {
                shards.begin(index)?;
            }
        }
        Ok(shards)
    }

    fn begin(&mut self, index: usize) -> Result<()> {
        match self.create_file(index) {
            Ok(file) => {
                self.set.drives[index].work();
                self.files[index] = Some(file);
            }
            Err(error) => self.give_up(index, error)?,
        }
        Ok(())
    }

    fn create_file(&self, index: usize) -> Result<File> {
        let name = ShardName { segment: self.id, index };
        let drive = &self.set.drives[index];
        let path = drive.folder.join(name.file_name());
        let file = match File::create_new(&path) {
            // Its folder may be gone because another drive took its place.
            Err(error) if error.kind() == ErrorKind::Io && !drive.is_here() => {
                drive.adopt(&format!("{:016x}-DRIVE", self.set.owner))?;
                File::create_new(&path)?
            }
            created => created?,
        };
        file.write_all_at(&name.encode_header(self.set.layout()), 0)?;
        Ok(file)
    }

    fn write_unit(&mut self, index: usize, stripe: u64, unit: &[u8]) -> Result<()> {
        let name = ShardName { segment: self.id, index };
        let at = self.set.layout().unit_at(stripe);
        let Some(Some(file)) = self.files.get(index) else { return Ok(()) };
        let written = file
            .write_all_at(unit, at)
            .and_then(|()| file.write_all_at(&name.unit_crc(stripe, unit), at + unit.len() as u64));
        written.or_else(|error| self.give_up(index, error))
    }

    /// Ends all shards of a segment of `len` bytes, and syncs them.
    fn end(&mut self, len: u64) -> Result<()> {
        let layout = *self.set.layout();
        let id = self.id;
        let end = |index: usize, file: &File| {
            let name = ShardName { segment: id, index };
            file.write_all_at(&name.encode_trailer(len), layout.trailer_at(index, len))?;
            if is_planted(Bug::NameSegmentBeforeSync) { Ok(()) } else { file.sync() }
        };
        let open: Vec<(usize, &File)> =
            self.files.iter().enumerate().filter_map(|(index, file)| Some((index, file.as_ref()?))).collect();
        for (index, ended) in os::at_once(&open, |(index, file)| (*index, end(*index, file))) {
            if let Err(error) = ended {
                self.give_up(index, error)?;
            }
        }
        self.check()
    }

    /// The segment does without this shard.
    fn give_up(&mut self, index: usize, error: Error) -> Result<()> {
        // It says nothing about the drive.
        if error.kind() == ErrorKind::Exhausted {
            return Err(error);
        }
        if let Some(drive) = self.set.drives.get(index) {
            drive.fail();
            self.files[index] = None;
            // What stays is damaged or cut off: as good as missing.
            let _ = os::remove(&drive.folder.join(ShardName { segment: self.id, index }.file_name()));
        }
        self.failures.push(error);
        self.check()
    }

    /// Fails when more shards are given up than may be lost.
    fn check(&self) -> Result<()> {
        let Layout { data, parity, .. } = *self.set.layout();
        if self.failures.len() <= parity || is_planted(Bug::AcknowledgeWithTooFewShards) {
            return Ok(());
        }
        let is_full = |error: &&Error| error.kind() == ErrorKind::DiskFull;
        let full = self.failures.iter().filter(is_full).count();
        if let Some(error) = self.failures.iter().find(is_full)
            && self.failures.len() - full <= parity
        {
            return Err(error.clone());
        }
        let each: Vec<&str> = self.failures.iter().map(Error::message).collect();
        let what = format!(
            "{} of {} drives cannot be written, {parity} may be lost: nothing was stored; bring drives back and run it again ({})",
            self.failures.len(),
            data + parity,
            each.join("; ")
        );
        Err(Error::drives_lost(what, None))
    }

    /// Folders of the drives that have a shard.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        let files = self.files.iter().zip(&self.set.drives);
        files.filter(|(file, _)| file.is_some()).map(|(_, drive)| drive.folder.as_path())
    }
}

/// Makes the names of the shards of some segments durable.
pub(crate) fn sync_names(segments: &mut [&mut Shards]) -> Result<()> {
    let mut folders: Vec<std::path::PathBuf> =
        segments.iter().flat_map(|shards| shards.folders()).map(Path::to_owned).collect();
    folders.sort();
    folders.dedup();
    let synced = os::at_once(&folders, |folder| os::sync_folder(folder));
    for (folder, synced) in folders.iter().zip(synced) {
        let Err(error) = synced else { continue };
        for shards in segments.iter_mut() {
            let has_it =
                |index: &usize| shards.files[*index].is_some() && shards.set.drives[*index].folder == *folder;
            if let Some(index) = (0..shards.files.len()).find(has_it) {
                shards.give_up(index, error.clone())?;
            }
        }
    }
    Ok(())
}
