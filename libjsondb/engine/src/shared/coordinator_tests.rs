//! What hints change, and what they cannot.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use uuid::Uuid;

use super::coordinator::{CachedBlob, Coordinator, Turn};
use crate::{CacheDuration, CacheDurations, Database, ErrorKind, Mode, Options, Placement, Seq, StoreId};

/// Says what a test tells it to.
#[derive(Default)]
struct Told {
    head: AtomicU64,
    announced: Mutex<Vec<u64>>,
    conflicts: AtomicUsize,
    all_hot: AtomicBool,
    turns: Arc<AtomicUsize>,
    blobs: Mutex<HashMap<CachedBlob, Vec<u8>>>,
    found: AtomicUsize,
    kept_longer: Mutex<Vec<Duration>>,
}

struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Coordinator for Told {
    fn head(&self, _: Uuid) -> Option<Seq> {
        Some(Seq(self.head.load(Ordering::SeqCst)))
    }

    fn announce(&self, _: Uuid, slot: Seq) {
        self.announced.lock().unwrap().push(slot.0);
    }

    fn note_conflict(&self, _: Uuid, _: u64) {
        self.conflicts.fetch_add(1, Ordering::SeqCst);
    }

    fn is_hot(&self, _: Uuid, _: u64) -> bool {
        self.all_hot.load(Ordering::SeqCst)
    }

    fn queue(&self, _: Uuid, _: u64, is_wanted: &dyn Fn() -> bool) -> Option<Turn> {
        assert!(is_wanted());
        self.turns.fetch_add(1, Ordering::SeqCst);
        Some(Box::new(Held(Arc::clone(&self.turns))))
    }

    fn cached(&self, _: Uuid, blob: CachedBlob) -> Option<Vec<u8>> {
        let found = self.blobs.lock().unwrap().get(&blob).cloned();
        self.found.fetch_add(usize::from(found.is_some()), Ordering::SeqCst);
        found
    }

    fn cache(&self, _: Uuid, blob: CachedBlob, bytes: &[u8], _: Duration) {
        self.blobs.lock().unwrap().insert(blob, bytes.to_vec());
    }

    fn keep(&self, _: Uuid, _: CachedBlob, keep: Duration) {
        self.kept_longer.lock().unwrap().push(keep);
    }
}

struct Fixture {
    _folder: tempfile::TempDir,
    told: Arc<Told>,
    one: Database,
    two: Database,
    store: StoreId,
}

/// Two processes with one coordinator.
fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let told = Arc::new(Told::default());
    let open = |folder: &Path| {
        let coordinator: Arc<dyn Coordinator> = Arc::<Told>::clone(&told);
        Database::open_shared_alone_with(folder, &Options::default(), Some(coordinator)).unwrap()
    };
    let (one, two) = (open(folder.path()), open(folder.path()));
    let mut transaction = one.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("numbers", b"").unwrap();
    transaction.commit().unwrap();
    Fixture { _folder: folder, told, one, two, store }
}

impl Fixture {
    fn put(&self, database: &Database, key: &str, value: u8) {
        let mut transaction = database.begin(Mode::Write).unwrap();
        transaction.put(self.store, key.as_bytes(), &[value], Placement::Auto).unwrap();
        transaction.commit().unwrap();
    }

    fn get(&self, transaction: &mut crate::Transaction, key: &str) -> Option<u8> {
        transaction.get_with(self.store, key.as_bytes(), |value| value.map(|value| value[0])).unwrap()
    }
}

#[test]
fn a_head_that_nobody_wrote_costs_a_look_and_nothing_else() {
    let fixture = fixture();
    fixture.told.head.store(u64::MAX, Ordering::SeqCst);
    for round in 0..10 {
        fixture.put(&fixture.one, "a", round);
        fixture.put(&fixture.two, "b", round);
    }
    // Whoever got a slot lately does not ask.
    fixture.one.inner.shared.as_ref().unwrap().peers.ask_soon();
    let mut transaction = fixture.one.begin(Mode::Read).unwrap();
    assert_eq!(fixture.get(&mut transaction, "b"), Some(9));
    let announced = fixture.told.announced.lock().unwrap();
    assert!(announced.is_sorted(), "{announced:?}");
    assert_eq!(announced.len(), 21);
}

#[test]
fn who_waited_for_its_turn_begins_behind_the_one_before() {
    let fixture = fixture();
    fixture.put(&fixture.one, "n", 1);
    fixture.told.all_hot.store(true, Ordering::SeqCst);
    let mut transaction = fixture.two.begin(Mode::Write).unwrap();
    assert!(transaction.store("numbers").unwrap().is_some());
    fixture.put(&fixture.one, "n", 2);
    assert_eq!(fixture.get(&mut transaction, "n"), Some(2));
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 1);
    transaction.put(fixture.store, b"n", &[3], Placement::Auto).unwrap();
    transaction.put(fixture.store, b"other", &[3], Placement::Auto).unwrap();
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 1, "one turn for each transaction");
    transaction.commit().unwrap();
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 0);
    assert_eq!(fixture.told.conflicts.load(Ordering::SeqCst), 0);
}

#[test]
fn a_turn_is_given_back_whatever_becomes_of_the_transaction() {
    let fixture = fixture();
    fixture.told.all_hot.store(true, Ordering::SeqCst);
    let mut dropped = fixture.one.begin(Mode::Write).unwrap();
    fixture.get(&mut dropped, "n");
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 1);
    drop(dropped);
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 0);
    let mut beaten = fixture.one.begin(Mode::Write).unwrap();
    fixture.get(&mut beaten, "n");
    fixture.put(&fixture.two, "n", 1);
    beaten.put(fixture.store, b"n", &[2], Placement::Auto).unwrap();
    assert_eq!(beaten.commit().unwrap_err().kind(), ErrorKind::Conflict, "a turn decides nothing");
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 0);
    assert!(fixture.told.conflicts.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_snapshot_that_was_looked_at_stays() {
    let fixture = fixture();
    fixture.put(&fixture.one, "n", 1);
    fixture.told.all_hot.store(true, Ordering::SeqCst);
    let looks: [fn(&Fixture, &mut crate::Transaction); 4] = [
        |_, transaction| assert!(transaction.snapshot() > Seq(0)),
        |_, transaction| drop(transaction.reader().unwrap()),
        |fixture, transaction| assert_eq!(transaction.counter(fixture.store, b"c").unwrap(), 0),
        |_, transaction| drop(transaction.store_names("").unwrap()),
    ];
    for look in looks {
        let mut transaction = fixture.two.begin(Mode::Write).unwrap();
        look(&fixture, &mut transaction);
        let before = transaction.snapshot();
        fixture.put(&fixture.one, "n", 2);
        fixture.get(&mut transaction, "n");
        assert_eq!(transaction.snapshot(), before);
    }
}

#[test]
fn a_store_that_was_opened_and_changed_since_keeps_the_snapshot() {
    let fixture = fixture();
    fixture.put(&fixture.one, "n", 1);
    fixture.told.all_hot.store(true, Ordering::SeqCst);
    let mut transaction = fixture.two.begin(Mode::Write).unwrap();
    assert!(transaction.store("numbers").unwrap().is_some());
    let mut dropping = fixture.one.begin(Mode::Write).unwrap();
    dropping.drop_store("numbers").unwrap();
    dropping.commit().unwrap();
    assert_eq!(fixture.get(&mut transaction, "n"), Some(1), "what it opened is still there for it");
    transaction.put(fixture.store, b"n", &[2], Placement::Auto).unwrap();
    assert_eq!(transaction.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_call_that_must_not_wait_does_not_queue() {
    let fixture = fixture();
    fixture.told.all_hot.store(true, Ordering::SeqCst);
    let mut transaction = fixture.one.begin(Mode::Write).unwrap();
    assert_eq!(transaction.try_upsert(fixture.store, b"n", b"1").unwrap(), None);
    assert!(transaction.get_cached_with(fixture.store, b"n", |_| ()).unwrap().is_none());
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 0);
    assert!(transaction.upsert(fixture.store, b"n", b"1", Placement::Auto).unwrap());
    assert_eq!(fixture.told.turns.load(Ordering::SeqCst), 1);
    assert_eq!(transaction.try_upsert(fixture.store, b"n", b"2").unwrap(), Some(false));
}

const ROWS: u32 = 5_000;

impl Fixture {
    /// A database of which nothing is in memory.
    fn fresh(&self) -> Database {
        let coordinator: Arc<dyn Coordinator> = Arc::<Told>::clone(&self.told);
        let options = Options::default();
        let fresh = Database::open_shared_alone_with(self.one.folder(), &options, Some(coordinator)).unwrap();
        fresh.inner.pages.shared().unwrap().prefer_asking();
        fresh
    }

    /// Rows in the tree, each with a value beside it that has `bytes` bytes.
    fn fill(&self, bytes: usize) {
        let mut transaction = self.one.begin(Mode::Write).unwrap();
        for row in 0..ROWS {
            transaction.put(self.store, &row.to_be_bytes(), &row.to_le_bytes(), Placement::Auto).unwrap();
        }
        transaction.put(self.store, b"value", &vec![7; bytes], Placement::Eager).unwrap();
        transaction.commit().unwrap();
        self.one.checkpoint().unwrap();
    }

    fn read_all(&self, database: &Database, durations: CacheDurations) {
        let mut transaction = database.begin(Mode::Read).unwrap();
        transaction.set_cache_durations(self.store, durations);
        for row in 0..ROWS {
            let key = row.to_be_bytes();
            let read = transaction.get_with(self.store, &key, |value| value.map(<[u8]>::to_vec)).unwrap();
            assert_eq!(read, Some(row.to_le_bytes().to_vec()));
        }
        transaction
            .get_with(self.store, b"value", |value| assert!(value.unwrap().iter().all(|b| *b == 7)))
            .unwrap();
    }
}

const MINUTE: CacheDuration = CacheDuration { time: Duration::from_secs(60), is_sliding: false };
const NONE: CacheDuration = CacheDuration { time: Duration::ZERO, is_sliding: false };
const LONG: CacheDurations = CacheDurations { pages: MINUTE, values: MINUTE };
const NEVER: CacheDurations = CacheDurations { pages: NONE, values: NONE };

#[test]
fn what_one_process_reads_another_one_finds() {
    let fixture = fixture();
    fixture.fill(20_000);
    fixture.read_all(&fixture.fresh(), LONG);
    let kept = fixture.told.blobs.lock().unwrap().len();
    assert!(kept > 3, "{kept}");
    assert_eq!(fixture.told.found.load(Ordering::SeqCst), 0);
    fixture.read_all(&fixture.fresh(), LONG);
    // Of all reads of a process one is of the file, to know how long that takes.
    let found = fixture.told.found.load(Ordering::SeqCst);
    assert!((kept - 1..=kept).contains(&found), "{found} of {kept}");
    assert_eq!(fixture.told.blobs.lock().unwrap().len(), kept);
}

#[test]
fn a_read_keeps_what_it_finds_for_longer_where_the_store_says_so() {
    let fixture = fixture();
    fixture.fill(20_000);
    fixture.read_all(&fixture.fresh(), LONG);
    fixture.read_all(&fixture.fresh(), LONG);
    assert!(fixture.told.kept_longer.lock().unwrap().is_empty());
    let values = CacheDuration { time: Duration::from_secs(90), is_sliding: true };
    let found = fixture.told.found.load(Ordering::SeqCst);
    let database = fixture.fresh();
    // The second read of a process is one of the file, to know how long that takes.
    fixture.read_all(&database, CacheDurations { values, ..LONG });
    assert!(fixture.told.found.load(Ordering::SeqCst) > found + 1);
    assert_eq!(*fixture.told.kept_longer.lock().unwrap(), [values.time], "the value, and no page");
}

#[test]
fn wrong_bytes_in_the_cache_are_noticed() {
    let fixture = fixture();
    fixture.fill(20_000);
    fixture.read_all(&fixture.fresh(), LONG);
    let wrong: [fn(&mut Vec<u8>); 3] = [|bytes| bytes[9] ^= 1, Vec::clear, |bytes| bytes.push(0)];
    for wrong in wrong {
        fixture.told.blobs.lock().unwrap().values_mut().for_each(wrong);
        fixture.read_all(&fixture.fresh(), LONG);
    }
    // Kept in one place, asked for in another one.
    let mut blobs = fixture.told.blobs.lock().unwrap();
    let other = blobs.values().next().unwrap().clone();
    blobs.values_mut().for_each(|bytes| bytes.clone_from(&other));
    drop(blobs);
    fixture.read_all(&fixture.fresh(), LONG);
}

#[test]
fn nothing_is_kept_of_a_store_that_wants_none_and_no_value_that_is_large() {
    let fixture = fixture();
    fixture.fill(20_000);
    fixture.read_all(&fixture.fresh(), NEVER);
    // The root, and the leaf where the catalog ends: pages are of the store of their first key.
    let of_the_catalog = fixture.told.blobs.lock().unwrap().len();
    assert!(of_the_catalog <= 2, "{of_the_catalog}");
    let values_only = CacheDurations { pages: NONE, ..LONG };
    fixture.read_all(&fixture.fresh(), values_only);
    let sizes = |fixture: &Fixture| -> Vec<usize> {
        fixture.told.blobs.lock().unwrap().values().map(Vec::len).collect()
    };
    assert_eq!(sizes(&fixture).len(), of_the_catalog + 1);
    fixture.told.blobs.lock().unwrap().clear();
    let large = crate::random::Random::new(1).bytes(100_000);
    let mut transaction = fixture.one.begin(Mode::Write).unwrap();
    transaction.put(fixture.store, b"large", &large, Placement::Eager).unwrap();
    transaction.commit().unwrap();
    let fresh = fixture.fresh();
    let mut transaction = fresh.begin(Mode::Read).unwrap();
    transaction.set_cache_durations(fixture.store, values_only);
    for _ in 0..3 {
        assert!(
            transaction.get_with(fixture.store, b"large", |value| value == Some(large.as_slice())).unwrap()
        );
    }
    assert!(sizes(&fixture).len() <= of_the_catalog && sizes(&fixture).iter().all(|bytes| *bytes < 64 << 10));
}
