//! The log over the copies of an epoch.
//!
//! Who appends gives its record the name of the slot on all of them, in rising order. So what the last one has, all have: readers look there.
//! What was found counts only if no copy has joined a later epoch since ([`View::standing`]).

use crate::copies::Copies;
use crate::copies::epoch::{self, CopySet, Epoch};
use crate::copies::lease::Lease;
use crate::manifest::ManifestRef;
use crate::pin::Sharing;
use crate::shared::folder::SlotFolder;
use crate::{Error, Result, Seq};

/// See the module. Of a database that is one folder, that folder.
pub(crate) struct View {
    epoch: Option<Epoch>,
    members: Vec<Member>,
    /// Among processes of one machine.
    lease: Option<Lease>,
}

/// The slots of a copy.
pub(crate) struct Member {
    pub(crate) index: usize,
    pub(crate) slots: SlotFolder,
}

/// What became of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No copy knows of a later one.
    InForce,
    /// One does.
    Over,
    /// These do not answer, or are not the copies they were.
    Failed(CopySet),
}

impl View {
    /// Of a database without copies.
    pub(crate) fn single(slots: SlotFolder) -> View {
        View { epoch: None, members: vec![Member { index: 0, slots }], lease: None }
    }

    /// Before any is known to be in force.
    pub(super) fn empty() -> View {
        View { epoch: None, members: Vec::new(), lease: None }
    }

    pub(super) fn of(
        copies: &[super::CopyFolder],
        database: uuid::Uuid,
        epoch: Epoch,
        sharing: Sharing,
    ) -> View {
        let members: Vec<Member> = copies
            .iter()
            .filter(|copy| epoch.members.contains(copy.index))
            .map(|copy| Member {
                index: copy.index,
                slots: SlotFolder::of_epoch(copy.log.clone(), database, epoch.number),
            })
            .collect();
        let last = members.last().filter(|_| sharing == Sharing::Processes);
        let lease = last.map(|last| Lease::new(last.slots.clone()));
        View { epoch: Some(epoch), members, lease }
    }

    pub(crate) fn number(&self) -> u64 {
        self.epoch.map_or(0, |epoch| epoch.number)
    }

    pub(crate) fn members_set(&self) -> CopySet {
        self.members.iter().map(|member| member.index).collect()
    }

    /// Rising by index.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where readers look.
    pub(crate) fn reader(&self) -> &SlotFolder {
        // An epoch has members.
        &self.members[self.members.len() - 1].slots
    }

    /// The copy where readers look.
    pub(crate) fn last_index(&self) -> usize {
        self.members[self.members.len() - 1].index
    }

    /// What spares looks at all copies, where anything does.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Asks all copies for a later epoch.
    pub(crate) fn standing(&self) -> Standing {
        let Some(epoch) = &self.epoch else { return Standing::InForce };
        let mut failed = CopySet::default();
        for member in &self.members {
            match epoch::newest(member.slots.log_path()) {
                Ok(Some(newest)) if newest > epoch.number => return Standing::Over,
                Ok(Some(newest)) if newest == epoch.number => {}
                _ => failed.insert(member.index),
            }
        }
        if failed.is_empty() { Standing::InForce } else { Standing::Failed(failed) }
    }

    /// Moves the boundary of all copies: before the slots that it passes are removed on any.
    pub(crate) fn move_boundary(&self, copies: Option<&Copies>, manifest: ManifestRef) -> Result<()> {
        self.on_members(copies, |slots| slots.move_boundary(manifest))
    }

    pub(crate) fn remove(&self, copies: Option<&Copies>, upto: Seq) -> Result<()> {
        self.on_members(copies, |slots| slots.remove(upto))
    }

    pub(crate) fn set_head(&self, copies: Option<&Copies>, manifest: &ManifestRef) -> Result<()> {
        self.on_members(copies, |slots| slots.set_head(manifest))
    }

    fn on_members(&self, copies: Option<&Copies>, act: impl Fn(&SlotFolder) -> Result<()>) -> Result<()> {
        let mut failed = super::Failed::default();
        for member in &self.members {
            match (act(&member.slots), copies) {
                (Err(error), Some(copies)) => failed.note(copies, self, member.index, error)?,
                (done, _) => done?,
            }
        }
        copies.map_or(Ok(()), |copies| copies.drop_failed(self, failed))
    }

    /// A slot that is missing, for an error.
    pub(crate) fn missing(&self, slot: Seq) -> Error {
        Error::missing(&self.reader().path(slot))
    }
}
