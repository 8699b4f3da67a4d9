//! Who wrote each version, who read it, and which version came next: taken from what transactions saw, from nothing that the
//! engine says about its order. On the way the anomalies that need no cycle are found.
//!
//! The next version of a list is the next element in any read of it. The next version of a register is what a committed transaction
//! wrote after it had read the one before: in any serial order nobody writes in between. After a blind write nothing is known.

use std::collections::HashMap;

use crate::graph::Node;
use crate::history::{Event, Model, Variable, Version};
use crate::report::{Kind, Numbered, Report};

/// A version, or what was there before the first one.
type At = (Variable, Option<Version>);

/// Who wrote a version, and whether it was the last thing that the transaction did to the variable.
pub struct Writer {
    pub node: Node,
    is_final: bool,
}

/// A read of what other transactions had left behind.
pub struct Read<'h> {
    pub node: Node,
    pub variable: Variable,
    seen: &'h [Version],
}

impl Read<'_> {
    pub fn at(&self) -> At {
        (self.variable, self.seen.last().copied())
    }
}

/// How it is known which version came next.
#[derive(Clone, Copy)]
enum Source {
    WrittenBy(Node),
    SeenBy(Node),
}

pub struct Versions<'h> {
    model: Model,
    all: &'h Numbered<'h>,
    writers: HashMap<(Variable, Version), Writer>,
    next: HashMap<At, (Version, Source)>,
    /// The first read of each variable by each transaction; what did not commit saw a snapshot like all others.
    pub reads: Vec<Read<'h>>,
}

impl<'h> Versions<'h> {
    pub fn new(model: Model, all: &'h Numbered<'h>, report: &mut Report) -> Self {
        let mut versions =
            Self { model, all, writers: HashMap::new(), next: HashMap::new(), reads: Vec::new() };
        let nodes = 0..all.transactions.len() as Node;
        nodes.clone().for_each(|node| versions.note_writes(node, report));
        nodes.for_each(|node| versions.follow(node, report));
        versions.check_reads(report);
        versions
    }

    /// Committed: the transaction that wrote this version.
    pub fn writer(&self, (variable, version): At) -> Option<Node> {
        let node = self.writers.get(&(variable, version?))?.node;
        self.all.get(node).committed().then_some(node)
    }

    /// The transaction that overwrote this version.
    pub fn overwriter(&self, at: At) -> Option<Node> {
        let (version, _) = self.next.get(&at)?;
        self.writer((at.0, Some(*version)))
    }

    /// All pairs of transactions of which the second overwrote a version of the first.
    pub fn overwrites(&self) -> impl Iterator<Item = (Node, Node)> {
        self.next.keys().filter_map(|at| Some((self.writer(*at)?, self.overwriter(*at)?)))
    }

    fn note_writes(&mut self, node: Node, report: &mut Report) {
        let mut newest: HashMap<Variable, Version> = HashMap::new();
        for (variable, version) in self.all.get(node).writes() {
            if let Some(other) = self.writers.insert((variable, version), Writer { node, is_final: true }) {
                let (one, other) = (self.all.name(other.node), self.all.name(node));
                report.add(Kind::DuplicateVersion, || {
                    format!("{one} and {other} both wrote {variable} = {version}")
                });
            }
            if let Some(replaced) = newest.insert(variable, version)
                && let Some(writer) = self.writers.get_mut(&(variable, replaced))
            {
                writer.is_final = replaced == version;
            }
        }
    }

    /// Goes through a transaction, knowing at each event what it must see of what it met before.
    fn follow(&mut self, node: Node, report: &mut Report) {
        let transaction = self.all.get(node);
        let mut expected: HashMap<Variable, Vec<Version>> = HashMap::new();
        for event in &transaction.events {
            match event {
                Event::Read { variable, seen } => match expected.get(variable) {
                    Some(expected) if expected == seen => {}
                    Some(expected) => report.add(Kind::Internal, || {
                        format!("{variable} must be {expected:?} for {}", self.all.describe(node))
                    }),
                    None => {
                        expected.insert(*variable, seen.clone());
                        self.reads.push(Read { node, variable: *variable, seen });
                    }
                },
                Event::Write { variable, version } => {
                    let before = expected.get(variable).map(|seen| seen.last().copied());
                    if let Some(before) = before
                        && transaction.committed()
                    {
                        self.note_next((*variable, before), *version, Source::WrittenBy(node), report);
                    }
                    let value = expected.entry(*variable).or_default();
                    self.model.write(value, *version);
                }
            }
        }
    }

    fn note_next(&mut self, at: At, version: Version, source: Source, report: &mut Report) {
        let (known, known_by) = *self.next.entry(at).or_insert((version, source));
        if known == version {
            return;
        }
        let (variable, before) = at;
        match (known_by, source) {
            (Source::WrittenBy(one), Source::WrittenBy(other)) => report.add(Kind::LostUpdate, || {
                let (one, other) = (self.all.describe(one), self.all.describe(other));
                format!("both read {variable} = {before:?} and wrote over it:\n  {one}\n  {other}")
            }),
            (
                Source::WrittenBy(one) | Source::SeenBy(one),
                Source::WrittenBy(other) | Source::SeenBy(other),
            ) => {
                report.add(Kind::IncompatibleOrder, || {
                    let (one, other) = (self.all.describe(one), self.all.describe(other));
                    format!("{before:?} of {variable} is followed by {known} and by {version}:\n  {one}\n  {other}")
                });
            }
        }
    }

    fn check_reads(&mut self, report: &mut Report) {
        // Lists that end alike must be alike: the first of them is looked at element by element.
        let mut known: HashMap<At, &'h [Version]> = HashMap::new();
        let reads = std::mem::take(&mut self.reads);
        for read in &reads {
            if *known.entry(read.at()).or_insert(&[]) != read.seen {
                known.insert(read.at(), read.seen);
                self.check_elements(read, report);
            }
            self.check_newest(read, report);
        }
        self.reads = reads;
    }

    fn check_elements(&mut self, read: &Read<'_>, report: &mut Report) {
        let variable = read.variable;
        for (index, version) in read.seen.iter().enumerate() {
            if read.seen[..index].contains(version) {
                report.add(Kind::DuplicateVersion, || {
                    format!("{version} is there twice in {variable} for {}", self.all.describe(read.node))
                });
                return;
            }
            match self.writers.get(&(variable, *version)).map(|writer| writer.node) {
                None => report.add(Kind::UnknownVersion, || {
                    format!("nobody wrote {variable} = {version}, seen by {}", self.all.describe(read.node))
                }),
                Some(writer) if !self.all.get(writer).committed() => report.add(Kind::AbortedRead, || {
                    let (one, other) = (self.all.describe(writer), self.all.describe(read.node));
                    format!("{variable} = {version} was read:\n  {one}\n  {other}")
                }),
                Some(_) => {}
            }
            if self.model == Model::Lists {
                let before = index.checked_sub(1).map(|index| read.seen[index]);
                self.note_next((variable, before), *version, Source::SeenBy(read.node), report);
            }
        }
    }

    fn check_newest(&self, read: &Read<'_>, report: &mut Report) {
        let (variable, Some(version)) = read.at() else { return };
        let Some(writer) = self.writers.get(&(variable, version)) else { return };
        if writer.node == read.node {
            report.add(Kind::Internal, || {
                format!(
                    "{variable} = {version} was read before it was written by {}",
                    self.all.describe(read.node)
                )
            });
        } else if !writer.is_final {
            report.add(Kind::IntermediateRead, || {
                let (one, other) = (self.all.describe(writer.node), self.all.describe(read.node));
                format!("{variable} = {version} was read:\n  {one}\n  {other}")
            });
        }
    }
}
