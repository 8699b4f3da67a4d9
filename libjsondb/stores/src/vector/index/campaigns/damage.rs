//! Damaged files below a vector store: what is asked is answered right, or refused with an error that says so; never a wrong hit.
//!
//! `SOP_COUNT` sets the number of damages, `SOP_SEED` the first one.

use std::fs;
use std::path::{Path, PathBuf};

use super::audit::answers;
use super::{Broken, Writer, copy, make, open, prepared};
use crate::ErrorCode;
use crate::common::{self, Random, scratch};

const STEPS: u64 = 6;
/// One row of so many is looked at.
const ONE_OF: usize = 7;

/// All files with content, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Damages a file somewhere; tells how. Most of what is stored lies in the largest.
fn damage(folder: &Path, random: &mut Random) -> String {
    let mut files = files(folder);
    files.sort_by_key(|path| fs::metadata(path).unwrap().len());
    let path = match random.below(3) {
        0 => &files[random.below(files.len() as u64) as usize],
        _ => &files[files.len() - 1 - random.below(2.min(files.len() as u64)) as usize],
    };
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len() as u64) as usize;
    let how = match random.below(4) {
        0 => {
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
            "zeros"
        }
        1 => {
            let (from, end) = (random.below(bytes.len() as u64) as usize, bytes.len().min(at + 512));
            let end = end.min(at + bytes.len() - from);
            bytes.copy_within(from..from + (end - at), at);
            "bytes from elsewhere"
        }
        _ => {
            bytes[at] ^= 1 << random.below(8);
            "a flipped bit"
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{how} at {at} of {}", path.strip_prefix(folder).unwrap().display())
}

/// What the damage does: true when somebody was told of it. Wrong answers are a failure, as are errors that tell of none.
fn meets(writer: &Writer, folder: &Path) -> Result<bool, Broken> {
    let told = |broken| match broken {
        Broken::Told(error) if error.code() == ErrorCode::Corruption => Ok(true),
        other => Err(other),
    };
    let database = open(folder);
    let read = answers(&database, &writer.rows, ONE_OF).map_or_else(told, |()| Ok(false))?;
    // Index transactions read what queries do not; their errors are nobody's.
    let mut next = writer.clone();
    let written = make(&database, &next.step(), || ());
    let answered = match written {
        Ok(()) => answers(&database, &next.rows, ONE_OF),
        Err(error) => Err(error.into()),
    };
    Ok(answered.map_or_else(told, |()| Ok(false))? || read)
}

#[test]
fn damage_below_a_vector_store_is_told_or_harmless() {
    let (wanted, first) = (common::count(32), common::seed());
    let folder = scratch();
    let base = folder.path().join("base");
    let writer = prepared(&base, &format!("d{first}"), STEPS);
    let (mut random, mut told) = (Random::new(first), 0);
    for number in 0..wanted {
        // Of its own: what this process keeps in memory of one is not taken for another's.
        let place = folder.path().join(format!("copy-{number}"));
        copy(&base, &place);
        let how = damage(&place, &mut random);
        match meets(&writer, &place) {
            Ok(was_told) => told += u64::from(was_told),
            Err(broken) => panic!("seed {first}, number {number}, {how}: {broken}"),
        }
        fs::remove_dir_all(&place).unwrap();
    }
    println!("damaged files: {wanted}, {told} told, the others harmless, from seed {first}");
}
