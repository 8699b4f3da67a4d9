//! The panic boundary: every exported body runs in here, and nothing unwinds into C.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use serde::de::IgnoredAny;
use stores::{Error, ErrorCode, Result};

use crate::{error, strings};

thread_local! {
    /// Boundaries this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Text of the panic on its way to the boundary, with the place that it came from.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs a body and gives its error code. The thread's last error is the body's.
pub(crate) fn code(body: impl FnOnce() -> Result<()>) -> i32 {
    let result = guarded(body);
    let code = result.as_ref().map_or_else(|error| error.code() as i32, |()| 0);
    error::set_last(result.err());
    code
}

/// Runs a body of a function of 2.0.17 that gives a text or NULL, and in the same place an error's text. The thread's last
/// error is the body's.
pub(crate) fn text(body: impl FnOnce() -> Result<Option<String>>) -> *mut c_char {
    match fallible(body) {
        Ok(text) => text.map_or(std::ptr::null_mut(), |text| strings::allocate(&text)),
        Err(error) => error,
    }
}

/// Runs a body; its error comes as a text, and is the thread's last error.
pub(crate) fn fallible<T>(body: impl FnOnce() -> Result<T>) -> std::result::Result<T, *mut c_char> {
    match guarded(body) {
        Ok(result) => {
            error::set_last(None);
            Ok(result)
        }
        Err(error) => {
            let text = strings::allocate(&told_from_results(error.message()));
            error::set_last(Some(error));
            Err(text)
        }
    }
}

/// Callers of 2.0.17 tell an error from a result by how it looks: an error never looks like JSON.
fn told_from_results(message: &str) -> Cow<'_, str> {
    let start = message.trim_start();
    if start.starts_with(['{', '[', '"']) || serde_json::from_str::<IgnoredAny>(start).is_ok() {
        return format!("error: {message}").into();
    }
    message.into()
}

/// Runs a body; a panic becomes an error. The last error stays as it is.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    HOOK.call_once(install_hook);
    let _inside = Inside::enter();
    // Unwind safety: what a panic may leave half done is behind locks, which are then poisoned.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(panicked(payload)))
}

fn panicked(payload: Box<dyn Any + Send>) -> Error {
    let text = PANIC.try_with(RefCell::take).ok().flatten();
    // A panic that was carried over from another thread has no text here.
    let text = text.unwrap_or_else(|| message_of(payload.as_ref()).to_owned());
    // Dropping a payload may itself panic.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
    Error::new(ErrorCode::Panic, format!("internal error, please report it: panic: {text}"))
}

/// The library prints nothing: a panic's text is kept for the error that becomes of it. Threads that are not the library's
/// own, those of tests above all, tell panics as before.
fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 && !is_own_thread() {
            return before(info);
        }
        let _ = PANIC.try_with(|panic| panic.replace(Some(describe(info))));
    }));
}

/// Threads that the engine starts are called "sop-…", helpers of a call have no name.
fn is_own_thread() -> bool {
    std::thread::current().name().is_none_or(|name| name.starts_with("sop-"))
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = message_of(info.payload());
    match info.location() {
        Some(at) => format!("{message} ({}:{})", at.file(), at.line()),
        None => message.to_owned(),
    }
}

fn message_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

struct Inside;

impl Inside {
    fn enter() -> Self {
        // A panic that ended before it came to a boundary left its text.
        let _ = PANIC.try_with(RefCell::take);
        let _ = DEPTH.try_with(|depth| depth.set(depth.get() + 1));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn take(text: *mut c_char) -> String {
        // SAFETY: every caller passes a text of this library and forgets it.
        unsafe {
            let copy = CStr::from_ptr(text).to_str().unwrap().to_owned();
            strings::freeString(text);
            copy
        }
    }

    #[test]
    fn a_panic_becomes_code_90_with_its_text() {
        assert_eq!(code(|| panic!("broken {}", 7)), 90);
        let text = take(error::sop_last_error());
        assert!(text.contains("broken 7") && text.contains("boundary.rs"), "{text}");
        assert!(text.contains(r#""code":90"#) && text.contains(r#""name":"Panic""#), "{text}");
    }

    #[test]
    fn a_panic_of_a_text_function_becomes_text() {
        let text = take(text(|| panic!("torn")));
        assert!(text.contains("torn"), "{text}");
    }

    #[test]
    fn a_panic_of_a_helper_thread_keeps_its_text() {
        let helper = || std::thread::scope(|scope| scope.spawn(|| panic!("helper {}", 1)).join());
        assert_eq!(code(|| std::panic::resume_unwind(helper().unwrap_err())), 90);
        let text = take(error::sop_last_error());
        assert!(text.contains("panic: helper 1"), "{text}");
    }

    #[test]
    fn an_error_never_looks_like_a_result() {
        for message in ["[1] is odd", "{", "null", "true", "12", " \"a\""] {
            assert_eq!(told_from_results(message), format!("error: {message}"));
        }
        assert_eq!(told_from_results("UUID x not found"), "UUID x not found");
    }

    #[test]
    fn a_payload_whose_drop_panics_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("second");
            }
        }
        assert_eq!(code(|| std::panic::panic_any(Bomb)), 90);
        assert_eq!(code(|| Ok(())), 0);
    }
}
