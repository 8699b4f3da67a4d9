//! Index transactions.

use engine::CancelToken;

use super::{Stats, VectorStore};
use crate::Result;

impl VectorStore {
    /// Builds the index anew.
    pub fn optimize(&self, _cancel: &CancelToken) -> Result<()> {
        Ok(())
    }

    /// How rows are spread over clusters.
    pub fn stats(&self, _cancel: &CancelToken) -> Result<Stats> {
        Ok(Stats { count: 0, centroids: Vec::new(), skew: 0.0, usage_mode: 2, dimension: 0 })
    }
}
