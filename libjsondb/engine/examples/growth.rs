//! Cost as data grows: `cargo run --release -p sop-engine --example growth FOLDER sizes 10000000 | stores | memory`.
//!
//! `sizes`: for 10,000 items and each ten times more up to the number given, loaded 100,000 to a transaction: what a get, a durable commit
//! and opening take, the memory that takes, and bytes on disk. `stores`: a commit with one item in each of 1 to 1,000 stores. `memory`: with
//! the options of a memory limit of 64 MB, loads 20 times as much in one transaction, reads it all, overwrites and reads a million
//! at random, and tells the peaks of memory.

mod measure;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{Database, Direction, Mode, Options, Placement, Result, StoreId};
use measure::{Random, folder_bytes, int_key, memory_mb, peak_mb, pool, reset_peak};

const CHUNK: u64 = 100_000;
const GETS: u64 = 100_000;
const COMMITS: usize = 200;

fn load(database: &Database, pool: &[Vec<u8>], keys: std::ops::Range<u64>) -> Result<StoreId> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("growth", b"")?;
    for index in keys {
        let value = &pool[index as usize % pool.len()];
        transaction.put(store, &int_key(index), value, Placement::Auto)?;
    }
    transaction.commit()?;
    Ok(store)
}

/// Microseconds of a get of a random key, in one transaction.
fn gets(database: &Database, store: StoreId, count: u64) -> Result<f64> {
    let mut random = Random(9);
    let mut transaction = database.begin(Mode::Read)?;
    let begun = Instant::now();
    for _ in 0..GETS {
        let found = transaction.get_with(store, &int_key(random.next() % count), |value| value.is_some())?;
        assert!(found);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / GETS as f64)
}

/// Median and worst of durable commits with an item in each store, in microseconds.
fn commits(database: &Database, stores: &[StoreId], value: &[u8]) -> Result<(f64, f64)> {
    let mut random = Random(5);
    let mut times = Vec::new();
    for _ in 0..COMMITS {
        let begun = Instant::now();
        let mut transaction = database.begin(Mode::Write)?;
        for store in stores {
            transaction.put(*store, &int_key(random.next() % 10_000), value, Placement::Auto)?;
        }
        transaction.commit()?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[COMMITS / 2], times[COMMITS - 1]))
}

fn sizes(folder: &Path, max: u64) -> Result<()> {
    let pool = pool();
    println!(
        "items | load items/s | get us | commit us p50, max | close, open + get ms | memory MB load, now | B/item"
    );
    let mut count = 10_000;
    while count <= max {
        let _ = std::fs::remove_dir_all(folder);
        reset_peak();
        let before = memory_mb();
        let database = Database::open(folder, &Options::default())?;
        let begun = Instant::now();
        let mut store = StoreId(0);
        for start in (0..count).step_by(CHUNK as usize) {
            store = load(&database, &pool, start..count.min(start + CHUNK))?;
        }
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        let load_mb = peak_mb() - before;
        gets(&database, store, count)?;
        let get = gets(&database, store, count)?;
        let (median, worst) = commits(&database, &[store], &pool[0])?;
        let begun = Instant::now();
        database.close()?;
        let close = begun.elapsed().as_secs_f64() * 1e3;
        drop(database);
        let begun = Instant::now();
        let database = Database::open(folder, &Options::default())?;
        database.get_with(store, &int_key(count / 2), |value| assert!(value.is_some()))?;
        let open = begun.elapsed().as_secs_f64() * 1e3;
        println!(
            "{count} | {rate:.0} | {get:.2} | {median:.0}, {worst:.0} | {close:.1}, {open:.2} | {load_mb:.0}, {:.0} | {:.1}",
            memory_mb() - before,
            folder_bytes(folder) as f64 / count as f64
        );
        database.close()?;
        count *= 10;
    }
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

fn stores(folder: &Path) -> Result<()> {
    println!("stores in a commit | us p50, max | us per store");
    for count in [1, 10, 100, 1000] {
        let _ = std::fs::remove_dir_all(folder);
        let database = Database::open(folder, &Options::default())?;
        let mut transaction = database.begin(Mode::Write)?;
        let stores: Result<Vec<StoreId>> =
            (0..count).map(|index| transaction.ensure_store(&format!("store {index}"), b"")).collect();
        transaction.commit()?;
        let (median, worst) = commits(&database, &stores?, &pool()[0])?;
        println!("{count} | {median:.0}, {worst:.0} | {:.1}", median / f64::from(count));
        database.close()?;
    }
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

fn memory(folder: &Path) -> Result<()> {
    const LIMIT: u64 = 64 << 20;
    let pool = pool();
    // As the stores divide a memory limit.
    let options = Options {
        page_cache_bytes: LIMIT / 16 * 5,
        memtable_bytes: LIMIT / 16,
        write_set_bytes: LIMIT / 24,
        ..Options::default()
    };
    let item: u64 = (pool.iter().map(Vec::len).sum::<usize>() / pool.len()) as u64 + 9;
    let count = 20 * LIMIT / item;
    let _ = std::fs::remove_dir_all(folder);
    let database = Database::open(folder, &options)?;
    let before = memory_mb();
    reset_peak();
    println!("{count} items of {item} bytes: {} MB, limit 64 MB", (count * item) >> 20);
    let mut begun = Instant::now();
    let mut tell = |what: &str, items: u64| {
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{what}: {:.0} items/s, memory +{:.0} MB at most",
            items as f64 / seconds,
            peak_mb() - before
        );
        reset_peak();
        begun = Instant::now();
    };
    let store = load(&database, &pool, 0..count)?;
    tell("loaded in one transaction, in order", count);
    let mut seen = 0;
    let all = Bound::Unbounded;
    database.begin(Mode::Read)?.visit(store, all, all, Direction::Forward, &mut |_, _| {
        seen += 1;
        Ok(true)
    })?;
    assert_eq!(seen, count);
    tell("scanned", count);
    let mut random = Random(3);
    for _ in 0..10 {
        let mut transaction = database.begin(Mode::Write)?;
        for _ in 0..CHUNK {
            let index = random.next();
            let value = &pool[index as usize % pool.len()];
            transaction.put(store, &int_key(index % count), value, Placement::Auto)?;
        }
        transaction.commit()?;
    }
    tell("1,000,000 overwritten at random, 100,000 to a transaction", 10 * CHUNK);
    let times: Result<Vec<f64>> = (0..10).map(|_| gets(&database, store, count)).collect();
    tell("1,000,000 read at random", 10 * GETS);
    println!("us of a get, of each 100,000: {:.0?}", times?);
    database.close()?;
    tell("closed", count);
    println!("{:.1} bytes per item on disk", folder_bytes(folder) as f64 / count as f64);
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("sop-growth"), PathBuf::from);
    match arguments.next().as_deref() {
        Some("stores") => stores(&folder),
        Some("memory") => memory(&folder),
        _ => sizes(&folder, arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)),
    }
}
