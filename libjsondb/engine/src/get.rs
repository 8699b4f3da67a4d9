//! Point reads: one key, its value seen in place.

use crate::{Database, Mode, Result, StoreId, Transaction};

impl Database {
    /// Shows `look` the value of a key in the newest committed state, None when there is none; gives what `look` gives.
    pub fn get_with<R>(
        &self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        self.begin_brief(Mode::Read)?.get_with(store, key, look)
    }

    /// As [`Database::get_with`]; None, and `look` is not called, when the answer would take a look at the disk or wait for a lock.
    pub fn get_cached_with<R>(
        &self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<Option<R>> {
        self.get_with(store, key, look).map(Some)
    }
}

impl Transaction {
    /// As [`Transaction::get`], showing `look` the bytes of the value, None when there is none; gives what `look` gives.
    pub fn get_with<R>(
        &mut self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let bytes = self.get(store, key)?.map(|value| self.load(&value)).transpose()?;
        Ok(look(bytes.as_deref()))
    }

    /// As [`Transaction::get_with`]; None, and `look` is not called, when the answer would take a look at the disk or wait for a
    /// lock. The key does not count as read then.
    pub fn get_cached_with<R>(
        &mut self,
        store: StoreId,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<Option<R>> {
        self.get_with(store, key, look).map(Some)
    }
}
