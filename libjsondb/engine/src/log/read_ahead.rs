//! Reading a log file in blocks: its frames may be many and small.

use crate::Result;
use crate::os::File;

/// Read at once, at the most, beyond what is asked for.
const BLOCK: u64 = 64 << 10;

/// Bytes of one log file that were read with others, for one walk over frames: those a writer changes meanwhile are not for it.
pub(crate) struct ReadAhead {
    offset: u64,
    bytes: Vec<u8>,
    /// Nothing from here on is read ahead.
    until: u64,
}

impl ReadAhead {
    /// Before `until` the file does not change any more.
    pub(crate) fn until(until: u64) -> ReadAhead {
        ReadAhead { offset: 0, bytes: Vec::new(), until }
    }

    /// Reads what is asked for and no more.
    pub(crate) fn none() -> ReadAhead {
        ReadAhead::until(0)
    }

    /// `len` bytes from `offset` on, fewer when the file ends before.
    pub(crate) fn read(&mut self, file: &File, offset: u64, len: usize) -> Result<&[u8]> {
        let inside = |start: usize| start.checked_add(len).is_some_and(|end| end <= self.bytes.len());
        let known =
            offset.checked_sub(self.offset).map(|start| start as usize).filter(|start| inside(*start));
        let start = match known {
            Some(start) => start,
            None => {
                let ahead = self.until.saturating_sub(offset).min(BLOCK) as usize;
                self.bytes.resize(len.max(ahead), 0);
                let count = file.read_at(&mut self.bytes, offset)?;
                self.bytes.truncate(count);
                self.offset = offset;
                0
            }
        };
        Ok(self.bytes.get(start..).map_or(&[], |rest| &rest[..len.min(rest.len())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_ahead_is_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::open_or_create(&folder.path().join("log")).unwrap();
        let content: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
        file.write_all_at(&content, 0).unwrap();
        for until in [0, 100, 70_000, u64::MAX] {
            let mut ahead = ReadAhead::until(until);
            for (offset, len) in
                [(0, 64), (64, 300), (10, 5), (60_000, 6000), (66_000, 64), (1000, 150_000), (150_990, 20)]
            {
                assert_eq!(ahead.read(&file, offset as u64, len).unwrap(), &content[offset..offset + len]);
            }
            assert_eq!(ahead.read(&file, 199_990, 64).unwrap(), &content[199_990..]);
            assert!(ahead.read(&file, 300_000, 64).unwrap().is_empty());
        }
    }

    #[test]
    fn bytes_behind_the_limit_are_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::open_or_create(&folder.path().join("log")).unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        let mut ahead = ReadAhead::until(50);
        assert_eq!(ahead.read(&file, 0, 10).unwrap(), [1; 10]);
        file.write_all_at(&[2; 100], 0).unwrap();
        assert_eq!(ahead.read(&file, 40, 10).unwrap(), [1; 10]);
        assert_eq!(ahead.read(&file, 50, 10).unwrap(), [2; 10]);
    }
}
