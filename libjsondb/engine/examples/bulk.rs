//! Bulk loads, measured: `cargo run --release -p sop-engine --example bulk [FOLDER]`.
//!
//! Prints items (or megabytes) per second from the first put to the end of the commit, the growth of the process's peak memory,
//! and the bytes on disk per item after closing.

mod measure;

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{Database, Mode, Options, Placement, Result};
use measure::{Random, folder_bytes, int_key, memory_mb, peak_mb, pool, reset_peak};

fn text_key(index: u64) -> Vec<u8> {
    format!("user:{:08x}:{index}", index.wrapping_mul(2_654_435_761) as u32).into_bytes()
}

fn composite_key(index: u64) -> Vec<u8> {
    let region = ["us", "eu", "uk", "fr", "de", "jp", "br", "in"][index as usize % 8];
    let mut key = format!("{region}\0dept-{:02}\0", index / 8 % 16).into_bytes();
    key.extend_from_slice(&int_key(index));
    key
}

struct Load<'a> {
    name: &'static str,
    key: fn(u64) -> Vec<u8>,
    order: &'a [u64],
    value: &'a dyn Fn(u64) -> Vec<u8>,
    transactions: usize,
}

impl Load<'_> {
    /// Seconds, with everything encoded before the clock starts. In chunks, so that memory is the engine's.
    fn run(&self, database: &Database) -> Result<f64> {
        let mut seconds = 0.0;
        for order in self.order.chunks(self.order.len().div_ceil(self.transactions)) {
            let begun = Instant::now();
            let mut transaction = database.begin(Mode::Write)?;
            let store = transaction.ensure_store("bulk", b"")?;
            seconds += begun.elapsed().as_secs_f64();
            for chunk in order.chunks(1000) {
                let items: Vec<_> =
                    chunk.iter().map(|index| ((self.key)(*index), (self.value)(*index))).collect();
                let begun = Instant::now();
                for (key, value) in &items {
                    transaction.put(store, key, value, Placement::Auto)?;
                }
                seconds += begun.elapsed().as_secs_f64();
            }
            let begun = Instant::now();
            transaction.commit()?;
            seconds += begun.elapsed().as_secs_f64();
        }
        Ok(seconds)
    }
}

fn report(folder: &Path, load: &Load<'_>, rounds: usize) -> Result<()> {
    let name = load.name;
    let _ = std::fs::remove_dir_all(folder);
    let database = Database::open(folder, &Options::default())?;
    reset_peak();
    let before = memory_mb();
    for round in 0..rounds {
        let seconds = load.run(&database)?;
        let rate = load.order.len() as f64 / seconds;
        let megabytes = load.order.iter().map(|index| (load.value)(*index).len()).sum::<usize>() as f64 / 1e6;
        println!(
            "{name} {round}: {rate:.0} items/s, {:.0} MB/s, memory +{:.0} MB",
            megabytes / seconds,
            peak_mb() - before
        );
    }
    let begun = Instant::now();
    database.close()?;
    let per_item = folder_bytes(folder) as f64 / load.order.len() as f64;
    println!("{name}: closed in {:.1} ms, {per_item:.1} bytes per item", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let database = Database::open(folder, &Options::default())?;
    let mut transaction = database.begin(Mode::Read)?;
    let store = transaction.ensure_store("bulk", b"")?;
    let found = transaction.get(store, &(load.key)(load.order[0]))?.is_some();
    println!("{name}: opened, first get ({found}) in {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    drop(transaction);
    database.close()?;
    std::fs::remove_dir_all(folder).ok();
    Ok(())
}

impl<'a> Load<'a> {
    fn of(
        name: &'static str,
        key: fn(u64) -> Vec<u8>,
        order: &'a [u64],
        value: &'a dyn Fn(u64) -> Vec<u8>,
        transactions: usize,
    ) -> Self {
        Load { name, key, order, value, transactions }
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("sop-bulk"), PathBuf::from);
    let wanted: Vec<String> = arguments.collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let pool = pool();
    let record = |index: u64| pool[index as usize % pool.len()].clone();
    let noise = |len: usize| {
        move |index: u64| {
            let mut random = Random(index + 1);
            (0..len / 16).flat_map(|_| format!("{:016x}", random.next()).into_bytes()).collect()
        }
    };
    let (small, page, large) = (&record, &noise(4096), &noise(1 << 20));
    let sorted: Vec<u64> = (0..1_000_000).collect();
    let mixed = Random(7).shuffled(100_000);
    let loads = [
        (Load::of("in-order", int_key, &sorted, small, 1), 1),
        (Load::of("random-int", int_key, &mixed, small, 1), 1),
        (Load::of("random-text", text_key, &mixed, small, 1), 1),
        (Load::of("random-composite", composite_key, &mixed, small, 1), 1),
        (Load::of("overwrite", int_key, &mixed, small, 5), 6),
        (Load::of("4-kb", int_key, &sorted[..20_000], page, 1), 1),
        (Load::of("1-mb", int_key, &sorted[..100], large, 10), 1),
    ];
    for (load, rounds) in loads {
        if is_wanted(load.name) {
            report(&folder, &load, rounds)?;
        }
    }
    Ok(())
}
