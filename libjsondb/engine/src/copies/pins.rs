//! This process's pin, on every copy in force: whoever removes files finds it on one of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Copies;
use crate::os;
use crate::pin::{self, Pin, PinSurvey, Sharing};
use crate::{Error, ErrorKind, Result, Seq};

/// See the module.
pub(crate) enum Pins {
    /// Of a database that is one folder.
    Single(Box<Pin>),
    Copies(CopyPins),
}

/// One on each copy.
pub(crate) struct CopyPins {
    copies: Arc<Copies>,
    sharing: Sharing,
    pins: Mutex<PinsByCopy>,
}

struct PinsByCopy {
    /// The epoch whose copies they are on.
    epoch: u64,
    pins: BTreeMap<usize, Pin>,
}

impl From<Pin> for Pins {
    fn from(pin: Pin) -> Pins {
        Pins::Single(Box::new(pin))
    }
}

impl Pins {
    /// As [`Pin::create`], on every copy in force.
    pub(crate) fn create(copies: &Arc<Copies>, sharing: Sharing) -> Result<Pins> {
        let pins = CopyPins {
            copies: Arc::clone(copies),
            sharing,
            pins: Mutex::new(PinsByCopy { epoch: 0, pins: BTreeMap::new() }),
        };
        pins.follow(&mut pins.lock());
        if pins.lock().pins.is_empty() {
            let copy = copies.first();
            return Pin::create(&copy.pins(), &copy.log.staging, copy.log.owner, sharing).map(Pins::from);
        }
        Ok(Pins::Copies(pins))
    }

    /// As [`Pin::renew`].
    pub(crate) fn renew(&self) -> Result<()> {
        self.each(Pin::renew)
    }

    /// As [`Pin::enter`].
    pub(crate) fn enter(&self, oldest: Seq) -> Result<()> {
        self.each(|pin| pin.enter(oldest))
    }

    /// As [`Pin::leave`].
    pub(crate) fn leave(&self) -> Result<()> {
        self.each(Pin::leave)
    }

    /// As [`Pin::publish`].
    pub(crate) fn publish(&self, oldest: Seq) -> Result<()> {
        self.each(|pin| pin.publish(oldest))
    }

    /// One that can be written is enough.
    fn each(&self, act: impl Fn(&Pin) -> Result<()>) -> Result<()> {
        let pins = match self {
            Pins::Single(pin) => return act(pin),
            Pins::Copies(pins) => pins,
        };
        let mut by_copy = pins.lock();
        pins.follow(&mut by_copy);
        let mut done = Err(Error::new(ErrorKind::DrivesLost, "no copy can be written"));
        for pin in by_copy.pins.values() {
            let acted = act(pin);
            if done.is_err() {
                done = acted;
            }
        }
        done
    }
}

impl CopyPins {
    fn lock(&self) -> MutexGuard<'_, PinsByCopy> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes pins on copies that have joined, like those there are; forgets those on copies that are out.
    fn follow(&self, by_copy: &mut PinsByCopy) {
        let view = self.copies.view();
        if by_copy.epoch == view.number() {
            return;
        }
        by_copy.epoch = view.number();
        let members = view.members_set();
        for copy in self.copies.members() {
            if by_copy.pins.contains_key(&copy.index) {
                continue;
            }
            // What cannot be written here is found out by who writes there next.
            if let Ok(pin) = Pin::create(&copy.pins(), &copy.log.staging, copy.log.owner, self.sharing) {
                if let Some(other) = by_copy.pins.values().next() {
                    let _ = pin.take_over(other);
                }
                by_copy.pins.insert(copy.index, pin);
            }
        }
        by_copy.pins.retain(|index, _| members.contains(*index));
    }
}

/// As [`pin::survey`], over all copies in force: a process that is alive on one of them is.
pub(crate) fn survey(copies: &Copies, own: u64, now: Option<Duration>) -> Result<PinSurvey> {
    let mut all = PinSurvey::default();
    let mut seen = Err(Error::new(ErrorKind::DrivesLost, "no copy can be read"));
    for copy in copies.members() {
        match pin::survey(&copy.pins(), own, now) {
            Ok(found) => {
                all.add(found);
                seen = Ok(());
            }
            Err(error) if super::is_failure(&error) => {}
            Err(error) => return Err(error),
        }
    }
    seen.map(|()| all)
}

/// As [`survey`]; waits a little for those who do not say yet who they are.
pub(crate) fn survey_to_open(copies: &Copies, own: u64, now: Option<Duration>) -> Result<PinSurvey> {
    let mut found = survey(copies, own, now)?;
    for _ in 0..pin::SAY_ATTEMPTS {
        if found.alive.iter().all(|(owner, holder)| *owner == own || holder.is_some()) {
            break;
        }
        os::pause(pin::SAY_PAUSE);
        found = survey(copies, own, now)?;
    }
    Ok(found)
}
