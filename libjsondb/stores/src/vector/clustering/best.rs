//! The few largest of many scores.

/// Scores compared together.
const CHUNK: usize = 16;

/// Scores of which the maximum of each 16th is taken.
const BLOCK: usize = 16 * CHUNK;

/// Collects the `limit` largest scores offered, and whatever is less than `margin` below the largest, with their ids. A
/// score that is not a number is never among them.
#[derive(Debug)]
pub(super) struct Best {
    limit: usize,
    margin: f32,
    /// A score has to be larger.
    threshold: f32,
    found: Vec<(f32, u32)>,
    maxima: Vec<f32>,
    /// How many may be found before those that are out are removed.
    full: usize,
}

impl Best {
    /// `limit` is at least 1.
    pub(super) fn new(limit: usize) -> Self {
        let (found, maxima) = (Vec::new(), Vec::new());
        Self { limit, margin: 0.0, threshold: f32::NEG_INFINITY, found, maxima, full: 2 * limit }
    }

    /// Begins anew, with another margin.
    pub(super) fn begin(&mut self, margin: f32) {
        self.margin = margin;
        self.threshold = f32::NEG_INFINITY;
        self.found.clear();
        self.full = 2 * self.limit;
    }

    /// Offers scores of the ids `id_of(0)`, `id_of(1)`, ...
    pub(super) fn offer(&mut self, scores: &[f32], id_of: impl Fn(usize) -> u32) {
        self.raise_threshold(scores);
        for (chunk, scores) in scores.chunks(CHUNK).enumerate() {
            // Of most chunks no score is good enough; that is seen at once, without a branch per score.
            if !scores.iter().fold(false, |any, score| any | (*score > self.threshold)) {
                continue;
            }
            for (index, score) in scores.iter().enumerate() {
                if *score > self.threshold {
                    self.found.push((*score, id_of(chunk * CHUNK + index)));
                    if self.found.len() == self.full {
                        self.cut();
                    }
                }
            }
        }
    }

    /// Sees what the best of these scores reach, so that few of the others are looked at one by one.
    fn raise_threshold(&mut self, scores: &[f32]) {
        self.maxima.clear();
        for block in scores.chunks(BLOCK) {
            let mut maxima = [f32::NEG_INFINITY; CHUNK];
            for chunk in block.as_chunks::<CHUNK>().0 {
                for (maximum, score) in maxima.iter_mut().zip(chunk) {
                    *maximum = if *score > *maximum { *score } else { *maximum };
                }
            }
            self.maxima.extend(maxima);
        }
        if self.maxima.len() < self.limit {
            return;
        }
        let (above, reached, _) = self.maxima.select_nth_unstable_by(self.limit - 1, |a, b| b.total_cmp(a));
        let largest = above.iter().fold(*reached, |largest, maximum| largest.max(*maximum));
        let lowest = reached.min(largest - self.margin);
        self.threshold = self.threshold.max(lowest.next_down());
    }

    /// The ids of those that are in, in no order.
    pub(super) fn ids(&mut self) -> impl Iterator<Item = u32> {
        if self.found.len() > self.limit {
            self.cut();
        }
        self.found.iter().map(|(_, id)| *id)
    }

    /// Removes what is out, of `limit` or more.
    fn cut(&mut self) {
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let largest = self.found.iter().fold(f32::NEG_INFINITY, |largest, (score, _)| largest.max(*score));
        let lowest = largest - self.margin;
        let (_, last, _) = self.found.select_nth_unstable_by(self.limit - 1, order);
        let last = *last;
        self.found.retain(|found| found.0 > lowest || order(found, &last).is_le());
        self.threshold = last.0.min(lowest);
        self.full = 2 * self.found.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::random::Random;

    fn sorted(ids: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut ids: Vec<u32> = ids.collect();
        ids.sort();
        ids
    }

    #[test]
    fn the_largest_are_found_whatever_the_limit() {
        let mut random = Random::new(1);
        for count in [0, 1, 15, 16, 17, 500] {
            let scores: Vec<f32> = (0..count).map(|_| random.below(100_000) as f32).collect();
            let mut expected: Vec<(f32, u32)> = scores.iter().copied().zip(0..).collect();
            expected.sort_by(|a, b| b.0.total_cmp(&a.0));
            for limit in [1, 4, 24, 600] {
                let mut best = Best::new(limit);
                for margin in [0.0, 1_000.0, 1e9] {
                    best.begin(margin);
                    best.offer(&scores, |index| index as u32);
                    let lowest = expected.first().map_or(0.0, |(largest, _)| largest - margin);
                    let inside = expected.iter().filter(|(score, _)| *score > lowest).count();
                    let expected = expected.iter().take(limit.max(inside)).map(|(_, id)| *id);
                    assert_eq!(sorted(best.ids()), sorted(expected));
                }
            }
        }
    }

    #[test]
    fn scores_that_are_not_numbers_are_left_out() {
        let mut best = Best::new(2);
        best.offer(&[f32::NAN, 1.0, -f32::NAN, f32::NEG_INFINITY, 2.0], |index| index as u32 + 10);
        assert_eq!(sorted(best.ids()), [11, 14]);
    }
}
