//! The slots of the shared log as files: `log/<number / 4096>/<number>.c`, and the boundary in `log/boundary`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::boundary::{Boundary, HALF, LogKind};
use super::driver::{decode_head, encode_head};
use super::log::Slots;
use super::slot::{Slot, SlotId};
use crate::log::LogFolder;
use crate::manifest::ManifestRef;
use crate::os::{self, File, Link};
use crate::{Error, ErrorKind, Result, Seq};

/// Slots in a folder.
const SLOTS_PER_FOLDER: u64 = 4096;

/// Name of the file of [`SlotFolder::head`].
const HEAD: &str = "HEAD";

/// The files of the shared log.
#[derive(Clone)]
pub(crate) struct SlotFolder {
    log: LogFolder,
    database: Uuid,
}

impl SlotFolder {
    pub(crate) fn new(log: LogFolder, database: Uuid) -> SlotFolder {
        SlotFolder { log, database }
    }

    pub(crate) fn database(&self) -> Uuid {
        self.database
    }

    /// Fails where two files can get the same name, or none can get a second one: on such a file system writers cannot share a folder.
    pub(crate) fn check_links(&self) -> Result<()> {
        let [file, second] = ["probe", "probe2"].map(|name| self.log.staged(&format!("{name}.c")));
        for path in [&file, &second] {
            os::remove(path)?;
        }
        File::create_new(&file)?.sync()?;
        let found = match [os::link(&file, &second), os::link(&file, &second)] {
            [Ok(Link::Made), Ok(Link::Taken)] => None,
            [Ok(Link::Made), Ok(_)] => Some("two files got the same name".to_owned()),
            // Whatever it calls the reason: a file was made there a moment ago.
            [Err(error), _] | [Ok(Link::Made), Err(error)] => Some(error.to_string()),
            [Ok(first), _] => Some(format!("a new name was answered with {first:?}")),
        };
        for path in [&file, &second] {
            os::remove(path)?;
        }
        match found {
            None => Ok(()),
            Some(found) => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} cannot be opened as Clustered: that needs a file system on which a file can be given a second \
                     name that only one writer gets (hard links: NFS, ext4, XFS and the like), and here {found}",
                    self.log.path.parent().unwrap_or(&self.log.path).display()
                ),
            )),
        }
    }

    /// Path of a slot.
    pub(crate) fn path(&self, slot: Seq) -> PathBuf {
        self.folder_of(slot).join(format!("{:020}.c", slot.0))
    }

    fn folder_of(&self, slot: Seq) -> PathBuf {
        self.log.path.join(format!("{:012}", slot.0 / SLOTS_PER_FOLDER))
    }

    fn staged(&self, id: SlotId) -> PathBuf {
        self.log.staged(&format!("{:016x}.c", id.number))
    }

    /// Header and body of a slot's file.
    pub(crate) fn open<'a>(&self, slot: Seq, bytes: &'a [u8]) -> Result<(Slot, &'a [u8])> {
        match Slot::open(bytes) {
            Some((header, body)) if header.database == self.database => Ok((header, body)),
            Some(_) => Err(Error::corrupt(&self.path(slot), 0, "the slot of another database")),
            None => Err(Error::corrupt(&self.path(slot), 0, "the bytes of a slot of the log")),
        }
    }

    /// Writes the next boundary. It is durable when this returns.
    pub(crate) fn set_boundary(&self, seq: Seq, manifest: ManifestRef, log: LogKind) -> Result<()> {
        let path = boundary_path(&self.log.path);
        let version = read_boundary(&self.log.path)?.map_or(1, |before| before.version + 1);
        let next = Boundary { seq, manifest, log, version };
        if version == 1 {
            let mut bytes = vec![0; 2 * HALF as usize];
            let encoded = next.encode();
            let at = next.offset() as usize;
            bytes[at..at + encoded.len()].copy_from_slice(&encoded);
            return os::write_durably(&self.log.path, "boundary", &self.log.staged("boundary"), &bytes);
        }
        let file = File::open_writable(&path)?.ok_or_else(|| Error::missing(&path))?;
        file.write_all_at(&next.encode(), next.offset())?;
        file.sync()
    }

    /// Moves the boundary to a checkpoint that was in force, and then removes the slots up to there.
    pub(crate) fn trim(&self, manifest: ManifestRef) -> Result<()> {
        let upto = manifest.checkpoint;
        if self.boundary()?.seq < upto {
            self.set_boundary(upto, manifest, LogKind::Slots)?;
        }
        self.remove(upto)
    }

    /// The newest checkpoint that somebody has told of; a hint.
    pub(crate) fn head(&self) -> Result<Option<ManifestRef>> {
        Ok(os::read_file(&self.log.path.join(HEAD))?.and_then(|bytes| decode_head(&bytes)))
    }

    /// Tells of a checkpoint that has taken effect.
    pub(crate) fn set_head(&self, manifest: &ManifestRef) -> Result<()> {
        os::write_durably(&self.log.path, HEAD, &self.log.staged("head"), &encode_head(manifest))
    }

    /// Removes the slots up to `upto`, which the boundary has passed.
    pub(crate) fn remove(&self, upto: Seq) -> Result<()> {
        for name in os::list_folders(&self.log.path)? {
            let Ok(number) = name.parse::<u64>() else { continue };
            if number > upto.0 / SLOTS_PER_FOLDER {
                continue;
            }
            let folder = self.log.path.join(&name);
            for (file, _) in os::list(&folder)? {
                if slot_of_file_name(&file).is_some_and(|slot| slot <= upto) {
                    os::remove(&folder.join(file))?;
                }
            }
            if number < upto.0 / SLOTS_PER_FOLDER {
                os::remove_empty_folder(&folder);
            }
        }
        Ok(())
    }

    /// How long ago a slot got its name, by the clock of whoever keeps the files; None when it is gone.
    pub(crate) fn age(&self, slot: Seq) -> Result<Option<Duration>> {
        let Some(then) = os::changed_at(&self.path(slot))? else { return Ok(None) };
        let now = os::file_clock(&self.log.staged("clock"))?;
        Ok(Some(now.saturating_sub(then)))
    }

    /// The newest slot there is. Looks at one folder's files: there may be very many.
    pub(crate) fn last(&self) -> Result<Option<Seq>> {
        for name in os::list_folders(&self.log.path)?.iter().rev() {
            let files = os::list(&self.log.path.join(name))?;
            let last = files.iter().filter_map(|(file, _)| slot_of_file_name(file)).max();
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// The slots there are, rising.
    pub(crate) fn list(&self) -> Result<Vec<(Seq, u64)>> {
        let mut slots = Vec::new();
        for name in os::list_folders(&self.log.path)? {
            let files = os::list(&self.log.path.join(name))?;
            slots.extend(files.iter().filter_map(|(file, len)| Some((slot_of_file_name(file)?, *len))));
        }
        slots.sort_unstable();
        Ok(slots)
    }
}

fn slot_of_file_name(name: &str) -> Option<Seq> {
    name.strip_suffix(".c")?.parse().ok().map(Seq)
}

fn boundary_path(log: &Path) -> PathBuf {
    log.join("boundary")
}

/// The boundary of a log; None when it never had one: a log of files.
pub(crate) fn read_boundary(log: &Path) -> Result<Option<Boundary>> {
    let path = boundary_path(log);
    let Some(bytes) = os::read_file(&path)? else { return Ok(None) };
    let newest = Boundary::newest(&bytes);
    newest.map(Some).ok_or_else(|| Error::corrupt(&path, 0, "the boundary of the log"))
}

impl Slots for SlotFolder {
    fn stage(&self, id: SlotId, bytes: &[u8]) -> Result<()> {
        let file = File::create_new(&self.staged(id))?;
        let written = file.write_all_at(bytes, 0).and_then(|()| file.sync());
        if written.is_err() {
            self.unstage(id);
        }
        written
    }

    fn link(&self, id: SlotId, slot: Seq) -> Result<Link> {
        match os::link(&self.staged(id), &self.path(slot))? {
            Link::Gone => {
                // The first slot of a folder makes it.
                os::ensure_folder(&self.folder_of(slot))?;
                os::sync_folder(&self.log.path)?;
                os::link(&self.staged(id), &self.path(slot))
            }
            linked => Ok(linked),
        }
    }

    fn unstage(&self, id: SlotId) {
        let _ = os::remove(&self.staged(id));
    }

    fn read(&self, slot: Seq) -> Result<Option<Vec<u8>>> {
        os::read_file(&self.path(slot))
    }

    fn read_anew(&self, slot: Seq) -> Result<Option<Vec<u8>>> {
        os::look_anew(&self.folder_of(slot))?;
        self.read(slot)
    }

    fn sync(&self, slot: Seq) -> Result<()> {
        if slot.0.is_multiple_of(SLOTS_PER_FOLDER) {
            // What follows is not to be found where what it follows is lost: its writer may not have come to this yet.
            os::sync_folder(&self.folder_of(Seq(slot.0.saturating_sub(1))))
                .or_else(|_| self.boundary().map(drop))?;
        }
        os::sync_folder(&self.folder_of(slot))
    }

    fn boundary(&self) -> Result<Boundary> {
        read_boundary(&self.log.path)?.ok_or_else(|| Error::missing(&boundary_path(&self.log.path)))
    }

    fn now(&self) -> Duration {
        os::uptime()
    }

    fn id_of(&self, bytes: &[u8]) -> Option<SlotId> {
        Slot::open(bytes).map(|(header, _)| header.id)
    }
}
