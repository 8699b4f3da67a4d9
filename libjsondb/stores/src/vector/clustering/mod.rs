//! Finding clusters: Euclidean k-means, and which clusters a row belongs to.
//!
//! Rows come as they are compared: scaled to unit length for cosine similarity, as they are otherwise. A centroid is
//! the mean of its rows, whatever the metric, and a row belongs to the nearest one. All of it is arithmetic in
//! memory, gives the same for the same input whatever the number of processors, and takes no part in any transaction.

mod assign;
mod best;
mod index;
mod kmeans;
mod means;
mod parallel;
mod refine;
mod seeds;
mod split;

pub(super) use assign::Finder;
pub(super) use index::Index;
pub(super) use kmeans::{centroids, cluster_count};
pub(super) use split::split_in_two;
