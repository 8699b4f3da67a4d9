//! B-tree stores and transactions on the real engine.

// Helpers outside of test functions are tests too.
#![allow(clippy::unwrap_used)]

#[path = "../../../engine/tests/common/mod.rs"]
mod common;
mod cursor;
mod fixture;
mod map;
mod model;
mod options;
mod range;
mod session;
mod sorted_map;
mod transactions;
mod write;
