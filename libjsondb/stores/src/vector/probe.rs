//! Which clusters a query searches, and in which order.

use super::centroids::Centroids;
use super::kernel::dot;
use super::layout::ClusterId;

/// Clusters searched at least.
const PROBES_MIN: usize = 8;
/// Rows looked at before a query is content, per square root of all rows: what a recall of 0.95 takes grows
/// about so from 20,000 to 117,000 sentence embeddings of 384 dimensions.
const ROWS_PER_ROOT: u64 = 20;
/// Rows looked at for every hit wanted.
const ROWS_PER_HIT: u64 = 10;

/// How far a query goes before it is content with what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    pub(super) clusters: usize,
    pub(super) rows: u64,
}

impl Effort {
    /// What the caller asked for, or what gives recall 0.95 on clustered data.
    pub(super) fn new(nprobe: Option<u32>, rows: u64, k: usize) -> Self {
        match nprobe {
            Some(clusters) => Self { clusters: clusters.max(1) as usize, rows: 0 },
            None => {
                let rows = (rows.isqrt() * ROWS_PER_ROOT).max((k as u64).saturating_mul(ROWS_PER_HIT));
                Self { clusters: PROBES_MIN, rows }
            }
        }
    }
}

/// The order in which one query goes through the clusters, and how far it has come.
pub(super) struct Probe {
    order: Vec<ClusterId>,
    next: usize,
    rows_seen: u64,
    effort: Effort,
}

impl Probe {
    /// All clusters of a query at once.
    pub(super) fn all(clusters: Vec<ClusterId>) -> Self {
        let effort = Effort { clusters: clusters.len(), rows: 0 };
        Self { order: clusters, next: 0, rows_seen: 0, effort }
    }

    /// Clusters by the similarity of their centres; rows without a cluster come first, they may be anywhere.
    pub(super) fn nearest_first(unit_query: &[f32], centroids: &[&Centroids], effort: Effort) -> Self {
        let mut by_similarity: Vec<(f32, ClusterId)> = Vec::new();
        for centroids in centroids {
            let similarities = centroids.centres.rows().map(|centre| dot(centre, unit_query));
            by_similarity.extend(similarities.zip(centroids.clusters.iter().copied()));
        }
        by_similarity.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut order = vec![ClusterId::UNCLUSTERED];
        order.extend(by_similarity.into_iter().map(|(_, cluster)| cluster));
        let effort = Effort { clusters: effort.clusters + 1, ..effort };
        Self { order, next: 0, rows_seen: 0, effort }
    }

    /// The clusters to search now.
    pub(super) fn advance(&mut self) -> &[ClusterId] {
        let step = if self.next == 0 {
            self.effort.clusters
        } else if self.rows_seen < self.effort.rows {
            let mean = (self.rows_seen / self.next as u64).max(1);
            usize::try_from((self.effort.rows - self.rows_seen).div_ceil(mean)).unwrap_or(usize::MAX)
        } else {
            // Content, but without enough hits: the further it goes the longer its steps, so that rounds stay
            // few.
            self.next
        };
        let start = self.next;
        self.next = start.saturating_add(step).min(self.order.len());
        &self.order[start..self.next]
    }

    pub(super) fn saw_rows(&mut self, count: u64) {
        self.rows_seen += count;
    }

    /// True when enough rows were looked at to trust the best of them.
    pub(super) fn is_content(&self) -> bool {
        self.rows_seen >= self.effort.rows || self.is_exhausted()
    }

    /// True when no cluster is left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.next >= self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(count: u32) -> Vec<ClusterId> {
        (0..count).map(|index| ClusterId::automatic(1, index)).collect()
    }

    #[test]
    fn steps_reach_the_rows_asked_for_then_double() {
        let mut probe = Probe::all(clusters(1_000));
        probe.effort = Effort { clusters: 8, rows: 1_000 };
        assert_eq!(probe.advance().len(), 8);
        probe.saw_rows(400);
        assert!(!probe.is_content());
        assert_eq!(probe.advance().len(), 12);
        probe.saw_rows(600);
        assert!(probe.is_content());
        assert_eq!(probe.advance().len(), 20);
        assert_eq!(probe.advance().len(), 40);
        while !probe.is_exhausted() {
            probe.advance();
        }
        assert_eq!(probe.next, 1_000);
        assert!(probe.advance().is_empty());
    }

    #[test]
    fn empty_clusters_do_not_stop_the_search() {
        let mut probe = Probe::all(clusters(100));
        probe.effort = Effort { clusters: 8, rows: 50 };
        probe.advance();
        assert!(!probe.is_content());
        probe.advance();
        assert!(probe.next >= 58);
    }

    #[test]
    fn effort_follows_rows_and_k() {
        assert_eq!(Effort::new(None, 20_000, 10), Effort { clusters: 8, rows: 2_820 });
        assert_eq!(Effort::new(None, 20_000, 500), Effort { clusters: 8, rows: 5_000 });
        assert_eq!(Effort::new(Some(0), 20_000, 10), Effort { clusters: 1, rows: 0 });
    }
}
