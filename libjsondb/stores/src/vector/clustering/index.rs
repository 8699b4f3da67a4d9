//! Candidates for the nearest centroid, by 8-bit scores.

use std::sync::Arc;

use engine::CancelToken;

use super::assign::{Finder, GROUPED_CENTROIDS_MIN};
use super::best::Best;
use super::kmeans;
use super::means::mean;
use crate::Result;
use crate::vector::kernel::{Int8Query, Int8Rows, Matrix, dot};

/// Groups searched for a row: those whose heads are nearest.
const GROUPS_SEARCHED: usize = 16;

/// The part of all centroids of which others may have come since it was made.
const CHANGES_PART: usize = 4;

/// Standard errors below the largest score within which a centroid may be the nearest. Among rows that are almost
/// equal, that may be many.
const MARGIN: f32 = 5.0;

/// Centroids in 8 bits per number, as seen from their mean: so the numbers tell them apart even where all of them are
/// in one place far away.
#[derive(Clone, Debug)]
pub(in crate::vector) struct Index {
    mean: Vec<f32>,
    parts: Parts,
    /// Centroids that were put since it was made.
    changes: usize,
}

#[derive(Clone, Debug)]
enum Parts {
    All(Int8Rows),
    /// Centroids near to each other are scored only when the head of their group is among the nearest.
    Groups {
        heads: Int8Rows,
        groups: Vec<Arc<Group>>,
    },
}

#[derive(Clone, Debug)]
struct Group {
    ids: Vec<u32>,
    rows: Int8Rows,
}

/// Memory of searches, used for one after the other.
pub(super) struct Scratch {
    shifted: Vec<f32>,
    queries: Vec<Int8Query>,
    scores: Vec<f32>,
    heads: Best,
    best: Best,
}

impl Scratch {
    pub(super) fn new(candidates: usize) -> Self {
        Self {
            shifted: Vec::new(),
            queries: Vec::new(),
            scores: Vec::new(),
            heads: Best::new(GROUPS_SEARCHED),
            best: Best::new(candidates),
        }
    }

    fn prepare(&mut self, rows: &[&[f32]], mean: &[f32]) {
        self.queries.resize_with(rows.len(), Int8Query::default);
        for (query, row) in self.queries.iter_mut().zip(rows) {
            shift(row, mean, &mut self.shifted);
            query.prepare(&self.shifted);
        }
    }
}

impl Index {
    /// Scores every centroid.
    pub(super) fn flat(centroids: &Matrix) -> Self {
        let mean = mean(centroids.rows(), centroids.dimension());
        let parts = Parts::All(int8_rows(centroids.rows(), &mean));
        Self { mean, parts, changes: 0 }
    }

    /// About as many groups as there are centroids in each.
    pub(super) fn grouped(centroids: &Matrix, cancel: &CancelToken) -> Result<Self> {
        let mean = mean(centroids.rows(), centroids.dimension());
        let heads = kmeans::lloyd(centroids, centroids.len().isqrt(), cancel)?;
        let mut members = vec![Vec::new(); heads.len()];
        for (id, head) in (0..).zip(Finder::flat(&heads).nearest_of(centroids, cancel)?) {
            members[head as usize].push(id);
        }
        let group = |ids: Vec<u32>| {
            let rows = int8_rows(ids.iter().map(|id| centroids.row(*id as usize)), &mean);
            Arc::new(Group { ids, rows })
        };
        let groups = members.into_iter().map(group).collect();
        let parts = Parts::Groups { heads: int8_rows(heads.rows(), &mean), groups };
        Ok(Self { mean, parts, changes: 0 })
    }

    /// True when so many of its `count` centroids are others than it was made for that it is better made anew.
    pub(in crate::vector) fn is_worn(&self, count: usize) -> bool {
        self.changes * CHANGES_PART > count
            || matches!(self.parts, Parts::All(_)) != (count < GROUPED_CENTROIDS_MIN)
    }

    /// Puts a centroid into the place of that with this id, or behind the last.
    pub(in crate::vector) fn put(&mut self, id: usize, centroid: &[f32]) {
        self.changes += 1;
        let mut shifted = Vec::new();
        shift(centroid, &self.mean, &mut shifted);
        let add = half_square(&shifted);
        match &mut self.parts {
            Parts::All(rows) if id < rows.len() => rows.replace(id, &shifted, 1.0, add),
            Parts::All(rows) => rows.push_with(&shifted, add),
            Parts::Groups { heads, groups } => {
                take_out(groups, id);
                let mut scores = Vec::new();
                heads.scores(&Int8Query::new(&shifted), &mut scores);
                let nearest = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
                let group = Arc::make_mut(&mut groups[nearest.unwrap_or(0)]);
                group.ids.push(id as u32);
                group.rows.push_with(&shifted, add);
            }
        }
    }

    /// Removes a centroid; the last one, `last`, gets its id.
    pub(in crate::vector) fn swap_remove(&mut self, id: usize, last: usize) {
        match &mut self.parts {
            Parts::All(rows) => rows.swap_remove(id),
            Parts::Groups { groups, .. } => {
                take_out(groups, id);
                if let Some((group, place)) = find(groups, last) {
                    Arc::make_mut(&mut groups[group]).ids[place] = id as u32;
                }
            }
        }
    }

    /// Gives `found` the place of each row and the ids of its candidates.
    pub(super) fn search(
        &self,
        rows: &[&[f32]],
        scratch: &mut Scratch,
        mut found: impl FnMut(usize, &mut dyn Iterator<Item = u32>),
    ) {
        scratch.prepare(rows, &self.mean);
        let Scratch { queries, scores, heads: near, best, .. } = scratch;
        match &self.parts {
            Parts::All(rows) => {
                rows.scores_of(queries, scores);
                for (place, scores) in scores.chunks_exact(rows.padded_len().max(1)).enumerate() {
                    best.begin(MARGIN * rows.standard_error(&queries[place]));
                    best.offer(&scores[..rows.len()], |index| index as u32);
                    found(place, &mut best.ids());
                }
            }
            Parts::Groups { heads, groups } => {
                for (place, query) in queries.iter().enumerate() {
                    heads.scores(query, scores);
                    near.begin(0.0);
                    near.offer(scores, |index| index as u32);
                    best.begin(MARGIN * heads.standard_error(query));
                    for head in near.ids() {
                        let group = &groups[head as usize];
                        group.rows.scores(query, scores);
                        best.offer(scores, |index| group.ids[index]);
                    }
                    found(place, &mut best.ids());
                }
            }
        }
    }

    /// Centroids and heads scored for a row.
    pub(super) fn scores_per_row(&self) -> usize {
        match &self.parts {
            Parts::All(rows) => rows.len(),
            Parts::Groups { heads, .. } => heads.len() * (1 + GROUPS_SEARCHED),
        }
    }
}

fn int8_rows<'a>(centroids: impl Iterator<Item = &'a [f32]>, mean: &[f32]) -> Int8Rows {
    let mut rows = Int8Rows::new(mean.len());
    let mut shifted = Vec::new();
    for centroid in centroids {
        shift(centroid, mean, &mut shifted);
        rows.push_with(&shifted, half_square(&shifted));
    }
    rows
}

/// What makes the score of a row the largest at the smallest distance.
fn half_square(row: &[f32]) -> f32 {
    -dot(row, row) / 2.0
}

/// The group that a centroid is in, and its place there.
fn find(groups: &[Arc<Group>], id: usize) -> Option<(usize, usize)> {
    let place = |group: &Arc<Group>| group.ids.iter().position(|other| *other as usize == id);
    groups.iter().enumerate().find_map(|(index, group)| place(group).map(|place| (index, place)))
}

fn take_out(groups: &mut [Arc<Group>], id: usize) {
    if let Some((group, place)) = find(groups, id) {
        let group = Arc::make_mut(&mut groups[group]);
        group.ids.swap_remove(place);
        group.rows.swap_remove(place);
    }
}

fn shift(row: &[f32], mean: &[f32], shifted: &mut Vec<f32>) {
    shifted.clear();
    shifted.extend(row.iter().zip(mean).map(|(number, mean)| number - mean));
}
