//! Immutable files.
/// Name of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId {
    pub(crate) owner: u64,
    pub(crate) number: u64,
}
