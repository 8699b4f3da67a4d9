//! Which snapshots the open write transactions of this process have: what was committed after the oldest is kept, to validate
//! them.

use std::collections::VecDeque;

use crate::Seq;

/// Snapshots in use, rising, each with the number of its transactions. One without stays until it is the oldest.
#[derive(Default)]
pub(crate) struct Writers(VecDeque<(Seq, usize)>);

impl Writers {
    /// A transaction begins on the newest snapshot there is.
    pub(crate) fn enter(&mut self, snapshot: Seq) {
        match self.0.back_mut() {
            Some((newest, count)) if *newest == snapshot => *count += 1,
            _ => self.0.push_back((snapshot, 1)),
        }
    }

    /// A transaction ends.
    pub(crate) fn leave(&mut self, snapshot: Seq) {
        let found = self.0.binary_search_by_key(&snapshot, |(seq, _)| *seq);
        if let Some((_, count)) = found.ok().and_then(|index| self.0.get_mut(index)) {
            *count -= 1;
        }
        while self.0.front().is_some_and(|(_, count)| *count == 0) {
            self.0.pop_front();
        }
    }

    /// None: nobody writes.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        self.0.front().map(|(oldest, _)| *oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_that_of_a_transaction_that_is_open() {
        let mut writers = Writers::default();
        for snapshot in [3, 3, 5, 9] {
            writers.enter(Seq(snapshot));
        }
        writers.leave(Seq(5));
        assert_eq!(writers.oldest(), Some(Seq(3)));
        writers.leave(Seq(3));
        assert_eq!(writers.oldest(), Some(Seq(3)));
        writers.leave(Seq(3));
        assert_eq!(writers.oldest(), Some(Seq(9)));
        writers.leave(Seq(9));
        assert_eq!(writers.oldest(), None);
    }
}
