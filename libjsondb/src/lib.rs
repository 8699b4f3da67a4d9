//! jsondb
