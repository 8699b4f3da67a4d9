//! Transactions: beginning and committing one.

use std::rc::Rc;

use stores::{TransactionMode, max_time_from_minutes};

use super::bind::Bind;
use super::encode::float_of;
use super::function::{
    Arguments, Bound, Failure, Outcome, builtin, capsule, new, raise_type_error, without_gil,
};
use super::map::number;
use super::tuple;
use crate::actions::SopDurability;
use crate::database;
use crate::process;
use crate::transaction::{self, OpenTransaction};

builtin!(BEGIN, c"begin", (), begin);
builtin!(COMMIT, c"commit", (), commit);

/// `begin(context, database, mode, minutes, durability)`: the handle, and an object that releases it when it goes itself.
fn begin(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &bound.bind;
    let names = ["context", "database", "mode", "minutes", "durability"];
    let [context, database, mode, minutes, durability] = arguments.take(names, 5)?;
    let (context, database) = (number(bind, context)? as i64, number(bind, database)?);
    let (mode, durability) = (number(bind, mode)? as i32, number(bind, durability)? as i32);
    let minutes = float_of(bind, minutes.unwrap_or(bind.objects.none))
        .map_err(|_| raise_type_error(bind, "expected a float"))?;
    let handle = without_gil(bind, || {
        let process = process::current();
        let cancel = process.contexts.token(context)?;
        let (mode, durability) = (TransactionMode::try_from(mode)?, SopDurability::from_number(durability)?);
        let max_time = max_time_from_minutes(minutes);
        transaction::begin(process, &cancel, database, mode, max_time, durability)
    })
    .map_err(Failure::Plain)?;
    let owner = capsule(bind, Owner { bind: Rc::clone(bind), handle })?;
    // SAFETY: the GIL is held.
    let handle = new(unsafe { (bind.api.PyLong_FromUnsignedLongLong)(handle) })?;
    tuple(bind, &[handle, owner.into_inner()])
}

/// `commit(context, transaction)`: under the GIL, if nothing has to be waited for.
fn commit(bound: &Bound<()>, arguments: &Arguments<'_>) -> Outcome {
    let bind = &*bound.bind;
    let [context, transaction] = arguments.take(["context", "transaction"], 2)?;
    let (context, transaction) = (number(bind, context)? as i64, number(bind, transaction)?);
    let process = process::current();
    let committed = process.contexts.token(context).and_then(|cancel| {
        let held = process.handles.get::<OpenTransaction>(transaction)?;
        if held.try_commit(&cancel)? { Ok(()) } else { without_gil(bind, || held.commit(&cancel)) }
    });
    committed.map(|()| bind.none()).map_err(Failure::Plain)
}

/// Releases a handle when it goes.
struct Owner {
    bind: Rc<Bind>,
    handle: u64,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let process = process::current();
        let held = process.handles.get::<OpenTransaction>(self.handle);
        if held.is_ok_and(|held| !held.committed()) {
            // It is rolled back: files may have to be removed, and a call that is running comes first.
            let _ = without_gil(&self.bind, || {
                database::release(process, self.handle);
                Ok(())
            });
        } else {
            database::release(process, self.handle);
        }
    }
}
