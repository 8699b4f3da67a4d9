//! Maps: the forms of the writing calls that wait for nobody, which a caller may make while it holds a lock of its own.

use std::fs::File;

use engine::Durability;
use serde_json::value::RawValue;
use stores::map::Map;
use stores::{BtreeOptions, Chunk};

use crate::fixture::{Fixture, token, unique};

fn open(fixture: &Fixture, durability: Durability) -> Map {
    Map::open(&token(), &fixture.database, "m", Some(unique("m")), durability).unwrap()
}

fn relaxed() -> (Fixture, Map) {
    let fixture = Fixture::new();
    let map = open(&fixture, Durability::Relaxed);
    map.put(&mut items(&map, 0..3)).unwrap();
    (fixture, map)
}

fn key(map: &Map, key: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    let text = RawValue::from_string(key.to_string()).unwrap();
    map.layout().append_key_text(&text, &mut encoded).unwrap();
    encoded
}

fn keys(map: &Map, range: impl Iterator<Item = u64>) -> Chunk {
    let mut chunk = Chunk::default();
    for number in range {
        chunk.buffer().extend(key(map, number));
        chunk.end_key_only();
    }
    chunk
}

/// Each with its number as value.
fn items(map: &Map, range: impl Iterator<Item = u64>) -> Chunk {
    let mut chunk = Chunk::default();
    for number in range {
        chunk.buffer().extend(key(map, number));
        chunk.end_key(None);
        chunk.buffer().extend(number.to_string().bytes());
        chunk.end_item();
    }
    chunk
}

fn get(map: &Map, number: u64) -> Option<String> {
    map.get_with(&key(map, number), |text| text.map(|text| String::from_utf8(text.to_vec()).unwrap()))
        .unwrap()
}

/// What another process does that commits: nobody else can meanwhile.
fn hold_log(fixture: &Fixture) -> File {
    let lock = File::options().write(true).open(fixture.folder.path().join("log/LOCK")).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn small_relaxed_writes_wait_for_nobody() {
    let (_fixture, map) = relaxed();
    assert!(map.try_put(&mut items(&map, 2..66)).unwrap());
    assert_eq!((map.count().unwrap(), get(&map, 65).as_deref()), (66, Some("65")));
    assert_eq!(map.try_remove(&mut keys(&map, 60..80)).unwrap(), Some(6));
    assert_eq!(map.count().unwrap(), 60);
}

#[test]
fn what_may_wait_is_not_begun() {
    let (fixture, map) = relaxed();
    assert!(!map.try_put(&mut items(&map, 0..65)).unwrap(), "many items");
    let full = open(&fixture, Durability::Full);
    assert!(!full.try_put(&mut items(&full, 5..6)).unwrap(), "a sync");
    let log = hold_log(&fixture);
    assert!(!map.try_put(&mut items(&map, 5..6)).unwrap(), "a lock");
    assert_eq!(map.try_remove(&mut keys(&map, 0..1)).unwrap(), None, "a lock");
    drop(log);
    assert_eq!((map.count().unwrap(), get(&map, 5)), (3, None));
    assert!(map.try_put(&mut items(&map, 5..6)).unwrap());

    let eager = BtreeOptions { is_value_data_actively_persisted: true, ..unique("eager") };
    let eager = Map::open(&token(), &fixture.database, "eager", Some(eager), Durability::Relaxed).unwrap();
    assert!(!eager.try_put(&mut items(&eager, 0..1)).unwrap(), "a file");
}

#[test]
fn in_a_transaction_one_write_waits_for_nobody() {
    let (fixture, map) = relaxed();
    let transaction = fixture.write();
    let inside = map.within(&token(), &transaction).unwrap();
    assert!(inside.try_put(&mut items(&map, 7..8)).unwrap());
    assert_eq!(inside.try_remove(&mut keys(&map, 0..1)).unwrap(), Some(1));
    // Half of it would stay, should the other half have to wait.
    assert!(!inside.try_put(&mut items(&map, 8..10)).unwrap());
    assert_eq!((map.count().unwrap(), inside.count().unwrap()), (3, 3));
    transaction.commit(&token()).unwrap();
    assert_eq!((get(&map, 0), get(&map, 7).as_deref()), (None, Some("7")));
}

#[test]
fn a_change_that_has_to_wait_is_written_once() {
    let (fixture, map) = relaxed();
    let mut change = map.change(key(&map, 9));
    assert_eq!(change.try_read(&mut Vec::new()).unwrap(), Some(false));
    let mut item = items(&map, 9..10);
    let log = hold_log(&fixture);
    assert_eq!(change.try_write(&mut item).unwrap(), None);
    drop(log);
    assert_eq!(map.count().unwrap(), 3);
    assert!(change.write(&item).unwrap());
    assert_eq!((map.count().unwrap(), get(&map, 9).as_deref()), (4, Some("9")));
}

#[test]
fn a_change_that_others_came_before_starts_again() {
    let (_fixture, map) = relaxed();
    let mut change = map.change(key(&map, 2));
    let mut text = Vec::new();
    assert_eq!((change.try_read(&mut text).unwrap(), text.as_slice()), (Some(true), &b"2"[..]));
    assert!(map.try_put(&mut items(&map, 2..3)).unwrap());
    let mut item = items(&map, 2..3);
    assert_eq!(change.try_write(&mut item).unwrap(), None);
    assert!(!change.write(&item).unwrap());
    assert_eq!(change.try_read(&mut text).unwrap(), Some(true));
    assert_eq!(change.try_write(&mut item).unwrap(), Some(true));
}

#[test]
fn a_commit_that_has_to_wait_leaves_the_transaction_as_it_was() {
    let (fixture, map) = relaxed();
    let write = |number| {
        let transaction = fixture.write();
        let inside = map.within(&token(), &transaction).unwrap();
        inside.put(&mut items(&map, number..number + 1)).unwrap();
        transaction
    };
    let full = write(7);
    assert!(!full.try_commit(&token()).unwrap() && full.is_active(), "a sync");
    full.commit(&token()).unwrap();
    let relaxed = write(8);
    relaxed.set_durability(Durability::Relaxed);
    let log = hold_log(&fixture);
    assert!(!relaxed.try_commit(&token()).unwrap() && relaxed.is_active(), "a lock");
    drop(log);
    assert!(relaxed.try_commit(&token()).unwrap() && !relaxed.is_active());
    assert!(fixture.read().try_commit(&token()).unwrap(), "nothing was written");
    assert_eq!((get(&map, 7).as_deref(), get(&map, 8).as_deref()), (Some("7"), Some("8")));
    relaxed.try_commit(&token()).unwrap_err();
}
