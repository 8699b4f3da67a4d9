//! A directed graph of transactions: strongly connected components, and short cycles inside them.

use std::collections::{HashMap, VecDeque};

/// Index of a transaction.
pub type Node = u32;

/// Why one transaction comes before another. A set of them is the sum of their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The other overwrote what this one wrote.
    WriteWrite = 1,
    /// The other read what this one wrote.
    WriteRead = 2,
    /// The other overwrote what this one read.
    ReadWrite = 4,
    /// The other comes later in the same session.
    Session = 8,
    /// The other began after this one had ended.
    RealTime = 16,
}

/// One edge of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: Node,
    pub edge: Edge,
    pub to: Node,
}

/// Edges tried as the first one of a cycle; a component may have millions.
const FIRST_EDGES_MAX: usize = 500;
const NONE: u32 = u32::MAX;

/// Edges sorted by where they start.
pub struct Graph {
    starts: Vec<usize>,
    edges: Vec<(Edge, Node)>,
}

impl Graph {
    pub fn new(nodes: usize, steps: &[Step]) -> Self {
        let mut starts = vec![0; nodes + 1];
        for step in steps {
            starts[step.from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut free = starts.clone();
        let mut edges = vec![(Edge::WriteWrite, NONE); steps.len()];
        for step in steps {
            edges[free[step.from as usize]] = (step.edge, step.to);
            free[step.from as usize] += 1;
        }
        Self { starts, edges }
    }

    fn edges_of(&self, from: Node, kinds: u8) -> impl Iterator<Item = Step> {
        let edges = &self.edges[self.starts[from as usize]..self.starts[from as usize + 1]];
        let chosen = edges.iter().filter(move |(edge, _)| *edge as u8 & kinds != 0);
        chosen.map(move |&(edge, to)| Step { from, edge, to })
    }

    /// Components of more than one node over edges of these kinds (Tarjan, without recursion).
    pub fn components(&self, kinds: u8) -> Components {
        let nodes = self.starts.len() - 1;
        let mut found = Components { of: vec![NONE; nodes], members: Vec::new() };
        // `seen` counts the nodes in the order they were met; `low` is the earliest one that is reached from a node.
        let (mut seen, mut order, mut low) = (0, vec![NONE; nodes], vec![NONE; nodes]);
        let (mut open, mut path) = (Vec::new(), Vec::new());
        for root in 0..nodes as Node {
            if order[root as usize] != NONE {
                continue;
            }
            path.push((root, self.starts[root as usize]));
            while let Some((node, next)) = path.last_mut() {
                let at = *node as usize;
                if order[at] == NONE {
                    (order[at], low[at]) = (seen, seen);
                    seen += 1;
                    open.push(*node);
                }
                if *next < self.starts[at + 1] {
                    let (edge, to) = self.edges[*next];
                    *next += 1;
                    if edge as u8 & kinds == 0 {
                    } else if order[to as usize] == NONE {
                        path.push((to, self.starts[to as usize]));
                    } else if found.of[to as usize] == NONE {
                        low[at] = low[at].min(order[to as usize]);
                    }
                    continue;
                }
                let node = *node;
                path.pop();
                if let Some((parent, _)) = path.last() {
                    low[*parent as usize] = low[*parent as usize].min(low[at]);
                }
                if low[at] == order[at] {
                    found.close(node, &mut open);
                }
            }
        }
        found
    }

    /// The shortest cycle found in a component that begins with one of `first` and goes on over `rest`.
    pub fn shortest_cycle(
        &self,
        components: &Components,
        members: &[Node],
        first: u8,
        rest: u8,
    ) -> Option<Vec<Step>> {
        let inside = |step: &Step| components.of[step.from as usize] == components.of[step.to as usize];
        let starts = members.iter().flat_map(|node| self.edges_of(*node, first)).filter(inside);
        let mut best: Option<Vec<Step>> = None;
        for start in starts.take(FIRST_EDGES_MAX) {
            let limit = best.as_ref().map_or(usize::MAX, |best| best.len() - 2);
            if limit == 0 {
                break;
            }
            if let Some(path) =
                self.path(start.to, start.from, limit, |step| inside(step) && step.edge as u8 & rest != 0)
            {
                best = Some(std::iter::once(start).chain(path).collect());
            }
        }
        best
    }

    /// A shortest path of at most `limit` steps.
    fn path(&self, from: Node, to: Node, limit: usize, allowed: impl Fn(&Step) -> bool) -> Option<Vec<Step>> {
        let mut came_by: HashMap<Node, Step> = HashMap::new();
        let mut queue = VecDeque::from([(from, 0)]);
        while let Some((node, steps)) = queue.pop_front() {
            if node == to {
                let mut path = Vec::new();
                let mut at = to;
                while at != from {
                    let step = came_by[&at];
                    path.push(step);
                    at = step.from;
                }
                path.reverse();
                return Some(path);
            }
            if steps == limit {
                continue;
            }
            for step in self.edges_of(node, u8::MAX).filter(&allowed) {
                if step.to != from && !came_by.contains_key(&step.to) {
                    came_by.insert(step.to, step);
                    queue.push_back((step.to, steps + 1));
                }
            }
        }
        None
    }
}

/// Which nodes reach each other.
pub struct Components {
    /// The component of each node.
    of: Vec<u32>,
    /// Nodes of the components with more than one.
    pub members: Vec<Vec<Node>>,
}

impl Components {
    /// Everything opened since `root` is its component.
    fn close(&mut self, root: Node, open: &mut Vec<Node>) {
        let mut members = Vec::new();
        while let Some(node) = open.pop() {
            self.of[node as usize] = root;
            members.push(node);
            if node == root {
                break;
            }
        }
        if members.len() > 1 {
            self.members.push(members);
        }
    }
}
