//! B-tree calls of many items without a JSON envelope: columns of texts, one after the other, and their lengths.

use std::ffi::c_char;

use serde_json::value::RawValue;
use stores::{Btree, Chunk, Result, Rows, VALUE_BYTES_MAX};

use crate::actions::SopWriteAction;
use crate::boundary;
use crate::btree::enter;
use crate::strings::{Out, input, invalid, json, slice};

/// The length of a value that is not there.
const MISSING: u32 = u32::MAX;

/// Cuts a column into its texts.
fn texts<'a>(what: &str, text: &'a str, lens: &[u32]) -> Result<Vec<&'a RawValue>> {
    let mut rest = text;
    let mut texts = Vec::with_capacity(lens.len());
    for len in lens {
        let (one, after) = rest
            .split_at_checked(*len as usize)
            .ok_or_else(|| invalid(format!("{what}: the lengths are not those of the texts")))?;
        texts.push(json::<&RawValue>(what, one)?);
        rest = after;
    }
    if rest.is_empty() {
        Ok(texts)
    } else {
        Err(invalid(format!("{what}: there is text behind the last length")))
    }
}

/// # Safety
/// As [`input`] for the text, and `lens` points to `count` lengths.
unsafe fn column<'a>(
    what: &str,
    data: *const c_char,
    len: usize,
    lens: *const u32,
    count: usize,
) -> Result<Vec<&'a RawValue>> {
    // SAFETY: the caller's part.
    let (text, lens) = unsafe { (input(what, data, len)?, slice(what, lens, count)?) };
    texts(what, text, lens.ok_or_else(|| invalid(format!("{what}: null pointer")))?)
}

/// As sop_btree_write, of `count` keys and values given as columns: their JSON texts one after the other, and the length of each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_put_columns(
    ctx: i64,
    btree: u64,
    action: i32,
    count: usize,
    keys: *const c_char,
    keys_len: usize,
    key_lens: *const u32,
    values: *const c_char,
    values_len: usize,
    value_lens: *const u32,
    out: *mut i32,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (keys, values, out) = unsafe {
            (
                column("keys", keys, keys_len, key_lens, count)?,
                column("values", values, values_len, value_lens, count)?,
                Out::new("out", out)?,
            )
        };
        let operation = SopWriteAction::from_number(action)?.operation();
        let chunk = chunk_of(&held.store, &keys, &values)?;
        out.set(held.store.write_chunk(&cancel, operation, &chunk)?.into());
        Ok(())
    })
}

fn chunk_of(store: &Btree, keys: &[&RawValue], values: &[&RawValue]) -> Result<Chunk> {
    let mut chunk = Chunk::default();
    for (key, value) in keys.iter().zip(values) {
        let is_canonical = store.layout().append_key_text(key, chunk.buffer())?;
        chunk.end_key((!is_canonical).then(|| key.get().as_bytes()));
        if value.get().len() > VALUE_BYTES_MAX {
            return Err(invalid(format!("a value takes at most {VALUE_BYTES_MAX} bytes")));
        }
        chunk.buffer().extend_from_slice(value.get().as_bytes());
        chunk.end_item();
    }
    Ok(chunk)
}

/// Looks up `count` keys, a column as for sop_btree_put_columns. Writes the JSON texts of their values one after the other, and into
/// value_lens, which has room for `count`, the length of each: UINT32_MAX for a key that is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sop_btree_get_columns(
    ctx: i64,
    btree: u64,
    count: usize,
    keys: *const c_char,
    keys_len: usize,
    key_lens: *const u32,
    value_lens: *mut u32,
    out: *mut *mut c_char,
) -> i32 {
    boundary::code(|| {
        let (cancel, held) = enter(ctx, btree)?;
        // SAFETY: the caller's part, see the crate's documentation.
        let (keys, lens, out) = unsafe {
            (
                column("keys", keys, keys_len, key_lens, count)?,
                Out::new("value_lens", value_lens)?,
                Out::new("out", out)?,
            )
        };
        let layout = held.store.layout();
        let mut chunk = Chunk::default();
        for key in keys {
            layout.append_key_text(key, chunk.buffer())?;
            chunk.end_key_only();
        }
        let mut rows = Rows::default();
        held.store.value_rows(&cancel, &chunk, &mut rows)?;
        let (mut text, mut found) = (Vec::new(), Vec::with_capacity(count));
        for row in rows.iter() {
            let value = layout.value(row)?;
            text.extend_from_slice(value.unwrap_or_default());
            found.push(value.map_or(MISSING, |value| value.len() as u32));
        }
        let text = String::from_utf8(text).map_err(|_| invalid("a value is not UTF-8"))?;
        lens.set_all(&found);
        out.set_text(&text);
        Ok(())
    })
}
