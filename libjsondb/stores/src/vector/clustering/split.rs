//! Dividing one cluster in two.

use super::means::mean;
use crate::vector::kernel::{Matrix, distance_squared, dot};

const ROUNDS_MAX: usize = 8;

/// The smaller half has at least this part of the rows, so that few splits bring a large cluster down.
const SMALLER_HALF: usize = 3;

/// Two centroids for the rows of a cluster, each the mean of a third of the rows at least: balanced 2-means. Both are
/// the same when all rows are. There is at least one row.
pub(in crate::vector) fn split_in_two(rows: &Matrix) -> (Vec<f32>, Vec<f32>) {
    let left = farthest(rows, &mean(rows.rows(), rows.dimension()));
    let (mut left, mut right) = (rows.row(left).to_vec(), rows.row(farthest(rows, rows.row(left))).to_vec());
    let mut last = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let (order, boundary) = divide(rows, &left, &right);
        let (of_left, of_right) = order.split_at(boundary);
        (left, right) = (mean_of(rows, of_left), mean_of(rows, of_right));
        let mut halves = of_left.to_vec();
        halves.sort_unstable();
        if halves == last {
            break;
        }
        last = halves;
    }
    (left, right)
}

fn mean_of(rows: &Matrix, indexes: &[usize]) -> Vec<f32> {
    mean(indexes.iter().map(|index| rows.row(*index)), rows.dimension())
}

fn farthest(rows: &Matrix, from: &[f32]) -> usize {
    let distances = rows.rows().map(|row| distance_squared(row, from)).enumerate();
    // The first of equals.
    distances.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(index, _)| index)
}

/// The rows from the left to the right, and how many of them are on the left.
fn divide(rows: &Matrix, left: &[f32], right: &[f32]) -> (Vec<usize>, usize) {
    let direction: Vec<f32> = right.iter().zip(left).map(|(right, left)| right - left).collect();
    let middle = (dot(right, &direction) + dot(left, &direction)) / 2.0;
    let places: Vec<f32> = rows.rows().map(|row| dot(row, &direction) - middle).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    let nearer_left = places.iter().filter(|place| **place <= 0.0).count();
    let smallest = rows.len() / SMALLER_HALF;
    (order, nearer_left.clamp(smallest, rows.len() - smallest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::random::Random;

    fn rows(places: impl Iterator<Item = f32>) -> Matrix {
        let mut random = Random::new(1);
        let mut rows = Matrix::new(3);
        places.for_each(|place| rows.push(&[place, random.below(100) as f32 / 1_000.0, 5.0]));
        rows
    }

    #[test]
    fn two_lumps_get_a_centroid_each() {
        let rows = rows((0..100).map(|row| if row % 5 < 2 { 1.0 } else { 3.0 }));
        let (left, right) = split_in_two(&rows);
        let mut places = [left[0], right[0]];
        places.sort_by(f32::total_cmp);
        assert!((places[0] - 1.0).abs() < 1e-4 && (places[1] - 3.0).abs() < 1e-4, "{places:?}");
    }

    #[test]
    fn a_few_outliers_do_not_become_a_half() {
        let rows = rows((0..99).map(|row| if row == 50 { 1_000.0 } else { row as f32 / 100.0 }));
        let (left, right) = split_in_two(&rows);
        let right = if left[0] > right[0] { left } else { right };
        assert!(right[0] < 1_000.0 / 33.0 + 1.0, "{right:?}");
    }

    #[test]
    fn equal_rows_and_few_rows_are_split_without_harm() {
        let (left, right) = split_in_two(&rows(std::iter::repeat_n(0.0, 10)));
        assert!(left.iter().chain(&right).all(|number| number.is_finite()));
        let mut equal = Matrix::new(2);
        (0..7).for_each(|_| equal.push(&[0.25, 0.5]));
        let (left, right) = split_in_two(&equal);
        assert!(distance_squared(&left, &right) < 1e-12);
        let mut pair = Matrix::new(1);
        [[1.0], [2.0]].iter().for_each(|row| pair.push(row));
        let (left, right) = split_in_two(&pair);
        assert_eq!((left[0] + right[0], (left[0] - right[0]).abs()), (3.0, 1.0));
        let mut single = Matrix::new(1);
        single.push(&[4.0]);
        let (left, right) = split_in_two(&single);
        assert!(left == [4.0] || right == [4.0]);
    }
}
