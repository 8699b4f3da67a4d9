//! The rows that may be among the best k: known by estimates, then scored exactly, the most promising first.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::BuildHasherDefault;

use super::keys::RowId;
use super::list::{GROUP, List};
use super::rabitq::Query;
use crate::Result;

/// Rows by which a floor is surer than k would make it: so many of the best may turn out to be gone.
const SPARE: usize = 8;

/// Rows of a list whose bounds are looked at together, before any of them raises the floor.
const BLOCK: usize = 8 * GROUP;

/// Rows of a usual query for which there is room at first: those that were not below the floor, and those that are scored.
const CANDIDATES_USUAL: usize = 1024;
const SCORED_USUAL: usize = 64;

/// A row with the highest score it may have.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    bound: f32,
    /// There is no better bound.
    is_final: bool,
    row: RowId,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bound.total_cmp(&other.bound).then(other.row.cmp(&self.row))
    }
}

/// Candidates of one query.
pub(super) struct Shortlist {
    /// Standard errors by which a score may differ from its estimate.
    errors: f32,
    /// Rows below this are not among the best: the (k + spare)-th best of what is known for sure.
    floor: f32,
    /// The lowest scores that the best rows may have, lowest on top; only of rows that count.
    lows: Lowest,
    /// The best estimates, lowest on top.
    estimates: Lowest,
    candidates: Vec<Candidate>,
    scratch: Vec<f32>,
    /// Rows of the block being scanned that are not below the floor: index and bound.
    passed: Vec<(usize, f32)>,
}

/// The highest of the numbers offered; none with the limit `usize::MAX`.
struct Lowest {
    limit: usize,
    /// Negated order: the lowest on top.
    heap: BinaryHeap<std::cmp::Reverse<Total>>,
}

#[derive(Clone, Copy, PartialEq)]
struct Total(f32);

impl Eq for Total {}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Total {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Lowest {
    fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::with_capacity(limit.min(1 << 12) + 1) }
    }

    fn offer(&mut self, number: f32) {
        if self.limit == usize::MAX {
            return;
        }
        if self.heap.len() < self.limit {
            self.heap.push(std::cmp::Reverse(Total(number)));
        } else if let Some(mut top) = self.heap.peek_mut()
            && top.0.0 < number
        {
            top.0 = Total(number);
        }
    }

    /// The lowest of the best, once there are as many as asked for.
    fn value(&self) -> f32 {
        match self.heap.peek() {
            Some(lowest) if self.heap.len() >= self.limit => lowest.0.0,
            _ => f32::NEG_INFINITY,
        }
    }
}

impl Shortlist {
    /// For the best `k` rows. `keeps_all`: nothing is dropped on the way, as which rows count is not known yet.
    pub(super) fn new(k: usize, errors: f32, keeps_all: bool) -> Self {
        let spare = if keeps_all { usize::MAX } else { k.saturating_add(k / 4).saturating_add(SPARE) };
        Self {
            errors,
            floor: f32::NEG_INFINITY,
            lows: Lowest::new(spare),
            estimates: Lowest::new(k.max(1)),
            candidates: Vec::with_capacity(CANDIDATES_USUAL),
            scratch: Vec::new(),
            passed: Vec::new(),
        }
    }

    /// Adds the rows of a list for which `counts` is true. `is_sure`: they are live, as far as is known.
    pub(super) fn scan(
        &mut self,
        list: &List,
        query: &Query,
        is_sure: bool,
        mut counts: impl FnMut(RowId) -> bool,
    ) {
        let (add, scale, codes) = list.columns();
        let (mut estimates, mut passed) =
            (std::mem::take(&mut self.scratch), std::mem::take(&mut self.passed));
        query.estimate(codes, add, scale, &mut estimates);
        let error = self.errors * query.error;
        let blocks = estimates.chunks(BLOCK).zip(scale.chunks(BLOCK));
        for (first, (estimates, scale)) in (0..).step_by(BLOCK).zip(blocks) {
            self.sift(estimates, scale, error, &mut passed);
            // Which rows they are lies elsewhere: all of it is asked for before the first is looked at.
            passed.retain(|(index, _)| first + index < list.len());
            passed.iter().for_each(|(index, _)| list.prefetch_row(first + index));
            for (index, bound) in passed.drain(..) {
                let row = list.row(first + index);
                if bound < self.floor || !counts(row) {
                    continue;
                }
                self.candidates.push(Candidate { bound, is_final: false, row });
                // A row is in two lists: the first of them counts.
                if is_sure && list.is_primary(first + index) {
                    let estimate = estimates[index];
                    self.estimates.offer(estimate);
                    self.lows.offer(estimate - (bound - estimate));
                    self.floor = self.lows.value();
                }
            }
        }
        (self.scratch, self.passed) = (estimates, passed);
    }

    /// Adds index and bound of the rows that are not below the floor to `passed`.
    fn sift(&self, estimates: &[f32], scale: &[f32], error: f32, passed: &mut Vec<(usize, f32)>) {
        let groups = estimates.as_chunks::<GROUP>().0.iter().zip(scale.as_chunks::<GROUP>().0);
        for (first, (estimates, scale)) in (0..).step_by(GROUP).zip(groups) {
            let mut bounds = [0.0; GROUP];
            for (bound, (estimate, scale)) in bounds.iter_mut().zip(estimates.iter().zip(scale)) {
                *bound = estimate + error * scale;
            }
            // Most groups end here, all eight rows at once.
            if bounds.iter().all(|bound| *bound < self.floor) {
                continue;
            }
            // A bound that is not a number says nothing.
            let above = |bound: &f32| *bound >= self.floor || bound.is_nan();
            passed.extend((first..).zip(bounds).filter(|(_, bound)| above(bound)));
        }
    }

    /// About the score of the k-th best row; minus infinity while there are fewer.
    pub(super) fn kth_estimate(&self) -> f32 {
        self.estimates.value()
    }

    /// The candidates, the most promising first.
    pub(super) fn into_ranking(self) -> Ranking {
        let floor = self.floor;
        let mut candidates = self.candidates;
        // A bound that is not a number says nothing.
        candidates.retain(|candidate| candidate.bound >= floor || candidate.bound.is_nan());
        let seen = HashSet::with_capacity_and_hasher(SCORED_USUAL, BuildHasherDefault::default());
        Ranking { heap: candidates.into(), seen, scored: Vec::with_capacity(SCORED_USUAL) }
    }
}

/// Candidates in the order in which they are scored, and those that were.
pub(super) struct Ranking {
    heap: BinaryHeap<Candidate>,
    seen: HashSet<RowId, BuildHasherDefault<RowHasher>>,
    /// By falling rank; the second number is what users see.
    scored: Vec<Scored>,
}

/// A row and its exact score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scored {
    pub(super) row: RowId,
    pub(super) score: f32,
    rank: f32,
}

impl Ranking {
    /// Adds candidates.
    pub(super) fn extend(&mut self, other: Shortlist) {
        self.heap.extend(other.candidates);
    }

    /// Scores rows until no other can be among the best `k`; they are then the first of [`Ranking::scored`]. `bound` gives a better bound where there is
    /// one, at less than it takes to score a row; `score` gives score and rank, None for a row that is gone.
    pub(super) fn settle(
        &mut self,
        k: usize,
        mut bound: impl FnMut(RowId) -> Option<f32>,
        mut score: impl FnMut(RowId) -> Result<Option<(f32, f32)>>,
    ) -> Result<()> {
        while let Some(best) = self.heap.peek() {
            if let Some(kth) = self.scored.get(k.saturating_sub(1))
                && best.bound < kth.rank
            {
                break;
            }
            let Candidate { is_final, row, .. } = *best;
            self.heap.pop();
            if !is_final && let Some(bound) = bound(row) {
                self.heap.push(Candidate { bound, is_final: true, row });
                continue;
            }
            if !self.seen.insert(row) {
                continue;
            }
            if let Some((score, rank)) = score(row)? {
                let rank = if rank.is_nan() { f32::NEG_INFINITY } else { rank };
                let place = self.scored.partition_point(|other| other.rank >= rank);
                self.scored.insert(place, Scored { row, score, rank });
            }
        }
        Ok(())
    }

    /// The best `k` rows that were scored, and up to `ties` more that rank as the last of them.
    pub(super) fn best(&self, k: usize, ties: usize) -> Vec<Scored> {
        let Some(last) = self.scored.get(..k.min(self.scored.len())).and_then(<[Scored]>::last) else {
            return Vec::new();
        };
        let tied = |scored: &&Scored| scored.rank >= last.rank;
        self.scored.iter().take_while(tied).take(k.saturating_add(ties)).copied().collect()
    }

    /// Drops rows that turned out not to count.
    pub(super) fn retain(&mut self, keep: impl Fn(RowId) -> bool) {
        self.scored.retain(|scored| keep(scored.row));
    }
}

/// What is known of rows.
pub(super) type RowMap<T> = HashMap<RowId, T, BuildHasherDefault<RowHasher>>;

/// Rows are as good as random in the bits that a hash table uses, once they are multiplied.
#[derive(Default)]
pub(super) struct RowHasher(u64);

impl std::hash::Hasher for RowHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::kernel::{dot, unit};
    use crate::vector::list::Coded;
    use crate::vector::rabitq::{Rotation, encode};
    use crate::vector::random::Random;

    const DIMENSION: usize = 100;

    /// Rotated vectors, and their list relative to zero.
    fn rows(count: u64) -> (Vec<Vec<f32>>, List) {
        let (rotation, mut random) = (Rotation::new(DIMENSION), Random::new(7));
        let origin = vec![0.0; rotation.padded()];
        let (mut vectors, mut list) = (Vec::new(), List::new(rotation.padded() / 64));
        for row in 0..count {
            let vector: Vec<f32> = (0..DIMENSION).map(|_| random.below(2001) as f32 - 1000.0).collect();
            let mut rotated = vec![0.0; rotation.padded()];
            rotation.apply(&unit(&vector), &mut rotated);
            let mut code = vec![0; rotation.padded() / 64];
            let factors = encode(&rotated, &origin, &mut code);
            list.push(Coded { row: RowId(row), is_primary: true, factors, code: &code });
            vectors.push(rotated);
        }
        (vectors, list)
    }

    fn best_of(vectors: &[Vec<f32>], query: &[f32], k: usize, counts: impl Fn(u64) -> bool) -> Vec<RowId> {
        let mut rows: Vec<RowId> = (0..vectors.len() as u64).filter(|row| counts(*row)).map(RowId).collect();
        rows.sort_by(|a, b| {
            dot(&vectors[b.0 as usize], query).total_cmp(&dot(&vectors[a.0 as usize], query))
        });
        rows.truncate(k);
        rows
    }

    fn scored(ranking: &mut Ranking, vectors: &[Vec<f32>], query: &[f32], k: usize) -> (Vec<RowId>, usize) {
        let mut taken = 0;
        ranking
            .settle(
                k,
                |_| None,
                |row| {
                    taken += 1;
                    let score = dot(&vectors[row.0 as usize], query);
                    Ok(Some((score, score)))
                },
            )
            .unwrap();
        (ranking.best(k, 0).iter().map(|scored| scored.row).collect(), taken)
    }

    #[test]
    fn wide_bounds_give_the_exact_best_and_score_few() {
        let (vectors, list) = rows(3000);
        for query in &vectors[..20] {
            let code = Query::new(query, &vec![0.0; query.len()]);
            let mut shortlist = Shortlist::new(10, 4.0, false);
            shortlist.scan(&list, &code, true, |_| true);
            let (found, taken) = scored(&mut shortlist.into_ranking(), &vectors, query, 10);
            assert_eq!(found, best_of(&vectors, query, 10, |_| true));
            assert!(taken < 2500, "{taken} rows scored");
        }
    }

    #[test]
    fn better_bounds_spare_scores_and_lose_nothing() {
        let (vectors, list) = rows(3000);
        let (mut plain, mut better) = (0, 0);
        for query in &vectors[..20] {
            let code = Query::new(query, &vec![0.0; query.len()]);
            let mut shortlist = Shortlist::new(10, 4.0, false);
            shortlist.scan(&list, &code, true, |_| true);
            plain += scored(&mut shortlist.into_ranking(), &vectors, query, 10).1;
            let mut shortlist = Shortlist::new(10, 4.0, false);
            shortlist.scan(&list, &code, true, |_| true);
            let (mut ranking, score) =
                (shortlist.into_ranking(), |row: RowId| dot(&vectors[row.0 as usize], query));
            // Of one row in eight nothing better is known.
            let bound = |row: RowId| (!row.0.is_multiple_of(8)).then(|| score(row) + 0.01);
            ranking
                .settle(10, bound, |row| {
                    better += 1;
                    Ok(Some((score(row), score(row))))
                })
                .unwrap();
            let found: Vec<RowId> = ranking.best(10, 0).iter().map(|scored| scored.row).collect();
            assert_eq!(found, best_of(&vectors, query, 10, |_| true));
        }
        assert!(better * 3 < plain, "{better} rows scored, {plain} without");
    }

    #[test]
    fn rows_that_do_not_count_push_nothing_out() {
        let (vectors, list) = rows(500);
        let query = &vectors[3];
        let code = Query::new(query, &vec![0.0; query.len()]);
        let mut shortlist = Shortlist::new(5, 5.0, false);
        shortlist.scan(&list, &code, true, |row| row.0.is_multiple_of(50));
        let (found, _) = scored(&mut shortlist.into_ranking(), &vectors, query, 5);
        assert_eq!(found, best_of(&vectors, query, 5, |row| row.is_multiple_of(50)));
    }

    #[test]
    fn a_row_in_two_lists_is_one_hit_and_what_is_dropped_makes_room() {
        let (vectors, list) = rows(200);
        let query = &vectors[3];
        let code = Query::new(query, &vec![0.0; query.len()]);
        let mut shortlist = Shortlist::new(4, 5.0, true);
        shortlist.scan(&list, &code, true, |_| true);
        shortlist.scan(&list, &code, true, |_| true);
        let mut ranking = shortlist.into_ranking();
        let (found, taken) = scored(&mut ranking, &vectors, query, 4);
        assert_eq!(found, best_of(&vectors, query, 4, |_| true));
        assert!(taken <= 200);
        ranking.retain(|row| row != found[0]);
        let (next, _) = scored(&mut ranking, &vectors, query, 4);
        assert_eq!(next, best_of(&vectors, query, 4, |row| RowId(row) != found[0]));
    }

    #[test]
    fn rows_of_one_rank_are_all_given() {
        let (vectors, list) = rows(60);
        let code = Query::new(&vectors[0], &vec![0.0; vectors[0].len()]);
        let mut shortlist = Shortlist::new(2, 5.0, true);
        shortlist.scan(&list, &code, true, |_| true);
        let mut ranking = shortlist.into_ranking();
        ranking.settle(2, |_| None, |row| Ok((row.0 != 9).then_some((-9.0, -9.0)))).unwrap();
        assert_eq!(ranking.best(2, 1000).len(), 59);
        assert_eq!(ranking.best(2, 3).len(), 5);
        assert_eq!(ranking.best(0, 3).len(), 0);
    }
}
