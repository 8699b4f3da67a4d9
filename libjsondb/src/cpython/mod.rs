//! A fast path for Python: builtin functions that take and give Python objects, without ctypes and JSON text in between.
//!
//! The library is not linked to Python. The package hands it the addresses of CPython's functions through `ctypes.PyDLL`, and
//! gets back functions made with `PyCFunction_NewEx`. A call of one costs about 40 ns. On other interpreters, on builds that
//! fail the checks of [`bind::Bind`], and with `SOP_PURE=1` in the environment, the package calls the C ABI instead.
//!
//! # Rules
//! The GIL is held for what cannot block and takes a few microseconds; it is released for everything else, and never
//! waited for while a lock of this library is held. Python code, which any call into Python may run (a finaliser), is free to call
//! this library again: so bytes are copied out under our locks, and become objects once those are released.
#![allow(clippy::indexing_slicing)]

mod api;
mod ascii;
mod bind;
mod btree;
mod buffer;
mod codec;
mod decode;
mod encode;
mod exit;
mod function;
mod iterate;
mod key;
mod map;
mod map_read;
mod map_walk;
mod map_write;
mod names;
mod owned;
mod scan;
mod transaction;
mod vector;

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::rc::Rc;

use api::{NAMES, Py};
use bind::Bind;
use function::{Definition, Outcome, make};

/// Names of the functions of CPython whose addresses `sop_cpython_bind` takes, in their order, separated by spaces.
#[unsafe(no_mangle)]
pub extern "C" fn sop_cpython_names() -> *const c_char {
    NAMES.as_ptr()
}

/// For the Python package only, through `ctypes.PyDLL`: takes the addresses of CPython's functions and a tuple of objects;
/// gives a tuple of builtin functions, or NULL where this build of Python is not one the library knows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_cpython_bind(
    addresses: *const *const c_void,
    count: usize,
    objects: *mut c_void,
) -> *mut c_void {
    let made = crate::boundary::guarded(|| {
        // SAFETY: the caller's part: so many addresses, of the functions named.
        let addresses = unsafe { crate::strings::slice("addresses", addresses, count) }?.unwrap_or_default();
        // SAFETY: the caller's part, and the GIL is held by `ctypes.PyDLL`.
        let Some(bind) = (unsafe { Bind::new(addresses, objects.cast()) }) else { return Ok(None) };
        Ok(functions(&Rc::new(bind)).ok())
    });
    made.ok().flatten().unwrap_or(null_mut()).cast()
}

/// A tuple of all builtin functions, in the order of `_native.py`.
fn functions(bind: &Rc<Bind>) -> Outcome {
    fn one(definition: &'static Definition<()>, bind: &Rc<Bind>) -> Outcome {
        make(definition, bind, ())
    }
    let all = [
        one(&codec::ENCODE, bind)?,
        one(&codec::DECODE, bind)?,
        one(&map::OPEN, bind)?,
        one(&btree::WRITE, bind)?,
        one(&btree::FIND_ONE, bind)?,
        one(&btree::VALUES, bind)?,
        one(&btree::PAGE, bind)?,
        one(&btree::RANGE, bind)?,
        one(&transaction::BEGIN, bind)?,
        one(&transaction::COMMIT, bind)?,
        one(&vector::UPSERT_ARRAYS, bind)?,
        one(&vector::QUERY, bind)?,
        one(&vector::QUERY_ARRAYS, bind)?,
    ];
    tuple(bind, &all)
}

/// A new tuple of objects whose references are given up.
fn tuple(bind: &Bind, objects: &[Py]) -> Outcome {
    // SAFETY: the GIL is held.
    let tuple = function::new(unsafe { (bind.api.PyTuple_New)(objects.len() as isize) })?;
    for (index, object) in objects.iter().enumerate() {
        // SAFETY: a new tuple of that length takes the reference over.
        unsafe { (bind.api.PyTuple_SetItem)(tuple, index as isize, *object) };
    }
    Ok(tuple)
}
