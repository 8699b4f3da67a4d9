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

    /// Gives `each` the parity units of a stripe, in order: index among them, bytes. `units` are those of the data, the first the longest and
    /// not empty; what is missing counts as zeros.
    pub(crate) fn encode<'a>(
        &mut self,
        units: impl Iterator<Item = &'a [u8]>,
        mut each: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut units = units.peekable();
        let len = units.peek().map_or(0, |first| first.len().next_multiple_of(2));
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

/// Fills in the data of a stripe, or of some full ones that lie behind each other. `units` are those that are known, by index of their shard, all of one
/// even length; the data units among them that are `None` are restored. Fails, as broken, when fewer than `layout.data` are known.
pub(crate) fn decode(layout: &Layout, units: &mut [Option<Vec<u8>>]) -> Result<()> {
    let len = units.iter().flatten().next().map_or(0, Vec::len);
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
                let unit_len = layout.unit_len(data, 0, stripe.len() as u64) as usize;
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
                        .encode(stripe.chunks(64), |_, bytes| {
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
                            decode(&layout, &mut units).unwrap();
                            assert_eq!(units[..data], whole[..data], "{layout:?} {len} {lost:b}");
                        }
                        false => {
                            let lost_data = lost & ((1 << data) - 1) != 0;
                            assert_eq!(decode(&layout, &mut units).is_err(), lost_data);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn stripes_are_coded_together_as_each_for_itself() {
        let layout = Layout { data: 3, parity: 2, unit: 128 };
        let stripes: Vec<Vec<u8>> = (0..4).map(|seed| Random::new(seed).bytes(3 * 128)).collect();
        let mut encoder = Encoder::new(layout).unwrap();
        let mut apart = vec![Vec::new(); 2];
        for stripe in &stripes {
            encoder
                .encode(stripe.chunks(128), |index, bytes| {
                    apart[index].extend_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
        }
        let together: Vec<Vec<u8>> = (0..3)
            .map(|index| stripes.iter().flat_map(|stripe| stripe[index * 128..][..128].to_vec()).collect())
            .collect();
        let mut units: Vec<Option<Vec<u8>>> = together.iter().cloned().map(Some).collect();
        encoder
            .encode(together.iter().map(Vec::as_slice), |index, bytes| {
                assert_eq!(bytes, apart[index]);
                units.push(Some(bytes.to_vec()));
                Ok(())
            })
            .unwrap();
        (units[0], units[2]) = (None, None);
        decode(&layout, &mut units).unwrap();
        assert!(units.into_iter().flatten().zip(together).all(|(unit, data)| unit == data));
    }
}
