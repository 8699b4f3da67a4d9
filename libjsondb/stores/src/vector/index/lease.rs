//! The lease of a build that takes seconds: others leave the index alone meanwhile, because one of the two would lose. It saves work;
//! what keeps the index right is that its state counts as read.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{CancelToken, Durability, Mode, Placement, StoreId, Transaction};

use super::lost;
use crate::vector::VectorStore;
use crate::vector::keys::{self, damaged};
use crate::{Database, ErrorCode, Result};

/// After so long a lease of somebody who is gone counts no more.
const TERM: Duration = Duration::from_secs(30);
/// The holder renews it when so much is left.
const RENEWED_AT: Duration = Duration::from_secs(20);
/// How long the keeper of a lease pauses between two looks at it.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// How long who waits for a lease pauses.
const PAUSE: Duration = Duration::from_millis(20);

/// Who holds a lease: drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u64);

/// A lease that this thread holds.
pub(super) struct Lease<'a> {
    vectors: &'a VectorStore,
    database: &'a Arc<Database>,
    store: StoreId,
    owner: Owner,
    until: u64,
}

/// True while somebody else than `owner` holds the lease. Counts as read: whoever takes it makes others fail that began before. Not for its owner, who may
/// renew it meanwhile.
pub(super) fn is_held_by_another(t: &mut Transaction, store: StoreId, owner: Option<Owner>) -> Result<bool> {
    let held = if owner.is_some() { t.untracked(|t| read(t, store))? } else { read(t, store)? };
    Ok(held.is_some_and(|(holder, until)| Some(holder) != owner && is_running(until)))
}

/// Owner (u64) and end of the term (milliseconds, u64), both little endian.
fn read(t: &mut Transaction, store: StoreId) -> Result<Option<(Owner, u64)>> {
    t.get_with(store, keys::LEASE, |bytes| {
        let Some(bytes) = bytes else { return Ok(None) };
        let (owner, until) = bytes.split_first_chunk().ok_or_else(|| damaged("a lease is short"))?;
        let until = until.try_into().map_err(|_| damaged("a lease has the wrong length"))?;
        Ok(Some((Owner(u64::from_le_bytes(*owner)), u64::from_le_bytes(until))))
    })?
}

/// False for a term that has run out, and for one that is longer than any is: whoever wrote it had another clock.
fn is_running(until: u64) -> bool {
    let now = now();
    (now + 1..=now + 2 * TERM.as_millis() as u64).contains(&until)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

impl<'a> Lease<'a> {
    /// Takes the lease of the store's index; waits while another holds it. None when there is no store yet.
    pub(super) fn take(
        vectors: &'a VectorStore,
        database: &'a Arc<Database>,
        cancel: &CancelToken,
    ) -> Result<Option<Self>> {
        let owner = Owner(uuid::Uuid::new_v4().as_u64_pair().1);
        loop {
            let mut t = database.begin_engine(Mode::Write, cancel)?;
            let Some(shape) = vectors.shape(&mut t)? else { return Ok(None) };
            if !is_held_by_another(&mut t, shape.store, None)? {
                let mut lease = Self { vectors, database, store: shape.store, owner, until: 0 };
                match lease.put(t) {
                    Ok(()) => return Ok(Some(lease)),
                    Err(error) if error.code() == ErrorCode::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
            cancel.check()?;
            thread::sleep(PAUSE);
        }
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// Does what may take longer than the term, with a thread beside it that keeps the lease. Should that fail, others may build, too: one of
    /// the two will find that the index has changed.
    pub(super) fn keep<R>(&mut self, cancel: &CancelToken, work: impl FnOnce() -> R) -> R {
        let (working, ended) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let keeper = move || {
                while ended.recv_timeout(RENEWAL_PAUSE) == Err(RecvTimeoutError::Timeout) {
                    let _ = self.renew(cancel);
                }
            };
            // Where the system has no more threads, the term has to do.
            let _ = thread::Builder::new().spawn_scoped(scope, keeper);
            let result = work();
            drop(working);
            result
        })
    }

    /// Keeps the lease, if it is time to. Conflict: it had run out, and another took it.
    fn renew(&mut self, cancel: &CancelToken) -> Result<()> {
        if now() + (RENEWED_AT.as_millis() as u64) < self.until {
            return Ok(());
        }
        let mut t = self.database.begin_engine(Mode::Write, cancel)?;
        if is_held_by_another(&mut t, self.store, Some(self.owner))? {
            return Err(lost());
        }
        self.put(t)
    }

    fn put(&mut self, mut t: Transaction) -> Result<()> {
        let until = now() + TERM.as_millis() as u64;
        let mut bytes = self.owner.0.to_le_bytes().to_vec();
        bytes.extend_from_slice(&until.to_le_bytes());
        t.put(self.store, keys::LEASE, &bytes, Placement::Auto)?;
        t.set_durability(Durability::Relaxed);
        t.commit()?;
        self.until = until;
        Ok(())
    }
}

impl Drop for Lease<'_> {
    /// Gives it back, unless another took it when it had run out. One that cannot be given back runs out.
    fn drop(&mut self) {
        let give_back = || -> Result<()> {
            let mut t = self.database.begin_engine(Mode::Write, &CancelToken::new())?;
            if self.vectors.shape(&mut t)?.is_some()
                && !is_held_by_another(&mut t, self.store, Some(self.owner))?
            {
                t.delete(self.store, keys::LEASE)?;
                t.set_durability(Durability::Relaxed);
                t.commit()?;
            }
            Ok(())
        };
        let _ = give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatabaseOptions, Session, VectorItem, VectorOptions};

    fn put(database: &Arc<Database>, store: StoreId, until: u64) {
        put_as(database, store, Owner(7), until);
    }

    fn put_as(database: &Arc<Database>, store: StoreId, owner: Owner, until: u64) {
        let mut t = database.begin_engine(Mode::Write, &CancelToken::new()).unwrap();
        let bytes = [owner.0.to_le_bytes(), until.to_le_bytes()].concat();
        t.put(store, keys::LEASE, &bytes, Placement::Auto).unwrap();
        t.commit().unwrap();
    }

    #[test]
    fn a_lease_keeps_others_away_until_it_runs_out_or_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let storage_path = folder.path().to_str().unwrap().to_owned();
        let database =
            Database::open(DatabaseOptions { storage_path, ..DatabaseOptions::default() }).unwrap();
        let session = Session::Auto(Arc::clone(&database));
        let vectors = VectorStore::open(session, "v", VectorOptions::default()).unwrap();
        let cancel = CancelToken::new();
        assert!(Lease::take(&vectors, &database, &cancel).unwrap().is_none(), "there is no store yet");
        vectors
            .upsert(&cancel, &[VectorItem { id: "a".to_owned(), vector: vec![1.0], ..VectorItem::default() }])
            .unwrap();
        let begin = |owner| vectors.begin_index(&database, owner, &cancel).unwrap().is_some();

        let earlier = vectors.begin_index(&database, None, &cancel).unwrap().unwrap();
        let mut lease = Lease::take(&vectors, &database, &cancel).unwrap().unwrap();
        let (store, owner) = (lease.store, lease.owner);
        assert!(!begin(None) && begin(Some(lease.owner())));
        let error = earlier.commit(&crate::vector::state::Change::default()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict, "who began before the lease was taken loses");
        lease.until = 0;
        lease.renew(&cancel).unwrap();
        assert!(lease.until > now());

        // However long a build takes, others stay away: the thread beside it is waited for here.
        put_as(&database, store, lease.owner, now() + 10);
        lease.until = now() + 10;
        lease.keep(&cancel, || {
            let is_kept = || {
                let mut t = database.begin_engine(Mode::Read, &cancel).unwrap();
                read(&mut t, store).unwrap().is_some_and(|(_, until)| until > now() + 15_000)
            };
            let mut mine = vectors.begin_index(&database, Some(owner), &cancel).unwrap().unwrap();
            while !is_kept() {
                thread::sleep(PAUSE);
            }
            mine.state.generation += 1;
            mine.commit(&crate::vector::state::Change::default()).expect("a renewal is in nobody's way");
        });

        // Another took it, as it had run out.
        put(&database, store, now() + 20_000);
        lease.until = 0;
        assert_eq!(lease.renew(&cancel).unwrap_err().code(), ErrorCode::Conflict);
        drop(lease);
        assert!(!begin(None), "a lease of others is not given back");
        put(&database, store, u64::MAX);
        assert!(begin(None), "no term is so long: who wrote it had another clock");
        put(&database, store, now().saturating_sub(1));
        assert!(begin(None), "it has run out");
        drop(Lease::take(&vectors, &database, &cancel).unwrap().unwrap());
        assert!(begin(None), "it was given back");
    }
}
