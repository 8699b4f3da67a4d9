//! Rows in and out: upsert, get, delete.
//!
//! Every writer reads the configuration and writes only keys of its own items, so writers of different items
//! never conflict; a clustering rewrites the configuration and thereby conflicts with all of them.

use std::collections::{BTreeSet, HashMap};

use engine::{CancelToken, Placement, StoreId, Transaction};
use serde_json::value::RawValue;

use super::assign::Finder;
use super::candidates::payload;
use super::config::{self, Config};
use super::counters::{self, Counts};
use super::kernel::{Matrix, encode};
use super::kmeans;
use super::layout::{self, ClusterId, Entry, ID_BYTES_MAX, METADATA, RowAddress, new_row_id};
use super::sample::{Sample, sample_size};
use super::{UsageMode, VectorItem, VectorStore};
use crate::{Error, ErrorCode, Result};

/// A batch of at least this many rows into a store without clusters is worth clustering.
const CLUSTERED_BATCH_MIN: usize = 4096;

/// Rows written between two looks at the cancel token.
const ROWS_PER_CHECK: usize = 256;

/// `content_size` of payloads that go to disk at once.
const CONTENT_BIG: i32 = 2;

/// An item to upsert, wherever its parts lie.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    id: &'a str,
    vector: &'a [f32],
    payload: Option<&'a RawValue>,
    centroid_id: i64,
}

impl<'a> From<&'a VectorItem> for Row<'a> {
    fn from(item: &'a VectorItem) -> Self {
        Row {
            id: &item.id,
            vector: &item.vector,
            payload: item.payload.as_deref(),
            centroid_id: item.centroid_id,
        }
    }
}

/// The rows of [`VectorStore::upsert_arrays`].
pub(super) fn rows_of_arrays<'a>(
    ids: &'a [String],
    dimension: usize,
    vectors: &'a [f32],
    payloads: Option<&'a [Box<RawValue>]>,
) -> Result<Vec<Row<'a>>> {
    if dimension == 0 && !ids.is_empty() {
        return Err(Error::new(ErrorCode::Validation, "the vectors are empty"));
    }
    if ids.len().checked_mul(dimension) != Some(vectors.len()) {
        let message = format!(
            "{} ids of dimension {dimension} need another number of numbers than {}",
            ids.len(),
            vectors.len()
        );
        return Err(Error::new(ErrorCode::Validation, message));
    }
    if let Some(payloads) = payloads.filter(|payloads| payloads.len() != ids.len()) {
        let message = format!("{} ids, but {} payloads", ids.len(), payloads.len());
        return Err(Error::new(ErrorCode::Validation, message));
    }
    let vectors = vectors.chunks_exact(dimension.max(1));
    let row = |(index, (id, vector)): (usize, (&'a String, &'a [f32]))| {
        let payload = payloads.and_then(|payloads| payloads.get(index)).map(|payload| &**payload);
        Row { id, vector, payload, centroid_id: 0 }
    };
    Ok(ids.iter().zip(vectors).enumerate().map(row).collect())
}

impl VectorStore {
    /// The item `id`. An automatic cluster is given as centroid id 0, so that upserting the item again keeps
    /// it automatic.
    pub fn get(&self, cancel: &CancelToken, id: &str) -> Result<VectorItem> {
        let item = self.read(cancel, |t| match self.config(t)? {
            Some((store, _)) if is_valid_id(id) => read_item(t, store, id),
            _ => Ok(None),
        })?;
        item.ok_or_else(|| {
            Error::new(ErrorCode::ItemNotFound, format!("item not found: {id}"))
                .with_detail("store", self.name())
                .with_detail("key", id)
        })
    }

    /// Removes the items with these ids; those that don't exist are passed over.
    pub fn delete(&self, cancel: &CancelToken, ids: &[impl AsRef<str>]) -> Result<()> {
        let remove = |t: &mut Transaction| {
            let Some((store, config)) = self.config(t)? else {
                return Ok(());
            };
            let mut counts = Counts::new(&config);
            for (index, id) in ids.iter().map(AsRef::as_ref).enumerate() {
                if index % ROWS_PER_CHECK == 0 {
                    cancel.check()?;
                }
                let address = if is_valid_id(id) { layout::find_item(t, store, id)? } else { None };
                if let Some(address) = address {
                    t.delete(store, &layout::item_key(id))?;
                    t.delete(store, &address.vector_key())?;
                    t.delete(store, &layout::payload_key(&address.row))?;
                    counts.removed(address.cluster);
                }
            }
            counts.store(t, store)
        };
        self.write(cancel, |_| Ok(()), remove)
    }

    pub(super) fn write_rows(&self, cancel: &CancelToken, rows: &[Row<'_>]) -> Result<()> {
        rows.iter().enumerate().try_for_each(|(index, row)| self.check(index, row))?;
        let dimension = rows.first().map_or(0, |row| row.vector.len());
        let check = |found: Option<u32>| {
            let expected = found.map_or(dimension, |found| found as usize);
            match rows.iter().find(|row| row.vector.len() != expected) {
                Some(row) => Err(self.dimension_mismatch(expected, row.vector.len(), row.id)),
                None => Ok(()),
            }
        };
        check(None)?;
        let rows = last_of_each_id(rows);
        let check = |t: &mut Transaction| check(self.config(t)?.map(|(_, config)| config.dimension));
        self.write(cancel, check, |t| {
            if rows.is_empty() {
                return Ok(());
            }
            let store = t.ensure_store(&self.engine_name, METADATA)?;
            let mut config = match config::read_config(t, store)? {
                Some(config) => config,
                None => self.configure(t, store, dimension)?,
            };
            self.cluster_large_batch(t, store, &mut config, &rows, cancel)?;
            let clusters = self.choose_clusters(t, store, &config, &rows, cancel)?;
            self.put_rows(t, store, &config, &rows, &clusters, cancel)
        })
    }

    fn check(&self, index: usize, row: &Row<'_>) -> Result<()> {
        let invalid = |what: String| {
            let message = format!("item {index} ({:?}): {what}", shortened(row.id));
            Err(Error::new(ErrorCode::Validation, message).with_detail("store", self.name()))
        };
        if !is_valid_id(row.id) {
            return invalid(format!("an id has 1 to {ID_BYTES_MAX} bytes, this one has {}", row.id.len()));
        }
        if row.vector.is_empty() {
            return invalid("the vector is empty".to_owned());
        }
        if u32::try_from(row.vector.len()).is_err() {
            return invalid("the vector is too long".to_owned());
        }
        match row.vector.iter().position(|number| !number.is_finite()) {
            Some(position) => {
                invalid(format!("the vector holds {} at position {position}", row.vector[position]))
            }
            None => Ok(()),
        }
    }

    pub(super) fn dimension_mismatch(&self, expected: usize, found: usize, what: &str) -> Error {
        let message = format!("vectors here have {expected} numbers, {:?} has {found}", shortened(what));
        Error::new(ErrorCode::DimensionMismatch, message)
            .with_detail("store", self.name())
            .with_detail("expected", expected)
            .with_detail("found", found)
    }

    /// The configuration that a store gets with its first rows.
    fn configure(&self, t: &mut Transaction, store: StoreId, dimension: usize) -> Result<Config> {
        let config = Config::new(dimension as u32, UsageMode::from_number(self.options.usage_mode)?);
        config::write_config(t, store, &config)?;
        Ok(config)
    }

    /// Finds clusters in a large first batch. Rows that are there already stay unclustered until `optimize`.
    fn cluster_large_batch(
        &self,
        t: &mut Transaction,
        store: StoreId,
        config: &mut Config,
        rows: &[Row<'_>],
        cancel: &CancelToken,
    ) -> Result<()> {
        if config.centroid_count > 0 || config.usage_mode == UsageMode::BuildOnceQueryMany {
            return Ok(());
        }
        let automatic = || rows.iter().filter(|row| ClusterId::explicit(row.centroid_id).is_none());
        let count = automatic().count();
        if count < CLUSTERED_BATCH_MIN {
            return Ok(());
        }
        let dimension = config.dimension as usize;
        let mut sample = Sample::new(dimension, sample_size(count as u64, dimension));
        automatic().for_each(|row| sample.offer(row.vector));
        let centres = kmeans::centres(&sample.into_rows(), kmeans::cluster_count(count as u64), cancel)?;
        *config = config.next_clustering(centres.len() as u32);
        put_centres(t, store, config, &centres)?;
        config::write_config(t, store, config)
    }

    /// The cluster of each row: the one it names, else the nearest.
    fn choose_clusters(
        &self,
        t: &mut Transaction,
        store: StoreId,
        config: &Config,
        rows: &[Row<'_>],
        cancel: &CancelToken,
    ) -> Result<Vec<ClusterId>> {
        let explicit = rows.iter().map(|row| ClusterId::explicit(row.centroid_id));
        let mut clusters: Vec<ClusterId> = explicit.map(|id| id.unwrap_or(ClusterId::UNCLUSTERED)).collect();
        let automatic: Vec<usize> = (0..rows.len()).filter(|index| !clusters[*index].is_explicit()).collect();
        if config.centroid_count > 0 && !automatic.is_empty() {
            let centroids = self.automatic_centroids(t, store, config, cancel)?;
            let vectors: Vec<&[f32]> = automatic.iter().map(|index| rows[*index].vector).collect();
            let finder = Finder::new(&centroids.centres, vectors.len(), cancel)?;
            let nearest = finder.nearest_of_directions(&vectors, cancel)?;
            for (index, nearest) in automatic.into_iter().zip(nearest) {
                clusters[index] = ClusterId::automatic(config.generation, nearest.index);
            }
        }
        let mut known = BTreeSet::new();
        for (row, cluster) in rows.iter().zip(&clusters).filter(|(_, cluster)| cluster.is_explicit()) {
            if known.insert(*cluster) {
                create_explicit(t, store, *cluster, row.vector)?;
            }
        }
        Ok(clusters)
    }

    fn put_rows(
        &self,
        t: &mut Transaction,
        store: StoreId,
        config: &Config,
        rows: &[Row<'_>],
        clusters: &[ClusterId],
        cancel: &CancelToken,
    ) -> Result<()> {
        let mut counts = Counts::new(config);
        let placement =
            if self.options.content_size == CONTENT_BIG { Placement::Eager } else { Placement::Auto };
        for (index, (row, cluster)) in rows.iter().zip(clusters).enumerate() {
            if index % ROWS_PER_CHECK == 0 {
                cancel.check()?;
            }
            let old = layout::find_item(t, store, row.id)?;
            let address = RowAddress { cluster: *cluster, row: old.map_or_else(new_row_id, |old| old.row) };
            match old {
                Some(old) if old != address => {
                    t.delete(store, &old.vector_key())?;
                    counts.removed(old.cluster);
                    counts.added(*cluster);
                }
                Some(_) => {}
                None => counts.added(*cluster),
            }
            if old != Some(address) {
                t.put(store, &layout::item_key(row.id), &address.to_bytes(), Placement::Auto)?;
            }
            t.put(store, &address.vector_key(), &encode(row.vector), Placement::Auto)?;
            let payload = row.payload.map(RawValue::get).filter(|text| *text != "null").unwrap_or("");
            t.put(store, &layout::payload_key(&address.row), &Entry::encode(row.id, payload)?, placement)?;
        }
        counts.store(t, store)
    }
}

fn is_valid_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
}

/// Enough of an id to recognise it in a message.
fn shortened(id: &str) -> &str {
    match id.char_indices().nth(64) {
        Some((end, _)) => &id[..end],
        None => id,
    }
}

fn last_of_each_id<'a>(rows: &[Row<'a>]) -> Vec<Row<'a>> {
    let last: HashMap<&str, usize> = rows.iter().enumerate().map(|(index, row)| (row.id, index)).collect();
    rows.iter()
        .enumerate()
        .filter(|(index, row)| last.get(row.id) == Some(index))
        .map(|(_, row)| *row)
        .collect()
}

fn read_item(t: &mut Transaction, store: StoreId, id: &str) -> Result<Option<VectorItem>> {
    let Some(address) = layout::find_item(t, store, id)? else {
        return Ok(None);
    };
    let bytes = layout::load(t, store, &address.vector_key())?
        .ok_or_else(|| layout::damaged("a row has no vector"))?;
    let vector =
        super::kernel::decode(&bytes).ok_or_else(|| layout::damaged("a vector has the wrong length"))?;
    let entry = Entry::load(t, store, &address.row)?;
    let centroid_id = if address.cluster.is_explicit() { address.cluster.user_number() } else { 0 };
    let centroid_id =
        i64::try_from(centroid_id).map_err(|_| layout::damaged("a cluster id is out of range"))?;
    Ok(Some(VectorItem { id: entry.id, vector, payload: payload(entry.payload)?, centroid_id }))
}

/// Gives a cluster named for the first time its centre: the first vector in it. `optimize` refines it. Later
/// rows only read it, so that they don't conflict with one another.
fn create_explicit(t: &mut Transaction, store: StoreId, cluster: ClusterId, vector: &[f32]) -> Result<()> {
    let key = layout::centroid_key(cluster);
    if t.get(store, &key)?.is_none() {
        t.put(store, &key, &encode(vector), Placement::Auto)?;
        counters::count_new_explicit(t, store)?;
    }
    Ok(())
}

/// Stores the centres of the clustering that `config` describes.
pub(super) fn put_centres(
    t: &mut Transaction,
    store: StoreId,
    config: &Config,
    centres: &Matrix,
) -> Result<()> {
    for (index, centre) in (0..).zip(centres.rows()) {
        let key = layout::centroid_key(ClusterId::automatic(config.generation, index));
        t.put(store, &key, &encode(centre), Placement::Auto)?;
    }
    Ok(())
}
