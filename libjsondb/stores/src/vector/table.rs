//! What a process keeps in memory of an index: its centroids, and the lists that queries scanned.
//!
//! Everything is named by the stamps of index versions, which are never drawn twice: whatever is found under the stamp that a snapshot shows is
//! what that snapshot has, in whichever database. So nothing is ever invalidated, only forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use engine::{CancelToken, Direction, PerProcess, StoreId, Transaction, Value};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::clustering::{Finder, Index};
use super::kernel::{Int8Rows, Matrix, dot, prefetch, prefetch_at};
use super::keys::{self, BASE, ClusterId, KeyRange, ListKey, damaged};
use super::list::List;
use super::ranked::CentroidScores;
use super::read_ahead::ReadAhead;
use super::state::{Change, IndexState};
use super::types::Metric;
use crate::{Result, walk};

/// Bytes of lists kept in memory, of all stores of the process.
pub(super) const LISTS_BYTES_MAX: u64 = 64 << 20;
/// Tables kept in memory, of all stores of the process.
const TABLES_MAX: usize = 8;
/// How far back a known table is brought up to date; a table that is older is read anew.
const CHANGES_MAX: u64 = 64;

/// The centroids of an index, rotated.
#[derive(Clone, Debug)]
pub(super) struct Centroids {
    pub(super) ids: Vec<ClusterId>,
    pub(super) rotated: Matrix,
    norms_squared: Vec<f32>,
    int8: Int8Rows,
    /// Made when a row first looks for its clusters.
    index: OnceLock<Arc<Index>>,
    /// The centroid of [`BASE`].
    pub(super) base: Arc<[f32]>,
}

/// An index at one version.
pub(super) struct Table {
    pub(super) state: IndexState,
    pub(super) centroids: Arc<Centroids>,
    /// For each centroid.
    lists: Vec<Slot>,
    pub(super) read_ahead: ReadAhead,
}

/// The list of a centroid.
struct Slot {
    /// Of a version since which it is what it is.
    stamp: u64,
    /// Spares a look into the cache while it is there.
    known: Mutex<Weak<List>>,
}

impl Slot {
    fn new(stamp: u64) -> Self {
        Self { stamp, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Weak<List>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        Self { stamp: self.stamp, known: Mutex::new(self.known().clone()) }
    }
}

impl Centroids {
    /// None yet. `padded`: numbers of a rotated vector.
    pub(super) fn new(padded: usize) -> Self {
        Self {
            ids: Vec::new(),
            rotated: Matrix::new(padded),
            norms_squared: Vec::new(),
            int8: Int8Rows::new(padded),
            index: OnceLock::new(),
            base: vec![0.0; padded].into(),
        }
    }

    pub(super) fn push(&mut self, id: ClusterId, rotated: &[f32], metric: Metric) {
        let norm_squared = dot(rotated, rotated);
        self.ids.push(id);
        self.rotated.push(rotated);
        self.norms_squared.push(norm_squared);
        self.int8.push_scaled(rotated, ranking_factor(norm_squared, metric), metric.bias(norm_squared));
    }

    fn replace(&mut self, index: usize, id: ClusterId, rotated: &[f32], metric: Metric) {
        let norm_squared = dot(rotated, rotated);
        self.ids[index] = id;
        self.rotated.row_mut(index).copy_from_slice(rotated);
        self.norms_squared[index] = norm_squared;
        let factor = ranking_factor(norm_squared, metric);
        self.int8.replace(index, rotated, factor, metric.bias(norm_squared));
    }

    fn swap_remove(&mut self, index: usize) {
        self.ids.swap_remove(index);
        self.rotated.swap_remove(index);
        self.norms_squared.swap_remove(index);
        self.int8.swap_remove(index);
    }

    /// Where a centroid is.
    pub(super) fn place_of(&self, id: ClusterId) -> Option<usize> {
        self.ids.iter().position(|other| *other == id)
    }

    /// Where a centroid is that is likely at this place.
    fn place_near(&self, likely: usize, id: ClusterId) -> Option<usize> {
        if self.ids.get(likely) == Some(&id) { Some(likely) } else { self.place_of(id) }
    }

    /// What centroids are ranked by, the product with the query given.
    pub(super) fn rank(&self, index: usize, product: f32, metric: Metric) -> f32 {
        let norm_squared = self.norms_squared[index];
        match metric {
            Metric::Cosine if norm_squared > 0.0 => product / norm_squared.sqrt(),
            _ => self.score(index, product, metric),
        }
    }

    /// Finds the clusters of rows.
    pub(super) fn finder(&self, cancel: &CancelToken) -> Result<Finder<'_>> {
        if let Some(index) = self.index.get() {
            return Ok(Finder::with_index(&self.rotated, Arc::clone(index)));
        }
        let finder = Finder::new(&self.rotated, cancel)?;
        // Another thread may have made the same.
        let _ = self.index.set(Arc::clone(finder.index()));
        Ok(finder)
    }

    /// What a row on this centroid would be ranked by, its product with the query given.
    pub(super) fn score(&self, index: usize, product: f32, metric: Metric) -> f32 {
        product + metric.bias(self.norms_squared[index])
    }

    fn load(t: &mut Transaction, store: StoreId, padded: usize, metric: Metric) -> Result<Self> {
        let mut found: Vec<(ClusterId, Value)> = Vec::new();
        t.once(|t| {
            walk::visit(t, store, KeyRange::all(b'c').span(), Direction::Forward, |key, value| {
                found.push((keys::cluster_of_centroid(key)?, value.to_value()));
                Ok(true)
            })
        })?;
        let mut centroids = Self::new(padded);
        let mut centroid = Vec::new();
        for (id, value) in found {
            match value {
                Value::Inline(bytes) => decode(&bytes, padded, &mut centroid)?,
                // Of many numbers.
                value @ Value::Blob(_) => decode(&t.load(&value)?, padded, &mut centroid)?,
            }
            match id {
                BASE => centroids.base = centroid.as_slice().into(),
                id => centroids.push(id, &centroid, metric),
            }
        }
        Ok(centroids)
    }

    /// These with others in the place of those in `changed`; the rest stay where they are, but for the last ones.
    fn with(
        &self,
        changed: &BTreeSet<ClusterId>,
        t: &mut Transaction,
        store: StoreId,
        metric: Metric,
    ) -> Result<Self> {
        let mut centroids = self.clone();
        let mut index = centroids.index.take().map(Arc::unwrap_or_clone);
        let mut free: Vec<usize> = changed.iter().filter_map(|id| self.place_of(*id)).collect();
        free.sort_unstable();
        let mut centroid = Vec::new();
        for id in changed {
            let Some(bytes) = keys::load(t, store, &keys::centroid(*id))? else { continue };
            decode(&bytes, self.rotated.dimension(), &mut centroid)?;
            let place = free.pop();
            match place {
                Some(place) => centroids.replace(place, *id, &centroid, metric),
                None => centroids.push(*id, &centroid, metric),
            }
            if let Some(index) = &mut index {
                index.put(place.unwrap_or(centroids.ids.len() - 1), &centroid);
            }
        }
        while let Some(place) = free.pop() {
            centroids.swap_remove(place);
            if let Some(index) = &mut index {
                index.swap_remove(place, centroids.ids.len());
            }
        }
        if let Some(index) = index.filter(|index| !index.is_worn(centroids.ids.len())) {
            centroids.index = Arc::new(index).into();
        }
        Ok(centroids)
    }
}

/// What a centroid's products are multiplied with to be ranked. Cosine: by direction. A centroid is the shorter the more its rows differ, which
/// does not make them worse.
fn ranking_factor(norm_squared: f32, metric: Metric) -> f32 {
    match metric {
        Metric::Cosine if norm_squared > 0.0 => 1.0 / norm_squared.sqrt(),
        _ => 1.0,
    }
}

fn decode(bytes: &[u8], padded: usize, centroid: &mut Vec<f32>) -> Result<()> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if numbers.len() != padded || !rest.is_empty() {
        return Err(damaged("a centroid has the wrong length"));
    }
    centroid.clear();
    centroid.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
    Ok(())
}

impl Table {
    /// The index as a snapshot has it. `padded`: numbers of a rotated vector.
    pub(super) fn read(
        t: &mut Transaction,
        store: StoreId,
        padded: usize,
        metric: Metric,
    ) -> Result<Arc<Table>> {
        let state = IndexState::read(t, store)?;
        let cache = CACHE.get();
        if state.version == 0 {
            // Of every store, whatever its dimension.
            return Ok(Arc::new(Table {
                state,
                centroids: Arc::new(Centroids::new(padded)),
                lists: Vec::new(),
                read_ahead: ReadAhead::new(&state, padded / 64),
            }));
        }
        if let Some(table) = cache.table(state.stamp) {
            return Ok(table);
        }
        let table = match cache.older(t, store, &state)? {
            Some((table, changes)) => table.after(state, &changes, t, store, metric)?,
            None => {
                let centroids = Centroids::load(t, store, padded, metric)?;
                let lists = centroids.ids.iter().map(|_| Slot::new(state.stamp)).collect();
                let read_ahead = ReadAhead::new(&state, padded / 64);
                Table { state, centroids: Arc::new(centroids), lists, read_ahead }
            }
        };
        if table.centroids.ids.len() != state.clusters as usize {
            return Err(damaged("the index has another number of centroids than it says"));
        }
        Ok(cache.keep(table))
    }

    /// The table that `changes`, oldest first, made of this one.
    fn after(
        &self,
        state: IndexState,
        changes: &[(u64, Change)],
        t: &mut Transaction,
        store: StoreId,
        metric: Metric,
    ) -> Result<Table> {
        let changed: BTreeSet<ClusterId> =
            changes.iter().flat_map(|(_, change)| change.centroids.iter().copied()).collect();
        let centroids = if changed.is_empty() {
            Arc::clone(&self.centroids)
        } else {
            Arc::new(self.centroids.with(&changed, t, store, metric)?)
        };
        let mut stamps = BTreeMap::new();
        for (stamp, change) in changes {
            stamps.extend(change.centroids.iter().chain(&change.lists).map(|cluster| (*cluster, *stamp)));
        }
        let slot = |(place, id): (usize, &ClusterId)| match stamps.get(id) {
            Some(stamp) => Slot::new(*stamp),
            None => self.slot(place, *id).map_or_else(|| Slot::new(state.stamp), Slot::clone),
        };
        let lists = centroids.ids.iter().enumerate().map(slot).collect();
        Ok(Table { state, centroids, lists, read_ahead: self.read_ahead.clone() })
    }

    /// The slot of a centroid that is likely at this place.
    fn slot(&self, likely: usize, id: ClusterId) -> Option<&Slot> {
        self.centroids.place_near(likely, id).and_then(|place| self.lists.get(place))
    }

    /// Scores all centroids for each of some rotated queries. By 8-bit numbers: about.
    pub(super) fn score<'a>(
        &self,
        queries: impl ExactSizeIterator<Item = &'a [f32]>,
        scores: &mut CentroidScores,
    ) {
        scores.fill(&self.centroids.int8, queries);
    }

    /// The list of a centroid, from memory when it was scanned before.
    pub(super) fn list(
        &self,
        index: usize,
        words: usize,
        t: &mut Transaction,
        store: StoreId,
    ) -> Result<Arc<List>> {
        let (slot, cluster) = (&self.lists[index], self.centroids.ids[index]);
        if let Some(list) = slot.known().upgrade() {
            return Ok(list);
        }
        let list = cached(ListName::Cluster { stamp: slot.stamp, cluster }, || {
            // Kept as a list, and not as pages as well.
            let loaded = t.once(|t| List::load(t, store, ListKey::Cluster(cluster), words))?;
            Ok(loaded.list.shrunk())
        })?;
        *slot.known() = Arc::downgrade(&list);
        Ok(list)
    }

    /// Keeps the lists that are in memory and to which the version of `stamp` only added rows: so they need not be read again.
    pub(super) fn keep_grown(&self, stamp: u64, added: &BTreeMap<ClusterId, List>) {
        let lists = &CACHE.get().lists;
        for (slot, cluster) in self.lists.iter().zip(&self.centroids.ids) {
            let Some(added) = added.get(cluster) else { continue };
            if let Some((_, list)) = lists.remove(&ListName::Cluster { stamp: slot.stamp, cluster: *cluster })
            {
                let grown = list.with(added);
                lists.insert(ListName::Cluster { stamp, cluster: *cluster }, Arc::new(grown));
            }
        }
    }

    /// Keeps lists that were read, unless they are in memory.
    pub(super) fn keep_read(&self, lists: Vec<(ClusterId, List)>) {
        let (cache, mut likely) = (&CACHE.get().lists, 0);
        for (cluster, list) in lists {
            let Some(place) = self.centroids.place_near(likely, cluster) else { continue };
            likely = place + 1;
            let slot = &self.lists[place];
            let name = ListName::Cluster { stamp: slot.stamp, cluster };
            if cache.get(&name).is_none() {
                let list = Arc::new(list.clone());
                *slot.known() = Arc::downgrade(&list);
                cache.insert(name, list);
            }
        }
    }

    /// Lists that are in memory.
    #[cfg(test)]
    pub(super) fn lists_in_memory(&self) -> usize {
        let slots = self.lists.iter().zip(&self.centroids.ids);
        let names = slots.map(|(slot, cluster)| ListName::Cluster { stamp: slot.stamp, cluster: *cluster });
        names.filter(|name| CACHE.get().lists.get(name).is_some()).count()
    }

    /// Asks for the memory that says where a centroid's list lies, which [`Table::prefetch`] looks at next.
    pub(super) fn prefetch_head(&self, index: usize) {
        prefetch_at(self.lists[index].known().as_ptr());
    }

    /// Asks for the memory of a centroid and of its list, which come next; gives the list where it is in memory.
    pub(super) fn prefetch(&self, index: usize) -> Option<Arc<List>> {
        prefetch(self.centroids.rotated.row(index));
        let list = self.lists[index].known().upgrade()?;
        let (add, scale, codes) = list.columns();
        prefetch(codes);
        prefetch(add);
        prefetch(scale);
        Some(list)
    }
}

/// What a list in memory is. Of one name there is only one content, in whatever order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ListName {
    /// That of a cluster, since the version of this stamp.
    Cluster { stamp: u64, cluster: ClusterId },
    /// Of the rows that had this centroid_id at the version of this stamp.
    Explicit { stamp: u64, id: u64 },
    /// Of the fresh rows of a store (its [`super::state::Config::id`]) when so many had been added, at the version of this stamp.
    Fresh { store: u64, stamp: u64, added: u64 },
}

/// A list from memory; else from `load`, and kept.
pub(super) fn cached(name: ListName, load: impl FnOnce() -> Result<List>) -> Result<Arc<List>> {
    let cache = CACHE.get();
    if let Some(list) = cache.lists.get(&name) {
        return Ok(list);
    }
    let list = Arc::new(load()?);
    cache.lists.insert(name, Arc::clone(&list));
    Ok(list)
}

struct IndexCache {
    tables: Mutex<Vec<Arc<Table>>>,
    lists: Cache<ListName, Arc<List>, ListBytes>,
}

static CACHE: PerProcess<IndexCache> = PerProcess::new();

#[derive(Clone)]
struct ListBytes;

impl Weighter<ListName, Arc<List>> for ListBytes {
    fn weight(&self, _: &ListName, list: &Arc<List>) -> u64 {
        list.bytes() as u64 + 128
    }
}

impl Default for IndexCache {
    fn default() -> Self {
        let lists = Cache::with_weighter(8192, LISTS_BYTES_MAX, ListBytes);
        Self { tables: Mutex::default(), lists }
    }
}

impl IndexCache {
    fn table(&self, stamp: u64) -> Option<Arc<Table>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tables.iter().position(|table| table.state.stamp == stamp)?;
        // The one used last is at the end.
        let end = tables.len();
        tables[place..end].rotate_left(1);
        tables.last().cloned()
    }

    fn keep(&self, table: Table) -> Arc<Table> {
        let table = Arc::new(table);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= TABLES_MAX {
            tables.remove(0);
        }
        tables.push(Arc::clone(&table));
        table
    }

    /// A table of an earlier version of the same index, and the changes since, oldest first.
    #[expect(clippy::type_complexity)]
    fn older(
        &self,
        t: &mut Transaction,
        store: StoreId,
        state: &IndexState,
    ) -> Result<Option<(Arc<Table>, Vec<(u64, Change)>)>> {
        let mut changes = Vec::new();
        for version in (1..=state.version).rev().take(CHANGES_MAX as usize) {
            let Some((stamp, change)) = Change::read(t, store, version)? else { return Ok(None) };
            if !changes.is_empty()
                && let Some(table) = self.table(stamp)
            {
                changes.reverse();
                return Ok(Some((table, changes)));
            }
            if change.is_rebuild {
                return Ok(None);
            }
            changes.push((stamp, change));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use engine::Mode;

    use super::*;
    use crate::vector::random::Random;
    use crate::vector::{VectorOptions, VectorStore};
    use crate::{Database, DatabaseOptions, Session};

    #[test]
    fn lists_in_memory_grow_with_those_of_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let storage_path = folder.path().to_str().unwrap().to_owned();
        let database =
            Database::open(DatabaseOptions { storage_path, ..DatabaseOptions::default() }).unwrap();
        let session = Session::Auto(Arc::clone(&database));
        let vectors = VectorStore::open(session, "v", VectorOptions::default()).unwrap();
        let cancel = CancelToken::new();
        let mut random = Random::new(1);
        let mut add = |from: usize, to: usize| {
            let ids: Vec<String> = (from..to).map(|id| id.to_string()).collect();
            let numbers: Vec<f32> =
                (from * 8..to * 8).map(|_| random.below(2_001) as f32 / 1_000.0 - 1.0).collect();
            vectors.upsert_arrays(&cancel, &ids, 8, &numbers, None).unwrap();
        };
        let check = |are_in_memory: bool| {
            let mut t = database.begin_engine(Mode::Read, &cancel).unwrap();
            let shape = vectors.shape(&mut t).unwrap().unwrap();
            let (store, words) = (shape.store, shape.words());
            let table = Table::read(&mut t, store, shape.rotation.padded(), shape.config.metric).unwrap();
            assert!(table.centroids.ids.len() > 10);
            let known = table.lists_in_memory();
            for (index, cluster) in table.centroids.ids.iter().enumerate() {
                let memory = table.list(index, words, &mut t, store).unwrap();
                let stored = List::load(&mut t, store, ListKey::Cluster(*cluster), words).unwrap().list;
                assert_eq!(rows_of(&memory), rows_of(&stored));
            }
            assert!(!are_in_memory || known == table.centroids.ids.len(), "{known} lists are in memory");
            table.state.indexed
        };
        add(0, 1_000);
        vectors.optimize(&cancel).unwrap();
        assert_eq!(check(false), 1_000);
        add(1_000, 1_080);
        assert_eq!(check(true), 1_080, "rows came to lists, of which some were folded");
        // Clusters are split and their rows move to others.
        for batch in 0..30 {
            add(1_080 + batch * 100, 1_180 + batch * 100);
            check(false);
        }
    }

    fn rows_of(list: &List) -> BTreeSet<(u64, bool, u32, u32, Vec<u64>)> {
        let row = |index: usize| {
            let (factors, mut code) = (list.factors(index), vec![0; list.words()]);
            list.copy_code(index, &mut code);
            (list.row(index).0, list.is_primary(index), factors.add.to_bits(), factors.scale.to_bits(), code)
        };
        (0..list.len()).map(row).collect()
    }
}
