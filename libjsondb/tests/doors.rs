//! Every function that takes a handle, with every kind of wrong argument.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)] // The wrong pointers are NULL, which every function must bear.

mod common;

use std::ffi::c_char;

use common::{In, Out, begin, btree, database, last_error, models, ok, vectors};
use jsondb::*;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Database,
    Transaction,
    Btree,
    Vector,
    Model,
}

/// What a function does with its text.
#[derive(Clone, Copy, PartialEq)]
enum Text {
    None,
    Plain(&'static str),
    Json(&'static str),
    /// JSON, or NULL for none.
    Optional(&'static str),
}

struct Door {
    name: &'static str,
    kind: Kind,
    text: Text,
    has_out: bool,
    call: fn(i64, u64, In, &mut Out) -> i32,
}

const fn door(
    name: &'static str,
    kind: Kind,
    text: Text,
    has_out: bool,
    call: fn(i64, u64, In, &mut Out) -> i32,
) -> Door {
    Door { name, kind, text, has_out, call }
}

const ITEMS: Text = Text::Json(r#"[{"key": 1, "value": 2}]"#);
const VECTOR: [f32; 2] = [1.0, 2.0];
const HELLO: &str = "hello";

/// Pointer to a text that is well.
fn p(text: &'static str) -> *const c_char {
    text.as_ptr().cast()
}

fn doors() -> Vec<Door> {
    use Kind::*;
    use Text::{Json, None as No, Optional, Plain};
    vec![
        door("database_close", Database, No, false, |c, h, _, _| sop_database_close(c, h)),
        door("database_verify", Database, No, true, |c, h, _, o| unsafe {
            sop_database_verify(c, h, None, std::ptr::null_mut(), o.text())
        }),
        door("database_info", Database, No, true, |c, h, _, o| unsafe { sop_database_info(c, h, o.text()) }),
        door("database_stores", Database, No, true, |c, h, _, o| unsafe {
            sop_database_stores(c, h, o.text())
        }),
        door("database_backup", Database, Plain("never made"), true, |c, h, t, o| unsafe {
            sop_database_backup(c, h, t.data, t.len, 1, None, std::ptr::null_mut(), o.text())
        }),
        door("database_compact", Database, No, true, |c, h, _, o| unsafe {
            sop_database_compact(c, h, None, std::ptr::null_mut(), o.text())
        }),
        door("database_status", Database, No, true, |c, h, _, o| unsafe {
            sop_database_status(c, h, o.text())
        }),
        door("database_scrub", Database, No, true, |c, h, _, o| unsafe {
            sop_database_scrub(c, h, None, std::ptr::null_mut(), o.text())
        }),
        door("database_repair", Database, No, true, |c, h, _, o| unsafe {
            sop_database_repair(c, h, 0, None, std::ptr::null_mut(), o.text())
        }),
        door("database_reinstate", Database, Json(r#"{"lost": []}"#), true, |c, h, t, o| unsafe {
            sop_database_reinstate(c, h, t.data, t.len, None, std::ptr::null_mut(), o.text())
        }),
        door("transaction_begin", Database, No, true, |c, h, _, o| unsafe {
            sop_transaction_begin(c, h, 1, 1.0, o.handle())
        }),
        door("transaction_commit", Transaction, No, false, |c, h, _, _| sop_transaction_commit(c, h)),
        door("transaction_rollback", Transaction, No, false, |c, h, _, _| sop_transaction_rollback(c, h)),
        door("btree_new", Transaction, Json(r#"{"name": "new"}"#), true, |c, h, t, o| unsafe {
            sop_btree_new(c, h, t.data, t.len, o.handle())
        }),
        door("btree_open", Transaction, Plain("tree"), true, |c, h, t, o| unsafe {
            sop_btree_open(c, h, t.data, t.len, o.handle())
        }),
        door("btree_info", Btree, No, true, |c, h, _, o| unsafe { sop_btree_info(c, h, o.text()) }),
        door("btree_count", Btree, No, true, |c, h, _, o| unsafe { sop_btree_count(c, h, o.number()) }),
        door("btree_write", Btree, ITEMS, true, |c, h, t, o| unsafe {
            sop_btree_write(c, h, 6, t.data, t.len, o.flag())
        }),
        door("btree_remove", Btree, Json("[1]"), true, |c, h, t, o| unsafe {
            sop_btree_remove(c, h, t.data, t.len, o.flag())
        }),
        door("btree_find", Btree, Json("1"), true, |c, h, t, o| unsafe {
            sop_btree_find(c, h, t.data, t.len, std::ptr::null(), o.flag())
        }),
        door("btree_find_one", Btree, Json("1"), true, |c, h, t, o| unsafe {
            sop_btree_find_one(c, h, t.data, t.len, 0, o.text())
        }),
        door("btree_step", Btree, No, true, |c, h, _, o| unsafe { sop_btree_step(c, h, 0, o.flag()) }),
        door("btree_current", Btree, No, true, |c, h, _, o| unsafe { sop_btree_current(c, h, o.text()) }),
        door("btree_update_current", Btree, Json("1"), true, |c, h, t, o| unsafe {
            sop_btree_update_current(c, h, t.data, t.len, o.flag())
        }),
        door("btree_remove_current", Btree, No, true, |c, h, _, o| unsafe {
            sop_btree_remove_current(c, h, o.flag())
        }),
        door("btree_page", Btree, Json("{}"), true, |c, h, t, o| unsafe {
            sop_btree_page(c, h, t.data, t.len, 1, o.text())
        }),
        door("btree_values", Btree, ITEMS, true, |c, h, t, o| unsafe {
            sop_btree_values(c, h, t.data, t.len, o.text())
        }),
        door("btree_range", Btree, Json("{}"), true, |c, h, t, o| unsafe {
            sop_btree_range(c, h, t.data, t.len, o.text())
        }),
        door("vector_open", Transaction, Json(r#"{"name": "v"}"#), true, |c, h, t, o| unsafe {
            sop_vector_open(c, h, t.data, t.len, o.handle())
        }),
        door(
            "vector_upsert",
            Vector,
            Json(r#"[{"id": "a", "vector": [1, 2]}]"#),
            false,
            |c, h, t, _| unsafe { sop_vector_upsert(c, h, t.data, t.len) },
        ),
        door("vector_upsert_arrays", Vector, Json(r#"["a"]"#), false, |c, h, t, _| unsafe {
            sop_vector_upsert_arrays(c, h, t.data, t.len, 1, 2, VECTOR.as_ptr(), std::ptr::null(), 0)
        }),
        door("vector_get", Vector, Plain("a"), true, |c, h, t, o| unsafe {
            sop_vector_get(c, h, t.data, t.len, o.text())
        }),
        door("vector_get_many", Vector, Json(r#"["a", "b"]"#), true, |c, h, t, o| unsafe {
            sop_vector_get_many(c, h, t.data, t.len, o.text())
        }),
        door("vector_get_arrays", Vector, Json(r#"["a"]"#), true, |c, h, t, o| unsafe {
            let items = o.text();
            sop_vector_get_arrays(c, h, t.data, t.len, 1, 2, items, o.floats())
        }),
        door("vector_ids", Vector, Json("{}"), true, |c, h, t, o| unsafe {
            sop_vector_ids(c, h, t.data, t.len, o.text())
        }),
        door("vector_dimension", Vector, No, true, |c, h, _, o| unsafe {
            sop_vector_dimension(c, h, o.number())
        }),
        door("vector_delete", Vector, Json(r#"["b"]"#), false, |c, h, t, _| unsafe {
            sop_vector_delete(c, h, t.data, t.len)
        }),
        door("vector_count", Vector, No, true, |c, h, _, o| unsafe { sop_vector_count(c, h, o.number()) }),
        door("vector_query", Vector, Json(r#"{"vector": [1, 2]}"#), true, |c, h, t, o| unsafe {
            sop_vector_query(c, h, t.data, t.len, o.text())
        }),
        door("vector_query_arrays", Vector, Optional("{}"), true, |c, h, t, o| unsafe {
            let ids = o.text();
            sop_vector_query_arrays(c, h, 1, 2, VECTOR.as_ptr(), 4, t.data, t.len, ids, o.floats())
        }),
        door("vector_optimize", Vector, No, false, |c, h, _, _| unsafe {
            sop_vector_optimize(c, h, None, std::ptr::null_mut())
        }),
        door("vector_stats", Vector, No, true, |c, h, _, o| unsafe { sop_vector_stats(c, h, o.text()) }),
        door("model_open", Transaction, Plain("m"), true, |c, h, t, o| unsafe {
            sop_model_open(c, h, t.data, t.len, o.handle())
        }),
        door("model_save", Model, Json("{}"), true, |c, h, t, o| unsafe {
            let hello = HELLO.len();
            sop_model_save(c, h, p(HELLO), hello, p(HELLO), hello, t.data, t.len, o.handle())
        }),
        door("model_save category", Model, Plain("c"), true, |c, h, t, o| unsafe {
            sop_model_save(c, h, t.data, t.len, p(HELLO), HELLO.len(), p("{}"), 2, o.handle())
        }),
        door("model_save name", Model, Plain("n"), true, |c, h, t, o| unsafe {
            sop_model_save(c, h, p(HELLO), HELLO.len(), t.data, t.len, p("{}"), 2, o.handle())
        }),
        door("model_get", Model, Plain("hello"), true, |c, h, t, o| unsafe {
            sop_model_get(c, h, p(HELLO), HELLO.len(), t.data, t.len, 0, o.text())
        }),
        door("model_get category", Model, Plain("hello"), true, |c, h, t, o| unsafe {
            sop_model_get(c, h, t.data, t.len, p(HELLO), HELLO.len(), 1, o.text())
        }),
        door("model_versions", Model, Plain("hello"), true, |c, h, t, o| unsafe {
            sop_model_versions(c, h, p(HELLO), HELLO.len(), t.data, t.len, o.text())
        }),
        door("model_active", Model, Plain("hello"), true, |c, h, t, o| unsafe {
            sop_model_active(c, h, p(HELLO), HELLO.len(), t.data, t.len, o.handle())
        }),
        door("model_promote", Model, Plain("hello"), false, |c, h, t, _| unsafe {
            sop_model_promote(c, h, p(HELLO), HELLO.len(), t.data, t.len, 1)
        }),
        door("model_categories", Model, No, true, |c, h, _, o| unsafe {
            sop_model_categories(c, h, o.text())
        }),
        door("model_upload", Model, Plain("n"), true, |c, h, t, o| unsafe {
            sop_model_upload(c, h, p(HELLO), HELLO.len(), t.data, t.len, p("f"), 1, o.handle())
        }),
        door("model_upload format", Model, Plain("f"), true, |c, h, t, o| unsafe {
            sop_model_upload(c, h, p(HELLO), HELLO.len(), p(HELLO), HELLO.len(), t.data, t.len, o.handle())
        }),
        door("model_delete", Model, Plain("n"), false, |c, h, t, _| unsafe {
            sop_model_delete(c, h, p(HELLO), HELLO.len(), t.data, t.len, 0)
        }),
        door("model_delete category", Model, Plain("c"), false, |c, h, t, _| unsafe {
            sop_model_delete(c, h, t.data, t.len, p(HELLO), HELLO.len(), 0)
        }),
        door("model_list", Model, Plain("hello"), true, |c, h, t, o| unsafe {
            sop_model_list(c, h, t.data, t.len, o.text())
        }),
    ]
}

/// A database with one open object of each kind, and one released handle of each.
struct World {
    _folder: tempfile::TempDir,
    live: [u64; 5],
    stale: [u64; 5],
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let database = database(&folder);
            let transaction = begin(database);
            let tree = btree(transaction, r#"{"name": "tree", "is_unique": true}"#);
            [database, transaction, tree, vectors(transaction), models(transaction)]
        };
        let stale = open();
        stale.iter().rev().for_each(|&handle| sop_handle_release(handle));
        World { live: open(), stale, _folder: folder }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Twice: the second is ignored.
        self.live.iter().chain(&self.live).for_each(|&handle| sop_handle_release(handle));
    }
}

fn good(door: &Door) -> In {
    match door.text {
        Text::None => In::NULL,
        Text::Plain(text) | Text::Json(text) | Text::Optional(text) => In::new(text),
    }
}

#[track_caller]
fn refused(door: &Door, code: i32, out: &Out, wanted: SopErrorCode, what: &str) {
    assert_eq!(code, wanted as i32, "{} with {what}: {:?}", door.name, last_error());
    assert!(out.is_untouched(), "{} with {what} wrote a result", door.name);
    let error = last_error().expect("an error is remembered");
    assert_eq!(error["code"], code);
    assert_eq!(sop_last_error_code(), code);
    assert!(!error["message"].as_str().unwrap().is_empty());
}

#[test]
fn wrong_handles_are_errors() {
    let world = World::new();
    for door in doors() {
        let kind = door.kind as usize;
        let unknown = world.live[kind] + 1000;
        let mut wrong = vec![0, 1, u64::MAX, i64::MAX as u64, unknown, world.stale[kind]];
        wrong.extend((0..5).filter(|&other| other != kind).map(|other| world.live[other]));
        for handle in wrong {
            // A vector or model store may be opened on a database as well.
            if door.name.ends_with("_open") && door.kind == Kind::Transaction && handle == world.live[0] {
                continue;
            }
            let mut out = Out::new();
            let code = (door.call)(0, handle, good(&door), &mut out);
            refused(&door, code, &out, SopErrorCode::InvalidHandle, &format!("handle {handle:#x}"));
        }
    }
}

#[test]
fn wrong_texts_are_errors() {
    let world = World::new();
    for door in doors() {
        let mut wrong = vec![("invalid UTF-8", In::bytes(b"\"\xff\xfe\"")), ("a huge length", huge())];
        match door.text {
            Text::None => continue,
            Text::Plain(_) => {}
            Text::Json(_) | Text::Optional(_) => {
                let broken = ["", "{", "[1", "nul", "\"", "\u{0}", "[1]]", "{\"a\":}", "\u{feff}1"];
                wrong.extend(broken.map(|text| (text, In::new(text))));
            }
        }
        if !matches!(door.text, Text::Optional(_)) {
            wrong.push(("NULL", In::NULL));
        }
        for (what, text) in wrong {
            let mut out = Out::new();
            let code = (door.call)(0, world.live[door.kind as usize], text, &mut out);
            refused(&door, code, &out, SopErrorCode::Validation, what);
        }
    }
}

fn huge() -> In {
    In { len: usize::MAX, ..In::new("x") }
}

#[test]
fn json_of_the_wrong_shape_is_an_error() {
    let world = World::new();
    let wanted = [
        ("btree_new", "[]"),
        ("btree_new", r#"{"name": 5}"#),
        ("btree_write", r#"{"key": 1}"#),
        ("btree_write", r#"[{"value": 1}]"#),
        ("btree_write", "[1]"),
        ("btree_remove", "1"),
        ("btree_page", r#"{"page_size": "a"}"#),
        ("btree_page", r#"{"page_size": -1}"#),
        ("btree_values", "{}"),
        ("btree_range", r#"{"limit": -1}"#),
        ("btree_range", r#"{"resume": "not ours"}"#),
        ("vector_open", "{}"),
        ("vector_open", r#"{"name": "x", "usage_mode": 9}"#),
        ("vector_open", r#"{"name": "x", "metric": 3}"#),
        ("vector_open", r#"{"name": "x", "metric": "cosine"}"#),
        ("vector_query", r#"{"vector": [1, 2], "target_recall": 0}"#),
        ("vector_query", r#"{"vector": [1, 2], "target_recall": "high"}"#),
        ("vector_query_arrays", r#"{"target_recall": 2}"#),
        ("vector_query_arrays", r#"{"centroid_ids": [0]}"#),
        ("vector_upsert", r#"{"id": "a"}"#),
        ("vector_upsert", r#"[{"id": "a", "vector": ["x"]}]"#),
        ("vector_upsert", r#"[{"id": "a", "vector": [1e999]}]"#),
        ("vector_upsert_arrays", r#"["a", "b"]"#),
        ("vector_upsert_arrays", "[1]"),
        ("vector_delete", r#""a""#),
        ("vector_get_many", "[1]"),
        ("vector_get_arrays", r#"["a", "b"]"#),
        ("vector_ids", r#"{"start": 1}"#),
        ("vector_ids", r#"{"limit": 0}"#),
        ("vector_ids", r#"{"limit": -1}"#),
        ("vector_query", r#"{"vector": 5}"#),
        ("vector_query_arrays", r#"{"threads": -1}"#),
    ];
    for (name, text) in wanted {
        let door = doors().into_iter().find(|door| door.name == name).unwrap();
        let mut out = Out::new();
        let code = (door.call)(0, world.live[door.kind as usize], In::new(text), &mut out);
        refused(&door, code, &out, SopErrorCode::Validation, text);
    }
}

#[test]
fn null_outputs_are_errors() {
    let world = World::new();
    for door in doors().iter().filter(|door| door.has_out) {
        let mut out = Out::null();
        let code = (door.call)(0, world.live[door.kind as usize], good(door), &mut out);
        refused(door, code, &out, SopErrorCode::Validation, "a NULL output");
    }
}

#[test]
fn unknown_contexts_are_errors() {
    let world = World::new();
    let cancelled = createContext();
    cancelContext(cancelled);
    for door in doors() {
        for ctx in [-1, i64::MAX, cancelled] {
            let mut out = Out::new();
            let code = (door.call)(ctx, world.live[door.kind as usize], good(&door), &mut out);
            refused(&door, code, &out, SopErrorCode::ContextNotFound, &format!("context {ctx}"));
        }
    }
}

/// What is used for the wrong calls is otherwise right.
#[test]
fn right_arguments_are_accepted() {
    let world = World::new();
    let does_more = ["database_close", "database_backup", "transaction_commit", "transaction_rollback"];
    for door in doors().iter().filter(|door| !does_more.contains(&door.name)) {
        let mut out = Out::new();
        let code = (door.call)(0, world.live[door.kind as usize], good(door), &mut out);
        assert_eq!(code, 0, "{}: {:?}", door.name, last_error());
        assert_eq!(sop_last_error_code(), 0);
        assert_eq!(last_error(), None);
        sop_handle_release(out.opened());
    }
    ok(sop_transaction_commit(0, world.live[1]));
    ok(sop_database_close(0, world.live[0]));
}

#[test]
fn functions_without_a_handle_check_their_arguments_too() {
    let mut out = Out::new();
    let code = unsafe { sop_database_open(0, std::ptr::null(), 3, out.handle()) };
    assert_eq!(code, SopErrorCode::Validation as i32);
    for text in ["", "[]", "{}", r#"{"storage_path": 5}"#, r#"{"storage_path": ""}"#] {
        let code = unsafe { sop_database_open(0, p(text), text.len(), out.handle()) };
        assert_eq!(code, SopErrorCode::Validation as i32, "{text}");
    }
    let fine = r#"{"storage_path": "/tmp/x"}"#;
    let code = unsafe { sop_database_open(0, p(fine), fine.len(), std::ptr::null_mut()) };
    assert_eq!(code, SopErrorCode::Validation as i32);
    assert_eq!(unsafe { sop_redis_open(std::ptr::null(), 0) }, SopErrorCode::Validation as i32);
    assert_eq!(unsafe { sop_redis_open(p("nonsense"), 8) }, SopErrorCode::Redis as i32);
    for handle in [0, 1, u64::MAX] {
        assert_eq!(unsafe { sop_handle_uuid(handle, out.text()) }, SopErrorCode::InvalidHandle as i32);
        assert_eq!(
            unsafe { sop_transaction_is_active(handle, out.flag()) },
            SopErrorCode::InvalidHandle as i32
        );
        sop_handle_release(handle);
    }
    assert!(out.is_untouched());
    unsafe { freeString(std::ptr::null_mut()) };
    cancelContext(-5);
    removeContext(12345);
}
