//! Centroids by how near they are to a query, by 8-bit numbers: about.

use super::kernel::{Int8Query, Int8Rows};

/// Centroids that are sorted at first; as many again as there are whenever they do not suffice.
const RANKED_AT_ONCE: usize = 64;

/// Scores of all centroids for some queries, taken together: one pass over the centroids serves all of them.
#[derive(Default)]
pub(super) struct CentroidScores {
    queries: Vec<Int8Query>,
    scores: Vec<f32>,
    /// Scores of one query, those that stand for no centroid included, and centroids.
    per_query: usize,
    len: usize,
}

impl CentroidScores {
    /// Replaces all scores by those for these rotated queries.
    pub(super) fn fill<'a>(
        &mut self,
        centroids: &Int8Rows,
        queries: impl ExactSizeIterator<Item = &'a [f32]>,
    ) {
        self.queries.resize_with(queries.len(), Int8Query::default);
        self.queries.iter_mut().zip(queries).for_each(|(to, query)| to.prepare(query));
        centroids.scores_of(&self.queries, &mut self.scores);
        (self.per_query, self.len) = (centroids.padded_len(), centroids.len());
    }

    fn of(&self, query: usize) -> &[f32] {
        &self.scores[query * self.per_query..][..self.len]
    }
}

/// Centroids, the best first, sorted only as far as somebody looks.
#[derive(Default)]
pub(super) struct Ranked {
    /// Score and index in one number, which compares faster.
    order: Vec<u64>,
    sorted: usize,
}

impl Ranked {
    /// Begins anew, with the scores for one of the queries.
    pub(super) fn begin(&mut self, scores: &CentroidScores, query: usize) {
        self.order.clear();
        let scores = (0u64..).zip(scores.of(query));
        self.order.extend(scores.map(|(index, score)| u64::from(descending(*score)) << 32 | index));
        self.sorted = 0;
    }

    /// Index of the centroid at a place, from 0; None when there are fewer. Places are asked for one after the other.
    pub(super) fn at(&mut self, place: usize) -> Option<usize> {
        if place >= self.sorted {
            let rest = self.order.get_mut(self.sorted..)?;
            let wanted = RANKED_AT_ONCE.max(self.sorted);
            if wanted < rest.len() {
                rest.select_nth_unstable(wanted);
            }
            let wanted = wanted.min(rest.len());
            rest[..wanted].sort_unstable();
            self.sorted += wanted;
        }
        self.order.get(place).map(|both| (both & u64::from(u32::MAX)) as usize)
    }
}

/// A number that is the lower the higher the score is.
fn descending(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 0 { !bits & (u32::MAX >> 1) } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centroids_come_in_order_however_many_are_asked_for() {
        let order = |count: u64| (0..count).map(|index| (index * 7919 % count) << 32 | index).collect();
        for count in [0, 1, 63, 64, 65, 1000] {
            let mut ranked = Ranked { order: order(count), ..Ranked::default() };
            let found: Vec<usize> = (0..).map_while(|place| ranked.at(place)).collect();
            let mut expected: Vec<u64> = order(count);
            expected.sort_unstable();
            assert!(found.iter().copied().eq(expected.iter().map(|both| (both & 0xffff_ffff) as usize)));
        }
    }

    #[test]
    fn higher_scores_come_first() {
        let scores = [f32::INFINITY, 3.5, 1e-30, 0.0, -1e-30, -2.0, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|pair| descending(pair[0]) < descending(pair[1])));
    }

    #[test]
    fn queries_scored_together_rank_centroids_as_each_does_alone() {
        let vector = |number: usize| (0..64).map(|at| ((number * 31 + at * 17) % 23) as f32 - 11.0).collect();
        let mut centroids = Int8Rows::new(64);
        (0..100).map(vector).for_each(|centroid: Vec<f32>| centroids.push_with(&centroid, 0.0));
        let queries: Vec<Vec<f32>> = (200..211).map(vector).collect();
        let (mut scores, mut ranked) = (CentroidScores::default(), Ranked::default());
        let mut order = |queries: &[Vec<f32>], query: usize| -> Vec<usize> {
            scores.fill(&centroids, queries.iter().map(Vec::as_slice));
            ranked.begin(&scores, query);
            (0..).map_while(|place| ranked.at(place)).collect()
        };
        for query in 0..queries.len() {
            let alone = order(&queries[query..=query], 0);
            assert_eq!(alone.len(), 100);
            assert_eq!(order(&queries, query), alone);
        }
    }
}
