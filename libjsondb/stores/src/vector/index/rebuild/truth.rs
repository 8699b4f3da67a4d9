//! The rows that are truly the best for some rows taken as queries: found by comparing with all, to learn from.

use crate::vector::kernel::{Int8Query, Int8Rows, Matrix, dot};
use crate::vector::keys::RowId;
use crate::vector::shape::Shape;

/// Best rows kept of each query.
pub(super) const BEST: usize = 10;
/// How much products of 8-bit numbers may be off, as a part of the lengths, times the root of the dimension: eight standard errors.
const INT8_ERROR: f32 = 0.08;

/// A row as a query, and the rows most similar to it, itself left out.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    pub(super) row: RowId,
    /// Rotated.
    pub(super) vector: Vec<f32>,
    /// By falling rank.
    pub(super) best: Vec<(f32, RowId)>,
}

impl Truth {
    pub(super) fn new(row: RowId, vector: &[f32]) -> Self {
        Self { row, vector: vector.to_vec(), best: Vec::new() }
    }

    /// Compares rows, whose vectors are rotated, with each query.
    pub(super) fn offer(truths: &mut [Truth], shape: &Shape, rows: &[RowId], rotated: &Matrix) {
        if truths.is_empty() {
            return;
        }
        let metric = shape.config.metric;
        let mut queries = Int8Rows::new(rotated.dimension());
        truths.iter().for_each(|truth| queries.push(&truth.vector));
        let lengths: Vec<f32> = truths.iter().map(|truth| dot(&truth.vector, &truth.vector).sqrt()).collect();
        let (mut query, mut scores) = (Int8Query::default(), Vec::new());
        let part = INT8_ERROR / (rotated.dimension() as f32).sqrt();
        for (row, vector) in rows.iter().zip(rotated.rows()) {
            let norm_squared = dot(vector, vector);
            let (bias, error) = (metric.bias(norm_squared), part * norm_squared.sqrt());
            query.prepare(vector);
            queries.scores(&query, &mut scores);
            for ((truth, score), length) in truths.iter_mut().zip(&scores).zip(&lengths) {
                if score + bias + error * length > truth.last() && truth.row != *row {
                    truth.insert(dot(&truth.vector, vector) + bias, *row);
                }
            }
        }
    }

    fn last(&self) -> f32 {
        self.best.get(BEST - 1).map_or(f32::NEG_INFINITY, |(rank, _)| *rank)
    }

    fn insert(&mut self, rank: f32, row: RowId) {
        let place = self.best.partition_point(|(other, _)| *other >= rank);
        self.best.insert(place, (rank, row));
        self.best.truncate(BEST);
    }
}
