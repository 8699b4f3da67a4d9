//! Where k-means begins.

use engine::CancelToken;

use crate::Result;
use crate::vector::kernel::{Matrix, distance_squared};
use crate::vector::random::Random;

/// Rows that a seed is drawn from, for each seed.
const ROWS_PER_SEED: usize = 16;

/// k-means++: every further seed is drawn with a probability that grows with its distance to the seeds so far.
pub(super) fn seeds(rows: &Matrix, count: usize, cancel: &CancelToken) -> Result<Matrix> {
    let mut random = Random::default();
    let pool = random.choose(rows.len(), count.saturating_mul(ROWS_PER_SEED));
    let mut seeds = Matrix::new(rows.dimension());
    let mut distances = vec![f32::INFINITY; pool.len()];
    let mut next = pool.first().copied();
    while let Some(row) = next {
        cancel.check()?;
        seeds.push(rows.row(row));
        if seeds.len() == count {
            break;
        }
        for (distance, index) in distances.iter_mut().zip(&pool) {
            *distance = distance.min(distance_squared(rows.row(*index), rows.row(row)));
        }
        next = random.weighted(&distances).map(|index| pool[index]);
    }
    Ok(seeds)
}
