//! Builtin functions: made of a Rust function and what it is bound to, called without ctypes in between.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::null_mut;
use std::rc::Rc;

use stores::{Error, Result};

use super::api::{Builtin, MethodDef, Py};
use super::bind::Bind;
use super::encode::text;
use super::exit::or_stay;
use super::owned::Owned;
use crate::boundary;

const FASTCALL: c_int = 0x80;
const KEYWORDS: c_int = 0x02;
const CAPSULE: &CStr = c"sop";

/// Why a builtin function has no result.
pub(super) enum Failure {
    /// Python knows already: an exception is set.
    Raised,
    /// An error of the stores, to become an exception as calls of B-trees and maps raise them.
    Store(Error),
    /// An error of the stores in another call.
    Plain(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Store(error)
    }
}

/// A new reference, or why there is none.
pub(super) type Outcome = std::result::Result<Py, Failure>;

/// What a builtin function is bound to. The GIL guards the count of the binding.
pub(super) struct Bound<T> {
    pub(super) bind: Rc<Bind>,
    pub(super) state: T,
}

/// A definition of a builtin function; lives as long as the library.
pub(super) struct Definition<T: 'static> {
    def: MethodDef,
    state: std::marker::PhantomData<fn(T)>,
}

// SAFETY: never written, and the names that it points to live for ever.
unsafe impl<T> Sync for Definition<T> {}

impl<T> Definition<T> {
    pub(super) const fn new(name: &'static CStr, doc: &'static CStr, method: Builtin) -> Self {
        let def = MethodDef { name: name.as_ptr(), method, flags: FASTCALL | KEYWORDS, doc: doc.as_ptr() };
        Self { def, state: std::marker::PhantomData }
    }
}

/// A Python function from a definition's name and a body `fn(&Bound<T>, &Arguments) -> Outcome`. One that users call themselves has a docstring
/// that begins with its signature.
macro_rules! builtin {
    ($definition:ident, $name:literal, $state:ty, $body:path) => {
        $crate::cpython::function::builtin!($definition, $name, $state, $body, c"");
    };
    ($definition:ident, $name:literal, $state:ty, $body:path, $doc:expr) => {
        pub(super) static $definition: $crate::cpython::function::Definition<$state> = {
            unsafe extern "C" fn called(
                this: $crate::cpython::api::Py,
                arguments: *const $crate::cpython::api::Py,
                count: isize,
                names: $crate::cpython::api::Py,
            ) -> $crate::cpython::api::Py {
                // SAFETY: Python calls it with what it was made with, and arguments that live through the call.
                unsafe { $crate::cpython::function::run::<$state>(this, arguments, count, names, $body) }
            }
            $crate::cpython::function::Definition::new($name, $doc, called)
        };
    };
}
pub(super) use builtin;

/// Arguments of a call.
pub(super) struct Arguments<'a> {
    bind: &'a Bind,
    all: &'a [Py],
    positional: usize,
    names: Py,
}

impl<'a> Arguments<'a> {
    /// The arguments in the order of `names`, None where none is given; the first `required` have to be there.
    pub(super) fn take<const N: usize>(
        &self,
        names: [&str; N],
        required: usize,
    ) -> std::result::Result<[Option<Py>; N], Failure> {
        let mut taken = [None; N];
        if self.positional > N {
            return Err(self.type_error(&format!("takes at most {N} arguments, {} given", self.positional)));
        }
        for (slot, argument) in taken.iter_mut().zip(&self.all[..self.positional]) {
            *slot = Some(*argument);
        }
        for (index, argument) in self.all[self.positional..].iter().enumerate() {
            // SAFETY: `names` is a tuple of as many str as there are arguments by name.
            let name = unsafe { (self.bind.api.PyTuple_GetItem)(self.names, index as isize) };
            let name = text(self.bind, name).unwrap_or_default();
            match names.iter().position(|known| *known == name) {
                Some(place) if taken[place].is_none() => taken[place] = Some(*argument),
                Some(_) => return Err(self.type_error(&format!("got two values for {name:?}"))),
                None => return Err(self.type_error(&format!("got an unexpected keyword argument {name:?}"))),
            }
        }
        match taken.iter().take(required).position(Option::is_none) {
            None => Ok(taken),
            Some(place) => Err(self.type_error(&format!("missing the argument {:?}", names[place]))),
        }
    }

    /// The first argument, when it is the only one.
    pub(super) fn only(&self) -> Option<Py> {
        match self.all {
            [one] if self.positional == 1 => Some(*one),
            _ => None,
        }
    }

    fn type_error(&self, message: &str) -> Failure {
        raise_type_error(self.bind, message)
    }
}

/// Sets a TypeError.
pub(super) fn raise_type_error(bind: &Bind, message: &str) -> Failure {
    let message = std::ffi::CString::new(message.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the GIL is held; the text ends with a zero byte.
    unsafe { (bind.api.PyErr_SetString)(bind.objects.type_error, message.as_ptr()) };
    Failure::Raised
}

/// Makes a builtin function. Gives a new reference.
pub(super) fn make<T: 'static>(definition: &'static Definition<T>, bind: &Rc<Bind>, state: T) -> Outcome {
    let capsule = capsule(bind, state)?;
    function(definition, bind, capsule.get())
}

/// Makes the builtin functions of one state, a new reference each. They share what they are bound to.
pub(super) fn make_all<T: 'static>(
    definitions: &[&'static Definition<T>],
    bind: &Rc<Bind>,
    state: T,
) -> std::result::Result<Vec<Py>, Failure> {
    let capsule = capsule(bind, state)?;
    let mut made = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let one = function(definition, bind, capsule.get())?;
        made.push(one);
    }
    Ok(made)
}

/// A capsule that owns a state, and drops it when it goes itself.
pub(super) fn capsule<T: 'static>(bind: &Rc<Bind>, state: T) -> std::result::Result<Owned<'_>, Failure> {
    let bound = Box::into_raw(Box::new(Bound { bind: Rc::clone(bind), state }));
    // SAFETY: the GIL is held; the capsule owns `bound` and frees it once.
    let capsule = unsafe { (bind.api.PyCapsule_New)(bound.cast(), CAPSULE.as_ptr(), Some(free::<T>)) };
    if capsule.is_null() {
        // SAFETY: no capsule has it.
        drop(unsafe { Box::from_raw(bound) });
        return Err(Failure::Raised);
    }
    Ok(Owned::new(bind, capsule))
}

/// A builtin function bound to a capsule of its state, which it keeps.
fn function<T>(definition: &'static Definition<T>, bind: &Bind, capsule: Py) -> Outcome {
    let def = std::ptr::from_ref(&definition.def).cast_mut();
    // SAFETY: the definition lives for ever and Python does not write to it.
    new(unsafe { (bind.api.PyCFunction_NewEx)(def, capsule, null_mut()) })
}

/// The result of a call that gives a new reference, or NULL and an exception.
pub(super) fn new(object: Py) -> Outcome {
    if object.is_null() { Err(Failure::Raised) } else { Ok(object) }
}

/// `PyCapsule`: where its pointer is, as [`Bind`] has checked.
#[repr(C)]
struct Capsule {
    head: super::api::PyObject,
    pointer: *mut c_void,
}

unsafe extern "C" fn free<T>(capsule: Py) {
    // SAFETY: a capsule of `make`, which nobody has any more.
    let bound = unsafe { Box::from_raw((*capsule.cast::<Capsule>()).pointer.cast::<Bound<T>>()) };
    // The state may close files: nothing of it needs Python, and a panic must not reach it.
    let _ = boundary::guarded(|| {
        let Bound { bind, state } = *bound;
        drop(state);
        // Goes last: it may be the last one.
        drop(bind);
        Ok(())
    });
}

/// True when capsules keep their pointer where this library looks for it.
pub(super) fn finds_pointers(api: &super::api::Api) -> bool {
    let mark = 7_usize as *mut c_void;
    // SAFETY: the GIL is held; nobody follows the pointer.
    unsafe {
        let capsule = (api.PyCapsule_New)(mark, CAPSULE.as_ptr(), None);
        let right = !capsule.is_null() && (*capsule.cast::<Capsule>()).pointer == mark;
        if !capsule.is_null() {
            (api.Py_DecRef)(capsule);
        }
        right
    }
}

/// Runs the body of a builtin function inside the panic boundary.
///
/// # Safety
/// `this` is the capsule that the function was made with, of state `T`; the rest is what Python gave to the call.
pub(super) unsafe fn run<T: 'static>(
    this: Py,
    arguments: *const Py,
    count: isize,
    names: Py,
    body: impl FnOnce(&Bound<T>, &Arguments<'_>) -> Outcome,
) -> Py {
    // SAFETY: `this` is the function's capsule.
    let bound = unsafe { &*(*this.cast::<Capsule>()).pointer.cast::<Bound<T>>() };
    let bind = &*bound.bind;
    // A caller in C may let go of the function while a call without the GIL is in it.
    let _this = Owned::new(bind, bind.keep(this));
    let positional = count as usize;
    // SAFETY: `names` is NULL or a tuple.
    let named = if names.is_null() { 0 } else { unsafe { (bind.api.PyTuple_Size)(names) as usize } };
    let all = if positional + named == 0 {
        &[]
    } else {
        // SAFETY: Python gives an array of all arguments, those by name last.
        unsafe { std::slice::from_raw_parts(arguments, positional + named) }
    };
    let arguments = Arguments { bind, all, positional, names };
    let outcome = boundary::guarded(|| Ok(body(bound, &arguments)));
    match outcome.unwrap_or_else(|panic| Err(Failure::Store(panic))) {
        Ok(object) => object,
        Err(Failure::Raised) => null_mut(),
        Err(Failure::Store(error)) => {
            report(bind, bind.objects.report, &error);
            null_mut()
        }
        Err(Failure::Plain(error)) => {
            report(bind, bind.objects.report_plain, &error);
            null_mut()
        }
    }
}

/// Raises an error of the stores, by a function of the package.
#[cold]
fn report(bind: &Bind, reporter: Py, error: &Error) {
    let api = &bind.api;
    let details = serde_json::to_string(error.details()).unwrap_or_else(|_| "{}".to_owned());
    let text = |text: &str| bind.new_str(text.as_bytes());
    // SAFETY: the GIL is held.
    let code = unsafe { (api.PyLong_FromLongLong)(error.code() as i64) };
    let arguments = [code, text(error.message()), bind.truth(error.is_retryable()), text(&details)];
    if let Ok(result) = call(bind, reporter, &arguments) {
        // It raises always; an answer would leave NULL without an exception.
        bind.release(result);
        raise_type_error(bind, error.message());
    }
}

/// Calls an object of Python with arguments whose references are given up. Any Python code may run: no lock is held.
pub(super) fn call(bind: &Bind, callee: Py, arguments: &[Py]) -> Outcome {
    let api = &bind.api;
    // SAFETY: the GIL is held.
    let tuple = unsafe { (api.PyTuple_New)(arguments.len() as isize) };
    if tuple.is_null() || arguments.iter().any(|argument| argument.is_null()) {
        let all = arguments.iter().chain([&tuple]).copied();
        all.filter(|object| !object.is_null()).for_each(|object| bind.release(object));
        return Err(Failure::Raised);
    }
    for (index, argument) in arguments.iter().enumerate() {
        // SAFETY: a new tuple of that length takes the reference over.
        unsafe { (api.PyTuple_SetItem)(tuple, index as isize, *argument) };
    }
    // SAFETY: `callee` is alive, `tuple` is a tuple.
    let result = or_stay(|| unsafe { (api.PyObject_CallObject)(callee, tuple) });
    bind.release(tuple);
    new(result)
}

/// Runs work without the GIL: other threads of Python go on. For what may read the disk, wait for a lock, or take longer
/// than a few microseconds.
pub(super) fn without_gil<R>(bind: &Bind, work: impl FnOnce() -> Result<R>) -> Result<R> {
    struct Retake<'a>(&'a Bind, *mut c_void);
    impl Drop for Retake<'_> {
        fn drop(&mut self) {
            // SAFETY: the state that was saved on this thread.
            or_stay(|| unsafe { (self.0.api.PyEval_RestoreThread)(self.1) })
        }
    }
    // SAFETY: this thread holds the GIL.
    let _retake = Retake(bind, unsafe { (bind.api.PyEval_SaveThread)() });
    work()
}
