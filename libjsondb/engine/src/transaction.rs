//! A snapshot, a write set, and what was read.
use std::ops::Bound;

use crate::{CancelToken, Direction, Entry, Mode, Placement, Result, Seq, StoreId, Value, ValueRef};

/// A transaction: sees one snapshot and its own writes. Dropped without commit, it leaves nothing behind.
pub struct Transaction {}

impl Transaction {
    /// Read or write.
    pub fn mode(&self) -> Mode {
        todo!()
    }

    /// The snapshot: everything up to this commit is seen, nothing after it.
    pub fn snapshot(&self) -> Seq {
        todo!()
    }

    /// The token that long calls on this transaction look at from now on.
    pub fn set_cancel(&mut self, _cancel: &CancelToken) {
        todo!()
    }

    /// Latest moment at which a commit may still wait for locks; later it fails with Timeout. None waits as long as the options say.
    pub fn set_deadline(&mut self, _deadline: Option<std::time::Instant>) {
        todo!()
    }

    /// Opens the store `name`, creating it with `metadata` when missing. Two transactions that create the same store
    /// with equal metadata at the same time both commit. Fails with Exists when it has other metadata.
    pub fn ensure_store(&mut self, _name: &str, _metadata: &[u8]) -> Result<StoreId> {
        todo!()
    }

    /// Finds a store by name; gives its metadata. A miss is None.
    pub fn store(&mut self, _name: &str) -> Result<Option<(StoreId, Vec<u8>)>> {
        todo!()
    }

    /// Removes a store with all its entries and counters. False when there is none of this name.
    pub fn drop_store(&mut self, _name: &str) -> Result<bool> {
        todo!()
    }

    /// Names of all stores whose name starts with `prefix`, in order of name.
    pub fn store_names(&mut self, _prefix: &str) -> Result<Vec<String>> {
        todo!()
    }

    /// Sum of a store's counter as this transaction sees it: 0 when never added to. Reading it conflicts with nothing.
    pub fn counter(&self, _store: StoreId, _name: &[u8]) -> Result<i64> {
        todo!()
    }

    /// Adds to a counter. Additions of concurrent transactions sum up and never conflict.
    pub fn add_to_counter(&mut self, _store: StoreId, _name: &[u8], _delta: i64) -> Result<()> {
        todo!()
    }

    /// The value of a key, or None. In write mode the key counts as read, present or not.
    pub fn get(&mut self, _store: StoreId, _key: &[u8]) -> Result<Option<Value>> {
        todo!()
    }

    /// Sets a key. Keys up to 16 KiB, values up to 1 GiB.
    pub fn put(&mut self, _store: StoreId, _key: &[u8], _value: &[u8], _placement: Placement) -> Result<()> {
        todo!()
    }

    /// Removes a key, present or not.
    pub fn delete(&mut self, _store: StoreId, _key: &[u8]) -> Result<()> {
        todo!()
    }

    /// Walks the entries of `store` whose key lies in `start..end` (bounds in key order whatever the direction) until
    /// `visitor` returns false. In write mode the range walked over counts as read. `visitor` must not be re-entered.
    pub fn visit(
        &mut self,
        _store: StoreId,
        _start: Bound<&[u8]>,
        _end: Bound<&[u8]>,
        _direction: Direction,
        _visitor: &mut dyn FnMut(&[u8], ValueRef<'_>) -> Result<bool>,
    ) -> Result<()> {
        todo!()
    }

    /// As [`Transaction::visit`], collecting up to `limit` entries.
    pub fn scan(
        &mut self,
        _store: StoreId,
        _start: Bound<&[u8]>,
        _end: Bound<&[u8]>,
        _direction: Direction,
        _limit: usize,
    ) -> Result<Vec<Entry>> {
        todo!()
    }

    /// The bytes of a value.
    pub fn load(&self, _value: &Value) -> Result<Vec<u8>> {
        todo!()
    }

    /// The bytes of a value met by a scan.
    pub fn load_ref(&self, _value: ValueRef<'_>) -> Result<Vec<u8>> {
        todo!()
    }

    /// True when something would be written by a commit.
    pub fn has_writes(&self) -> bool {
        todo!()
    }

    /// Makes all writes durable and visible together, or none: when it returns Ok they survive kill -9 and power cut. Conflict, Timeout, Cancelled, DiskFull: nothing was stored.
    /// Io: the sync failed, so whether it was stored is known only after the folder is opened again.
    pub fn commit(self) -> Result<Seq> {
        todo!()
    }

    /// Drops all writes. The same as dropping the transaction.
    pub fn rollback(self) {}
}
