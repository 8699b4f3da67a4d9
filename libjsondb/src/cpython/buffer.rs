//! Float arrays of Python seen where they lie: NumPy's, and all else that offers a buffer.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;

use super::api::Py;
use super::bind::Bind;
use super::exit::or_stay;

/// `Py_buffer`, which is the same in all versions of Python 3 that the package runs on.
#[repr(C)]
pub(super) struct PyBuffer {
    data: *mut c_void,
    owner: Py,
    bytes: isize,
    item_bytes: isize,
    is_read_only: c_int,
    dimensions: c_int,
    format: *const c_char,
    shape: *const isize,
    strides: *const isize,
    suboffsets: *const isize,
    internal: *mut c_void,
}

/// PyBUF_WRITABLE; PyBUF_FORMAT | PyBUF_C_CONTIGUOUS
const WRITABLE: c_int = 0x01;
const FORMAT_IN_C_ORDER: c_int = 0x04 | 0x38;

/// float32 in C order in memory of an object, which keeps it there meanwhile.
pub(super) struct Floats<'b> {
    bind: &'b Bind,
    view: PyBuffer,
    /// Not for other threads: it is given back with the GIL held.
    _here: PhantomData<*const ()>,
}

impl<'b> Floats<'b> {
    /// The floats of an object; None when it has none in that form. Python code may run.
    pub(super) fn of(bind: &'b Bind, object: Py) -> Option<Self> {
        Self::get(bind, object, FORMAT_IN_C_ORDER)
    }

    /// As [`Floats::of`], to be written.
    pub(super) fn to_write(bind: &'b Bind, object: Py) -> Option<Self> {
        Self::get(bind, object, FORMAT_IN_C_ORDER | WRITABLE)
    }

    fn get(bind: &'b Bind, object: Py, flags: c_int) -> Option<Self> {
        let mut view = PyBuffer {
            data: null_mut(),
            owner: null_mut(),
            bytes: 0,
            item_bytes: 0,
            is_read_only: 0,
            dimensions: 0,
            format: null_mut(),
            shape: null_mut(),
            strides: null_mut(),
            suboffsets: null_mut(),
            internal: null_mut(),
        };
        // SAFETY: the GIL is held; on failure nothing is to be given back.
        if or_stay(|| unsafe { (bind.api.PyObject_GetBuffer)(object, &mut view, flags) }) != 0 {
            // SAFETY: the GIL is held.
            unsafe { (bind.api.PyErr_Clear)() };
            return None;
        }
        let floats = Self { bind, view, _here: PhantomData };
        floats.are_floats().then_some(floats)
    }

    fn are_floats(&self) -> bool {
        // SAFETY: a format that was asked for is a text, if it is there.
        let format = (!self.view.format.is_null()).then(|| unsafe { CStr::from_ptr(self.view.format) });
        let is_float = format.is_some_and(|format| [&b"f"[..], b"@f", b"=f"].contains(&format.to_bytes()));
        is_float && self.view.item_bytes == 4 && self.view.data.cast::<f32>().is_aligned()
    }

    /// Lengths of its dimensions.
    pub(super) fn shape(&self) -> &[isize] {
        if self.view.dimensions <= 0 || self.view.shape.is_null() {
            return &[];
        }
        // SAFETY: a shape that was asked for has as many lengths as there are dimensions.
        unsafe { std::slice::from_raw_parts(self.view.shape, self.view.dimensions as usize) }
    }

    /// Rows and columns; None when there are not two dimensions.
    pub(super) fn rows_and_columns(&self) -> Option<(usize, usize)> {
        match *self.shape() {
            [rows, columns] => Some((rows as usize, columns as usize)),
            _ => None,
        }
    }

    /// All of them. As for the C ABI, nobody writes to them meanwhile.
    pub(super) fn as_slice(&self) -> &[f32] {
        if self.view.bytes <= 0 || self.view.data.is_null() {
            return &[];
        }
        // SAFETY: so many bytes of aligned floats in C order, which the view keeps in place.
        unsafe { std::slice::from_raw_parts(self.view.data.cast(), self.view.bytes as usize / 4) }
    }

    /// Writes all of them; false when there is another number of them.
    pub(super) fn write(&mut self, values: &[f32]) -> bool {
        if self.view.is_read_only != 0 || values.len() * 4 != self.view.bytes as usize {
            return false;
        }
        if !values.is_empty() {
            // SAFETY: as many floats as there are, in memory that may be written, and is none of this library's.
            unsafe {
                std::ptr::copy_nonoverlapping(values.as_ptr(), self.view.data.cast(), values.len());
            }
        }
        true
    }
}

impl Drop for Floats<'_> {
    fn drop(&mut self) {
        // SAFETY: a view that was got, given back once; the GIL is held.
        or_stay(|| unsafe { (self.bind.api.PyBuffer_Release)(&mut self.view) });
    }
}
