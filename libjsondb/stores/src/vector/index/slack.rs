//! How far a search must go: learned from rows taken as queries.
//!
//! A search scans lists by falling score of their centroids, and ends when (k-th estimate - score) > slack * distance. Here it is done for sampled
//! rows, to see what slack each of their neighbours takes to be found; the slack for a recall is what this share of the neighbours takes.

use std::sync::Arc;

use engine::{CancelToken, Transaction};

use crate::Result;
use crate::vector::heap::Heap;
use crate::vector::kernel::dot;
use crate::vector::keys::RowId;
use crate::vector::list::List;
use crate::vector::rabitq::Query;
use crate::vector::random::Random;
use crate::vector::search::PROBES_MIN;
use crate::vector::shape::Shape;
use crate::vector::shortlist::Shortlist;
use crate::vector::state::RECALLS;
use crate::vector::table::Centroids;

/// Rows taken as queries.
pub(super) const QUERIES: usize = 256;
/// Neighbours that are to be found of each.
const NEIGHBOURS: usize = 10;
/// Standard errors at which they are sought.
const ERRORS: f32 = 3.0;
/// Lists in which they are sought at first, and by how much more it must be than where the last of them was.
const LISTS_MIN: usize = 256;
const LISTS_BEHIND: usize = 4;
/// Searches lose some rows to estimates, and queries are not quite like rows: the part of the rows that may be missing that lists may miss.
const LOST_BY_LISTS: f32 = 0.5;

/// A row as a query: its vector is rotated.
pub(super) type Sample = (RowId, Vec<f32>);

/// An index to be searched, in memory or in a database.
pub(super) struct Searched<'a, L> {
    pub(super) shape: &'a Shape,
    pub(super) centroids: &'a Centroids,
    /// Gives the list of a centroid.
    pub(super) lists: L,
}

/// The slack for each of [`RECALLS`]; infinite when there is nothing to learn from.
pub(super) fn learn<L>(
    t: &mut Transaction,
    searched: &Searched<'_, L>,
    samples: &[Sample],
    cancel: &CancelToken,
) -> Result<[f32; 3]>
where
    L: Fn(&mut Transaction, usize) -> Result<Arc<List>>,
{
    let mut needs: Vec<f32> = Vec::new();
    for sample in samples {
        cancel.check()?;
        searched.needs_of(t, sample, &mut needs)?;
    }
    needs.sort_unstable_by(f32::total_cmp);
    Ok(RECALLS.map(|recall| {
        let place = (needs.len() as f32 * (1.0 - LOST_BY_LISTS * (1.0 - recall))) as usize;
        needs.get(place).copied().unwrap_or(f32::INFINITY)
    }))
}

impl<L: Fn(&mut Transaction, usize) -> Result<Arc<List>>> Searched<'_, L> {
    /// Rows chosen at random.
    pub(super) fn samples(&self, t: &mut Transaction) -> Result<Vec<Sample>> {
        let (mut random, mut heap) = (Random::default(), Heap::new(self.shape.dimension()));
        let mut samples = Vec::with_capacity(QUERIES);
        for _ in 0..QUERIES {
            let list = (self.lists)(t, random.below(self.centroids.ids.len() as u64) as usize)?;
            let rows: Vec<usize> = (0..list.len()).filter(|index| list.is_primary(*index)).collect();
            let Some(index) = rows.get(random.below(rows.len() as u64) as usize) else { continue };
            let row = list.row(*index);
            if let Some(stored) = heap.read(t, self.shape.store, row)? {
                samples.push((row, self.shape.rotated(&stored.to_vec())));
            }
        }
        Ok(samples)
    }

    /// The slack that it takes to find each of a row's neighbours.
    fn needs_of(&self, t: &mut Transaction, sample: &Sample, needs: &mut Vec<f32>) -> Result<()> {
        let (row, vector) = sample;
        let order = self.ranked(vector);
        let mut found = self.neighbours(t, sample, &order)?;
        found.sort_unstable();
        let Some(last) = found.last() else { return Ok(()) };
        let mut shortlist = Shortlist::new(NEIGHBOURS, ERRORS, false);
        let (mut code, mut slack, mut found) = (Query::default(), f32::NEG_INFINITY, found.iter().peekable());
        for (rank, (score, index)) in order.iter().enumerate().take(last + 1) {
            code.prepare(vector, self.centroids.rotated.row(*index));
            if rank >= PROBES_MIN && code.distance > 0.0 {
                slack = slack.max((shortlist.kth_estimate() - score) / code.distance);
            }
            while found.next_if(|found| **found == rank).is_some() {
                needs.push(slack);
            }
            shortlist.scan(&*(self.lists)(t, *index)?, &code, true, |other| other != *row);
        }
        Ok(())
    }

    /// Score and index of each centroid, by falling score.
    fn ranked(&self, vector: &[f32]) -> Vec<(f32, usize)> {
        let metric = self.shape.config.metric;
        let score = |(index, centroid): (usize, &[f32])| {
            (self.centroids.score(index, dot(vector, centroid), metric), index)
        };
        let mut order: Vec<(f32, usize)> = self.centroids.rotated.rows().enumerate().map(score).collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        order
    }

    /// For each of a row's neighbours, which list in the order of the search has it first. They are sought far beyond the last one.
    fn neighbours(&self, t: &mut Transaction, sample: &Sample, order: &[(f32, usize)]) -> Result<Vec<usize>> {
        let (row, vector) = sample;
        let mut end = LISTS_MIN.min(order.len());
        loop {
            let mut shortlist = Shortlist::new(NEIGHBOURS, ERRORS, false);
            let mut code = Query::default();
            for (_, index) in &order[..end] {
                code.prepare(vector, self.centroids.rotated.row(*index));
                shortlist.scan(&*(self.lists)(t, *index)?, &code, true, |other| other != *row);
            }
            let mut ranking = shortlist.into_ranking();
            let (mut heap, metric) = (Heap::new(self.shape.dimension()), self.shape.config.metric);
            ranking.settle(NEIGHBOURS, |row| {
                let Some(stored) = heap.read(t, self.shape.store, row)? else { return Ok(None) };
                let rotated = self.shape.rotated(&stored.to_vec());
                let rank = dot(vector, &rotated) + metric.bias(dot(&rotated, &rotated));
                Ok(Some((rank, rank)))
            })?;
            let best: Vec<RowId> = ranking.best(NEIGHBOURS, 0).into_iter().map(|scored| scored.row).collect();
            let ranks = self.first_lists(t, &best, &order[..end])?;
            let last = ranks.iter().max().copied().unwrap_or(0);
            if end == order.len() || last * LISTS_BEHIND < end {
                return Ok(ranks);
            }
            end = (end * LISTS_BEHIND).min(order.len());
        }
    }

    fn first_lists(&self, t: &mut Transaction, rows: &[RowId], order: &[(f32, usize)]) -> Result<Vec<usize>> {
        let mut missing = rows.to_vec();
        let mut ranks = Vec::with_capacity(rows.len());
        for (rank, (_, index)) in order.iter().enumerate() {
            let list = (self.lists)(t, *index)?;
            for row in (0..list.len()).map(|index| list.row(index)) {
                if let Some(place) = missing.iter().position(|other| *other == row) {
                    missing.swap_remove(place);
                    ranks.push(rank);
                }
            }
            if missing.is_empty() {
                break;
            }
        }
        Ok(ranks)
    }
}
