//! What a database takes on disk, and what of it is in use.

use crate::database::{Hold, Inner};
use crate::folder::FORMAT_VERSION;
use crate::{Database, Mode, Result, Seq, os};

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Size of a database on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Commits, those that the tree holds already included.
    pub log: Files,
    /// Pages and values.
    pub segments: Files,
    /// Lists of segments.
    pub manifests: Files,
}

impl DiskUse {
    /// Bytes of all.
    pub fn bytes(&self) -> u64 {
        self.log.bytes + self.segments.bytes + self.manifests.bytes
    }
}

/// A database as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Version of everything in the folder.
    pub format_version: u32,
    /// Identity of the database; copies share it.
    pub uuid: uuid::Uuid,
    /// Size on disk.
    pub disk: DiskUse,
    /// All commits up to this one are in the tree.
    pub checkpoint: Seq,
    /// The last commit.
    pub seq: Seq,
    /// Bytes of pages and values in the segments of the tree.
    pub tree_bytes: u64,
    /// Those of them that the tree refers to; the rest is garbage.
    pub live_bytes: u64,
    /// Processes that have the database open, this one included; it is not when it cannot write the folder.
    pub processes: u64,
    /// Oldest checkpoint that a transaction of any of them reads.
    pub oldest_pin: Option<Seq>,
}

impl Database {
    /// Size, newest commit, garbage, and who has it open.
    pub fn info(&self) -> Result<Info> {
        self.inner.info()
    }
}

impl Inner {
    fn info(&self) -> Result<Info> {
        let snapshot = self.newest_snapshot(Mode::Read, Hold::Pinned)?;
        let (name, seq) = (snapshot.manifest.name, snapshot.seq);
        let usage = snapshot.manifest.segments.values();
        let (tree_bytes, live_bytes) =
            usage.fold((0, 0), |(total, live), usage| (total + usage.total, live + usage.live));
        self.release(snapshot, Mode::Read, Hold::Pinned);
        let pins = self.survey_pins()?;
        Ok(Info {
            format_version: FORMAT_VERSION,
            uuid: self.format.uuid,
            disk: self.disk_use()?,
            checkpoint: name.checkpoint,
            seq,
            tree_bytes,
            live_bytes,
            processes: pins.alive.len() as u64,
            oldest_pin: pins.oldest.filter(|oldest| *oldest <= seq),
        })
    }

    pub(crate) fn disk_use(&self) -> Result<DiskUse> {
        Ok(DiskUse {
            log: match &self.shared {
                Some(shared) => count(shared.view().reader().list()?.into_iter().map(|(_, bytes)| bytes)),
                None => files(&self.folders.log.path, ".wal")?,
            },
            segments: count(self.pages.segments().list()?.into_values()),
            manifests: files(&self.folders.manifests, ".man")?,
        })
    }
}

fn files(folder: &std::path::Path, suffix: &str) -> Result<Files> {
    let files = os::list(folder)?.into_iter().filter(|(name, _)| name.ends_with(suffix));
    Ok(count(files.map(|(_, bytes)| bytes)))
}

fn count(sizes: impl Iterator<Item = u64>) -> Files {
    sizes.fold(Files::default(), |files, bytes| Files { count: files.count + 1, bytes: files.bytes + bytes })
}
