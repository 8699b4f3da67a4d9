//! Splitting and dissolving clusters in one index transaction.
//!
//! A split keeps every row in the cluster nearest to it (LIRE: Xu et al., SPFresh, SOSP 2023, arXiv 2410.14452): rows of the clusters nearby move
//! to a new centroid when it is nearer, and rows of the old cluster to one nearby. Second lists stay what they are: they are only hints.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use engine::{CancelToken, Placement, Transaction};

use super::tend::primary_rows;
use super::vacuum::dead_rows;
use crate::Result;
use crate::vector::clustering::{Finder, split_in_two};
use crate::vector::heap::Heap;
use crate::vector::kernel::{Matrix, distance_squared, dot, encode};
use crate::vector::keys::{self, ClusterId, ListKey, RowId};
use crate::vector::list::{self, Coded, List, Loaded};
use crate::vector::rabitq::Query;
use crate::vector::shape::Shape;
use crate::vector::state::{Change, IndexState};
use crate::vector::table::Table;

/// Clusters nearby whose rows are compared with new centroids.
const NEIGHBOURS: usize = 8;
/// Clusters nearby among which rows of a dissolved one find their new ones.
const HEIRS: usize = 32;

/// Splits and dissolutions, made in a transaction but not committed. The table is that of its beginning.
pub(super) struct Reshaping<'a> {
    t: &'a mut Transaction,
    shape: &'a Shape,
    table: &'a Table,
    state: &'a mut IndexState,
    heap: Heap,
    /// New clusters and their centroids.
    new: BTreeMap<ClusterId, Vec<f32>>,
    gone: BTreeSet<ClusterId>,
    changed: BTreeSet<ClusterId>,
    /// Whether lists were packed.
    is_folded: bool,
    /// Read when it is first needed.
    dead: Option<HashSet<RowId>>,
}

/// Rows of a list that are there, with their vectors.
struct Members {
    rows: Vec<RowId>,
    /// Rotated.
    vectors: Matrix,
}

/// A cluster near to one that is split, and what that changes in its list.
struct Neighbour {
    cluster: ClusterId,
    centroid: Vec<f32>,
    list: List,
    /// Rows to take away.
    leaving: HashSet<RowId>,
    coming: Vec<(RowId, Vec<f32>)>,
}

impl<'a> Reshaping<'a> {
    pub(super) fn new(
        t: &'a mut Transaction,
        shape: &'a Shape,
        table: &'a Table,
        state: &'a mut IndexState,
    ) -> Self {
        let heap = Heap::new(shape.dimension());
        let (new, gone, changed) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { t, shape, table, state, heap, new, gone, changed, is_folded: false, dead: None }
    }

    /// What was changed in all, when anything was written.
    pub(super) fn into_change(self) -> Option<Change> {
        let Self { new, gone, mut changed, is_folded, .. } = self;
        // A cluster may have come and gone.
        let centroids: BTreeSet<ClusterId> = new.into_keys().chain(gone).collect();
        changed.retain(|cluster| !centroids.contains(cluster));
        let change = Change {
            is_rebuild: false,
            centroids: centroids.into_iter().collect(),
            lists: changed.into_iter().collect(),
        };
        (is_folded || change != Change::default()).then_some(change)
    }

    pub(super) fn clusters(&self) -> usize {
        self.state.clusters as usize
    }

    /// False when the cluster is gone.
    pub(super) fn is_there(&self, cluster: ClusterId) -> bool {
        self.centroid(cluster).is_some()
    }

    fn centroid(&self, cluster: ClusterId) -> Option<&[f32]> {
        if self.gone.contains(&cluster) {
            return None;
        }
        let centroids = &self.table.centroids;
        let known = || centroids.place_of(cluster).map(|index| centroids.rotated.row(index));
        self.new.get(&cluster).map(Vec::as_slice).or_else(known)
    }

    /// The list of a cluster.
    pub(super) fn load(&mut self, cluster: ClusterId) -> Result<Loaded> {
        List::load(self.t, self.shape.store, ListKey::Cluster(cluster), self.shape.words())
    }

    /// Packs the rows of a list that lie on their own. It has the same rows then, so what others keep of it in memory stays right.
    pub(super) fn fold(&mut self, cluster: ClusterId) -> Result<()> {
        list::fold(self.t, self.shape.store, ListKey::Cluster(cluster), self.shape.words())?;
        self.is_folded = true;
        Ok(())
    }

    /// Splits a cluster in two, unless no more than `primary_max` of its rows are there, or all of them are the same.
    pub(super) fn split(&mut self, cluster: ClusterId, list: &List, primary_max: usize) -> Result<()> {
        let primary = self.members(list, true)?;
        let secondary = self.members(list, false)?;
        let halves = (primary.rows.len() > primary_max).then(|| split_in_two(&primary.vectors));
        let Some((left, right)) = halves.filter(|(left, right)| is_apart(left, right)) else {
            return self.fold(cluster);
        };
        self.forget(list, &primary);
        let mut neighbours = self.neighbours(cluster)?;
        let halves = [self.add(left)?, self.add(right)?];
        let mut lists = [List::new(self.shape.words()), List::new(self.shape.words())];
        let mut placed = HashSet::new();
        for (row, vector) in primary.iter() {
            let (half, distance) = self.nearer_half(halves, vector);
            let others =
                neighbours.iter_mut().map(|other| (distance_squared(vector, &other.centroid), other));
            match others.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|other| other.0 < distance) {
                Some((_, other)) => other.coming.push((row, vector.to_vec())),
                None => self.push(&mut lists[half], halves[half], row, true, vector),
            }
            placed.insert(row);
        }
        for neighbour in &mut neighbours {
            for (row, vector, half) in self.leaving(neighbour, halves)? {
                neighbour.leaving.insert(row);
                self.push(&mut lists[half], halves[half], row, true, &vector);
                placed.insert(row);
            }
        }
        for (row, vector) in secondary.iter().filter(|(row, _)| !placed.contains(row)) {
            let (half, _) = self.nearer_half(halves, vector);
            self.push(&mut lists[half], halves[half], row, false, vector);
        }
        self.remove(cluster)?;
        for (half, list) in halves.into_iter().zip(&lists) {
            list.put_packed(self.t, self.shape.store, ListKey::Cluster(half), 0)?;
        }
        neighbours.into_iter().try_for_each(|neighbour| self.settle(neighbour))
    }

    /// Gives the rows of a cluster to others; gives these.
    pub(super) fn dissolve(
        &mut self,
        cluster: ClusterId,
        list: &List,
        cancel: &CancelToken,
    ) -> Result<BTreeSet<ClusterId>> {
        let (primary, secondary) = (self.members(list, true)?, self.members(list, false)?);
        self.forget(list, &primary);
        let heirs = self.nearest(cluster, HEIRS);
        let mut centroids = Matrix::new(self.shape.rotation.padded());
        heirs.iter().filter_map(|heir| self.centroid(*heir)).for_each(|centroid| centroids.push(centroid));
        let finder = Finder::new(&centroids, cancel)?;
        let mut touched = BTreeSet::new();
        for (members, is_primary) in [(&primary, true), (&secondary, false)] {
            let places = finder.nearest_two(&members.vectors, cancel)?;
            for ((row, vector), (first, second)) in members.iter().zip(places) {
                let place = if is_primary { Some(first) } else { second };
                let Some(place) = place.map(|place| place as usize) else { continue };
                let heir = ListKey::Cluster(heirs[place]);
                if !is_primary
                    && self.t.get_with(self.shape.store, &heir.loose(row), |code| code.is_some())?
                {
                    // It is there as one of the nearest.
                    continue;
                }
                let mut code = vec![0; self.shape.words()];
                let factors = self.shape.encode(vector, centroids.row(place), &mut code);
                let coded = Coded { row, is_primary, factors, code: &code };
                list::put_loose(self.t, self.shape.store, heir, coded)?;
                touched.insert(heirs[place]);
            }
        }
        self.changed.extend(&touched);
        self.remove(cluster)?;
        Ok(touched)
    }

    /// The rows of a list that are there: those nearest to its centroid, or the others.
    fn members(&mut self, list: &List, primary: bool) -> Result<Members> {
        self.read_dead()?;
        let mut members = Members { rows: Vec::new(), vectors: Matrix::new(self.shape.rotation.padded()) };
        for index in (0..list.len()).filter(|index| list.is_primary(*index) == primary) {
            let row = list.row(index);
            if let Some(vector) = self.vector(row)? {
                members.rows.push(row);
                members.vectors.push(&vector);
            }
        }
        Ok(members)
    }

    /// Deleted rows of a list that goes are in no cluster any more: those nearest to it that are not among its members.
    fn forget(&mut self, list: &List, primary: &Members) {
        let gone = primary_rows(list) - primary.rows.len();
        self.state.indexed = self.state.indexed.saturating_sub(gone as u64);
    }

    /// The rotated vector of a row; None when it is gone.
    fn vector(&mut self, row: RowId) -> Result<Option<Vec<f32>>> {
        if self.dead.as_ref().is_some_and(|dead| dead.contains(&row)) {
            return Ok(None);
        }
        let stored = self.heap.read(self.t, self.shape.store, row)?;
        Ok(stored.map(|stored| self.shape.rotated_stored(stored)))
    }

    fn read_dead(&mut self) -> Result<()> {
        if self.dead.is_none() {
            self.dead = Some(dead_rows(self.t, self.shape)?);
        }
        Ok(())
    }

    /// The clusters nearest to one, which is not among them.
    fn nearest(&self, cluster: ClusterId, wanted: usize) -> Vec<ClusterId> {
        let Some(centre) = self.centroid(cluster) else { return Vec::new() };
        let centroids = &self.table.centroids;
        let known = centroids.ids.iter().copied().zip(centroids.rotated.rows());
        let known = known.filter(|(id, _)| !self.gone.contains(id));
        let all = known.chain(self.new.iter().map(|(id, centroid)| (*id, centroid.as_slice())));
        let others = all.filter(|(id, _)| *id != cluster);
        let mut order: Vec<(f32, ClusterId)> = others
            .map(|(id, centroid)| (dot(centroid, centroid) - 2.0 * dot(centroid, centre), id))
            .collect();
        let wanted = wanted.min(order.len());
        if wanted < order.len() {
            order.select_nth_unstable_by(wanted, |a, b| a.0.total_cmp(&b.0));
            order.truncate(wanted);
        }
        order.into_iter().map(|(_, id)| id).collect()
    }

    fn neighbours(&mut self, cluster: ClusterId) -> Result<Vec<Neighbour>> {
        let mut neighbours = Vec::new();
        for cluster in self.nearest(cluster, NEIGHBOURS) {
            let Some(centroid) = self.centroid(cluster).map(<[f32]>::to_vec) else { continue };
            let list = self.load(cluster)?.list;
            neighbours.push(Neighbour {
                cluster,
                centroid,
                list,
                leaving: HashSet::new(),
                coming: Vec::new(),
            });
        }
        Ok(neighbours)
    }

    fn nearer_half(&self, halves: [ClusterId; 2], vector: &[f32]) -> (usize, f32) {
        let distance = |half: ClusterId| {
            self.new.get(&half).map_or(f32::INFINITY, |centroid| distance_squared(vector, centroid))
        };
        let [left, right] = halves.map(distance);
        if right < left { (1, right) } else { (0, left) }
    }

    /// Rows of a neighbour that are nearer to a new centroid, and to which. Estimates choose the few whose distances are taken.
    fn leaving(
        &mut self,
        neighbour: &Neighbour,
        halves: [ClusterId; 2],
    ) -> Result<Vec<(RowId, Vec<f32>, usize)>> {
        let (add, scale, codes) = neighbour.list.columns();
        let own = dot(&neighbour.centroid, &neighbour.centroid);
        let (mut candidates, mut estimates) = (BTreeSet::new(), Vec::new());
        for half in halves {
            let Some(centroid) = self.new.get(&half) else { continue };
            let query = Query::new(centroid, &neighbour.centroid);
            query.estimate(codes, add, scale, &mut estimates);
            let threshold = (dot(centroid, centroid) + own) / 2.0;
            // The product with the own centroid is known: its square and `add`.
            let gains = |index: &usize| estimates[*index] - add[*index] > threshold;
            candidates.extend(
                (0..neighbour.list.len()).filter(|index| neighbour.list.is_primary(*index)).filter(gains),
            );
        }
        let mut leaving = Vec::new();
        for index in candidates {
            let row = neighbour.list.row(index);
            let Some(vector) = self.vector(row)? else { continue };
            let (half, distance) = self.nearer_half(halves, &vector);
            if distance < distance_squared(&vector, &neighbour.centroid) {
                leaving.push((row, vector, half));
            }
        }
        Ok(leaving)
    }

    fn push(&self, list: &mut List, cluster: ClusterId, row: RowId, is_primary: bool, vector: &[f32]) {
        if let Some(centroid) = self.new.get(&cluster) {
            list.push_vector(self.shape, row, is_primary, vector, centroid);
        }
    }

    /// Writes the list of a neighbour anew, when it has changed.
    fn settle(&mut self, neighbour: Neighbour) -> Result<()> {
        let Neighbour { cluster, centroid, list, mut leaving, coming } = neighbour;
        if leaving.is_empty() && coming.is_empty() {
            return Ok(());
        }
        // It may have been their second list.
        leaving.extend(coming.iter().map(|(row, _)| *row));
        let mut kept = List::new(self.shape.words());
        kept.extend(&list, |row| !leaving.contains(&row));
        for (row, vector) in coming {
            kept.push_vector(self.shape, row, true, &vector, &centroid);
        }
        self.changed.insert(cluster);
        kept.store(self.t, self.shape.store, ListKey::Cluster(cluster))
    }

    fn add(&mut self, centroid: Vec<f32>) -> Result<ClusterId> {
        let cluster = self.state.next_cluster;
        self.state.next_cluster += 1;
        self.state.clusters += 1;
        self.t.put(self.shape.store, &keys::centroid(cluster), &encode(&centroid), Placement::Auto)?;
        self.new.insert(cluster, centroid);
        Ok(cluster)
    }

    fn remove(&mut self, cluster: ClusterId) -> Result<()> {
        list::remove(self.t, self.shape.store, ListKey::Cluster(cluster))?;
        self.t.delete(self.shape.store, &keys::centroid(cluster))?;
        self.state.clusters -= 1;
        self.gone.insert(cluster);
        Ok(())
    }
}

impl Members {
    fn iter(&self) -> impl Iterator<Item = (RowId, &[f32])> {
        self.rows.iter().copied().zip(self.vectors.rows())
    }
}

/// True when rows can be nearer to one than to the other.
fn is_apart(left: &[f32], right: &[f32]) -> bool {
    distance_squared(left, right) > f32::EPSILON * dot(left, left)
}
