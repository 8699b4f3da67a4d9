//! Where Python keeps the text of a str of ASCII: asked for once, so that strs are made and read without a call.

use super::api::{Api, Py};

/// The length of a str, and the bits that say what kind it is, are here in all versions until now.
const LEN_OFFSET: usize = 16;
const STATE_OFFSET: usize = 32;
/// Of the state: size of a character (3 bits), compact, ASCII.
const STATE_MASK: u32 = 0b111_1100;
const STATE_ASCII: u32 = 0b110_0100;

/// How strs of ASCII lie in memory.
#[derive(Clone, Copy)]
pub(super) struct AsciiLayout {
    /// From the object to its text.
    pub(super) text_offset: usize,
    /// Whether a str says where [`STATE_OFFSET`] is that its text is there.
    is_told: bool,
}

impl AsciiLayout {
    /// None where the text of a new str is not behind its head.
    ///
    /// # Safety
    /// The GIL is held.
    pub(super) unsafe fn find(api: &Api) -> Option<Self> {
        let new = api.PyUnicode_New?;
        let mut len = 0;
        // SAFETY: the str is released after it was looked at.
        let offset = unsafe {
            let object = new(3, 127);
            if object.is_null() {
                (api.PyErr_Clear)();
                return None;
            }
            let data = (api.PyUnicode_AsUTF8AndSize)(object, &mut len);
            let offset = (data as usize).wrapping_sub(object as usize);
            (api.Py_DecRef)(object);
            offset
        };
        // A str that is not compact has its text elsewhere; the state is read before the text.
        if len != 3 || !(STATE_OFFSET + 4..128).contains(&offset) {
            return None;
        }
        let mut layout = Self { text_offset: offset, is_told: true };
        let samples =
            ["sop", "a longer text, all of it ASCII", "\u{e9}t\u{e9}", "\u{4e16}\u{754c}", "\u{1f600}!"];
        // SAFETY: as the caller says.
        layout.is_told = samples.iter().all(|sample| unsafe { layout.tells(api, sample) });
        Some(layout)
    }

    /// True when a str of this text is told to be ASCII, with its text, exactly if it is.
    ///
    /// # Safety
    /// The GIL is held.
    unsafe fn tells(self, api: &Api, sample: &str) -> bool {
        // SAFETY: the str, which is larger than what is read of it, is released after it was looked at.
        unsafe {
            let object = (api.PyUnicode_FromStringAndSize)(sample.as_ptr().cast(), sample.len() as isize);
            if object.is_null() {
                (api.PyErr_Clear)();
                return false;
            }
            let is_right = self.text(object) == sample.is_ascii().then_some(sample);
            (api.Py_DecRef)(object);
            is_right
        }
    }

    /// The text of a str where it is ASCII and behind its head; None for all others.
    ///
    /// # Safety
    /// `object` is a str of exactly that type; the text is used while it lives.
    #[inline]
    pub(super) unsafe fn text<'a>(self, object: Py) -> Option<&'a str> {
        let head = object.cast::<u8>();
        // SAFETY: every str has its state there, and an ASCII one so many bytes of text, as `find` has checked.
        unsafe {
            if !self.is_told || head.add(STATE_OFFSET).cast::<u32>().read() & STATE_MASK != STATE_ASCII {
                return None;
            }
            let len = head.add(LEN_OFFSET).cast::<usize>().read();
            let text = std::slice::from_raw_parts(head.add(self.text_offset), len);
            Some(std::str::from_utf8_unchecked(text))
        }
    }
}
