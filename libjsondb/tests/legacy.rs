//! The functions of sop4py 2.0.17, called as its Python wrapper calls them: which tells an error from a result by trying
//! whether the text is a UUID, "true", a number, or begins as JSON does.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)] // Texts are CStrings that outlive the call, or NULL.

mod common;

use std::ffi::{CString, c_char};

use common::{c, take};
use jsondb::*;
use serde_json::{Value, json};
use uuid::Uuid;

type Managed = unsafe extern "C" fn(i64, i32, *const c_char, *const c_char) -> *mut c_char;

const NIL: &str = "00000000-0000-0000-0000-000000000000";

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
}

fn manage(function: Managed, action: i32, target: Option<&str>, payload: Option<&str>) -> Option<String> {
    let (target, payload) = (target.map(c), payload.map(c));
    take(unsafe { function(0, action, pointer(&target), pointer(&payload)) })
}

#[track_caller]
fn uuid(text: Option<String>) -> String {
    let text = text.expect("a result");
    assert!(Uuid::try_parse(&text).is_ok(), "{text}");
    text
}

#[track_caller]
fn boolean(text: Option<String>) -> bool {
    match text.as_deref() {
        Some("true") => true,
        Some("false") => false,
        other => panic!("{other:?}"),
    }
}

fn open(folder: &tempfile::TempDir) -> String {
    let options = json!({ "storage_path": folder.path(), "db_type": 0 }).to_string();
    uuid(manage(manageModelStore, 2, None, Some(&options)))
}

fn begin(database: &str) -> String {
    uuid(manage(manageVectorDB, 9, Some(database), Some("1")))
}

fn end(action: i32, transaction: &str) -> Option<String> {
    take(unsafe { manageTransaction(0, action, c(transaction).as_ptr()) })
}

struct Tree {
    meta: String,
}

/// The dataclass BtreeOptions, as JSON.
fn options(name: &str, transaction: &str) -> Value {
    json!({
        "name": name, "is_unique": true, "slot_length": 500, "description": "",
        "is_value_data_in_node_segment": true, "is_value_data_actively_persisted": false,
        "is_value_data_globally_cached": false, "index_specification": "", "transaction_id": transaction,
        "cache_config": null, "is_primitive_key": true, "leaf_load_balancing": false,
    })
}

impl Tree {
    fn new(transaction: &str, name: &str) -> Tree {
        let id = uuid(manage(manageBtree, 1, Some(&options(name, transaction).to_string()), None));
        Tree::of(transaction, &id)
    }

    fn of(transaction: &str, id: &str) -> Tree {
        let meta = json!({ "is_primitive_key": true, "transaction_id": transaction, "btree_id": id });
        Tree { meta: meta.to_string() }
    }

    fn write(&self, action: i32, items: Value) -> Option<String> {
        manage(manageBtree, action, Some(&self.meta), Some(&json!({ "items": items }).to_string()))
    }

    fn add(&self, keys: &[i32]) -> bool {
        let items: Vec<Value> = keys.iter().map(|key| item(*key, json!(format!("v{key}")))).collect();
        boolean(self.write(3, items.into()))
    }

    fn find(&self, key: i32) -> bool {
        let payload = json!({ "items": [item(key, Value::Null)] }).to_string();
        boolean(manage(navigateBtree, 8, Some(&self.meta), Some(&payload)))
    }

    fn get(&self, action: i32, payload: Option<Value>) -> Result<Value, String> {
        let (meta, payload) = (c(&self.meta), payload.map(|payload| c(&payload.to_string())));
        let result = unsafe { getFromBtree(0, action, meta.as_ptr(), pointer(&payload)) };
        match (take(result.r0), take(result.r1)) {
            (_, Some(error)) => Err(error),
            (Some(text), None) => Ok(serde_json::from_str(&text).unwrap()),
            (None, None) => panic!("the wrapper would read through NULL"),
        }
    }

    fn count(&self) -> Result<i64, String> {
        let result = unsafe { getBtreeItemCount(c(&self.meta).as_ptr()) };
        take(result.r1).map_or(Ok(result.r0), Err)
    }

    fn is_unique(&self) -> Option<String> {
        take(unsafe { isUniqueBtree(c(&self.meta).as_ptr()) })
    }
}

fn item(key: i32, value: Value) -> Value {
    json!({ "key": key, "value": value, "id": NIL })
}

fn keys(items: &Value) -> Vec<i64> {
    items.as_array().unwrap().iter().map(|item| item["key"].as_i64().unwrap()).collect()
}

#[test]
fn b_trees_as_the_wrapper_uses_them() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let transaction = begin(&database);
    let tree = Tree::new(&transaction, "users");
    assert!(tree.add(&[3, 1, 2, 5, 4]));
    assert!(!tree.add(&[6, 3, 7]), "3 is there; 6 and 7 are added all the same");
    assert_eq!(tree.count(), Ok(7));
    assert!(boolean(tree.write(5, json!([item(1, Value::Null)]))), "None is a value");
    assert!(!boolean(tree.write(4, json!([item(1, json!("again"))]))));
    assert!(boolean(tree.write(6, json!([item(8, json!({"a": [1, 2.5]}))]))));
    assert!(boolean(manage(manageBtree, 7, Some(&tree.meta), Some("[7]"))));
    assert!(!boolean(manage(manageBtree, 7, Some(&tree.meta), Some("[99]"))));
    assert_eq!(tree.is_unique().as_deref(), Some("true"));
    assert_eq!(end(3, &transaction), None);

    let transaction = begin(&database);
    let opened = json!({ "name": "users", "transaction_id": transaction }).to_string();
    let tree = Tree::of(&transaction, &uuid(manage(manageBtree, 2, Some(&opened), Some(""))));
    assert!(tree.find(3));
    assert!(!tree.find(100));
    let paging = |offset: i32, size: i32, direction: i32| {
        Some(json!({ "page_offset": offset, "page_size": size, "fetch_count": 0, "direction": direction }))
    };
    assert!(boolean(manage(navigateBtree, 13, Some(&tree.meta), None)));
    assert_eq!(keys(&tree.get(10, paging(0, 3, 0)).unwrap()), [1, 2, 3]);
    assert_eq!(keys(&tree.get(12, paging(0, 3, 0)).unwrap()), [4, 5, 6]);
    assert_eq!(keys(&tree.get(10, paging(0, 3, 0)).unwrap()), [8]);
    assert_eq!(tree.get(10, paging(0, 3, 0)).unwrap(), json!([]), "never from the start again by itself");
    assert!(boolean(manage(navigateBtree, 14, Some(&tree.meta), None)));
    assert_eq!(keys(&tree.get(12, paging(0, 2, 1)).unwrap()), [8, 6]);
    let wanted = json!({ "items": [item(2, Value::Null), item(77, Value::Null)] });
    let values = tree.get(11, Some(wanted)).unwrap();
    assert_eq!((&values[0]["value"], &values[1]["value"]), (&json!("v2"), &Value::Null));
    let with_id = json!({ "items": [{ "key": 2, "value": null, "id": values[0]["id"] }] }).to_string();
    assert!(boolean(manage(navigateBtree, 9, Some(&tree.meta), Some(&with_id))));
    assert_eq!(tree.get(11, Some(json!({ "items": [] }))).unwrap(), json!([]));
    let info = tree.get(17, None).unwrap();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        fields(&info),
        fields(&options("users", &transaction)),
        "the dataclass takes these and no others"
    );
    assert_eq!((&info["name"], &info["transaction_id"]), (&json!("users"), &json!(transaction)));
    assert_eq!(end(4, &transaction), None);
}

#[test]
fn an_empty_store_has_an_empty_page() {
    let folder = tempfile::tempdir().unwrap();
    let transaction = begin(&open(&folder));
    let tree = Tree::new(&transaction, "empty");
    assert_eq!(tree.get(10, Some(json!({ "page_size": 5 }))), Ok(json!([])));
    assert_eq!(tree.count(), Ok(0));
    assert_eq!(end(3, &transaction), None);
}

#[test]
fn vectors_as_the_wrapper_uses_them() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let transaction = begin(&database);
    let config = json!({ "usage_mode": 2, "content_size": 0 });
    let payload =
        json!({ "transaction_id": transaction, "name": "products", "config": config, "storage_path": "" });
    let id = uuid(manage(manageVectorDB, 2, Some(&database), Some(&payload.to_string())));
    let target = json!({ "id": id, "transaction_id": transaction }).to_string();
    let call = |action: i32, payload: &str| manage(manageVectorDB, action, Some(&target), Some(payload));
    let one = json!({ "id": "a", "vector": [1.0, 0.0], "payload": {"n": 1}, "centroid_id": 0 });
    let two = json!({ "id": "b", "vector": [0.0, 1.0], "payload": {"n": 2}, "centroid_id": 0 });
    assert_eq!(call(3, &one.to_string()), None);
    assert_eq!(call(4, &json!([one, two]).to_string()), None);
    assert_eq!(call(8, "").as_deref(), Some("2"));
    let got: Value = serde_json::from_str(&call(5, "a").unwrap()).unwrap();
    assert_eq!(
        (&got["ID"], &got["Payload"], &got["Vector"]),
        (&json!("a"), &json!({"n": 1}), &json!([1.0, 0.0]))
    );
    assert_eq!(call(10, ""), None, "optimize");
    let query = json!({ "vector": [0.9, 0.1], "k": 5, "filter": {} }).to_string();
    let hits: Value = serde_json::from_str(&call(7, &query).unwrap()).unwrap();
    assert_eq!((hits[0]["ID"].as_str(), hits.as_array().unwrap().len()), (Some("a"), 2));
    assert!(hits[0]["Score"].as_f64().unwrap() > 0.9);
    assert_eq!(call(6, "a"), None);
    assert_eq!(call(6, "never there"), None);
    assert_eq!(call(8, "").as_deref(), Some("1"));
    let missing = call(5, "a").unwrap();
    assert!(missing.contains("item not found"), "{missing}");
    assert!(!call(7, r#"{"vector": [1, 2, 3], "k": 1}"#).unwrap().starts_with('['), "wrong dimension");
    assert!(call(3, r#"{"id": "x", "vector": [NaN, 1]}"#).unwrap().starts_with("invalid item"));
    assert_eq!(end(3, &transaction), None, "the transaction outlives optimize");
    assert!(call(8, "").unwrap().contains("has ended"));
}

#[test]
fn models_as_the_wrapper_uses_them() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let transaction = begin(&database);
    let open_store = |path: Value| {
        let payload = json!({ "transaction_id": transaction, "path": path }).to_string();
        let id = uuid(manage(manageModelStore, 1, None, Some(&payload)));
        json!({ "id": id, "transaction_id": transaction }).to_string()
    };
    let target = open_store(json!("mine"));
    let call = |action: i32, payload: &str| manage(manageModelStore, action, Some(&target), Some(payload));
    let place = |name: &str| json!({ "category": "c", "name": name }).to_string();
    assert_eq!(call(6, "c").as_deref(), Some("[]"));
    let model = json!({ "id": "m1", "parameters": [0.5], "é": null });
    assert_eq!(call(4, &json!({ "category": "c", "name": "one", "model": model }).to_string()), None);
    assert_eq!(call(4, &json!({ "category": "c", "name": "none", "model": null }).to_string()), None);
    let got: Value = serde_json::from_str(&call(5, &place("one")).unwrap()).unwrap();
    assert_eq!(got, model);
    assert_eq!(call(5, &place("none")).as_deref(), Some("null"));
    assert_eq!(call(5, &place("two")).as_deref(), Some("model not found: c/two"));
    assert_eq!(call(6, "c").as_deref(), Some(r#"["none","one"]"#));
    let other = open_store(Value::Null);
    assert_eq!(manage(manageModelStore, 6, Some(&other), Some("c")).as_deref(), Some("[]"), "its own store");
    assert_eq!(call(7, &place("one")), None);
    assert_eq!(call(7, &place("two")), None, "deleting what is not there");
    assert!(call(4, &place("no model")).unwrap().contains("model"));
    assert_eq!(end(3, &transaction), None);
}

#[test]
fn a_transaction_that_ended_says_so_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    for action in [3, 4] {
        let transaction = begin(&database);
        let tree = Tree::new(&transaction, "t");
        assert!(tree.add(&[1]) || action == 4);
        assert_eq!(end(action, &transaction), None);
        let ended = format!("UUID {transaction} not found: the transaction has ended, begin a new one");
        assert_eq!(end(3, &transaction), Some(ended.clone()));
        assert_eq!(end(4, &transaction), Some(ended.clone()));
        assert_eq!(tree.count(), Err(ended.clone()));
        assert_eq!(tree.is_unique(), Some(ended.clone()));
        assert_eq!(tree.get(10, Some(json!({}))), Err(ended.clone()));
        assert_eq!(tree.write(3, json!([item(2, Value::Null)])), Some(ended.clone()));
        let options = options("t", &transaction).to_string();
        assert_eq!(manage(manageBtree, 1, Some(&options), None), Some(ended));
        assert_eq!(sop_last_error_code(), SopErrorCode::InvalidState as i32);
    }
}

#[test]
fn texts_of_2_0_17_stay() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let transaction = begin(&database);
    let stranger = Uuid::new_v4().to_string();
    let text = |text: Option<String>| text.unwrap_or_default();
    assert_eq!(text(end(3, &stranger)), format!("UUID {stranger} not found"));
    assert_eq!(text(end(3, "abc")), "error parsing UUID, details: invalid UUID length: 3");
    assert_eq!(text(end(7, &transaction)), "unsupported action 7");
    assert!(text(end(1, "")).contains("NewTransaction is deprecated"));
    assert!(text(end(2, &transaction)).contains("Begin is deprecated"));
    assert_eq!(text(manage(manageVectorDB, 9, Some(&stranger), Some("1"))), "Database not found");
    assert!(
        text(manage(manageBtree, 3, Some("{"), None))
            .starts_with("error Unmarshal ManageBtreeMetaData, details: ")
    );
    assert!(
        text(manage(manageBtree, 1, Some("{"), None)).starts_with("error Unmarshal BtreeOptions, details: ")
    );
    let tree = Tree::of(&transaction, &stranger);
    assert_eq!(tree.count(), Err(format!("did not find B-tree(id={stranger}) from lookup")));
    let target = json!({ "id": stranger, "transaction_id": transaction }).to_string();
    assert_eq!(
        text(manage(manageVectorDB, 8, Some(&target), Some(""))),
        "Vector Store not found in transaction"
    );
    assert_eq!(
        text(manage(manageModelStore, 6, Some(&target), Some(""))),
        "Model Store not found in transaction"
    );
    assert!(text(manage(manageModelStore, 3, None, Some("{}"))).contains("not supported"));
    let missing = json!({ "name": "nothing", "transaction_id": transaction }).to_string();
    assert!(text(manage(manageBtree, 2, Some(&missing), None)).contains("store not found"));
    assert_eq!(
        text(take(unsafe { manageTransaction(99_999, 3, std::ptr::null()) })),
        "context with ID 99999 not found"
    );
    assert_eq!(end(4, &transaction), None);
}

#[test]
fn a_store_belongs_to_its_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let (one, two) = (begin(&database), begin(&database));
    let id = uuid(manage(manageBtree, 1, Some(&options("t", &one).to_string()), None));
    assert_eq!(Tree::of(&two, &id).count(), Err(format!("did not find B-tree(id={id}) from lookup")));
    assert_eq!(Tree::of(&one, &id).count(), Ok(0));
    assert_eq!((end(4, &one), end(4, &two)), (None, None));
}

#[test]
fn begin_takes_a_mode_or_options() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let options = |extra: Value| {
        let mut all = json!({ "mode": 1, "max_time": 5, "registry_hash_mod": 250, "stores_folders": null,
                              "erasure_config": null, "db_type": 0 });
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        all.to_string()
    };
    let begin = |payload: &str| manage(manageDatabase, 2, Some(&database), Some(payload));
    for payload in ["0", "1", "2", "", &options(json!({})), &options(json!({"stores_folders": []}))] {
        assert_eq!(end(4, &uuid(begin(payload))), None, "{payload}");
    }
    // Its stores_folders count, as they did.
    let elsewhere = tempfile::tempdir().unwrap();
    let transaction = uuid(begin(&options(json!({ "stores_folders": [elsewhere.path()] }))));
    assert!(Tree::new(&transaction, "t").add(&[1]));
    assert_eq!(end(3, &transaction), None);
    assert!(std::fs::read_dir(elsewhere.path()).unwrap().count() > 0);
    for payload in ["7", "x", "{", "[1]", &options(json!({"mode": 9})), &options(json!({"db_type": 1}))] {
        let text = begin(payload).unwrap();
        assert!(Uuid::try_parse(&text).is_err(), "{payload}: {text}");
    }
}

#[test]
fn closing_a_database_leaves_its_open_transactions_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let transaction = begin(&database);
    let tree = Tree::new(&transaction, "t");
    assert!(tree.add(&[1]));
    assert_eq!(manage(manageModelStore, 8, Some(&database), Some("")), None);
    assert_eq!(manage(manageVectorDB, 9, Some(&database), Some("1")).as_deref(), Some("Database not found"));
    assert_eq!(end(3, &transaction), None);
    let again = open(&folder);
    let transaction = begin(&again);
    assert_eq!(Tree::new(&transaction, "t").count(), Ok(1));
    assert_eq!(end(4, &transaction), None);
    assert_eq!(manage(manageVectorDB, 11, Some(&again), None), None);
}

/// NULL, not UTF-8, and texts of other kinds at every place: always a text, never a crash, never a result.
#[test]
fn garbage_gives_texts() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let garbage: [Option<CString>; 9] = [
        None,
        Some(c("")),
        Some(c("x")),
        Some(c("{}")),
        Some(c("[]")),
        Some(c("null")),
        Some(c(NIL)),
        Some(CString::new(vec![0xff, 0xfe]).unwrap()),
        Some(c(r#"{"transaction_id": 5, "btree_id": []}"#)),
    ];
    let functions: [(Managed, i32); 5] = [
        (manageDatabase, 3),
        (manageVectorDB, 11),
        (manageModelStore, 8),
        (manageBtree, 17),
        (navigateBtree, 17),
    ];
    for (function, last) in functions {
        for action in -1..=last + 1 {
            for one in &garbage {
                for two in &garbage {
                    let text = take(unsafe { function(0, action, pointer(one), pointer(two)) });
                    let text = text.unwrap_or_else(|| panic!("action {action} took {one:?} {two:?}"));
                    assert!(
                        !text.is_empty() && Uuid::try_parse(&text).is_err(),
                        "{action} {one:?} {two:?}: {text}"
                    );
                    assert!(!text.starts_with(['[', '{']), "{text}");
                    assert!(!["true", "false", "null"].contains(&text.as_str()));
                }
            }
        }
    }
    for action in -1..=18 {
        for one in &garbage {
            let result = unsafe { getFromBtree(0, action, pointer(one), pointer(one)) };
            assert_eq!((take(result.r0), take(result.r1).is_some()), (None, true));
        }
    }
    for one in &garbage {
        let count = unsafe { getBtreeItemCount(pointer(one)) };
        assert_eq!((count.r0, take(count.r1).is_some()), (0, true));
        assert!(take(unsafe { isUniqueBtree(pointer(one)) }).is_some());
        assert!(take(unsafe { openRedisConnection(pointer(one)) }).is_some());
        for action in -1..=5 {
            assert!(take(unsafe { manageTransaction(0, action, pointer(one)) }).is_some());
        }
    }
    assert_eq!(take(closeRedisConnection()), None);
    assert_eq!(end(3, &begin(&database)), None);
}

/// A transaction that is rolled back already, as by an I/O error, may be rolled back without complaint; a committed one
/// may not.
#[test]
fn rolling_back_what_is_rolled_back_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder);
    let handle = |uuid: &str| Uuid::try_parse(uuid).unwrap().as_u64_pair().1;
    let rolled_back = begin(&database);
    common::ok(sop_transaction_rollback(0, handle(&rolled_back)));
    assert!(end(3, &rolled_back).unwrap().contains("already rolled back"));
    assert!(end(3, &rolled_back).unwrap().contains("has ended"));
    let rolled_back = begin(&database);
    common::ok(sop_transaction_rollback(0, handle(&rolled_back)));
    assert_eq!(end(4, &rolled_back), None);
    let committed = begin(&database);
    common::ok(sop_transaction_commit(0, handle(&committed)));
    assert!(end(4, &committed).unwrap().contains("already committed"));
}

#[test]
fn a_cancelled_context_refuses_and_another_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let transaction = begin(&open(&folder));
    let ctx = createContext();
    cancelContext(ctx);
    let text = take(unsafe { manageTransaction(ctx, 3, c(&transaction).as_ptr()) }).unwrap();
    assert_eq!(text, format!("context with ID {ctx} not found"));
    assert_eq!(take(contextError(ctx)).as_deref(), Some("context not found"));
    assert_eq!(end(4, &transaction), None);
}
