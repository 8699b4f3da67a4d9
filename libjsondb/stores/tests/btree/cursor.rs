//! The cursor: find, steps, pages, what is current.

use stores::{ErrorCode, ItemInput, Move, Paging};
use uuid::Uuid;

use crate::fixture::{Fixture, Store, duplicates, raw, token, unique, value_of};

fn tens(fixture: &Fixture) -> Store {
    let store = Store::create(&fixture.write(), unique("tens"));
    for key in ["10", "20", "30", "40", "50"] {
        assert!(store.add(key, key));
    }
    store
}

#[test]
fn a_find_that_misses_leaves_the_cursor_on_the_next_greater_key_else_on_the_last() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    assert!(store.find("30"));
    assert_eq!(store.current_key().unwrap(), "30");
    for (missing, near) in [("31", "40"), ("0", "10"), ("null", "10"), ("51", "50"), ("\"z\"", "50")] {
        assert!(!store.find(missing));
        assert_eq!(store.current_key().unwrap(), near, "{missing}");
    }
    assert!(store.0.find_one(&token(), &raw("21"), false).unwrap().is_none());
    assert_eq!(store.current_key().unwrap(), "30");
}

#[test]
fn nothing_is_current_in_an_empty_store() {
    let fixture = Fixture::new();
    let transaction = fixture.write();
    for options in [unique("u"), duplicates("d")] {
        let store = Store::create(&transaction, options);
        assert!(!store.find("1"));
        for to in [Move::First, Move::Last, Move::Next, Move::Previous] {
            assert!(!store.step(to));
        }
        assert!(store.current().is_none());
        assert!(!store.0.update_current(&token(), &raw("1")).unwrap());
        assert!(!store.0.remove_current(&token()).unwrap());
        assert!(store.page(20, 0).is_empty());
        assert!(store.page(20, 1).is_empty());
        // Nothing was walked past: what comes later is seen.
        assert!(store.add("1", "1"));
        assert_eq!(store.page(20, 0), ["1"]);
    }
}

#[test]
fn steps_walk_both_ways_and_end_at_the_ends() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    assert!(store.step(Move::Next));
    assert_eq!(store.current_key().unwrap(), "10");
    assert!(store.step(Move::Next));
    assert_eq!(store.current_key().unwrap(), "20");
    assert!(store.step(Move::Last));
    assert!(!store.step(Move::Next));
    assert!(store.current().is_none());
    assert!(!store.step(Move::Next));
    assert!(store.step(Move::Previous));
    assert_eq!(store.current_key().unwrap(), "50");
    assert!(store.step(Move::First));
    assert!(!store.step(Move::Previous));
    assert!(store.step(Move::Next));
    assert_eq!(store.current_key().unwrap(), "10");
}

#[test]
fn pages_follow_each_other_and_end() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    assert_eq!(store.page(2, 0), ["10", "20"]);
    assert_eq!(store.current_key().unwrap(), "30");
    assert_eq!(store.page(2, 0), ["30", "40"]);
    assert_eq!(store.page(2, 0), ["50"]);
    for _ in 0..3 {
        assert!(store.page(2, 0).is_empty());
        assert!(store.current().is_none());
    }
    assert!(store.step(Move::First));
    assert_eq!(store.page(5, 0).len(), 5);
    assert!(store.page(5, 0).is_empty());
}

#[test]
fn backward_pages_start_at_the_last_item() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    assert_eq!(store.page(3, 1), ["50", "40", "30"]);
    assert_eq!(store.current_key().unwrap(), "20");
    assert_eq!(store.page(3, 1), ["20", "10"]);
    assert!(store.page(3, 1).is_empty());
    assert!(store.find("30"));
    assert_eq!(store.page(2, 1), ["30", "20"]);
    assert_eq!(store.page(10, 0), ["10", "20", "30", "40", "50"]);
    assert_eq!(store.page(2, 1), ["50", "40"]);
}

#[test]
fn offsets_count_pages_and_fetch_count_wins() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    let page = |page_offset, page_size, fetch_count| {
        let paging = Paging { page_offset, page_size, fetch_count, direction: 0 };
        crate::fixture::keys_of(&store.try_page(paging).unwrap())
    };
    assert_eq!(page(1, 2, 0), ["30", "40"]);
    store.step(Move::First);
    assert_eq!(page(1, 2, 1), ["30"]);
    store.step(Move::First);
    assert_eq!(page(0, 1, 4), ["10", "20", "30", "40"]);
    assert!(store.find("20"));
    assert_eq!(page(1, 1, 0), ["30"]);
    store.step(Move::First);
    assert!(page(i64::MAX, i64::MAX, 0).is_empty());
    assert!(store.current().is_none());
    assert!(page(0, 1, 0).is_empty());
}

#[test]
fn impossible_pages_are_validation_errors() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    let refused = |paging| store.try_page(paging).unwrap_err().code();
    let paging = Paging::default();
    assert_eq!(refused(Paging { page_size: 0, ..paging }), ErrorCode::Validation);
    assert_eq!(refused(Paging { page_size: -1, ..paging }), ErrorCode::Validation);
    assert_eq!(refused(Paging { page_offset: -1, ..paging }), ErrorCode::Validation);
    assert_eq!(refused(Paging { fetch_count: -1, ..paging }), ErrorCode::Validation);
    assert_eq!(refused(Paging { direction: 2, ..paging }), ErrorCode::Validation);
    assert!(store.0.transaction().is_active());
    let defaults: Paging = serde_json::from_str("{}").unwrap();
    assert_eq!(defaults.page_size, 20);
}

#[test]
fn keys_without_values() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    let items = store.0.page(&token(), &Paging { page_size: 2, ..Default::default() }, false).unwrap();
    assert_eq!(serde_json::to_string(&items[0].key).unwrap(), "10");
    assert!(items.iter().all(|item| item.value.is_none() && !item.id.is_nil()));
    assert!(serde_json::to_string(&items[0]).unwrap().contains("\"value\":null"));
}

#[test]
fn removing_while_paging_does_not_disturb_it() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    assert_eq!(store.page(2, 0), ["10", "20"]);
    assert!(store.remove(&["10", "40"]));
    assert_eq!(store.current_key().unwrap(), "30");
    assert!(store.0.remove_current(&token()).unwrap());
    assert!(store.current().is_none());
    assert!(!store.0.remove_current(&token()).unwrap());
    assert_eq!(store.page(2, 0), ["50"], "the walk goes on behind what was removed");
    assert_eq!(store.page(2, 0), Vec::<String>::new());
    assert_eq!(store.all_keys(), ["20", "50"]);
    assert_eq!(store.count(), 2);
}

#[test]
fn next_and_previous_of_a_removed_item_are_its_neighbours() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    for (to, neighbour) in [(Move::Next, "40"), (Move::Previous, "20")] {
        assert!(store.find("30"));
        assert!(store.0.remove_current(&token()).unwrap());
        assert!(store.step(to));
        assert_eq!(store.current_key().unwrap(), neighbour);
        assert!(store.add("30", "1"));
    }
}

#[test]
fn updates_while_paging_do_not_disturb_it() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    let mut seen = Vec::new();
    loop {
        let page = store.page(2, 0);
        if page.is_empty() {
            break;
        }
        for key in page {
            assert!(store.update(&key, "0"));
            seen.push(key);
        }
    }
    assert_eq!(seen, ["10", "20", "30", "40", "50"]);
}

#[test]
fn another_handle_may_take_the_current_item_away() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    let other = Store::open(store.0.transaction(), "tens");
    assert!(store.find("30"));
    assert!(other.remove(&["30"]));
    assert!(store.current().is_none());
    assert!(!store.0.update_current(&token(), &raw("1")).unwrap());
    assert!(!store.0.remove_current(&token()).unwrap());
    assert_eq!(store.page(1, 0), ["40"]);
    assert!(store.find("20") && other.remove(&["20"]) && store.step(Move::Next));
    assert_eq!(store.current_key().unwrap(), "40");
}

#[test]
fn update_current_keeps_the_place() {
    let fixture = Fixture::new();
    let store = tens(&fixture);
    assert!(store.find("20"));
    assert!(store.0.update_current(&token(), &raw("\"x\"")).unwrap());
    assert_eq!(value_of(&store.current().unwrap()), "\"x\"");
    assert_eq!(store.count(), 5);
}

#[test]
fn find_with_id_tells_duplicates_apart() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), duplicates("log"));
    for value in ["\"a\"", "\"b\"", "\"c\""] {
        store.add("1", value);
    }
    store.add("2", "\"x\"");
    let items = store.try_page(Paging::default()).unwrap();
    for item in &items[..3] {
        assert!(store.0.find_with_id(&token(), &raw("1"), &item.id.to_string()).unwrap());
        assert_eq!(value_of(&store.current().unwrap()), value_of(item));
    }
    // An id of another key, an unknown one.
    assert!(!store.0.find_with_id(&token(), &raw("1"), &items[3].id.to_string()).unwrap());
    assert!(!store.0.find_with_id(&token(), &raw("1"), &Uuid::new_v4().to_string()).unwrap());
    assert_eq!(value_of(&store.current().unwrap()), "\"c\"");
    let error = store.0.find_with_id(&token(), &raw("1"), "bogus").unwrap_err();
    assert_eq!(error.code(), ErrorCode::Validation);
    assert!(error.message().contains("invalid UUID length: 5"));
}

#[test]
fn values_come_in_input_order_and_a_missing_key_comes_back_empty() {
    let fixture = Fixture::new();
    let store = Store::create(&fixture.write(), duplicates("log"));
    for (key, value) in [("1", "\"a\""), ("1", "\"b\""), ("2", "null")] {
        store.add(key, value);
    }
    store.step(Move::Last);
    let oldest = store.try_page(Paging { page_size: 2, direction: 1, ..Default::default() }).unwrap()[1]
        .id
        .to_string();
    let nil = Uuid::nil().to_string();
    let (one, two, three) = (raw("1"), raw("2.0"), raw("3.0"));
    let input = |key, id| ItemInput { key, value: None, id };
    let wanted = [
        input(&three, None),
        input(&one, Some(oldest.as_str())),
        input(&one, Some(nil.as_str())),
        input(&two, None),
    ];
    let items = store.0.values(&token(), &wanted).unwrap();
    assert_eq!(items[0].key.get(), "3.0");
    assert!(items[0].value.is_none() && items[0].id.is_nil());
    assert_eq!(value_of(&items[1]), "\"a\"");
    assert_eq!(value_of(&items[2]), "\"b\"");
    assert_eq!((items[3].key.get(), value_of(&items[3])), ("2", "null"));
    let bad = [input(&one, Some("x"))];
    assert_eq!(store.0.values(&token(), &bad).unwrap_err().code(), ErrorCode::Validation);
}
