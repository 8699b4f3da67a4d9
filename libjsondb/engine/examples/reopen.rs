//! What opening costs after a process died in a loop of small commits:
//! `cargo run --release -p sop-engine --example reopen -- FOLDER COMMITS`. FOLDER must be new.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use engine::{Database, Durability, Mode, Options, Placement, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [program, folder, commits, role @ ..] = &arguments[..] else {
        return Err(engine::Error::new(engine::ErrorKind::Invalid, "usage: reopen FOLDER COMMITS"));
    };
    let (folder, commits) = (PathBuf::from(folder), commits.parse().unwrap_or(7000));
    if role == ["die"] {
        return commit_and_die(&folder, commits);
    }
    if role.is_empty() {
        let died = Command::new(program).arg(&folder).args([commits.to_string().as_str(), "die"]).status();
        println!("{commits} commits, then {died:?}");
    }
    let began = Instant::now();
    let database = Database::open(&folder, &Options::default())?;
    let opened = began.elapsed();
    let mut read = database.begin(Mode::Read)?;
    let (store, _) = read.store("items")?.unwrap_or((engine::StoreId::CATALOG, Vec::new()));
    assert!(read.get(store, &(commits - 1).to_be_bytes())?.is_some());
    let whole = began.elapsed();
    println!("open {:.3} ms, with the first get {:.3} ms", millis(opened), millis(whole));
    Ok(())
}

fn millis(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn commit_and_die(folder: &Path, commits: u64) -> Result<()> {
    let database = Database::open(folder, &Options::default())?;
    for number in 0..commits {
        let mut transaction = database.begin(Mode::Write)?;
        let store = transaction.ensure_store("items", b"")?;
        transaction.put(store, &number.to_be_bytes(), &[b'x'; 105], Placement::Auto)?;
        transaction.set_durability(Durability::Relaxed);
        transaction.commit()?;
    }
    database.flush()?;
    std::process::abort()
}
