//! CPython's C functions, by address: the library is not linked to Python, and loads without it.

use std::ffi::{c_char, c_double, c_int, c_longlong, c_void};

use super::buffer::PyBuffer;

/// An object of Python. Its first two fields are where every build has them that passes `Bind`'s self checks.
#[repr(C)]
pub(super) struct PyObject {
    references: isize,
    pub(super) kind: *mut PyObject,
}

/// A reference to an object; who owns it is said where it is used.
pub(super) type Py = *mut PyObject;

/// What a builtin function is called with: its self, the arguments, how many are positional, and names of the others.
pub(super) type Builtin = unsafe extern "C" fn(Py, *const Py, isize, Py) -> Py;

/// `PyMethodDef`.
#[repr(C)]
pub(super) struct MethodDef {
    pub(super) name: *const c_char,
    pub(super) method: Builtin,
    pub(super) flags: c_int,
    pub(super) doc: *const c_char,
}

macro_rules! api {
    (
        required { $($name:ident($($argument:ty),*) $(-> $result:ty)?;)* }
        waiting { $($waiting:ident($($waiting_argument:ty),*) $(-> $waiting_result:ty)?;)* }
        optional { $($more:ident($($more_argument:ty),*) -> $more_result:ty;)* }
    ) => {
        /// The functions of CPython that this library calls.
        #[allow(non_snake_case, missing_docs)]
        #[derive(Clone, Copy)]
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            $(pub(super) $waiting: unsafe extern "C-unwind" fn($($waiting_argument),*) $(-> $waiting_result)?,)*
            $(pub(super) $more: Option<unsafe extern "C" fn($($more_argument),*) -> $more_result>,)*
        }

        /// Their names, in the order in which [`Api::new`] takes the addresses, a space between two.
        pub(super) const NAMES: &std::ffi::CStr = {
            const TEXT: &str = concat!($(stringify!($name), " ",)* $(stringify!($waiting), " ",)* $(stringify!($more), " ",)* "\0");
            match std::ffi::CStr::from_bytes_with_nul(TEXT.as_bytes()) {
                Ok(names) => names,
                Err(_) => panic!("a name has a NUL"),
            }
        };

        impl Api {
            /// None unless there is an address for each name; NULL for one that is not optional is none.
            ///
            /// # Safety
            /// The addresses are those of the functions in [`NAMES`].
            pub(super) unsafe fn new(addresses: &[*const c_void]) -> Option<Self> {
                let mut addresses = addresses.iter().copied();
                let api = Self {
                    $($name: {
                        let address = addresses.next()?;
                        // SAFETY: NULL, or the function's address, as the caller says.
                        unsafe {
                            std::mem::transmute::<
                                *const c_void,
                                Option<unsafe extern "C" fn($($argument),*) $(-> $result)?>,
                            >(address)
                        }?
                    },)*
                    $($waiting: {
                        let address = addresses.next()?;
                        // SAFETY: as above.
                        unsafe {
                            std::mem::transmute::<
                                *const c_void,
                                Option<unsafe extern "C-unwind" fn($($waiting_argument),*) $(-> $waiting_result)?>,
                            >(address)
                        }?
                    },)*
                    $($more: {
                        let address = addresses.next()?;
                        // SAFETY: as above.
                        unsafe {
                            std::mem::transmute::<
                                *const c_void,
                                Option<unsafe extern "C" fn($($more_argument),*) -> $more_result>,
                            >(address)
                        }
                    },)*
                };
                addresses.next().is_none().then_some(api)
            }
        }
    };
}

api! {
    required {
        Py_IncRef(Py);
        PyBytes_FromStringAndSize(*const c_char, isize) -> Py;
        PyBytes_AsStringAndSize(Py, *mut *mut c_char, *mut isize) -> c_int;
        PyUnicode_AsUTF8AndSize(Py, *mut isize) -> *const c_char;
        PyUnicode_FromStringAndSize(*const c_char, isize) -> Py;
        PyUnicode_InternInPlace(*mut Py);
        PyLong_AsLongLongAndOverflow(Py, *mut c_int) -> c_longlong;
        PyLong_AsUnsignedLongLong(Py) -> u64;
        PyLong_FromLongLong(c_longlong) -> Py;
        PyLong_FromUnsignedLongLong(u64) -> Py;
        PyFloat_AsDouble(Py) -> c_double;
        PyFloat_FromDouble(c_double) -> Py;
        PyList_New(isize) -> Py;
        PyList_Size(Py) -> isize;
        PyList_GetItem(Py, isize) -> Py;
        PyList_SetItem(Py, isize, Py) -> c_int;
        PyTuple_New(isize) -> Py;
        PyTuple_Size(Py) -> isize;
        PyTuple_GetItem(Py, isize) -> Py;
        PyTuple_SetItem(Py, isize, Py) -> c_int;
        PyDict_New() -> Py;
        PyDict_Next(Py, *mut isize, *mut Py, *mut Py) -> c_int;
        PyDict_SetItem(Py, Py, Py) -> c_int;
        PyType_GenericAlloc(Py, isize) -> Py;
        PyErr_SetString(Py, *const c_char);
        PyErr_Occurred() -> Py;
        PyErr_Clear();
        PyCFunction_NewEx(*mut MethodDef, Py, Py) -> Py;
        PyCapsule_New(*mut c_void, *const c_char, Option<unsafe extern "C" fn(Py)>) -> Py;
        PyEval_SaveThread() -> *mut c_void;
    }
    // Those that may wait for the GIL: called through `or_stay`.
    waiting {
        Py_DecRef(Py);
        PyObject_GetIter(Py) -> Py;
        PyIter_Next(Py) -> Py;
        PyObject_GetAttr(Py, Py) -> Py;
        PyObject_SetAttr(Py, Py, Py) -> c_int;
        PyObject_IsTrue(Py) -> c_int;
        PyObject_IsInstance(Py, Py) -> c_int;
        PyNumber_Index(Py) -> Py;
        PyObject_GetBuffer(Py, *mut PyBuffer, c_int) -> c_int;
        PyBuffer_Release(*mut PyBuffer);
        PyObject_CallObject(Py, Py) -> Py;
        PyEval_RestoreThread(*mut c_void);
    }
    optional {
        PyUnicode_New(isize, u32) -> Py;
        _PyDict_NewPresized(isize) -> Py;
    }
}
