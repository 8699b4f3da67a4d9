//! Model stores: JSON documents by category, name and version, each with an artefact of any size if it has one.
//!
//! * `keys`: where everything lies;
//! * `record`: what is kept of a version;
//! * `artifact`: bytes that come and go in chunks.

mod artifact;
pub(crate) mod keys;
mod record;

use std::ops::Bound;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::{CancelToken, Direction, Placement, StoreId, Value};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::names::{StoreKind, engine_name};
use crate::{Error, ErrorCode, Result, Session, hex, walk};
pub use artifact::Upload;
use keys::ModelKey;
pub use record::Artifact;
use record::{About, Head, Record, StoredArtifact};

const METADATA: &[u8] = br#"{"format":2}"#;
const KEYS_PER_CHECK: usize = 1024;

/// A model store bound to a [`Session`]: its calls commit by themselves, or run inside a transaction. It
/// comes into being with the first save; before that it reads as empty.
#[derive(Clone)]
pub struct ModelStore {
    session: Session,
    name: String,
    engine_name: String,
}

/// A version of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// What is known of it.
    #[serde(flatten)]
    pub version: Version,
    /// The model as it was saved; its field `is_active`, if it has one, says what is so now.
    pub model: Box<RawValue>,
}

/// What is known of a version of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// From 1, rising with each save.
    pub version: u64,
    /// When it was saved, in milliseconds since 1970, by the clock of the machine that saved it.
    pub saved_at: u64,
    /// Whether it is the active one.
    pub is_active: bool,
    /// The model's metrics; null if it has none.
    pub metrics: Option<Box<RawValue>>,
    /// SHA-256 of the model's text, in hexadecimal digits.
    pub sha256: String,
    /// Its artefact.
    pub artifact: Option<Artifact>,
}

impl Version {
    fn new(version: u64, head: &Head, record: &Record) -> Version {
        let About { saved_at, sha256, artifact } = record.about.clone();
        let artifact = artifact.map(|stored| stored.artifact);
        let is_active = head.active == Some(version);
        Version { version, saved_at, is_active, metrics: record::metrics(&record.model), sha256, artifact }
    }
}

impl ModelStore {
    /// The store `name` of the session. Touches no file.
    pub fn open(session: Session, name: &str) -> Result<Self> {
        let engine_name = engine_name(StoreKind::Model, name)?;
        Ok(Self { session, name: name.to_owned(), engine_name })
    }

    /// Name of the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a model as a new version of its category and name; gives the version. One whose field `is_active` is true becomes the
    /// active one.
    pub fn save(&self, cancel: &CancelToken, category: &str, name: &str, model: &RawValue) -> Result<u64> {
        let key = ModelKey::new(category, name)?;
        self.write(cancel, |t| self.put_version(t, &key, model, None))
    }

    /// A version of the model, the newest one if none is named.
    pub fn get(
        &self,
        cancel: &CancelToken,
        category: &str,
        name: &str,
        version: Option<u64>,
    ) -> Result<Loaded> {
        let key = ModelKey::new(category, name)?;
        let found = self.read(cancel, |t, store| {
            let Some((store, head)) = head_in(t, store, &key)? else { return Ok(None) };
            let version = version.unwrap_or(head.newest);
            let Some(record) = record_in(t, store, &key, version)? else { return Ok(None) };
            let about = Version::new(version, &head, &record);
            let model = record::with_activity(record.model, about.is_active);
            Ok(Some(Loaded { version: about, model }))
        })?;
        found.ok_or_else(|| self.missing(category, name, version))
    }

    /// All versions of the model, the oldest first; none when there is no such model.
    pub fn versions(&self, cancel: &CancelToken, category: &str, name: &str) -> Result<Vec<Version>> {
        let key = ModelKey::new(category, name)?;
        self.read(cancel, |t, store| {
            let mut versions = Vec::new();
            let Some((store, head)) = head_in(t, store, &key)? else { return Ok(versions) };
            for version in version_numbers(t, store, &key)? {
                cancel.check()?;
                let record = record_in(t, store, &key, version)?;
                let record = record.ok_or_else(|| damaged("a version of a model is missing"))?;
                versions.push(Version::new(version, &head, &record));
            }
            Ok(versions)
        })
    }

    /// The active version of the model, if one is.
    pub fn active(&self, cancel: &CancelToken, category: &str, name: &str) -> Result<Option<u64>> {
        let key = ModelKey::new(category, name)?;
        let found =
            self.read(cancel, |t, store| Ok(head_in(t, store, &key)?.map(|(_, head)| head.active)))?;
        found.ok_or_else(|| self.missing(category, name, None))
    }

    /// Makes a version the active one, the others not; None: none is.
    pub fn promote(
        &self,
        cancel: &CancelToken,
        category: &str,
        name: &str,
        version: Option<u64>,
    ) -> Result<()> {
        let key = ModelKey::new(category, name)?;
        let is_there = self.write(cancel, |t| {
            let store = t.store(&self.engine_name)?.map(|(store, _)| store);
            let Some((store, head)) = head_in(t, store, &key)? else { return Ok(false) };
            if let Some(version) = version
                && t.get(store, &key.version(version))?.is_none()
            {
                return Ok(false);
            }
            put_head(t, store, &key, Head { active: version, ..head })?;
            Ok(true)
        })?;
        if is_there { Ok(()) } else { Err(self.missing(category, name, version)) }
    }

    /// Removes a version of the model with its artefact, or all of them; one that doesn't exist is passed over.
    pub fn delete(
        &self,
        cancel: &CancelToken,
        category: &str,
        name: &str,
        version: Option<u64>,
    ) -> Result<()> {
        let key = ModelKey::new(category, name)?;
        self.write(cancel, |t| {
            let store = t.store(&self.engine_name)?.map(|(store, _)| store);
            let Some((store, head)) = head_in(t, store, &key)? else { return Ok(()) };
            let all = version_numbers(t, store, &key)?;
            let (gone, kept): (Vec<u64>, Vec<u64>) =
                all.into_iter().partition(|number| version.is_none_or(|version| version == *number));
            for number in &gone {
                if let Some(artifact) = record_in(t, store, &key, *number)?.and_then(|r| r.about.artifact) {
                    artifact::remove(t, store, &artifact.id)?;
                }
                t.delete(store, &key.version(*number))?;
            }
            match kept.last() {
                None => t.delete(store, &key.head())?,
                Some(newest) => {
                    let active = head.active.filter(|active| kept.contains(active));
                    put_head(t, store, &key, Head { newest: *newest, active, ..head })?;
                }
            }
            Ok(())
        })
    }

    /// Names of the models of a category, in order.
    pub fn list(&self, cancel: &CancelToken, category: &str) -> Result<Vec<String>> {
        let models = self.names(cancel, Some(category))?;
        Ok(models.into_iter().map(|(_, name)| name).collect())
    }

    /// The categories that have models, in order.
    pub fn categories(&self, cancel: &CancelToken) -> Result<Vec<String>> {
        let models = self.names(cancel, None)?;
        let mut categories: Vec<String> = models.into_iter().map(|(category, _)| category).collect();
        categories.dedup();
        Ok(categories)
    }

    fn names(&self, cancel: &CancelToken, category: Option<&str>) -> Result<Vec<(String, String)>> {
        let start = keys::models_of(category)?;
        self.read(cancel, |t, store| {
            let mut names = Vec::new();
            let Some(store) = store else { return Ok(names) };
            let end = after(&start);
            let span = (Bound::Included(&*start), Bound::Excluded(&*end));
            walk::visit(t, store, span, Direction::Forward, |key, _| {
                if names.len().is_multiple_of(KEYS_PER_CHECK) {
                    cancel.check()?;
                }
                let pair = keys::names_of(key);
                names.push(pair.ok_or_else(|| damaged("a key is not a category and a name"))?);
                Ok(true)
            })?;
            Ok(names)
        })
    }

    fn put_version(
        &self,
        t: &mut engine::Transaction,
        key: &ModelKey,
        model: &RawValue,
        artifact: Option<StoredArtifact>,
    ) -> Result<u64> {
        let store = t.ensure_store(&self.engine_name, METADATA)?;
        let mut head = head_in(t, Some(store), key)?.map(|(_, head)| head).unwrap_or_default();
        head.last += 1;
        head.newest = head.last;
        if record::wants_to_be_active(model) {
            head.active = Some(head.last);
        }
        let sha256 = hex::encode(&Sha256::digest(model.get().as_bytes()));
        let about = About { saved_at: milliseconds_since_1970(), sha256, artifact };
        t.put(store, &key.version(head.last), &Record::encode(&about, model)?, Placement::Auto)?;
        put_head(t, store, key, head)?;
        Ok(head.last)
    }

    fn missing(&self, category: &str, name: &str, version: Option<u64>) -> Error {
        let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
        Error::new(ErrorCode::ItemNotFound, format!("model not found: {category}/{name}{version}"))
            .with_detail("store", self.name.as_str())
            .with_detail("key", format!("{category}/{name}"))
    }

    fn read<R>(
        &self,
        cancel: &CancelToken,
        f: impl Fn(&mut engine::Transaction, Option<StoreId>) -> Result<R>,
    ) -> Result<R> {
        self.session.read(cancel, |transaction| {
            transaction.with(cancel, |t| {
                let store = t.store(&self.engine_name)?.map(|(store, _)| store);
                f(t, store)
            })
        })
    }

    /// Several writes that count as one.
    fn write<R>(&self, cancel: &CancelToken, f: impl Fn(&mut engine::Transaction) -> Result<R>) -> Result<R> {
        self.session.write(cancel, |transaction| {
            transaction.check_writable(&format!("change model store {:?}", self.name))?;
            transaction.name_keys(&self.engine_name, Arc::new(keys::describe));
            transaction.with_all_or_end(cancel, &f)
        })
    }
}

/// Number of models of a store, versions not counted.
pub(crate) fn count(t: &mut engine::Transaction, store: &engine::Store) -> Result<u64> {
    let (start, mut count) = (keys::models_of(None)?, 0);
    let end = after(&start);
    walk::visit(
        t,
        store.id,
        (Bound::Included(&*start), Bound::Excluded(&*end)),
        Direction::Forward,
        |_, _| {
            count += 1;
            Ok(true)
        },
    )?;
    Ok(count)
}

/// The store and what it says of a model; None when it has none of that name.
fn head_in(
    t: &mut engine::Transaction,
    store: Option<StoreId>,
    key: &ModelKey,
) -> Result<Option<(StoreId, Head)>> {
    let Some(store) = store else { return Ok(None) };
    let Some(bytes) = load(t, store, &key.head())? else { return Ok(None) };
    Ok(Some((store, Head::decode(&bytes)?)))
}

fn put_head(t: &mut engine::Transaction, store: StoreId, key: &ModelKey, head: Head) -> Result<()> {
    Ok(t.put(store, &key.head(), &head.encode()?, Placement::Auto)?)
}

fn record_in(
    t: &mut engine::Transaction,
    store: StoreId,
    key: &ModelKey,
    version: u64,
) -> Result<Option<Record>> {
    load(t, store, &key.version(version))?.map(|bytes| Record::decode(&bytes)).transpose()
}

/// The versions there are, rising.
fn version_numbers(t: &mut engine::Transaction, store: StoreId, key: &ModelKey) -> Result<Vec<u64>> {
    let (start, end) = (key.version(0), key.version(u64::MAX));
    let mut numbers = Vec::new();
    let span = (Bound::Included(&*start), Bound::Included(&*end));
    walk::visit(t, store, span, Direction::Forward, |key, _| {
        let number = key.last_chunk().map(|number| u64::from_be_bytes(*number));
        numbers.push(number.ok_or_else(|| damaged("a key is not that of a version"))?);
        Ok(true)
    })?;
    Ok(numbers)
}

fn load(t: &mut engine::Transaction, store: StoreId, key: &[u8]) -> Result<Option<Vec<u8>>> {
    match t.get(store, key)? {
        Some(Value::Inline(bytes)) => Ok(Some(bytes.to_vec())),
        Some(value) => Ok(Some(t.load(&value)?)),
        None => Ok(None),
    }
}

/// The least key that does not begin with `start`, which does not end with FF.
fn after(start: &[u8]) -> Vec<u8> {
    let mut end = start.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn milliseconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorCode::Corruption, format!("a model store is damaged: {what}"))
}
