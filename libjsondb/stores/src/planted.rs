//! Bugs that can be switched on, to show that the campaigns find them (`scripts/prove --planted`), as in the engine.

/// A bug that some campaign must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A drain leaves its first row out of the postings.
    DrainSkipsPosting,
    /// Checksums of vectors are not compared.
    SkipVectorCrc,
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
