//! Text across the boundary: reading what the caller passed, handing out what it frees.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use stores::{Error, ErrorCode, Result};

/// The error of a bad argument.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Validation, message)
}

/// Text given as bytes and length. NULL is an error.
///
/// # Safety
/// `data` is NULL or points to `len` bytes that stay as they are while the result is used.
pub(crate) unsafe fn input<'a>(what: &str, data: *const c_char, len: usize) -> Result<&'a str> {
    // SAFETY: the same contract.
    unsafe { optional_input(what, data, len) }?.ok_or_else(|| invalid(format!("{what}: null pointer")))
}

/// Text given as bytes and length. NULL is None.
///
/// # Safety
/// As [`input`].
pub(crate) unsafe fn optional_input<'a>(
    what: &str,
    data: *const c_char,
    len: usize,
) -> Result<Option<&'a str>> {
    // SAFETY: the same contract; bytes and C characters have one layout.
    let bytes = unsafe { slice(what, data.cast::<u8>(), len) }?;
    bytes.map(|bytes| utf8(what, bytes)).transpose()
}

/// Text that ends with a zero byte. NULL is None.
///
/// # Safety
/// `data` is NULL or points to bytes up to and including a zero byte, which stay as they are while the result is used.
pub(crate) unsafe fn terminated<'a>(what: &str, data: *const c_char) -> Result<Option<&'a str>> {
    if data.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, and ends with a zero byte as the caller promises.
    utf8(what, unsafe { CStr::from_ptr(data) }.to_bytes()).map(Some)
}

/// An array given as pointer and length. NULL is None.
///
/// # Safety
/// `data` is NULL or points to `len` elements that stay as they are while the result is used.
pub(crate) unsafe fn slice<'a, T>(what: &str, data: *const T, len: usize) -> Result<Option<&'a [T]>> {
    if data.is_null() {
        return Ok(None);
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(invalid(format!("{what}: length {len} is impossible")));
    }
    if !data.is_aligned() {
        return Err(invalid(format!("{what}: address is not a multiple of {}", align_of::<T>())));
    }
    // SAFETY: not null, aligned, `len` elements long as the caller promises, and not larger than memory.
    Ok(Some(unsafe { std::slice::from_raw_parts(data, len) }))
}

fn utf8<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str> {
    let at =
        |error: std::str::Utf8Error| invalid(format!("{what}: byte {} is not UTF-8", error.valid_up_to()));
    std::str::from_utf8(bytes).map_err(at)
}

/// Reads JSON.
pub(crate) fn json<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| invalid(format!("{what}: {error}")))
}

/// For a field that may be left out, but is a value like any other when it is null.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Writes JSON.
pub(crate) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String> {
    let failed = |error| Error::new(ErrorCode::Internal, format!("cannot write a result as JSON: {error}"));
    serde_json::to_string(value).map_err(failed)
}

/// Where a call puts its result: checked before the work, written after its success.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// Fails for NULL.
    ///
    /// # Safety
    /// `out` is NULL or may be written until the call returns.
    pub(crate) unsafe fn new(what: &str, out: *mut T) -> Result<Self> {
        match NonNull::new(out) {
            Some(out) if out.is_aligned() => Ok(Self(out)),
            Some(_) => Err(invalid(format!("{what}: address is not a multiple of {}", align_of::<T>()))),
            None => Err(invalid(format!("{what}: null pointer"))),
        }
    }

    /// Hands the result over.
    pub(crate) fn set(self, value: T) {
        // SAFETY: not null and aligned by `new`, writable as its caller promised. Old content is not dropped: it may be
        // uninitialised.
        unsafe { self.0.as_ptr().write(value) }
    }
}

impl Out<u32> {
    /// Hands an array over, into memory that has room for it.
    pub(crate) fn set_all(self, values: &[u32]) {
        // SAFETY: not null and aligned by `new`; writable for so many as the caller promised with the count.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.0.as_ptr(), values.len()) }
    }
}

impl Out<*mut c_char> {
    /// Hands a text over; the caller frees it with `freeString`.
    pub(crate) fn set_text(self, text: &str) {
        self.set(allocate(text));
    }

    /// Hands a value over as JSON, None as NULL.
    pub(crate) fn set_json_or_null<T: serde::Serialize>(self, value: Option<&T>) -> Result<()> {
        match value {
            Some(value) => self.set_text(&to_json(value)?),
            None => self.set(std::ptr::null_mut()),
        }
        Ok(())
    }
}

/// A copy of `text` in memory of malloc, with a zero byte at its end. A zero byte inside would cut the text off, so it
/// becomes U+FFFD; JSON has none.
pub(crate) fn allocate(text: &str) -> *mut c_char {
    if text.as_bytes().contains(&0) {
        return allocate(&text.replace('\0', "\u{fffd}"));
    }
    let len = text.len();
    // SAFETY: any size may be asked for.
    let memory = unsafe { libc::malloc(len + 1) }.cast::<u8>();
    if memory.is_null() {
        // As everywhere in Rust: without memory the process ends.
        std::alloc::handle_alloc_error(std::alloc::Layout::for_value(text.as_bytes()));
    }
    // SAFETY: `memory` has `len + 1` bytes, is new and so overlaps nothing.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), memory, len);
        memory.add(len).write(0);
    }
    memory.cast()
}

/// Frees a text that this library handed out. NULL is ignored.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn freeString(text: *mut c_char) {
    // SAFETY: the caller passes NULL or a text of `allocate`, once.
    unsafe { libc::free(text.cast()) }
}
