//! What the keys of a page share, kept so that comparing with it touches no other memory than that of the page's head.

/// Prefixes of most keys fit: the store and a good part of the key.
const INSIDE: usize = 30;

/// A key prefix.
pub(super) enum Prefix {
    Short { len: u8, bytes: [u8; INSIDE] },
    Long(Box<[u8]>),
}

impl Prefix {
    /// The parts one behind the other.
    pub(super) fn new(parts: &[&[u8]]) -> Prefix {
        let whole = parts.concat();
        let mut bytes = [0; INSIDE];
        match bytes.get_mut(..whole.len()) {
            Some(inside) => {
                inside.copy_from_slice(&whole);
                Prefix::Short { len: whole.len() as u8, bytes }
            }
            None => Prefix::Long(whole.into_boxed_slice()),
        }
    }
}

impl std::ops::Deref for Prefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Prefix::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Prefix::Long(bytes) => bytes,
        }
    }
}
