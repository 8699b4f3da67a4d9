//! RaBitQ: one bit per dimension, an unbiased estimate of the product with a query, and its standard error.
//!
//! (Gao, Long: RaBitQ, SIGMOD 2024, arXiv 2405.12497.) A vector is rotated at random and its residual to a centroid is
//! kept as the signs of its numbers and two factors. The rotation makes all directions alike, so that the error does
//! not depend on the data. The formulas are in `docs/vectors.md`. Where a row is looked at twice, four bits per number say more
//! (`fine`; Gao et al.: Practical and Asymptotically Optimal Quantization, SIGMOD 2025, arXiv 2409.09913).

mod code;
mod fine;
mod rotation;

pub(super) use code::{Factors, Query, encode};
pub(super) use fine::FineCodes;
pub(super) use rotation::Rotation;
