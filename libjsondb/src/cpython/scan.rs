//! Scanning text, eight bytes at a time; what is long in blocks, for which the compiler uses the widest registers there are.

/// Bytes of a block.
const BLOCK: usize = 64;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Index of the first byte from `start` on that ends a run of plain characters in a JSON string: a quote, a backslash or a
/// control character. The length when there is none.
pub(super) fn plain_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = special(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
        if at - start == BLOCK {
            at += plain_blocks(bytes.get(at..).unwrap_or_default(), |_| ());
        }
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|&byte| is_special(byte)).unwrap_or(tail.len())
}

/// Bytes of the whole blocks of plain characters that the text begins with; `take` is given each.
#[inline]
fn plain_blocks(bytes: &[u8], mut take: impl FnMut(&[u8; BLOCK])) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    for (index, block) in blocks.iter().enumerate() {
        if block.iter().fold(false, |found, byte| found | is_special(*byte)) {
            return index * BLOCK;
        }
        take(block);
    }
    blocks.len() * BLOCK
}

/// Appends the plain characters that the text begins with, by whole words unless all is plain; gives how many bytes.
/// Copies while it looks: a call to copy costs more than copying a short text.
#[inline]
pub(super) fn append_plain(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    // Room for the tail as a whole word, and for what callers put behind it.
    out.reserve(bytes.len() + 16);
    let start = out.len();
    let in_blocks = plain_blocks(bytes, |block| out.extend_from_slice(block));
    let (words, tail) = bytes.get(in_blocks..).unwrap_or_default().as_chunks::<8>();
    for word in words {
        if special(u64::from_le_bytes(*word)) != 0 {
            return out.len() - start;
        }
        out.extend_from_slice(word);
    }
    if tail.is_empty() {
        return bytes.len();
    }
    let word = match bytes.last_chunk::<8>() {
        // The last word again, less what is there already.
        Some(last) => u64::from_le_bytes(*last) >> (8 * (8 - tail.len())),
        None => short_word(tail),
    };
    // Bytes above the tail are zero: made plain, so that they are not found.
    let filled = word | (ONES * u64::from(b'a')) << (8 * tail.len());
    if special(filled) != 0 {
        return out.len() - start;
    }
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(start + bytes.len());
    bytes.len()
}

/// Up to seven bytes as the low ones of a word, the others zero: the halves of each pair of reads may overlap.
fn short_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (len - 4))
        }
        _ => match *bytes {
            [one] => u64::from(one),
            [one, two] => u64::from(u16::from_le_bytes([one, two])),
            [one, two, three] => u64::from(u32::from_le_bytes([one, two, three, 0])),
            _ => 0,
        },
    }
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The high bit of each byte that is special, up to and including the first one; bits above that say nothing.
fn special(word: u64) -> u64 {
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zeros(word ^ (ONES * b'"' as u64));
    let backslash = zeros(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for byte in 0..=255_u8 {
            let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for place in 0..20 {
                for filler in [b'a', 0x21, 0x7f, 0x80, 0xff] {
                    let mut bytes = [filler; 20];
                    bytes[place] = byte;
                    let expected = if is_special { place } else { 20 };
                    assert_eq!(plain_end(&bytes, 0), expected, "{byte} at {place}");
                    assert_eq!(plain_end(&bytes, place.min(7)), expected);
                    assert_copied(&bytes);
                }
            }
        }
    }

    #[test]
    fn a_special_byte_is_found_behind_blocks_of_plain_ones() {
        for place in 0..4 * BLOCK {
            let mut bytes = [b'a'; 4 * BLOCK];
            bytes[place] = b'"';
            assert_eq!(plain_end(&bytes, 0), place);
            let mut out = Vec::new();
            assert_eq!(append_plain(&mut out, &bytes), place / 8 * 8);
            assert_eq!(out, &bytes[..place / 8 * 8]);
        }
        assert_copied(&[b'a'; 3 * BLOCK]);
    }

    /// What is plain is appended, whole words of it at least, and nothing else.
    fn assert_copied(bytes: &[u8]) {
        for len in 0..=bytes.len() {
            let mut out = b"before".to_vec();
            let copied = append_plain(&mut out, &bytes[..len]);
            let plain = plain_end(&bytes[..len], 0);
            assert_eq!(out.strip_prefix(b"before"), Some(&bytes[..copied]));
            assert!(if plain == len { copied == len } else { copied == plain / 8 * 8 });
        }
    }
}
