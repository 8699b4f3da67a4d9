//! Where blocks of vectors lie on disk: the way to them through the tree takes a tenth of a query.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use engine::{Mode, Transaction, TreeName, ValuePlace};

use super::shape::Shape;
use super::shortlist::RowHasher;
use crate::Result;

/// Blocks whose places are kept: some two megabytes.
const BLOCKS_MAX: usize = 1 << 15;

/// Places of blocks of one store in one tree; none at all unless it was told which ([`Places::in_tree`]).
#[derive(Default)]
pub(super) struct Places {
    /// The store's [`Shape::home`], and the tree.
    tree: Option<(u64, TreeName)>,
    blocks: HashMap<u64, ValuePlace, BuildHasherDefault<RowHasher>>,
}

impl Places {
    /// Those for a transaction. One that writes may see blocks that are in no tree yet.
    pub(super) fn in_tree(mut self, t: &Transaction, shape: &Shape) -> Result<Self> {
        let tree = if t.mode() == Mode::Read { Some((shape.home, t.tree()?)) } else { None };
        if self.tree != tree {
            self.blocks.clear();
            self.tree = tree;
        }
        Ok(self)
    }

    pub(super) fn of(&self, block: u64) -> Option<ValuePlace> {
        self.blocks.get(&block).copied()
    }

    pub(super) fn remember(&mut self, block: u64, place: ValuePlace) {
        if self.tree.is_some() && self.blocks.len() < BLOCKS_MAX {
            self.blocks.insert(block, place);
        }
    }
}
