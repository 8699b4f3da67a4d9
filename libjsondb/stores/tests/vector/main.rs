//! Vector stores against the real engine.

#![allow(clippy::unwrap_used)]

mod clusters;
mod inputs;
mod queries;
mod support;
mod transactions;
mod writes;
