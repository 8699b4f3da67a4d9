use super::*;
use stores::{Database, DatabaseOptions};

fn object() -> OpenDatabase {
    let options = DatabaseOptions { storage_path: "/nowhere".into(), ..Default::default() };
    OpenDatabase { database: Database::open(options).unwrap() }
}

fn missing(table: &HandleTable, handle: u64) -> Missing {
    table.find::<OpenDatabase>(handle).err().unwrap()
}

#[test]
fn a_handle_finds_its_object_until_it_is_removed() {
    let table = HandleTable::new(None);
    let handle = table.insert(object()).unwrap();
    assert!(table.find::<OpenDatabase>(handle).is_ok());
    assert!(table.find_any(handle).is_ok());
    assert!(table.remove(handle).is_some());
    assert_eq!(missing(&table, handle), Missing::Released);
    assert!(table.remove(handle).is_none());
    assert_eq!(table.len(), 0);
}

#[test]
fn a_stale_handle_never_means_the_newer_object_in_its_slot() {
    let table = HandleTable::new(None);
    let old = table.insert(object()).unwrap();
    table.remove(old);
    let new = table.insert(object()).unwrap();
    assert_eq!(slot_of(old), slot_of(new));
    assert_eq!(missing(&table, old), Missing::Released);
    assert!(table.remove(old).is_none());
    assert!(table.find::<OpenDatabase>(new).is_ok());
}

#[test]
fn kinds_are_told_apart() {
    let table = HandleTable::new(None);
    let handle = table.insert(object()).unwrap();
    assert_eq!(table.find::<OpenTransaction>(handle).err().unwrap(), Missing::Other(Kind::Database));
    let other_kind = handle ^ (Kind::Database as u64 ^ Kind::Model as u64) << KIND_SHIFT;
    assert_ne!(handle, other_kind);
    assert!(table.find_any(other_kind).is_err());
}

#[test]
fn garbage_is_unknown() {
    let table = HandleTable::new(None);
    assert_eq!(missing(&table, 0), Missing::None);
    let handle = table.insert(object()).unwrap();
    for garbage in [1, 7, u64::MAX, u64::MAX / 3, MARK, handle + 1, handle & !MARK] {
        assert_eq!(missing(&table, garbage), Missing::Unknown, "{garbage:#x}");
        assert!(table.remove(garbage).is_none());
    }
}

#[test]
fn after_a_fork_the_parents_handles_are_forked_and_never_reused() {
    let parent = HandleTable::new(None);
    let before = parent.insert(object()).unwrap();
    let child = HandleTable::new(Some(&parent));
    assert_eq!(missing(&child, before), Missing::Forked);
    let own = child.insert(object()).unwrap();
    assert_ne!(own, before);
    assert!(child.find::<OpenDatabase>(own).is_ok());
    assert_eq!(missing(&child, before), Missing::Forked);
}

#[test]
fn a_uuid_names_a_handle_and_back() {
    let table = HandleTable::new(None);
    let handle = table.insert(object()).unwrap();
    let uuid = uuid_of(handle);
    assert_eq!(uuid.get_version_num(), 8);
    assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    assert_eq!(handle_of(Uuid::try_parse(&uuid.to_string()).unwrap()), handle);
    assert_eq!(handle_of(Uuid::new_v4()), 0);
    assert_eq!(handle_of(Uuid::nil()), 0);
}

#[test]
fn a_million_objects_leave_no_handle_and_one_slot() {
    let table = HandleTable::new(None);
    for _ in 0..1_000_000 {
        let handle = table.insert(object()).unwrap();
        table.remove(handle);
    }
    assert_eq!(table.len(), 0);
    assert_eq!(slot_of(table.insert(object()).unwrap()), 0);
}

#[test]
fn threads_share_the_table() {
    let table = HandleTable::new(None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let handle = table.insert(object()).unwrap();
                    assert!(table.find::<OpenDatabase>(handle).is_ok());
                    assert!(table.remove(handle).is_some());
                }
            });
        }
    });
    assert_eq!(table.len(), 0);
}
