//! The file COPY: which copy of which database a folder is.

use std::path::Path;

use uuid::Uuid;

use super::CopyRole;
use crate::bytes::{Put, Reader, is_intact};
use crate::os;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"SOPCOPY\n";
const VERSION: u32 = 1;
pub(super) const NAME: &str = "COPY";

/// See the module. It is the same for all copies but for `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) database: Uuid,
    /// Which of the copies this one is.
    pub(crate) index: usize,
    /// Where each copy is kept: their number never changes.
    pub(crate) roles: Vec<CopyRole>,
}

impl Label {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(MAGIC);
        out.put_u32(VERSION);
        out.extend_from_slice(self.database.as_bytes());
        // At most 64 of either.
        out.put_u8(self.index as u8);
        out.put_u8(self.roles.len() as u8);
        for role in &self.roles {
            let (set, index) = match *role {
                CopyRole::Folder(index) => (0, index),
                CopyRole::Drive { set, index } => (set, index),
            };
            out.put_u8(set);
            out.put_u8(index as u8);
        }
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// None when these are not the bytes of a label.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Label> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let mut reader = Reader::new(body);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let database = Uuid::from_slice(reader.take(16)?).ok()?;
        let index = usize::from(reader.u8()?);
        let mut roles = Vec::new();
        for _ in 0..reader.u8()? {
            let (set, index) = (reader.u8()?, usize::from(reader.u8()?));
            roles.push(if set == 0 { CopyRole::Folder(index) } else { CopyRole::Drive { set, index } });
        }
        let is_whole = reader.is_empty() && is_intact(body, Reader::new(crc).u32()?) && index < roles.len();
        is_whole.then_some(Label { database, index, roles })
    }

    /// The label of a folder; None when it has none: it is no copy.
    pub(crate) fn read(folder: &Path) -> Result<Option<Label>> {
        let path = folder.join(NAME);
        let Some(bytes) = os::read_file(&path)? else { return Ok(None) };
        let label = Label::decode(&bytes);
        label.map(Some).ok_or_else(|| Error::corrupt(&path, 0, "the label of a copy"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_byte_is_noticed() {
        let roles = vec![CopyRole::Folder(0), CopyRole::Folder(1), CopyRole::Drive { set: 1, index: 5 }];
        let label = Label { database: Uuid::from_u128(9), index: 2, roles };
        let bytes = label.encode();
        assert_eq!(Label::decode(&bytes), Some(label));
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(Label::decode(&damaged), None, "{index}");
        }
    }
}
