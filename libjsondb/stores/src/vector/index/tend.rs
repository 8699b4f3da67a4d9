//! Tending clusters: rows that lie on their own are packed, clusters with too many rows are split, those with too few dissolved into others.

use std::collections::BTreeSet;

use engine::CancelToken;

use super::reshape::Reshaping;
use super::transaction::IndexTransaction;
use crate::Result;
use crate::vector::keys::ClusterId;
use crate::vector::list::{List, Loaded};

/// Rows on their own from which on they are packed.
const LOOSE_MAX: usize = 16;
/// Rows of a cluster above which it is split, those not counted that are nearer to another.
const PRIMARY_MAX: usize = 128;
/// Rows of a cluster below which it is dissolved.
const PRIMARY_MIN: usize = 12;
/// A cluster that has become so large cannot be split, as its rows are the same: it is tried again, and packed, when it has grown by a part.
const SPLITTABLE_MAX: usize = 1024;
/// Clusters that wait to be looked at from which on only those twice as large are split: after a load there is more to do than a writer should wait for, and
/// what is left is done as rows come to those clusters again, or by `optimize`.
const BACKLOG: usize = 256;
/// Splits and dissolutions in one transaction: some 20 milliseconds.
const RESHAPED_MAX: usize = 16;
/// Fewer clusters are not dissolved.
const CLUSTERS_MIN: usize = 8;

/// Clusters whose lists were changed, to be looked at.
pub(super) type Touched = BTreeSet<ClusterId>;

/// Looks at clusters, the first first, takes them off `touched`, and does what they need.
pub(super) fn tend(mut index: IndexTransaction, touched: &mut Touched, cancel: &CancelToken) -> Result<()> {
    let table = index.table()?;
    let IndexTransaction { t, shape, state } = &mut index;
    if table.centroids.ids.len() < 2 {
        // One that has all rows has no shape.
        touched.clear();
        return Ok(());
    }
    let change = t.untracked(|t| {
        let mut reshaping = Reshaping::new(t, shape, &table, state);
        let mut reshaped = 0;
        while reshaped < RESHAPED_MAX
            && let Some(cluster) = touched.pop_first()
        {
            cancel.check()?;
            if !reshaping.is_there(cluster) {
                continue;
            }
            let Loaded { list, loose, .. } = reshaping.load(cluster)?;
            let primary = primary_rows(&list);
            let loose_max = if primary > SPLITTABLE_MAX { primary / 8 } else { LOOSE_MAX };
            let primary_max = if touched.len() > BACKLOG { 2 * PRIMARY_MAX } else { PRIMARY_MAX };
            if primary > primary_max && (primary <= SPLITTABLE_MAX || loose > loose_max) {
                reshaping.split(cluster, &list, PRIMARY_MAX)?;
                reshaped += 1;
            } else if primary < PRIMARY_MIN && reshaping.clusters() > CLUSTERS_MIN {
                touched.extend(reshaping.dissolve(cluster, &list, cancel)?);
                reshaped += 1;
            } else if loose > loose_max {
                reshaping.fold(cluster)?;
            }
        }
        Ok::<_, crate::Error>(reshaping.into_change())
    })?;
    match change {
        Some(change) => index.commit(&change).map(drop),
        None => Ok(()),
    }
}

/// Rows that are nearest to the list's centroid.
pub(super) fn primary_rows(list: &List) -> usize {
    (0..list.len()).filter(|index| list.is_primary(*index)).count()
}
