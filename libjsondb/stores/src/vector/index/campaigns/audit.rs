//! What holds for a vector store, whatever happened to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use engine::{Direction, Mode, Transaction};
use serde_json::json;

use super::{Broken, DIMENSION, GROUPS, Rows, Verdict, store_of, wrong};
use crate::vector::filter::postings;
use crate::vector::heap::Heap;
use crate::vector::index::{gather, vacuum};
use crate::vector::keys::{self, KeyRange, ListKey, RowId};
use crate::vector::list::List;
use crate::vector::shape::Shape;
use crate::vector::table::Table;
use crate::vector::{counters, entry};
use crate::{CancelToken, Database, Progress, QueryOptions, Session, VectorStore, walk};

/// Everything: files, keys, answers about one row of so many.
pub(super) fn audit(database: &Arc<Database>, rows: &Rows, one_of: usize) -> Verdict<()> {
    structure(database, rows)?;
    answers(database, rows, one_of)?;
    let found = database.verify(&mut Progress::new(&CancelToken::new(), &mut |_, _| true))?;
    if found.intact { Ok(()) } else { wrong(format!("verify: {:?}", found.findings)) }
}

/// Each row, or one of so many, is found by its id and as the nearest to itself, nothing else is a hit, and filters find all there is.
pub(super) fn answers(database: &Arc<Database>, rows: &Rows, one_of: usize) -> Verdict<()> {
    let (store, cancel) = (store_of(Session::Auto(Arc::clone(database))), CancelToken::new());
    if store.count(&cancel)? != rows.len() as u64 {
        return wrong(format!("{} rows, not {}", store.count(&cancel)?, rows.len()));
    }
    for item in rows.values().step_by(one_of) {
        let found = store.get(&cancel, &item.id)?;
        let payload =
            |item: &crate::VectorItem| item.payload.as_ref().map(|payload| payload.get().to_owned());
        if found.vector != item.vector
            || payload(&found) != payload(item)
            || found.centroid_id != item.centroid_id
        {
            return wrong(format!("{found:?} instead of {item:?}"));
        }
        let nearest = hits(&store, rows, &item.vector, 1, None)?;
        if !nearest.contains(&item.id) {
            return wrong(format!("the nearest to {:?} is {nearest:?}", item.id));
        }
    }
    for group in 0..GROUPS {
        let text = format!("\"group\":{group}");
        let matches = |item: &&crate::VectorItem| item.payload.as_ref().unwrap().get().contains(&text);
        let expected: BTreeSet<String> = rows.values().filter(matches).map(|item| item.id.clone()).collect();
        let found = hits(&store, rows, &[1.0; DIMENSION], expected.len(), Some(json!({ "group": group })))?;
        if found != expected {
            return wrong(format!("{} of {} rows pass a filter", found.len(), expected.len()));
        }
    }
    let all = hits(&store, rows, &[1.0; DIMENSION], rows.len() + 10, None)?;
    if all.len() == rows.len() { Ok(()) } else { wrong(format!("{} hits of all", all.len())) }
}

/// The ids of the hits of a query, all of which are there, and as near as the query says.
fn hits(
    store: &VectorStore,
    rows: &Rows,
    vector: &[f32],
    k: usize,
    filter: Option<serde_json::Value>,
) -> Verdict<BTreeSet<String>> {
    // Of more rows than are searched exactly in any case a lower recall may miss one, rightly.
    let target_recall = Some(1.0);
    let options = QueryOptions {
        vector: vector.to_vec(),
        k: k as i64,
        filter,
        target_recall,
        ..QueryOptions::default()
    };
    let hits = store.query(&CancelToken::new(), &options)?;
    for hit in &hits {
        let Some(item) = rows.get(&hit.id) else { return wrong(format!("{:?} is not there", hit.id)) };
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let norms = product(vector, vector) * product(&item.vector, &item.vector);
        let score = product(vector, &item.vector) / norms.sqrt();
        if (score - hit.score).abs() > 1e-4 {
            return wrong(format!("{:?} has the score {}, not {score}", hit.id, hit.score));
        }
    }
    Ok(hits.into_iter().map(|hit| hit.id).collect())
}

/// The index names each row once, and counts what it has.
fn structure(database: &Arc<Database>, rows: &Rows) -> Verdict<()> {
    let store = store_of(Session::Auto(Arc::clone(database)));
    // What is written is rolled back.
    let mut t = database.begin_engine(Mode::Write, &CancelToken::new())?;
    let Some(shape) = store.shape(&mut t)? else {
        return if rows.is_empty() { Ok(()) } else { wrong("there is no store") };
    };
    let index = Index::read(&mut t, &shape)?;
    index.check_rows(&mut t, &shape, rows)?;
    index.check_counts(&t, &shape)?;
    index.check_places()?;
    index.check_explicit(&mut t, &shape)?;
    index.check_postings(&mut t, &shape)
}

/// The keys of a store.
struct Index {
    /// Row, id, centroid_id.
    live: BTreeMap<RowId, (String, u64)>,
    marked: HashSet<RowId>,
    fresh: Vec<RowId>,
    primary: Vec<RowId>,
    secondary: Vec<RowId>,
    indexed: u64,
    clusters: u32,
    centroids: usize,
}

impl Index {
    fn read(t: &mut Transaction, shape: &Shape) -> Verdict<Self> {
        let mut live = BTreeMap::new();
        entry::visit(t, shape.store, |row, bytes| {
            let (id, centroid_id, _) = entry::parts(bytes)?;
            live.insert(row, (id.to_owned(), centroid_id));
            Ok(())
        })?;
        let table = Table::read(t, shape.store, shape.rotation.padded(), shape.config.metric)?;
        let (mut primary, mut secondary) = (Vec::new(), Vec::new());
        for cluster in &table.centroids.ids {
            let list = List::load(t, shape.store, ListKey::Cluster(*cluster), shape.words())?.list;
            for index in 0..list.len() {
                let rows = if list.is_primary(index) { &mut primary } else { &mut secondary };
                rows.push(list.row(index));
            }
        }
        let fresh = gather::fresh_blocks(t, shape, usize::MAX)?.into_iter().flat_map(|(_, rows)| rows);
        Ok(Self {
            live,
            marked: vacuum::dead_rows(t, shape)?,
            fresh: fresh.collect(),
            primary,
            secondary,
            indexed: table.state.indexed,
            clusters: table.state.clusters,
            centroids: table.centroids.ids.len(),
        })
    }

    fn check_rows(&self, t: &mut Transaction, shape: &Shape, rows: &Rows) -> Verdict<()> {
        let ids: BTreeSet<&str> = self.live.values().map(|(id, _)| id.as_str()).collect();
        if !ids.iter().copied().eq(rows.keys().map(String::as_str)) || ids.len() != self.live.len() {
            return wrong(format!("{} entries of {} rows", self.live.len(), rows.len()));
        }
        let mut heap = Heap::new(shape.dimension());
        for (row, (id, _)) in &self.live {
            let address = keys::load(t, shape.store, &keys::item(id))?;
            if address.map(|bytes| RowId::from_bytes(&bytes)).transpose()? != Some(*row) {
                return wrong(format!("{id:?} is not where its id says"));
            }
            match heap.read(t, shape.store, *row)? {
                Some(stored) if stored.to_vec() == rows[id].vector => {}
                other => return wrong(format!("{id:?} has {other:?} for a vector")),
            }
        }
        Ok(())
    }

    fn check_counts(&self, t: &Transaction, shape: &Shape) -> Verdict<()> {
        let counted = [
            counters::rows(t, shape.store)?,
            counters::fresh(t, shape.store)?,
            counters::dead(t, shape.store)?,
            self.indexed,
            u64::from(self.clusters),
        ];
        let there =
            [self.live.len(), self.fresh.len(), self.marked.len(), self.primary.len(), self.centroids];
        if counted == there.map(|count| count as u64) {
            return Ok(());
        }
        wrong(format!("rows, fresh, dead, indexed, clusters: {counted:?} counted, {there:?} there"))
    }

    /// Each row is fresh or in one cluster, and what lists name is there, or was.
    fn check_places(&self) -> Verdict<()> {
        let mut places = HashSet::new();
        for row in self.fresh.iter().chain(&self.primary) {
            if !places.insert(*row) {
                return wrong(format!("{row:?} is in two places"));
            }
        }
        if let Some((row, (id, _))) = self.live.iter().find(|(row, _)| !places.contains(row)) {
            return wrong(format!("{id:?}, {row:?}, is in no place"));
        }
        let known = |row: &&RowId| !self.live.contains_key(row) && !self.marked.contains(row);
        match places.iter().chain(&self.secondary).find(known) {
            Some(row) => wrong(format!("{row:?} is in a list, and nobody knows it")),
            None => Ok(()),
        }
    }

    fn indexed_rows(&self) -> BTreeSet<RowId> {
        self.primary.iter().copied().filter(|row| self.live.contains_key(row)).collect()
    }

    fn check_explicit(&self, t: &mut Transaction, shape: &Shape) -> Verdict<()> {
        let indexed = self.indexed_rows();
        for id in 1..=3 {
            let list = List::load(t, shape.store, ListKey::Explicit(id), shape.words())?.list;
            let listed: Vec<RowId> = (0..list.len())
                .map(|index| list.row(index))
                .filter(|row| self.live.contains_key(row))
                .collect();
            let given = indexed.iter().filter(|row| self.live[row].1 == id).count();
            let right = |row: &RowId| indexed.contains(row) && self.live[row].1 == id;
            if listed.len() != given || !listed.iter().all(right) {
                return wrong(format!("{} rows in the list of {given} with centroid_id {id}", listed.len()));
            }
        }
        Ok(())
    }

    /// Rows with ordinals are those that are indexed, and some that were deleted.
    fn check_postings(&self, t: &mut Transaction, shape: &Shape) -> Verdict<()> {
        let mut numbered = Vec::new();
        postings::retain(t, shape.store, |row| {
            numbered.push(row);
            true
        })?;
        let there: Vec<RowId> = numbered.iter().copied().filter(|row| self.live.contains_key(row)).collect();
        let distinct: BTreeSet<RowId> = there.iter().copied().collect();
        if distinct.len() != there.len() || distinct != self.indexed_rows() {
            return wrong(format!(
                "{} rows have ordinals, {} are indexed",
                there.len(),
                self.indexed_rows().len()
            ));
        }
        match numbered.iter().find(|row| !self.live.contains_key(row) && !self.marked.contains(row)) {
            Some(row) => wrong(format!("{row:?} has an ordinal, and nobody knows it")),
            None => Ok(()),
        }
    }
}

/// How far index transactions are, for the report of a campaign: a build is under way, rows are fresh, deleted rows have marks.
pub(super) fn under_way(database: &Arc<Database>) -> Verdict<[bool; 3]> {
    let store = store_of(Session::Auto(Arc::clone(database)));
    let mut t = database.begin_engine(Mode::Read, &CancelToken::new())?;
    let Some(shape) = store.shape(&mut t)? else { return Ok([false; 3]) };
    let mut has = |prefix: &[u8]| -> Verdict<bool> {
        let mut found = false;
        walk::visit(&mut t, shape.store, KeyRange::all(prefix[0]).span(), Direction::Forward, |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok::<_, Broken>(found)
    };
    Ok([has(keys::LEASE)?, has(b"n")?, has(b"x")?])
}
