//! Which version this is.

use std::ffi::{CStr, c_char};

/// Changes when callers must change.
pub const SOP_VERSION_MAJOR: u32 = 3;
/// Changes when functions are added.
pub const SOP_VERSION_MINOR: u32 = 0;
/// Changes when defects are removed.
pub const SOP_VERSION_PATCH: u32 = 0;

const VERSION: &CStr = c_str(concat!(env!("CARGO_PKG_VERSION"), "\0"));

const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a version has no zero byte inside"),
    }
}

/// Version of the library, "major.minor.patch". Not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn sop_version() -> *const c_char {
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_version_is_cargos() {
        let header = format!("{SOP_VERSION_MAJOR}.{SOP_VERSION_MINOR}.{SOP_VERSION_PATCH}");
        assert_eq!(header, env!("CARGO_PKG_VERSION"));
        assert_eq!(VERSION.to_str().unwrap(), header);
    }
}
