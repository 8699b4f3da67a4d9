//! Moments that ordinary use seldom meets: disks that refuse, groups of commits that meet, calls that fail half way.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use engine::{Database, Direction, Error, ErrorKind, Mode, Options, Placement, Transaction};
use fs2::FileExt as _;

fn small() -> Options {
    Options { memtable_bytes: 64 << 10, page_cache_bytes: 256 << 10, ..Options::default() }
}

fn begin(database: &Database) -> Transaction {
    database.begin(Mode::Write).unwrap()
}

fn put(database: &Database, key: u32, len: usize, placement: Placement) -> Result<(), Error> {
    let mut transaction = database.begin(Mode::Write)?;
    let store = transaction.ensure_store("s", b"")?;
    transaction.put(store, &key.to_be_bytes(), &vec![key as u8; len], placement)?;
    transaction.commit().map(drop)
}

fn load(database: &Database, key: u32) -> Result<Option<Vec<u8>>, Error> {
    let mut transaction = database.begin(Mode::Read)?;
    let Some((store, _)) = transaction.store("s")? else { return Ok(None) };
    let value = transaction.get(store, &key.to_be_bytes())?;
    value.map(|value| transaction.load(&value)).transpose()
}

fn files(folder: &Path, sub: &str) -> usize {
    fs::read_dir(folder.join(sub)).unwrap().count()
}

#[test]
fn checkpoints_that_fail_leave_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), &small()).unwrap();
    put(&database, 1, 5000, Placement::Auto).unwrap();
    database.checkpoint().unwrap();
    put(&database, 2, 5000, Placement::Auto).unwrap();
    let before = files(folder.path(), "seg");
    let (manifests, away) = (folder.path().join("man"), folder.path().join("away"));
    fs::rename(&manifests, &away).unwrap();
    // Left by a process that was killed: the space that the checkpoint may need.
    fs::write(folder.path().join("seg").join(format!("{:016x}-{:016x}.seg", 7, 1)), b"left").unwrap();
    for _ in 0..5 {
        database.checkpoint().unwrap_err();
    }
    assert_eq!(files(folder.path(), "seg"), before);
    fs::rename(&away, &manifests).unwrap();
    database.checkpoint().unwrap();
    database.verify().unwrap();
    assert_eq!(load(&database, 2).unwrap(), Some(vec![2; 5000]));
}
