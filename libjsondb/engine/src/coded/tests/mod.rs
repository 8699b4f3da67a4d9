//! A database whose segments are spread over drives, with its drives lost, damaged and brought back.

mod failures;
mod losses;
mod roles;
mod upkeep;

use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::{DriveState, RepairScope, ShardName};
use crate::common::scratch;
use crate::{
    CancelToken, Coding, Database, Direction, ErrorKind, Mode, Options, Placement, Progress, Result,
};

/// A database folder and its drives.
struct Bench {
    root: tempfile::TempDir,
    options: Options,
}

impl Bench {
    fn new(data: usize, parity: usize) -> Bench {
        let root = scratch();
        let coding = coding(root.path(), "", data, parity);
        Bench { options: options(vec![coding]), root }
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn open(&self) -> Database {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Database> {
        std::fs::create_dir_all(self.home()).unwrap();
        Database::open_alone(&self.home(), &self.options)
    }

    fn drive(&self, index: usize) -> PathBuf {
        self.root.path().join(format!("drive-{index}"))
    }

    /// A database of which everything is in the tree, on the drives.
    fn filled(&self) -> Database {
        let database = self.open();
        fill(&database, 0..200);
        database.checkpoint().unwrap();
        database
    }

    /// The shards on a drive.
    fn shards(&self, index: usize) -> Vec<PathBuf> {
        let folder = self.drive(index).join("set-1");
        let names = crate::os::list(&folder).unwrap().into_iter().map(|(name, _)| name);
        names.filter(|name| ShardName::from_file_name(name).is_some()).map(|name| folder.join(name)).collect()
    }

    /// A drive goes, and an empty one takes its place.
    fn replace(&self, index: usize) {
        std::fs::remove_dir_all(self.drive(index)).unwrap();
        std::fs::create_dir(self.drive(index)).unwrap();
    }
}

fn coding(root: &Path, store: &str, data: usize, parity: usize) -> Coding {
    let drives = (0..data + parity).map(|index| root.join(format!("drive-{index}"))).collect();
    Coding { store: store.to_owned(), aliases: Vec::new(), data, parity, drives, repair: false }
}

fn options(coding: Vec<Coding>) -> Options {
    Options { coding, ..Options::default() }
}

fn value_of(key: u32) -> Vec<u8> {
    crate::common::Random::new(u64::from(key)).bytes(if key.is_multiple_of(10) { 20_000 } else { 100 })
}

fn fill(database: &Database, keys: std::ops::Range<u32>) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("s", b"").unwrap();
    for key in keys {
        transaction.put(store, &key.to_be_bytes(), &value_of(key), Placement::Auto).unwrap();
    }
    transaction.commit().unwrap();
}

/// Reads everything, in order and one by one.
fn check(database: &Database, keys: std::ops::Range<u32>) -> Result<()> {
    let mut transaction = database.begin(Mode::Read)?;
    let (store, _) = transaction.store("s")?.unwrap();
    let entries =
        transaction.scan(store, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)?;
    assert_eq!(entries.len(), keys.len());
    for (key, entry) in keys.clone().zip(entries) {
        assert_eq!(entry.key, key.to_be_bytes());
        assert!(transaction.load(&entry.value)? == value_of(key), "{key}");
    }
    for key in keys {
        database.get_with(store, &key.to_be_bytes(), |value| assert!(value.unwrap() == value_of(key)))?;
    }
    Ok(())
}

fn with_progress<R>(work: impl FnOnce(&mut Progress<'_>) -> R) -> R {
    work(&mut Progress::new(&CancelToken::new(), &mut |_, _| true))
}

#[test]
fn what_is_coded_lies_on_the_drives_only_and_comes_back() {
    let bench = Bench::new(2, 1);
    let database = bench.open();
    fill(&database, 0..200);
    check(&database, 0..200).unwrap();
    database.checkpoint().unwrap();
    check(&database, 0..200).unwrap();
    assert_eq!(std::fs::read_dir(bench.home().join("seg")).unwrap().count(), 0);
    database.verify().unwrap();
    database.close().unwrap();
    let database = bench.open();
    check(&database, 0..200).unwrap();
    let error = Database::open_alone(&bench.home(), &Options::default()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}
