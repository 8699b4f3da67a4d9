//! Reading without asking all copies, where all processes are on one machine.
//!
//! Beside the slots of the last copy lie files with a byte for each slot. It is set before anybody is told of what is in the slot. Who looked at all copies
//! a moment ago asks for the byte of the next slot only. Why this is enough, whatever fails: K10 in libjsondb/docs/protocol.md.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::os::{self, File};
use crate::planted::{Bug, is_planted};
use crate::shared::folder::{SLOTS_PER_FOLDER, SlotFolder};
use crate::{Result, Seq};

/// So long a look at all copies is good for. Who cannot set a byte, or begins an epoch, waits as long before anybody is told.
pub(crate) const LEASE: Duration = Duration::from_millis(100);

/// Of the copies of one epoch.
pub(crate) struct Lease {
    /// Of the last copy.
    slots: SlotFolder,
    looked: ArcSwapOption<Looked>,
    /// The file that was needed last.
    told: Mutex<Option<Arc<ToldFile>>>,
}

/// A look at all copies that found the end of the log.
struct Looked {
    /// When it began, by [`os::uptime`], which is the same for all processes.
    began: Duration,
    /// The slot that was not there.
    next: Seq,
    told: Arc<ToldFile>,
}

/// The bytes of as many slots as a folder has.
struct ToldFile {
    number: u64,
    file: File,
}

impl ToldFile {
    /// Whether anybody may have been told of the slot.
    fn has(&self, slot: Seq) -> bool {
        let mut byte = [0];
        let read = self.file.read_at(&mut byte, slot.0 % SLOTS_PER_FOLDER);
        read.is_err() || byte != [0]
    }
}

impl Lease {
    pub(super) fn new(slots: SlotFolder) -> Lease {
        Lease { slots, looked: ArcSwapOption::empty(), told: Mutex::default() }
    }

    /// True when nobody had been told of slot `next`, or of a later epoch, when this was called: the log ends before it.
    pub(crate) fn is_end(&self, next: Seq) -> bool {
        // Before the byte is read: however long that takes, it was not set when the lease was good.
        let now = os::uptime();
        let looked = self.looked.load();
        let Some(looked) = looked.as_ref().filter(|looked| looked.next == next) else { return false };
        let is_good = now.saturating_sub(looked.began) < LEASE || is_planted(Bug::LeaseWithoutEnd);
        is_good && !looked.told.has(next)
    }

    /// All copies were looked at: `next` was not there, and the epoch was in force.
    pub(crate) fn renew(&self, began: Duration, next: Seq) {
        // Where there is no such file, all copies are asked each time.
        if let Ok(told) = self.file(next.0 / SLOTS_PER_FOLDER) {
            self.looked.store(Some(Arc::new(Looked { began, next, told })));
        }
    }

    /// The next look asks all copies.
    pub(crate) fn end(&self) {
        self.looked.store(None);
    }

    /// To be called before anybody is told of these slots, which are decided.
    pub(crate) fn tell(&self, slots: Range<Seq>) {
        if !is_planted(Bug::AcknowledgeUntold) && self.set(slots).is_err() {
            // By then no look from before is good any more.
            os::pause(LEASE);
        }
    }

    fn set(&self, slots: Range<Seq>) -> Result<()> {
        let mut first = slots.start.0;
        while first < slots.end.0 {
            let (number, offset) = (first / SLOTS_PER_FOLDER, first % SLOTS_PER_FOLDER);
            let count = (slots.end.0 - first).min(SLOTS_PER_FOLDER - offset);
            self.file(number)?.file.write_all_at(&vec![1; count as usize], offset)?;
            first += count;
        }
        Ok(())
    }

    fn file(&self, number: u64) -> Result<Arc<ToldFile>> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = told.as_ref().filter(|open| open.number == number) {
            return Ok(Arc::clone(open));
        }
        let file = File::open_or_create(&self.slots.told_path(number))?;
        Ok(Arc::clone(told.insert(Arc::new(ToldFile { number, file }))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogFolder;

    /// As of two processes.
    fn two() -> (tempfile::TempDir, Lease, Lease) {
        let root = tempfile::tempdir().unwrap();
        let log = LogFolder { path: root.path().to_owned(), staging: root.path().to_owned(), owner: 1 };
        let slots = SlotFolder::new(log, uuid::Uuid::nil());
        (root, Lease::new(slots.clone()), Lease::new(slots))
    }

    /// A look that stays good while a test runs, however slowly.
    fn late() -> Duration {
        os::uptime() + Duration::from_secs(3600)
    }

    #[test]
    fn a_look_is_good_until_somebody_is_told_of_the_next_slot() {
        let (_root, reader, writer) = two();
        assert!(!reader.is_end(Seq(7)), "nothing was looked at yet");
        reader.renew(late(), Seq(7));
        assert!(reader.is_end(Seq(7)));
        assert!(!reader.is_end(Seq(6)) && !reader.is_end(Seq(8)));
        writer.tell(Seq(5)..Seq(7));
        assert!(reader.is_end(Seq(7)));
        writer.tell(Seq(7)..Seq(8));
        assert!(!reader.is_end(Seq(7)));
        reader.renew(late(), Seq(8));
        assert!(reader.is_end(Seq(8)));
        reader.end();
        assert!(!reader.is_end(Seq(8)));
    }

    #[test]
    fn a_look_is_good_for_its_time_only() {
        let (_root, reader, _) = two();
        let now = os::uptime();
        assert!(now > LEASE, "the machine has just started");
        reader.renew(now.checked_sub(LEASE).unwrap(), Seq(1));
        assert!(!reader.is_end(Seq(1)));
    }

    #[test]
    fn slots_of_several_folders_are_told_at_once() {
        let (_root, reader, writer) = two();
        let per_folder = SLOTS_PER_FOLDER;
        writer.tell(Seq(per_folder - 2)..Seq(2 * per_folder + 3));
        for (slot, is_told) in [
            (per_folder - 3, false),
            (per_folder - 2, true),
            (per_folder - 1, true),
            (per_folder, true),
            (2 * per_folder - 1, true),
            (2 * per_folder + 2, true),
            (2 * per_folder + 3, false),
        ] {
            reader.renew(late(), Seq(slot));
            assert_eq!(reader.is_end(Seq(slot)), !is_told, "{slot}");
        }
    }

    #[test]
    fn a_file_that_lost_its_name_tells_those_who_have_it_open() {
        let (root, reader, writer) = two();
        reader.renew(late(), Seq(1));
        writer.renew(late(), Seq(1));
        std::fs::remove_file(root.path().join("000000000000.told")).unwrap();
        writer.tell(Seq(1)..Seq(2));
        assert!(!reader.is_end(Seq(1)));
    }

    #[test]
    fn who_cannot_tell_waits_until_no_look_from_before_is_good() {
        let (root, reader, writer) = two();
        reader.renew(os::uptime(), Seq(1));
        std::fs::remove_dir_all(root.path()).unwrap();
        writer.tell(Seq(1)..Seq(2));
        assert!(!reader.is_end(Seq(1)));
    }
}
