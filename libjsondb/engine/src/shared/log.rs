//! The protocol of the shared log, over whatever keeps its slots: following it, and getting a slot of one's own.
//!
//! It asks three things of the folder. Of several writers that give a file the same name, one succeeds (`link`). A file that is opened by
//! its name holds what was synced before it got the name. A file that was overwritten and synced is seen so by who opens it after.
//! It asks nothing of locks, and of clocks only that they measure intervals: a minute is not shorter than [`TRUST`].
//! The rules and why they suffice: "Several machines" in libjsondb/docs/protocol.md.

use std::time::Duration;

use super::slot::SlotId;
use crate::os::Link;
use crate::planted::{Bug, is_planted};
use crate::{Error, ErrorKind, Result, Seq};

/// Slots are removed no sooner than this after the checkpoint that made them unnecessary took effect.
pub(crate) const TRIM_LAG: Duration = Duration::from_secs(60);
/// Who knew the end of the log so long ago may believe that a slot it does not find was never there.
pub(crate) const TRUST: Duration = Duration::from_secs(10);
/// A link whose outcome is unknown is tried again so often: it is the same file, so it has at most one slot.
const UNCERTAIN_TRIES: usize = 5;

/// So many slots are read at once, at most.
const BATCH_MAX: usize = 64;
/// None is added to so many bytes of them.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What keeps the slots: a folder, or a model of one. Slots are files whose names are their numbers.
pub(crate) trait Slots {
    /// Writes a file that nobody looks for yet. It is durable when this returns.
    fn stage(&self, id: SlotId, bytes: &[u8]) -> Result<()>;
    /// Gives it the name of a slot, if nothing has it.
    fn link(&self, id: SlotId, slot: Seq) -> Result<Link>;
    /// Takes its first name away. What fails here is swept later.
    fn unstage(&self, id: SlotId);
    /// Reads a slot; None when there is none.
    fn read(&self, slot: Seq) -> Result<Option<Vec<u8>>>;
    /// As [`Slots::read`], past what this machine remembers of the folder.
    fn read_anew(&self, slot: Seq) -> Result<Option<Vec<u8>>>;
    /// Makes the name of a slot durable.
    fn sync(&self, slot: Seq) -> Result<()>;
    /// How far the boundary reaches now: slots up to there may be gone.
    fn trimmed(&self) -> Result<Seq>;
    /// The time of this machine's clock, which goes on while the machine sleeps.
    fn now(&self) -> Duration;
    /// Whose slot this is; None when it is none.
    fn id_of(&self, bytes: &[u8]) -> Option<SlotId>;
}

/// Where following the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// At its end.
    End,
    /// What comes next was removed: the state is to be read anew, from a newer checkpoint.
    Trimmed,
    /// The copies have begun a later epoch, or one of them fails: what was found may not count.
    Over,
}

/// What became of an attempt to get a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is ours, and durable.
    Won,
    /// It is another one's: read it, validate against it, and try the next one.
    Lost,
    /// The staged file is gone: write it again.
    Unstaged,
    /// The boundary has passed it: nobody knows what became of it.
    Passed,
}

/// When this process last knew the end of the log. To be used by one thread at a time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Confirmed(Option<Duration>);

impl Confirmed {
    fn is_recent(&self, now: Duration) -> bool {
        self.0.is_some_and(|then| now.saturating_sub(then) <= TRUST)
    }
}

/// Reads slots from `next` on and shows each to `apply`, until there is none. When `apply` says so, the state is to be read anew.
/// `counts` is asked after a look at the slots whether what was seen counts.
pub(crate) fn follow(
    slots: &impl Slots,
    confirmed: &mut Confirmed,
    mut next: Seq,
    counts: impl Fn() -> bool,
    mut apply: impl FnMut(Seq, Vec<u8>) -> Result<Followed>,
) -> Result<Followed> {
    loop {
        let asked = slots.now();
        let (mut batch, mut has_ended) = read_batch(slots, next)?;
        // Looked at after the reads: however long they took, no slot was removed before.
        let is_certain = confirmed.is_recent(slots.now());
        if !is_certain {
            if has_ended && let Some(slot) = slots.read_anew(Seq(next.0 + batch.len() as u64))? {
                batch.push(slot);
                has_ended = false;
            }
            if is_behind_boundary(slots, next)? {
                confirmed.0 = None;
                return Ok(Followed::Trimmed);
            }
        }
        if !counts() {
            confirmed.0 = None;
            return Ok(Followed::Over);
        }
        for bytes in batch {
            if apply(next, bytes)? == Followed::Trimmed {
                confirmed.0 = None;
                return Ok(Followed::Trimmed);
            }
            next = Seq(next.0 + 1);
        }
        if has_ended {
            if !is_certain {
                confirmed.0 = Some(asked);
            }
            return Ok(Followed::End);
        }
    }
}

/// Slots from `first` on, and whether there is none behind them. It is asked once for all of them whether they were there all the time.
fn read_batch(slots: &impl Slots, first: Seq) -> Result<(Vec<Vec<u8>>, bool)> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
        let Some(slot) = slots.read(Seq(first.0 + batch.len() as u64))? else { return Ok((batch, true)) };
        bytes += slot.len();
        batch.push(slot);
    }
    Ok((batch, false))
}

/// Whether a slot that was the end of the log is none any more: who slept since then, and found that out after the link, would not know
/// what became of it.
pub(crate) fn is_too_late(slots: &impl Slots, confirmed: Confirmed, slot: Seq) -> Result<bool> {
    Ok(!confirmed.is_recent(slots.now()) && is_passed(slots, slot)?)
}

/// Tries to make the staged file `id` the slot `slot`, which was the end of the log when this process last looked. An error means that
/// nobody knows whether it is one, but for those that [`is_refusal`] tells.
pub(crate) fn attempt(slots: &impl Slots, id: SlotId, slot: Seq) -> Result<Attempt> {
    let mut failed = None;
    for _ in 0..UNCERTAIN_TRIES {
        let linked = slots.link(id, slot);
        if is_planted(Bug::SkipSlotId) {
            match linked {
                Ok(Link::Made) => return Ok(Attempt::Won),
                Ok(Link::Taken) => return Ok(Attempt::Lost),
                _ => {}
            }
        }
        // Whatever was answered: an answer may have been lost and the call been made twice, and there are clients that
        // call a name that is taken a success.
        let found = slots.read_anew(slot).map_err(unknown)?;
        // Later than any removal that could have made room for a slot that had been another one's, or have taken ours away.
        if is_passed(slots, slot).map_err(unknown)? {
            return Ok(Attempt::Passed);
        }
        match found {
            Some(bytes) if slots.id_of(&bytes) == Some(id) => {
                slots.sync(slot).map_err(unknown)?;
                return Ok(Attempt::Won);
            }
            Some(_) => return Ok(Attempt::Lost),
            // Not there, or not to be seen yet.
            None if matches!(linked, Ok(Link::Gone)) => return Ok(Attempt::Unstaged),
            None => match linked {
                // The server did not do it.
                Err(error) if is_refusal(&error) => return Err(error),
                linked => failed = linked.err(),
            },
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Io, "a slot of the log was made and is not there")))
}

fn is_passed(slots: &impl Slots, slot: Seq) -> Result<bool> {
    Ok(!is_planted(Bug::SkipBoundary) && is_behind_boundary(slots, slot)?)
}

/// What [`Attempt::Passed`] is for the caller.
pub(crate) fn too_late() -> Error {
    let what = "the commit took so long that its place in the log may have been removed since";
    Error::new(ErrorKind::Io, what)
}

/// After an error like this nothing was stored.
pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::ReadOnlyFolder | ErrorKind::Exhausted)
}

/// Whatever it was: it came when a name had been given, or may have been.
fn unknown(error: Error) -> Error {
    if is_refusal(&error) { Error::new(ErrorKind::Io, error.message()) } else { error }
}

fn is_behind_boundary(slots: &impl Slots, slot: Seq) -> Result<bool> {
    Ok(slots.trimmed()? >= slot)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A log that nobody else writes.
    struct Kept {
        slots: u64,
        boundary: Seq,
        asked: Cell<usize>,
    }

    impl Slots for Kept {
        fn stage(&self, _: SlotId, _: &[u8]) -> Result<()> {
            Ok(())
        }

        fn link(&self, _: SlotId, _: Seq) -> Result<Link> {
            Ok(Link::Taken)
        }

        fn unstage(&self, _: SlotId) {}

        fn read(&self, slot: Seq) -> Result<Option<Vec<u8>>> {
            Ok((slot.0 <= self.slots).then(|| slot.0.to_le_bytes().to_vec()))
        }

        fn read_anew(&self, slot: Seq) -> Result<Option<Vec<u8>>> {
            self.read(slot)
        }

        fn sync(&self, _: Seq) -> Result<()> {
            Ok(())
        }

        fn trimmed(&self) -> Result<Seq> {
            self.asked.set(self.asked.get() + 1);
            Ok(self.boundary)
        }

        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn id_of(&self, _: &[u8]) -> Option<SlotId> {
            None
        }
    }

    #[test]
    fn many_slots_are_read_in_order_and_the_boundary_is_asked_for_once_in_a_batch() {
        for count in [0, 1, 63, 64, 65, 1000] {
            let kept = Kept { slots: count, boundary: Seq(0), asked: Cell::new(0) };
            let (mut confirmed, mut seen) = (Confirmed::default(), Vec::new());
            let followed = follow(
                &kept,
                &mut confirmed,
                Seq(1),
                || true,
                |slot, bytes| {
                    assert_eq!(bytes, slot.0.to_le_bytes());
                    seen.push(slot.0);
                    Ok(Followed::End)
                },
            );
            assert_eq!(followed.unwrap(), Followed::End);
            assert_eq!(seen, (1..=count).collect::<Vec<_>>());
            assert_eq!(kept.asked.get(), count as usize / BATCH_MAX + 1);
            follow(&kept, &mut confirmed, Seq(count + 1), || true, |_, _| unreachable!()).unwrap();
            assert_eq!(kept.asked.get(), count as usize / BATCH_MAX + 1, "it knew the end lately");
        }
    }

    #[test]
    fn nothing_is_applied_of_a_batch_that_begins_behind_the_boundary() {
        let kept = Kept { slots: 10, boundary: Seq(1), asked: Cell::new(0) };
        let followed = follow(&kept, &mut Confirmed::default(), Seq(1), || true, |_, _| unreachable!());
        assert_eq!(followed.unwrap(), Followed::Trimmed);
    }
}
