//! The Reed-Solomon code over the units of one stripe (`reed-solomon-simd`: systematic, Leopard-RS by Lin, Al-Naffouri and Han,
//! "FFT Algorithm for Binary Extension Finite Fields and its Application to Reed-Solomon Codes", 2016).
//!
//! A shorter data unit counts as one that ends in zeros.

use reed_solomon_simd::engine::{DefaultEngine, Engine, GfElement, tables, utils};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::layout::{Layout, PIECE_BYTES};
use crate::{Error, ErrorKind, Result};

/// Elements of two bytes in a piece: first the low byte of each, then the high ones.
const PIECE_ELEMENTS: usize = PIECE_BYTES / 2;
/// Pieces that are multiplied and added while they are in the nearest cache: 8 KiB.
const BLOCK_PIECES: usize = 128;

/// Codes stripes, one after the other.
pub(crate) struct Encoder {
    layout: Layout,
    encoder: ReedSolomonEncoder,
    len: usize,
    padded: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(layout: Layout) -> Result<Encoder> {
        let len = layout.unit as usize;
        let encoder = ReedSolomonEncoder::new(layout.data, layout.parity, len).map_err(broken)?;
        Ok(Encoder { layout, encoder, len, padded: Vec::new() })
    }

    /// Gives `each` the parity units of a stripe, in order: index among them, bytes. `units` are those of the data, the first the longest and
    /// not empty; what is missing counts as zeros.
    pub(crate) fn encode<'a>(
        &mut self,
        units: impl Iterator<Item = &'a [u8]>,
        mut each: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut units = units.peekable();
        let len = units.peek().map_or(0, |first| first.len().next_multiple_of(PIECE_BYTES));
        if self.len != len {
            self.encoder.reset(self.layout.data, self.layout.parity, len).map_err(broken)?;
            self.len = len;
        }
        for _ in 0..self.layout.data {
            let bytes = units.next().unwrap_or_default();
            if bytes.len() == len {
                self.encoder.add_original_shard(bytes).map_err(broken)?;
            } else {
                self.padded.clear();
                self.padded.extend_from_slice(bytes);
                self.padded.resize(len, 0);
                self.encoder.add_original_shard(&self.padded).map_err(broken)?;
            }
        }
        let parity = self.encoder.encode().map_err(broken)?;
        parity.recovery_iter().enumerate().try_for_each(|(index, bytes)| each(index, bytes))
    }
}

/// How the units of some shards follow from those of as many others as there are with data: each is the sum of these, each of them times a
/// coefficient, for the code is linear. No coefficient is 0, for any `data` shards are enough and fewer are not.
///
/// One lost shard costs a pass over the others this way; the decoder of the library, which the coefficients are asked of, costs a dozen.
pub(crate) struct Restorer {
    engine: DefaultEngine,
    sources: Vec<usize>,
    wanted: Vec<usize>,
    /// By wanted shard: the logarithms of the coefficients, by source.
    rows: Vec<Vec<GfElement>>,
}

impl Restorer {
    /// For the `wanted` shards, of the `sources`: `layout.data` others.
    pub(crate) fn new(layout: &Layout, sources: &[usize], wanted: &[usize]) -> Result<Restorer> {
        let mut units = vec![None; layout.shards()];
        for (place, source) in sources.iter().enumerate() {
            let mut unit = vec![0; sources.len().div_ceil(PIECE_ELEMENTS) * PIECE_BYTES];
            unit[low_byte_at(place)] = 1;
            units[*source] = Some(unit);
        }
        complete(layout, &mut units)?;
        let log = &tables::get_exp_log().log;
        let row = |wanted: &usize| -> Vec<GfElement> {
            let unit = units[*wanted].as_deref().unwrap_or_default();
            let element = |at: usize| GfElement::from_le_bytes([unit[at], unit[at + PIECE_ELEMENTS]]);
            (0..sources.len()).map(|place| log[usize::from(element(low_byte_at(place)))]).collect()
        };
        let rows = wanted.iter().map(row).collect();
        let (sources, wanted) = (sources.to_vec(), wanted.to_vec());
        Ok(Restorer { engine: DefaultEngine::new(), sources, wanted, rows })
    }

    pub(crate) fn is_for(&self, sources: &[usize], wanted: &[usize]) -> bool {
        self.sources == sources && self.wanted == wanted
    }

    /// Fills `out` with the unit of a wanted shard, by its place among them. `units` are those of the sources, in their order; all have the
    /// length of `out`, a multiple of [`PIECE_BYTES`].
    pub(crate) fn restore<'a>(&self, place: usize, units: impl Iterator<Item = &'a [u8]>, out: &mut [u8]) {
        let (out, _) = out.as_chunks_mut::<PIECE_BYTES>();
        let mut product = [[0; PIECE_BYTES]; BLOCK_PIECES];
        let units: Vec<&[[u8; PIECE_BYTES]]> = units.map(|unit| unit.as_chunks().0).collect();
        for (block, out) in out.chunks_mut(BLOCK_PIECES).enumerate() {
            let product = &mut product[..out.len()];
            for (index, (unit, log)) in units.iter().zip(&self.rows[place]).enumerate() {
                product.copy_from_slice(&unit[block * BLOCK_PIECES..][..out.len()]);
                self.engine.mul(product, *log);
                if index == 0 {
                    out.copy_from_slice(product);
                } else {
                    utils::xor(out, product);
                }
            }
        }
    }
}

/// Where the low byte of an element lies in a unit; the high one is [`PIECE_ELEMENTS`] behind.
fn low_byte_at(element: usize) -> usize {
    element / PIECE_ELEMENTS * PIECE_BYTES + element % PIECE_ELEMENTS
}

/// Fills in the units of a stripe that are not known, by the library. Fails, as broken, when fewer than `layout.data` are known.
fn complete(layout: &Layout, units: &mut [Option<Vec<u8>>]) -> Result<()> {
    let len = units.iter().flatten().next().map_or(0, Vec::len);
    let (data, parity) = units.split_at_mut(layout.data);
    if data.iter().any(Option::is_none) {
        let mut decoder = ReedSolomonDecoder::new(layout.data, layout.parity, len).map_err(broken)?;
        for (index, unit) in data.iter().enumerate() {
            let Some(unit) = unit else { continue };
            decoder.add_original_shard(index, unit).map_err(broken)?;
        }
        for (index, unit) in parity.iter().enumerate() {
            let Some(unit) = unit else { continue };
            decoder.add_recovery_shard(index, unit).map_err(broken)?;
        }
        let restored = decoder.decode().map_err(broken)?;
        for (index, bytes) in restored.restored_original_iter() {
            data[index] = Some(bytes.to_vec());
        }
    }
    let data: Vec<&Vec<u8>> = data.iter().flatten().collect();
    let made = reed_solomon_simd::encode(layout.data, layout.parity, data).map_err(broken)?;
    parity.iter_mut().zip(made).for_each(|(unit, made)| *unit = Some(made));
    Ok(())
}

fn broken(error: reed_solomon_simd::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("the units of a stripe cannot be coded: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::Random;

    /// Some stripe of the layout, each unit as long as the code sees it, with its parity.
    fn stripe(layout: Layout, len: usize) -> Vec<Vec<u8>> {
        let unit = layout.unit as usize;
        let stripe = Random::new(len as u64).bytes(len.min(layout.stripe_bytes() as usize));
        let coded_len = layout.coded_len(0, stripe.len() as u64) as usize;
        let mut units: Vec<Vec<u8>> = stripe.chunks(unit).map(<[u8]>::to_vec).collect();
        units.resize(layout.data, Vec::new());
        units.iter_mut().for_each(|unit| unit.resize(coded_len, 0));
        // An encoder is used for many stripes.
        let mut encoder = Encoder::new(layout).unwrap();
        for _ in 0..2 {
            units.truncate(layout.data);
            encoder
                .encode(stripe.chunks(unit), |_, bytes| {
                    units.push(bytes.to_vec());
                    Ok(())
                })
                .unwrap();
        }
        units
    }

    fn check(layout: Layout, units: &[Vec<u8>], lost: u64) {
        let (wanted, left): (Vec<usize>, Vec<usize>) =
            (0..layout.shards()).partition(|index| lost >> index & 1 == 1);
        let sources = &left[left.len() - layout.data..];
        let restorer = Restorer::new(&layout, sources, &wanted).unwrap();
        assert!(restorer.is_for(sources, &wanted));
        for (place, wanted) in wanted.iter().enumerate() {
            let mut out = vec![7; units[0].len()];
            restorer.restore(place, sources.iter().map(|source| units[*source].as_slice()), &mut out);
            assert!(out == units[*wanted], "{layout:?} {} {lost:b} {wanted}", out.len());
        }
    }

    #[test]
    fn any_units_that_are_enough_give_the_others() {
        for (data, parity) in [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (2, 5)] {
            let layout = Layout { data, parity, unit: 192 };
            for len in [1, 2, 63, 64, 65, 191, 192, 193, 300, layout.stripe_bytes() as usize] {
                let units = stripe(layout, len);
                for lost in (0..1_u64 << layout.shards()).filter(|lost| lost.count_ones() <= parity as u32) {
                    check(layout, &units, lost);
                }
            }
        }
    }

    #[test]
    fn stripes_of_more_units_than_a_piece_has_elements_are_restored() {
        let layout = Layout { data: 40, parity: 9, unit: 16 << 10 };
        let units = stripe(layout, layout.stripe_bytes() as usize);
        for lost in [1, 1 << 39 | 1 << 40, 0b1_1111_1111 << 40, 0b1_0101_0101 << 30 | 1] {
            check(layout, &units, lost);
        }
    }
}
