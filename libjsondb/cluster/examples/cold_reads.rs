//! What reading pages costs that are not in memory: without a coordinator, and with a Redis server beside the files.
//!
//! `cargo run --release -p sop-cluster --example cold_reads -- FOLDER REDIS_URL`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::Redis;
use engine::{CachedBlob, Coordinator, Database, Mode, Options, Placement, StoreId};
use uuid::Uuid;

const ROWS: u64 = 500_000;
const READS: u64 = 50_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("cold_reads FOLDER REDIS_URL");
    let url = arguments.next().expect("cold_reads FOLDER REDIS_URL");
    let redis = Arc::new(Redis::default());
    redis.open(&url).expect("a Redis server");
    let store = fill(&open(&folder, None));
    for round in 0..3 {
        for (name, coordinator) in [("without", None), ("with Redis", Some(&redis))] {
            let database = open(&folder, coordinator);
            let took = read(&database, store);
            println!("{round} {name}: {:.2} us a read", took.as_secs_f64() * 1e6 / READS as f64);
            database.close().expect("close");
        }
    }
    let (database, page) = (Uuid::from_u128(1), vec![7; 6_000]);
    let blob = |number| CachedBlob { segment: (1, number), offset: 0 };
    let keep =
        || (0..1000).for_each(|number| redis.cache(database, blob(number), &page, Duration::from_secs(60)));
    println!("a page kept in Redis: {:.1} us", mean(keep));
    let find = || (0..1000).for_each(|number| assert!(redis.cached(database, blob(number)).is_some()));
    println!("a page found in Redis: {:.1} us", mean(find));
}

fn open(folder: &str, coordinator: Option<&Arc<Redis>>) -> Database {
    // Few pages stay in memory.
    let options = Options { page_cache_bytes: 1 << 20, ..Options::default() };
    let coordinator = coordinator.map(|redis| Arc::<Redis>::clone(redis) as Arc<dyn Coordinator>);
    Database::open_shared(Path::new(folder), &options, coordinator).expect("a folder to share")
}

fn fill(database: &Database) -> StoreId {
    let mut transaction = database.begin(Mode::Write).expect("begin");
    let store = transaction.ensure_store("rows", b"").expect("a store");
    for row in 0..ROWS {
        let value = format!("{:x}", row.wrapping_mul(0x9E37_79B9_7F4A_7C15)).repeat(6);
        transaction.put(store, &row.to_be_bytes(), value.as_bytes(), Placement::Auto).expect("put");
    }
    transaction.commit().expect("commit");
    database.close().expect("close");
    store
}

fn read(database: &Database, store: StoreId) -> Duration {
    let mut transaction = database.begin(Mode::Read).expect("begin");
    let began = Instant::now();
    for read in 0..READS {
        let key = (read.wrapping_mul(0x9E37_79B9_7F4A_7C15) % ROWS).to_be_bytes();
        transaction.get_with(store, &key, |value| assert!(value.is_some())).expect("get");
    }
    began.elapsed()
}

/// Microseconds of one of a thousand.
fn mean(thousand: impl FnOnce()) -> f64 {
    let began = Instant::now();
    thousand();
    began.elapsed().as_secs_f64() * 1e3
}
