//! The databases that are damaged: small, and with every kind of file and structure in use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::{Database, Mode, Options, Placement, StoreId, Transaction};

use crate::common::scratch;
use crate::content::Content;

/// Files of a folder by their relative path.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A folder as a power cut would leave it (nothing is closed), and what it answers.
pub struct Subject {
    pub files: Files,
    pub content: Content,
}

/// The folder at three moments.
pub struct Subjects {
    /// The commits behind the checkpoint lie in two log files.
    pub two_logs: Subject,
    /// One commit before `newest`.
    pub before: Subject,
    /// The checkpoint's record lies in the newest log file, between commits. A reader keeps older manifests, with what they alone
    /// need.
    pub newest: Subject,
}

/// So small that a log file is closed at 14 KiB.
fn options() -> Options {
    // The largest transaction is committed as a run.
    let write_set_bytes = 192 << 10;
    Options { memtable_bytes: 14 << 10, page_cache_bytes: 64 << 10, write_set_bytes, ..Options::default() }
}

impl Subjects {
    /// Whether commits fall into the middle of a checkpoint is a race: tried until they do.
    pub fn build() -> Subjects {
        let subjects = std::iter::repeat_with(Subjects::try_build).flatten().next().unwrap();
        subjects.check();
        subjects
    }

    fn try_build() -> Option<Subjects> {
        let folder = scratch();
        let database = Database::open(folder.path(), &options()).unwrap();
        fill(&database, "users", 0..30, 260);
        fill(&database, "dropped", 0..2, 20);
        database.checkpoint().unwrap();
        let reader = database.begin(Mode::Read).unwrap();
        fill(&database, "large", 0..2, 4200);
        commit_beside(&database, || database.checkpoint().unwrap());
        let two_logs = Subject::of(&database);
        if !two_logs.needs_two_logs() {
            return None;
        }
        fill(&database, "users", 5..17, 261);
        change(&database, |transaction, store| {
            transaction.delete(store, &key(3)).unwrap();
            transaction.drop_store("dropped").unwrap();
        });
        eager(&database, 2, 500);
        database.checkpoint().unwrap();
        eager(&database, 2, 600);
        fill(&database, "bulk", 0..40, 400);
        commit_as_group(&database, folder.path());
        let before = Subject::of(&database);
        fill(&database, "users", 60..61, 10);
        let newest = Subject::of(&database);
        drop(reader);
        Some(Subjects { two_logs, before, newest })
    }

    /// Everything that can be damaged is there.
    fn check(&self) {
        let count = |subject: &Subject, start: &str, end: &str| {
            let text = subject.files.keys().map(|path| path.to_str().unwrap());
            text.filter(|path| path.starts_with(start) && path.ends_with(end)).count()
        };
        assert!(count(&self.two_logs, "log/", ".wal") >= 2);
        for (start, end, least) in [
            ("FORMAT", "", 1),
            ("log/LOCK", "", 1),
            ("log/TAIL", "", 1),
            ("log/CHECKPOINT", "", 1),
            ("log/", ".wal", 1),
            ("man/", ".man", 3),
            ("seg/", ".seg", 4),
            ("pin/", ".lock", 1),
        ] {
            assert!(
                count(&self.newest, start, end) >= least,
                "{start}*{end} of {:?}",
                self.newest.files.keys()
            );
        }
        let newest = self.newest.files.iter().rfind(|(path, _)| path.starts_with("man")).unwrap().1;
        // Behind the root and the segments in use (libjsondb/docs/format.md).
        let in_use = u32::from_le_bytes(newest[69..73].try_into().unwrap()) as usize;
        let retired = &newest[73 + 32 * in_use..][..4];
        assert_ne!(retired, [0; 4], "no segment is retired");
        assert!(self.newest.bytes() <= 512 << 10);
    }
}

impl Subject {
    pub fn of(database: &Database) -> Subject {
        // A checkpoint in the background may be at work: read until it is not.
        let folder = database.folder();
        let stays = |files: &Files| read(folder).is_ok_and(|again| again == *files);
        let files = std::iter::repeat_with(|| read(folder)).flatten().find(stays).unwrap();
        Subject { content: Content::of(database), files }
    }

    /// Whether commits that the newest manifest does not hold lie in a log file before the newest.
    fn needs_two_logs(&self) -> bool {
        let manifest = self.files.keys().rfind(|path| path.starts_with("man")).unwrap();
        number(self.log()) > number(manifest) + 1
    }

    /// The newest log file.
    pub fn log(&self) -> &Path {
        self.files.keys().rfind(|path| is_log(path)).unwrap()
    }

    pub fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }
}

/// All files below a folder. The zeros that log files grow ahead by are cut to a sector: there are 64 KiB of them and more.
fn read(folder: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    for sub in ["", "log", "man", "seg", "pin", "tmp"] {
        for entry in fs::read_dir(folder.join(sub))? {
            let path = entry?.path();
            if path.is_file() {
                let mut bytes = fs::read(&path)?;
                if is_log(&path) {
                    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                    bytes.truncate(used.next_multiple_of(8).max(4096) + 512);
                }
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    Ok(files)
}

/// Where the frames of a log file begin.
pub fn frames(log: &[u8]) -> Vec<usize> {
    (4096..log.len() - 64).step_by(8).filter(|at| log[*at..*at + 4] == *b"SOPF").collect()
}

pub fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

/// The sequence number that a log file's or manifest's name begins with.
fn number(path: &Path) -> u64 {
    path.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap()
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn change(database: &Database, work: impl Fn(&mut Transaction, StoreId)) {
    let mut transaction = database.begin(Mode::Write).unwrap();
    let store = transaction.ensure_store("users", b"people").unwrap();
    work(&mut transaction, store);
    transaction.commit().unwrap();
}

/// One transaction that sets keys of a store to values of `len` bytes and counts them.
fn fill(database: &Database, name: &str, keys: std::ops::Range<u32>, len: usize) {
    change(database, |transaction, users| {
        let store =
            if name == "users" { users } else { transaction.ensure_store(name, name.as_bytes()).unwrap() };
        for number in keys.clone() {
            transaction.put(store, &key(number), &vec![number as u8; len], Placement::Auto).unwrap();
        }
        transaction.add_to_counter(store, b"count", keys.len() as i64).unwrap();
    });
}

/// One transaction whose values go to a segment of their own.
fn eager(database: &Database, count: u32, len: usize) {
    change(database, |transaction, store| {
        for number in 0..count {
            let value: Vec<u8> = (0..len).map(|at| (at as u32 + number) as u8).collect();
            transaction.put(store, &key(1000 + len as u32 + number), &value, Placement::Eager).unwrap();
        }
    });
}

/// Small commits are made while `work` is done.
fn commit_beside(database: &Database, work: impl FnOnce()) {
    std::thread::scope(|scope| {
        scope.spawn(|| (0..20).for_each(|_| fill(database, "users", 50..51, 10)));
        work();
    });
}

/// Commits until a frame holds several transactions: while the log is locked, they gather.
fn commit_as_group(database: &Database, folder: &Path) {
    let lock = fs::File::open(folder.join("log/LOCK")).unwrap();
    loop {
        lock.lock().unwrap();
        std::thread::scope(|scope| {
            for number in 70..74 {
                scope.spawn(move || fill(database, "users", number..number + 1, 10));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            lock.unlock().unwrap();
        });
        let (_, log) = read(folder).unwrap().into_iter().rfind(|(path, _)| is_log(path)).unwrap();
        if frames(&log).iter().any(|at| log[at + 24] > 1) {
            return;
        }
    }
}
