//! What workers did, kept where a kill does not reach: a line before each commit, and one when it has ended.
//!
//! A worker that is killed between the two leaves a commit of which nobody knows what became of it. Every commit also writes its number
//! into a marker of its session: so the last number says whether that commit was stored, and that all acknowledged ones were.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use engine::{Placement, StoreId};
use serde::{Deserialize, Serialize};

use crate::history::{Outcome, Session, Transaction};
use crate::workload::Journal;

#[derive(Serialize, Deserialize)]
enum Line {
    Commits(Transaction),
    Ended(Transaction),
}

/// Where the lines of a session are.
pub fn path(outside: &Path, session: u64) -> PathBuf {
    outside.join(format!("session-{session}"))
}

/// Writes the lines of a session.
pub struct SessionFile {
    file: File,
    session: u64,
    markers: StoreId,
    commits: u64,
}

impl SessionFile {
    pub fn create(outside: &Path, session: u64, markers: StoreId) -> SessionFile {
        SessionFile { file: File::create_new(path(outside, session)).unwrap(), session, markers, commits: 0 }
    }

    /// With one call: what was written outlives the process.
    fn write(&mut self, line: &Line) {
        let mut text = serde_json::to_vec(line).unwrap();
        text.push(b'\n');
        self.file.write_all(&text).unwrap();
    }
}

impl Journal for SessionFile {
    fn before_commit(&mut self, transaction: &mut engine::Transaction, record: &Transaction) {
        self.commits += 1;
        let (key, number) = (self.session.to_be_bytes(), self.commits.to_be_bytes());
        transaction.put(self.markers, &key, &number, Placement::Auto).unwrap();
        self.write(&Line::Commits(record.clone()));
    }

    fn ended(&mut self, transaction: Transaction) {
        self.write(&Line::Ended(transaction));
    }
}

/// How the commit ended that was under way when a worker was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastCommit {
    None,
    Stored,
    NotStored,
}

/// What a session did, if its marker is `marker` in the end. Fails when that is none of what it can be.
pub fn read(outside: &Path, session: u64, marker: u64) -> Result<(Session, LastCommit), String> {
    // Killed before it began.
    let Ok(text) = fs::read(path(outside, session)) else { return Ok((Session::new(), LastCommit::None)) };
    let mut done = Session::new();
    let (mut commits, mut acknowledged, mut under_way) = (0, 0, None);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        // The last one may be cut off; what it says was acknowledged to nobody.
        let Some(line) = line.strip_suffix(b"\n") else { break };
        match serde_json::from_slice(line).unwrap() {
            Line::Commits(transaction) => {
                commits += 1;
                under_way = Some(transaction);
            }
            Line::Ended(transaction) => {
                let was_commit = under_way.take().is_some();
                if was_commit && transaction.outcome == Outcome::Committed {
                    acknowledged = commits;
                }
                done.push(transaction);
            }
        }
    }
    let last = match &mut under_way {
        None => LastCommit::None,
        Some(transaction) if marker == commits => {
            transaction.outcome = Outcome::Committed;
            LastCommit::Stored
        }
        Some(_) => LastCommit::NotStored,
    };
    done.extend(under_way);
    if last != LastCommit::Stored && marker != acknowledged {
        return Err(format!("session {session}: {acknowledged} is acknowledged, {marker} is stored"));
    }
    Ok((done, last))
}
