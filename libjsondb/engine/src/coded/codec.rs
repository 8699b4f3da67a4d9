//! The Reed-Solomon code over the units of one stripe (`reed-solomon-simd`: systematic, Leopard-RS by Lin, Al-Naffouri and Han,
//! "FFT Algorithm for Binary Extension Finite Fields and its Application to Reed-Solomon Codes", 2016).
//!
//! A shorter data unit counts as one that ends in zeros.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::layout::Layout;
use crate::{Error, ErrorKind, Result};

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

    /// Gives `each` the parity units of a stripe, in order: index among them, bytes. `stripe` is what the stripe holds, one unit after the
    /// other; it is not empty.
    pub(crate) fn encode(
        &mut self,
        stripe: &[u8],
        mut each: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (unit, len) = (self.layout.unit as usize, self.layout.parity_len(stripe.len() as u64) as usize);
        if self.len != len {
            self.encoder.reset(self.layout.data, self.layout.parity, len).map_err(broken)?;
            self.len = len;
        }
        let mut units = stripe.chunks(unit);
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

/// Fills in the data of a stripe. `units` are those that are known, by index of their shard, each of length `len`; the data units among them that
/// are `None` are restored. Fails, as broken, when fewer than `layout.data` are known.
pub(crate) fn decode(layout: &Layout, units: &mut [Option<Vec<u8>>], len: usize) -> Result<()> {
    let (data, parity) = units.split_at_mut(layout.data.min(units.len()));
    if data.iter().all(Option::is_some) {
        return Ok(());
    }
    let mut decoder = ReedSolomonDecoder::new(layout.data, layout.parity, len).map_err(broken)?;
    for (index, unit) in data.iter().enumerate() {
        if let Some(unit) = unit {
            decoder.add_original_shard(index, unit).map_err(broken)?;
        }
    }
    for (index, unit) in parity.iter().enumerate() {
        if let Some(unit) = unit {
            decoder.add_recovery_shard(index, unit).map_err(broken)?;
        }
    }
    let restored = decoder.decode().map_err(broken)?;
    for (index, bytes) in restored.restored_original_iter() {
        if let Some(unit) = data.get_mut(index) {
            *unit = Some(bytes.to_vec());
        }
    }
    Ok(())
}

fn broken(error: reed_solomon_simd::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("the units of a stripe cannot be coded: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::Random;

    #[test]
    fn any_units_that_are_enough_give_the_stripe_back() {
        for (data, parity) in [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2)] {
            let layout = Layout { data, parity, unit: 64 };
            for len in [1, 2, 63, 64, 65, 100, layout.stripe_bytes() as usize] {
                let stripe = Random::new(len as u64).bytes(len.min(layout.stripe_bytes() as usize));
                let unit_len = layout.parity_len(stripe.len() as u64) as usize;
                let mut whole: Vec<Option<Vec<u8>>> = Vec::new();
                for index in 0..data {
                    let from = (index * 64).min(stripe.len());
                    let mut unit = stripe[from..(from + 64).min(stripe.len())].to_vec();
                    unit.resize(unit_len, 0);
                    whole.push(Some(unit));
                }
                let mut encoder = Encoder::new(layout).unwrap();
                for _ in 0..2 {
                    whole.truncate(data);
                    encoder
                        .encode(&stripe, |_, bytes| {
                            whole.push(Some(bytes.to_vec()));
                            Ok(())
                        })
                        .unwrap();
                }
                for lost in 0..1_u32 << layout.shards() {
                    let mut units: Vec<_> = whole
                        .iter()
                        .enumerate()
                        .map(|(index, unit)| unit.clone().filter(|_| lost >> index & 1 == 0))
                        .collect();
                    match lost.count_ones() as usize <= parity {
                        true => {
                            decode(&layout, &mut units, unit_len).unwrap();
                            assert_eq!(units[..data], whole[..data], "{layout:?} {len} {lost:b}");
                        }
                        false => {
                            let lost_data = lost & ((1 << data) - 1) != 0;
                            assert_eq!(decode(&layout, &mut units, unit_len).is_err(), lost_data);
                        }
                    }
                }
            }
        }
    }
}
