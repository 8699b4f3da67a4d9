//! In which clusters a row belongs: that of its nearest centroid, and a second one that sees it from another side.

use crate::vector::kernel::{Int8Query, dot};
use crate::vector::table::Centroids;

/// Centroids whose exact distances are taken.
const CANDIDATES: usize = 24;
/// Weight of what two residuals have in common (SOAR, NeurIPS 2023, arXiv 2404.00774).
const LAMBDA: f32 = 1.0;

/// Indexes of the clusters of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) primary: u32,
    pub(super) secondary: Option<u32>,
}

/// Finds places, in memory that it keeps.
pub(super) struct Placer<'a> {
    centroids: &'a Centroids,
    query: Int8Query,
    scores: Vec<f32>,
    order: Vec<u32>,
}

impl<'a> Placer<'a> {
    /// There is a centroid at least.
    pub(super) fn new(centroids: &'a Centroids) -> Self {
        Self { centroids, query: Int8Query::default(), scores: Vec::new(), order: Vec::new() }
    }

    /// The place of a rotated vector.
    pub(super) fn place(&mut self, vector: &[f32]) -> Place {
        let Self { centroids, query, scores, order } = self;
        let count = centroids.ids.len();
        order.clear();
        order.extend(0..count as u32);
        if count > CANDIDATES {
            query.prepare(vector);
            centroids.int8_by_distance.scores(query, scores);
            order.select_nth_unstable_by(CANDIDATES, |a, b| {
                scores[*b as usize].total_cmp(&scores[*a as usize])
            });
            order.truncate(CANDIDATES);
        }
        let distances: Vec<f32> =
            order.iter().map(|index| centroids.distance(*index as usize, vector)).collect();
        let nearest = (0..order.len()).min_by(|a, b| distances[*a].total_cmp(&distances[*b])).unwrap_or(0);
        let primary = order[nearest];
        let residual: Vec<f32> =
            vector.iter().zip(centroids.rotated.row(primary as usize)).map(|(x, c)| x - c).collect();
        let length_squared = dot(&residual, &residual);
        let cost = |place: usize| {
            let centroid = centroids.rotated.row(order[place] as usize);
            // <x - c', r>
            let common = dot(vector, &residual) - dot(centroid, &residual);
            let parallel = if length_squared > 0.0 { common * common / length_squared } else { 0.0 };
            distances[place] + LAMBDA * parallel
        };
        let others =
            (0..order.len()).filter(|place| *place != nearest).map(|place| (cost(place), order[place]));
        let secondary = others.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, index)| index);
        Place { primary, secondary }
    }
}
