//! Vector stores against the real engine.

mod clusters;
mod inputs;
mod queries;
mod support;
mod transactions;
mod writes;
