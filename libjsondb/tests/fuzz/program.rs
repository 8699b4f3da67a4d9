//! Programs of C calls: what an input means, and what must hold after each call and at the end.

use std::ffi::{CStr, CString, c_char};

use jsondb::*;
use serde_json::Value;

use crate::calls::CALLS;
use crate::texts;

/// Name, what runs, valid inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

pub const TARGETS: &[Target] = &[("abi", run, seeds)];

const STEPS_MAX: usize = 40;

/// What a call takes its arguments from. All zero, it is a plausible call on the newest handles.
#[derive(Clone, Copy)]
pub struct Step {
    pub handle: u8,
    pub text: u8,
    pub twist: u8,
}

/// What handles stand for, as their bits say.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Database = 1,
    Transaction = 2,
    Btree = 3,
    Vector = 4,
    Model = 5,
    Upload = 6,
}

/// A caller of the library.
pub struct Machine {
    folder: tempfile::TempDir,
    backups: tempfile::TempDir,
    /// All that were ever given out, with their UUID texts, released ones too.
    handles: Vec<(u64, String)>,
    pub contexts: Vec<i64>,
}

/// Pointer to bytes that go in, or NULL.
pub fn data(text: &Option<Vec<u8>>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr().cast())
}

/// The length that belongs to [`data`].
pub fn len(text: &Option<Vec<u8>>) -> usize {
    text.as_ref().map_or(7, Vec::len)
}

/// The bytes up to the first zero byte, with one behind them.
pub fn terminated(text: Option<Vec<u8>>) -> Option<CString> {
    let until_zero = |text: Vec<u8>| text.into_iter().take_while(|byte| *byte != 0).collect::<Vec<u8>>();
    text.map(|text| CString::new(until_zero(text)).unwrap())
}

/// Pointer to a text, or NULL.
pub fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
}

fn take(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    let copy = unsafe { CStr::from_ptr(text) }.to_str().expect("the library gives UTF-8").to_owned();
    unsafe { freeString(text) };
    Some(copy)
}

impl Machine {
    fn new() -> Machine {
        let (folder, backups) = (crate::common::scratch(), crate::common::scratch());
        Machine { folder, backups, handles: Vec::new(), contexts: Vec::new() }
    }

    pub fn ctx(&self, step: Step) -> i64 {
        match step.twist {
            0..200 => 0,
            200..240 => self.contexts.last().copied().unwrap_or(0),
            240..250 => self.contexts.first().copied().unwrap_or(-1),
            _ => i64::from(step.text) << 55,
        }
    }

    /// A handle: mostly one of this kind, the newest first.
    pub fn handle(&self, step: Step, kind: Kind) -> u64 {
        let (selector, all) = (usize::from(step.handle), &self.handles);
        match step.handle {
            0..128 => self.newest(kind, selector / 16).map_or(0, |(handle, _)| *handle),
            128..192 if !all.is_empty() => all[selector % all.len()].0,
            192..224 => self.newest(kind, 0).map_or(1, |(handle, _)| handle ^ 1 << (selector * 2 % 64)),
            _ => [0, 1, u64::MAX, 0x8800_0000_0000_0001][selector % 4],
        }
    }

    fn newest(&self, kind: Kind, nth: usize) -> Option<&(u64, String)> {
        self.handles.iter().rev().filter(|(handle, _)| handle >> 59 & 7 == kind as u64).nth(nth)
    }

    /// A text for a function: one of `choices`, well or not.
    pub fn text(&self, choices: &[&str], step: Step) -> Option<Vec<u8>> {
        texts::text(choices, step.text, step.twist)
    }

    /// A text with the UUIDs of handles in it: `$0` of the first kind, `$1` of the second.
    pub fn named(&self, choices: &[&str], step: Step, kinds: [Kind; 2]) -> Option<CString> {
        let text = terminated(self.text(choices, step))?;
        let Ok(mut text) = text.clone().into_string() else { return Some(text) };
        for (index, kind) in kinds.into_iter().enumerate() {
            let nth = usize::from(step.handle / 64);
            let uuid = self.newest(kind, nth).map_or("", |(_, uuid)| uuid);
            text = text.replace(&format!("${index}"), uuid);
        }
        Some(CString::new(text).unwrap())
    }

    /// Options of a database: whatever becomes of them, they name no folder but this machine's.
    pub fn database_options(&self, step: Step) -> Option<Vec<u8>> {
        let text = String::from_utf8(self.text(texts::DATABASE, step)?).ok()?;
        let tame = text.replace(['/', '\\', '.', '~'], "_");
        let is_tame = tame.contains("$F") || !tame.contains("stor");
        is_tame.then(|| tame.replace("$F", self.folder.path().to_str().unwrap()).into_bytes())
    }

    /// Target of a backup: whatever becomes of the text, it names no folder outside of this machine's.
    pub fn backup_target(&self, step: Step) -> Option<Vec<u8>> {
        let text = String::from_utf8(self.text(texts::BACKUP, step)?).ok()?;
        let Some(name) = text.strip_prefix("$B") else { return Some(Vec::new()) };
        let tame = name.replace(['/', '\\', '.'], "_");
        Some(format!("{}/{tame}", self.backups.path().to_str().unwrap()).into_bytes())
    }

    /// Checks how a call ended.
    pub fn ended(&mut self, code: i32) {
        assert_eq!(sop_last_error_code(), code);
        let error = take(sop_last_error());
        assert_eq!(error.is_none(), code == 0);
        let Some(error) = error else { return };
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error["code"], code);
        let defects = [SopErrorCode::Panic as i32, SopErrorCode::Internal as i32];
        assert!(!defects.contains(&code) && (10..90).contains(&code), "{error}");
        assert!(error["name"].is_string() && !error["message"].as_str().unwrap().is_empty(), "{error}");
        assert!(error["retryable"].is_boolean() && error["details"].is_object(), "{error}");
    }

    /// Checks a call that gives a handle.
    pub fn opened(&mut self, code: i32, handle: u64) {
        assert_eq!(code == 0, handle != 0);
        self.ended(code);
        if handle != 0 {
            let mut uuid = std::ptr::null_mut();
            assert_eq!(unsafe { sop_handle_uuid(handle, &mut uuid) }, 0);
            self.handles.push((handle, take(uuid).unwrap()));
        }
    }

    /// Checks a call that gives JSON, or NULL.
    pub fn gave(&mut self, code: i32, text: *mut c_char) {
        self.ended(code);
        if let Some(text) = take(text) {
            assert_eq!(code, 0, "{text}");
            serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
    }

    /// Checks a call that gives a text or NULL, the text of an error in the same place, and perhaps a new handle's UUID.
    pub fn told(&mut self, text: *mut c_char) {
        let code = sop_last_error_code();
        self.ended(code);
        let text = take(text);
        assert!(code == 0 || text.as_ref().is_some_and(|text| !text.is_empty()));
        let uuid = text.filter(|_| code == 0).and_then(|text| uuid::Uuid::try_parse(&text).ok());
        if let Some(uuid) = uuid {
            self.handles.push((uuid.as_u64_pair().1, uuid.to_string()));
        }
    }

    /// Gives everything back; then nothing is left, and the database is whole.
    fn finish(self) {
        self.contexts.iter().for_each(|context| removeContext(*context));
        for (handle, _) in &self.handles {
            if handle >> 59 & 7 == Kind::Database as u64 {
                sop_database_close(0, *handle);
            }
            sop_handle_release(*handle);
        }
        sop_redis_close();
        assert_eq!(sop_handle_count(), 0);
        if self.folder.path().join("FORMAT").exists() {
            let database = engine::Database::open(self.folder.path(), &engine::Options::default()).unwrap();
            database.checkpoint().unwrap();
            database.verify().unwrap();
            database.close().unwrap();
        }
    }
}

/// Four bytes are a call: which, and its step.
pub fn run(input: &[u8]) {
    let mut machine = Machine::new();
    let (steps, _) = input.as_chunks::<4>();
    for &[call, handle, text, twist] in steps.iter().take(STEPS_MAX) {
        let (_, call_it) = CALLS[usize::from(call) % CALLS.len()];
        call_it(&mut machine, Step { handle, text, twist });
    }
    machine.finish();
}

/// Plausible programs, a line each: names of calls, with the number of the text where it is not the first.
const PROGRAMS: [&str; 8] = [
    "open begin btree_new btree_write btree_count btree_find btree_current btree_step btree_page btree_range \
     btree_values btree_find_one btree_update_current btree_remove btree_info is_active commit begin btree_open \
     btree_write:1 btree_remove_current rollback close",
    "open begin btree_new:2 btree_write:1 btree_find:2 btree_range:1 commit begin btree_new:1 btree_write:2 \
     btree_page:1 release commit",
    "open vector_open vector_upsert vector_upsert_arrays vector_get vector_get_many vector_get_arrays vector_ids vector_dimension vector_query vector_query_arrays vector_count \
     vector_optimize vector_stats vector_delete begin vector_open:1 vector_upsert vector_query:1 commit",
    "open model_open model_upload model_upload_write model_upload_save model_read_artifact model_versions model_promote",
    "open model_open model_save model_get model_list model_delete begin model_open model_save rollback uuid",
    "database begin_legacy btree_legacy btree_legacy:3 navigate get_from is_unique item_count end_legacy \
     begin_legacy vector_legacy:10 vector_legacy:4 model_legacy:11 model_legacy:8 end_legacy close_legacy",
    "open begin btree_new btree_write commit vector_open vector_upsert verify info stores backup backup:1 compact \
     verify backup",
    "create_context open begin cancel_context btree_new context_error remove_context redis_open redis_close \
     redis_open_legacy redis_close_legacy last_error release handle_count",
];

pub fn seeds() -> Vec<Vec<u8>> {
    let step = |word: &str| {
        let (name, text) = word.split_once(':').unwrap_or((word, "0"));
        let call = CALLS.iter().position(|(known, _)| *known == name);
        [call.unwrap_or_else(|| panic!("no call {name}")) as u8, 0, text.parse().unwrap(), 0]
    };
    PROGRAMS.map(|program| program.split_whitespace().flat_map(step).collect()).to_vec()
}
