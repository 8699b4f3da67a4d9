//! A reference that is given back when it goes.

use super::api::Py;
use super::bind::Bind;

/// Owns one reference. Dropped with the GIL held.
pub(super) struct Owned<'b> {
    bind: &'b Bind,
    object: Py,
}

impl<'b> Owned<'b> {
    /// Takes over a reference, which is not NULL.
    pub(super) fn new(bind: &'b Bind, object: Py) -> Self {
        Self { bind, object }
    }

    /// The object, borrowed.
    pub(super) fn get(&self) -> Py {
        self.object
    }

    /// Gives the reference away.
    pub(super) fn into_inner(self) -> Py {
        let object = self.object;
        std::mem::forget(self);
        object
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        self.bind.release(self.object);
    }
}
