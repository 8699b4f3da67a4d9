//! Random numbers, the same in every run.

#![allow(dead_code)] // No campaign needs everything.

/// xorshift64*: enough to choose, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// Any seed will do; neighbours give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        // The multiplier of splitmix64; its sequence is never 0, where xorshift would stay.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    /// Bytes that nothing makes shorter.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}
