//! Artefacts: bytes of any length beside a version of a model, written and read in chunks, so that neither takes memory for all of them.

use std::sync::Arc;

use engine::{CancelToken, Placement, StoreId};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::keys::{self, ArtifactId, ModelKey};
use super::record::{Artifact, StoredArtifact};
use super::{METADATA, ModelStore, damaged, head_in, load, record_in};
use crate::{DEFAULT_MAX_TIME, Error, ErrorCode, Result, Session, Transaction, TransactionMode, hex};

/// Bytes of a chunk; the last one of an artefact may be shorter.
const CHUNK_BYTES: usize = 1 << 20;
/// Longest name of a format.
const FORMAT_BYTES_MAX: usize = 64;

/// An artefact on its way into a model store: written piece by piece, then saved with its model. Dropped before that it leaves nothing.
pub struct Upload {
    store: ModelStore,
    key: ModelKey,
    transaction: Arc<Transaction>,
    /// It began the transaction, and commits it.
    is_own: bool,
    is_done: bool,
    id: ArtifactId,
    chunks: u32,
    buffer: Vec<u8>,
    bytes: u64,
    hash: Sha256,
    format: String,
}

impl ModelStore {
    /// Begins to write the artefact of a new version. Of a store whose calls commit by themselves it is a transaction of its own, which
    /// ends with [`Upload::save`].
    pub fn upload(&self, cancel: &CancelToken, category: &str, name: &str, format: &str) -> Result<Upload> {
        let key = ModelKey::new(category, name)?;
        if format.len() > FORMAT_BYTES_MAX {
            let message = format!("the format of an artefact has at most {FORMAT_BYTES_MAX} bytes");
            return Err(Error::new(ErrorCode::Validation, message));
        }
        let (transaction, is_own) = match &self.session {
            Session::In(transaction) => (transaction.clone(), false),
            Session::Auto(database) => {
                (database.begin(TransactionMode::ForWriting, DEFAULT_MAX_TIME, cancel)?, true)
            }
        };
        transaction.check_writable(&format!("change model store {:?}", self.name))?;
        Ok(Upload {
            store: ModelStore { session: Session::In(transaction.clone()), ..self.clone() },
            key,
            transaction,
            is_own,
            is_done: false,
            id: uuid::Uuid::new_v4(),
            chunks: 0,
            buffer: Vec::new(),
            bytes: 0,
            hash: Sha256::new(),
            format: format.to_owned(),
        })
    }

    /// Fills `buffer` with bytes of the artefact of a version (None: the newest one) from `offset` on; gives how many there were.
    pub fn read_artifact(
        &self,
        cancel: &CancelToken,
        category: &str,
        name: &str,
        version: Option<u64>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        let key = ModelKey::new(category, name)?;
        let found = self.session.read(cancel, |transaction| {
            transaction.with(cancel, |t| {
                let store = t.store(&self.engine_name)?.map(|(store, _)| store);
                let Some((store, head)) = head_in(t, store, &key)? else { return Ok(None) };
                let record = record_in(t, store, &key, version.unwrap_or(head.newest))?;
                let Some(record) = record else { return Ok(None) };
                let Some(artifact) = record.about.artifact else { return Ok(Some(None)) };
                read(t, store, &artifact, offset, buffer).map(|count| Some(Some(count)))
            })
        })?;
        let found = found.ok_or_else(|| self.missing(category, name, version))?;
        found.ok_or_else(|| {
            let message = format!("the model {category}/{name} was saved without an artefact");
            Error::new(ErrorCode::ItemNotFound, message).with_detail("store", self.name.as_str())
        })
    }
}

impl Upload {
    /// Takes more bytes.
    pub fn write(&mut self, cancel: &CancelToken, mut bytes: &[u8]) -> Result<()> {
        self.check_open()?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(taken);
            bytes = rest;
            if self.buffer.len() == CHUNK_BYTES {
                self.put_chunk(cancel)?;
            }
        }
        Ok(())
    }

    /// Saves the model with all that was written as its artefact; gives the version. As [`ModelStore::save`], but that it is not run again when
    /// it lost against another transaction: then all of it is to be written again.
    pub fn save(&mut self, cancel: &CancelToken, model: &RawValue) -> Result<u64> {
        self.check_open()?;
        if !self.buffer.is_empty() {
            self.put_chunk(cancel)?;
        }
        let artifact = Artifact {
            bytes: self.bytes,
            sha256: hex::encode(&self.hash.clone().finalize()),
            format: self.format.clone(),
        };
        let artifact = StoredArtifact { id: self.id, artifact };
        let (store, key) = (&self.store, &self.key);
        let version = store.write(cancel, |t| store.put_version(t, key, model, Some(artifact.clone())))?;
        if self.is_own {
            self.transaction.commit(cancel)?;
        }
        self.is_done = true;
        Ok(version)
    }

    fn check_open(&self) -> Result<()> {
        match self.is_done {
            true => Err(Error::new(ErrorCode::InvalidState, "this artefact was saved: begin another one")),
            false => Ok(()),
        }
    }

    fn put_chunk(&mut self, cancel: &CancelToken) -> Result<()> {
        let key = keys::chunk(&self.id, self.chunks);
        let (store, buffer) = (&self.store, &self.buffer);
        store.write(cancel, |t| {
            let engine_store = t.ensure_store(&store.engine_name, METADATA)?;
            Ok(t.put(engine_store, &key, buffer, Placement::Eager)?)
        })?;
        self.buffer.clear();
        self.chunks = self.chunks.checked_add(1).ok_or_else(|| {
            Error::new(ErrorCode::Validation, "an artefact has at most 4,294,967,295 chunks of a mebibyte")
        })?;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_done || self.is_own || self.chunks == 0 {
            return;
        }
        // The transaction is the caller's, and goes on without it. Where it has ended there is nothing to remove.
        let (store, id) = (&self.store, &self.id);
        let _ = store.write(&CancelToken::new(), |t| match t.store(&store.engine_name)? {
            Some((engine_store, _)) => remove(t, engine_store, id),
            None => Ok(()),
        });
    }
}

/// Removes all chunks.
pub(super) fn remove(t: &mut engine::Transaction, store: StoreId, id: &ArtifactId) -> Result<()> {
    for chunk in 0.. {
        if !t.remove(store, &keys::chunk(id, chunk))? {
            return Ok(());
        }
    }
    Ok(())
}

fn read(
    t: &mut engine::Transaction,
    store: StoreId,
    StoredArtifact { id, artifact }: &StoredArtifact,
    offset: u64,
    buffer: &mut [u8],
) -> Result<usize> {
    let end = artifact.bytes.min(offset.saturating_add(buffer.len() as u64));
    let mut filled = 0;
    while offset + (filled as u64) < end {
        let at = offset + filled as u64;
        let number =
            u32::try_from(at / CHUNK_BYTES as u64).map_err(|_| damaged("the length of an artefact"))?;
        let chunk = load(t, store, &keys::chunk(id, number))?;
        let chunk = chunk.ok_or_else(|| damaged("a part of an artefact is missing"))?;
        let from = (at % CHUNK_BYTES as u64) as usize;
        let part = chunk.get(from..).filter(|part| !part.is_empty());
        let part = part.ok_or_else(|| damaged("a part of an artefact is too short"))?;
        let count = part.len().min((end - at) as usize);
        buffer[filled..filled + count].copy_from_slice(&part[..count]);
        filled += count;
    }
    Ok(filled)
}
