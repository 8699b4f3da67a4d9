//! Numbers as bytes that compare as the numbers do, integers and floats in one exact order.
//!
//! 8 bytes: the order-preserving bits of `floor`, the largest float not above the number. Where floats are further
//! than 1 apart (from 2^53 on), 2 more bytes: how much the number is above `floor`. Below 2^53 every integer is a float
//! of its own, so nothing follows.

use serde_json::Number;

/// From here on, floats do not name every integer.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// 2^63: an integer literal that JSON parsing turned into a float is at least this large.
const INTEGER_MAX: f64 = 9_223_372_036_854_775_808.0;

/// A number as what is encoded of it; compares as the number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrderedNumber {
    /// Of the floor.
    bits: u64,
    above: u16,
}

impl OrderedNumber {
    /// An integer.
    #[inline]
    pub(crate) fn from_integer(integer: i64) -> Self {
        // Below 2^53 an integer is a float of its own.
        if integer.unsigned_abs() < 1 << 53 {
            Self { bits: ordered_bits(integer as f64), above: 0 }
        } else {
            Self::from_wide(integer.into())
        }
    }

    /// An integer that may be above `i64::MAX`.
    pub(crate) fn from_unsigned(integer: u64) -> Self {
        Self::from_wide(integer.into())
    }

    /// A float, which is its own floor; not NaN.
    pub(crate) fn from_float(float: f64) -> Self {
        Self { bits: ordered_bits(float), above: 0 }
    }

    fn from_wide(integer: i128) -> Self {
        let (floor, above) = floor_of(integer);
        Self { bits: ordered_bits(floor), above }
    }

    /// Appends the encoding.
    #[inline]
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bits.to_be_bytes());
        if has_remainder(from_ordered_bits(self.bits)) {
            out.extend_from_slice(&self.above.to_be_bytes());
        }
    }
}

/// Reads a number from the front of `bytes`; gives it and the rest. None for bytes that are no encoding.
pub(super) fn decode(bytes: &[u8]) -> Option<(Number, &[u8])> {
    let (bits, mut rest) = bytes.split_first_chunk::<8>()?;
    let floor = from_ordered_bits(u64::from_be_bytes(*bits));
    let mut above = 0;
    if has_remainder(floor) {
        let (remainder, after) = rest.split_first_chunk::<2>()?;
        (above, rest) = (u16::from_be_bytes(*remainder), after);
    }
    Some((number(floor, above)?, rest))
}

/// Reads an integer below 2^53 that is all there is. None for other bytes.
pub(super) fn decode_integer(bytes: &[u8]) -> Option<i64> {
    let float = from_ordered_bits(u64::from_be_bytes(bytes.try_into().ok()?));
    (float.fract() == 0.0 && float.abs() < EXACT_MAX).then_some(float as i64)
}

/// True for a float that may come from an integer literal beyond 64 bits, which JSON parsing has rounded.
pub(super) fn may_be_rounded(float: f64) -> bool {
    float.abs() >= INTEGER_MAX
}

fn has_remainder(floor: f64) -> bool {
    floor.abs() >= EXACT_MAX
}

/// The largest float not above a 64-bit integer, and the distance to it.
fn floor_of(integer: i128) -> (f64, u16) {
    let nearest = integer as f64;
    let floor = if nearest as i128 > integer { nearest.next_down() } else { nearest };
    // Floats below 2^64 are at most 2,048 apart.
    (floor, (integer - floor as i128) as u16)
}

fn number(floor: f64, above: u16) -> Option<Number> {
    if floor.fract() == 0.0 && floor.abs() < 2.0 * INTEGER_MAX {
        let integer = floor as i128 + i128::from(above);
        if let Ok(integer) = i64::try_from(integer) {
            return Some(integer.into());
        }
        if let Ok(integer) = u64::try_from(integer) {
            return Some(integer.into());
        }
    }
    Number::from_f64(floor)
}

/// IEEE bits, flipped so that they compare as the numbers do. -0.0 is 0.
fn ordered_bits(float: f64) -> u64 {
    let bits = (float + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn from_ordered_bits(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> Vec<u8> {
        let number: Number = serde_json::from_str(text).unwrap();
        let mut out = Vec::new();
        match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => OrderedNumber::from_integer(integer),
            (None, Some(integer)) => OrderedNumber::from_unsigned(integer),
            (None, None) => OrderedNumber::from_float(number.as_f64().unwrap()),
        }
        .append(&mut out);
        out
    }

    #[test]
    fn neighbours_at_the_edges_are_told_apart_in_order() {
        let ascending = [
            "-1.7976931348623157e308",
            "-9223372036854775809.0e3",
            "-9223372036854775808",
            "-9223372036854775807",
            "-9007199254740994",
            "-9007199254740993",
            "-9007199254740992",
            "-9007199254740991",
            "-1.5",
            "-1",
            "-5e-324",
            "0",
            "5e-324",
            "0.1",
            "1",
            "1.0000000000000002",
            "9007199254740991",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994",
            "9223372036854774784",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709549568",
            "18446744073709551615",
            "18446744073709551616.0",
            "1e300",
        ];
        for pair in ascending.windows(2) {
            assert!(encoded(pair[0]) < encoded(pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn equal_numbers_have_equal_bytes() {
        for (one, other) in
            [("1", "1.0"), ("0", "-0.0"), ("9007199254740992", "9007199254740992.0"), ("100", "1e2")]
        {
            assert_eq!(encoded(one), encoded(other));
        }
    }

    #[test]
    fn integers_come_back() {
        for integer in [0, 1, -1, 500, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, i64::MAX, i64::MIN] {
            let bytes = encoded(&integer.to_string());
            assert_eq!(decode(&bytes), Some((integer.into(), &[][..])));
        }
        for integer in [u64::MAX, u64::MAX - 1, 1 << 63] {
            assert_eq!(decode(&encoded(&integer.to_string())), Some((integer.into(), &[][..])));
        }
    }

    #[test]
    fn only_rounded_candidates_are_suspected() {
        for (text, suspected) in [
            ("18446744073709551615", false),
            ("18446744073709551616", true),
            ("-9223372036854775808", false),
            ("-9223372036854775809", true),
            ("1e18", false),
            ("1.5", false),
        ] {
            let number: Number = serde_json::from_str(text).unwrap();
            let float = number.is_f64().then(|| number.as_f64().unwrap());
            assert_eq!(float.is_some_and(may_be_rounded), suspected, "{text}");
        }
    }
}
