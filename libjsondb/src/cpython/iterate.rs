//! Going through what a caller passes: lists at once, everything else by its iterator.

use super::api::Py;
use super::bind::{Bind, kind};
use super::exit::or_stay;
use super::function::{Failure, new};
use super::owned::Owned;

/// Calls `each` with every element, borrowed. `each` may run Python code, which may change the list.
pub(super) fn for_each(
    bind: &Bind,
    elements: Py,
    mut each: impl FnMut(Py) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let api = &bind.api;
    if kind(elements) == bind.objects.list {
        let mut index = 0;
        // SAFETY: `elements` is a list, asked for its length before each access; the GIL is held.
        while index < unsafe { (api.PyList_Size)(elements) } {
            // SAFETY: as above.
            let element = unsafe { (api.PyList_GetItem)(elements, index) };
            let element = Owned::new(bind, bind.keep(element));
            each(element.get())?;
            index += 1;
        }
        return Ok(());
    }
    // SAFETY: the GIL is held.
    let iterator = Owned::new(bind, new(or_stay(|| unsafe { (api.PyObject_GetIter)(elements) }))?);
    loop {
        // SAFETY: it is an iterator; the GIL is held.
        let element = or_stay(|| unsafe { (api.PyIter_Next)(iterator.get()) });
        if element.is_null() {
            // SAFETY: the GIL is held.
            let has_failed = !unsafe { (api.PyErr_Occurred)() }.is_null();
            return if has_failed { Err(Failure::Raised) } else { Ok(()) };
        }
        let element = Owned::new(bind, element);
        each(element.get())?;
    }
}

/// Calls `each` with every element of a list while it gives true; false when it did not, and when there is no list.
pub(super) fn for_each_of_list(
    bind: &Bind,
    elements: Py,
    mut each: impl FnMut(Py) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    if kind(elements) != bind.objects.list {
        return Ok(false);
    }
    let mut goes_on = true;
    for_each(bind, elements, |element| {
        goes_on = goes_on && each(element)?;
        Ok(())
    })?;
    Ok(goes_on)
}

/// Key and value of a pair, borrowed from it, when it is a plain tuple of two.
pub(super) fn plain_pair(bind: &Bind, pair: Py) -> Option<(Py, Py)> {
    let api = &bind.api;
    // SAFETY: it is asked for its length when it is a tuple.
    let is_pair = kind(pair) == bind.objects.tuple && unsafe { (api.PyTuple_Size)(pair) } == 2;
    // SAFETY: a tuple of two keeps its items as long as it lives.
    is_pair.then(|| unsafe { ((api.PyTuple_GetItem)(pair, 0), (api.PyTuple_GetItem)(pair, 1)) })
}
