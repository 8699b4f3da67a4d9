//! Erasure coding and mirrored folders: settings as programs give them, and looking after what they protect.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::{Coding, CopyStatus, Progress, RepairScope};
use serde::Deserialize;

use crate::names::{StoreKind, engine_name};
use crate::report::{RedundancyStatus, Repair, Scrub};
use crate::{CancelToken, Database, Error, ErrorCode, Result};

/// Settings by the name of a store; "" is for all that have none of their own.
pub type ErasureConfig = BTreeMap<String, ErasureSettings>;

/// How a store is spread over drives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureSettings {
    /// Shards that hold the data: 1 or more.
    pub data_shards_count: usize,
    /// Shards that may be lost: 1 or more.
    pub parity_shards_count: usize,
    /// A folder on each drive: as many as there are shards.
    pub base_folder_paths_across_drives: Vec<String>,
    /// A read that meets a bad or missing shard rebuilds it.
    #[serde(default)]
    pub repair_corrupted_shards: bool,
}

/// How copies are brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReinstateOptions {
    /// Copies that will not come back, by index.
    pub lost: Vec<usize>,
}

/// The engine's settings, checked.
pub(crate) fn codings(config: &ErasureConfig) -> Result<Vec<Coding>> {
    config.iter().map(|(store, settings)| settings.coding(store)).collect()
}

/// The engine's names of the stores that a set is for.
fn aliases(store: &str) -> Result<Vec<String>> {
    match store {
        "" => Ok(Vec::new()),
        name => StoreKind::ALL.iter().map(|kind| engine_name(*kind, name)).collect(),
    }
}

/// The erasure coding that drives say they are for.
pub(crate) fn found(folders: &[PathBuf], drives: &[PathBuf]) -> Result<Vec<Coding>> {
    let mut found = engine::find_coding(folders, drives)?;
    for coding in &mut found {
        coding.aliases = aliases(&coding.store)?;
    }
    Ok(found)
}

impl ErasureSettings {
    fn coding(&self, store: &str) -> Result<Coding> {
        let fail = |what: &str| Error::new(ErrorCode::Validation, format!("erasure_config: {what}"));
        let drives = &self.base_folder_paths_across_drives;
        if drives.iter().any(|drive| drive.is_empty() || drive.contains('\0')) {
            return Err(fail("the path of a drive is empty, or has a NUL character"));
        }
        let coding = Coding {
            store: store.to_owned(),
            aliases: aliases(store)?,
            data: self.data_shards_count,
            parity: self.parity_shards_count,
            drives: drives.iter().map(PathBuf::from).collect(),
            repair: self.repair_corrupted_shards,
        };
        coding.check().map_err(|error| fail(error.message()))?;
        Ok(coding)
    }
}

impl Database {
    /// Which copies and drives are there, and what may still be lost. Looks at names only.
    pub fn status(&self, cancel: &CancelToken) -> Result<RedundancyStatus> {
        let look = |engine: &engine::Database| Ok((engine.copy_status()?, engine.drive_status()?));
        let (copies, drives) = self.with_existing(cancel, look)?;
        Ok(RedundancyStatus::new(&copies, &drives))
    }

    /// Reads all shards and copies, and lists what is damaged or missing; changes nothing.
    pub fn scrub(&self, cancel: &CancelToken, progress: &mut Progress<'_>) -> Result<Scrub> {
        Ok(self.with_existing(cancel, |engine| engine.scrub(progress))?.into())
    }

    /// Rebuilds what is missing, and unless `missing_only` what is damaged, and brings copies back, while others read and write.
    pub fn repair(
        &self,
        cancel: &CancelToken,
        missing_only: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Repair> {
        let scope = if missing_only { RepairScope::Missing } else { RepairScope::Everything };
        let (before, after, made) = self.with_existing(cancel, |engine| {
            let before = engine.copy_status()?;
            let after = match before.copies.iter().all(is_current) {
                true => before.clone(),
                false => engine.reinstate(None, &[], progress)?,
            };
            Ok((before, after, engine.repair(scope, progress)?))
        })?;
        let came_back = |index: &usize| {
            let is_in = |status: &CopyStatus| {
                status.copies.iter().any(|copy| copy.index == *index && is_current(copy))
            };
            is_in(&after) && !is_in(&before)
        };
        let copies = after.copies.iter().map(|copy| copy.index).filter(came_back).collect();
        Ok(Repair { copies, ..made.into() })
    }

    /// Brings copies that are stale or were replaced up to date; what only the `lost` ones hold is given up.
    pub fn reinstate(
        &self,
        cancel: &CancelToken,
        lost: &[usize],
        progress: &mut Progress<'_>,
    ) -> Result<RedundancyStatus> {
        self.with_existing(cancel, |engine| {
            engine.reinstate(None, lost, progress)?;
            // Opened while too few copies were there, it can only read: the next use opens it anew.
            if engine.is_writable() { Ok(()) } else { engine.close() }
        })?;
        self.status(cancel)
    }
}

fn is_current(copy: &engine::CopyReport) -> bool {
    copy.state == engine::CopyState::Member
}
