//! What the measuring programs share: records, keys, memory, sizes on disk.

#![allow(dead_code)] // No program needs everything.

use std::path::Path;

/// xorshift64*.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn shuffled(&mut self, count: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, (self.next() % (index as u64 + 1)) as usize);
        }
        order
    }
}

/// Records of about 105 bytes of JSON, as `kv_bench.py` stores them.
pub fn pool() -> Vec<Vec<u8>> {
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

pub fn int_key(index: u64) -> Vec<u8> {
    [&[3][..], &(index + (1 << 63)).to_be_bytes()].concat()
}

pub fn folder_bytes(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        bytes +=
            if path.is_dir() { folder_bytes(&path) } else { entry.metadata().map_or(0, |file| file.len()) };
    }
    bytes
}

fn status_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Largest memory of this process since [`reset_peak`], in MB; 0 where the system does not say.
pub fn peak_mb() -> f64 {
    status_mb("VmHWM:")
}

/// Memory of this process now.
pub fn memory_mb() -> f64 {
    status_mb("VmRSS:")
}

/// Measures the peak from now on; where the system cannot, it stays that of the whole run.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
