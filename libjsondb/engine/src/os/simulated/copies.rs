//! Copies of a database, each on a server of its own: a machine may be cut off from one of them, and what is on one may be lost.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::State;
use super::server::{EIO, Node, ROOT, error};

/// How a copy's folder is named: with its index behind.
const NAME: &str = "copy";

pub(super) struct Copies {
    /// Of each copy whether what is on it may be lost.
    may_be_lost: Vec<bool>,
    /// Until when each machine does not reach it.
    cut_until: Vec<Vec<Duration>>,
    /// Where files are that were opened.
    of_nodes: HashMap<Node, usize>,
}

impl Copies {
    pub(super) fn new(may_be_lost: &[bool], machines: usize) -> Copies {
        let cut_until = vec![vec![Duration::ZERO; machines]; may_be_lost.len()];
        Copies { may_be_lost: may_be_lost.to_vec(), cut_until, of_nodes: HashMap::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.may_be_lost.len()
    }

    pub(super) fn cut(&mut self, copy: usize, machine: usize, until: Duration) {
        if let Some(machines) = self.cut_until.get_mut(copy) {
            machines[machine] = until;
        }
    }

    pub(super) fn reach_all(&mut self) {
        self.cut_until.iter_mut().flatten().for_each(|until| *until = Duration::ZERO);
    }

    fn of_path(&self, path: &Path) -> Option<usize> {
        let first = path.iter().nth(1)?.to_str()?;
        first.strip_prefix(NAME)?.parse().ok().filter(|copy| *copy < self.count())
    }
}

impl State {
    fn reach(&self, copy: Option<usize>) -> io::Result<()> {
        let machine = self.processes[self.running].machine;
        match copy {
            Some(copy) if self.now < self.copies.cut_until[copy][machine] => error(EIO),
            _ => Ok(()),
        }
    }

    pub(super) fn reach_path(&self, path: &Path) -> io::Result<()> {
        self.reach(self.copies.of_path(path))
    }

    pub(super) fn reach_node(&self, node: Node) -> io::Result<()> {
        self.reach(self.copies.of_nodes.get(&node).copied())
    }

    /// A file was opened.
    pub(super) fn note_copy(&mut self, node: Node, path: &Path) {
        if let Some(copy) = self.copies.of_path(path) {
            self.copies.of_nodes.insert(node, copy);
        }
    }

    /// Takes everything from a copy that may be lost.
    pub(super) fn empty_a_copy(&mut self) {
        let may_be_lost = &self.copies.may_be_lost;
        let lost: Vec<usize> = (0..may_be_lost.len()).filter(|copy| may_be_lost[*copy]).collect();
        if lost.is_empty() {
            return;
        }
        let copy = lost[self.random.below(lost.len() as u64) as usize];
        let name = format!("{NAME}{copy}");
        self.tell("lost", Path::new(&name));
        if let Ok(Some(folder)) = self.server.find(ROOT, &name) {
            self.server.empty(folder);
        }
    }
}
