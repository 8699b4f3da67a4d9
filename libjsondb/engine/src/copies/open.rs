//! Finding the copies of a database among the folders that were given, and making them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::change::{Wanted, because};
use super::epoch::{self, CopySet, Epoch};
use super::gather::Log;
use super::label::{self, Label};
use super::pins::{self, Pins};
use super::places::{Place, Places};
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

/// Copies that are lost while they are opened are looked at so often.
const ATTEMPTS: usize = 3;

/// Opens a database over the copies in these folders, of which the first is `folder`; makes them where there are none yet.
pub(crate) fn open(folder: &Path, options: &Options, sharing: Sharing) -> Result<Opened> {
    for attempt in 1..ATTEMPTS {
        match open_once(folder, options, sharing, attempt) {
            // Lost while it was opened: the others are looked at once more.
            Err(error) if error.is_missing_file() => {}
            opened => return opened,
        }
    }
    open_once(folder, options, sharing, ATTEMPTS)
}

/// As [`open`], of copies that are there, and writes nothing.
pub(crate) fn open_for_reading(folder: &Path, options: &Options) -> Result<Opened> {
    let places = Places::new(folder, options)?;
    // Others may be on several machines, and what tells those of one would be written.
    let found = find(&places, Sharing::Machines, crate::random_u64(), Access::Read)?;
    let copies = Arc::new(found.ok_or_else(|| folder::no_database(folder))?);
    match copies.change(Wanted::default()) {
        Ok(()) => over_view(&copies, options, Sharing::Processes, None),
        Err(refused) => read_only(&copies, options, refused),
    }
}

fn open_once(folder: &Path, options: &Options, sharing: Sharing, attempt: usize) -> Result<Opened> {
    let places = Places::new(folder, options)?;
    let owner = crate::random_u64();
    let copies = match find_or_make(folder, &places, options, sharing, owner) {
        Err(error) if error.is_missing_file() && attempt == ATTEMPTS => {
            let what = format!("the folders of the database vanish while they are opened: {error}");
            return Err(Error::new(ErrorKind::DrivesLost, what));
        }
        found => Arc::new(found?),
    };
    let opened = copies.change(Wanted::default()).and_then(|()| over_copies(&copies, options, sharing));
    let tell = |error| if attempt < ATTEMPTS { error } else { copies.explain(error) };
    match opened.map_err(tell) {
        Err(error) if error.kind() == ErrorKind::DrivesLost && !copies.has_a_folder() => {
            Err(copies.whose_drives(error))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DrivesLost | ErrorKind::ReadOnlyFolder) => {
            read_only(&copies, options, error)
        }
        opened => opened,
    }
}

fn find_or_make(
    folder: &Path,
    places: &Places,
    options: &Options,
    sharing: Sharing,
    owner: u64,
) -> Result<Copies> {
    if let Some(copies) = find(places, sharing, owner, Access::Write)? {
        return Ok(copies);
    }
    make(&places.to_make(), options, sharing)?;
    find(places, sharing, owner, Access::Write)?.ok_or_else(|| Error::missing(&folder.join(label::NAME)))
}

impl Copies {
    /// True when one of the folders that are for copies alone is one.
    fn has_a_folder(&self) -> bool {
        let is_folder = |copy: &&CopyFolder| matches!(copy.role, CopyRole::Folder(_));
        self.all.iter().filter(is_folder).any(|copy| self.is_labelled(copy))
    }

    /// Why too few drives, and no folder, are there: perhaps they are not those of the database that was meant.
    fn whose_drives(&self, error: Error) -> Error {
        let what = format!(
            "{error}. (For a new database give other drives: these hold another database, {})",
            self.database
        );
        Error::new(ErrorKind::DrivesLost, what)
    }
}

/// Fails where a folder that is opened as it is is one of several copies.
pub(crate) fn check_alone(folder: &Path) -> Result<()> {
    let Some(label) = Label::read(folder)? else { return Ok(()) };
    let on_drives = label.roles.iter().any(|role| matches!(role, CopyRole::Drive { .. }));
    let what = format!(
        "{} is one of {} copies of a database: give the others as well ({})",
        folder.display(),
        label.roles.len(),
        if on_drives { "its erasure coding, with the folders of the drives" } else { "stores_folders" }
    );
    Err(Error::new(ErrorKind::Invalid, what))
}

/// The copies in these places, each by its label, not by where it is; those without one are missing. None: no place has one.
fn find(places: &Places, sharing: Sharing, owner: u64, access: Access) -> Result<Option<Copies>> {
    let (mut labels, mut failed) = (Vec::new(), None);
    for place in places.folders.iter().chain(&places.drives) {
        match Label::read(&place.path) {
            Err(error) if !is_failure(&error) => return Err(error),
            Err(error) => {
                labels.push((place, None));
                failed = Some(error);
            }
            Ok(label) => labels.push((place, label)),
        }
    }
    let Some(known) = labels.iter().find_map(|(_, label)| label.clone()) else {
        // Nothing is made where something may be that cannot be read.
        return failed.map_or(Ok(None), Err);
    };
    for (place, label) in &labels {
        if label.is_none() && matches!(place.role, CopyRole::Folder(_)) {
            match check_free(&place.path, known.database) {
                Err(error) if !is_failure(&error) => return Err(error),
                _ => {}
            }
        }
    }
    let folders = known.roles.iter().filter(|role| matches!(role, CopyRole::Folder(_))).count();
    if folders != places.folders.len() {
        let what = format!(
            "the database has {folders} folders (stores_folders), and {} were given: give all of them, in any order",
            places.folders.len()
        );
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    let mut paths: Vec<Option<PathBuf>> = vec![None; known.roles.len()];
    for (place, label) in &labels {
        let Some(label) = label else { continue };
        if label.database != known.database || label.roles != known.roles {
            let what = format!(
                "{} belongs to the database {}, the other folders to {}: give the folders of one",
                place.path.display(),
                label.database,
                known.database
            );
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        if let Some(other) = paths[label.index].replace(place.path.clone()) {
            let what = format!("{} and {} are the same copy", other.display(), place.path.display());
            return Err(Error::new(ErrorKind::Invalid, what));
        }
    }
    let mut free: Vec<&Place> =
        labels.iter().filter(|(_, label)| label.is_none()).map(|(place, _)| *place).collect();
    let mut all = Vec::new();
    for (index, (path, role)) in paths.into_iter().zip(&known.roles).enumerate() {
        let is_new = path.is_none();
        let path = path.or_else(|| take_free(&mut free, *role)).unwrap_or_else(|| not_given(places, *role));
        let copy = CopyFolder::new(index, *role, path, owner);
        if is_new && access == Access::Write {
            // Of one that died while it made them; what cannot be read now is not there.
            let _ = finish_label(&copy, &Label { index, ..known.clone() });
        }
        all.push(copy);
    }
    Ok(Some(Copies::new(known.database, all, sharing, access)))
}

/// The first of the copies whose log is the newest; None when that is the one in `folder`, or there are none. Changes nothing.
pub(crate) fn newest_folder(folder: &Path, options: &Options) -> Result<Option<PathBuf>> {
    let places = Places::new(folder, options)?;
    let mut newest: Option<(u64, Uuid, usize)> = None;
    for (index, place) in places.folders.iter().chain(&places.drives).enumerate() {
        let Ok(Some(label)) = Label::read(&place.path) else { continue };
        let Some(number) = epoch::active(&place.path.join("log")).unwrap_or_default().pop() else { continue };
        let is_first =
            newest.is_none_or(|(newest, database, _)| number > newest && label.database == database);
        newest = if is_first { Some((number, label.database, index)) } else { newest };
    }
    let elsewhere = newest.filter(|(_, _, index)| *index > 0);
    let place = elsewhere.and_then(|(_, _, index)| places.folders.iter().chain(&places.drives).nth(index));
    Ok(place.map(|place| place.path.clone()))
}

/// A place without a copy, for one that is missing: the same one if there is one, else one of its kind.
fn take_free(free: &mut Vec<&Place>, role: CopyRole) -> Option<PathBuf> {
    let is_like = |place: &&Place| match (place.role, role) {
        (CopyRole::Folder(_), CopyRole::Folder(_)) => true,
        (CopyRole::Drive { set: one, .. }, CopyRole::Drive { set: other, .. }) => one == other,
        _ => false,
    };
    let same = free.iter().position(|place| place.role == role);
    let position = same.or_else(|| free.iter().position(is_like))?;
    Some(free.remove(position).path.clone())
}

/// A path at which no copy is.
fn not_given(places: &Places, role: CopyRole) -> PathBuf {
    let home = places.folders.first().map(|place| place.path.clone()).unwrap_or_default();
    match role {
        CopyRole::Folder(index) => home.join(format!("folder-{index}-was-not-given")),
        CopyRole::Drive { set, index } => home.join("set").join(format!("{set}-drive-{index}-was-not-given")),
    }
}

/// The label comes last when copies are made.
fn finish_label(copy: &CopyFolder, label: &Label) -> Result<()> {
    let is_ready = epoch::newest(&copy.log.path)? == Some(1)
        && folder::read_format(&folder::format_path(&copy.path))?.uuid == label.database;
    if !is_ready {
        return Ok(());
    }
    create_folders(copy)?;
    write_label(copy, label)
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
        Sharing::Machines => Some(copies.first_that(|copy| os::file_clock(&copy.log.staged("clock")))?),
    };
    pins::survey_to_open(copies, owner, clock)?.check_others(owner, sharing)?;
    settle_ends(copies)?;
    over_view(copies, options, sharing, Some(pins))
}

/// The state in the log of the copies in force.
fn over_view(copies: &Arc<Copies>, options: &Options, sharing: Sharing, pin: Option<Pins>) -> Result<Opened> {
    let access = if pin.is_some() { Access::Write } else { Access::Read };
    let first = copies.first();
    let owner = first.log.owner;
    let shared = SharedLog::new(copies.view(), Some(Arc::clone(copies)), owner);
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
    let sets = Sets::open(&paths, &first.log, copies.database, &options.coding, access)?;
    let segments = Segments::new(first.segments(), owner).with_sets(sets).with_copies(Arc::clone(copies));
    let segments = if access == Access::Read { segments.without_pin() } else { segments };
    Ok(Opened {
        format,
        folders,
        tail: None,
        log_lock: None,
        sync_lock: None,
        shared: Some(shared),
        pin,
        segments: Arc::new(segments),
        replica,
        sharing,
    })
}

/// Who opens the copies knows what became of a slot that its writer did not finish: one that is on some of the first copies goes on all.
/// What the last copy has, all have; but a power cut may have taken a name from one before it, and left it there. Then a new epoch begins, with
/// the longest log.
fn settle_ends(copies: &Copies) -> Result<()> {
    let view = copies.view();
    let last = view.reader().last()?;
    let ends = view.members().iter().filter_map(|member| member.slots.last().ok());
    let ends: Vec<Option<Seq>> = ends.collect();
    if ends.iter().any(|end| *end < last) {
        return copies.change(Wanted { after: view.number(), ..Wanted::default() });
    }
    match ends.into_iter().max().flatten() {
        Some(end) if Some(end) > last => copies.help(&view, end),
        _ => Ok(()),
    }
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
    let format = folder::read_format(&folder::format_path(&copy.path));
    let opened =
        format.and_then(|format| folder::over_slots(&copy.path, &folders, options, format, slots, None));
    let opened = match opened {
        // It was lost as well.
        Err(error) if is_failure(&error) => return Err(because(refused, Some(&error))),
        opened => opened?,
    };
    let folders = ReplicaFolders { copies: Some(Arc::clone(copies)), ..folders };
    // The first reason stays.
    let _ = copies.refused.set(refused);
    Ok(Opened { folders, sharing: Sharing::Processes, ..opened })
}

/// Makes copies of a database that has none; makes the database, where there is none.
fn make(places: &[Place], options: &Options, sharing: Sharing) -> Result<()> {
    let home = &places.first().ok_or_else(|| Error::new(ErrorKind::Invalid, "no folder"))?.path;
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
    switch::to(home, &folders, options, LogKind::Slots, sharing, &format, &pins, &Cell::new(false))?;
    let all: Vec<CopyFolder> = places
        .iter()
        .enumerate()
        .map(|(index, place)| CopyFolder::new(index, place.role, place.path.clone(), owner))
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
