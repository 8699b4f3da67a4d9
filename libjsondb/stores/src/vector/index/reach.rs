//! How far a search must go: learned from rows taken as queries.
//!
//! A search scans lists by falling rank of their centroids, and ends when (k-th estimate - score) > slack * distance, or after a number of lists. Here it
//! is done for sampled rows, to see what it takes to find each of their neighbours. Of the pairs of slack and number that find as many as a recall
//! asks for, the one that scans the fewest lists is taken.

use std::collections::HashMap;
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
use crate::vector::state::{RECALLS, Reach};
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
/// For each of [`RECALLS`], the part of the rows that may be missing that lists of sampled rows may miss. Searches lose others to estimates, and queries are
/// farther from the centroids than rows, which these are the means of: measured with held-out queries and with queries of another kind.
const LOST_BY_LISTS: [f32; 3] = [0.46, 0.42, 0.31];
/// Numbers of lists that are tried, each so many times the one before.
const LISTS_STEP: f32 = 1.25;

/// A row as a query: its vector is rotated.
pub(super) type Sample = (RowId, Vec<f32>);

/// An index to be searched, in memory or in a database.
pub(super) struct Searched<'a, L> {
    pub(super) shape: &'a Shape,
    pub(super) centroids: &'a Centroids,
    /// Gives the list of a centroid.
    pub(super) lists: L,
}

/// A sampled search, list by list.
struct Trace {
    /// The slack that it takes to scan so many lists and one more.
    slack: Vec<f32>,
    /// For each neighbour, how many lists are scanned before the first that has it.
    found: Vec<usize>,
}

impl Trace {
    /// How many lists are scanned.
    fn scanned(&self, reach: Reach) -> usize {
        let end = (reach.lists.min(self.slack.len() as f32) as usize).max(PROBES_MIN).min(self.slack.len());
        self.slack[..end].partition_point(|slack| *slack <= reach.slack)
    }
}

/// The reach for each of [`RECALLS`]: everything when there is nothing to learn from.
pub(super) fn learn<L>(
    t: &mut Transaction,
    searched: &Searched<'_, L>,
    samples: &[Sample],
    cancel: &CancelToken,
) -> Result<[Reach; 3]>
where
    L: Fn(&mut Transaction, usize) -> Result<Arc<List>>,
{
    let mut traces = Vec::with_capacity(samples.len());
    for sample in samples {
        cancel.check()?;
        traces.push(searched.trace(t, sample)?);
    }
    Ok([0, 1, 2].map(|index| cheapest(&traces, 1.0 - LOST_BY_LISTS[index] * (1.0 - RECALLS[index]))))
}

/// The reach that finds this share of all neighbours by the fewest lists.
fn cheapest(traces: &[Trace], share: f32) -> Reach {
    let neighbours: usize = traces.iter().map(|trace| trace.found.len()).sum();
    let longest = traces.iter().map(|trace| trace.slack.len()).max().unwrap_or(0);
    let wanted = (neighbours as f32 * share).ceil() as usize;
    let (mut best, mut best_cost) = (Reach::ALL, usize::MAX);
    if neighbours == 0 {
        return best;
    }
    let mut lists = PROBES_MIN as f32;
    loop {
        // What it takes to find each neighbour that so many lists have.
        let needs = |trace: &Trace| -> Vec<f32> {
            let reached = trace.found.iter().filter(|found| (**found as f32) < lists);
            reached.map(|found| trace.slack[*found]).collect()
        };
        let mut slacks: Vec<f32> = traces.iter().flat_map(needs).collect();
        if slacks.len() >= wanted {
            let (_, slack, _) = slacks.select_nth_unstable_by(wanted.max(1) - 1, f32::total_cmp);
            let reach = Reach { slack: *slack, lists };
            let cost = traces.iter().map(|trace| trace.scanned(reach)).sum();
            if cost < best_cost {
                (best, best_cost) = (reach, cost);
            }
        }
        if lists > longest as f32 {
            return best;
        }
        lists = (lists * LISTS_STEP).ceil();
    }
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
                samples.push((row, self.shape.rotated_stored(stored)));
            }
        }
        Ok(samples)
    }

    /// A row's search, up to the last list that has one of its neighbours and some beyond.
    fn trace(&self, t: &mut Transaction, sample: &Sample) -> Result<Trace> {
        let (row, vector) = sample;
        let order = self.ranked(vector);
        let found = self.neighbours(t, sample, &order)?;
        let last = found.iter().max().copied().unwrap_or(0);
        let end = ((last + 1) * LISTS_BEHIND).min(order.len());
        let mut shortlist = Shortlist::new(NEIGHBOURS, ERRORS, false);
        let (mut code, mut slack, mut slacks) =
            (Query::default(), f32::NEG_INFINITY, Vec::with_capacity(end));
        for (rank, (score, index)) in order.iter().enumerate().take(end) {
            code.prepare(vector, self.centroids.rotated.row(*index));
            if rank >= PROBES_MIN && code.distance > 0.0 {
                slack = slack.max((shortlist.kth_estimate() - score) / code.distance);
            }
            slacks.push(slack);
            shortlist.scan(&*(self.lists)(t, *index)?, &code, true, |other| other != *row);
        }
        Ok(Trace { slack: slacks, found })
    }

    /// Score and index of each centroid, by falling rank.
    fn ranked(&self, vector: &[f32]) -> Vec<(f32, usize)> {
        let metric = self.shape.config.metric;
        let products = self.centroids.rotated.rows().map(|centroid| dot(vector, centroid));
        let mut order: Vec<(f32, f32, usize)> = products
            .enumerate()
            .map(|(index, product)| {
                let rank = self.centroids.rank(index, product, metric);
                (rank, self.centroids.score(index, product, metric), index)
            })
            .collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        order.into_iter().map(|(_, score, index)| (score, index)).collect()
    }

    /// For each of a row's neighbours, which list in the order of the search has it first. They are sought far beyond the last one.
    fn neighbours(&self, t: &mut Transaction, sample: &Sample, order: &[(f32, usize)]) -> Result<Vec<usize>> {
        let (row, vector) = sample;
        let mut end = LISTS_MIN.min(order.len());
        let mut ranks_known: HashMap<RowId, f32> = HashMap::new();
        loop {
            let mut shortlist = Shortlist::new(NEIGHBOURS, ERRORS, false);
            let mut code = Query::default();
            for (_, index) in &order[..end] {
                code.prepare(vector, self.centroids.rotated.row(*index));
                shortlist.scan(&*(self.lists)(t, *index)?, &code, true, |other| other != *row);
            }
            let mut ranking = shortlist.into_ranking();
            let (mut heap, metric) = (Heap::new(self.shape.dimension()), self.shape.config.metric);
            ranking.settle(
                NEIGHBOURS,
                |_| None,
                |row| {
                    if let Some(rank) = ranks_known.get(&row) {
                        return Ok(Some((*rank, *rank)));
                    }
                    let Some(stored) = heap.read(t, self.shape.store, row)? else { return Ok(None) };
                    let rotated = self.shape.rotated_stored(stored);
                    let rank = dot(vector, &rotated) + metric.bias(dot(&rotated, &rotated));
                    ranks_known.insert(row, rank);
                    Ok(Some((rank, rank)))
                },
            )?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(slack: &[f32], found: &[usize]) -> Trace {
        Trace { slack: slack.to_vec(), found: found.to_vec() }
    }

    #[test]
    fn the_cheapest_reach_finds_what_was_asked_for() {
        // Searches that are soon done, and one that is long in finding its last neighbour.
        let short = || trace(&[-1.0, -1.0, -1.0, -1.0, 0.2, 0.4, 0.6, 0.8], &[0, 1, 2, 4]);
        let long = trace(&[-1.0, -1.0, -1.0, -1.0, 0.1, 0.1, 0.1, 0.3], &[0, 5, 6, 7]);
        let traces = [short(), short(), short(), long];
        let share = |reach: Reach| {
            let found =
                |trace: &Trace| trace.found.iter().filter(|found| **found < trace.scanned(reach)).count();
            traces.iter().map(found).sum::<usize>() as f32 / 16.0
        };
        for wanted in [0.5, 0.8, 0.9, 1.0] {
            let reach = cheapest(&traces, wanted);
            assert!(share(reach) >= wanted, "{wanted}: {reach:?} finds {}", share(reach));
        }
        let all = cheapest(&traces, 1.0);
        assert!(
            traces[0].scanned(all) < 8,
            "what the long one takes does not hold up the short ones: {all:?}"
        );
        assert_eq!(cheapest(&[], 0.9), Reach::ALL);
    }
}
