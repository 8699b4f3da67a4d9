//! One binding to an interpreter: its functions and objects, found and checked at run time.

use std::cell::Cell;
use std::ffi::c_void;

use stores::Chunk;

use super::api::{Api, Py};
use super::ascii::AsciiLayout;
use super::exit::or_stay;
use super::function::finds_pointers;
use super::names::Names;

/// So much memory is kept from one call to the next.
const SCRATCH_MAX: usize = 64 << 10;

macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The objects of Python that this library uses, borrowed from [`Bind`].
        pub(super) struct Objects {
            $($(#[$doc])* pub(super) $name: Py,)*
        }

        impl Objects {
            /// How many there are.
            const COUNT: isize = [$(stringify!($name)),*].len() as isize;

            fn new(mut next: impl FnMut() -> Py) -> Self {
                Self { $($name: next(),)* }
            }
        }
    };
}

// In the order of `_native.py`.
objects! {
    dict, list, tuple, str, int, float, bytes,
    none, yes, no,
    type_error,
    /// `report(code, message, retryable, details)` raises the error of a call: of a B-tree or a map, or of anything else.
    report, report_plain,
    /// `dumps(value, what) -> bytes`: JSON text of what the codec leaves to Python.
    dumps,
    /// `loads(text) -> value`: the same the other way.
    loads,
    /// `pairs(items)`: what gives the (key, value) of a mapping or an iterable. `pair(pair)`: a tuple of two.
    pairs, pair,
    /// The class of items, and the names of its fields.
    item, key, value, id,
    /// The id of items that have none.
    nil,
}

/// The binding. It belongs to one interpreter, whose lock (GIL) the caller of every method holds.
pub(super) struct Bind {
    pub(super) api: Api,
    pub(super) objects: Objects,
    pub(super) names: Names,
    /// Where strs of ASCII have their text, where that is known.
    ascii: Option<AsciiLayout>,
    /// Memory for single calls, taken out while it is used: a call that runs in between finds it empty.
    pub(super) scratch: Cell<Vec<u8>>,
    pub(super) key_scratch: Cell<Vec<u8>>,
    pub(super) chunk: Cell<Chunk>,
    /// Of [`decode`](super::decode).
    pub(super) made: Cell<Vec<Py>>,
    /// The tuple that owns the objects.
    owner: Py,
}

impl Bind {
    /// None when this is no build of CPython that this library knows its way in.
    ///
    /// # Safety
    /// The addresses are those of the functions in `NAMES`; `owner` is a tuple of [`Objects`]; the caller holds the GIL.
    pub(super) unsafe fn new(addresses: &[*const c_void], owner: Py) -> Option<Self> {
        // SAFETY: the caller's promise.
        let api = unsafe { Api::new(addresses) }?;
        // SAFETY: `owner` is a tuple.
        if unsafe { (api.PyTuple_Size)(owner) } != Objects::COUNT {
            return None;
        }
        let mut index = 0;
        let objects = Objects::new(|| {
            index += 1;
            // SAFETY: the tuple has so many items, and lives as long as the binding.
            unsafe { (api.PyTuple_GetItem)(owner, index - 1) }
        });
        // SAFETY: the GIL is held; given back when the binding goes.
        unsafe { (api.Py_IncRef)(owner) };
        let bind = Self {
            api,
            objects,
            names: Names::new(),
            // SAFETY: the GIL is held.
            ascii: unsafe { AsciiLayout::find(&api) },
            scratch: Cell::default(),
            key_scratch: Cell::default(),
            chunk: Cell::default(),
            made: Cell::default(),
            owner,
        };
        bind.finds_types().then_some(bind)
    }

    /// True when the type of an object is where this library looks for it.
    fn finds_types(&self) -> bool {
        let objects = &self.objects;
        // SAFETY: the GIL is held.
        let made = unsafe { [(self.api.PyDict_New)(), (self.api.PyFloat_FromDouble)(0.5)] };
        let right = made.iter().zip([objects.dict, objects.float]).all(|(object, kind)| {
            // SAFETY: an object is larger than its first two fields.
            !object.is_null() && unsafe { (**object).kind } == kind
        });
        made.into_iter().filter(|object| !object.is_null()).for_each(|object| self.release(object));
        // SAFETY: as above.
        let kinds = unsafe { [(*objects.nil).kind, (*self.owner).kind] };
        right && kinds == [objects.str, objects.tuple] && finds_pointers(&self.api)
    }

    /// One reference more.
    pub(super) fn keep(&self, object: Py) -> Py {
        // SAFETY: `object` is alive; the GIL is held.
        unsafe { (self.api.Py_IncRef)(object) };
        object
    }

    /// One reference less.
    pub(super) fn release(&self, object: Py) {
        // SAFETY: the caller gives up a reference of its own; the GIL is held.
        or_stay(|| unsafe { (self.api.Py_DecRef)(object) })
    }

    /// A new str of UTF-8 text, which Python checks; NULL when it is none or there is no memory.
    pub(super) fn new_str(&self, text: &[u8]) -> Py {
        // Python has strs of one character ready.
        if let (Some(ascii), Some(new), true) =
            (self.ascii, self.api.PyUnicode_New, text.len() > 1 && text.is_ascii())
        {
            // SAFETY: the GIL is held.
            let object = unsafe { new(text.len() as isize, 127) };
            if !object.is_null() {
                // SAFETY: a new str of so many bytes, which nobody has seen, has its text there.
                unsafe {
                    let data = object.cast::<u8>().add(ascii.text_offset);
                    std::ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
                }
            }
            return object;
        }
        // SAFETY: so many bytes; the GIL is held.
        unsafe { (self.api.PyUnicode_FromStringAndSize)(text.as_ptr().cast(), text.len() as isize) }
    }

    /// The text of a str, where it is ASCII and lies in the object; valid as long as the str lives.
    pub(super) fn ascii_text<'a>(&self, object: Py) -> Option<&'a str> {
        // SAFETY: `object` is a str of Python's own type, alive.
        self.ascii.and_then(|ascii| unsafe { ascii.text(object) })
    }

    /// A new dict with room for so many items; NULL when there is no memory.
    pub(super) fn new_dict(&self, len: usize) -> Py {
        match self.api._PyDict_NewPresized {
            // SAFETY: the GIL is held.
            Some(new) => unsafe { new(len as isize) },
            // SAFETY: as above.
            None => unsafe { (self.api.PyDict_New)() },
        }
    }

    /// A new reference to None.
    pub(super) fn none(&self) -> Py {
        self.keep(self.objects.none)
    }

    /// A new reference to True or False.
    pub(super) fn truth(&self, truth: bool) -> Py {
        self.keep(if truth { self.objects.yes } else { self.objects.no })
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.names.take(|name| {
            // SAFETY: the names' own references; the GIL is held.
            unsafe { (self.api.Py_DecRef)(name) }
        });
        self.release(self.owner);
    }
}

/// Keeps the memory of a call for the next one, unless it was much.
pub(super) fn give_back<T>(place: &Cell<Vec<T>>, mut memory: Vec<T>) {
    memory.clear();
    memory.shrink_to(SCRATCH_MAX / size_of::<T>());
    place.set(memory);
}

/// The exact type of an object.
pub(super) fn kind(object: Py) -> Py {
    // SAFETY: every pointer to an object that Python hands out is alive while it is looked at, and larger than this.
    unsafe { (*object).kind }
}
