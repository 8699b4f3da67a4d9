//! JSON text to Python values, as `json.loads` makes them.
//!
//! The text is one that the store keeps, so it is JSON. What needs more than a few instructions (integers beyond 64 bits,
//! halves of surrogate pairs, deep nesting, and any text that is not JSON after all) is foreign: `json.loads` decides.

use super::api::Py;
use super::bind::{Bind, give_back};
use super::encode::Foreign;
use super::names::NAME_BYTES_MAX;
use super::scan::plain_end;

/// Deeper nesting is foreign.
const DEPTH_MAX: u32 = 100;
/// So many digits are less than `i64::MAX`, whichever they are.
const DIGITS_SAFE: usize = 18;

/// A new reference to the value of a text. Foreign also when Python has no memory: then trying again says so.
pub(super) fn decode(bind: &Bind, text: &[u8]) -> Result<Py, Foreign> {
    let mut decoder = Decoder { bind, text, at: 0, made: bind.made.take() };
    let decoded = decoder.value(0).and_then(|()| {
        decoder.skip_space();
        if decoder.at == text.len() { decoder.made.pop().ok_or(Foreign) } else { Err(Foreign) }
    });
    decoder.made.drain(..).for_each(|object| bind.release(object));
    give_back(&bind.made, decoder.made);
    if decoded.is_err() {
        // SAFETY: the GIL is held.
        unsafe { (bind.api.PyErr_Clear)() };
    }
    decoded
}

struct Decoder<'a> {
    bind: &'a Bind,
    text: &'a [u8],
    at: usize,
    /// Values that wait for the list or dict around them, each with a reference of its own. Names of fields lie beside
    /// their values.
    made: Vec<Py>,
}

impl Decoder<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn push(&mut self, object: Py) -> Result<(), Foreign> {
        if object.is_null() {
            return Err(Foreign);
        }
        self.made.push(object);
        Ok(())
    }

    /// Reads one value and pushes it.
    fn value(&mut self, depth: u32) -> Result<(), Foreign> {
        self.skip_space();
        match self.peek() {
            b'"' => {
                let string = self.string()?;
                self.push(string)
            }
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b't' => self.word(b"true", self.bind.objects.yes),
            b'f' => self.word(b"false", self.bind.objects.no),
            b'n' => self.word(b"null", self.bind.objects.none),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8], object: Py) -> Result<(), Foreign> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(Foreign);
        }
        self.at += word.len();
        self.push(self.bind.keep(object))
    }

    fn array(&mut self, depth: u32) -> Result<(), Foreign> {
        let first = self.made.len();
        self.members(depth, b']', |decoder| decoder.value(depth))?;
        let api = &self.bind.api;
        let len = (self.made.len() - first) as isize;
        // SAFETY: the GIL is held.
        let list = unsafe { (api.PyList_New)(len) };
        if list.is_null() {
            return Err(Foreign);
        }
        for (index, element) in self.made.drain(first..).enumerate() {
            // SAFETY: a new list of that length; it takes the reference over.
            unsafe { (api.PyList_SetItem)(list, index as isize, element) };
        }
        self.push(list)
    }

    fn object(&mut self, depth: u32) -> Result<(), Foreign> {
        let first = self.made.len();
        self.members(depth, b'}', |decoder| decoder.field(depth))?;
        let fields = self.made.get(first..).unwrap_or_default();
        let dict = self.bind.new_dict(fields.len() / 2);
        if dict.is_null() {
            return Err(Foreign);
        }
        let mut failed = 0;
        for field in fields.chunks_exact(2) {
            // Of two fields of one name the later one counts.
            // SAFETY: the dict takes references of its own; the GIL is held.
            failed |= unsafe { (self.bind.api.PyDict_SetItem)(dict, field[0], field[1]) };
        }
        let bind = self.bind;
        self.made.drain(first..).for_each(|object| bind.release(object));
        self.made.push(dict);
        if failed == 0 { Ok(()) } else { Err(Foreign) }
    }

    /// Reads a field: pushes its name and its value.
    fn field(&mut self, depth: u32) -> Result<(), Foreign> {
        self.skip_space();
        if self.peek() != b'"' {
            return Err(Foreign);
        }
        let name = self.name()?;
        self.push(name)?;
        self.skip_space();
        if self.peek() != b':' {
            return Err(Foreign);
        }
        self.at += 1;
        self.value(depth)
    }

    /// Reads what stands between brackets, commas between two.
    fn members(
        &mut self,
        depth: u32,
        end: u8,
        mut member: impl FnMut(&mut Self) -> Result<(), Foreign>,
    ) -> Result<(), Foreign> {
        if depth > DEPTH_MAX {
            return Err(Foreign);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == end {
            self.at += 1;
            return Ok(());
        }
        loop {
            member(self)?;
            self.skip_space();
            match self.peek() {
                b',' => self.at += 1,
                byte if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Foreign),
            }
        }
    }

    /// Reads the name of a field; gives a new reference.
    fn name(&mut self) -> Result<Py, Foreign> {
        let bind = self.bind;
        if let Some((name, len)) = self.text.get(self.at + 1..).and_then(|rest| bind.names.expected(rest)) {
            self.at += len + 2;
            return Ok(bind.keep(name));
        }
        self.literal(|plain| match bind.names.find(plain) {
            Some(name) => bind.keep(name),
            None if plain.len() <= NAME_BYTES_MAX => new_name(bind, plain),
            None => bind.new_str(plain),
        })
    }

    /// Reads a string; gives a new reference.
    fn string(&mut self) -> Result<Py, Foreign> {
        let bind = self.bind;
        self.literal(|plain| bind.new_str(plain))
    }

    /// Reads a string literal, of which `make` makes a str where nothing in it is escaped.
    fn literal(&mut self, make: impl Fn(&[u8]) -> Py) -> Result<Py, Foreign> {
        let start = self.at + 1;
        let end = plain_end(self.text, start);
        let plain = self.text.get(start..end).ok_or(Foreign)?;
        match self.text.get(end) {
            Some(b'"') => self.at = end + 1,
            Some(b'\\') => return self.escaped_string(start),
            _ => return Err(Foreign),
        }
        Ok(make(plain))
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<Py, Foreign> {
        let mut out = Vec::new();
        let mut at = start;
        loop {
            let end = plain_end(self.text, at);
            out.extend_from_slice(self.text.get(at..end).ok_or(Foreign)?);
            match self.text.get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(self.bind.new_str(&out));
                }
                Some(b'\\') => at = self.escape(end + 1, &mut out)?,
                _ => return Err(Foreign),
            }
        }
    }

    /// Reads what follows a backslash; gives where the string goes on.
    fn escape(&self, at: usize, out: &mut Vec<u8>) -> Result<usize, Foreign> {
        let byte = match self.text.get(at) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'u') => return self.unicode_escape(at + 1, out),
            _ => return Err(Foreign),
        };
        out.push(byte);
        Ok(at + 1)
    }

    fn unicode_escape(&self, at: usize, out: &mut Vec<u8>) -> Result<usize, Foreign> {
        let unit = self.hex(at)?;
        let (code, after) =
            if (0xd800..0xdc00).contains(&unit) && self.text.get(at + 4..at + 6) == Some(b"\\u") {
                let low = self.hex(at + 6)?;
                if !(0xdc00..0xe000).contains(&low) {
                    return Err(Foreign);
                }
                (0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00), at + 10)
            } else {
                (unit, at + 4)
            };
        let character = char::from_u32(code).ok_or(Foreign)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(after)
    }

    fn hex(&self, at: usize) -> Result<u32, Foreign> {
        let digits = self.text.get(at..at + 4).ok_or(Foreign)?;
        digits
            .iter()
            .try_fold(0, |number, &digit| Ok(number << 4 | char::from(digit).to_digit(16).ok_or(Foreign)?))
    }

    fn number(&mut self) -> Result<(), Foreign> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_negative = rest.first() == Some(&b'-');
        let digits = rest.get(usize::from(is_negative)..).unwrap_or_default();
        let mut magnitude = 0_i64;
        let mut len = 0;
        while let Some(digit @ b'0'..=b'9') = digits.get(len) {
            magnitude = magnitude.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            len += 1;
        }
        if len == 0 || (len > 1 && digits.first() == Some(&b'0')) {
            return Err(Foreign);
        }
        if matches!(digits.get(len), Some(b'.' | b'e' | b'E')) {
            return self.float(rest);
        }
        if len > DIGITS_SAFE {
            return self.long_integer(rest.get(..len + usize::from(is_negative)).unwrap_or_default());
        }
        self.at += len + usize::from(is_negative);
        let integer = if is_negative { -magnitude } else { magnitude };
        // SAFETY: the GIL is held.
        self.push(unsafe { (self.bind.api.PyLong_FromLongLong)(integer) })
    }

    #[cold]
    fn long_integer(&mut self, literal: &[u8]) -> Result<(), Foreign> {
        let text = std::str::from_utf8(literal).map_err(|_| Foreign)?;
        self.at += literal.len();
        let api = &self.bind.api;
        let object = match (text.parse::<i64>(), text.parse::<u64>()) {
            // SAFETY: the GIL is held.
            (Ok(integer), _) => unsafe { (api.PyLong_FromLongLong)(integer) },
            // SAFETY: as above.
            (_, Ok(integer)) => unsafe { (api.PyLong_FromUnsignedLongLong)(integer) },
            _ => return Err(Foreign),
        };
        self.push(object)
    }

    fn float(&mut self, rest: &[u8]) -> Result<(), Foreign> {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let literal = rest.get(..len).unwrap_or_default();
        // Rust also takes "1." and ".5", which are not JSON: a digit has to stand on both sides of the point.
        if let Some(point) = literal.iter().position(|&byte| byte == b'.')
            && !literal.get(point + 1).is_some_and(u8::is_ascii_digit)
        {
            return Err(Foreign);
        }
        // SAFETY: digits, signs, points and letters of ASCII.
        let text = unsafe { std::str::from_utf8_unchecked(literal) };
        let float = text.parse().map_err(|_| Foreign)?;
        self.at += len;
        // SAFETY: the GIL is held.
        self.push(unsafe { (self.bind.api.PyFloat_FromDouble)(float) })
    }
}

#[cold]
fn new_name(bind: &Bind, bytes: &[u8]) -> Py {
    let mut name = bind.new_str(bytes);
    if !name.is_null() {
        // SAFETY: `name` is a new str; the GIL is held.
        unsafe { (bind.api.PyUnicode_InternInPlace)(&mut name) };
        if let Some(replaced) = bind.names.put(bytes, bind.keep(name)) {
            bind.release(replaced);
        }
    }
    name
}
