//! What the tests share: calling C functions from Rust, as a C program would.
#![allow(dead_code, clippy::undocumented_unsafe_blocks)] // Each test binary uses a part; all pointers come from here.

use std::ffi::{CStr, CString, c_char};

use serde_json::Value;

/// Text that goes in as pointer and length.
#[derive(Clone, Copy)]
pub struct In {
    pub data: *const c_char,
    pub len: usize,
}

impl In {
    pub const NULL: In = In { data: std::ptr::null(), len: 3 };

    pub fn new(text: &'static str) -> In {
        In::bytes(text.as_bytes())
    }

    pub fn bytes(bytes: &'static [u8]) -> In {
        In { data: bytes.as_ptr().cast(), len: bytes.len() }
    }
}

/// Where results go: real places, or NULL.
pub struct Out {
    null: bool,
    handle: u64,
    number: i64,
    flag: i32,
    text: *mut c_char,
    floats: [f32; 16],
}

impl Out {
    pub fn new() -> Out {
        let text = std::ptr::null_mut();
        Out { null: false, handle: 0, number: -1, flag: -1, text, floats: [0.5; 16] }
    }

    pub fn null() -> Out {
        Out { null: true, ..Out::new() }
    }

    fn place<T>(null: bool, place: &mut T) -> *mut T {
        if null { std::ptr::null_mut() } else { place }
    }

    pub fn handle(&mut self) -> *mut u64 {
        Self::place(self.null, &mut self.handle)
    }

    pub fn number(&mut self) -> *mut i64 {
        Self::place(self.null, &mut self.number)
    }

    pub fn flag(&mut self) -> *mut i32 {
        Self::place(self.null, &mut self.flag)
    }

    pub fn text(&mut self) -> *mut *mut c_char {
        Self::place(self.null, &mut self.text)
    }

    pub fn floats(&mut self) -> *mut f32 {
        Self::place(self.null, &mut self.floats[0])
    }

    /// The handle that was written, or 0.
    pub fn opened(&self) -> u64 {
        self.handle
    }

    /// Nothing was written.
    pub fn is_untouched(&self) -> bool {
        (self.handle, self.number, self.flag) == (0, -1, -1)
            && self.text.is_null()
            && self.floats == [0.5; 16]
    }
}

impl Default for Out {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        unsafe { jsondb::freeString(self.text) }
    }
}

/// Takes a text over from the library.
pub fn take(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    let copy = unsafe { CStr::from_ptr(text) }.to_str().expect("the library gives UTF-8").to_owned();
    unsafe { jsondb::freeString(text) };
    Some(copy)
}

/// The last error of this thread.
pub fn last_error() -> Option<Value> {
    take(jsondb::sop_last_error()).map(|text| serde_json::from_str(&text).expect("the last error is JSON"))
}

/// A text with a zero byte at its end.
pub fn c(text: &str) -> CString {
    CString::new(text).expect("tests pass no zero byte")
}

/// Fails with the last error's message unless `code` is 0.
#[track_caller]
pub fn ok(code: i32) {
    assert_eq!(code, 0, "{:?}", last_error());
}

/// A database of its own in a folder of its own.
pub fn database(folder: &tempfile::TempDir) -> u64 {
    let options = serde_json::json!({ "storage_path": folder.path() }).to_string();
    let mut out = 0;
    ok(unsafe { jsondb::sop_database_open(0, options.as_ptr().cast(), options.len(), &mut out) });
    out
}

pub fn begin(database: u64) -> u64 {
    let mut out = 0;
    ok(unsafe { jsondb::sop_transaction_begin(0, database, 1, 0.0, &mut out) });
    out
}

pub fn btree(transaction: u64, options: &'static str) -> u64 {
    let (options, mut out) = (In::new(options), 0);
    ok(unsafe { jsondb::sop_btree_new(0, transaction, options.data, options.len, &mut out) });
    out
}

pub fn vectors(parent: u64) -> u64 {
    let (options, mut out) = (In::new(r#"{"name": "vectors"}"#), 0);
    ok(unsafe { jsondb::sop_vector_open(0, parent, options.data, options.len, &mut out) });
    out
}

pub fn models(parent: u64) -> u64 {
    let (name, mut out) = (In::new("models"), 0);
    ok(unsafe { jsondb::sop_model_open(0, parent, name.data, name.len, &mut out) });
    out
}

pub fn write(btree: u64, action: i32, items: &str) -> bool {
    let mut out = -1;
    ok(unsafe { jsondb::sop_btree_write(0, btree, action, items.as_ptr().cast(), items.len(), &mut out) });
    out == 1
}

pub fn count(btree: u64) -> i64 {
    let mut out = -1;
    ok(unsafe { jsondb::sop_btree_count(0, btree, &mut out) });
    out
}
