//! Random numbers that are the same on every run, everywhere.

const SEED: u64 = 0x5eed_0000_c105_7e25;

/// SplitMix64: good enough to choose seeds, the same everywhere.
pub(in crate::vector) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self::new(SEED)
    }
}

impl Random {
    pub(in crate::vector) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::vector) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 for a bound of 0.
    pub(in crate::vector) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Up to `count` different numbers below `bound`, in random order.
    pub(in crate::vector) fn choose(&mut self, bound: usize, count: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..bound).collect();
        let count = count.min(bound);
        for index in 0..count {
            let other = index + self.below((bound - index) as u64) as usize;
            numbers.swap(index, other);
        }
        numbers.truncate(count);
        numbers
    }

    /// An index, drawn in proportion to its weight; None when all weights are zero.
    pub(in crate::vector) fn weighted(&mut self, weights: &[f32]) -> Option<usize> {
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mut left = total * (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let mut last = None;
        for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = Some(index);
            left -= f64::from(*weight);
            if left < 0.0 {
                break;
            }
        }
        last
    }
}
