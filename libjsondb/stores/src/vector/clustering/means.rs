//! Means of rows.

use crate::vector::kernel::Matrix;

/// Moves each centroid to the mean of its rows, given the cluster of each row. One without rows stays where it is.
pub(super) fn move_to_means(rows: &Matrix, clusters: &[u32], centroids: &mut Matrix) {
    let mut sizes = vec![0usize; centroids.len()];
    for cluster in clusters {
        if sizes[*cluster as usize] == 0 {
            centroids.row_mut(*cluster as usize).fill(0.0);
        }
        sizes[*cluster as usize] += 1;
    }
    for (row, cluster) in rows.rows().zip(clusters) {
        add_share(centroids.row_mut(*cluster as usize), row, sizes[*cluster as usize]);
    }
}

/// The mean of the rows; of none, the zero vector.
pub(super) fn mean<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, dimension: usize) -> Vec<f32> {
    let mut mean = vec![0.0; dimension];
    let count = rows.len();
    rows.for_each(|row| add_share(&mut mean, row, count));
    mean
}

/// Adds the part of a row that it has in the mean of `count`: a sum of rows that is divided later could overflow.
fn add_share(mean: &mut [f32], row: &[f32], count: usize) {
    let share = 1.0 / count as f32;
    mean.iter_mut().zip(row).for_each(|(mean, number)| *mean += number * share);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centroid_without_rows_stays_where_it_is() {
        let (mut rows, mut centroids) = (Matrix::new(1), Matrix::new(1));
        [[1.0], [2.0], [5.0]].iter().for_each(|row| rows.push(row));
        [[7.0], [8.0], [9.0]].iter().for_each(|centroid| centroids.push(centroid));
        move_to_means(&rows, &[2, 2, 0], &mut centroids);
        assert_eq!(centroids.rows().flatten().copied().collect::<Vec<_>>(), [5.0, 8.0, 1.5]);
    }

    #[test]
    fn sums_do_not_overflow() {
        let mut rows = Matrix::new(1);
        (0..10).for_each(|_| rows.push(&[3e38]));
        assert!((mean(rows.rows(), 1)[0] / 3e38 - 1.0).abs() < 1e-5);
        assert_eq!(mean(Matrix::new(2).rows(), 2), [0.0, 0.0]);
    }
}
