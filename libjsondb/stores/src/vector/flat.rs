//! Rows that are scanned as a whole, because they are few: their codes relative to one point, of one bit per number, and, where there is room, of four,
//! by which few rows are left whose vectors must be read.

use super::keys::RowId;
use super::list::{Coded, List};
use super::rabitq::{FineCodes, Query};

/// By rising row.
#[derive(Debug, PartialEq)]
pub(super) struct Flat {
    list: List,
    fine: Option<FineCodes>,
}

impl Flat {
    /// Of no rows, with codes of `words` words.
    pub(super) fn new(words: usize, is_fine: bool) -> Self {
        Self { list: List::new(words), fine: is_fine.then(|| FineCodes::new(words)) }
    }

    /// Bytes that a row takes.
    pub(super) fn row_bytes(words: usize, is_fine: bool) -> usize {
        List::row_bytes(words) + if is_fine { FineCodes::row_bytes(words) } else { 0 }
    }

    pub(super) fn list(&self) -> &List {
        &self.list
    }

    pub(super) fn is_fine(&self) -> bool {
        self.fine.is_some()
    }

    /// Adds a row, which is above all others: its code relative to the point that all have in common, and what that was made of.
    pub(super) fn push(&mut self, coded: Coded<'_>, rotated: &[f32], point: &[f32]) {
        self.list.push(coded);
        if let Some(fine) = &mut self.fine {
            fine.push(rotated, point, coded.factors.add);
        }
    }

    /// These and others that are relative to the same point: those of both for which `keep` is true. Fine where both are.
    pub(super) fn merged(&self, added: &Flat, keep: impl Fn(RowId) -> bool) -> Self {
        let words = self.list.words();
        let mut all = Self::new(words, self.is_fine() && added.is_fine());
        let mut code = vec![0; words];
        let mut push = |from: &Flat, index: usize| {
            let row = from.list.row(index);
            if keep(row) {
                from.list.copy_code(index, &mut code);
                let factors = from.list.factors(index);
                all.list.push(Coded { row, is_primary: true, factors, code: &code });
                if let (Some(to), Some(from)) = (&mut all.fine, &from.fine) {
                    to.push_from(from, index);
                }
            }
        };
        let mut next = 0;
        for index in 0..self.list.len() {
            while next < added.list.len() && added.list.row(next) < self.list.row(index) {
                push(added, next);
                next += 1;
            }
            push(self, index);
        }
        (next..added.list.len()).for_each(|next| push(added, next));
        all
    }

    /// The product of the query, as it looks from the point, with a row, and so many standard errors; None where it is not known.
    pub(super) fn bound(&self, row: RowId, query: &Query, errors: f32) -> Option<f32> {
        let fine = self.fine.as_ref()?;
        let (mut low, mut high) = (0, self.list.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.list.row(middle) < row { low = middle + 1 } else { high = middle }
        }
        (low < self.list.len() && self.list.row(low) == row).then(|| fine.bound(low, query, errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::rabitq::encode;

    const DIMENSION: usize = 64;

    fn vector(row: u64) -> Vec<f32> {
        (0..DIMENSION as u64).map(|at| ((row * 31 + at * at * 17) % 23) as f32 - 11.0).collect()
    }

    fn flat(rows: &[u64], is_fine: bool) -> Flat {
        let (mut flat, point, mut code) = (Flat::new(1, is_fine), vector(1_000), [0]);
        for row in rows {
            let factors = encode(&vector(*row), &point, &mut code);
            let coded = Coded { row: RowId(*row), is_primary: true, factors, code: &code };
            flat.push(coded, &vector(*row), &point);
        }
        flat
    }

    #[test]
    fn merged_rows_are_those_of_both_in_order() {
        let merged = flat(&[1, 4, 6, 9], true).merged(&flat(&[0, 5, 7, 8, 12], true), |row| row.0 != 6);
        assert_eq!(merged, flat(&[0, 1, 4, 5, 7, 8, 9, 12], true));
        let coarse = flat(&[1, 4], true).merged(&flat(&[5], false), |_| true);
        assert_eq!(coarse, flat(&[1, 4, 5], false), "fine where both are");
    }

    #[test]
    fn a_bound_is_that_of_the_row_asked_for() {
        let (rows, query) = ([2, 3, 5, 8, 13, 21, 34], vector(77));
        let prepared = Query::new(&query, &vector(1_000));
        let fine = flat(&rows, true);
        for row in 0..40 {
            let bound = fine.bound(RowId(row), &prepared, 5.0);
            assert_eq!(bound.is_some(), rows.contains(&row), "{row}");
            let alone = flat(&[row], true).bound(RowId(row), &prepared, 5.0);
            assert!(bound.is_none() || bound == alone, "{row}");
        }
        assert_eq!(flat(&rows, false).bound(RowId(3), &prepared, 5.0), None);
    }
}
