//! Where the bytes of a segment lie on its shards: arithmetic only.
//!
//! A segment is cut into units; unit `u` lies on shard `u % data`, in stripe `u / data`. The parity units of a stripe are as long as its
//! longest unit, its first. Units of a full length lie in each shard at multiples of their length and checksum; only the last stripe has
//! shorter ones.

use super::shard::{HEADER_LEN, TRAILER_LEN, UNIT_CRC_LEN};

/// Bytes of a unit, of sets that are made by this version. (The tests of this crate cut small segments into many stripes.)
pub(crate) const UNIT_BYTES: u32 = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// The code takes bytes in pieces of so many: a unit is a multiple of it, and so is all parity.
pub(crate) const PIECE_BYTES: usize = 64;

/// How segments of a set are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Shards with data.
    pub(crate) data: usize,
    /// Shards with parity.
    pub(crate) parity: usize,
    /// Bytes of a unit.
    pub(crate) unit: u64,
}

impl Layout {
    pub(crate) fn shards(&self) -> usize {
        self.data + self.parity
    }

    /// Bytes of data in a full stripe.
    pub(crate) fn stripe_bytes(&self) -> u64 {
        self.data as u64 * self.unit
    }

    /// Number of stripes of a segment of `len` bytes.
    pub(crate) fn stripes(&self, len: u64) -> u64 {
        len.div_ceil(self.stripe_bytes())
    }

    /// Length of the unit that a shard has of a stripe, in a segment of `len` bytes.
    pub(crate) fn unit_len(&self, shard: usize, stripe: u64, len: u64) -> u64 {
        let rest = len.saturating_sub(stripe.saturating_mul(self.stripe_bytes()));
        if shard < self.data {
            rest.saturating_sub(shard as u64 * self.unit).min(self.unit)
        } else {
            rest.min(self.unit).next_multiple_of(PIECE_BYTES as u64)
        }
    }

    /// How many of the first shards hold some of the data of a segment of `len` bytes: of a short one the others are known to be empty.
    pub(crate) fn used(&self, len: u64) -> usize {
        self.data.min(len.div_ceil(self.unit) as usize)
    }

    /// Length of all units of a stripe as the code sees them: what is shorter ends in zeros.
    pub(crate) fn coded_len(&self, stripe: u64, len: u64) -> u64 {
        self.unit_len(self.data, stripe, len)
    }

    /// Where in its shard a stripe's unit begins.
    pub(crate) fn unit_at(&self, stripe: u64) -> u64 {
        stripe.saturating_mul(self.unit + UNIT_CRC_LEN).saturating_add(HEADER_LEN)
    }

    /// Where in a shard its trailer begins, of a segment of `len` bytes.
    pub(crate) fn trailer_at(&self, shard: usize, len: u64) -> u64 {
        let full = len / self.stripe_bytes();
        match self.unit_len(shard, full, len) {
            0 => self.unit_at(full),
            last => self.unit_at(full) + last + UNIT_CRC_LEN,
        }
    }

    /// Length of a shard's file, of a segment of `len` bytes.
    pub(crate) fn shard_len(&self, shard: usize, len: u64) -> u64 {
        self.trailer_at(shard, len) + TRAILER_LEN
    }

    /// Where a blob begins that is to lie at `offset` or behind: what fits in a unit is not cut, so that it is read from one drive.
    pub(crate) fn place(&self, offset: u64, len: u64) -> u64 {
        place(self.unit, offset, len)
    }
}

fn place(unit: u64, offset: u64, len: u64) -> u64 {
    let is_cut = len <= unit && offset % unit + len > unit;
    if is_cut { offset.next_multiple_of(unit) } else { offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_lies_on_one_shard_and_units_do_not_overlap() {
        for (data, parity) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
            let layout = Layout { data, parity, unit: 64 };
            for len in (0..800).step_by(7) {
                let mut sum = 0;
                for shard in 0..layout.shards() {
                    let mut end = HEADER_LEN;
                    for stripe in 0..layout.stripes(len) {
                        let unit = layout.unit_len(shard, stripe, len);
                        assert!(unit == 0 || layout.unit_at(stripe) == end);
                        end += if unit == 0 { 0 } else { unit + UNIT_CRC_LEN };
                        sum += if shard < data { unit } else { 0 };
                        assert!(layout.unit_len(data, stripe, len) >= unit);
                    }
                    assert_eq!(layout.trailer_at(shard, len), end, "{layout:?} {shard} {len}");
                }
                assert_eq!(sum, len);
            }
        }
    }

    #[test]
    fn what_fits_in_a_unit_lies_in_one() {
        let layout = Layout { data: 2, parity: 1, unit: 8 };
        assert_eq!([layout.place(3, 5), layout.place(3, 6), layout.place(3, 9)], [3, 8, 3]);
        assert_eq!([layout.place(16, 8), layout.place(17, 8), layout.place(17, 0)], [16, 24, 17]);
    }
}
