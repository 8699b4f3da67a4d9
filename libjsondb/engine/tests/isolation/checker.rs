//! Is there a serial order of the transactions in which every read sees what it saw? There is none if the graph of who must come
//! before whom has a cycle.
//!
//! Edges come from versions alone (`versions.rs`): a writer before its readers, a writer before its overwriter, a reader before the overwriter
//! of what it read. What did not commit counts as a transaction that only read: it saw one snapshot like all others.
//! [`Guarantee::Strict`] adds that a transaction comes before those that began after it had ended, and before the next of its session.

use crate::graph::{Components, Edge, Graph, Node, Step};
use crate::history::History;
use crate::report::{Kind, Numbered, Report};
use crate::versions::Versions;

/// What a history must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Equal to some serial order.
    Serializable,
    /// Equal to a serial order in which what was over before something began comes before it.
    Strict,
}

const WRITES: u8 = Edge::WriteWrite as u8;
const READS: u8 = Edge::WriteRead as u8;
const OVERWRITES: u8 = Edge::ReadWrite as u8;
const DEPENDENCIES: u8 = WRITES | READS | OVERWRITES;
const ORDER: u8 = Edge::Session as u8 | Edge::RealTime as u8;

/// Kinds of cycles, worst first: the edges that a cycle begins with, and those it goes on with. Each kind is looked for when
/// there is none of those before.
const CYCLES: [(Kind, u8, u8); 5] = [
    (Kind::G0, WRITES, WRITES),
    (Kind::G1c, READS, WRITES | READS),
    (Kind::GSingle, OVERWRITES, WRITES | READS),
    (Kind::G2, OVERWRITES, DEPENDENCIES),
    (Kind::RealTime, ORDER, DEPENDENCIES | ORDER),
];

/// Looks for every anomaly that there is a [`Kind`] of.
pub fn check(history: &History, guarantee: Guarantee) -> Report {
    let mut report = Report::default();
    let all = Numbered::new(history);
    let versions = Versions::new(history.model, &all, &mut report);
    let mut steps = dependencies(&versions);
    if guarantee == Guarantee::Strict {
        session_order(&all, &mut steps);
        real_time_order(&all, &mut steps);
    }
    report.edges = steps.len();
    let graph = Graph::new(all.transactions.len(), &steps);
    if !graph.components(DEPENDENCIES | ORDER).members.is_empty() {
        find_cycles(&graph, &all, &mut report);
    }
    report
}

fn dependencies(versions: &Versions<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |from: Node, edge, to: Node| {
        if from != to {
            steps.push(Step { from, edge, to });
        }
    };
    for (writer, overwriter) in versions.overwrites() {
        add(writer, Edge::WriteWrite, overwriter);
    }
    for read in &versions.reads {
        if let Some(writer) = versions.writer(read.at()) {
            add(writer, Edge::WriteRead, read.node);
        }
        if let Some(overwriter) = versions.overwriter(read.at()) {
            add(read.node, Edge::ReadWrite, overwriter);
        }
    }
    steps
}

fn session_order(all: &Numbered<'_>, steps: &mut Vec<Step>) {
    let nodes = 0..all.transactions.len() as Node;
    steps.extend(nodes.filter_map(|to| Some(Step { from: all.previous(to)?, edge: Edge::Session, to })));
}

/// Of all transactions that were over when one began, those that no other one lies between: at most one of each session.
fn real_time_order(all: &Numbered<'_>, steps: &mut Vec<Step>) {
    let mut moments = Vec::with_capacity(2 * all.transactions.len());
    for (node, transaction) in (0..).zip(&all.transactions) {
        // At the same moment nothing is over before another one begins.
        moments.push((transaction.began, false, node));
        moments.push((transaction.ended, true, node));
    }
    moments.sort_unstable();
    let mut over: Vec<Node> = Vec::new();
    for (_, ends, node) in moments {
        if ends {
            let began = all.get(node).began;
            over.retain(|earlier| all.get(*earlier).ended >= began);
            over.push(node);
        } else {
            steps.extend(over.iter().map(|from| Step { from: *from, edge: Edge::RealTime, to: node }));
        }
    }
}

/// Reports a short cycle of each component, of the worst kind that there is.
fn find_cycles(graph: &Graph, all: &Numbered<'_>, report: &mut Report) {
    for (kind, first, rest) in CYCLES {
        let components: Components = graph.components(first | rest);
        let before = report.count;
        for members in &components.members {
            if let Some(cycle) = graph.shortest_cycle(&components, members, first, rest) {
                report.add(kind, || describe(&cycle, all));
            }
        }
        if report.count > before {
            return;
        }
    }
}

fn describe(cycle: &[Step], all: &Numbered<'_>) -> String {
    let mut text = format!("a cycle of {} transactions", cycle.len());
    for step in cycle {
        text += &format!("\n  {}", all.describe(step.from));
        let to = all.name(step.to);
        text += &match step.edge {
            Edge::WriteWrite => format!("\n    was overwritten by {to}"),
            Edge::WriteRead => format!("\n    was read by {to}"),
            Edge::ReadWrite => format!("\n    did not see what was written by {to}"),
            Edge::Session => format!("\n    is followed in its session by {to}"),
            Edge::RealTime => format!("\n    was over before the beginning of {to}"),
        };
    }
    text
}
