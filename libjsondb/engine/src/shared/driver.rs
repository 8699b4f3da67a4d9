//! An open database over the shared log: following it, committing to it, checkpoints in it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::SharedLog;
use super::boundary::{Boundary, LogKind, Reach};
use super::log::{self, Attempt, Confirmed, Followed, Slots};
use super::slot::{SLOT_HEADER_LEN, Slot, SlotId, SlotKind, decode_fence, encode_fence};
use crate::database::Inner;
use crate::log::{CheckpointRecord, Position, record};
use crate::manifest::Manifest;
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
}

/// Reads the newest state there is: a manifest that was in force once, and the slots behind its checkpoint.
pub(crate) fn read_state(
    shared: &SharedLog,
    folders: &ReplicaFolders,
    memtable_bytes: u64,
) -> Result<Replica> {
    for attempt in 0..OPEN_ATTEMPTS {
        let boundary = shared.slots.boundary()?;
        if boundary.reach.log != LogKind::Slots {
            let what = "the folder was opened as Standalone meanwhile: open it again";
            return Err(Error::new(ErrorKind::Closed, what));
        }
        let hint = if attempt == 0 { shared.slots.head()? } else { None };
        let name = hint.filter(|head| head.checkpoint >= boundary.reach.seq).unwrap_or(boundary.manifest);
        let Some(manifest) = Manifest::load(&folders.manifests, &name)? else { continue };
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
    let last = shared.slots.last()?;
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
        // Made since, or there is a gap.
        if shared.slots.read_anew(next)?.is_none() && shared.slots.trimmed()? < next {
            return Err(Error::missing(&shared.slots.path(next)));
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
    if shared.slots.claim(&Boundary { reach, manifest: replica.manifest().name })? {
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
    log::follow(&shared.slots, confirmed, replica.position.next_seq(), |seq, bytes| {
        let (header, body) = shared.slots.open(seq, &bytes)?;
        apply(shared, replica, seq, &header, body, &mut fence)
    })
}

fn apply(
    shared: &SharedLog,
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
    applied.map_err(|what| Error::corrupt(&shared.slots.path(seq), 0, what))?;
    let now = replica.manifest().name;
    if now != before {
        shared.note_effective(seq, now);
    }
    replica.position = Position::Slot(Seq(seq.0 + 1));
    Ok(Followed::End)
}

impl Inner {
    /// Shows what others committed. False when that takes a wait that is not allowed: it always takes a look at the folder.
    pub(crate) fn refresh_slots(&self, shared: &SharedLog, wait: Wait) -> Result<bool> {
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
        if followed == Followed::End && shared.peers.know_of(next, shared.slots.now()) {
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
            shared.peers.announce(slot, shared.slots.now());
        }
        Ok(appended)
    }

    fn append_one_slot(
        &self,
        shared: &SharedLog,
        draft: impl FnMut(&Replica) -> Result<Option<Draft>>,
    ) -> Result<Option<Seq>> {
        let _appending = shared.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut staged = None;
        let appended = self.append_staged(shared, &mut staged, draft);
        if let Some(Staged { id, .. }) = staged {
            shared.slots.unstage(id);
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
            if staged.as_ref().is_none_or(|before| before.draft.body() != wanted.body()) {
                if let Some(before) = staged.take() {
                    shared.slots.unstage(before.id);
                }
                *staged = self.stage(shared, wanted)?;
            }
            let Some(ready) = staged else { continue };
            let confirmed = *shared.lock_confirmed();
            if log::is_too_late(&shared.slots, confirmed, next)? {
                shared.doubt_end();
                continue;
            }
            match log::attempt(&shared.slots, ready.id, next) {
                Ok(Attempt::Won) => {
                    self.apply_own(shared, next, ready)?;
                    return Ok(Some(next));
                }
                Ok(Attempt::Lost) => {}
                Ok(Attempt::Unstaged) => *staged = None,
                Err(error) if log::is_refusal(&error) => return Err(error),
                Err(error) => return Err(self.poison(error)),
            }
        }
    }

    /// None: others have swept the file; they took this process for dead.
    fn stage(&self, shared: &SharedLog, mut draft: Draft) -> Result<Option<Staged>> {
        let id = shared.new_id();
        let header = Slot { kind: draft.kind, id, count: draft.count, database: shared.slots.database() };
        header.seal(&mut draft.bytes);
        match shared.slots.stage(id, &draft.bytes) {
            Err(error) if error.is_missing_file() => return Ok(None),
            staged => staged?,
        }
        Ok(Some(Staged { id, draft }))
    }

    /// Applies a slot of this process, unless another thread has read it already.
    fn apply_own(&self, shared: &SharedLog, slot: Seq, staged: &Staged) -> Result<()> {
        let mut replica = self.lock_replica();
        if replica.position.next_seq() == slot {
            let Draft { kind, count, .. } = staged.draft;
            let header = Slot { kind, id: staged.id, count, database: shared.slots.database() };
            // Nobody fences itself.
            let applied = apply(shared, &mut replica, slot, &header, staged.draft.body(), &mut |_, _| Ok(()));
            // It is stored: a failure must not be reported as one that stored nothing.
            applied.map_err(|error| self.poison(error))?;
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
        let _ = shared.slots.set_head(&record.manifest);
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
