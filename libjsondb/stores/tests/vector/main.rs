//! Vector stores against the real engine.

#![allow(clippy::unwrap_used)]

mod churn;
mod clusters;
mod filters;
mod growth;
mod inputs;
mod metrics;
mod queries;
mod reads;
mod support;
mod transactions;
mod writes;
