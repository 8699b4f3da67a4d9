//! A folder that several machines share: the log is a row of slots, and who gives a file the name of the next one has committed.
//!
//! No lock, no clock and no server decides about a commit; see "Several machines" in libjsondb/docs/protocol.md. Inside:
//!
//! * `slot`, `boundary`: what the files hold;
//! * `log`: the protocol, over whatever keeps the slots;
//! * `folder`: slots as files;
//! * `driver`: commits, reads and checkpoints of an open database over it;
//! * `coordinator`: hints among processes, which decide nothing;
//! * `switch`: from a log of files to one of slots, and back.

pub(crate) mod boundary;
pub(crate) mod coordinator;
#[cfg(test)]
mod coordinator_tests;
pub(crate) mod driver;
pub(crate) mod folder;
pub(crate) mod log;
pub(crate) mod slot;
pub(crate) mod switch;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::copies::view::View;
use crate::copies::{Copies, Failed};
use crate::manifest::ManifestRef;
use crate::planted::{Bug, is_planted};
use crate::{Result, Seq};
use coordinator::Peers;
use folder::SlotFolder;
use log::Confirmed;
use slot::SlotId;

/// The shared log of an open database.
pub(crate) struct SharedLog {
    /// Of a database that is one folder.
    view: Arc<View>,
    /// Of one that is several.
    pub(crate) copies: Option<Arc<Copies>>,
    /// Whom to ask for hints: nobody, until it is set.
    pub(crate) peers: Peers,
    owner: u64,
    next_number: AtomicU64,
    /// Locked while the log is followed, inside the replica's lock.
    confirmed: Mutex<Confirmed>,
    /// One slot of this process at a time.
    appending: Mutex<()>,
    /// Checkpoints that took effect, each with the slot of its record; the last few.
    effective: Mutex<VecDeque<(Seq, ManifestRef)>>,
    /// The last slot in which others took this process for dead.
    fenced_at: AtomicU64,
    /// Since then the pin was not made anew.
    is_unpinned: AtomicBool,
    /// What was read last from a manifest on has a fence around everybody in it.
    has_ended: AtomicBool,
    /// Of the boundary that was read last.
    switches: AtomicU64,
}

/// A process remembers so many checkpoints, to remove the slots before one of them.
const EFFECTIVE_MAX: usize = 64;

impl SharedLog {
    /// `view` is what there is of slots at first.
    pub(crate) fn new(view: Arc<View>, copies: Option<Arc<Copies>>, owner: u64) -> SharedLog {
        SharedLog {
            view,
            copies,
            peers: Peers::default(),
            owner,
            next_number: AtomicU64::new(0),
            confirmed: Mutex::default(),
            appending: Mutex::default(),
            effective: Mutex::default(),
            fenced_at: AtomicU64::new(0),
            is_unpinned: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            switches: AtomicU64::new(0),
        }
    }

    /// The slots of a database that is one folder.
    pub(crate) fn single(slots: SlotFolder, owner: u64) -> SharedLog {
        SharedLog::new(Arc::new(View::single(slots)), None, owner)
    }

    /// The slots there are, on the copies in force.
    pub(crate) fn view(&self) -> Arc<View> {
        self.copies.as_ref().map_or_else(|| Arc::clone(&self.view), |copies| copies.view())
    }

    /// Asks something where readers look; of another copy, where one fails.
    pub(crate) fn on_reader<T>(&self, ask: impl Fn(&SlotFolder) -> Result<T>) -> Result<T> {
        loop {
            let view = self.view();
            match (ask(view.reader()), &self.copies) {
                (Err(error), Some(copies)) => {
                    let mut failed = Failed::default();
                    failed.note(copies, &view, view.last_index(), error)?;
                    copies.leave(&view, failed)?;
                }
                (answer, _) => return answer,
            }
        }
    }

    fn new_id(&self) -> SlotId {
        SlotId { owner: self.owner, number: self.next_number.fetch_add(1, Ordering::Relaxed) }
    }

    fn lock_confirmed(&self) -> MutexGuard<'_, Confirmed> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_effective(&self) -> MutexGuard<'_, VecDeque<(Seq, ManifestRef)>> {
        self.effective.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next look at the log asks all copies, and how far the boundary reaches.
    pub(crate) fn doubt_end(&self) {
        *self.lock_confirmed() = Confirmed::default();
        if let Some(lease) = self.view().lease() {
            lease.end();
        }
    }

    /// A checkpoint took effect in `slot`.
    fn note_effective(&self, slot: Seq, manifest: ManifestRef) {
        let mut effective = self.lock_effective();
        effective.push_back((slot, manifest));
        if effective.len() > EFFECTIVE_MAX {
            effective.pop_front();
        }
    }

    /// The newest checkpoint that took effect while this process looked, and the slot of its record.
    fn last_effective(&self) -> Option<(Seq, ManifestRef)> {
        self.lock_effective().back().copied()
    }

    /// Others have taken this process for dead, and told so in a slot up to `slot`.
    fn note_fence(&self, slot: Seq) {
        self.fenced_at.fetch_max(slot.0, Ordering::AcqRel);
        self.is_unpinned.store(true, Ordering::Release);
    }

    /// Others have taken this process for dead after `seq`.
    pub(crate) fn is_fenced_after(&self, seq: Seq) -> bool {
        self.fenced_at.load(Ordering::Acquire) > seq.0
    }

    /// Removes slots that no process needs any more: up to a checkpoint that took effect long ago.
    pub(crate) fn trim(&self) -> Result<()> {
        let effective: Vec<_> = self.lock_effective().iter().copied().collect();
        let Some((_, older)) = effective.split_last() else { return Ok(()) };
        let (view, copies) = (self.view(), self.copies.as_deref());
        for (slot, manifest) in older.iter().rev() {
            let is_due = match self.on_reader(|slots| slots.age(*slot))? {
                Some(age) => age >= log::TRIM_LAG || is_planted(Bug::TrimWithoutLag),
                // Somebody else has removed it, for a reason.
                None => self.on_reader(log::Slots::trimmed)? >= *slot,
            };
            if is_due {
                if is_planted(Bug::RemoveBeforeBoundary) {
                    view.remove(copies, manifest.checkpoint)?;
                }
                view.move_boundary(copies, *manifest)?;
                return view.remove(copies, manifest.checkpoint);
            }
        }
        Ok(())
    }

    /// Removes all slots that the tree holds, if nobody else has the folder open. Who opens it now finds the boundary, or `is_alone` finds who
    /// opened it before.
    pub(crate) fn trim_at_the_end(&self, is_alone: impl Fn() -> Result<bool>) -> Result<()> {
        let Some((_, manifest)) = self.last_effective() else { return Ok(()) };
        if !is_alone()? {
            return self.trim();
        }
        let (view, copies) = (self.view(), self.copies.as_deref());
        view.move_boundary(copies, manifest)?;
        if is_alone()? { view.remove(copies, manifest.checkpoint) } else { Ok(()) }
    }
}
