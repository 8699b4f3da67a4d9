//! Whether a transaction may commit.
//!
//! What conflicts with what, for a transaction with snapshot R, against every commit after R (I5 in libjsondb/docs/protocol.md):
//!
//! | it did               | a later commit wrote the key | a later commit only read it |
//! |----------------------|------------------------------|-----------------------------|
//! | wrote the key        | conflict                     | -                           |
//! | read or missed it    | conflict                     | -                           |
//! | scanned over it      | conflict                     | -                           |
//! | ensured the store    | conflict unless it wrote the same bytes | -                |
//! | added to a counter   | -                            | -                           |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use crate::commit::Prepared;
use crate::database::Inner;
use crate::memtable::Window;
use crate::planted::{Bug, is_planted};
use crate::replica::Replica;
use crate::snapshot::Source;
use crate::tree::Pages;
use crate::{Direction, Error, ErrorKind, Result, Seq, Value, catalog};

impl Inner {
    /// For each member: the stores it creates, or why it cannot commit.
    pub(crate) fn validate(&self, replica: &Replica, group: &[Prepared]) -> Vec<Result<Vec<Box<[u8]>>>> {
        let mut earlier = Earlier::default();
        let mut to_come = group.len();
        group
            .iter()
            .map(|prepared| {
                to_come -= 1;
                prepared.check()?;
                if prepared.snapshot < replica.floor() {
                    let what = "the transaction is older than the commits still in memory; run it again";
                    return Err(Error::new(ErrorKind::SnapshotTooOld, what));
                }
                if let Some(key) = find_conflict(&self.pages, replica, &earlier, prepared)? {
                    return Err(self.conflict_error(&key));
                }
                let new_stores = self.check_ensures(replica, &earlier, prepared)?;
                if to_come > 0 {
                    earlier.add(prepared, &new_stores);
                }
                Ok(new_stores)
            })
            .collect()
    }

    /// Which of the stores to create are not there yet. Another entry under the same key is a conflict: a retry sees it.
    fn check_ensures(
        &self,
        replica: &Replica,
        earlier: &Earlier<'_>,
        prepared: &Prepared,
    ) -> Result<Vec<Box<[u8]>>> {
        let mut missing = Vec::new();
        if prepared.ensures.is_empty() {
            return Ok(missing);
        }
        let current = replica.newest();
        for (key, entry) in &prepared.ensures {
            let found = match earlier.ensures.get(key.as_ref()) {
                Some(found) => Some(Value::Inline(found.as_slice().into())),
                // Dropped (or dropped and made again) by an earlier member.
                None if earlier.writes.contains(key.as_ref()) => return Err(self.conflict_error(key)),
                None => current.get(&self.pages, key)?,
            };
            match found {
                None => missing.push(key.clone()),
                Some(Value::Inline(found)) if *found == **entry => {}
                Some(_) => return Err(self.conflict_error(key)),
            }
        }
        Ok(missing)
    }

    /// True when none of these keys was written after `seq`.
    pub(crate) fn is_unchanged_since<'a>(
        &self,
        seq: Seq,
        mut keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<bool> {
        let replica = self.lock_replica();
        if seq < replica.floor() {
            return Ok(false);
        }
        let changed = keys.find_map(|key| match is_written(&self.pages, &replica, seq, key) {
            Ok(false) => None,
            written => Some(written),
        });
        changed.transpose().map(|changed| changed.is_none())
    }

    fn conflict_error(&self, key: &[u8]) -> Error {
        if let Some(shared) = &self.shared {
            shared.peers.note_conflict(key);
        }
        let (store, key) = catalog::describe(&self.current.load(), &self.pages, key);
        let message = format!(
            "conflict in store \"{store}\": another transaction committed first to something this one read or wrote; run it again"
        );
        Error::conflict(store, key, message)
    }
}

/// What earlier members of the same group write.
#[derive(Default)]
struct Earlier<'a> {
    writes: HashSet<&'a [u8]>,
    sorted: BTreeMap<&'a [u8], ()>,
    ensures: HashMap<&'a [u8], &'a Vec<u8>>,
}

impl<'a> Earlier<'a> {
    fn add(&mut self, prepared: &'a Prepared, new_stores: &[Box<[u8]>]) {
        let created = prepared.ensures.iter().filter(|(key, _)| new_stores.contains(key));
        for (key, entry) in created {
            self.ensures.insert(key, entry);
            self.sorted.insert(key, ());
            self.writes.insert(key);
        }
        for key in prepared.writes.keys() {
            self.writes.insert(key);
            self.sorted.insert(key, ());
        }
    }
}

/// A key that the transaction wrote, read, missed or scanned over and that was written after its snapshot.
fn find_conflict(
    pages: &Pages,
    replica: &Replica,
    earlier: &Earlier<'_>,
    prepared: &Prepared,
) -> Result<Option<Vec<u8>>> {
    let snapshot = prepared.snapshot;
    let keys = prepared.writes.keys().chain(prepared.reads.keys());
    for key in keys {
        if earlier.writes.contains(key) || is_written(pages, replica, snapshot, key)? {
            return Ok(Some(key.to_vec()));
        }
    }
    for run in prepared.runs.iter().filter(|_| !is_planted(Bug::SkipRunValidation)) {
        let later = replica.memtables_after(snapshot);
        for committed in later.flat_map(|memtable| memtable.sources_after(snapshot, pages)) {
            if let Some(key) = first_common(Source::Run(run.cursor(pages)), committed)? {
                return Ok(Some(key));
            }
        }
    }
    if is_planted(Bug::SkipRangeValidation) {
        return Ok(None);
    }
    for (start, end) in prepared.reads.ranges() {
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        if let Some((key, ())) = earlier.sorted.range::<[u8], _>((Bound::Included(start), upper)).next() {
            return Ok(Some(key.to_vec()));
        }
        let later = replica.memtables_after(snapshot);
        for mut committed in later.flat_map(|memtable| memtable.sources_after(snapshot, pages)) {
            committed.seek(Bound::Included(start), Direction::Forward)?;
            if let Some((key, _)) = committed.current().filter(|(key, _)| end.is_none_or(|end| *key < end)) {
                return Ok(Some(key.to_vec()));
            }
        }
    }
    Ok(None)
}

fn is_written(pages: &Pages, replica: &Replica, snapshot: Seq, key: &[u8]) -> Result<bool> {
    for memtable in replica.memtables_after(snapshot) {
        if memtable.newest_of(key) > Some(snapshot) {
            return Ok(true);
        }
        for run in memtable.runs(Window::after(snapshot)) {
            if !is_planted(Bug::SkipRunValidation) && run.contains(pages, key)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The lowest key that both have. Each is moved to the other's next key, so what only one has is stepped over in one go.
fn first_common<'a>(mut one: Source<'a>, mut other: Source<'a>) -> Result<Option<Vec<u8>>> {
    one.seek(Bound::Unbounded, Direction::Forward)?;
    while let Some((key, _)) = one.current() {
        other.seek(Bound::Included(key), Direction::Forward)?;
        match other.current() {
            Some((found, _)) if found == key => return Ok(Some(key.to_vec())),
            Some(_) => std::mem::swap(&mut one, &mut other),
            None => return Ok(None),
        }
    }
    Ok(None)
}
