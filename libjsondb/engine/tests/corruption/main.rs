//! Every byte of a small database is flipped, and every file emptied, cut, removed, extended and exchanged: whatever is not as it was
//! written is refused with the file and the place, and everything else is answered as before. Which old copies of files
//! cannot be told from what was written last: libjsondb/docs/protocol.md.
//!
//! `SOP_COUNT` is how many bits of each byte are flipped, one at a time: 8 are all. One bit, not several: damage that leaves a value near
//! the old one is the hardest to notice.

#![allow(clippy::unwrap_used, missing_docs)]

mod blobs;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod subject;
mod trial;

use std::path::Path;

use common::{Random, count, seed};
use engine::{Database, ErrorKind, Options};
use subject::{Files, Subject, Subjects, frames};
use trial::{Checkpoint, Damage, Trial, Verdict};

/// Lengths and places of damage that tear a file where a disk does.
const SECTOR: usize = 512;

/// Cases that were tried.
#[derive(Default)]
struct Figures {
    detected: usize,
    harmless: usize,
}

/// Tries all cases, on all processors.
fn judge_all<I: Iterator<Item = Damage>>(
    subject: &Subject,
    checkpoint: Checkpoint,
    cases: impl Fn() -> I + Sync,
) -> Figures {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let work = |worker| {
        let trial = Trial::new(&subject.files, &subject.content);
        let mut figures = Figures::default();
        for damage in cases().skip(worker).step_by(workers) {
            match trial.judge(&damage, checkpoint)? {
                Verdict::Detected => figures.detected += 1,
                Verdict::Harmless => figures.harmless += 1,
            }
        }
        Ok(figures)
    };
    let done: Vec<Result<Figures, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sum = Figures::default();
    for figures in done {
        let figures = figures.unwrap_or_else(|what| panic!("{what}"));
        sum.detected += figures.detected;
        sum.harmless += figures.harmless;
    }
    sum
}

#[test]
fn every_byte_flipped() {
    let subjects = Subjects::build();
    let bits = count(1).min(8);
    // A file that is the same in both is damaged in the first.
    let first = &subjects.two_logs;
    let in_first = flip(first, &first.files, bits);
    let mut others = subjects.newest.files.clone();
    others.retain(|path, bytes| first.files.get(path) != Some(bytes));
    let in_second = flip(&subjects.newest, &others, bits);
    println!(
        "{} bytes, {bits} bits of each flipped: {} detected, {} harmless",
        (in_first.detected + in_second.detected + in_first.harmless + in_second.harmless) / bits as usize,
        in_first.detected + in_second.detected,
        in_first.harmless + in_second.harmless,
    );
}

fn flip(subject: &Subject, files: &Files, bits: u64) -> Figures {
    judge_all(subject, Checkpoint::No, || {
        let mut random = Random::new(seed());
        files.iter().flat_map(|(path, bytes)| (0..bytes.len()).map(move |at| (path, bytes, at))).flat_map(
            move |(path, bytes, at)| {
                let first = random.below(8);
                (first..first + bits).map(move |bit| {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= 1 << (bit % 8);
                    Damage::to("a bit flipped", path, bytes, at)
                })
            },
        )
    })
}

#[test]
fn every_file_cut_removed_extended_and_exchanged() {
    let subjects = Subjects::build();
    for subject in [&subjects.two_logs, &subjects.newest] {
        let figures = judge_all(subject, Checkpoint::Yes, || {
            let one = subject.files.iter().flat_map(|(path, bytes)| damages(path, bytes));
            one.chain(exchanges(&subject.files))
        });
        println!("files: {} cases detected, {} harmless", figures.detected, figures.harmless);
        assert!(figures.detected > 0 && figures.harmless > 0);
    }
}

/// What may become of one file.
fn damages(path: &Path, bytes: &[u8]) -> Vec<Damage> {
    let mut random = Random::new(seed() + bytes.len() as u64);
    let mut damages = vec![Damage { what: "removed", files: vec![(path.to_owned(), None)], at: 0 }];
    let cuts = (0..bytes.len()).step_by(SECTOR);
    let anywhere = (0..4 * count(1)).map(|_| random.below(bytes.len().max(1) as u64) as usize);
    for at in cuts.clone().chain(anywhere.collect::<Vec<_>>()).chain([0]) {
        damages.push(Damage::to("cut", path, bytes[..at].to_vec(), bytes.len()));
    }
    for at in cuts {
        let mut zeroed = bytes.to_vec();
        let end = bytes.len().min(at + SECTOR);
        zeroed[at..end].fill(0);
        damages.push(Damage::to("a sector of zeros", path, zeroed, end));
    }
    let noise: Vec<u8> = (0..100).map(|_| random.next() as u8).collect();
    for more in [&noise[..1], &noise, bytes] {
        damages.push(Damage::to("extended", path, [bytes, more].concat(), usize::MAX));
    }
    damages
}

/// Every two files exchange their contents, and every file gets that of another, also cut or filled up to its own length.
fn exchanges(files: &Files) -> Vec<Damage> {
    let mut damages = Vec::new();
    for (path, bytes) in files {
        for (other_path, other) in files.iter().filter(|(other, _)| *other != path) {
            let copy = |other: &[u8]| Damage::to("a copy of another file", path, other.to_vec(), usize::MAX);
            let mut fitted = other.clone();
            fitted.resize(bytes.len(), 0);
            damages.extend([copy(other), copy(&fitted)]);
            if path < other_path {
                let files =
                    vec![(path.clone(), Some(other.clone())), (other_path.clone(), Some(bytes.clone()))];
                damages.push(Damage { what: "exchanged", files, at: usize::MAX });
            }
        }
    }
    damages
}

#[test]
fn pages_and_values_exchanged() {
    let subject = Subjects::build().newest;
    let figures = judge_all(&subject, Checkpoint::Yes, || blobs::exchanges(&subject.files).into_iter());
    println!("blobs exchanged: {} cases detected, {} harmless", figures.detected, figures.harmless);
    assert!(figures.detected > 0);
}

/// Replaces files by those of another subject.
fn older(what: &'static str, from: &Subject, paths: &[&Path]) -> Damage {
    let files = paths.iter().map(|path| (path.to_path_buf(), Some(from.files[*path].clone()))).collect();
    Damage { what, files, at: usize::MAX }
}

#[test]
fn an_older_log_is_detected_by_its_announcement_and_an_older_announcement_is_harmless() {
    let Subjects { before, newest, .. } = Subjects::build();
    let (log, tail) = (newest.log(), Path::new("log/TAIL"));
    let trial = Trial::new(&newest.files, &newest.content);
    let judge = |damage| trial.judge(&damage, Checkpoint::Yes);
    assert_eq!(judge(older("log", &before, &[log])), Ok(Verdict::Detected));
    assert_eq!(judge(older("announcement", &before, &[tail])), Ok(Verdict::Harmless));
    // Both together are the database as it was, and nobody can tell.
    let trial = Trial::new(&newest.files, &before.content);
    let both = trial.judge(&older("log and announcement", &before, &[log, tail]), Checkpoint::Yes);
    assert_eq!(both, Ok(Verdict::Harmless));
}

#[test]
fn a_torn_tail_is_dropped_and_a_damaged_log_is_not() {
    let Subjects { before, newest, .. } = Subjects::build();
    let bytes = &newest.files[newest.log()];
    let frames = frames(bytes);
    let last = *frames.last().unwrap();
    let flip = |at: usize, tail: Option<Vec<u8>>| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        let files = vec![(newest.log().to_owned(), Some(bytes)), (Path::new("log/TAIL").to_owned(), tail)];
        Damage { what: "a byte flipped behind the announcement", files, at }
    };
    // The last frame, not announced: a write that a power cut tore.
    let torn = Trial::new(&newest.files, &before.content);
    for tail in [None, Some(before.files[Path::new("log/TAIL")].clone())] {
        for at in [last, last + 70] {
            assert_eq!(torn.judge(&flip(at, tail.clone()), Checkpoint::Yes), Ok(Verdict::Harmless));
        }
    }
    // Followed by another frame: it had been stored.
    let stored = Trial::new(&newest.files, &newest.content);
    for at in &frames[..frames.len() - 1] {
        for at in [*at, at + 70] {
            assert_eq!(stored.judge(&flip(at, None), Checkpoint::Yes), Ok(Verdict::Detected), "{at}");
        }
    }
}

#[test]
fn a_log_file_followed_by_another_never_counts_as_torn() {
    let subject = Subjects::build().two_logs;
    let newest = subject.log();
    let (first, bytes) = subject.files.iter().find(|(path, _)| subject::is_log(path)).unwrap();
    assert_ne!(first, newest);
    let trial = Trial::new(&subject.files, &subject.content);
    for at in frames(bytes) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        for damaged in [flipped, bytes[..at].to_vec()] {
            let files = vec![(first.clone(), Some(damaged)), (Path::new("log/TAIL").to_owned(), None)];
            let damage = Damage { what: "a closed log file damaged, no announcement", files, at };
            assert_eq!(trial.judge(&damage, Checkpoint::No), Ok(Verdict::Detected));
        }
    }
}

#[test]
fn a_missing_format_file_is_noticed_though_the_log_holds_no_commit() {
    let folder = common::scratch();
    let options = Options { memtable_bytes: 4 << 10, ..Options::default() };
    let database = Database::open(folder.path(), &options).unwrap();
    content::write(&database, &[7; 5000]).unwrap();
    // The second one removes the log of the first.
    database.checkpoint().unwrap();
    database.checkpoint().unwrap();
    let subject = Subject::of(&database);
    assert!(frames(&subject.files[subject.log()]).is_empty());
    database.close().unwrap();
    drop(database);
    std::fs::remove_file(folder.path().join("FORMAT")).unwrap();
    let refused = Database::open(folder.path(), &options).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.corrupt_at().unwrap().file.ends_with("FORMAT"), "{refused}");
}

#[test]
fn a_newer_format_version_is_told_from_a_damaged_one() {
    let folder = common::scratch();
    Database::open(folder.path(), &Options::default()).unwrap().close().unwrap();
    let path = folder.path().join("FORMAT");
    let mut format = std::fs::read(&path).unwrap();
    format[8] = 2;
    let open = |format: &[u8]| {
        std::fs::write(&path, format).unwrap();
        Database::open(folder.path(), &Options::default()).map(drop).unwrap_err()
    };
    assert_eq!(open(&format).kind(), ErrorKind::Corrupt);
    let crc = crc32fast::hash(&format[..28]);
    format[28..].copy_from_slice(&crc.to_le_bytes());
    let refused = open(&format);
    assert!(refused.kind() == ErrorKind::Invalid && refused.message().contains("version 2"), "{refused}");
}
