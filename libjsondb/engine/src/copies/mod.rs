//! Copies of the metadata: folders that each hold all of the log, the manifests and what else is not coded, so that some may be lost.
//!
//! Which of them are in force, and what is decided over them: "Copies" in libjsondb/docs/protocol.md.

mod report;

pub use report::{CopyReport, CopyRole, CopyState, CopyStatus};
