//! The database folder: its layout, making it, opening it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::bytes::{Put, Reader, is_intact};
use crate::coded::{Access, Sets};
use crate::copies::{self, pins::Pins};
use crate::log::tail::TailFile;
use crate::log::wal::{self, Wal, WalHeader};
use crate::log::{LogEnd, LogFolder};
use crate::manifest::Manifest;
use crate::os::{self, File};
use crate::pin::{self, Pin, Sharing};
use crate::replica::{ReadLimit, Replica, ReplicaFolders};
use crate::segment::{SegmentId, Segments};
use crate::shared::boundary::LogKind;
use crate::shared::folder::{SlotFolder, newest_reach, read_boundary};
use crate::shared::{SharedLog, driver, switch};
use crate::wait::acquire;
use crate::{Error, ErrorKind, Options, Result, Seq};

const MAGIC: &[u8; 8] = b"SOPDB\x1a\r\n";
/// Version of everything in the folder. A library reads the versions it knows and refuses others.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// magic 8, version 4, UUID 16, CRC 4.
pub(crate) const FORMAT_LEN: usize = 32;
/// In the place of FORMAT while a backup is being written.
const UNFINISHED: &[u8; FORMAT_LEN] = b"SOP backup, not finished yet    ";

/// A folder in which files vanish while it is opened is opened so often.
const OPEN_ATTEMPTS: usize = 3;

/// The file FORMAT, read.
pub(crate) struct Format {
    pub(crate) file: File,
    pub(crate) uuid: Uuid,
}

/// What [`open`] found.
pub(crate) struct Opened {
    pub(crate) folders: ReplicaFolders,
    pub(crate) format: Format,
    pub(crate) tail: Option<TailFile>,
    pub(crate) log_lock: Option<File>,
    pub(crate) sync_lock: Option<File>,
    pub(crate) shared: Option<SharedLog>,
    pub(crate) pin: Option<Pins>,
    pub(crate) sharing: Sharing,
    pub(crate) segments: Arc<Segments>,
    pub(crate) replica: Replica,
}

pub(crate) fn format_path(folder: &Path) -> PathBuf {
    folder.join("FORMAT")
}

pub(crate) fn manifest_folder(folder: &Path) -> PathBuf {
    folder.join("man")
}

pub(crate) fn segment_folder(folder: &Path) -> PathBuf {
    folder.join("seg")
}

pub(crate) fn pin_folder(folder: &Path) -> PathBuf {
    folder.join("pin")
}

pub(crate) fn set_folder(folder: &Path) -> PathBuf {
    folder.join("set")
}

pub(crate) fn staging_folder(folder: &Path) -> PathBuf {
    folder.join("tmp")
}

/// Held by the process that is making a checkpoint; in the folder of the log.
pub(crate) const CHECKPOINT_LOCK: &str = "CHECKPOINT";

/// Opens the files of a folder, making the database when there is none.
pub(crate) fn open(folder: &Path, options: &Options, sharing: Sharing) -> Result<Opened> {
    if options.read_only {
        return open_for_reading(folder, options);
    }
    if options.has_copies() {
        return copies::open::open(folder, options, sharing);
    }
    let has_stayed = Cell::new(false);
    for attempt in 1..=OPEN_ATTEMPTS {
        let switches = || Ok(newest_reach(&folder.join("log"))?.map(|reach| reach.switches));
        let before = switches()?;
        match open_once(folder, options, sharing, &has_stayed) {
            // Others took this process for dead while it opened the folder.
            Err(error)
                if sharing == Sharing::Machines && error.is_missing_file() && attempt < OPEN_ATTEMPTS => {}
            // Others opened it in the other way: what is missing, or wrong, is of a log that is no more.
            Err(_) if switches()? != before => {}
            opened => return opened,
        }
    }
    Err(switch::changing(folder))
}

/// Opens the files of a database that is there, and writes nothing.
fn open_for_reading(folder: &Path, options: &Options) -> Result<Opened> {
    let open = || {
        if options.has_copies() {
            return copies::open::open_for_reading(folder, options);
        }
        let folders = replica_folders(folder, crate::random_u64());
        open_read_only(folder, &folders, options, no_database(folder))
    };
    for _ in 1..OPEN_ATTEMPTS {
        match open() {
            // A checkpoint of others came between, or they opened it in the other way.
            Err(error) if error.is_missing_file() => {}
            opened => return opened,
        }
    }
    open()
}

/// What is told of a folder in which only a database that is there was to be opened.
pub(crate) fn no_database(folder: &Path) -> Error {
    Error::new(ErrorKind::Invalid, format!("there is no database in {}", folder.display()))
}

/// Why nothing is written through a handle that is for reading.
pub(crate) fn opened_for_reading(folder: &Path) -> Error {
    let what = format!("{} was opened with read_only: open it without to write", folder.display());
    Error::new(ErrorKind::ReadOnlyFolder, what)
}

/// Where things are in a database that is one folder.
pub(crate) fn replica_folders(folder: &Path, owner: u64) -> ReplicaFolders {
    let log = LogFolder { path: folder.join("log"), staging: staging_folder(folder), owner };
    ReplicaFolders::single(log, manifest_folder(folder))
}

/// `has_stayed`: see [`switch::to`].
fn open_once(folder: &Path, options: &Options, sharing: Sharing, has_stayed: &Cell<bool>) -> Result<Opened> {
    let folders = replica_folders(folder, crate::random_u64());
    match open_writable(folder, &folders, options, sharing, has_stayed) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFolder => {
            open_read_only(folder, &folders, options, error)
        }
        opened => opened,
    }
}

fn open_writable(
    folder: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    sharing: Sharing,
    has_stayed: &Cell<bool>,
) -> Result<Opened> {
    copies::open::check_alone(folder)?;
    let log = &folders.log;
    let format = create_or_find(folder, folders, options, sharing)?;
    let pin = Pin::create(&pin_folder(folder), &log.staging, log.owner, sharing)?;
    let clock = match sharing {
        Sharing::Processes => None,
        Sharing::Machines => Some(os::file_clock(&log.staged("clock"))?),
    };
    let pins = pin::survey_to_open(&pin_folder(folder), log.owner, clock)?;
    pins.check_others(log.owner, sharing)?;
    let wanted = match sharing {
        Sharing::Processes => LogKind::Files,
        Sharing::Machines => LogKind::Slots,
    };
    let switches = switch::to(folder, folders, options, wanted, sharing, &format, &pins, has_stayed)?;
    // Copies may have been made meanwhile.
    copies::open::check_alone(folder)?;
    let pin = Pins::from(pin);
    match sharing {
        Sharing::Processes => {
            let opened = over_files(folder, folders, options, format, pin)?;
            // What was found is of the log that there is: no switch has come between.
            if switch::current(folders)?.switches == switches {
                Ok(opened)
            } else {
                Err(switch::changing(folder))
            }
        }
        Sharing::Machines => {
            let slots = SlotFolder::new(log.clone(), format.uuid);
            slots.check_links()?;
            over_slots(folder, folders, options, format, slots, Some(pin))
        }
    }
}

/// The database of a folder, made when there is none.
pub(crate) fn create_or_find(
    folder: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    sharing: Sharing,
) -> Result<Format> {
    let log = &folders.log;
    for path in [&log.path, &folders.manifests, &segment_folder(folder), &pin_folder(folder), &log.staging] {
        os::create_folder(path)?;
    }
    let format_path = format_path(folder);
    if File::open(&format_path)?.is_none() {
        let log_lock = File::open_or_create_to_lock(&log.path.join("LOCK"))?;
        acquire(&log_lock, options.lock_timeout, || Ok(()))?;
        // Somebody may have made this database meanwhile, on another machine.
        os::look_anew(folder)?;
        os::look_anew(&log.path)?;
        if File::open(&format_path)?.is_none() {
            create(folder, folders, sharing)?;
        }
        log_lock.unlock()?;
    }
    read_format(&format_path)
}

/// The segments of the folder, and the drives over which some are spread.
pub(crate) fn open_segments(
    folder: &Path,
    log: &LogFolder,
    options: &Options,
    format: &Format,
    access: Access,
) -> Result<Segments> {
    let sets = Sets::open(&[folder.to_owned()], log, format.uuid, &options.coding, access)?;
    let segments = Segments::new(segment_folder(folder), log.owner).with_sets(sets);
    Ok(if access == Access::Read { segments.without_pin() } else { segments })
}

/// The state in the slots of a shared log.
pub(crate) fn over_slots(
    folder: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    format: Format,
    slots: SlotFolder,
    pin: Option<Pins>,
) -> Result<Opened> {
    let log = &folders.log;
    let access = if pin.is_some() { Access::Write } else { Access::Read };
    let segments = open_segments(folder, log, options, &format, access)?;
    let shared = SharedLog::single(slots, log.owner);
    let mut replica = driver::read_state(&shared, folders, options.memtable_bytes)?;
    // Nothing is appended behind a fence around everybody before this is decided; others may have put one there since.
    while access == Access::Write && driver::go_on(&shared, &replica)? {
        replica = driver::read_state(&shared, folders, options.memtable_bytes)?;
    }
    Ok(Opened {
        folders: folders.clone(),
        format,
        tail: None,
        log_lock: None,
        sync_lock: None,
        shared: Some(shared),
        pin,
        sharing: Sharing::Machines,
        segments: Arc::new(segments),
        replica,
    })
}

/// The state in the files of a log that one machine appends to.
pub(crate) fn over_files(
    folder: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    format: Format,
    pin: Pins,
) -> Result<Opened> {
    let log = &folders.log;
    let log_lock = File::open_or_create_to_lock(&log.path.join("LOCK"))?;
    let tail = TailFile::open_or_create(&log.path.join("TAIL"))?;
    // What may not be durable is read by the take-over that follows.
    let durable = tail.read()?.unwrap_or_default().durable.mark.end;
    let limit = ReadLimit::Announced { end: durable, durable };
    let replica = Replica::open(folders.clone(), limit, options.memtable_bytes)?;
    let segments = open_segments(folder, log, options, &format, Access::Write)?;
    Ok(Opened {
        folders: folders.clone(),
        format,
        tail: Some(tail),
        log_lock: Some(log_lock),
        sync_lock: Some(File::open_or_create_to_lock(&log.path.join("SYNC"))?),
        shared: None,
        pin: Some(pin),
        sharing: Sharing::Processes,
        segments: Arc::new(segments),
        replica,
    })
}

/// `refused` is why the folder could not be opened for writing.
fn open_read_only(
    folder: &Path,
    folders: &ReplicaFolders,
    options: &Options,
    refused: Error,
) -> Result<Opened> {
    if File::open(&format_path(folder))?.is_none() {
        return Err(refused);
    }
    copies::open::check_alone(folder)?;
    let format = read_format(&format_path(folder))?;
    let is_shared =
        read_boundary(&folders.log.path)?.is_some_and(|boundary| boundary.reach.log == LogKind::Slots);
    if is_shared {
        // What it reads is as it finds it; how the others have opened it makes no difference.
        let slots = SlotFolder::new(folders.log.clone(), format.uuid);
        return over_slots(folder, folders, options, format, slots, None);
    }
    let tail = TailFile::open(&folders.log.path.join("TAIL"))?;
    let (limit, _nobody_writes) = read_limit(&folders.log, tail.as_ref())?;
    let mut replica = Replica::open(folders.clone(), limit, options.memtable_bytes)?;
    // Writers that live may wait for a sync: nobody sees their frames before. After a power cut the announcement does not name the end of the
    // log, and what is there is all there is.
    if let Some(announced) = tail.as_ref().map(TailFile::read).transpose()?.flatten()
        && announced.appended.written == replica.position.mark()
    {
        replica.visible = announced.visible();
    }
    let segments = open_segments(folder, &folders.log, options, &format, Access::Read)?;
    Ok(Opened {
        folders: folders.clone(),
        format,
        tail,
        log_lock: None,
        sync_lock: None,
        shared: None,
        pin: None,
        sharing: Sharing::Processes,
        segments: Arc::new(segments),
        replica,
    })
}

/// How far a process that writes nothing may read. A power cut may have set the announcement back; while somebody writes, it is
/// kept up to date. When nobody does, the log's lock is given, to be held while reading: nobody will.
pub(crate) fn read_limit(log: &LogFolder, tail: Option<&TailFile>) -> Result<(ReadLimit, Option<File>)> {
    let lock = File::open_to_lock(&log.path.join("LOCK"))?;
    let somebody_writes = match &lock {
        Some(lock) => !lock.try_lock()?,
        None => false,
    };
    // Read after the look at the lock: what was written until then was announced.
    let announced = tail.map(TailFile::read).transpose()?.flatten().unwrap_or_default();
    let durable = announced.durable.mark.end;
    let limit = if somebody_writes && durable != LogEnd::default() {
        ReadLimit::Announced { end: announced.visible().end, durable }
    } else {
        ReadLimit::Everything { durable }
    };
    Ok((limit, lock.filter(|_| !somebody_writes)))
}

/// Makes an empty database. FORMAT comes last: before it there is none.
fn create(folder: &Path, folders: &ReplicaFolders, sharing: Sharing) -> Result<()> {
    let log = &folders.log;
    if has_commits(folders)? {
        return Err(Error::missing(&format_path(folder)));
    }
    let manifest = Manifest::empty(SegmentId { owner: log.owner, number: 0 });
    manifest.store(&folders.manifests, &log.staging)?;
    let header =
        WalHeader { id: crate::random_u64(), first_seq: Seq(1), previous: None, manifest: manifest.name };
    // It takes the place of one left by a process that died here. (None is removed before: another machine may have been given the lock,
    // and be done.)
    Wal::create(&log.path, &log.staged("wal"), &header)?;
    match sharing {
        Sharing::Processes => write_format(folder, log, os::random_uuid())?,
        Sharing::Machines => claim_format(folder, log, os::random_uuid())?,
    }
    match folder.parent() {
        Some(parent) => os::sync_folder(parent),
        None => Ok(()),
    }
}

/// The bytes of the file FORMAT.
pub(crate) fn encode_format(database: Uuid) -> Vec<u8> {
    let mut out = Vec::with_capacity(FORMAT_LEN);
    out.extend_from_slice(MAGIC);
    out.put_u32(FORMAT_VERSION);
    out.extend_from_slice(database.as_bytes());
    out.put_u32(crc32fast::hash(&out));
    out
}

/// Makes the folder a database: what it consists of is there and durable.
pub(crate) fn write_format(folder: &Path, log: &LogFolder, uuid: Uuid) -> Result<()> {
    os::write_durably(folder, "FORMAT", &log.staged("format"), &encode_format(uuid))
}

/// As [`write_format`], unless the folder is a database: the lock that is held may have been given to another machine. Whose it is then is
/// told by what is read.
fn claim_format(folder: &Path, log: &LogFolder, uuid: Uuid) -> Result<()> {
    os::write_once_durably(folder, "FORMAT", &log.staged("format"), &encode_format(uuid)).map(drop)
}

/// Makes the folder one that no library opens, until [`write_format`]. Fails when it has a FORMAT.
pub(crate) fn write_unfinished(folder: &Path) -> Result<()> {
    let format = File::create_new(&format_path(folder))?;
    format.write_all_at(UNFINISHED, 0)?;
    format.sync()?;
    os::sync_folder(folder)
}

/// True when the log holds anything: then FORMAT had been there.
fn has_commits(folders: &ReplicaFolders) -> Result<bool> {
    match wal::list(&folders.log.path)?.as_slice() {
        [] => Ok(false),
        [Seq(1)] => match Wal::open(&folders.log.path, Seq(1))? {
            Some(wal) => Ok(wal.proof_after(0, Seq(0))?.is_some()),
            None => Ok(false),
        },
        // There were commits before this one, and a checkpoint holds them.
        _ => Ok(true),
    }
}

pub(crate) fn read_format(path: &Path) -> Result<Format> {
    let file = File::open(path)?.ok_or_else(|| Error::missing(path))?;
    let mut bytes = [0; FORMAT_LEN];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Format { file, uuid: check_format(path, &bytes)? })
}

/// The database's UUID; fails unless the bytes of the file FORMAT are those of a database that this library reads.
pub(crate) fn check_format(path: &Path, bytes: &[u8; FORMAT_LEN]) -> Result<Uuid> {
    if bytes == UNFINISHED {
        return Err(Error::corrupt(path, 0, "this is a backup that was not finished: make it again"));
    }
    let mut reader = Reader::new(bytes);
    if reader.take(8) != Some(MAGIC) {
        return Err(Error::corrupt(path, 0, "this is not a SOP database"));
    }
    let version = reader.u32().unwrap_or_default();
    let uuid = reader.take(16).and_then(|uuid| Uuid::from_slice(uuid).ok()).unwrap_or_default();
    // Before the version is believed: a damaged one is no newer one.
    if !reader.u32().is_some_and(|crc| is_intact(bytes.get(..28).unwrap_or_default(), crc)) {
        return Err(Error::corrupt(path, 0, "checksum of the format file"));
    }
    if version != FORMAT_VERSION {
        let what = format!(
            "{} has format version {version}, this library reads version {FORMAT_VERSION}: use a newer library",
            path.display()
        );
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    Ok(uuid)
}
