//! Looking after a database: verify, info, the stores in it, backup, compact. None of these makes a database.

use std::path::Path;

use engine::{BackupCheck, Mode, Progress, Store, StoreContents};

use crate::names::{StoreKind, kind_of};
use crate::report::{Backup, Compaction, Finding, Info, StoreInfo, Verification, VerifiedStore};
use crate::{CancelToken, Database, Error, ErrorCode, Result, btree, model, vector};

/// What a store holds by its keys, against what it says it holds.
pub(crate) struct Audit {
    /// Counted.
    pub(crate) items: u64,
    /// How the two differ.
    pub(crate) difference: Option<String>,
}

impl Database {
    /// Checks all files and counts without changing anything; goes on after a finding. The folder is not opened.
    pub fn verify(&self, progress: &mut Progress<'_>) -> Result<Verification> {
        let found = engine::verify(self.folder(), &self.engine_options()?, progress)?;
        let mut findings: Vec<Finding> = found.findings.iter().map(Finding::from).collect();
        let mut stores = Vec::with_capacity(found.stores.len());
        for (engine_name, contents) in &found.stores {
            let Some((kind, name)) = kind_of(engine_name) else { continue };
            let audit = audit(kind, contents);
            if let Some(difference) = audit.difference {
                let file = found.manifest.to_string_lossy().into_owned();
                let what = format!("{} {name:?}: {difference}", kind.noun());
                findings.push(Finding { file, offset: 0, what });
            }
            stores.push(VerifiedStore { name: name.to_owned(), kind: kind.name(), items: audit.items });
        }
        Ok(Verification {
            intact: findings.is_empty(),
            findings,
            stores,
            entries: found.entries,
            pages: found.pages,
            values: found.values,
            bytes: found.bytes,
            log: (&found.log).into(),
        })
    }

    /// Size, newest transaction, garbage, who has it open.
    pub fn info(&self, cancel: &CancelToken) -> Result<Info> {
        let (info, folder, stores) = self.with_existing(cancel, |engine| {
            Ok((engine.info()?, engine.folder().to_owned(), engine.begin(Mode::Read)?.stores()?.len()))
        })?;
        let garbage = match info.tree_bytes {
            0 => 0.0,
            total => 1.0 - info.live_bytes as f64 / total as f64,
        };
        Ok(Info {
            folder: folder.to_string_lossy().into_owned(),
            format_version: info.format_version,
            uuid: info.uuid,
            stores: stores as u64,
            sequence: info.seq.0,
            checkpoint: info.checkpoint.0,
            disk: info.disk.into(),
            live_bytes: info.live_bytes,
            garbage,
            processes: info.processes,
            oldest_pin: info.oldest_pin.map(|seq| seq.0),
        })
    }

    /// All stores, by kind and name.
    pub fn stores(&self, cancel: &CancelToken) -> Result<Vec<StoreInfo>> {
        let mut transaction = self.with_existing(cancel, |engine| engine.begin(Mode::Read))?;
        transaction.set_cancel(cancel);
        let mut stores = Vec::new();
        for store in transaction.stores()? {
            if let Some((kind, name)) = kind_of(&store.name) {
                stores.push(describe(&mut transaction, kind, name, &store)?);
            }
        }
        stores.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(stores)
    }

    /// Copies the newest committed state to a folder that is missing or empty, while others read and write. The copy is durable
    /// and a database of its own; a backup that fails or is interrupted leaves none.
    pub fn backup(
        &self,
        cancel: &CancelToken,
        target: &Path,
        check: BackupCheck,
        progress: &mut Progress<'_>,
    ) -> Result<Backup> {
        if target.as_os_str().is_empty() || target.as_os_str().as_encoded_bytes().contains(&0) {
            let message = "a backup needs a folder, without a NUL character in its path";
            return Err(Error::new(ErrorCode::Validation, message));
        }
        let made = self.with_existing(cancel, |engine| engine.backup(target, check, progress))?;
        let verified = check == BackupCheck::Full;
        Ok(Backup { sequence: made.seq.0, files: made.files, bytes: made.bytes, verified })
    }

    /// Moves what is live out of segments that are mostly garbage and removes what nobody needs, while others read and write.
    pub fn compact(&self, cancel: &CancelToken, progress: &mut Progress<'_>) -> Result<Compaction> {
        let made = self.with_existing(cancel, |engine| engine.compact(progress))?;
        Ok(Compaction { before: made.before.into(), after: made.after.into(), checkpoints: made.checkpoints })
    }
}

fn audit(kind: StoreKind, contents: &StoreContents) -> Audit {
    match kind {
        StoreKind::Btree => btree::audit(contents),
        StoreKind::Vector => vector::audit(contents),
        StoreKind::Model => {
            Audit { items: contents.entries.get(&model::keys::MODEL).copied().unwrap_or(0), difference: None }
        }
    }
}

fn describe(
    transaction: &mut engine::Transaction,
    kind: StoreKind,
    name: &str,
    store: &Store,
) -> Result<StoreInfo> {
    let (items, options) = match kind {
        StoreKind::Btree => btree::describe(transaction, name, store)?,
        StoreKind::Vector => vector::describe(transaction, store)?,
        StoreKind::Model => (model::count(transaction, store)?, serde_json::json!({})),
    };
    Ok(StoreInfo { name: name.to_owned(), kind: kind.name(), items, options })
}
