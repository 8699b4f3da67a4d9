//! What workers recorded: sessions of transactions, their reads and writes.

use serde::{Deserialize, Serialize};

/// Number of a key.
pub type Variable = u64;
/// What a write leaves behind; no two writes of a variable have the same.
pub type Version = u64;

/// What a variable holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Model {
    /// All versions ever appended, oldest first.
    Lists,
    /// The newest version, which may be that of a removal.
    Registers,
}

impl Model {
    /// What is seen of a variable once `version` was written over `before`.
    pub fn write(self, before: &mut Vec<Version>, version: Version) {
        if self == Model::Registers {
            before.clear();
        }
        before.push(version);
    }
}

/// One access to a variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// What was there, newest last; nothing when the variable was never written.
    Read { variable: Variable, seen: Vec<Version> },
    /// A list got one more version; or a register was set or removed.
    Write { variable: Variable, version: Version },
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Committed,
    RolledBack,
    Conflict,
    SnapshotTooOld,
}

impl Event {
    pub fn variable(&self) -> Variable {
        match self {
            Event::Read { variable, .. } | Event::Write { variable, .. } => *variable,
        }
    }
}

/// What one transaction did, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub events: Vec<Event>,
    /// Reads, scans, updates and blind writes; a scan or an update is several events.
    pub operations: u64,
    pub outcome: Outcome,
    /// Where the engine says that it belongs: the commit's own number; the snapshot's when nothing was committed.
    pub seq: u64,
    /// Just before it began and just after it ended: nanoseconds of one clock of the machine.
    pub began: u64,
    pub ended: u64,
}

impl Transaction {
    pub fn committed(&self) -> bool {
        self.outcome == Outcome::Committed
    }

    pub fn writes(&self) -> impl Iterator<Item = (Variable, Version)> {
        self.events.iter().filter_map(|event| match event {
            Event::Write { variable, version } => Some((*variable, *version)),
            Event::Read { .. } => None,
        })
    }
}

/// Transactions of one thread, one after the other.
pub type Session = Vec<Transaction>;

/// Everything that happened to one database.
pub struct History {
    pub model: Model,
    pub sessions: Vec<Session>,
}

impl History {
    pub fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.sessions.iter().flatten()
    }
}
