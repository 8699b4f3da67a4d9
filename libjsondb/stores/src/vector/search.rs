//! Queries: one or many in one walk over the clusters they need.

use std::collections::BTreeMap;
use std::ops::Range;
use std::thread;

use engine::{CancelToken, StoreId, Transaction};

use super::assign::join;
use super::candidates::{Candidates, keep_best_hits};
use super::counters;
use super::filter::Filter;
use super::kernel::{cosine, norm, unit};
use super::layout::{ClusterId, KeyRange};
use super::probe::{Effort, Probe};
use super::rows::{RowBlock, RowCursor, rows_per_block};
use super::{ArrayQueryOptions, Hit, QueryOptions, VectorStore};
use crate::{Error, ErrorCode, Result};

/// Up to this many rows every query looks at all of them.
const EXACT_ROWS_MAX: u64 = 10_000;

/// Cells of a result array: ids and scores of all queries of a call.
const RESULT_CELLS_MAX: usize = 1 << 27;

/// Products below which starting threads costs more than it saves.
const PRODUCTS_PER_THREAD_MIN: usize = 4 << 20;

/// Blocks gathered before threads share them: enough work for each.
const BLOCKS_PER_THREAD: usize = 8;

const THREADS_MAX: usize = 64;

/// What all queries of a call have in common.
struct Request {
    k: usize,
    filter: Option<Filter>,
    nprobe: Option<u32>,
    exact: bool,
    explicit: Option<Vec<ClusterId>>,
    threads: usize,
}

/// One query under way.
struct Search {
    unit_query: Vec<f32>,
    probe: Probe,
    candidates: Candidates,
    hits: Vec<Hit>,
    is_open: bool,
}

impl VectorStore {
    /// The `k` rows most similar to a vector, by falling score, then by id.
    pub fn query(&self, cancel: &CancelToken, options: &QueryOptions) -> Result<Vec<Hit>> {
        check_query(&options.vector)?;
        let request = Request {
            k: usize::try_from(options.k).unwrap_or(0),
            filter: Filter::parse(options.filter.as_ref())?,
            nprobe: options.nprobe,
            exact: options.exact,
            explicit: options.centroid_ids.as_deref().map(explicit_clusters).transpose()?,
            threads: 1,
        };
        let dimension = options.vector.len();
        let mut found =
            self.read(cancel, |t| self.search(t, dimension, &options.vector, &request, cancel))?;
        Ok(found.pop().unwrap_or_default())
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
        queries.chunks_exact(dimension).try_for_each(check_query)?;
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
            exact: options.exact,
            explicit: None,
            threads: (options.threads as usize).clamp(1, THREADS_MAX),
        };
        let found = self.read(cancel, |t| self.search(t, dimension, queries, &request, cancel))?;
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
    fn search(
        &self,
        t: &mut Transaction,
        dimension: usize,
        queries: &[f32],
        request: &Request,
        cancel: &CancelToken,
    ) -> Result<Vec<Vec<Hit>>> {
        let Some((store, config)) = self.config(t)? else {
            return Ok(Vec::new());
        };
        if dimension != config.dimension as usize {
            return Err(self.dimension_mismatch(config.dimension as usize, dimension, "the query"));
        }
        let rows = counters::row_count(t, store)?;
        let k = request.k.min(usize::try_from(rows).unwrap_or(usize::MAX));
        if k == 0 {
            return Ok(Vec::new());
        }
        let mut scan = Scan { t, store, dimension, request, cancel, k };
        let mut searches: Vec<Search> = Vec::new();
        if let Some(clusters) = &request.explicit {
            let probe = |_: &[f32]| Probe::all(clusters.clone());
            searches.extend(queries.chunks_exact(dimension).map(|query| scan.begin(query, probe)));
        } else if request.exact || rows <= EXACT_ROWS_MAX || config.centroid_count == 0 {
            let probe = |_: &[f32]| Probe::all(Vec::new());
            searches.extend(queries.chunks_exact(dimension).map(|query| scan.begin(query, probe)));
            scan.everything(&mut searches)?;
        } else {
            let automatic = self.automatic_centroids(scan.t, store, &config, cancel)?;
            let explicit = self.explicit_centroids(scan.t, store, &config, cancel)?;
            let effort = Effort::new(request.nprobe, rows, k);
            let probe = |query: &[f32]| Probe::nearest_first(query, &[&automatic, &explicit], effort);
            searches.extend(queries.chunks_exact(dimension).map(|query| scan.begin(query, probe)));
        }
        while searches.iter().any(|search| search.is_open) {
            scan.round(&mut searches)?;
        }
        Ok(searches.into_iter().map(|search| search.hits).collect())
    }
}

fn check_query(vector: &[f32]) -> Result<()> {
    if vector.is_empty() {
        return Err(Error::new(ErrorCode::Validation, "the query's vector is empty"));
    }
    if let Some(index) = vector.iter().position(|number| !number.is_finite()) {
        let message = format!("the query's vector holds {} at position {index}", vector[index]);
        return Err(Error::new(ErrorCode::Validation, message));
    }
    Ok(())
}

fn explicit_clusters(ids: &[i64]) -> Result<Vec<ClusterId>> {
    let mut clusters = Vec::with_capacity(ids.len());
    for id in ids {
        clusters.push(ClusterId::explicit(*id).ok_or_else(|| {
            let message = format!("centroid_ids names explicit clusters, which are above 0, not {id}");
            Error::new(ErrorCode::Validation, message)
        })?);
    }
    clusters.sort_unstable();
    clusters.dedup();
    Ok(clusters)
}

/// Reading rows for searches.
struct Scan<'a> {
    t: &'a mut Transaction,
    store: StoreId,
    dimension: usize,
    request: &'a Request,
    cancel: &'a CancelToken,
    k: usize,
}

/// Rows in a block, and the searches (by index, rising) that want them.
struct Segment<'a> {
    rows: Range<usize>,
    searches: &'a [usize],
}

impl Scan<'_> {
    fn begin(&self, query: &[f32], probe: impl Fn(&[f32]) -> Probe) -> Search {
        let unit_query = unit(query);
        let probe = probe(&unit_query);
        let candidates = Candidates::new(self.k, self.request.filter.as_ref());
        Search { unit_query, probe, candidates, hits: Vec::new(), is_open: true }
    }

    /// Shows all rows to all searches.
    fn everything(&mut self, searches: &mut [Search]) -> Result<()> {
        let all: Vec<usize> = (0..searches.len()).collect();
        let mut block = RowBlock::new(self.dimension);
        let mut cursor = RowCursor::new(KeyRange::all_vectors());
        while !cursor.at_end() {
            cursor.read(self.t, self.store, &mut block, self.block_rows(searches.len()))?;
            let segment = Segment { rows: 0..block.len(), searches: &all };
            self.score(&block, &[segment], searches)?;
            block.clear();
        }
        Ok(())
    }

    /// Shows every open search its next clusters, reading each cluster once, and closes those that have their
    /// hits.
    fn round(&mut self, searches: &mut [Search]) -> Result<()> {
        let mut wanted: BTreeMap<ClusterId, Vec<usize>> = BTreeMap::new();
        for (index, search) in searches.iter_mut().enumerate().filter(|(_, search)| search.is_open) {
            for cluster in search.probe.advance() {
                wanted.entry(*cluster).or_default().push(index);
            }
        }
        let limit = self.block_rows(searches.len());
        let mut block = RowBlock::new(self.dimension);
        let mut segments: Vec<Segment<'_>> = Vec::new();
        for (cluster, indexes) in &wanted {
            let mut cursor = RowCursor::new(KeyRange::vectors_of(*cluster));
            while !cursor.at_end() {
                let start = block.len();
                cursor.read(self.t, self.store, &mut block, limit)?;
                segments.push(Segment { rows: start..block.len(), searches: indexes });
                if block.len() >= limit {
                    self.score(&block, &segments, searches)?;
                    block.clear();
                    segments.clear();
                }
            }
        }
        self.score(&block, &segments, searches)?;
        searches.iter_mut().filter(|search| search.is_open).try_for_each(|search| self.collect(search))
    }

    /// Turns the rows seen so far into hits, once there are enough of them.
    fn collect(&mut self, search: &mut Search) -> Result<()> {
        if !search.probe.is_content() {
            return Ok(());
        }
        let filter = self.request.filter.as_ref();
        let better = search.candidates.take_best(self.t, self.store, self.k, filter, self.cancel)?;
        search.hits.extend(better);
        keep_best_hits(&mut search.hits, self.k);
        search.is_open = search.hits.len() < self.k && !search.probe.is_exhausted();
        Ok(())
    }

    /// Rows read before they are scored: more when threads share them.
    fn block_rows(&self, searches: usize) -> usize {
        let blocks = if self.request.threads > 1 && searches > 1 {
            BLOCKS_PER_THREAD * self.request.threads
        } else {
            1
        };
        rows_per_block(self.dimension) * blocks
    }

    fn score(&self, block: &RowBlock, segments: &[Segment<'_>], searches: &mut [Search]) -> Result<()> {
        self.cancel.check()?;
        let norms: Vec<f64> = block.vectors.rows().map(norm).collect();
        let pairs: usize = segments.iter().map(|segment| segment.rows.len() * segment.searches.len()).sum();
        let threads = (pairs * self.dimension / PRODUCTS_PER_THREAD_MIN).clamp(1, self.request.threads);
        if threads == 1 {
            score_part(block, &norms, segments, 0, searches);
            return Ok(());
        }
        let part = searches.len().div_ceil(threads).max(1);
        thread::scope(|scope| {
            let parts = searches.chunks_mut(part).enumerate();
            let running: Vec<_> = parts
                .map(|(index, searches)| {
                    let norms = &norms;
                    scope.spawn(move || score_part(block, norms, segments, index * part, searches))
                })
                .collect();
            running.into_iter().for_each(join);
        });
        Ok(())
    }
}

/// Scores the rows of each segment for those of its searches that lie in `searches`, whose first has index
/// `first`.
fn score_part(
    block: &RowBlock,
    norms: &[f64],
    segments: &[Segment<'_>],
    first: usize,
    searches: &mut [Search],
) {
    for segment in segments {
        let start = segment.searches.partition_point(|index| *index < first);
        let end = segment.searches.partition_point(|index| *index < first + searches.len());
        for index in &segment.searches[start..end] {
            let search = &mut searches[index - first];
            search.probe.saw_rows(segment.rows.len() as u64);
            for row in segment.rows.clone() {
                let score = cosine(&search.unit_query, block.vectors.row(row), norms[row]);
                search.candidates.push(score, block.addresses[row].row);
            }
        }
    }
}
