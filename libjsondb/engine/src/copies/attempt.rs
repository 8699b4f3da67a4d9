//! One's own slot on all copies of an epoch.

use super::view::{Standing, View};
use super::{Copies, Failed};
use crate::os;
use crate::planted::{Bug, is_planted};
use crate::shared::log::{self, Attempt, Slots as _};
use crate::shared::slot::SlotId;
use crate::{ErrorKind, Result, Seq};

impl Copies {
    /// As [`log::attempt`], on all copies of the epoch. `staged` is what the staged file holds.
    pub(crate) fn attempt(&self, view: &View, id: SlotId, staged: &[u8], slot: Seq) -> Result<Attempt> {
        let mut failed = Failed::default();
        let mut is_everywhere = true;
        // The first says whose slot it is; those between wait for their drives at once; the last has what all have.
        let (first, others) = view.members().split_at(1);
        let (between, last) = others.split_at(others.len().saturating_sub(1));
        for (place, members) in [first, between, last].into_iter().enumerate() {
            if place > 0 && is_planted(Bug::LinkOnHomeOnly) {
                break;
            }
            let tried = os::at_once(members, |member| match log::attempt(&member.slots, id, slot) {
                // Swept here, and a slot elsewhere: it must not become another one.
                Ok(Attempt::Unstaged) if place > 0 => {
                    member.slots.stage(id, staged)?;
                    log::attempt(&member.slots, id, slot)
                }
                tried => tried,
            });
            for (member, tried) in members.iter().zip(tried) {
                match tried {
                    Ok(Attempt::Won) => continue,
                    Ok(Attempt::Lost) if place == 0 => {
                        self.help(view, slot)?;
                        return Ok(Attempt::Lost);
                    }
                    Ok(tried) if place == 0 => return Ok(tried),
                    Ok(Attempt::Passed) => return Ok(Attempt::Passed),
                    // Where a power cut took the name from the copies before this one.
                    Ok(Attempt::Lost | Attempt::Unstaged) => {}
                    Err(error)
                        if place == 0
                            && matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::Exhausted) =>
                    {
                        return Err(error);
                    }
                    Err(error) => failed.insert(member.index, error),
                }
                is_everywhere = false;
            }
            if !is_everywhere {
                break;
            }
        }
        if is_everywhere && view.standing() == Standing::InForce {
            return Ok(Attempt::Won);
        }
        // Whether it is a slot is for the next epoch to say: nothing else is a slot of this one any more.
        self.leave(view, failed)?;
        self.outcome(id, slot)
    }

    /// What became of an attempt whose epoch is over.
    fn outcome(&self, id: SlotId, slot: Seq) -> Result<Attempt> {
        loop {
            let now = self.view();
            // Of a copy that is lost as well nothing is known.
            let Ok(found) = now.reader().read_anew(slot) else { return Ok(Attempt::Passed) };
            if !now.reader().trimmed().is_ok_and(|trimmed| trimmed < slot) {
                return Ok(Attempt::Passed);
            }
            // Looked at afterwards: what is over is removed, and then nothing is found there.
            if now.standing() == Standing::InForce {
                let is_own = found.is_some_and(|bytes| now.reader().id_of(&bytes) == Some(id));
                return Ok(if is_own { Attempt::Won } else { Attempt::Lost });
            }
            self.leave(&now, Failed::default())?;
        }
    }

    /// Another one's slot, which is on the first copy, goes on all others before there is a next one.
    pub(super) fn help(&self, view: &View, slot: Seq) -> Result<()> {
        let Some((first, others)) = view.members().split_first() else { return Ok(()) };
        let mut failed = Failed::default();
        let bytes = match first.slots.read_anew(slot) {
            Ok(Some(bytes)) => bytes,
            // Removed since: it was everywhere.
            Ok(None) => return Ok(()),
            Err(error) => {
                failed.note(self, view, first.index, error)?;
                return self.leave(view, failed);
            }
        };
        for member in others {
            if let Err(error) = member.slots.put(slot, &bytes) {
                failed.note(self, view, member.index, error)?;
            }
        }
        if failed.is_empty() { Ok(()) } else { self.leave(view, failed) }
    }

    /// Goes on in a later epoch, without what failed.
    pub(crate) fn leave(&self, view: &View, mut failed: Failed) -> Result<()> {
        if let Standing::Failed(gone) = view.standing() {
            failed.add(gone);
        }
        self.go_on(view, failed)
    }
}
