//! Which snapshots the open write transactions of this process have: what was committed after the oldest is kept, to validate
//! them.

use std::collections::VecDeque;

use crate::Seq;

/// So many snapshots without a transaction are kept in any case.
const ENDED_MIN: usize = 32;

/// Snapshots in use, rising, each with the number of its transactions. One without stays until it is the oldest, or most are.
#[derive(Default)]
pub(crate) struct Writers {
    snapshots: VecDeque<(Seq, usize)>,
    /// How many of them are without.
    ended: usize,
}

impl Writers {
    /// A transaction begins on the newest snapshot there is.
    pub(crate) fn enter(&mut self, snapshot: Seq) {
        match self.snapshots.back_mut() {
            Some((newest, count)) if *newest == snapshot => {
                self.ended -= usize::from(*count == 0);
                *count += 1;
            }
            _ => self.snapshots.push_back((snapshot, 1)),
        }
    }

    /// A transaction ends.
    pub(crate) fn leave(&mut self, snapshot: Seq) {
        let found = self.snapshots.binary_search_by_key(&snapshot, |(seq, _)| *seq);
        if let Some((_, count)) = found.ok().and_then(|index| self.snapshots.get_mut(index)) {
            *count -= 1;
            self.ended += usize::from(*count == 0);
        }
        while self.snapshots.front().is_some_and(|(_, count)| *count == 0) {
            self.snapshots.pop_front();
            self.ended -= 1;
        }
        if self.ended > ENDED_MIN + self.snapshots.len() / 2 {
            // An old transaction is still open, and many have come and gone since.
            self.snapshots.retain(|(_, count)| *count > 0);
            self.ended = 0;
        }
    }

    /// None: nobody writes.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        self.snapshots.front().map(|(oldest, _)| *oldest)
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

    #[test]
    fn transactions_that_come_and_go_beside_an_old_one_leave_nothing_in_memory() {
        let mut writers = Writers::default();
        writers.enter(Seq(1));
        writers.enter(Seq(2));
        for snapshot in 3..10_000 {
            writers.enter(Seq(snapshot));
            writers.leave(Seq(snapshot - 1));
            writers.enter(Seq(snapshot));
            writers.leave(Seq(snapshot));
            assert!(writers.snapshots.len() < 100);
            assert_eq!(writers.oldest(), Some(Seq(1)));
        }
        writers.leave(Seq(1));
        assert_eq!(writers.oldest(), Some(Seq(9999)));
        writers.leave(Seq(9999));
        assert_eq!((writers.oldest(), writers.ended), (None, 0));
    }
}
