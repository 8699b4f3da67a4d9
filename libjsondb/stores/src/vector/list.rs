//! Lists of codes: in memory, as a query scans them, and as values.

use std::ops::{Bound, Range};

use engine::{Direction, Placement, StoreId, Transaction, ValueRef};

use super::kernel::prefetch;
use super::keys::{self, KeyRange, ListKey, RowId, damaged};
use super::rabitq::Factors;
use super::shape::Shape;
use crate::{Result, walk};

/// Rows whose codes lie side by side.
pub(super) const GROUP: usize = 8;

/// The row's vector is nearest to this list's centroid; otherwise this is its second list.
const PRIMARY: u64 = 1 << 63;
/// Fills the last group.
const NO_ROW: u64 = u64::MAX;

/// Longest packed value: longer ones would not lie beside their keys.
const PACKED_BYTES_MAX: usize = 4 << 10;
const PACKED_HEADER: usize = 4;
/// Codes in groups, as in memory.
const FORMAT_GROUPED: u8 = 1;
/// Codes one after the other, where a group would be mostly empty.
const FORMAT_PLAIN: u8 = 2;

/// Codes of rows relative to one centroid. Columns; the codes in groups of eight rows, word by word.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List {
    /// Words of a code.
    words: usize,
    len: usize,
    /// With [`PRIMARY`]; filled up to a whole group.
    rows: Vec<u64>,
    add: Vec<f32>,
    scale: Vec<f32>,
    codes: Vec<u64>,
}

/// One row of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Coded<'a> {
    pub(super) row: RowId,
    pub(super) is_primary: bool,
    pub(super) factors: Factors,
    pub(super) code: &'a [u64],
}

impl List {
    /// An empty list of codes of `words` words.
    pub(super) fn new(words: usize) -> Self {
        Self { words, len: 0, rows: Vec::new(), add: Vec::new(), scale: Vec::new(), codes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Words of a code.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Bytes it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() * Self::row_bytes(self.words)
    }

    /// Bytes that a row with a code of so many words takes in memory.
    pub(super) fn row_bytes(words: usize) -> usize {
        16 + 8 * words
    }

    pub(super) fn row(&self, index: usize) -> RowId {
        RowId(self.rows[index] & !PRIMARY)
    }

    /// Asks for the memory that says which row it is.
    pub(super) fn prefetch_row(&self, index: usize) {
        prefetch(&self.rows[index..=index]);
    }

    pub(super) fn is_primary(&self, index: usize) -> bool {
        self.rows[index] & PRIMARY != 0
    }

    pub(super) fn factors(&self, index: usize) -> Factors {
        Factors { add: self.add[index], scale: self.scale[index] }
    }

    /// Columns of whole groups: `add` (minus infinity where there is no row), `scale`, codes.
    pub(super) fn columns(&self) -> (&[f32], &[f32], &[u64]) {
        (&self.add, &self.scale, &self.codes)
    }

    /// The code of a row, into `code`.
    pub(super) fn copy_code(&self, index: usize, code: &mut [u64]) {
        let group = &self.codes[index / GROUP * GROUP * self.words..];
        for (word, code) in code.iter_mut().enumerate().take(self.words) {
            *code = group[word * GROUP + index % GROUP];
        }
    }

    /// The same without room for more.
    pub(super) fn shrunk(mut self) -> Self {
        self.rows.shrink_to_fit();
        self.add.shrink_to_fit();
        self.scale.shrink_to_fit();
        self.codes.shrink_to_fit();
        self
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.rows.clear();
        self.add.clear();
        self.scale.clear();
        self.codes.clear();
    }

    pub(super) fn push(&mut self, coded: Coded<'_>) {
        let flag = if coded.is_primary { PRIMARY } else { 0 };
        self.push_row(coded.row.0 | flag, coded.factors);
        self.put_code(self.len - 1, coded.code);
    }

    /// Adds the code of a rotated vector relative to a rotated centroid.
    pub(super) fn push_vector(
        &mut self,
        shape: &Shape,
        row: RowId,
        is_primary: bool,
        vector: &[f32],
        centroid: &[f32],
    ) {
        let mut code = vec![0; self.words];
        let factors = shape.encode(vector, centroid, &mut code);
        self.push(Coded { row, is_primary, factors, code: &code });
    }

    fn push_row(&mut self, row: u64, factors: Factors) {
        if self.len.is_multiple_of(GROUP) {
            self.len += 1;
            self.fill_group();
            self.len -= 1;
        }
        self.rows[self.len] = row;
        self.add[self.len] = factors.add;
        self.scale[self.len] = factors.scale;
        self.len += 1;
    }

    /// Adds the rows of another list for which `keep` is true.
    pub(super) fn extend(&mut self, other: &List, keep: impl Fn(RowId) -> bool) {
        let mut code = vec![0; self.words];
        for index in (0..other.len()).filter(|index| keep(other.row(*index))) {
            other.copy_code(index, &mut code);
            let (row, factors) = (other.row(index), other.factors(index));
            self.push(Coded { row, is_primary: other.is_primary(index), factors, code: &code });
        }
    }

    /// This list and the rows of another behind.
    pub(super) fn with(&self, other: &List) -> List {
        let rows = (self.len + other.len).next_multiple_of(GROUP);
        let mut both = List::new(self.words);
        both.rows.reserve_exact(rows);
        both.add.reserve_exact(rows);
        both.scale.reserve_exact(rows);
        both.codes.reserve_exact(rows * self.words);
        both.rows.extend_from_slice(&self.rows);
        both.add.extend_from_slice(&self.add);
        both.scale.extend_from_slice(&self.scale);
        both.codes.extend_from_slice(&self.codes);
        both.len = self.len;
        both.extend(other, |_| true);
        both
    }

    /// Rows of a packed value of codes of so many words: whole groups.
    pub(super) fn rows_per_value(words: usize) -> usize {
        let groups = 1..=u16::MAX as usize / GROUP;
        let fits = |groups: &usize| grouped_bytes(groups * GROUP, words) <= PACKED_BYTES_MAX;
        groups.take_while(fits).last().unwrap_or(1) * GROUP
    }

    /// The value of some rows. The first of them begins a group, or they are few.
    pub(super) fn pack(&self, range: Range<usize>) -> Vec<u8> {
        let plain = range.len() < GROUP;
        let mut bytes = Vec::with_capacity(grouped_bytes(range.len(), self.words));
        bytes.extend_from_slice(&[if plain { FORMAT_PLAIN } else { FORMAT_GROUPED }, 0]);
        bytes.extend_from_slice(&(range.len() as u16).to_le_bytes());
        self.rows[range.clone()].iter().for_each(|row| bytes.extend_from_slice(&row.to_le_bytes()));
        self.add[range.clone()].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        self.scale[range.clone()].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        let mut code = vec![0; self.words];
        if plain {
            for index in range {
                self.copy_code(index, &mut code);
                code.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
            }
        } else {
            debug_assert!(range.start.is_multiple_of(GROUP));
            let words = range.start * self.words..range.end.next_multiple_of(GROUP) * self.words;
            self.codes[words].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        }
        bytes
    }

    /// Adds the rows of a packed value.
    pub(super) fn unpack(&mut self, bytes: &[u8]) -> Result<()> {
        let wrong = || damaged("a list of codes has the wrong length");
        let (header, rest) = bytes.split_first_chunk::<PACKED_HEADER>().ok_or_else(wrong)?;
        let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let is_grouped = match header[0] {
            FORMAT_GROUPED => true,
            FORMAT_PLAIN => false,
            _ => return Err(damaged("a list of codes has an unknown format")),
        };
        let coded = if is_grouped { len.next_multiple_of(GROUP) } else { len };
        if header[1] != 0 || is_grouped != (len >= GROUP) {
            return Err(damaged("a list of codes has an unknown format"));
        }
        if rest.len() != len * 16 + coded * self.words * 8 {
            return Err(wrong());
        }
        let (rows, rest) = rest.split_at(len * 8);
        let (add, rest) = rest.split_at(len * 4);
        let (scale, codes) = rest.split_at(len * 4);
        let (rows, codes) = (rows.as_chunks::<8>().0, codes.as_chunks::<8>().0);
        let (add, scale) = (add.as_chunks::<4>().0, scale.as_chunks::<4>().0);
        if rows.iter().any(|row| u64::from_le_bytes(*row) == NO_ROW) {
            return Err(damaged("a list of codes names no row"));
        }
        if is_grouped && self.len.is_multiple_of(GROUP) {
            // Whole groups are taken over as they are.
            self.len += len;
            self.rows.extend(rows.iter().map(|row| u64::from_le_bytes(*row)));
            self.add.extend(add.iter().map(|number| f32::from_le_bytes(*number)));
            self.scale.extend(scale.iter().map(|number| f32::from_le_bytes(*number)));
            self.codes.extend(codes.iter().map(|word| u64::from_le_bytes(*word)));
            self.fill_group();
            return Ok(());
        }
        let mut code = vec![0; self.words];
        for index in 0..len {
            let (at, step) = if is_grouped {
                (index / GROUP * GROUP * self.words + index % GROUP, GROUP)
            } else {
                (index * self.words, 1)
            };
            for (word, code) in code.iter_mut().enumerate() {
                *code = u64::from_le_bytes(codes[at + word * step]);
            }
            let factors =
                Factors { add: f32::from_le_bytes(add[index]), scale: f32::from_le_bytes(scale[index]) };
            self.push_row(u64::from_le_bytes(rows[index]), factors);
            self.put_code(self.len - 1, &code);
        }
        Ok(())
    }

    /// Makes the last group whole.
    fn fill_group(&mut self) {
        let end = self.len.next_multiple_of(GROUP);
        self.rows.resize(end, NO_ROW);
        self.add.resize(end, f32::NEG_INFINITY);
        self.scale.resize(end, 0.0);
        self.codes.resize(end * self.words, 0);
    }

    fn put_code(&mut self, index: usize, code: &[u64]) {
        let group = &mut self.codes[index / GROUP * GROUP * self.words..];
        for (word, code) in code.iter().enumerate().take(self.words) {
            group[word * GROUP + index % GROUP] = *code;
        }
    }

    /// The codes of all values of a range, whose keys `look` is shown.
    pub(super) fn load_range(
        t: &mut Transaction,
        store: StoreId,
        range: &KeyRange,
        words: usize,
        mut look: impl FnMut(&[u8]),
    ) -> Result<List> {
        let (mut list, mut blobs) = (List::new(words), Vec::new());
        walk::visit(t, store, range.span(), Direction::Forward, |key, value| {
            look(key);
            match value {
                ValueRef::Inline(bytes) => list.unpack(bytes)?,
                // The transaction is busy while it walks.
                ValueRef::Blob(_) => blobs.push(value.to_value()),
            }
            Ok(true)
        })?;
        blobs.iter().try_for_each(|blob| list.unpack(&t.load(blob)?))?;
        Ok(list)
    }

    /// A list from the database.
    pub(super) fn load(t: &mut Transaction, store: StoreId, key: ListKey, words: usize) -> Result<Loaded> {
        let (range, mut loose) = (key.range(), 0);
        let list = Self::load_range(t, store, &range, words, |key| {
            loose += usize::from(ListKey::is_loose(&key[range.start.len()..]));
        })?;
        Ok(Loaded { list, loose })
    }

    /// Puts this list into the place of what the key has.
    pub(super) fn store(&self, t: &mut Transaction, store: StoreId, key: ListKey) -> Result<()> {
        remove(t, store, key)?;
        self.put_packed(t, store, key, 0)
    }

    /// Writes packed values, the first of them with this number.
    pub(super) fn put_packed(
        &self,
        t: &mut Transaction,
        store: StoreId,
        key: ListKey,
        first: u32,
    ) -> Result<()> {
        let step = Self::rows_per_value(self.words);
        for (block, start) in (first..).zip((0..self.len).step_by(step)) {
            let value = self.pack(start..self.len.min(start + step));
            t.put(store, &key.packed(block), &value, Placement::Auto)?;
        }
        Ok(())
    }
}

/// A list as it lies in the database.
pub(super) struct Loaded {
    pub(super) list: List,
    /// Values of one row.
    pub(super) loose: usize,
}

/// Adds one row to a list as a value of its own.
pub(super) fn put_loose(t: &mut Transaction, store: StoreId, key: ListKey, coded: Coded<'_>) -> Result<()> {
    let mut one = List::new(coded.code.len());
    one.push(coded);
    Ok(t.put(store, &key.loose(coded.row), &one.pack(0..1), Placement::Auto)?)
}

/// Adds rows to the end of a list that is not kept short: only its last packed value is written anew.
pub(super) fn append(t: &mut Transaction, store: StoreId, key: ListKey, rows: &List) -> Result<()> {
    let (first, last) = (key.packed(0), key.packed(u32::MAX));
    let span = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
    let (mut block, mut list) = (0, List::new(rows.words));
    for entry in t.scan(store, span.0, span.1, Direction::Backward, 1)? {
        block = keys::number_of_packed(&entry.key)?;
        list.unpack(&t.load(&entry.value)?)?;
    }
    list.extend(rows, |_| true);
    list.put_packed(t, store, key, block)
}

/// Packs the rows of a list that are values of their own, behind those that are packed.
pub(super) fn fold(t: &mut Transaction, store: StoreId, key: ListKey, words: usize) -> Result<()> {
    let (first, last) = (key.loose(RowId(0)), key.loose(RowId(u64::MAX)));
    let span = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
    let mut rows = List::new(words);
    for loose in t.scan(store, span.0, span.1, Direction::Forward, usize::MAX)? {
        rows.unpack(&t.load(&loose.value)?)?;
        t.delete(store, &loose.key)?;
    }
    append(t, store, key, &rows)
}

/// Removes a list.
pub(super) fn remove(t: &mut Transaction, store: StoreId, key: ListKey) -> Result<()> {
    let mut keys = Vec::new();
    walk::visit(t, store, key.range().span(), Direction::Forward, |key, _| {
        keys.push(key.to_vec());
        Ok(true)
    })?;
    keys.iter().try_for_each(|key| Ok(t.delete(store, key)?))
}

fn grouped_bytes(rows: usize, words: usize) -> usize {
    PACKED_HEADER + rows * 16 + rows.next_multiple_of(GROUP) * words * 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    fn coded(number: u64, code: &[u64]) -> Coded<'_> {
        let factors = Factors { add: number as f32, scale: number as f32 / 2.0 };
        Coded { row: RowId(number), is_primary: number.is_multiple_of(3), factors, code }
    }

    fn list(words: usize, numbers: Range<u64>) -> List {
        let mut list = List::new(words);
        for number in numbers {
            let code: Vec<u64> = (0..words as u64).map(|word| number * 1000 + word).collect();
            list.push(coded(number, &code));
        }
        list
    }

    #[test]
    fn values_hold_as_many_rows_as_lie_beside_their_keys() {
        assert_eq!(List::rows_per_value(6), 56);
        assert_eq!(List::rows_per_value(128), GROUP, "never less than a group");
        assert!(list(6, 0..56).pack(0..56).len() <= PACKED_BYTES_MAX);
    }

    #[test]
    fn packed_rows_are_the_same_wherever_they_are_put() {
        for words in [1, 6, 24] {
            for (first, second) in [(0, 1), (1, 7), (7, 8), (8, 8), (9, 63), (16, 20), (3, 100)] {
                let (a, b) = (list(words, 0..first), list(words, first..first + second));
                let mut found = List::new(words);
                found.unpack(&a.pack(0..a.len())).unwrap();
                found.unpack(&b.pack(0..b.len())).unwrap();
                assert_eq!(found, list(words, 0..first + second), "{words} {first} {second}");
                assert_eq!(found.columns().0.len(), (first + second).next_multiple_of(8) as usize);
            }
        }
    }

    #[test]
    fn damaged_values_are_told() {
        let bytes = list(6, 0..20).pack(0..20);
        for len in [0, 3, 4, bytes.len() - 1] {
            assert_eq!(List::new(6).unpack(&bytes[..len]).unwrap_err().code(), ErrorCode::Corruption);
        }
        assert!(List::new(5).unpack(&bytes).is_err());
        let mut other = bytes;
        other[0] = 9;
        assert!(List::new(6).unpack(&other).is_err());
    }

    #[test]
    fn a_grown_list_is_that_of_all_its_rows() {
        for (first, second) in [(0, 3), (5, 1), (8, 8), (20, 30)] {
            let grown = list(3, 0..first).with(&list(3, first..first + second));
            assert_eq!(grown, list(3, 0..first + second));
        }
    }

    #[test]
    fn extending_keeps_what_is_asked_for() {
        let mut found = list(2, 0..3);
        found.extend(&list(2, 3..30), |row| row.0 % 2 == 0);
        assert_eq!(found.len(), 3 + 13);
        let mut code = [0; 2];
        found.copy_code(15, &mut code);
        assert_eq!((found.row(15), code, found.is_primary(15)), (RowId(28), [28_000, 28_001], false));
    }
}
