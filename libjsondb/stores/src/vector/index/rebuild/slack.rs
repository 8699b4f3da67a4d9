//! How far a search must go: learned from rows whose best neighbours are known.
//!
//! A search scans lists by falling score of their centroids, and ends when (k-th estimate - score) > slack * distance. Here it is done for sampled
//! rows, to see what slack each of their neighbours takes to be found; the slack for a recall is what this share of the neighbours takes.

use super::build::Built;
use super::truth::{BEST, Truth};
use crate::vector::kernel::dot;
use crate::vector::keys::RowId;
use crate::vector::rabitq::Query;
use crate::vector::search::PROBES_MIN;
use crate::vector::shape::Shape;
use crate::vector::shortlist::Shortlist;
use crate::vector::state::RECALLS;
use crate::vector::table::Centroids;

/// Standard errors at which the lists are scanned.
const ERRORS: f32 = 2.0;

/// The slack for each of [`RECALLS`]; infinite when there is nothing to learn from.
pub(super) fn learn(shape: &Shape, centroids: &Centroids, built: &Built) -> [f32; 3] {
    let mut needs: Vec<f32> = Vec::new();
    for truth in &built.truths {
        needs_of(truth, shape, centroids, built, &mut needs);
    }
    needs.sort_unstable_by(f32::total_cmp);
    RECALLS.map(|recall| {
        let place = (needs.len() as f32 * raised(recall)) as usize;
        needs.get(place).copied().unwrap_or(f32::INFINITY)
    })
}

/// Estimates lose some rows, and queries are not always like rows: the recall of the lists that gives a recall.
fn raised(recall: f32) -> f32 {
    1.0 - 0.6 * (1.0 - recall)
}

/// The slack that it takes to find each of a query's best rows.
fn needs_of(truth: &Truth, shape: &Shape, centroids: &Centroids, built: &Built, needs: &mut Vec<f32>) {
    let order = ranked(&truth.vector, shape, centroids);
    let mut ranks = vec![0usize; order.len()];
    order.iter().enumerate().for_each(|(rank, (_, index))| ranks[*index] = rank);
    let mut wanted: Vec<usize> =
        truth.best.iter().filter_map(|(_, row)| first_rank(*row, built, &ranks)).collect();
    wanted.sort_unstable();
    let Some(last) = wanted.last() else { return };
    let mut shortlist = Shortlist::new(BEST, ERRORS, false);
    let (mut code, mut slack, mut wanted_from) = (Query::default(), f32::NEG_INFINITY, 0);
    for (rank, (score, index)) in order.into_iter().enumerate().take(last + 1) {
        code.prepare(&truth.vector, centroids.rotated.row(index));
        if rank >= PROBES_MIN && code.distance > 0.0 {
            slack = slack.max((shortlist.kth_estimate() - score) / code.distance);
        }
        while wanted.get(wanted_from) == Some(&rank) {
            needs.push(slack);
            wanted_from += 1;
        }
        shortlist.scan(&built.lists[index], &code, true, |row| row != truth.row);
    }
}

/// Score and index of each centroid, by falling score.
fn ranked(vector: &[f32], shape: &Shape, centroids: &Centroids) -> Vec<(f32, usize)> {
    let score = |(index, centroid): (usize, &[f32])| {
        (centroids.score(index, dot(vector, centroid), shape.config.metric), index)
    };
    let mut order: Vec<(f32, usize)> = centroids.rotated.rows().enumerate().map(score).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    order
}

/// Which list, in the order of the search, has the row first.
fn first_rank(row: RowId, built: &Built, ranks: &[usize]) -> Option<usize> {
    let index = built.places.binary_search_by_key(&row, |(row, _)| *row).ok()?;
    let (_, (primary, secondary)) = *built.places.get(index)?;
    let rank = |cluster: u32| ranks.get(cluster as usize).copied();
    [Some(primary), secondary].into_iter().flatten().filter_map(rank).min()
}
