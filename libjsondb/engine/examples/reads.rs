//! What reading costs, inside the engine: `cargo run --release -p sop-engine --example reads -- [FOLDER] [ITEMS] [NAME]`.
//! Loads the items once (8-byte keys, values of 105 bytes), then prints the best of several passes of each kind of read
//! whose name holds NAME.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{Database, Direction, Durability, Mode, Options, Placement, Result, StoreId};

const PASSES: usize = 5;
const LOOKUPS: u64 = 300_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("sop-reads"), PathBuf::from);
    let items: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    load(&folder, items)?;

    let began = Instant::now();
    let database = Database::open(&folder, &Options::default())?;
    let store = database.begin(Mode::Read)?.store("items")?.map_or(StoreId::CATALOG, |(store, _)| store);
    database.get_with(store, &key(items / 2), |value| assert!(value.is_some()))?;
    println!("{:<44} {:>10.3} ms", "open, find the store, first get", began.elapsed().as_secs_f64() * 1e3);

    points(&database, store, items)?;
    ranges(&database, store, items)?;
    transactions(&database)?;
    beside_commits(&database, store, items)?;
    database.close()
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Numbers below `items`, each pass the same, in no order.
fn scattered(items: u64) -> impl Iterator<Item = u64> {
    (0..LOOKUPS).map(move |index| index.wrapping_mul(0x9E37_79B9_7F4A_7C15) % items)
}

fn load(folder: &Path, items: u64) -> Result<()> {
    let database = Database::open(folder, &Options::default())?;
    let mut transaction = database.begin(Mode::Write)?;
    if transaction.store("items")?.is_some() {
        return database.close();
    }
    let store = transaction.ensure_store("items", b"")?;
    for number in 0..items {
        let value =
            format!("{{\"id\":{number},\"name\":\"item {number}\",\"text\":\"{:060}\"}}", number % 5000);
        transaction.put(store, &key(number), value.as_bytes(), Placement::Auto)?;
        if number % 100_000 == 99_999 {
            transaction.commit()?;
            transaction = database.begin(Mode::Write)?;
        }
    }
    transaction.commit()?;
    database.checkpoint()?;
    database.close()
}

fn is_wanted(what: &str) -> bool {
    std::env::args().nth(3).is_none_or(|name| what.contains(&name))
}

/// Prints nanoseconds per operation: the best of several passes.
fn time(what: &str, mut pass: impl FnMut() -> Result<u64>) -> Result<()> {
    if !is_wanted(what) {
        return Ok(());
    }
    let mut best = f64::MAX;
    for _ in 0..PASSES {
        let began = Instant::now();
        let count = pass()?;
        best = best.min(began.elapsed().as_nanos() as f64 / count as f64);
    }
    println!("{what:<44} {best:>10.1} ns  {:>10.0} k/s", 1e6 / best);
    Ok(())
}

fn points(database: &Database, store: StoreId, items: u64) -> Result<()> {
    let mut read = database.begin(Mode::Read)?;
    time("get in one transaction", || {
        for number in scattered(items) {
            assert!(read.get(store, &key(number))?.is_some());
        }
        Ok(LOOKUPS)
    })?;
    time("get_with in one transaction", || {
        for number in scattered(items) {
            assert!(read.get_with(store, &key(number), |value| value.is_some())?);
        }
        Ok(LOOKUPS)
    })?;
    time("get_cached_with in one transaction", || {
        for number in scattered(items) {
            let found = read.get_cached_with(store, &key(number), |value| value.is_some())?;
            assert!(found.map_or_else(|| read.get_with(store, &key(number), |value| value.is_some()), Ok)?);
        }
        Ok(LOOKUPS)
    })?;
    time("get_with in one transaction, rising keys", || {
        for number in 0..LOOKUPS.min(items) {
            assert!(read.get_with(store, &key(number), |value| value.is_some())?);
        }
        Ok(LOOKUPS.min(items))
    })?;
    time("get_with, own snapshot", || {
        for number in scattered(items) {
            assert!(database.get_with(store, &key(number), |value| value.is_some())?);
        }
        Ok(LOOKUPS)
    })?;
    time("get_cached_with, own snapshot", || {
        for number in scattered(items) {
            let found = database.get_cached_with(store, &key(number), |value| value.is_some())?;
            assert!(
                found.map_or_else(|| database.get_with(store, &key(number), |value| value.is_some()), Ok)?
            );
        }
        Ok(LOOKUPS)
    })?;
    let mut write = database.begin(Mode::Write)?;
    time("get_with in one write transaction", || {
        for number in scattered(items) {
            assert!(write.get_with(store, &key(number), |value| value.is_some())?);
        }
        Ok(LOOKUPS)
    })
}

fn ranges(database: &Database, store: StoreId, items: u64) -> Result<()> {
    let mut read = database.begin(Mode::Read)?;
    for direction in [Direction::Forward, Direction::Backward] {
        time(&format!("scan of everything, {direction:?}, per item"), || {
            let mut count = 0;
            read.visit(store, Bound::Unbounded, Bound::Unbounded, direction, &mut |_, _| {
                count += 1;
                Ok(true)
            })?;
            assert_eq!(count, items);
            Ok(count)
        })?;
        time(&format!("page of 100, {direction:?}, per page"), || {
            let pages = LOOKUPS / 30;
            for number in scattered(items).take(pages as usize) {
                let from = key(number);
                let (start, end) = match direction {
                    Direction::Forward => (Bound::Included(&from[..]), Bound::Unbounded),
                    Direction::Backward => (Bound::Unbounded, Bound::Included(&from[..])),
                };
                let mut left = 100;
                read.visit(store, start, end, direction, &mut |_, _| {
                    left -= 1;
                    Ok(left > 0)
                })?;
            }
            Ok(pages)
        })?;
    }
    Ok(())
}

fn transactions(database: &Database) -> Result<()> {
    for (what, mode) in [("read", Mode::Read), ("write", Mode::Write)] {
        time(&format!("begin and drop, {what}"), || {
            for _ in 0..LOOKUPS {
                database.begin(mode)?;
            }
            Ok(LOOKUPS)
        })?;
        time(&format!("begin_brief and drop, {what}"), || {
            for _ in 0..LOOKUPS {
                database.begin_brief(mode)?;
            }
            Ok(LOOKUPS)
        })?;
    }
    Ok(())
}

/// What commits that no checkpoint has taken yet cost those who read others.
fn beside_commits(database: &Database, store: StoreId, items: u64) -> Result<()> {
    const WHAT: &str = "get_with, own snapshot, over 20,000 commits";
    if !is_wanted(WHAT) {
        return Ok(());
    }
    for number in scattered(items).take(20_000) {
        let mut write = database.begin_brief(Mode::Write)?;
        write.put(store, &key(items + number), b"a later one", Placement::Auto)?;
        write.set_durability(Durability::Relaxed);
        write.commit()?;
    }
    time(WHAT, || {
        for number in scattered(items) {
            assert!(database.get_with(store, &key(number), |value| value.is_some())?);
        }
        Ok(LOOKUPS)
    })?;
    let mut write = database.begin(Mode::Write)?;
    for number in scattered(items).take(20_000) {
        write.delete(store, &key(items + number))?;
    }
    write.commit()?;
    database.checkpoint()
}
