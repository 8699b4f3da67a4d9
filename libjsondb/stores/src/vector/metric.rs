//! How similarity is measured. Whatever the metric, a higher score is better, and rows are ranked by a product with the query plus something of their own.

use super::heap::Stored;
use super::kernel::{cosine, distance_squared_bytes, dot_bytes, make_unit};
use super::types::Metric;

impl Metric {
    /// The form of a vector that codes and centroids are made of.
    pub(super) fn prepare(self, vector: &mut [f32]) {
        if self == Metric::Cosine {
            make_unit(vector);
        }
    }

    /// What is added to the product of a query and a prepared vector of this squared length to rank it.
    pub(super) fn bias(self, norm_squared: f32) -> f32 {
        match self {
            Metric::Cosine | Metric::Dot => 0.0,
            Metric::L2 => -norm_squared / 2.0,
        }
    }

    /// The score of a stored vector, for a prepared query.
    pub(super) fn score(self, query: &[f32], stored: Stored<'_>) -> f32 {
        match self {
            Metric::Cosine if stored.norm.is_normal() && (1e-15..1e15).contains(&stored.norm) => {
                // Adding zero turns -0.0 into 0.0, so that equal scores are equal bits.
                (dot_bytes(query, stored.bytes) / stored.norm).clamp(-1.0, 1.0) + 0.0
            }
            Metric::Cosine => {
                let vector = stored.to_vec();
                cosine(query, &vector, super::kernel::norm(&vector))
            }
            Metric::Dot => dot_bytes(query, stored.bytes) + 0.0,
            Metric::L2 => -distance_squared_bytes(query, stored.bytes).sqrt() + 0.0,
        }
    }

    /// What a score is in the numbers that estimates rank by. `query_squared` is the squared length of the prepared query.
    pub(super) fn rank(self, score: f32, query_squared: f32) -> f32 {
        match self {
            Metric::Cosine | Metric::Dot => score,
            Metric::L2 => (query_squared - score * score) / 2.0,
        }
    }
}
