//! What all work on one vector store needs to know of it.

use std::ops::Range;
use std::sync::Arc;

use engine::StoreId;

use super::heap::Stored;
use super::kernel::{dot, norm};
use super::rabitq::{self, Factors, Rotation};
use super::state::Config;
use super::types::Metric;
use crate::{Error, ErrorCode, Result};

/// Lengths by which vectors can be divided as they are.
const USUAL_NORMS: Range<f32> = 1e-15..1e15;

/// A store, its configuration, and the rotation that its codes are made with.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) store: StoreId,
    pub(super) config: Config,
    pub(super) rotation: Arc<Rotation>,
    /// Tells this store from all others, copies of its folder included.
    pub(super) home: u64,
}

/// Products of longer vectors are not numbers any more.
const LENGTH_MAX: f64 = 1e15;

impl Shape {
    /// Numbers per vector.
    pub(super) fn dimension(&self) -> usize {
        self.config.dimension as usize
    }

    /// Fails for a vector that is too long for the metric.
    pub(super) fn check_length(&self, vector: &[f32], what: &str) -> Result<()> {
        let length = norm(vector);
        if self.config.metric == Metric::Cosine || length <= LENGTH_MAX {
            return Ok(());
        }
        let message =
            format!("{what}: its length is {length:e}; with this metric it is at most {LENGTH_MAX:e}");
        Err(Error::new(ErrorCode::Validation, message))
    }

    /// Words of a code.
    pub(super) fn words(&self) -> usize {
        self.rotation.padded() / 64
    }

    /// A vector in the form that codes and centroids are made of, not rotated yet.
    pub(super) fn prepared(&self, vector: &[f32]) -> Vec<f32> {
        let mut prepared = vector.to_vec();
        self.config.metric.prepare(&mut prepared);
        prepared
    }

    /// A stored vector prepared and rotated.
    pub(super) fn rotated_stored(&self, stored: Stored<'_>) -> Vec<f32> {
        let mut vector = stored.to_vec();
        if self.config.metric == Metric::Cosine && USUAL_NORMS.contains(&stored.norm) {
            let inverse = 1.0 / stored.norm;
            vector.iter_mut().for_each(|number| *number *= inverse);
        } else {
            self.config.metric.prepare(&mut vector);
        }
        let mut rotated = vec![0.0; self.rotation.padded()];
        self.rotation.apply(&vector, &mut rotated);
        rotated
    }

    /// The code of a rotated vector relative to a rotated centroid.
    pub(super) fn encode(&self, rotated: &[f32], centroid: &[f32], code: &mut [u64]) -> Factors {
        let mut factors = rabitq::encode(rotated, centroid, code);
        factors.add += self.config.metric.bias(dot(rotated, rotated));
        factors
    }
}
