//! The slots of the shared log as files: `log/<number / 4096>/<number>.c`, and the boundary in `log/boundary`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::boundary::{
    Boundary, LogKind, Reach, claim_name, decode_head, encode_head, switches_of_claim_name,
};
use super::log::Slots;
use super::slot::{Slot, SlotId};
use crate::copies::epoch;
use crate::log::LogFolder;
use crate::manifest::ManifestRef;
use crate::os::{self, File, Link};
use crate::{Error, ErrorKind, Result, Seq};

/// Slots in a folder.
pub(crate) const SLOTS_PER_FOLDER: u64 = 4096;

/// Name of the file of [`SlotFolder::head`].
const HEAD: &str = "HEAD";

/// How the names end of [`SlotFolder::told_path`].
const TOLD: &str = ".told";

/// A boundary that is replaced while it is read is looked for this often.
const READ_ATTEMPTS: usize = 20;
/// As is the probe of [`SlotFolder::check_links`], which is swept where this process is taken for dead.
const PROBE_ATTEMPTS: usize = 5;

/// What trying to give two files the same name came to.
enum Probed {
    OneWins,
    BothWin,
    Refused(Error),
    /// Somebody swept the files.
    Gone,
}

/// The files of the shared log.
#[derive(Clone)]
pub(crate) struct SlotFolder {
    log: LogFolder,
    /// The slots are in folders in this one.
    slots: PathBuf,
    database: Uuid,
}

impl SlotFolder {
    pub(crate) fn new(log: LogFolder, database: Uuid) -> SlotFolder {
        SlotFolder { slots: log.path.clone(), log, database }
    }

    /// Of one of several copies, where each epoch has slots of its own.
    pub(crate) fn of_epoch(log: LogFolder, database: Uuid, epoch: u64) -> SlotFolder {
        SlotFolder { slots: epoch::slots_folder(&log.path, epoch), log, database }
    }

    /// As it is elsewhere: where the slots of a new epoch are gathered.
    pub(crate) fn at(&self, slots: PathBuf) -> SlotFolder {
        SlotFolder { slots, ..self.clone() }
    }

    /// The folder of the log.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log.path
    }

    /// Fails where a second file can get a name that another one has, or none can get a second name: on such a file system writers cannot
    /// share a folder.
    pub(crate) fn check_links(&self) -> Result<()> {
        let names = ["probe", "probe2", "probe3"].map(|name| self.log.staged(&format!("{name}.c")));
        let mut why = String::from("files in it vanish");
        for _ in 0..PROBE_ATTEMPTS {
            let probed = self.probe_links(&names);
            for path in &names {
                os::remove(path)?;
            }
            match probed {
                Ok(Probed::OneWins) => return Ok(()),
                Ok(Probed::BothWin) => return Err(self.not_shared("two files got the same name")),
                Ok(Probed::Refused(error)) => why = error.to_string(),
                Ok(Probed::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.not_shared(&why))
    }

    /// Gives two files the same name, and looks which one has it: what is answered may be wrong.
    fn probe_links(&self, [first, second, name]: &[PathBuf; 3]) -> Result<Probed> {
        for (path, bytes) in [(first, b"1"), (second, b"2")] {
            os::remove(path)?;
            let file = File::create_new(path)?;
            match file.write_all_at(bytes, 0).and_then(|()| file.sync()) {
                Err(error) if error.is_missing_file() => return Ok(Probed::Gone),
                written => written?,
            }
        }
        os::remove(name)?;
        for path in [first, second] {
            match os::link(path, name) {
                Ok(Link::Gone) => return Ok(Probed::Gone),
                Ok(_) => {}
                // Whatever it calls the reason: a file was made there a moment ago. Once it may be the disk.
                Err(error) => return Ok(Probed::Refused(error)),
            }
        }
        Ok(match os::read_file(name)? {
            Some(found) if found == b"1" => Probed::OneWins,
            Some(_) => Probed::BothWin,
            None => Probed::Gone,
        })
    }

    fn not_shared(&self, why: &str) -> Error {
        let what = format!(
            "{} cannot be opened as Clustered: that needs a file system on which a file can be given a second name that only one \
             writer gets (hard links: NFS, ext4, XFS and the like), and here {why}",
            self.log.path.parent().unwrap_or(&self.log.path).display()
        );
        Error::new(ErrorKind::Invalid, what)
    }

    /// Path of a slot.
    pub(crate) fn path(&self, slot: Seq) -> PathBuf {
        self.folder_of(slot).join(format!("{:020}.c", slot.0))
    }

    fn folder_of(&self, slot: Seq) -> PathBuf {
        self.slots.join(format!("{:012}", slot.0 / SLOTS_PER_FOLDER))
    }

    /// Path of the file that says of which slots of a folder processes of this machine were told.
    pub(crate) fn told_path(&self, number: u64) -> PathBuf {
        self.slots.join(format!("{number:012}{TOLD}"))
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

    /// Writes a boundary. It is durable when this returns. Those before the last one are of no use any more.
    pub(crate) fn set_boundary(&self, boundary: &Boundary) -> Result<()> {
        let folder = boundary_folder(&self.log.path);
        let before = newest_reach(&self.log.path)?;
        if before.is_none() {
            os::ensure_folder(&folder)?;
            os::sync_folder(&self.log.path)?;
        }
        let name = boundary.reach.file_name();
        os::write_durably(&folder, &name, &self.log.staged("boundary"), &boundary.encode())?;
        for name in os::names(&folder)? {
            if Reach::from_file_name(&name).is_some_and(|reach| Some(reach) < before) {
                os::remove(&folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Decides what kind of log there is, by writing the first boundary of that kind. False when another one was decided for with the same
    /// number: then that one is written. Whoever looked at the folder before is to look again.
    pub(crate) fn claim(&self, boundary: &Boundary) -> Result<bool> {
        let folder = boundary_folder(&self.log.path);
        os::ensure_folder(&folder)?;
        os::sync_folder(&self.log.path)?;
        let switches = boundary.reach.switches;
        let staged = self.log.staged("claim");
        os::write_once_durably(&folder, &claim_name(switches), &staged, &boundary.encode())?;
        // Whatever was answered: what is there has decided.
        os::look_anew(&folder)?;
        let claimed = self.claimed(switches)?;
        self.set_boundary(&claimed)?;
        Ok(claimed == *boundary)
    }

    /// Writes the boundary of the newest claim, if nobody has yet: who claimed died, failed, or sleeps.
    pub(crate) fn settle_claim(&self) -> Result<()> {
        let names = boundary_names(&self.log.path)?;
        let reach = names.iter().filter_map(|name| Reach::from_file_name(name)).max().unwrap_or_default();
        let newest = names.iter().filter_map(|name| switches_of_claim_name(name)).max();
        match newest {
            Some(switches) if switches > reach.switches => self.set_boundary(&self.claimed(switches)?),
            _ => Ok(()),
        }
    }

    fn claimed(&self, switches: u64) -> Result<Boundary> {
        let path = boundary_folder(&self.log.path).join(claim_name(switches));
        let bytes = os::read_file(&path)?.ok_or_else(|| Error::missing(&path))?;
        let claimed = Boundary::decode(&bytes).filter(|claimed| claimed.reach.switches == switches);
        claimed.ok_or_else(|| Error::corrupt(&path, 0, "a claim on the boundary of the log"))
    }

    /// Makes the boundary the one of another copy, unless it reaches farther.
    pub(crate) fn adopt_boundary(&self, boundary: &Boundary) -> Result<()> {
        if newest_reach(&self.log.path)? < Some(boundary.reach) {
            self.set_boundary(boundary)
        } else {
            Ok(())
        }
    }

    /// Gives a slot that another copy has its name here, unless there is one.
    pub(crate) fn put(&self, slot: Seq, bytes: &[u8]) -> Result<()> {
        if self.read_anew(slot)?.is_none() {
            let staged = self.log.staged("helped.c");
            os::remove(&staged)?;
            let file = File::create_new(&staged)?;
            let linked = file
                .write_all_at(bytes, 0)
                .and_then(|()| file.sync())
                .and_then(|()| self.link_file(&staged, slot));
            os::remove(&staged)?;
            linked?;
        }
        self.sync(slot)
    }

    fn link_file(&self, file: &Path, slot: Seq) -> Result<Link> {
        match os::link(file, &self.path(slot))? {
            Link::Gone => {
                // The first slot of a folder makes it.
                os::ensure_folder(&self.folder_of(slot))?;
                os::sync_folder(&self.slots)?;
                os::link(file, &self.path(slot))
            }
            linked => Ok(linked),
        }
    }

    /// Makes the names of all slots durable.
    pub(crate) fn sync_all(&self) -> Result<()> {
        for name in os::list_folders(&self.slots)? {
            os::sync_folder(&self.slots.join(name))?;
        }
        os::sync_folder(&self.slots)
    }

    /// Moves the boundary to a checkpoint that was in force.
    pub(crate) fn move_boundary(&self, manifest: ManifestRef) -> Result<()> {
        let reach = self.reach()?;
        if reach.log == LogKind::Slots && reach.seq < manifest.checkpoint {
            let reach = Reach { seq: manifest.checkpoint, ..reach };
            self.set_boundary(&Boundary { reach, manifest })?;
        }
        Ok(())
    }

    /// The boundary as it is now.
    pub(crate) fn boundary(&self) -> Result<Boundary> {
        read_boundary(&self.log.path)?.ok_or_else(|| Error::missing(&boundary_folder(&self.log.path)))
    }

    fn reach(&self) -> Result<Reach> {
        newest_reach(&self.log.path)?.ok_or_else(|| Error::missing(&boundary_folder(&self.log.path)))
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
        for name in os::list_folders(&self.slots)? {
            let Ok(number) = name.parse::<u64>() else { continue };
            if number > upto.0 / SLOTS_PER_FOLDER {
                continue;
            }
            let folder = self.slots.join(&name);
            for (file, _) in os::list(&folder)? {
                if slot_of_file_name(&file).is_some_and(|slot| slot <= upto) {
                    os::remove(&folder.join(file))?;
                }
            }
            if number < upto.0 / SLOTS_PER_FOLDER {
                os::remove_empty_folder(&folder);
                os::remove(&self.told_path(number))?;
            }
        }
        Ok(())
    }

    /// How long ago a slot got its name, by the clock of whoever keeps the files; None when it is gone.
    pub(crate) fn age(&self, slot: Seq) -> Result<Option<Duration>> {
        let Some(then) = os::changed_at(&self.path(slot))? else { return Ok(None) };
        let now = os::file_clock(&self.log.staged("age"))?;
        Ok(Some(now.saturating_sub(then)))
    }

    /// The newest slot there is. Looks at one folder's files: there may be very many.
    pub(crate) fn last(&self) -> Result<Option<Seq>> {
        for name in os::list_folders(&self.slots)?.iter().rev() {
            let files = os::names(&self.slots.join(name))?;
            let last = files.iter().filter_map(|file| slot_of_file_name(file)).max();
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// The last slot before the first gap; where there is none, the boundary.
    pub(crate) fn end(&self) -> Result<Seq> {
        let mut end = self.trimmed()?;
        for (slot, _) in self.list()? {
            if slot.0 == end.0 + 1 {
                end = slot;
            }
        }
        Ok(end)
    }

    /// The slots there are, rising.
    pub(crate) fn list(&self) -> Result<Vec<(Seq, u64)>> {
        let mut slots = Vec::new();
        for name in os::list_folders(&self.slots)? {
            let files = os::list(&self.slots.join(name))?;
            slots.extend(files.iter().filter_map(|(file, len)| Some((slot_of_file_name(file)?, *len))));
        }
        slots.sort_unstable();
        Ok(slots)
    }
}

fn slot_of_file_name(name: &str) -> Option<Seq> {
    name.strip_suffix(".c")?.parse().ok().map(Seq)
}

fn boundary_folder(log: &Path) -> PathBuf {
    log.join("boundary")
}

/// The boundaries, and claims on them. The folder is asked anew.
fn boundary_names(log: &Path) -> Result<Vec<String>> {
    let names = os::names(&boundary_folder(log))?;
    if names.is_empty() {
        // That there is no such folder may be what this machine remembers.
        os::look_anew(log)?;
        return os::names(&boundary_folder(log));
    }
    Ok(names)
}

/// How far the boundary reaches; None when there never was one: a log of files.
pub(crate) fn newest_reach(log: &Path) -> Result<Option<Reach>> {
    let names = boundary_names(log)?;
    Ok(names.iter().filter_map(|name| Reach::from_file_name(name)).max())
}

/// The boundary of a log; None when it never had one: a log of files.
pub(crate) fn read_boundary(log: &Path) -> Result<Option<Boundary>> {
    for _ in 0..READ_ATTEMPTS {
        let Some(reach) = newest_reach(log)? else { return Ok(None) };
        let path = boundary_folder(log).join(reach.file_name());
        // Gone: there are newer ones.
        let Some(bytes) = os::read_file(&path)? else { continue };
        let boundary = Boundary::decode(&bytes).filter(|boundary| boundary.reach == reach);
        return boundary.map(Some).ok_or_else(|| Error::corrupt(&path, 0, "the boundary of the log"));
    }
    Err(Error::missing(&boundary_folder(log)))
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
        self.link_file(&self.staged(id), slot)
    }

    fn unstage(&self, id: SlotId) {
        let _ = os::remove(&self.staged(id));
    }

    fn read(&self, slot: Seq) -> Result<Option<Vec<u8>>> {
        os::read_file(&self.path(slot))
    }

    fn read_anew(&self, slot: Seq) -> Result<Option<Vec<u8>>> {
        if !os::look_anew(&self.folder_of(slot))? {
            // That there is no such folder may be as old.
            os::look_anew(&self.slots)?;
        }
        self.read(slot)
    }

    fn sync(&self, slot: Seq) -> Result<()> {
        if slot.0.is_multiple_of(SLOTS_PER_FOLDER) {
            // What follows is not to be found where what it follows is lost: its writer may not have come to this yet.
            os::sync_folder(&self.folder_of(Seq(slot.0.saturating_sub(1))))
                .or_else(|_| self.reach().map(drop))?;
        }
        os::sync_folder(&self.folder_of(slot))
    }

    fn trimmed(&self) -> Result<Seq> {
        Ok(self.reach()?.seq)
    }

    fn now(&self) -> Duration {
        os::uptime()
    }

    fn id_of(&self, bytes: &[u8]) -> Option<SlotId> {
        Slot::open(bytes).map(|(header, _)| header.id)
    }
}
