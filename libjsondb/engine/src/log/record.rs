//! A transaction as the log keeps it: what it wrote, key by key, and what it added to counters. Logical, so it stays true
//! whatever was committed before it.

use std::sync::Arc;

use crate::bytes::{Put, Reader};
use crate::catalog::FULL_KEY_MAX;
use crate::run::Run;
use crate::{BlobRef, ValueRef};

const DELETE: u8 = 0;
const PUT_INLINE: u8 = 1;
const PUT_BLOB: u8 = 2;

/// Appends one transaction. `runs` are in the order of age, and older than the `write_count` writes. Writes are in key order: a key is kept
/// as what differs from the one before.
pub(crate) fn encode<'a>(
    runs: &[Arc<Run>],
    write_count: usize,
    writes: impl Iterator<Item = (&'a [u8], Option<ValueRef<'a>>)>,
    counters: impl ExactSizeIterator<Item = (&'a [u8], i64)>,
    out: &mut Vec<u8>,
) {
    out.put_varint(runs.len() as u64);
    runs.iter().for_each(|run| run.put(out));
    out.put_varint(write_count as u64);
    let mut previous: &[u8] = &[];
    for (key, value) in writes {
        let shared = key.iter().zip(previous).take_while(|(a, b)| a == b).count();
        out.put_varint(shared as u64);
        out.put_bytes(&key[shared..]);
        match value {
            None => out.put_u8(DELETE),
            Some(ValueRef::Inline(bytes)) => {
                out.put_u8(PUT_INLINE);
                out.put_bytes(bytes);
            }
            Some(ValueRef::Blob(blob)) => {
                out.put_u8(PUT_BLOB);
                blob.put(out);
            }
        }
        previous = key;
    }
    out.put_varint(counters.len() as u64);
    for (key, delta) in counters {
        out.put_bytes(key);
        out.put_u64(delta as u64);
    }
}

/// What a transaction did, as it is read back.
pub(crate) trait RecordVisitor {
    /// Before all writes, when there are any; oldest first.
    fn runs(&mut self, runs: Vec<Run>);
    fn write(&mut self, key: &[u8], value: Option<ValueRef<'_>>);
    fn add_to_counter(&mut self, key: &[u8], delta: i64);
}

/// Reads one transaction; None when the bytes are not one.
pub(crate) fn decode(reader: &mut Reader<'_>, visitor: &mut impl RecordVisitor) -> Option<()> {
    let mut runs = Vec::new();
    for _ in 0..reader.varint()? {
        runs.push(Run::read(reader)?);
    }
    if !runs.is_empty() {
        visitor.runs(runs);
    }
    let mut key = Vec::new();
    for _ in 0..reader.varint()? {
        let shared = usize::try_from(reader.varint()?).ok()?;
        if shared > key.len() {
            return None;
        }
        key.truncate(shared);
        let rest = reader.bytes()?;
        if shared + rest.len() > FULL_KEY_MAX {
            return None;
        }
        key.extend_from_slice(rest);
        let value = match reader.u8()? {
            DELETE => None,
            PUT_INLINE => Some(ValueRef::Inline(reader.bytes()?)),
            PUT_BLOB => Some(ValueRef::Blob(BlobRef::read(reader)?)),
            _ => return None,
        };
        visitor.write(&key, value);
    }
    for _ in 0..reader.varint()? {
        let key = reader.bytes().filter(|key| key.len() <= FULL_KEY_MAX)?;
        visitor.add_to_counter(key, reader.u64()? as i64);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::run::RunKind;
    use crate::segment::SegmentId;
    use crate::snapshot::value_ref;

    #[derive(Default)]
    struct Seen(Vec<(Vec<u8>, Option<Value>)>, Vec<(Vec<u8>, i64)>);

    impl RecordVisitor for Seen {
        fn runs(&mut self, runs: Vec<Run>) {
            self.0.extend(runs.into_iter().map(|run| (run.first.into_vec(), None)));
        }

        fn write(&mut self, key: &[u8], value: Option<ValueRef<'_>>) {
            self.0.push((key.to_vec(), value.map(ValueRef::to_value)));
        }

        fn add_to_counter(&mut self, key: &[u8], delta: i64) {
            self.1.push((key.to_vec(), delta));
        }
    }

    #[test]
    fn keys_longer_than_any_are_refused_before_they_grow_by_sharing() {
        let encoded = |len: usize| {
            let (key, mut bytes) = (vec![b'k'; len], Vec::new());
            encode(&[], 1, [(key.as_slice(), None)].into_iter(), std::iter::empty(), &mut bytes);
            bytes
        };
        let decoded = |len| decode(&mut Reader::new(&encoded(len)), &mut Seen::default());
        assert_eq!(decoded(FULL_KEY_MAX), Some(()));
        assert_eq!(decoded(FULL_KEY_MAX + 1), None);
    }

    #[test]
    fn round_trip_and_truncations() {
        let blob =
            BlobRef { segment: SegmentId { owner: 1, number: 2 }, offset: 3, len: 9, stored_len: 4, crc: 5 };
        let writes: Vec<(&[u8], Option<Value>)> = vec![
            (b"user:1", Some(Value::Inline(b"Alice"[..].into()))),
            (b"user:10", None),
            (b"user:2", Some(Value::Blob(blob))),
        ];
        let mut bytes = Vec::new();
        let counters = [(&b"n"[..], -3i64)];
        let run = Run {
            kind: RunKind::Values,
            root: blob,
            count: 2,
            bytes: 7,
            first: (*b"run:1").into(),
            last: (*b"run:2").into(),
            segments: vec![blob.segment],
        };
        let entries = writes.iter().map(|(key, value)| (*key, value.as_ref().map(value_ref)));
        encode(&[Arc::new(run)], writes.len(), entries, counters.into_iter(), &mut bytes);
        let mut seen = Seen::default();
        let mut reader = Reader::new(&bytes);
        assert_eq!(decode(&mut reader, &mut seen), Some(()));
        assert!(reader.is_empty());
        assert_eq!(seen.0.len(), 4);
        assert_eq!(seen.0[0], (b"run:1".to_vec(), None));
        for ((key, value), (seen_key, seen_value)) in writes.iter().zip(&seen.0[1..]) {
            assert_eq!((*key, value), (seen_key.as_slice(), seen_value));
        }
        assert_eq!(seen.1, [(b"n".to_vec(), -3)]);
        for len in 0..bytes.len() {
            assert_eq!(decode(&mut Reader::new(&bytes[..len]), &mut Seen::default()), None, "{len}");
        }
    }
}
