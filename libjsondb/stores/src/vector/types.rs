//! What goes into a vector store and comes out of it.

use std::num::NonZeroUsize;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{Error, ErrorCode, Result};

/// What a store is optimised for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageMode {
    /// Rows wait in a staging cluster until `optimize` clusters them; the build's bookkeeping is dropped
    /// then.
    BuildOnceQueryMany = 0,
    /// Changes at any time; rows are counted per cluster as they come and go, so `stats` reads no rows.
    DynamicWithVectorCountTracking = 1,
    /// Changes at any time; `stats` counts the rows.
    Dynamic = 2,
}

impl UsageMode {
    /// The mode with this number.
    pub fn from_number(number: i32) -> Result<Self> {
        match number {
            0 => Ok(UsageMode::BuildOnceQueryMany),
            1 => Ok(UsageMode::DynamicWithVectorCountTracking),
            2 => Ok(UsageMode::Dynamic),
            _ => {
                let message = format!(
                    "usage_mode is 0 (BuildOnceQueryMany), 1 (DynamicWithVectorCountTracking) or 2 (Dynamic), not {number}"
                );
                Err(Error::new(ErrorCode::Validation, message))
            }
        }
    }
}

/// How similarity is measured.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Cosine of the angle, -1 to 1; 0 when either is the zero vector.
    #[default]
    Cosine = 0,
    /// Sum of products.
    Dot = 1,
    /// Euclidean distance; the score is its negative.
    L2 = 2,
}

impl Metric {
    /// The metric with this number.
    pub fn from_number(number: i32) -> Result<Self> {
        match number {
            0 => Ok(Metric::Cosine),
            1 => Ok(Metric::Dot),
            2 => Ok(Metric::L2),
            _ => {
                let message = format!("metric is 0 (Cosine), 1 (Dot) or 2 (L2), not {number}");
                Err(Error::new(ErrorCode::Validation, message))
            }
        }
    }
}

/// Options of [`crate::VectorStore::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VectorOptions {
    /// A [`UsageMode`]; counts when the store is created.
    pub usage_mode: i32,
    /// A [`Metric`], which a store has for ever; None: the store's own, or cosine when it is created.
    pub metric: Option<i32>,
    /// Size of the payloads: 0 small, 1 medium, 2 big. Big ones go to disk when they are upserted, not at
    /// commit.
    pub content_size: i32,
}

impl Default for VectorOptions {
    fn default() -> Self {
        Self { usage_mode: UsageMode::Dynamic as i32, metric: None, content_size: 1 }
    }
}

pub(super) fn check_options(options: &VectorOptions) -> Result<()> {
    UsageMode::from_number(options.usage_mode)?;
    options.metric.map(Metric::from_number).transpose()?;
    if !(0..=2).contains(&options.content_size) {
        let message =
            format!("content_size is 0 (small), 1 (medium) or 2 (big), not {}", options.content_size);
        return Err(Error::new(ErrorCode::Validation, message));
    }
    Ok(())
}

/// A row: what `upsert` takes and `get` gives.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct VectorItem {
    /// Names the row: 1 to 1,024 bytes.
    #[serde(rename(serialize = "ID"), alias = "ID")]
    pub id: String,
    /// Finite numbers, as many as the store's dimension. Given back exactly.
    #[serde(
        rename(serialize = "Vector"),
        alias = "Vector",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub vector: Vec<f32>,
    /// Any JSON value.
    #[serde(rename(serialize = "Payload"), alias = "Payload")]
    pub payload: Option<Box<RawValue>>,
    /// The cluster the row is pinned to; 0 or less leaves the choice to the store, and is given back as 0.
    #[serde(rename(serialize = "CentroidID"), alias = "CentroidID", deserialize_with = "null_as_default")]
    pub centroid_id: i64,
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A part of the ids of a store. None: no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IdRange {
    /// The first id.
    pub start: Option<String>,
    /// The first id that is not wanted any more.
    pub stop: Option<String>,
    /// What the batch before says of itself: takes the place of `start`.
    pub resume: Option<String>,
    /// Ids at most; None: 1,000.
    pub limit: Option<NonZeroUsize>,
}

/// Ids in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdBatch {
    /// Some of a range.
    pub ids: Vec<String>,
    /// What the next batch resumes from; None when there is no more.
    pub resume: Option<String>,
}

/// A search for the rows most similar to one vector.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct QueryOptions {
    /// What to look for; of the store's dimension.
    #[serde(deserialize_with = "null_as_default")]
    pub vector: Vec<f32>,
    /// Number of hits wanted; none for 0 or less.
    pub k: i64,
    /// Which payloads: fields and their values, comparisons, combinations; see libjsondb/docs/vectors.md.
    pub filter: Option<serde_json::Value>,
    /// Number of clusters to search; more follow while fewer than `k` rows match. None: as many as
    /// `target_recall` asks for.
    pub nprobe: Option<u32>,
    /// Share of the true `k` best that is to be found on average, above 0 and at most 1; None: 0.95.
    pub target_recall: Option<f32>,
    /// Search all clusters.
    pub exact: bool,
    /// Search these explicit clusters only, all of their rows.
    pub centroid_ids: Option<Vec<i64>>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            vector: Vec::new(),
            k: 10,
            filter: None,
            nprobe: None,
            target_recall: None,
            exact: false,
            centroid_ids: None,
        }
    }
}

/// Options of [`crate::VectorStore::query_arrays`].
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ArrayQueryOptions {
    /// As [`QueryOptions::filter`].
    pub filter: Option<serde_json::Value>,
    /// As [`QueryOptions::nprobe`].
    pub nprobe: Option<u32>,
    /// As [`QueryOptions::target_recall`].
    pub target_recall: Option<f32>,
    /// As [`QueryOptions::exact`].
    pub exact: bool,
    /// As [`QueryOptions::centroid_ids`].
    pub centroid_ids: Option<Vec<i64>>,
    /// Threads that score; 0 and 1 both mean the caller's own.
    pub threads: u32,
}

/// A row found by a query.
#[derive(Clone, Debug, Serialize)]
pub struct Hit {
    /// Id of the row.
    #[serde(rename = "ID")]
    pub id: String,
    /// Similarity to the query by the store's [`Metric`]; more is better.
    #[serde(rename = "Score")]
    pub score: f32,
    /// The row's payload.
    #[serde(rename = "Payload")]
    pub payload: Option<Box<RawValue>>,
}

/// Rows of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CentroidStats {
    /// The `centroid_id` of an explicit cluster; else its number, from 1; 0 for rows not clustered yet.
    pub id: u64,
    /// Live rows in it.
    pub count: u64,
    /// True when the caller named it.
    pub explicit: bool,
}

/// How the rows are spread over the clusters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Live rows.
    pub count: u64,
    /// All clusters, the store's own first, each kind in order of id.
    pub centroids: Vec<CentroidStats>,
    /// Largest count over mean count, of the clusters the store made itself, or of the explicit ones when all
    /// rows are pinned: 1 is even, 0 an empty store. What `optimize` can improve.
    pub skew: f64,
    /// The store's [`UsageMode`].
    pub usage_mode: i32,
    /// Numbers per vector; 0 before the first row.
    pub dimension: u32,
}
