//! Queries: lists are scanned by estimate, the best rows scored exactly, their entries looked up.

use std::cell::Cell;
use std::collections::hash_map::Entry::Vacant;
use std::sync::Arc;
use std::thread;

use engine::{CancelToken, Mode, StoreId, Transaction};

use super::entry::{self, Entry, payload};
use super::filter::{Filter, Matches};
use super::flat::Flat;
use super::heap::{Heap, Walk};
use super::keys::{self, KeyRange, ListKey, RowId};
use super::list::{Coded, List};
use super::places::Places;
use super::rabitq::Query;
use super::ranked::{CentroidScores, Ranked};
use super::shape::Shape;
use super::shortlist::{Ranking, RowMap, Scored, Shortlist};
use super::state::{RECALLS, Reach};
use super::table::{ListName, Table, cached};
use super::{ArrayQueryOptions, Hit, QueryOptions, VectorStore, counters};
use crate::{Error, ErrorCode, Result};

/// Recall that is aimed at when nothing else is said.
pub(super) const RECALL_DEFAULT: f32 = 0.95;

/// Up to this many rows a query scans everything, with bounds that are exact in effect.
const EXACT_ROWS_MAX: u64 = 4096;
/// Standard errors of estimates that are exact in effect: it fails for one row in three million.
const ERRORS_EXACT: f32 = 5.0;
/// Standard errors for [`RECALLS`].
const ERRORS: [f32; 3] = [1.0, 1.3, 2.3];

/// Standard errors, at the least, of estimates by fine codes: a row that passed both is hardly lost by the second.
const ERRORS_OF_FINE_CODES: f32 = 2.0;
/// Standard errors, at the least, where so few rows count that all of them are scanned: it costs little.
const ERRORS_OF_FEW_ROWS: f32 = 2.0;

/// Queries whose centroids are scored together.
const QUERIES_TOGETHER: usize = 8;

/// Lists scanned at once when those scanned before did not suffice.
const PROBES_AT_ONCE: usize = 64;
/// Lists scanned whatever their distance.
pub(super) const PROBES_MIN: usize = 4;

/// Rows with the score of the k-th hit among which those with the lowest ids are chosen.
const TIES_MAX: usize = 1024;

/// Cells of a result array: ids and scores of all queries of a call.
const RESULT_CELLS_MAX: usize = 1 << 25;

const THREADS_MAX: usize = 64;

/// What all queries of a call have in common.
struct Request {
    k: usize,
    filter: Option<Filter>,
    nprobe: Option<u32>,
    recall: f32,
    exact: bool,
    explicit: Option<Vec<u64>>,
    with_payload: bool,
}

/// A hit whose payload is still text.
struct Found {
    row: RowId,
    id: String,
    score: f32,
    payload: Vec<u8>,
}

impl VectorStore {
    /// The `k` rows most similar to a vector, by falling score, then by id.
    pub fn query(&self, cancel: &CancelToken, options: &QueryOptions) -> Result<Vec<Hit>> {
        let request = Request {
            k: usize::try_from(options.k).unwrap_or(0),
            filter: Filter::parse(options.filter.as_ref())?,
            nprobe: options.nprobe,
            recall: recall(options.target_recall)?,
            exact: options.exact,
            explicit: options.centroid_ids.as_deref().map(explicit_ids).transpose()?,
            with_payload: true,
        };
        let found = self.find(cancel, options.vector.len(), &options.vector, &request, 1)?;
        let hit =
            |found: Found| Ok(Hit { id: found.id, score: found.score, payload: payload(found.payload)? });
        found.into_iter().flatten().map(hit).collect()
    }

    /// Ids and scores of the `k` best rows for each of many queries of `dimension` numbers that lie one after
    /// the other. Both results have `k` cells per query; where fewer rows exist, the last are "" and NaN.
    pub fn query_arrays(
        &self,
        cancel: &CancelToken,
        dimension: usize,
        queries: &[f32],
        k: i64,
        options: &ArrayQueryOptions,
    ) -> Result<(Vec<String>, Vec<f32>)> {
        if dimension == 0 || !queries.len().is_multiple_of(dimension) {
            let message = format!("{} numbers are no queries of dimension {dimension}", queries.len());
            return Err(Error::new(ErrorCode::Validation, message));
        }
        let count = queries.len() / dimension;
        let k = usize::try_from(k).unwrap_or(0);
        let cells = count.checked_mul(k).filter(|cells| *cells <= RESULT_CELLS_MAX).ok_or_else(|| {
            let message = format!("{count} queries times k {k} are more than {RESULT_CELLS_MAX} results");
            Error::new(ErrorCode::Validation, message)
        })?;
        let request = Request {
            k,
            filter: Filter::parse(options.filter.as_ref())?,
            nprobe: options.nprobe,
            recall: recall(options.target_recall)?,
            exact: options.exact,
            explicit: options.centroid_ids.as_deref().map(explicit_ids).transpose()?,
            with_payload: false,
        };
        let threads = (options.threads as usize).clamp(1, THREADS_MAX);
        let found = self.find(cancel, dimension, queries, &request, threads)?;
        let (mut ids, mut scores) = (vec![String::new(); cells], vec![f32::NAN; cells]);
        for (query, hits) in found.into_iter().enumerate() {
            for (rank, hit) in hits.into_iter().enumerate() {
                ids[query * k + rank] = hit.id;
                scores[query * k + rank] = hit.score;
            }
        }
        Ok((ids, scores))
    }

    /// The hits of each query; no element at all when nothing can be found.
    fn find(
        &self,
        cancel: &CancelToken,
        dimension: usize,
        queries: &[f32],
        request: &Request,
        threads: usize,
    ) -> Result<Vec<Vec<Found>>> {
        if dimension == 0 {
            return Err(Error::new(ErrorCode::Validation, "the query's vector is empty"));
        }
        queries.chunks_exact(dimension).try_for_each(check_query)?;
        self.read(cancel, |t| {
            let Some(shape) = self.shape(t)? else { return Ok(Vec::new()) };
            if dimension != shape.dimension() {
                return Err(self.dimension_mismatch(shape.dimension(), dimension, "the query"));
            }
            queries.chunks_exact(dimension).try_for_each(|query| shape.check_length(query, "the query"))?;
            let found = t.untracked(|t| {
                let rows = counters::rows(t, shape.store)?;
                let k = request.k.min(usize::try_from(rows).unwrap_or(usize::MAX));
                if k == 0 {
                    return Ok(Vec::new());
                }
                let plan = Plan::new(t, &shape, request, k, rows)?;
                plan.run(t, queries, threads, cancel)
            })?;
            if t.mode() == Mode::Write {
                // The rows returned count as read, and nothing else.
                for hit in found.iter().flatten() {
                    Entry::load(t, shape.store, hit.row)?;
                }
            }
            Ok(found)
        })
    }
}

fn check_query(vector: &[f32]) -> Result<()> {
    match vector.iter().position(|number| !number.is_finite()) {
        Some(index) => {
            let message = format!("the query's vector holds {} at position {index}", vector[index]);
            Err(Error::new(ErrorCode::Validation, message))
        }
        None => Ok(()),
    }
}

fn recall(asked: Option<f32>) -> Result<f32> {
    match asked {
        None => Ok(RECALL_DEFAULT),
        Some(recall) if recall > 0.0 && recall <= 1.0 => Ok(recall),
        Some(other) => {
            let message = format!("target_recall is above 0 and at most 1, not {other}");
            Err(Error::new(ErrorCode::Validation, message))
        }
    }
}

fn explicit_ids(ids: &[i64]) -> Result<Vec<u64>> {
    let mut explicit = Vec::with_capacity(ids.len());
    for id in ids {
        explicit.push(u64::try_from(*id).ok().filter(|id| *id > 0).ok_or_else(|| {
            let message = format!("centroid_ids names explicit clusters, which are above 0, not {id}");
            Error::new(ErrorCode::Validation, message)
        })?);
    }
    explicit.sort_unstable();
    explicit.dedup();
    Ok(explicit)
}

/// A value for a recall out of those for [`RECALLS`].
fn at_recall(values: [f32; 3], recall: f32) -> f32 {
    let [low, middle, high] = RECALLS;
    let between = |a: f32, b: f32, share: f32| if share <= 0.0 { a } else { a + (b - a) * share };
    if recall <= middle {
        between(values[0], values[1], (recall - low) / (middle - low))
    } else {
        // Beyond the last one it goes on to rise.
        between(values[1], values[2], (recall - middle) / (high - middle))
    }
}

/// How the queries of a call are answered on one snapshot.
struct Plan<'a> {
    request: &'a Request,
    shape: &'a Shape,
    table: Arc<Table>,
    k: usize,
    /// Rows that are in no cluster yet.
    fresh: Arc<List>,
    /// The indexed rows that pass the filter.
    matches: Option<Arc<Matches>>,
    /// What is scanned in the place of clusters.
    whole: Option<Whole>,
    errors: f32,
    reach: Reach,
}

/// Codes relative to the base, of which none is left out.
enum Whole {
    /// Of the explicit clusters asked for.
    Explicit(Vec<Arc<List>>),
    /// Of the rows that pass a filter, when they are few.
    Matches(Arc<Flat>),
}

impl Whole {
    fn lists(&self) -> Vec<&List> {
        match self {
            Whole::Explicit(lists) => lists.iter().map(|list| &**list).collect(),
            Whole::Matches(rows) => vec![rows.list()],
        }
    }
}

impl<'a> Plan<'a> {
    fn new(t: &mut Transaction, shape: &'a Shape, request: &'a Request, k: usize, rows: u64) -> Result<Self> {
        let table = Table::read(t, shape.store, shape.rotation.padded(), shape.config.metric)?;
        let (store, words, stamp) = (shape.store, shape.words(), table.state.stamp);
        let fresh = if t.has_writes() {
            // No other transaction sees these rows.
            Arc::new(load_fresh(t, store, words)?)
        } else {
            let added = counters::added(t, store)?;
            let name = ListName::Fresh { store: shape.home, stamp, added };
            cached(name, || load_fresh(t, store, words))?
        };
        let matches = match &request.filter {
            Some(filter) if !request.exact => {
                Some(Matches::find(t, store, (shape.home, stamp), filter, words)?)
            }
            _ => None,
        };
        let whole = match (&request.explicit, &matches) {
            _ if request.exact => None,
            (Some(ids), _) => {
                let list = |id: &u64| {
                    cached(ListName::Explicit { stamp, id: *id }, || {
                        Ok(List::load(t, store, ListKey::Explicit(*id), words)?.list)
                    })
                };
                Some(Whole::Explicit(ids.iter().map(list).collect::<Result<_>>()?))
            }
            (None, Some(matches)) => {
                let base = &table.centroids.base;
                matches.codes(base, |codes, rows| gather(t, shape, base, codes, rows))?.map(Whole::Matches)
            }
            (None, None) => None,
        };
        let is_whole = request.nprobe.is_some_and(|nprobe| nprobe as usize >= table.centroids.ids.len());
        let in_effect_exact = rows <= EXACT_ROWS_MAX || request.recall >= 1.0 || is_whole;
        let (errors, reach) = if in_effect_exact {
            (ERRORS_EXACT, Reach::ALL)
        } else {
            let learned = table.state.reach;
            let slack = at_recall(learned.map(|reach| reach.slack), request.recall);
            let lists_of_ten = at_recall(learned.map(|reach| reach.lists), request.recall);
            // The more rows are wanted, the farther apart they lie.
            let reach = Reach { slack, lists: lists_of_ten * (k as f32 / 10.0).max(1.0) };
            let errors = at_recall(ERRORS, request.recall);
            let scanned = |whole: &Whole| whole.lists().iter().map(|list| list.len() as u64).sum::<u64>();
            let is_few = whole.as_ref().is_some_and(|whole| scanned(whole) <= EXACT_ROWS_MAX);
            let errors = if is_few { errors.max(ERRORS_OF_FEW_ROWS) } else { errors };
            (errors, reach)
        };
        Ok(Self { request, shape, table, k, fresh, matches, whole, errors, reach })
    }

    fn run(
        &self,
        t: &mut Transaction,
        queries: &[f32],
        threads: usize,
        cancel: &CancelToken,
    ) -> Result<Vec<Vec<Found>>> {
        let dimension = self.shape.dimension();
        let count = queries.len() / dimension;
        let answer = |t: &mut Transaction, queries: &[f32]| -> Result<Vec<Vec<Found>>> {
            if self.request.exact {
                return self.exact(t, queries, cancel);
            }
            let mut search = Search::new(self, t)?;
            let mut found = Vec::with_capacity(queries.len() / dimension);
            for queries in queries.chunks(QUERIES_TOGETHER * dimension) {
                cancel.check()?;
                search.run(t, queries, &mut found)?;
            }
            Ok(found)
        };
        let per_thread = count.div_ceil(threads.min(count).max(1)).max(1);
        let mut readers = Vec::new();
        for _ in queries.chunks(per_thread * dimension).skip(1) {
            // None where the transaction has written: only itself sees that.
            readers.extend(t.reader()?);
        }
        if readers.is_empty() {
            return answer(t, queries);
        }
        thread::scope(|scope| {
            let mut parts = queries.chunks(per_thread * dimension);
            let own = parts.next().unwrap_or_default();
            let running: Vec<_> = parts
                .zip(readers)
                .map(|(part, mut reader)| scope.spawn(move || answer(&mut reader, part)))
                .collect();
            let mut found = answer(t, own)?;
            for thread in running {
                found.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(found)
        })
    }

    /// True for rows of lists that the filter does not rule out.
    fn counts(&self, row: RowId) -> bool {
        self.matches.as_ref().is_none_or(|matches| matches.contains(row))
    }

    /// The entry of a row that may be a hit, with its payload where that was asked for.
    fn entry(&self, t: &mut Transaction, row: RowId) -> Result<Option<Entry>> {
        let Request { explicit, filter, with_payload, .. } = self.request;
        t.get_with(self.shape.store, &keys::entry(row), |bytes| {
            let Some(bytes) = bytes else { return Ok(None) };
            let (id, centroid_id, payload) = entry::parts(bytes)?;
            let accepted = explicit.as_ref().is_none_or(|ids| ids.binary_search(&centroid_id).is_ok())
                && filter.as_ref().is_none_or(|filter| filter.matches(payload));
            let payload = if *with_payload { payload.to_vec() } else { Vec::new() };
            Ok(accepted.then(|| Entry { id: id.to_owned(), centroid_id, payload }))
        })?
    }

    /// The hits among rows in order of rank, of which those of equal rank at the end are all there.
    fn hits(&self, mut found: Vec<Found>) -> Vec<Found> {
        found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        found.truncate(self.k);
        found
    }

    /// Scores every vector there is.
    fn exact(&self, t: &mut Transaction, queries: &[f32], cancel: &CancelToken) -> Result<Vec<Vec<Found>>> {
        let Shape { store, config, .. } = *self.shape;
        let prepared: Vec<Vec<f32>> =
            queries.chunks_exact(self.shape.dimension()).map(|query| self.shape.prepared(query)).collect();
        let mut best: Vec<Vec<Found>> = prepared.iter().map(|_| Vec::new()).collect();
        let (mut walk, heap) = (Walk::new(), Heap::new(self.shape.dimension()));
        let mut block: Vec<(usize, RowId, f32)> = Vec::new();
        loop {
            cancel.check()?;
            let floors: Vec<f32> = best.iter().map(|best| self.floor(best)).collect();
            let more = walk.next(&heap, t, store, |row, stored| {
                for (index, query) in prepared.iter().enumerate() {
                    let score = config.metric.score(query, stored);
                    if score >= floors[index] {
                        block.push((index, row, score));
                    }
                }
                Ok(())
            })?;
            // The best first, so that few entries are looked at.
            block.sort_unstable_by(|a, b| b.2.total_cmp(&a.2));
            for (index, row, score) in block.drain(..) {
                if score < self.floor(&best[index]) {
                    continue;
                }
                if let Some(entry) = self.entry(t, row)? {
                    let best = &mut best[index];
                    best.push(Found { row, id: entry.id, score, payload: entry.payload });
                    if best.len() >= 2 * self.k + TIES_MAX {
                        *best = self.hits(std::mem::take(best));
                    }
                }
            }
            if !more {
                return Ok(best.into_iter().map(|best| self.hits(best)).collect());
            }
        }
    }

    /// Rows with less cannot be among the best any more.
    fn floor(&self, best: &[Found]) -> f32 {
        if best.len() < self.k {
            return f32::NEG_INFINITY;
        }
        best.iter().take(self.k).map(|hit| hit.score).fold(f32::INFINITY, f32::min)
    }
}

/// The codes of all rows that are in no cluster yet.
pub(super) fn load_fresh(t: &mut Transaction, store: StoreId, words: usize) -> Result<List> {
    List::load_range(t, store, &KeyRange::all(b'n'), words, |_| ())
}

/// Adds the codes of rows relative to the base.
fn gather(
    t: &mut Transaction,
    shape: &Shape,
    base: &[f32],
    codes: &mut Flat,
    rows: impl Iterator<Item = RowId>,
) -> Result<()> {
    let (mut heap, mut code) = (Heap::new(shape.dimension()), vec![0; shape.words()]);
    for row in rows {
        if let Some(stored) = heap.read(t, shape.store, row)? {
            let rotated = shape.rotated_stored(stored);
            let factors = shape.encode(&rotated, base, &mut code);
            codes.push(Coded { row, is_primary: true, factors, code: &code }, &rotated, base);
        }
    }
    Ok(())
}

/// One query after the other, in the same memory.
struct Search<'a> {
    plan: &'a Plan<'a>,
    heap: Heap,
    memory: Box<Memory>,
}

/// What searches of a thread leave to the next one: to ask for it anew takes longer than to fill it.
#[derive(Default)]
struct Memory {
    /// The queries of one round, one after the other: prepared, and rotated.
    prepared: Vec<f32>,
    rotated: Vec<f32>,
    scores: CentroidScores,
    code: Query,
    ranked: Ranked,
    places: Places,
}

thread_local! {
    static IDLE: Cell<Option<Box<Memory>>> = const { Cell::new(None) };
}

impl<'a> Search<'a> {
    fn new(plan: &'a Plan<'a>, t: &Transaction) -> Result<Self> {
        let mut memory = IDLE.take().unwrap_or_default();
        let places = std::mem::take(&mut memory.places).in_tree(t, plan.shape)?;
        Ok(Self { plan, heap: Heap::with_places(plan.shape.dimension(), places), memory })
    }

    /// Adds what is found for each of some queries to `found`.
    fn run(&mut self, t: &mut Transaction, queries: &[f32], found: &mut Vec<Vec<Found>>) -> Result<()> {
        let Plan { shape, table, whole, .. } = self.plan;
        let (dimension, padded) = (shape.dimension(), shape.rotation.padded());
        let Memory { prepared, rotated, scores, .. } = &mut *self.memory;
        prepared.clear();
        rotated.resize(queries.len() / dimension * padded, 0.0);
        for (query, rotated) in queries.chunks_exact(dimension).zip(rotated.chunks_exact_mut(padded)) {
            let query = shape.prepared(query);
            shape.rotation.apply(&query, rotated);
            prepared.extend_from_slice(&query);
        }
        if whole.is_none() {
            table.score(rotated.chunks_exact(padded), scores);
        }
        for number in 0..queries.len() / dimension {
            found.push(match self.attempt(t, number, false)? {
                Some(found) => found,
                // More of the best rows were gone than is usual: nothing may be dropped on the way.
                None => self.attempt(t, number, true)?.unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// None when rows may be missing because others, which turned out to be gone, were taken for better.
    fn attempt(&mut self, t: &mut Transaction, number: usize, keeps_all: bool) -> Result<Option<Vec<Found>>> {
        let plan = self.plan;
        let mut shortlist = Shortlist::new(plan.k, plan.errors, keeps_all);
        self.scan_fresh(number, &mut shortlist);
        let mut probes = Probes::new(plan, number);
        match &plan.whole {
            Some(whole) => {
                let Memory { rotated, code, .. } = &mut *self.memory;
                let rotated = vector(rotated, number, plan.shape.rotation.padded());
                code.prepare(rotated, &plan.table.centroids.base);
                for list in whole.lists() {
                    shortlist.scan(list, code, true, |row| plan.counts(row));
                }
                probes.is_done = true;
            }
            None => self.probe(t, &mut probes, &mut shortlist)?,
        }
        let mut ranking = shortlist.into_ranking();
        loop {
            let (found, gone) = self.settle(t, number, &mut ranking)?;
            if !keeps_all && gone > plan.k / 4 {
                return Ok(None);
            }
            if found.len() >= plan.k || probes.is_done {
                return Ok(Some(plan.hits(found)));
            }
            let mut more = Shortlist::new(plan.k, plan.errors, true);
            self.probe(t, &mut probes, &mut more)?;
            ranking.extend(more);
        }
    }

    fn scan_fresh(&mut self, number: usize, shortlist: &mut Shortlist) {
        let Plan { fresh, request, shape, .. } = self.plan;
        if !fresh.is_empty() {
            let Memory { rotated, code, .. } = &mut *self.memory;
            let rotated = vector(rotated, number, shape.rotation.padded());
            // Their codes are relative to zero.
            code.prepare(rotated, &vec![0.0; rotated.len()]);
            // Whether they count is seen from their entries.
            let is_sure = request.filter.is_none() && request.explicit.is_none();
            shortlist.scan(fresh, code, is_sure, |_| true);
        }
    }

    /// Scans the next lists: as many as the request says or the learned reach asks for, and at least one.
    fn probe(&mut self, t: &mut Transaction, probes: &mut Probes, shortlist: &mut Shortlist) -> Result<()> {
        let plan = self.plan;
        let (table, words) = (&plan.table, plan.shape.words());
        let Memory { rotated, scores, code, ranked, .. } = &mut *self.memory;
        let rotated = vector(rotated, probes.query, plan.shape.rotation.padded());
        if !std::mem::replace(&mut probes.is_ranked, true) {
            ranked.begin(scores, probes.query);
            table.read_ahead.go_on(table, words, t, plan.shape.store);
        }
        let end = probes.next.saturating_add(probes.wanted);
        // The list behind.
        let mut ahead = None;
        while probes.next < end {
            let Some(index) = ranked.at(probes.next) else {
                probes.is_done = true;
                return Ok(());
            };
            let here = std::mem::take(&mut ahead);
            ahead = ranked.at(probes.next + 1).and_then(|following| table.prefetch(following));
            if let Some(second) = ranked.at(probes.next + 2) {
                table.prefetch_head(second);
            }
            code.prepare(rotated, table.centroids.rotated.row(index));
            if probes.is_adaptive && probes.next >= PROBES_MIN {
                let score = table.centroids.score(index, code.centroid_dot, plan.shape.config.metric);
                let missing = shortlist.kth_estimate() - score;
                if missing > plan.reach.slack * code.distance || probes.next as f32 >= plan.reach.lists {
                    break;
                }
            }
            let list = match here {
                Some(list) => list,
                None => table.list(index, words, t, plan.shape.store)?,
            };
            shortlist.scan(&list, code, true, |row| plan.counts(row));
            probes.next += 1;
        }
        // Whoever comes again has not found enough.
        probes.is_adaptive = false;
        probes.wanted = PROBES_AT_ONCE;
        Ok(())
    }

    /// The best rows that count, with those of the same rank as the last; and how many of the best were gone.
    fn settle(
        &mut self,
        t: &mut Transaction,
        number: usize,
        ranking: &mut Ranking,
    ) -> Result<(Vec<Found>, usize)> {
        let Shape { store, config, .. } = *self.plan.shape;
        let Memory { prepared, code, .. } = &*self.memory;
        let query = vector(prepared, number, self.plan.shape.dimension());
        let query_squared = super::kernel::dot(query, query);
        let errors = self.plan.errors.max(ERRORS_OF_FINE_CODES);
        let better_bound = |row| match &self.plan.whole {
            Some(Whole::Matches(rows)) => rows.bound(row, code, errors),
            _ => None,
        };
        let (mut known, mut gone): (RowMap<Option<Entry>>, usize) = (RowMap::default(), 0);
        loop {
            ranking.settle(self.plan.k, better_bound, |row| {
                let stored = self.heap.read(t, store, row)?;
                Ok(stored.map(|stored| {
                    let score = config.metric.score(query, stored);
                    (score, config.metric.rank(score, query_squared))
                }))
            })?;
            let best = ranking.best(self.plan.k, TIES_MAX);
            let mut missing = 0;
            for scored in &best {
                if let Vacant(place) = known.entry(scored.row) {
                    let entry = self.plan.entry(t, scored.row)?;
                    missing += usize::from(entry.is_none());
                    place.insert(entry);
                }
            }
            if missing == 0 {
                let found = |Scored { row, score, .. }: Scored| {
                    let entry = known.remove(&row).flatten()?;
                    Some(Found { row, id: entry.id, score, payload: entry.payload })
                };
                return Ok((best.into_iter().filter_map(found).collect(), gone));
            }
            gone += missing;
            ranking.retain(|row| known.get(&row).is_none_or(Option::is_some));
        }
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.memory);
        memory.places = self.heap.take_places();
        IDLE.set(Some(memory));
    }
}

/// One of vectors of so many numbers that lie one after the other.
fn vector(numbers: &[f32], number: usize, len: usize) -> &[f32] {
    &numbers[number * len..][..len]
}

/// How far the centroids of a query were looked at, the nearest first.
struct Probes {
    /// Number of the query in its round.
    query: usize,
    is_ranked: bool,
    next: usize,
    wanted: usize,
    is_adaptive: bool,
    is_done: bool,
}

impl Probes {
    fn new(plan: &Plan<'_>, query: usize) -> Self {
        let nprobe = plan.request.nprobe.map(|nprobe| nprobe as usize);
        Self {
            query,
            is_ranked: false,
            next: 0,
            wanted: nprobe.unwrap_or(usize::MAX),
            is_adaptive: nprobe.is_none(),
            is_done: false,
        }
    }
}
