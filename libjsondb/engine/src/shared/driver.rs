//! An open database over the shared log: following it, committing to it, checkpoints in it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::SharedLog;
use super::boundary::{Boundary, LogKind, Reach};
use super::folder::SlotFolder;
use super::log::{self, Attempt, Confirmed, Followed, Slots};
use super::slot::{SLOT_HEADER_LEN, Slot, SlotId, SlotKind, decode_fence, encode_fence};
use crate::copies::Failed;
use crate::copies::view::{Standing, View};
use crate::database::Inner;
use crate::log::{CheckpointRecord, Position, record};
use crate::os;
use crate::planted::{Bug, is_planted};
use crate::replica::{Replica, ReplicaFolders};
use crate::tree::Wait;
use crate::{Error, ErrorKind, Result, Seq};

/// A folder whose files are replaced while it is being opened is looked at this often.
const OPEN_ATTEMPTS: usize = 20;

/// What is to become a slot. `bytes` begins with [`SLOT_HEADER_LEN`] free ones.
pub(crate) struct Draft {
    pub(crate) kind: SlotKind,
    pub(crate) count: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Draft {
    /// With room for the body behind the header.
    pub(crate) fn buffer(body_bytes: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(SLOT_HEADER_LEN + body_bytes);
        buffer.resize(SLOT_HEADER_LEN, 0);
        buffer
    }

    fn body(&self) -> &[u8] {
        self.bytes.get(SLOT_HEADER_LEN..).unwrap_or_default()
    }
}

/// A draft that was written to a file.
struct Staged {
    id: SlotId,
    draft: Draft,
    /// The copies that have the file.
    view: Arc<View>,
}

impl Staged {
    /// What fails here is swept later.
    fn remove(&self) {
        self.view.members().iter().for_each(|member| member.slots.unstage(self.id));
    }
}

/// Reads the newest state there is: a manifest that was in force once, and the slots behind its checkpoint.
pub(crate) fn read_state(
    shared: &SharedLog,
    folders: &ReplicaFolders,
    memtable_bytes: u64,
) -> Result<Replica> {
    for attempt in 0..OPEN_ATTEMPTS {
        let boundary = shared.on_reader(SlotFolder::boundary)?;
        if boundary.reach.log != LogKind::Slots {
            let what = "the folder was opened as Standalone meanwhile: open it again";
            return Err(Error::new(ErrorKind::Closed, what));
        }
        let hint = if attempt == 0 { shared.on_reader(SlotFolder::head)? } else { None };
        let name = hint.filter(|head| head.checkpoint >= boundary.reach.seq).unwrap_or(boundary.manifest);
        let Some(manifest) = folders.load_manifest(&name)? else { continue };
        let start = Position::Slot(Seq(name.checkpoint.max(boundary.reach.seq).0 + 1));
        let mut replica = Replica::at(folders, name, manifest, start, memtable_bytes);
        let mut confirmed = Confirmed::default();
        shared.has_ended.store(false, Ordering::Release);
        shared.switches.store(boundary.reach.switches, Ordering::Release);
        if read_to_end(shared, &mut confirmed, &mut replica)? {
            *shared.lock_confirmed() = confirmed;
            replica.show(replica.position.mark());
            return Ok(replica);
        }
    }
    let what = format!("{} changes too quickly to be opened: try again", folders.log.path.display());
    Err(Error::new(ErrorKind::Locked, what))
}

/// False when slots on the way were removed. Fails when one is missing.
fn read_to_end(shared: &SharedLog, confirmed: &mut Confirmed, replica: &mut Replica) -> Result<bool> {
    // Asked for once: while others commit without a pause there is always a newer one.
    let last = shared.on_reader(SlotFolder::last)?;
    loop {
        // It wrote nothing that others could take for that of a dead process: it heeds no fence but the one around everybody.
        let fence = |_, owners: &[u64]| {
            shared.has_ended.fetch_or(owners.is_empty(), Ordering::AcqRel);
            Ok(())
        };
        if follow(shared, confirmed, replica, fence)? == Followed::Trimmed {
            return Ok(false);
        }
        let next = replica.position.next_seq();
        if last.is_none_or(|last| last < next) {
            return Ok(true);
        }
        // Made since, or there is a gap, or the epoch is over and its slots are removed.
        let view = shared.view();
        if shared.on_reader(|slots| Ok(slots.read_anew(next)?.is_none() && slots.trimmed()? < next))?
            && view.standing() == Standing::InForce
        {
            return Err(view.missing(next));
        }
    }
}

fn has_ended() -> Error {
    Error::new(ErrorKind::Closed, "the folder is being opened as Standalone: open it again")
}

/// Goes on with a log that a fence around everybody has ended: who put it there died, or sleeps, and its boundary then comes too late.
/// False when it has not ended.
pub(crate) fn go_on(shared: &SharedLog, replica: &Replica) -> Result<bool> {
    if !shared.has_ended.load(Ordering::Acquire) {
        return Ok(false);
    }
    let switches = shared.switches.load(Ordering::Acquire) + 1;
    let reach = Reach { switches, seq: replica.position.last_seq(), log: LogKind::Slots };
    if shared.view().reader().claim(&Boundary { reach, manifest: replica.manifest().name })? {
        Ok(true)
    } else {
        Err(Error::new(ErrorKind::Locked, "the folder is being opened as Standalone: try again"))
    }
}

/// Applies slots to the replica until there is none; shows `fence` the fences.
fn follow(
    shared: &SharedLog,
    confirmed: &mut Confirmed,
    replica: &mut Replica,
    mut fence: impl FnMut(Seq, &[u64]) -> Result<()>,
) -> Result<Followed> {
    loop {
        let view = shared.view();
        let counts = || view.standing() == Standing::InForce || is_planted(Bug::BelieveStaleCopy);
        let (began, next) = (os::uptime(), replica.position.next_seq());
        let followed = log::follow(view.reader(), confirmed, next, counts, |seq, bytes| {
            let (header, body) = view.reader().open(seq, &bytes)?;
            apply(shared, &view, replica, seq, &header, body, &mut fence)
        });
        if let Some(lease) = view.lease() {
            let end = replica.position.next_seq();
            lease.tell(next..end);
            if let Ok(Followed::End) = followed {
                lease.renew(began, end);
            }
        }
        let Some(copies) = &shared.copies else { return followed };
        let mut failed = Failed::default();
        match followed {
            Ok(Followed::Over) => {}
            Ok(followed) => return Ok(followed),
            Err(error) => failed.note(copies, &view, view.last_index(), error)?,
        }
        *confirmed = Confirmed::default();
        copies.leave(&view, failed)?;
    }
}

fn apply(
    shared: &SharedLog,
    view: &View,
    replica: &mut Replica,
    seq: Seq,
    header: &Slot,
    body: &[u8],
    fence: &mut impl FnMut(Seq, &[u64]) -> Result<()>,
) -> Result<Followed> {
    let before = replica.manifest().name;
    let applied = match header.kind {
        SlotKind::Commit => replica.apply_commit(std::iter::repeat(seq), header.count, body),
        SlotKind::Checkpoint => match replica.apply_checkpoint(body) {
            Err(error) if error.kind() == ErrorKind::SnapshotTooOld => return Ok(Followed::Trimmed),
            applied => applied?,
        },
        SlotKind::Fence => match decode_fence(body) {
            Some(owners) => fence(seq, &owners).map(Ok)?,
            None => Err("the body of a fence"),
        },
    };
    applied.map_err(|what| Error::corrupt(&view.reader().path(seq), 0, what))?;
    let now = replica.manifest().name;
    if now != before {
        shared.note_effective(seq, now);
    }
    replica.position = Position::Slot(Seq(seq.0 + 1));
    Ok(Followed::End)
}

impl Inner {
    /// Shows what others committed. False when that takes a wait that is not allowed, as a look at the slots does.
    pub(crate) fn refresh_slots(&self, shared: &SharedLog, wait: Wait) -> Result<bool> {
        let next = self.current.load().log_end.wal;
        if shared.view().lease().is_some_and(|lease| lease.is_end(next)) {
            return Ok(true);
        }
        if wait == Wait::Never {
            return Ok(false);
        }
        let mut replica = self.lock_replica();
        self.follow_slots(shared, &mut replica)?;
        Ok(true)
    }

    fn follow_slots(&self, shared: &SharedLog, replica: &mut Replica) -> Result<()> {
        let mut confirmed = shared.lock_confirmed();
        let mut fence = |seq, owners: &[u64]| {
            if owners.is_empty() {
                return Err(self.poison(has_ended()));
            }
            if owners.contains(&shared.owner) && !is_planted(Bug::IgnoreFence) {
                shared.note_fence(seq);
            }
            Ok(())
        };
        let mut followed = follow(shared, &mut confirmed, replica, &mut fence)?;
        let next = replica.position.next_seq();
        if followed == Followed::End && shared.peers.know_of(next, os::uptime()) {
            // What this machine remembers of the folder is old: it is looked at anew.
            *confirmed = Confirmed::default();
            followed = follow(shared, &mut confirmed, replica, &mut fence)?;
        }
        drop(confirmed);
        if followed == Followed::Trimmed {
            let newer = read_state(shared, &self.folders, self.options.memtable_bytes)?;
            if shared.has_ended.load(Ordering::Acquire) {
                return Err(self.poison(has_ended()));
            }
            // Fences may have been among what was skipped.
            shared.note_fence(newer.position.last_seq());
            replica.replace_with(newer);
        }
        if shared.is_unpinned.load(Ordering::Acquire) {
            // Whoever took this process for dead has removed its pin, and what its transactions wrote.
            replica.refuse_before(replica.position.last_seq());
            if let Some(pin) = &self.pin {
                pin.renew()?;
            }
            shared.is_unpinned.store(false, Ordering::Release);
        }
        replica.show(replica.position.mark());
        self.publish_if_newer(replica);
        Ok(())
    }

    /// Makes a slot of what `draft` gives when the log was read to its end; None: nothing is to be stored. When a slot was lost to
    /// another writer it is asked again.
    pub(crate) fn append_slot(
        &self,
        shared: &SharedLog,
        draft: impl FnMut(&Replica) -> Result<Option<Draft>>,
    ) -> Result<Option<Seq>> {
        let appended = self.append_one_slot(shared, draft)?;
        if let Some(slot) = appended {
            shared.peers.announce(slot, os::uptime());
        }
        Ok(appended)
    }

    fn append_one_slot(
        &self,
        shared: &SharedLog,
        draft: impl FnMut(&Replica) -> Result<Option<Draft>>,
    ) -> Result<Option<Seq>> {
        self.check_writable()?;
        let _appending = shared.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut staged = None;
        let appended = self.append_staged(shared, &mut staged, draft);
        if let Some(staged) = staged {
            staged.remove();
        }
        appended
    }

    /// As [`Inner::append_slot`]; leaves the staged file to the caller.
    fn append_staged(
        &self,
        shared: &SharedLog,
        staged: &mut Option<Staged>,
        mut draft: impl FnMut(&Replica) -> Result<Option<Draft>>,
    ) -> Result<Option<Seq>> {
        loop {
            self.check_usable()?;
            let (next, wanted) = {
                let mut replica = self.lock_replica();
                self.follow_slots(shared, &mut replica)?;
                (replica.position.next_seq(), draft(&replica))
            };
            let Some(wanted) = wanted? else { return Ok(None) };
            let view = shared.view();
            let is_ready = |before: &Staged| {
                before.draft.body() == wanted.body() && before.view.number() == view.number()
            };
            if !staged.as_ref().is_some_and(is_ready) {
                if let Some(before) = staged.take() {
                    before.remove();
                }
                *staged = self.stage(shared, view, wanted)?;
            }
            let Some(ready) = staged else { continue };
            let confirmed = *shared.lock_confirmed();
            if shared.on_reader(|slots| log::is_too_late(slots, confirmed, next))? {
                shared.doubt_end();
                continue;
            }
            let attempted = match &shared.copies {
                Some(copies) => copies.attempt(&ready.view, ready.id, &ready.draft.bytes, next),
                None => log::attempt(ready.view.reader(), ready.id, next),
            };
            match attempted {
                Ok(Attempt::Won) => {
                    self.apply_own(shared, next, ready)?;
                    return Ok(Some(next));
                }
                Ok(Attempt::Lost) => {}
                Ok(Attempt::Unstaged) => *staged = None,
                Ok(Attempt::Passed) => return Err(self.poison(log::too_late())),
                Err(error) if log::is_refusal(&error) => return Err(error),
                Err(error) => return Err(self.poison(error)),
            }
        }
    }

    /// None: others have swept the file, as they took this process for dead; or a copy failed, and the others have begun a new epoch.
    fn stage(&self, shared: &SharedLog, view: Arc<View>, mut draft: Draft) -> Result<Option<Staged>> {
        let id = shared.new_id();
        let header = Slot { kind: draft.kind, id, count: draft.count, database: self.format.uuid };
        header.seal(&mut draft.bytes);
        let staged = Staged { id, draft, view };
        let mut failed = Failed::default();
        let written =
            os::at_once(staged.view.members(), |member| member.slots.stage(id, &staged.draft.bytes));
        for (member, written) in staged.view.members().iter().zip(written) {
            let Err(error) = written else { continue };
            staged.remove();
            match &shared.copies {
                None if error.is_missing_file() => return Ok(None),
                None => return Err(error),
                Some(copies) if error.is_missing_file() && copies.is_whole(member.index) => return Ok(None),
                Some(copies) => {
                    failed.note(copies, &staged.view, member.index, error)?;
                    copies.leave(&staged.view, failed)?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(staged))
    }

    /// Applies a slot of this process, unless another thread has read it already.
    fn apply_own(&self, shared: &SharedLog, slot: Seq, staged: &Staged) -> Result<()> {
        let mut replica = self.lock_replica();
        if replica.position.next_seq() == slot {
            let Draft { kind, count, .. } = staged.draft;
            let header = Slot { kind, id: staged.id, count, database: self.format.uuid };
            // Nobody fences itself.
            let (view, body) = (&staged.view, staged.draft.body());
            let applied = apply(shared, view, &mut replica, slot, &header, body, &mut |_, _| Ok(()));
            // It is stored: a failure must not be reported as one that stored nothing.
            applied.map_err(|error| self.poison(error))?;
            // Readers of the epoch in which it was decided are told: those of a later one find it.
            if let Some(lease) = view.lease() {
                lease.tell(slot..Seq(slot.0 + 1));
            }
        }
        let end = replica.position.mark();
        replica.show(end);
        self.publish_if_newer(&mut replica);
        Ok(())
    }

    /// A commit without writes, when there is none since the last checkpoint.
    pub(crate) fn append_nothing(&self, shared: &SharedLog) -> Result<()> {
        let appended = self.append_slot(shared, |replica| {
            if replica.position.last_seq() > replica.manifest().name.checkpoint {
                return Ok(None);
            }
            let mut bytes = Draft::buffer(16);
            record::encode(&[], 0, std::iter::empty(), std::iter::empty(), &mut bytes);
            Ok(Some(Draft { kind: SlotKind::Commit, count: 1, bytes }))
        });
        appended.map(drop)
    }

    /// Puts a checkpoint in force. Fails when another one was made meanwhile, or others have taken this process for dead.
    pub(crate) fn append_checkpoint_slot(&self, shared: &SharedLog, record: &CheckpointRecord) -> Result<()> {
        let appended = self.append_slot(shared, |replica| {
            if replica.manifest().name != record.base || shared.is_fenced_after(record.manifest.checkpoint) {
                return Ok(None);
            }
            let mut bytes = Draft::buffer(64);
            record.put(&mut bytes);
            Ok(Some(Draft { kind: SlotKind::Checkpoint, count: 0, bytes }))
        })?;
        if appended.is_none() {
            let what = "another process made a checkpoint meanwhile";
            return Err(Error::new(ErrorKind::SnapshotTooOld, what));
        }
        // What saves the next opening some reading must not fail the checkpoint.
        let _ = shared.view().set_head(shared.copies.as_deref(), &record.manifest);
        Ok(())
    }

    /// Tells all writers that these processes are taken for dead: from then on nothing of theirs from before is accepted.
    pub(crate) fn append_fence(&self, shared: &SharedLog, owners: &[u64]) -> Result<()> {
        self.append_slot(shared, |_| {
            let mut bytes = Draft::buffer(8 * owners.len());
            bytes.extend(encode_fence(owners));
            Ok(Some(Draft { kind: SlotKind::Fence, count: 0, bytes }))
        })
        .map(drop)
    }
}
