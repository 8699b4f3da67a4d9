//! Bulk loads, measured: `cargo run --release -p sop-engine --example bulk [FOLDER]`.
//!
//! Prints items (or megabytes) per second from the first put to the end of the commit, the growth of the process's peak memory,
//! and the bytes on disk per item after closing.

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{Database, Mode, Options, Placement, Result};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn shuffled(&mut self, count: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, (self.next() % (index as u64 + 1)) as usize);
        }
        order
    }
}

/// Records of about 105 bytes of JSON, as `kv_bench.py` stores them.
fn pool() -> Vec<Vec<u8>> {
    let mut random = Random(42);
    (0..5000)
        .map(|id| {
            let (name, mail, age) = (random.next() >> 40, random.next() >> 32, 18 + random.next() % 73);
            let score = random.next() % 1_000_000;
            let text = format!(
                r#"{{"id":{id},"name":"user-{name:06x}","email":"{mail:08x}@example.org","age":{age},"tags":["a{}","b"],"score":0.{score:06}}}"#,
                id % 7
            );
            [&[0], text.as_bytes()].concat()
        })
        .collect()
}

fn int_key(index: u64) -> Vec<u8> {
    [&[3][..], &(index + (1 << 63)).to_be_bytes()].concat()
}

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

fn folder_bytes(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        bytes +=
            if path.is_dir() { folder_bytes(&path) } else { entry.metadata().map_or(0, |file| file.len()) };
    }
    bytes
}

/// Peak memory of this process in MB; 0 where the system does not say.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

fn report(name: &str, folder: &Path, load: &Load<'_>, rounds: usize) -> Result<()> {
    let _ = std::fs::remove_dir_all(folder);
    let database = Database::open(folder, &Options::default())?;
    let before = peak_mb();
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
    let loads: [(&str, fn(u64) -> Vec<u8>, &[u64], &dyn Fn(u64) -> Vec<u8>, usize, usize); 7] = [
        ("in-order", int_key, &sorted, small, 1, 1),
        ("random-int", int_key, &mixed, small, 1, 1),
        ("random-text", text_key, &mixed, small, 1, 1),
        ("random-composite", composite_key, &mixed, small, 1, 1),
        ("overwrite", int_key, &mixed, small, 5, 6),
        ("4-kb", int_key, &sorted[..20_000], page, 1, 1),
        ("1-mb", int_key, &sorted[..100], large, 10, 1),
    ];
    for (name, key, order, value, transactions, rounds) in loads {
        if is_wanted(name) {
            report(name, &folder, &Load { key, order, value, transactions }, rounds)?;
        }
    }
    Ok(())
}
