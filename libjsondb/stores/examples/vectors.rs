//! Loads vectors, builds the index, and asks: rows per second, queries per second, recall.
//!
//!     cargo run --release -p sop-stores --example vectors -- FOLDER BASE.npy QUERIES.npy [rows] [settings]
//!
//! `settings`: only those whose names contain this, and no exact search: recall is then not told.
//!
//! The files are NumPy's, float32 in C order. Recall is against an exact search by the store itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use stores::{
    ArrayQueryOptions, CancelToken, Database, DatabaseOptions, Session, VectorOptions, VectorStore,
};

const K: i64 = 10;
const BATCH: usize = 10_000;
/// The first one warms up.
const ROUNDS: usize = 4;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, base, queries, rest @ ..] = arguments.as_slice() else {
        return Err("FOLDER BASE.npy QUERIES.npy [rows]".into());
    };
    let (dimension, base) = npy(Path::new(base))?;
    let (_, queries) = npy(Path::new(queries))?;
    let rows = rest.first().map_or(Ok(usize::MAX), |rows| rows.parse())?.min(base.len() / dimension);
    let base = &base[..rows * dimension];
    let cancel = CancelToken::new();
    let options = DatabaseOptions { storage_path: folder.clone(), ..DatabaseOptions::default() };
    let database = Database::open(options)?;
    let store = VectorStore::open(Session::Auto(Arc::clone(&database)), "t", VectorOptions::default())?;
    if store.count(&cancel)? == 0 {
        load(&store, base, dimension, &cancel)?;
    }
    ask(&store, &queries, dimension, rest.get(1).map(String::as_str), &cancel)?;
    database.close()?;
    Ok(())
}

fn load(store: &VectorStore, base: &[f32], dimension: usize, cancel: &CancelToken) -> Result<(), Failure> {
    let started = Instant::now();
    for (batch, vectors) in base.chunks(BATCH * dimension).enumerate() {
        let rows = vectors.len() / dimension;
        let ids: Vec<String> = (0..rows).map(|row| (batch * BATCH + row).to_string()).collect();
        store.upsert_arrays(cancel, &ids, dimension, vectors, None)?;
    }
    println!("loaded  {:6.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    store.optimize(cancel)?;
    println!("optimized {:4.2} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn ask(
    store: &VectorStore,
    queries: &[f32],
    dimension: usize,
    only: Option<&str>,
    cancel: &CancelToken,
) -> Result<(), Failure> {
    let started = Instant::now();
    let exact = ArrayQueryOptions { exact: true, threads: 2, ..ArrayQueryOptions::default() };
    let asked = if only.is_some() { &queries[..0] } else { queries };
    let (truth, _) = store.query_arrays(cancel, dimension, asked, K, &exact)?;
    println!(
        "exact   {:6.0} queries/s",
        queries.len() as f64 / dimension as f64 / started.elapsed().as_secs_f64()
    );
    let recalls = [0.9, 0.95, 0.99].map(|recall| (format!("recall {recall}"), Some(recall), None));
    let probes = [4, 8, 16, 32, 64, 128].map(|nprobe| (format!("nprobe {nprobe}"), None, Some(nprobe)));
    for (name, target_recall, nprobe) in recalls.into_iter().chain(probes) {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let options = ArrayQueryOptions { target_recall, nprobe, ..ArrayQueryOptions::default() };
        let mut found = Vec::new();
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            found.clear();
            for query in queries.chunks_exact(dimension) {
                let started = Instant::now();
                found.extend(store.query_arrays(cancel, dimension, query, K, &options)?.0);
                if round > 0 {
                    times.push(started.elapsed().as_secs_f64());
                }
            }
        }
        times.sort_by(f64::total_cmp);
        let hits = truth.chunks(K as usize).zip(found.chunks(K as usize));
        let hits: usize =
            hits.map(|(truth, found)| truth.iter().filter(|id| found.contains(id)).count()).sum();
        println!(
            "{name:12} {:6.0} queries/s  recall {:.4}  p50 {:.0} us  p99 {:.0} us",
            times.len() as f64 / times.iter().sum::<f64>(),
            hits as f64 / truth.len() as f64,
            times[times.len() / 2] * 1e6,
            times[times.len() * 99 / 100] * 1e6,
        );
    }
    Ok(())
}

/// Columns and numbers of a file.
fn npy(path: &Path) -> Result<(usize, Vec<f32>), Failure> {
    let bytes = std::fs::read(path)?;
    let header = bytes.get(10..).ok_or("a short file")?;
    let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (header, data) = header.split_at_checked(len).ok_or("a short file")?;
    let header = std::str::from_utf8(header)?;
    if !header.contains("'<f4'") || !header.contains("'fortran_order': False") {
        return Err(format!("{} is not float32 in C order", path.display()).into());
    }
    let shape =
        header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).ok_or("no shape")?.0;
    let columns = shape.split(',').nth(1).ok_or("no matrix")?.trim().parse()?;
    Ok((columns, data.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect()))
}
