//! From one epoch of the log to the next: without a copy that failed, or with one that was brought up to date.
//!
//! Whoever wants it (1) asks copies that are enough to join (the seal), (2) reads what they have of the log that was in force last, (3) gathers the
//! longest of these on each, and (4) gives it its name on each: then it is active. An attempt that meets another one, or dies, is
//! left where it is: the next one takes a higher number. Why no decided slot is lost: "Copies" in libjsondb/docs/protocol.md.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::epoch::{self, CopySet, Epoch};
use super::gather::Log;
use super::lease::LEASE;
use super::view::View;
use super::{Copies, CopyFolder, is_failure, reinstate};
use crate::coded::Access;
use crate::os;
use crate::planted::{Bug, is_planted};
use crate::shared::folder::SlotFolder;
use crate::{Error, ErrorKind, Result, Seq};

/// A copy whose epochs go on while it is looked at is looked at so often.
const LOOKS: usize = 5;
/// Looks at what others do, and attempts.
const ATTEMPTS: usize = 500;
/// So long an attempt of another process is waited for before it is overtaken, the first time.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// The attempt of another process that is waited for.
struct Rival {
    number: u64,
    since: Duration,
    patience: Duration,
}

impl Rival {
    fn new() -> Rival {
        Rival { number: 0, since: os::uptime(), patience: PATIENCE }
    }

    /// False when it has taken too long: then it is to be overtaken. Who has done so is more patient with the next one: of several, one comes to an end.
    fn is_waited_for(&mut self, number: u64) -> bool {
        let now = os::uptime();
        if self.number != number {
            (self.number, self.since) = (number, now);
        }
        let is_waited_for = now.saturating_sub(self.since) < self.patience;
        if !is_waited_for {
            self.patience *= 2;
        }
        is_waited_for
    }
}

/// What the next epoch is to be like.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// The epoch that will not do any more.
    pub(crate) after: u64,
    /// Copies that failed.
    pub(crate) without: CopySet,
    /// Copies that were brought up to date.
    pub(crate) with: CopySet,
    /// Copies that are gone for good, by the operator's word.
    pub(crate) lost: CopySet,
}

impl Wanted {
    fn suits(&self, epoch: &Epoch) -> bool {
        epoch.number > self.after
            && epoch.members.without(self.without) == epoch.members
            && self.with.without(epoch.members).is_empty()
            && self.lost.without(epoch.lost).is_empty()
    }
}

/// What there is on a copy.
pub(super) struct Found {
    pub(super) newest: Epoch,
    /// The last epoch whose log it has, and which copies that one has.
    pub(super) active: Option<Epoch>,
}

/// Why an attempt came to nothing.
enum Stopped {
    /// Another one was quicker.
    Raced,
    /// This copy failed.
    By(usize, Error),
    /// As it stands.
    Error(Error),
}

impl Copies {
    /// What each copy has; None of one that cannot be read, or is not what its label says.
    pub(super) fn survey(&self) -> Vec<Option<Found>> {
        self.all.iter().map(|copy| self.look(copy).ok().flatten()).collect()
    }

    fn look(&self, copy: &CopyFolder) -> Result<Option<Found>> {
        if !self.is_labelled(copy) {
            return Ok(None);
        }
        let log = &copy.log.path;
        let mut found = None;
        for _ in 0..LOOKS {
            let Some(number) = epoch::newest(log)? else { return Ok(None) };
            let active = epoch::active(log)?.last().copied();
            let newest = epoch::read(log, number)?;
            let read = active.map_or(Ok(None), |active| epoch::read(log, active))?;
            found = newest.map(|newest| Found { newest, active: read });
            // Else a later epoch began meanwhile, and its beginner removed what was listed.
            if newest.is_some() && read.is_some() == active.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// The last epoch, if it is active on all its copies and these can be read.
    pub(super) fn in_force(found: &[Option<Found>]) -> Option<Epoch> {
        let newest = found.iter().flatten().map(|found| found.newest).max_by_key(|epoch| epoch.number)?;
        let is_active = |index: usize| {
            let found = found.get(index).and_then(Option::as_ref);
            found.is_some_and(|found| found.newest == newest && found.active == Some(newest))
        };
        newest.members.iter().all(is_active).then_some(newest)
    }

    /// Goes on with the epoch that is in force now.
    fn adopt(&self, epoch: Epoch) {
        if self.view().number() < epoch.number {
            self.in_force.store(Arc::new(View::of(&self.all, self.database, epoch, self.sharing)));
        }
    }

    /// Goes on with a later epoch of others, or begins one. Fails as DrivesLost when the copies that are left are not enough; then nothing was
    /// changed.
    pub(crate) fn change(&self, mut wanted: Wanted) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut own, mut rival, mut cause) = (0, Rival::new(), None);
        for _ in 0..ATTEMPTS {
            let found = self.survey();
            if let Some(epoch) = Copies::in_force(&found)
                && wanted.suits(&epoch)
            {
                self.adopt(epoch);
                return Ok(());
            }
            let (base, highest) =
                self.base(&found, wanted).map_err(|error| because(error, cause.as_ref()))?;
            // Another process may be at work.
            if highest > base.number && highest > own && rival.is_waited_for(highest) {
                os::pause(PAUSE);
                continue;
            }
            if self.access == Access::Read {
                let what = "a copy is lost, and nobody who may write has gone on without it";
                return Err(Error::new(ErrorKind::DrivesLost, what));
            }
            let members =
                self.next_members(&found, &base, wanted).map_err(|error| because(error, cause.as_ref()))?;
            let lost = base.lost.union(wanted.lost).without(wanted.with);
            let epoch = Epoch { number: highest + 1, id: os::random_uuid(), members, lost };
            own = epoch.number;
            match self.try_begin(&epoch, &base) {
                Ok(()) => {
                    self.adopt(epoch);
                    self.forget_before(&epoch);
                    return Ok(());
                }
                Err(Stopped::Raced) => {
                    // The number may be another one's, who is waited for.
                    own = 0;
                    os::pause(Duration::from_micros(1 + crate::random_u64() % 20_000));
                }
                Err(Stopped::By(index, error)) => {
                    wanted.without.insert(index);
                    cause.get_or_insert(error);
                }
                Err(Stopped::Error(error)) => return Err(error),
            }
        }
        let what = "the copies of the database change too quickly: try again";
        Err(Error::new(ErrorKind::Locked, what))
    }

    /// The last epoch that may have been in force, and the highest number in use.
    pub(super) fn base(&self, found: &[Option<Found>], wanted: Wanted) -> Result<(Epoch, u64)> {
        let usable = || found.iter().enumerate().filter(|(index, _)| !wanted.without.contains(*index));
        let active = usable().filter_map(|(_, found)| found.as_ref()?.active);
        let base = active.max_by_key(|epoch| epoch.number);
        let highest = found.iter().flatten().map(|found| found.newest.number).max();
        base.zip(highest).ok_or_else(|| self.drives_lost(&wanted, CopySet::default()))
    }

    /// Those of the last epoch that are left, and who was brought up to date. One that has lost what it had does not count: it may have joined an epoch
    /// that it knows no more of.
    fn next_members(&self, found: &[Option<Found>], base: &Epoch, wanted: Wanted) -> Result<CopySet> {
        let has_memory = |index: &usize| {
            let found = found.get(*index).and_then(Option::as_ref);
            found.is_some_and(|found| found.active.is_some()) || is_planted(Bug::CountEmptyCopies)
        };
        let out = wanted.without.union(wanted.lost);
        let candidates = base.members.union(wanted.with).without(out);
        let members: CopySet =
            candidates.iter().filter(|index| wanted.with.contains(*index) || has_memory(index)).collect();
        let counted: CopySet = members.iter().filter(has_memory).collect();
        let is_enough = counted.is_quorum(self.all.len(), base.lost.union(wanted.lost));
        if is_enough || is_planted(Bug::MembersWithoutQuorum) && !members.is_empty() {
            Ok(members)
        } else {
            Err(self.drives_lost(&wanted, counted))
        }
    }

    pub(crate) fn drives_lost(&self, wanted: &Wanted, left: CopySet) -> Error {
        let name = |set: CopySet| {
            let paths = set.iter().filter_map(|index| self.all.get(index));
            let names: Vec<String> =
                paths.map(|copy| format!("{} ({})", copy.index, copy.path.display())).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let gone = CopySet::all(self.all.len()).without(left).without(wanted.lost);
        let what = format!(
            "of the {} copies of the database only these can be used: {}; bring back the others: {}; or, where they are gone for good, \
             reinstate and say that they are lost",
            self.all.len(),
            name(left),
            name(gone)
        );
        Error::new(ErrorKind::DrivesLost, what)
    }

    /// What a later attempt has removed meanwhile is no failure of a copy.
    fn try_begin(&self, epoch: &Epoch, base: &Epoch) -> std::result::Result<(), Stopped> {
        let begun = self.begin(epoch, base);
        if let Err(Stopped::By(index, _)) = &begun
            && let Ok(Some(newest)) = epoch::newest(&self.all[*index].log.path)
            && newest > epoch.number
        {
            return Err(Stopped::Raced);
        }
        begun
    }

    fn begin(&self, epoch: &Epoch, base: &Epoch) -> std::result::Result<(), Stopped> {
        let members = || self.all.iter().filter(|copy| epoch.members.contains(copy.index));
        for copy in members() {
            if !epoch::seal(&copy.log, epoch).map_err(|error| stopped(copy, error))? {
                return Err(Stopped::Raced);
            }
        }
        let sealed = os::uptime();
        self.is_still_newest(epoch)?;
        self.is_still_base(epoch, base)?;
        let source = self.longest(epoch, base)?;
        let log = Log::read(&source.slots, source.last).map_err(|error| stopped(source.copy, error))?;
        // Files that were finished before the seal; whoever finishes one later sees the seal, and gives it to all.
        for copy in members().filter(|copy| !base.members.contains(copy.index)) {
            reinstate::copy_files(source.copy, copy, &mut |_| Ok(()))
                .map_err(|error| stopped(copy, error))?;
        }
        for copy in members() {
            let own = SlotFolder::of_epoch(copy.log.clone(), self.database, base.number);
            log.gather(copy, &own, epoch).map_err(|error| stopped(copy, error))?;
        }
        // By then nobody trusts a look from before the seal any more.
        if !is_planted(Bug::BeginWithinLease) {
            os::pause(LEASE.saturating_sub(os::uptime().saturating_sub(sealed)));
        }
        for copy in members() {
            Log::name(copy, epoch).map_err(|error| stopped(copy, error))?;
        }
        self.is_still_newest(epoch)
    }

    fn is_still_newest(&self, epoch: &Epoch) -> std::result::Result<(), Stopped> {
        for copy in self.all.iter().filter(|copy| epoch.members.contains(copy.index)) {
            match epoch::newest(&copy.log.path) {
                Ok(Some(newest)) if newest == epoch.number => {}
                Ok(_) => return Err(Stopped::Raced),
                Err(error) => return Err(stopped(copy, error)),
            }
        }
        Ok(())
    }

    /// Looked at after the seal: what becomes active later finds that it is sealed.
    fn is_still_base(&self, epoch: &Epoch, base: &Epoch) -> std::result::Result<(), Stopped> {
        for copy in self.all.iter().filter(|copy| epoch.members.contains(copy.index)) {
            let active = epoch::active(&copy.log.path).map_err(|error| stopped(copy, error))?;
            if active.last().is_some_and(|active| *active > base.number) {
                return Err(Stopped::Raced);
            }
        }
        Ok(())
    }

    /// The copy with the longest log of the last epoch, and where it ends. Read after the seal: what is decided is in it.
    fn longest(&self, epoch: &Epoch, base: &Epoch) -> std::result::Result<Source<'_>, Stopped> {
        let mut longest: Option<Source<'_>> = None;
        for copy in self.all.iter().filter(|copy| epoch.members.contains(copy.index)) {
            let has_it = epoch::active(&copy.log.path).map(|active| active.contains(&base.number));
            if !has_it.map_err(|error| stopped(copy, error))? {
                continue;
            }
            let slots = SlotFolder::of_epoch(copy.log.clone(), self.database, base.number);
            let last = slots.end().map_err(|error| stopped(copy, error))?;
            if longest.as_ref().is_none_or(|longest| last > longest.last) {
                longest = Some(Source { copy, slots, last });
            }
        }
        longest.ok_or(Stopped::Raced)
    }

    /// What can be removed no more is removed with the next change.
    fn forget_before(&self, epoch: &Epoch) {
        for copy in self.all.iter().filter(|copy| epoch.members.contains(copy.index)) {
            let _ = epoch::remove_before(&copy.log.path, epoch.number);
        }
    }
}

/// Where a new epoch takes its log from.
struct Source<'a> {
    copy: &'a CopyFolder,
    slots: SlotFolder,
    last: Seq,
}

/// The error, with what led to it.
pub(super) fn because(error: Error, cause: Option<&Error>) -> Error {
    match cause {
        Some(cause) => {
            let what = format!("{error} ({cause})");
            error.with_message(what)
        }
        None => error,
    }
}

fn stopped(copy: &CopyFolder, error: Error) -> Stopped {
    if is_failure(&error) { Stopped::By(copy.index, error) } else { Stopped::Error(error) }
}
