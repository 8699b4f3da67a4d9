//! What a checker found: anomalies by their usual names.

use std::fmt;

use crate::graph::Node;
use crate::history::{History, Transaction};

/// Kinds of anomalies, with the names of Adya and Elle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two writes left the same version.
    DuplicateVersion,
    /// A version was read that nobody wrote.
    UnknownVersion,
    /// A transaction did not see its own write, saw one that it had not made yet, or saw a variable change under it.
    Internal,
    /// Two reads of a list disagree about its order.
    IncompatibleOrder,
    /// A write of a transaction that did not commit was read.
    AbortedRead,
    /// A write was read that its transaction itself replaced.
    IntermediateRead,
    /// Two transactions read the same version and both overwrote it.
    LostUpdate,
    /// A cycle of writes.
    G0,
    /// A cycle of writes and reads of what was written.
    G1c,
    /// A cycle with one transaction that read what another one overwrote: read skew.
    GSingle,
    /// A cycle with several of them: write skew.
    G2,
    /// A cycle only because of what was over before something else began: a stale read, say.
    RealTime,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::DuplicateVersion => "duplicate version",
            Kind::UnknownVersion => "unknown version",
            Kind::Internal => "internal inconsistency",
            Kind::IncompatibleOrder => "incompatible order",
            Kind::AbortedRead => "G1a (aborted read)",
            Kind::IntermediateRead => "G1b (intermediate read)",
            Kind::LostUpdate => "lost update",
            Kind::G0 => "G0 (dirty write)",
            Kind::G1c => "G1c (circular information flow)",
            Kind::GSingle => "G-single (read skew)",
            Kind::G2 => "G2 (write skew)",
            Kind::RealTime => "not in the order of real time",
        })
    }
}

pub struct Anomaly {
    pub kind: Kind,
    pub text: String,
}

/// More than this need not be read to know that something is wrong.
const ANOMALIES_KEPT: usize = 8;

/// The first anomalies and the number of all.
#[derive(Default)]
pub struct Report {
    pub anomalies: Vec<Anomaly>,
    pub count: u64,
    /// Edges of the graph.
    pub edges: usize,
}

impl Report {
    pub fn add(&mut self, kind: Kind, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.anomalies.len() < ANOMALIES_KEPT {
            self.anomalies.push(Anomaly { kind, text: text() });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} anomalies, the first of them:", self.count)?;
        self.anomalies.iter().try_for_each(|anomaly| writeln!(f, "{}: {}", anomaly.kind, anomaly.text))
    }
}

/// The transactions of a history, numbered.
pub struct Numbered<'h> {
    pub transactions: Vec<&'h Transaction>,
    /// Session of each, and place in it.
    places: Vec<(usize, usize)>,
}

impl<'h> Numbered<'h> {
    pub fn new(history: &'h History) -> Self {
        let sessions = history.sessions.iter().enumerate();
        let places = sessions
            .flat_map(|(session, transactions)| (0..transactions.len()).map(move |place| (session, place)));
        Self { transactions: history.transactions().collect(), places: places.collect() }
    }

    /// The one before in the same session.
    pub fn previous(&self, node: Node) -> Option<Node> {
        (self.places[node as usize].1 > 0).then(|| node - 1)
    }

    pub fn get(&self, node: Node) -> &'h Transaction {
        self.transactions[node as usize]
    }

    pub fn name(&self, node: Node) -> String {
        let (session, place) = self.places[node as usize];
        format!("session {session} transaction {place}")
    }

    /// Its name and what it did.
    pub fn describe(&self, node: Node) -> String {
        let transaction = self.get(node);
        let mut text = format!("{} ({:?}, at {}):", self.name(node), transaction.outcome, transaction.seq);
        for event in &transaction.events {
            text += &match event {
                crate::history::Event::Read { variable, seen } => format!(" read {variable} = {seen:?}"),
                crate::history::Event::Write { variable, version } => {
                    format!(" write {variable} = {version}")
                }
            };
        }
        text
    }
}
