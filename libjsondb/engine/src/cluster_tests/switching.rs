//! Several machines open the folder as Standalone and as Clustered in turn, while calls fail and machines sleep: it goes from slots to files and
//! back as it comes, some switches die or come too late, and nothing that was acknowledged is lost.

use std::path::Path;
use std::time::Duration;

use super::process::{Contents, FOLDER, contents, is_to_be_expected};
use crate::os::simulated::{Faults, pause, survive};
use crate::random::Random;
use crate::{Database, ErrorKind, Mode, Options, Placement, Result};

/// How often each process opens the folder.
const ROUNDS: u64 = 4;
const STORE: &str = "switched";

/// What is the same for all processes.
pub(super) struct Switching<'a> {
    pub(super) options: &'a Options,
    pub(super) faults: Faults,
    /// What was there before, and stays.
    pub(super) expected: &'a Contents,
    pub(super) end: u64,
    /// A log of files relies on locks, which machines that sleep lose, and on what was written being there for others, which a client of a
    /// file server drops when its disk is full: elsewhere it is opened and read, and no more.
    pub(super) is_like_local: bool,
}

impl Switching<'_> {
    /// Opens the folder a few times. The keys of what was acknowledged.
    pub(super) fn run(&self, process: u64, random: &mut Random) -> Vec<u64> {
        let mut stored = Vec::new();
        for round in 0..ROUNDS {
            survive(|| {
                let is_shared = random.one_in(2);
                if let Err(error) = self.visit(is_shared, process * ROUNDS + round, random, &mut stored) {
                    // Others have it open in the other way, or took it while this machine slept.
                    let is_refused = error.kind() == ErrorKind::Locked;
                    let is_taken = !is_shared && !self.is_like_local && error.is_missing_file();
                    let is_expected = is_refused || is_taken || is_to_be_expected(&error, self.faults.any());
                    assert!(is_expected, "an error that must not be: {:?}: {error}", error.kind());
                }
            });
            survive(|| pause(Duration::from_millis(1 + random.below(20_000))));
        }
        stored
    }

    fn visit(&self, is_shared: bool, key: u64, random: &mut Random, stored: &mut Vec<u64>) -> Result<()> {
        let folder = Path::new(FOLDER);
        let database = if is_shared {
            Database::open_shared_alone(folder, self.options)?
        } else {
            Database::open_alone(folder, self.options)?
        };
        self.check(&database, stored)?;
        let may_write = is_shared || self.is_like_local;
        if may_write {
            put(&database, key)?;
            stored.push(key);
            if random.one_in(3) {
                database.checkpoint()?;
            }
        }
        pause(Duration::from_millis(1 + random.below(200)));
        if may_write && random.one_in(2) { database.close() } else { Ok(()) }
    }

    /// Everything is there that was before, and all of these.
    pub(super) fn check(&self, database: &Database, stored: &[u64]) -> Result<()> {
        let found = contents(database, self.end)?;
        assert_eq!((&found.events, found.sum), (&self.expected.events, self.expected.sum));
        let mut transaction = database.begin(Mode::Read)?;
        let store = transaction.store(STORE)?;
        for key in stored {
            let Some((store, _)) = store else { panic!("lost: the store, with {key}") };
            let value = transaction.get(store, &key.to_be_bytes())?;
            assert!(value.is_some(), "lost: {key}, which was acknowledged in the middle of switches");
        }
        Ok(())
    }
}

fn put(database: &Database, key: u64) -> Result<()> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store(STORE, b"")?;
    transaction.put(store, &key.to_be_bytes(), b"", Placement::Auto)?;
    transaction.commit().map(drop)
}
