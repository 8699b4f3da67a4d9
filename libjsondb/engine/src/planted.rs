//! Bugs that can be switched on, to show that the campaigns find them (`scripts/prove --planted`).
//!
//! Only builds with the feature `planted-bugs` have them; no library that anybody uses is built so. `SOP_BUG` names the one to switch on.

/// A bug that some campaign must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A commit is told before its bytes are synced.
    AcknowledgeBeforeSync,
    /// Others are told that commits are durable before the sync.
    DurableMarkBeforeSync,
    /// A sync is taken to cover what others wrote while it ran.
    CoverLaterFrames,
    /// What a sync that failed was to cover is left to the next one.
    TrustFailedSync,
    /// A segment is named in the log before it is synced.
    NameSegmentBeforeSync,
    /// What lies in runs is not compared with what others read and wrote.
    SkipRunValidation,
    /// Checksums of frames, pages and values are not compared.
    SkipCrc,
    /// Scanned ranges are not compared with later commits.
    SkipRangeValidation,
    /// Log files go at the checkpoint that holds their commits, not one later.
    TrimLogOneCheckpointEarly,
    /// Log files go before the checkpoint that holds their commits is in the log.
    TrimLogBeforeCheckpoint,
    /// A slot is taken for one's own whether or not the boundary has passed it.
    SkipBoundary,
    /// A name that was given is believed to be that of one's own file.
    SkipSlotId,
    /// Slots go as soon as a checkpoint holds them, and the boundary with them.
    TrimWithoutLag,
    /// The boundary is moved after the slots are removed.
    RemoveBeforeBoundary,
    /// Files of the dead go without a fence.
    RemoveWithoutFence,
    /// A commit is told once its slot is on the first copy.
    LinkOnHomeOnly,
    /// Copies go on without the others, however few they are.
    MembersWithoutQuorum,
    /// A copy that has lost what was on it counts among those that are enough.
    CountEmptyCopies,
    /// What a copy holds is believed, whatever the others have gone on to.
    BelieveStaleCopy,
    /// A look at all copies is good for ever.
    LeaseWithoutEnd,
    /// A commit is told before its byte is set.
    AcknowledgeUntold,
    /// An epoch begins while looks from before its seal are good.
    BeginWithinLease,
    /// A process that was taken for dead goes on with what it had begun.
    IgnoreFence,
    /// A segment is taken for written with more shards missing than may be lost.
    AcknowledgeWithTooFewShards,
    /// Checksums of the units of shards are not compared.
    SkipUnitCrc,
}

/// Whether the bug is switched on.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is_planted(bug: Bug) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("SOP_BUG").ok());
    chosen.as_deref() == Some(format!("{bug:?}").as_str())
}

/// Whether the bug is switched on: never.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is_planted(_bug: Bug) -> bool {
    false
}
