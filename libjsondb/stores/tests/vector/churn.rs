//! Rows come and go while the index is kept in shape: whatever happens, a query sees what is there.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::process::Command;
use std::thread;

use stores::{
    CancelToken, Database, DatabaseOptions, ErrorCode, IdRange, QueryOptions, Session, VectorItem,
    VectorOptions, VectorStore,
};

use crate::support::*;

const DIMENSION: usize = 12;
/// In a child's environment: the folder it writes to.
const FOLDER: &str = "SOP_TEST_VECTOR_FOLDER";

/// Every sampled row is its own nearest neighbour, and everything is found, once.
fn check(
    store: &VectorStore,
    known: &BTreeMap<String, VectorItem>,
    random: &mut Random,
    cancel: &CancelToken,
) {
    assert_eq!(store.count(cancel).unwrap(), known.len() as u64);
    let all: Vec<&VectorItem> = known.values().collect();
    for _ in 0..5.min(all.len()) {
        let item = all[(random.next() % all.len() as u64) as usize];
        let hits = store
            .query(cancel, &QueryOptions { target_recall: Some(1.0), ..query(&item.vector, 3) })
            .unwrap();
        assert!(hits.iter().any(|hit| hit.id == item.id), "{} is not found by its own vector", item.id);
        assert!(hits.iter().all(|hit| known.contains_key(&hit.id)));
    }
    let vector = random.vector(DIMENSION);
    let hits = store.query(cancel, &QueryOptions { exact: true, ..query(&vector, 40) }).unwrap();
    assert_same(&hits, &brute_force(known, &vector, 40, |_| true));
}

/// All ids are there in order, and each has its row.
fn check_rows(store: &VectorStore, known: &BTreeMap<String, VectorItem>, cancel: &CancelToken) {
    let all = IdRange { limit: NonZeroUsize::new(usize::MAX), ..IdRange::default() };
    let ids = store.ids(cancel, &all).unwrap().ids;
    assert!(ids.iter().eq(known.keys()));
    let (items, numbers) = store.get_arrays(cancel, &ids, DIMENSION).unwrap();
    assert_eq!(items.len(), known.len());
    for ((item, vector), known) in items.iter().zip(numbers.chunks(DIMENSION)).zip(known.values()) {
        assert_eq!((&item.id, vector), (&known.id, known.vector.as_slice()));
        assert_eq!(item.centroid_id, known.centroid_id.max(0));
    }
}

#[test]
fn any_order_of_changes_leaves_every_row_findable() {
    for seed in 0..4 {
        let fixture = Fixture::new();
        let store = fixture.store_in_mode((seed % 3) as i32);
        let cancel = &fixture.cancel;
        let (mut random, mut known, mut next) = (Random(seed), BTreeMap::new(), 0);
        for step in 0..60 {
            match random.next() % 10 {
                0..6 => {
                    let count = 1 + random.next() as usize % 600;
                    let mut items = clustered(count, DIMENSION, seed * 1_000 + step / 9);
                    for item in &mut items {
                        // Some replace others.
                        item.id = format!(
                            "{:06}",
                            if random.next().is_multiple_of(5) { random.next() % (next + 1) } else { next }
                        );
                        next += 1;
                        item.centroid_id = (random.next() % 40) as i64 - 37;
                    }
                    store.upsert(cancel, &items).unwrap();
                    known.extend(by_id(&items));
                }
                6..9 => {
                    let part = 1 + random.next() % 9;
                    let ids: Vec<String> =
                        known.keys().filter(|_| random.next().is_multiple_of(part + 1)).cloned().collect();
                    store.delete(cancel, &ids).unwrap();
                    ids.iter().for_each(|id| drop(known.remove(id)));
                }
                _ => store.optimize(cancel).unwrap(),
            }
            check(&store, &known, &mut random, cancel);
        }
        check_rows(&store, &known, cancel);
        store.optimize(cancel).unwrap();
        check(&store, &known, &mut random, cancel);
        check_rows(&store, &known, cancel);
        let verification =
            fixture.database.verify(&mut stores::Progress::new(cancel, &mut |_, _| true)).unwrap();
        assert!(verification.intact, "seed {seed}: {:?}", verification.findings);
    }
}

#[test]
fn maintenance_that_is_cut_off_at_any_point_loses_nothing() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let (mut random, mut known) = (Random(81), BTreeMap::new());
    store.upsert(&fixture.cancel, &clustered(3_000, DIMENSION, 82)).unwrap();
    store.optimize(&fixture.cancel).unwrap();
    known.extend(by_id(&clustered(3_000, DIMENSION, 82)));
    for round in 0..30 {
        let mut items = clustered(400, DIMENSION, 83 + round);
        items.iter_mut().for_each(|item| item.id = format!("{round}-{}", item.id));
        let gone: Vec<String> = known.keys().filter(|_| random.next().is_multiple_of(8)).cloned().collect();
        let cancel = CancelToken::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(std::time::Duration::from_micros(random.next() % 30_000));
                cancel.cancel();
            });
            for result in
                [store.upsert(&cancel, &items), store.delete(&cancel, &gone), store.optimize(&cancel)]
            {
                if let Err(error) = result {
                    assert_eq!(error.code(), ErrorCode::Cancelled);
                }
            }
        });
        // What was committed is seen one by one.
        for item in &items {
            if store.get(&fixture.cancel, &item.id).is_ok() {
                known.insert(item.id.clone(), item.clone());
            }
        }
        known.retain(|id, _| store.get(&fixture.cancel, id).is_ok());
        check(&store, &known, &mut Random(round), &fixture.cancel);
    }
    store.optimize(&fixture.cancel).unwrap();
    check(&store, &known, &mut random, &fixture.cancel);
}

#[test]
fn threads_that_write_never_see_a_conflict() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    fixture.store().upsert(cancel, &clustered(2_000, DIMENSION, 91)).unwrap();
    fixture.store().optimize(cancel).unwrap();
    thread::scope(|scope| {
        for writer in 0..4 {
            let fixture = &fixture;
            scope.spawn(move || write_as(&fixture.database, &format!("thread-{writer}"), 92 + writer));
        }
        scope.spawn(|| (0..3).for_each(|_| fixture.store().optimize(cancel).unwrap()));
        scope.spawn(|| {
            let mut random = Random(90);
            for _ in 0..100 {
                let hits = fixture.store().query(cancel, &query(&random.vector(DIMENSION), 20)).unwrap();
                assert_eq!(hits.len(), 20);
            }
        });
    });
    assert_eq!(fixture.store().count(cancel).unwrap(), 2_000 + 4 * 450);
}

/// Upserts and deletes in a transaction each, which nobody else conflicts with: no retry is made.
fn write_as(database: &std::sync::Arc<Database>, name: &str, seed: u64) {
    let cancel = CancelToken::new();
    let items = clustered(500, DIMENSION, seed);
    for (batch, items) in items.chunks(10).enumerate() {
        let mut items = items.to_vec();
        items.iter_mut().for_each(|item| item.id = format!("{name}-{}", item.id));
        let transaction =
            database.begin(stores::TransactionMode::ForWriting, stores::DEFAULT_MAX_TIME, &cancel).unwrap();
        let options = VectorOptions::default();
        let store = VectorStore::open(Session::In(transaction.clone()), "items", options).unwrap();
        store.upsert(&cancel, &items).unwrap();
        store.delete(&cancel, &[&items[batch % 10].id]).unwrap();
        transaction.commit(&cancel).unwrap();
    }
}

#[test]
fn processes_that_write_or_are_killed_leave_a_whole_index() {
    let fixture = Fixture::new();
    let cancel = &fixture.cancel;
    let store = fixture.store();
    store.upsert(cancel, &clustered(2_000, DIMENSION, 93)).unwrap();
    store.optimize(cancel).unwrap();
    let child = |name: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "churn::a_child_process_writes", "--ignored", "--quiet"])
            .env(FOLDER, fixture.database.folder())
            .env("SOP_TEST_VECTOR_NAME", name)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut children = [child("one"), child("two")];
    let mut killed = child("killed");
    while store.get(cancel, "killed-item-000105").is_err() {
        assert!(killed.try_wait().unwrap().is_none_or(|status| status.success()));
        thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "a writer saw an error");
    }
    store.optimize(cancel).unwrap();
    let count = store.count(cancel).unwrap();
    assert!(count >= 2_900, "{count}");
    let hits = store.query(cancel, &query(&[1.0; DIMENSION], count as i64 + 10)).unwrap();
    assert_eq!(hits.len() as u64, count);
    assert!(fixture.database.verify(&mut stores::Progress::new(cancel, &mut |_, _| true)).unwrap().intact);
}

#[test]
#[ignore = "what processes_that_write_or_are_killed_leave_a_whole_index starts"]
fn a_child_process_writes() {
    let storage_path = std::env::var(FOLDER).unwrap();
    let name = std::env::var("SOP_TEST_VECTOR_NAME").unwrap();
    let database = Database::open(DatabaseOptions { storage_path, ..DatabaseOptions::default() }).unwrap();
    let seed = name.len() as u64;
    write_as(&database, &name, seed);
}
