//! Vectors in memory, and how one is stored.

/// Vectors of one dimension, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::vector) struct Matrix {
    dimension: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// No rows yet. `dimension` is at least 1.
    pub(in crate::vector) fn new(dimension: usize) -> Self {
        Self { dimension, data: Vec::new() }
    }

    pub(in crate::vector) fn zeros(dimension: usize, rows: usize) -> Self {
        Self { dimension, data: vec![0.0; dimension * rows] }
    }

    pub(in crate::vector) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of rows.
    pub(in crate::vector) fn len(&self) -> usize {
        self.data.len().checked_div(self.dimension).unwrap_or(0)
    }

    pub(in crate::vector) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub(in crate::vector) fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.dimension..][..self.dimension]
    }

    pub(in crate::vector) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.data[index * self.dimension..][..self.dimension]
    }

    pub(in crate::vector) fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.dimension.max(1))
    }

    /// Parts of so many rows, the last one of fewer.
    pub(in crate::vector) fn chunks_mut(&mut self, rows: usize) -> std::slice::ChunksMut<'_, f32> {
        self.data.chunks_mut((rows * self.dimension).max(1))
    }

    pub(in crate::vector) fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.dimension);
        self.data.extend_from_slice(row);
    }

    /// Removes a row; the last one takes its place.
    pub(in crate::vector) fn swap_remove(&mut self, index: usize) {
        let last = (self.len() - 1) * self.dimension;
        self.data.copy_within(last.., index * self.dimension);
        self.data.truncate(last);
    }

    pub(in crate::vector) fn clear(&mut self) {
        self.data.clear();
    }
}

/// A vector as it is stored: f32, little endian.
pub(in crate::vector) fn encode(vector: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vector.len() * 4);
    for number in vector {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// The vector in bytes made by [`encode`]; None when their length is not a multiple of four.
pub(in crate::vector) fn decode(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_vectors_come_back_bit_for_bit() {
        let vector = [0.1, -0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, -3.5];
        let decoded = decode(&encode(&vector)).unwrap();
        assert_eq!(
            vector.map(f32::to_bits).as_slice(),
            decoded.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!(decode(&[1, 2, 3]), None);
    }
}
