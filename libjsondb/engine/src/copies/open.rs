//! Finding the copies of a database among the folders that were given, and making them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::change::Wanted;
use super::epoch::{self, COPIES_MAX, CopySet, Epoch};
use super::gather::Log;
use super::label::{self, Label};
use super::pins::{self, Pins};
use super::view::View;
use super::{Copies, CopyFolder, CopyRole, is_failure};
use crate::coded::{Access, Sets};
use crate::folder::{self, Opened};
use crate::os::{self, File};
use crate::pin::{self, Pin, Sharing};
use crate::replica::ReplicaFolders;
use crate::segment::Segments;
use crate::shared::boundary::LogKind;
use crate::shared::folder::SlotFolder;
use crate::shared::{SharedLog, driver, switch};
use crate::wait::acquire;
use crate::{Error, ErrorKind, Options, Result, Seq};

/// Opens a database over the copies in these folders, of which the first is `folder`; makes them where there are none yet.
pub(crate) fn open(folder: &Path, options: &Options, sharing: Sharing) -> Result<Opened> {
    let given: Vec<PathBuf> = std::iter::once(folder)
        .chain(options.mirrors.iter().map(PathBuf::as_path))
        .map(os::canonical_or_absolute)
        .collect();
    if given.len() > COPIES_MAX {
        return Err(Error::new(ErrorKind::Invalid, format!("more than {COPIES_MAX} folders")));
    }
    let owner = crate::random_u64();
    let copies = match find(&given, owner)? {
        Some(copies) => copies,
        None => {
            make(&given, options, sharing)?;
            find(&given, owner)?.ok_or_else(|| Error::missing(&given[0].join(label::NAME)))?
        }
    };
    let copies = Arc::new(copies);
    match copies.change(Wanted::default()).and_then(|()| over_copies(&copies, options, sharing)) {
        Err(error) if matches!(error.kind(), ErrorKind::DrivesLost | ErrorKind::ReadOnlyFolder) => {
            read_only(&copies, options, error)
        }
        opened => opened,
    }
}

/// Fails where a folder that is opened as it is is one of several copies.
pub(crate) fn check_alone(folder: &Path) -> Result<()> {
    let Some(label) = Label::read(folder)? else { return Ok(()) };
    let what = format!(
        "{} is one of {} copies of a database: give the other folders as well (stores_folders)",
        folder.display(),
        label.roles.len()
    );
    Err(Error::new(ErrorKind::Invalid, what))
}

/// The copies in these folders, each by its label, not by its place; folders without one are those that are missing. None: no folder has one.
fn find(given: &[PathBuf], owner: u64) -> Result<Option<Copies>> {
    let mut labels = Vec::new();
    for path in given {
        match Label::read(path) {
            Err(error) if !is_failure(&error) => return Err(error),
            read => labels.push(read.ok().flatten()),
        }
    }
    let Some(known) = labels.iter().flatten().next().cloned() else { return Ok(None) };
    if known.roles.len() != given.len() {
        let what = format!(
            "the database has {} folders with metadata, and {} were given: give all of them, in any order",
            known.roles.len(),
            given.len()
        );
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    let mut paths: Vec<Option<PathBuf>> = vec![None; given.len()];
    for (path, label) in given.iter().zip(&labels) {
        let Some(label) = label else { continue };
        if label.database != known.database || label.roles != known.roles {
            let what = format!(
                "{} belongs to the database {}, the other folders to {}: give the folders of one",
                path.display(),
                label.database,
                known.database
            );
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        if let Some(other) = paths[label.index].replace(path.clone()) {
            let what = format!("{} and {} are the same copy", other.display(), path.display());
            return Err(Error::new(ErrorKind::Invalid, what));
        }
    }
    let mut rest =
        given.iter().zip(&labels).filter(|(_, label)| label.is_none()).map(|(path, _)| path.clone());
    let mut all = Vec::new();
    for (index, (path, role)) in paths.into_iter().zip(&known.roles).enumerate() {
        let is_new = path.is_none();
        let Some(path) = path.or_else(|| rest.next()) else { continue };
        let copy = CopyFolder::new(index, *role, path, owner);
        if is_new {
            // Of one that died while it made them; what cannot be read now is not there.
            let _ = finish_label(&copy, &Label { index, ..known.clone() });
        }
        all.push(copy);
    }
    Ok(Some(Copies::new(known.database, all, View::empty())))
}

/// The label comes last when copies are made.
fn finish_label(copy: &CopyFolder, label: &Label) -> Result<()> {
    let is_ready = epoch::newest(&copy.log.path)? == Some(1)
        && folder::read_format(&folder::format_path(&copy.path))?.uuid == label.database;
    if is_ready { write_label(copy, label) } else { Ok(()) }
}

pub(super) fn write_label(copy: &CopyFolder, label: &Label) -> Result<()> {
    let staged = copy.log.staged("label");
    os::remove(&staged)?;
    os::write_durably(&copy.path, label::NAME, &staged, &label.encode())
}

/// The folders of a copy.
pub(super) fn create_folders(copy: &CopyFolder) -> Result<()> {
    for path in [&copy.log.path, &copy.manifests(), &copy.segments(), &copy.pins(), &copy.log.staging] {
        os::create_folder(path)?;
    }
    Ok(())
}

fn over_copies(copies: &Arc<Copies>, options: &Options, sharing: Sharing) -> Result<Opened> {
    copies.on_members(create_folders)?;
    let pins = Pins::create(copies, sharing)?;
    let owner = copies.first().log.owner;
    let clock = match sharing {
        Sharing::Processes => None,
        Sharing::Machines => Some(os::file_clock(&copies.first().log.staged("clock"))?),
    };
    pins::survey(copies, owner, clock)?.check_others(owner, sharing)?;
    settle_ends(copies)?;
    let shared = SharedLog::new(copies.view(), Some(Arc::clone(copies)), owner);
    let first = copies.first();
    let folders = ReplicaFolders {
        log: first.log.clone(),
        manifests: first.manifests(),
        copies: Some(Arc::clone(copies)),
    };
    let replica = driver::read_state(&shared, &folders, options.memtable_bytes)?;
    let format = copies.find(|copy| match folder::read_format(&folder::format_path(&copy.path)) {
        Err(error) if error.is_missing_file() => Ok(None),
        read => read.map(Some),
    })?;
    let format = format.ok_or_else(|| Error::missing(&folder::format_path(&first.path)))?;
    let paths: Vec<PathBuf> = copies.members().map(|copy| copy.path.clone()).collect();
    let sets = Sets::open(&paths, &first.log, copies.database, &options.coding, Access::Write)?;
    let segments = Segments::new(first.segments(), owner).with_sets(sets).with_copies(Arc::clone(copies));
    Ok(Opened {
        format,
        folders,
        tail: None,
        log_lock: None,
        sync_lock: None,
        shared: Some(shared),
        pin: Some(pins),
        segments: Arc::new(segments),
        replica,
        sharing,
    })
}

/// What the last copy has, all have; but a power cut may have taken a name from one before it, and left it there. Then a new epoch begins, with the longest log.
fn settle_ends(copies: &Copies) -> Result<()> {
    let view = copies.view();
    let Some(last) = view.reader().last()? else { return Ok(()) };
    for member in view.members() {
        if member.slots.last().is_ok_and(|other| other < Some(last)) {
            return copies.change(Wanted { after: view.number(), ..Wanted::default() });
        }
    }
    Ok(())
}

/// What the longest log that can be read holds. `refused` is why no more can be had.
fn read_only(copies: &Arc<Copies>, options: &Options, refused: Error) -> Result<Opened> {
    let mut best = None;
    for (copy, found) in copies.all.iter().zip(copies.survey()) {
        let Some(active) = found.and_then(|found| found.active) else { continue };
        let slots = SlotFolder::of_epoch(copy.log.clone(), copies.database, active.number);
        let Ok(last) = slots.last() else { continue };
        if best.as_ref().is_none_or(|(rank, _, _)| *rank < (active.number, last)) {
            best = Some(((active.number, last), copy, slots));
        }
    }
    let Some((_, copy, slots)) = best else { return Err(refused) };
    let folders = ReplicaFolders::single(copy.log.clone(), copy.manifests());
    let format = folder::read_format(&folder::format_path(&copy.path))?;
    let opened = folder::over_slots(&copy.path, &folders, options, format, slots, None)?;
    let folders = ReplicaFolders { copies: Some(Arc::clone(copies)), ..folders };
    Ok(Opened { folders, sharing: Sharing::Processes, ..opened })
}

/// Makes copies of a database that has none; makes the database, where there is none.
fn make(given: &[PathBuf], options: &Options, sharing: Sharing) -> Result<()> {
    let (home, mirrors) = given.split_first().ok_or_else(|| Error::new(ErrorKind::Invalid, "no folder"))?;
    let owner = crate::random_u64();
    let folders = folder::replica_folders(home, owner);
    folder::create_or_find(home, &folders, options, sharing)?;
    let format = folder::read_format(&folder::format_path(home))?;
    // Without a pin as long as others may be making them.
    let making = File::open_or_create_to_lock(&folders.log.path.join("COPIES"))?;
    acquire(&making, options.lock_timeout, || Ok(()))?;
    if Label::read(home)?.is_some() {
        return Ok(());
    }
    let _pin = Pin::create(&folder::pin_folder(home), &folders.log.staging, owner, sharing)?;
    let clock = match sharing {
        Sharing::Processes => None,
        Sharing::Machines => Some(os::file_clock(&folders.log.staged("clock"))?),
    };
    let pins = pin::survey_to_open(&folder::pin_folder(home), owner, clock)?;
    pins.check_nobody(owner)?;
    switch::to(home, &folders, options, LogKind::Slots, sharing, &format, &pins)?;
    let all: Vec<CopyFolder> = std::iter::once(home)
        .chain(mirrors)
        .enumerate()
        .map(|(index, path)| CopyFolder::new(index, CopyRole::Folder(index), path.clone(), owner))
        .collect();
    write_copies(&all, format.uuid)
}

fn write_copies(all: &[CopyFolder], database: Uuid) -> Result<()> {
    let Some((home, mirrors)) = all.split_first() else { return Ok(()) };
    let slots = SlotFolder::new(home.log.clone(), database);
    for mirror in mirrors {
        check_free(&mirror.path, database)?;
        create_folders(mirror)?;
        super::reinstate::copy_files(home, mirror, &mut |_| Ok(()))?;
    }
    let epoch = Epoch {
        number: 1,
        id: os::random_uuid(),
        members: CopySet::all(all.len()),
        lost: CopySet::default(),
    };
    let log = Log::read(&slots, slots.end()?)?;
    for copy in all {
        epoch::forget(&copy.log.path)?;
        if !epoch::seal(&copy.log, &epoch)? {
            return Err(Error::new(
                ErrorKind::Locked,
                "another process makes copies of the database: try again",
            ));
        }
        log.gather(copy, &SlotFolder::new(copy.log.clone(), database), &epoch)?;
        Log::name(copy, &epoch)?;
    }
    let roles: Vec<CopyRole> = all.iter().map(|copy| copy.role).collect();
    for copy in all {
        let label = Label { database, index: copy.index, roles: roles.clone() };
        write_label(copy, &label)?;
    }
    slots.remove(Seq(u64::MAX))
}

/// Fails when a folder holds a database that is not this one.
pub(super) fn check_free(path: &Path, database: Uuid) -> Result<()> {
    let format = folder::format_path(path);
    if !os::exists(&format)? {
        return Ok(());
    }
    let other = folder::read_format(&format)?.uuid;
    if other != database {
        let what = format!("{} holds the database {other}: give a folder that is empty", path.display());
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    Ok(())
}
