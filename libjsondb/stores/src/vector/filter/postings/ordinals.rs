//! Sets of ordinals, as bits.

use super::Ordinal;

const BITS: u32 = u64::BITS;

/// A set of ordinals below a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ordinals {
    words: Vec<u64>,
    bound: Ordinal,
}

impl Ordinals {
    pub(super) fn none(bound: Ordinal) -> Self {
        Self { words: vec![0; bound.div_ceil(BITS) as usize], bound }
    }

    /// False, and nothing is added, for one that is not below the bound.
    #[must_use]
    pub(super) fn add(&mut self, ordinal: Ordinal) -> bool {
        if ordinal >= self.bound {
            return false;
        }
        self.words[(ordinal / BITS) as usize] |= 1 << (ordinal % BITS);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(super) fn union(mut self, other: &Self) -> Self {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
        self
    }

    pub(super) fn intersection(mut self, other: &Self) -> Self {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
        self
    }

    /// Those below the bound that are not in it.
    pub(super) fn complement(mut self) -> Self {
        self.words.iter_mut().for_each(|word| *word = !*word);
        if let Some(last) = self.words.last_mut()
            && !self.bound.is_multiple_of(BITS)
        {
            *last &= (1 << (self.bound % BITS)) - 1;
        }
        self
    }

    /// Bit `n` says whether `ordinal + n` is in it.
    pub(super) fn word_at(&self, ordinal: Ordinal) -> u64 {
        let (index, shift) = ((ordinal / BITS) as usize, ordinal % BITS);
        let word = |index: usize| self.words.get(index).copied().unwrap_or(0);
        match shift {
            0 => word(index),
            _ => word(index) >> shift | word(index + 1) << (BITS - shift),
        }
    }
}

/// Ordinals, and how many smaller ones there are.
pub(super) struct Ranks {
    ordinals: Ordinals,
    /// For each word, how many are in those before it.
    before: Vec<Ordinal>,
}

impl Ranks {
    pub(super) fn new(ordinals: Ordinals) -> Self {
        let mut count = 0;
        let before = ordinals.words.iter().map(|word| {
            count += word.count_ones();
            count - word.count_ones()
        });
        Self { before: before.collect(), ordinals }
    }

    /// How many smaller ordinals there are; None for one that is not among them.
    pub(super) fn rank(&self, ordinal: Ordinal) -> Option<Ordinal> {
        let (index, bit) = ((ordinal / BITS) as usize, 1 << (ordinal % BITS));
        let word = self.ordinals.words.get(index).filter(|word| **word & bit != 0)?;
        Some(self.before[index] + (word & (bit - 1)).count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_ordinals_behave_as_sets() {
        let of = |ordinals: &[Ordinal]| {
            let mut set = Ordinals::none(130);
            assert!(ordinals.iter().all(|ordinal| set.add(*ordinal)));
            set
        };
        let (one, other) = (of(&[0, 63, 64, 129]), of(&[63, 65]));
        assert_eq!(one.clone().union(&other), of(&[0, 63, 64, 65, 129]));
        assert_eq!(one.clone().intersection(&other), of(&[63]));
        assert_eq!(one.clone().complement().complement(), one);
        assert_eq!(one.clone().complement().intersection(&one), of(&[]));
        assert!(of(&[]).is_empty() && !of(&[]).complement().is_empty());
        assert!(!Ordinals::none(130).add(130));
        assert_eq!(one.word_at(60), 0b11000);
        assert_eq!(one.word_at(129), 1);
        assert_eq!(one.word_at(1000), 0);
        assert!(Ordinals::none(0).complement().is_empty());
    }

    #[test]
    fn ranks_are_places_in_order() {
        let mut set = Ordinals::none(200);
        let ordinals = [0, 5, 63, 64, 127, 199];
        assert!(ordinals.iter().all(|ordinal| set.add(*ordinal)));
        let ranks = Ranks::new(set);
        for (rank, ordinal) in (0..).zip(ordinals) {
            assert_eq!(ranks.rank(ordinal), Some(rank));
        }
        for other in [1, 62, 65, 198, 200, 5000] {
            assert_eq!(ranks.rank(other), None);
        }
    }
}
