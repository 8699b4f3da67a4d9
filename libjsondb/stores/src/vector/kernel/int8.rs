//! Approximate products of one vector with many: both in 8 bits per number, each with a scale of its own.
//!
//! The standard error is about 0.5 % of the mean magnitude of a product: enough to choose the few rows whose exact
//! products are then taken.

use super::{dot, int8_numbers, int8_scores};

/// Rows that lie interleaved: four numbers of each of 16 rows, then the next four.
pub(super) const GROUP: usize = 16;

/// Four numbers of each row of a group.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Block(pub(super) [i8; 4 * GROUP]);

/// What turns the integer products of a group of rows into scores.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Factors {
    /// -128 times the sum of the row: a query's numbers are stored 128 higher than they are.
    pub(super) bias: [i32; GROUP],
    pub(super) scale: [f32; GROUP],
    pub(super) add: [f32; GROUP],
}

/// Vectors of one dimension in 8 bits per number.
#[derive(Clone, Debug)]
pub(in crate::vector) struct Int8Rows {
    blocks_per_group: usize,
    len: usize,
    blocks: Vec<Block>,
    pub(super) factors: Vec<Factors>,
    /// Of each row.
    squared_norms: Vec<f32>,
    /// Sums over all rows.
    squared_norms_sum: f32,
    squared_scales_sum: f32,
}

/// A vector to be multiplied with [`Int8Rows`].
#[derive(Clone, Debug, Default)]
pub(in crate::vector) struct Int8Query {
    /// 128 higher than they are: the instructions multiply unsigned with signed numbers.
    pub(super) numbers: Vec<[u8; 4]>,
    pub(super) scale: f32,
    squared_norm: f32,
}

impl Int8Rows {
    /// No rows yet. `dimension` is at least 1.
    pub(in crate::vector) fn new(dimension: usize) -> Self {
        Self {
            blocks_per_group: dimension.div_ceil(4),
            len: 0,
            blocks: Vec::new(),
            factors: Vec::new(),
            squared_norms: Vec::new(),
            squared_norms_sum: 0.0,
            squared_scales_sum: 0.0,
        }
    }

    /// Number of rows.
    pub(in crate::vector) fn len(&self) -> usize {
        self.len
    }

    /// Adds a row.
    #[cfg(test)]
    pub(in crate::vector) fn push(&mut self, row: &[f32]) {
        self.push_with(row, 0.0);
    }

    /// Adds a row whose scores are its products plus `add`.
    pub(in crate::vector) fn push_with(&mut self, row: &[f32], add: f32) {
        self.push_scaled(row, 1.0, add);
    }

    /// Adds a row whose scores are its products times `factor` plus `add`.
    pub(in crate::vector) fn push_scaled(&mut self, row: &[f32], factor: f32, add: f32) {
        if self.len.is_multiple_of(GROUP) {
            self.blocks.resize(self.blocks.len() + self.blocks_per_group, Block([0; 4 * GROUP]));
            self.factors.push(Factors { bias: [0; GROUP], scale: [0.0; GROUP], add: [0.0; GROUP] });
        }
        self.squared_norms.push(0.0);
        self.len += 1;
        self.write(self.len - 1, row, factor, add);
        self.squared_norms_sum += self.squared_norms[self.len - 1];
        let scale = self.factors[(self.len - 1) / GROUP].scale[(self.len - 1) % GROUP];
        self.squared_scales_sum += scale * scale;
    }

    /// Puts a row into the place of another.
    pub(in crate::vector) fn replace(&mut self, index: usize, row: &[f32], factor: f32, add: f32) {
        self.write(index, row, factor, add);
        self.sum_up();
    }

    /// Removes a row; the last one takes its place.
    pub(in crate::vector) fn swap_remove(&mut self, index: usize) {
        let last = self.len - 1;
        let (to, from) = (index / GROUP * self.blocks_per_group, last / GROUP * self.blocks_per_group);
        for block in 0..self.blocks_per_group {
            let numbers = self.blocks[from + block].0;
            self.blocks[to + block].0[index % GROUP * 4..][..4]
                .copy_from_slice(&numbers[last % GROUP * 4..][..4]);
        }
        let Factors { bias, scale, add } = self.factors[last / GROUP];
        let factors = &mut self.factors[index / GROUP];
        factors.bias[index % GROUP] = bias[last % GROUP];
        factors.scale[index % GROUP] = scale[last % GROUP];
        factors.add[index % GROUP] = add[last % GROUP];
        self.squared_norms.swap_remove(index);
        self.len = last;
        self.factors.truncate(self.len.div_ceil(GROUP));
        self.blocks.truncate(self.factors.len() * self.blocks_per_group);
        if let Some(factors) = self.factors.get_mut(last / GROUP) {
            // Of the lane that stands for no row now.
            factors.scale[last % GROUP] = 0.0;
        }
        self.sum_up();
    }

    /// Sums are taken anew, as a difference of large numbers would be far off.
    fn sum_up(&mut self) {
        self.squared_norms_sum = self.squared_norms.iter().sum();
        self.squared_scales_sum =
            self.factors.iter().flat_map(|factors| factors.scale).map(|scale| scale * scale).sum();
    }

    fn write(&mut self, index: usize, row: &[f32], factor: f32, add: f32) {
        let (group, lane) = (index / GROUP, index % GROUP);
        let mut query = Int8Query::new(row);
        query.scale *= factor;
        let mut sum = 0i32;
        for (block, numbers) in self.blocks[group * self.blocks_per_group..].iter_mut().zip(&query.numbers) {
            for (to, number) in block.0[lane * 4..][..4].iter_mut().zip(numbers) {
                *to = (i16::from(*number) - 128) as i8;
                sum = sum.wrapping_add(i32::from(*to));
            }
        }
        let factors = &mut self.factors[group];
        factors.bias[lane] = sum.wrapping_mul(-128);
        factors.scale[lane] = query.scale;
        factors.add[lane] = add;
        self.squared_norms[index] = query.squared_norm * factor * factor;
    }

    /// Replaces `out` by the approximate score of each row: its product with the query.
    pub(in crate::vector) fn scores(&self, query: &Int8Query, out: &mut Vec<f32>) {
        self.scores_of(std::slice::from_ref(query), out);
        out.truncate(self.len);
    }

    /// Replaces `out` by the scores of all rows for the first query, then those for the second, and so on; each takes
    /// [`Int8Rows::padded_len`] numbers, of which the last ones stand for no row.
    pub(in crate::vector) fn scores_of(&self, queries: &[Int8Query], out: &mut Vec<f32>) {
        out.resize(queries.len() * self.padded_len(), 0.0);
        int8_scores(self, queries, out);
    }

    /// Standard error of a score of this query, for a row of usual length: rounding adds a variance of 1/12 of the scale
    /// squared for each number of the one, times the number of the other.
    pub(in crate::vector) fn standard_error(&self, query: &Int8Query) -> f32 {
        let of_rows = self.squared_scales_sum * query.squared_norm;
        let of_query = query.scale * query.scale * self.squared_norms_sum;
        ((of_rows + of_query) / (12 * self.len.max(1)) as f32).sqrt()
    }

    /// Number of rows, rounded up to whole groups.
    pub(in crate::vector) fn padded_len(&self) -> usize {
        self.factors.len() * GROUP
    }

    pub(super) fn blocks(&self, group: usize) -> &[Block] {
        &self.blocks[group * self.blocks_per_group..][..self.blocks_per_group]
    }

    /// What the kernels rely on.
    pub(super) fn check(&self, queries: &[Int8Query], out: &[f32]) {
        assert!(queries.iter().all(|query| query.numbers.len() == self.blocks_per_group));
        assert_eq!(out.len(), queries.len() * self.padded_len());
    }
}

impl Int8Query {
    pub(in crate::vector) fn new(vector: &[f32]) -> Self {
        let mut query = Self::default();
        query.prepare(vector);
        query
    }

    /// Becomes another vector, in the same memory.
    pub(in crate::vector) fn prepare(&mut self, vector: &[f32]) {
        // What is left over of the last four stands for zero.
        self.numbers.clear();
        self.numbers.resize(vector.len().div_ceil(4), [128; 4]);
        self.scale = int8_numbers(vector, &mut self.numbers.as_flattened_mut()[..vector.len()]);
        self.squared_norm = dot(vector, vector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize) -> Vec<f32> {
        (0..10).map(|index| ((number * 31 + index * 17) % 23) as f32 - 11.0).collect()
    }

    fn rows(numbers: &[usize]) -> Int8Rows {
        let mut rows = Int8Rows::new(10);
        numbers.iter().for_each(|number| rows.push_scaled(&row(*number), 0.5, *number as f32));
        rows
    }

    #[test]
    fn replaced_and_removed_rows_leave_nothing_behind() {
        let query = Int8Query::new(&row(1_000));
        for count in [2, 16, 17, 40] {
            let mut numbers: Vec<usize> = (0..count).collect();
            let mut changed = rows(&numbers);
            for step in 0..count - 1 {
                let place = step * 7 % numbers.len();
                numbers[place] = 100 + step;
                changed.replace(place, &row(100 + step), 0.5, (100 + step) as f32);
                let place = step * 5 % numbers.len();
                numbers.swap_remove(place);
                changed.swap_remove(place);
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                changed.scores(&query, &mut found);
                rows(&numbers).scores(&query, &mut expected);
                assert_eq!(found, expected);
                assert_eq!(changed.padded_len(), numbers.len().next_multiple_of(GROUP));
                let (found, expected) =
                    (changed.standard_error(&query), rows(&numbers).standard_error(&query));
                assert!((found - expected).abs() <= 1e-5 * expected);
            }
        }
    }
}
