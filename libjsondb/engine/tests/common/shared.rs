//! Campaigns over the log of one machine, or that of several: `SOP_SHARED=1`, or `scripts/prove --shared`.

#![allow(dead_code)] // No campaign needs everything.

use std::path::Path;

use engine::{Database, Options};

/// Whether the campaign runs over the log that several machines share.
pub fn is_shared() -> bool {
    crate::common::number("SOP_SHARED").is_some_and(|number| number > 0)
}

/// Opens a database as [`is_shared`] says.
pub fn open(folder: &Path, options: &Options) -> Database {
    let opened = if is_shared() {
        Database::open_shared(folder, options, None)
    } else {
        Database::open(folder, options)
    };
    opened.unwrap()
}
