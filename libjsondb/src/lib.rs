//! libjsondb: the C ABI of SOP.
//!
//! Handles, JSON envelopes, error codes and the panic boundary; what calls mean is in the crate `stores`. Every exported
//! body runs in [`boundary`], so no panic crosses, and every fallible function reports through [`error`].
//!
//! # The caller's part
//! What no library can check, and so each `unsafe` block that reads or writes the caller's memory relies on:
//! a pointer is NULL, or points to as much memory as the function says, readable, or writable where it is an `out`, until
//! the function returns; a text to be freed came from this library and is freed once. Everything else is checked: NULL
//! where something is needed, UTF-8, JSON, handles of whatever number.

// Which pointers a function takes and what they must point to is the same for all, and said once, above and in the
// header's introduction.
#![allow(clippy::missing_safety_doc)]
// The doc comments of functions are the header's: brackets in them are JSON, and what they name may be private here.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::private_intra_doc_links, rustdoc::invalid_html_tags)]

mod actions;
mod boundary;
mod cpython;
mod handles;
mod process;

// The functions, in the order of the header: cbindgen follows this order, rustfmt keeps the groups.

mod version;

mod error;
mod strings;

mod context;
mod database;
mod maintenance;
mod transaction;

mod btree;
mod columns;

mod vector;

mod model;
mod redis;

mod legacy;

pub use actions::{
    SopBtreeAction, SopDatabaseAction, SopDurability, SopModelAction, SopMove, SopTransactionAction,
    SopTransactionMode, SopVectorAction, SopWriteAction,
};
pub use btree::*;
pub use columns::*;
pub use context::{cancelContext, contextError, createContext, removeContext};
pub use cpython::{sop_cpython_bind, sop_cpython_names};
pub use database::{
    sop_database_close, sop_database_flush, sop_database_open, sop_handle_count, sop_handle_release,
    sop_handle_uuid,
};
pub use error::{SopErrorCode, sop_last_error, sop_last_error_code};
pub use legacy::*;
pub use maintenance::*;
pub use model::*;
pub use redis::{closeRedisConnection, openRedisConnection, sop_redis_close, sop_redis_open};
pub use strings::freeString;
pub use transaction::{
    sop_transaction_begin, sop_transaction_commit, sop_transaction_is_active, sop_transaction_rollback,
    sop_transaction_set_durability,
};
pub use vector::*;
pub use version::*;
