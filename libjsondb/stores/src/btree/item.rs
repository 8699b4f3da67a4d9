//! What goes into B-tree calls and comes out of them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// An item of a store.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// JSON text of the key.
    pub key: Box<RawValue>,
    /// JSON text of the value; None where values were not asked for, and for a key that is not there.
    pub value: Option<Box<RawValue>>,
    /// Tells items with equal keys apart; zero for a key that is not there.
    pub id: Uuid,
}

/// An item as the caller gives it, borrowed from the caller's JSON text.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ItemInput<'a> {
    /// JSON text of the key.
    #[serde(borrow)]
    pub key: &'a RawValue,
    /// JSON text of the value; none is the same as null.
    #[serde(borrow, default)]
    pub value: Option<&'a RawValue>,
    /// Which one of several items with this key; none or the zero UUID: whichever comes first. Writes ignore it.
    #[serde(borrow, default)]
    pub id: Option<&'a str>,
}

/// What [`super::Btree::write`] does with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Add; in a unique store False when the key exists. Duplicates go before their equals.
    Add,
    /// Add; in any store False when the key exists.
    AddIfNotExists,
    /// Replace the value; False when the key does not exist.
    Update,
    /// Replace the value, or add.
    Upsert,
}

/// Where [`super::Btree::step`] moves the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// To the first item.
    First,
    /// To the last item.
    Last,
    /// To the item after the current one; without a current one, to the first.
    Next,
    /// To the item before the current one; without a current one, to the last.
    Previous,
}

/// Which items [`super::Btree::page`] fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Paging {
    /// Pages to skip from the cursor.
    pub page_offset: i64,
    /// Items per page.
    pub page_size: i64,
    /// Items to fetch, when not 0; else a page.
    pub fetch_count: i64,
    /// 0 forward, 1 backward.
    pub direction: i64,
}

impl Default for Paging {
    fn default() -> Self {
        Self { page_offset: 0, page_size: 20, fetch_count: 0, direction: 0 }
    }
}

/// Which items [`super::Btree::range`] walks over. A missing or null bound is open.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RangeQuery<'a> {
    /// First key, included.
    #[serde(borrow)]
    pub start: Option<&'a RawValue>,
    /// Last key, excluded.
    #[serde(borrow)]
    pub stop: Option<&'a RawValue>,
    /// True: from `stop` down to `start`.
    pub reverse: bool,
    /// Where the batch before ended.
    pub resume: Option<String>,
}

/// Some items of a range.
#[derive(Clone, Debug, Serialize)]
pub struct RangeBatch {
    /// In the order asked for.
    pub items: Vec<Item>,
    /// For the next batch; None when the range is exhausted.
    pub resume: Option<String>,
}
