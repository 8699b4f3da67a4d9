//! What is left when the power goes, a call to the operating system fails, or a process dies: rebuilt in memory, call by call.
//!
//! Real processes that are killed are in `tests/kills.rs`.

mod os_faults;
mod power_cut;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::common::Random;
use crate::{Coding, Database, Direction, Mode, Options, Placement, Result, Transaction};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOSPC: i32 = 28;

/// A state of the one store the campaigns write to.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// The key under which every transaction leaves its number, so that a state tells which one it is.
const NUMBER: &[u8] = b"number";

/// Another one, written by commits that are appended behind one that is not durable: they do not meet.
const BEHIND: &[u8] = b"behind";

/// What the campaigns run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One folder.
    Plain,
    /// Segments lie on three drives, folders in that of the database, of which one may be lost.
    Coded,
}

fn drive(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("drive-{index}"))
}

/// Small enough that checkpoints, new log files and garbage collection happen all the time, and that transactions with a value of some
/// kilobytes are committed as runs.
fn options(folder: &Path, shape: Shape) -> Options {
    let drives = (0..3).map(|index| drive(folder, index)).collect();
    let (store, aliases) = (String::new(), Vec::new());
    let coding = Coding { store, aliases, data: 2, parity: 1, drives, repair: false };
    Options {
        memtable_bytes: 24 << 10,
        page_cache_bytes: 64 << 10,
        write_set_bytes: 64 << 10,
        coding: if shape == Shape::Coded { vec![coding] } else { Vec::new() },
        ..Options::default()
    }
}

/// A handle with name, pin and locks of its own, as another process has.
fn open_process(folder: &Path, shape: Shape) -> Result<Database> {
    Database::open_alone(folder, &options(folder, shape))
}

/// A transaction of some writes and deletes, in the database and in the model.
fn commit(database: &Database, random: &mut Random, number: u64, model: &mut Model) -> Result<()> {
    change(database, random, number, model)?.commit().map(drop)
}

/// As [`commit`], not committed yet.
fn change(database: &Database, random: &mut Random, number: u64, model: &mut Model) -> Result<Transaction> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("s", b"")?;
    for _ in 0..random.below(8) + 1 {
        let key = random.below(40).to_be_bytes().to_vec();
        if random.one_in(5) {
            transaction.delete(store, &key)?;
            model.remove(&key);
            continue;
        }
        let len = match random.below(12) {
            0 => 70_000 + random.below(5000),
            1 | 2 => 4000 + random.below(4000),
            _ => random.below(300),
        };
        let value: Vec<u8> = (0..len).map(|index| (index + number) as u8).collect();
        let placement = if random.one_in(6) { Placement::Eager } else { Placement::Auto };
        transaction.put(store, &key, &value, placement)?;
        model.insert(key, value);
    }
    transaction.put(store, NUMBER, &number.to_be_bytes(), Placement::Auto)?;
    model.insert(NUMBER.to_vec(), number.to_be_bytes().to_vec());
    Ok(transaction)
}

/// A transaction that meets none of the others.
fn change_behind(database: &Database, number: u64, model: &mut Model) -> Result<Transaction> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("s", b"")?;
    transaction.put(store, BEHIND, &number.to_be_bytes(), Placement::Auto)?;
    model.insert(BEHIND.to_vec(), number.to_be_bytes().to_vec());
    Ok(transaction)
}

fn state(database: &Database) -> Result<Model> {
    let mut transaction = database.begin(Mode::Read)?;
    let Some((store, _)) = transaction.store("s")? else { return Ok(Model::new()) };
    let entries =
        transaction.scan(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)?;
    entries.into_iter().map(|entry| Ok((entry.key, transaction.load(&entry.value)?))).collect()
}

/// Number of the last transaction in a state; 0 for the empty one.
fn number_of(model: &Model) -> u64 {
    let number =
        |key| model.get(key).and_then(|bytes| bytes.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
    number(NUMBER).max(number(BEHIND))
}
