//! Compacting: checkpoints, one after the other, until no segment is worth emptying.

use crate::collect::{self, RELOCATE_BYTES_MAX};
use crate::database::Inner;
use crate::info::DiskUse;
use crate::log::frame::{FrameKind, HEADER_LEN};
use crate::log::record;
use crate::manifest::Manifest;
use crate::{Database, Durability, Progress, Result};

/// What compacting came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Size before.
    pub before: DiskUse,
    /// Size after. What a snapshot of any process still reads is removed later, by the checkpoint that follows it.
    pub after: DiskUse,
    /// Checkpoints made.
    pub checkpoints: u64,
}

impl Database {
    /// Moves everything committed into the tree, and what is live out of segments that are mostly garbage, until there is none
    /// left; removes what nobody needs. Others may read and write meanwhile.
    pub fn compact(&self, progress: &mut Progress<'_>) -> Result<Compaction> {
        self.inner.compact(progress)
    }
}

impl Inner {
    fn compact(&self, progress: &mut Progress<'_>) -> Result<Compaction> {
        self.check_writable()?;
        let before = self.disk_use()?;
        let manifest = self.manifest();
        // Each checkpoint moves this much, except the last ones; others may add to it meanwhile.
        let passes_max =
            8 + manifest.segments.values().map(|usage| usage.live).sum::<u64>() / RELOCATE_BYTES_MAX;
        let mut left = bytes_to_move(&manifest);
        progress.expect(left);
        let mut checkpoints = 0;
        loop {
            progress.report()?;
            // The one after the last that moves anything removes the log that the last one took in.
            let is_last = left == 0 && checkpoints > 0 || checkpoints >= passes_max;
            self.commit_nothing()?;
            self.checkpoint_now()?;
            checkpoints += 1;
            if is_last {
                break;
            }
            let now = bytes_to_move(&self.manifest());
            progress.advance(left.saturating_sub(now))?;
            left = now;
        }
        Ok(Compaction { before, after: self.disk_use()?, checkpoints })
    }

    fn manifest(&self) -> std::sync::Arc<Manifest> {
        std::sync::Arc::clone(&self.current.load().manifest)
    }

    /// A commit without writes, when there is none since the last checkpoint: so that the next one has a number of its own,
    /// by which readers of the one before are told from its own.
    fn commit_nothing(&self) -> Result<()> {
        if let Some(shared) = &self.shared {
            return self.append_nothing(shared);
        }
        let mut log = self.lock_log(|| Ok(()))?;
        let position = {
            let replica = self.lock_replica();
            if replica.position.last_seq() > replica.manifest().name.checkpoint {
                return Ok(());
            }
            replica.file()?.clone()
        };
        let mut buffer = vec![0; HEADER_LEN];
        record::encode(&[], 0, std::iter::empty(), std::iter::empty(), &mut buffer);
        log.append(&position, FrameKind::Commit, 1, buffer, Durability::Full)?;
        log.make_durable()
    }
}

/// Live bytes in the segments that the next checkpoints empty.
fn bytes_to_move(manifest: &Manifest) -> u64 {
    let victims = collect::choose_victims(manifest, u64::MAX);
    victims.iter().filter_map(|id| manifest.segments.get(id)).map(|usage| usage.live).sum()
}
