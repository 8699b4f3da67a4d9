//! Maps: the fast calls on a unique B-tree. Each call of a map is a transaction of its own on the newest committed state, or
//! one step of the caller's transaction.
//!
//! Callers bring keys encoded ([`Layout::append_key`]) and values as JSON text, in [`Chunk`]s, and get [`Rows`] of bytes back: a host
//! language turns them into its objects without locks of ours being held.

mod change;
mod read;
mod scope;
mod write;

use std::sync::Arc;

use engine::{Durability, StoreId};

use super::{Btree, BtreeOptions, Chunk, Layout, Rows};
use crate::names::{StoreKind, engine_name};
use crate::{CancelToken, Database, Error, ErrorCode, Result, Session, Transaction};
pub use change::Change;
pub use read::Walk;
use scope::Scope;
pub use write::Load;

/// A unique B-tree as a map. Any thread may use it.
pub struct Map {
    scope: Scope,
    store: StoreId,
    options: Arc<BtreeOptions>,
    /// The options as the engine keeps them: where they are the same, so is the layout.
    metadata: Arc<[u8]>,
    layout: Arc<Layout>,
    cancel: CancelToken,
}

impl Map {
    /// Opens the B-tree, and creates it when there is none. Without options: with those it has, or the default ones.
    /// Every call of the map looks at `cancel`. Commits of its own are made with `durability`.
    pub fn open(
        cancel: &CancelToken,
        database: &Arc<Database>,
        name: &str,
        options: Option<BtreeOptions>,
        durability: Durability,
    ) -> Result<Map> {
        let btree = Session::Auto(database.clone()).write(cancel, |transaction| {
            let btree = match &options {
                Some(options) => Btree::create_or_open(cancel, transaction, options.clone()),
                None => match Btree::open(cancel, transaction, name) {
                    Err(error) if error.code() == ErrorCode::StoreNotFound => {
                        let options = BtreeOptions { is_unique: true, ..BtreeOptions::new(name) };
                        Btree::create_or_open(cancel, transaction, options)
                    }
                    opened => opened,
                },
            }?;
            // Before the commit: a B-tree that is refused is not made either.
            check_unique(&btree)?;
            Ok(btree)
        })?;
        let engine = database.engine(cancel)?;
        Self::over(btree, Scope::Auto { database: database.clone(), engine, durability }, cancel)
    }

    /// The same map inside a transaction.
    pub fn within(&self, cancel: &CancelToken, transaction: &Arc<Transaction>) -> Result<Map> {
        let engine_name = engine_name(StoreKind::Btree, &self.options.name)?;
        let scope = Scope::In(transaction.clone());
        let found = transaction.with(cancel, |engine| Ok(engine.store(&engine_name)?))?;
        if found.is_none_or(|(store, metadata)| store != self.store || *metadata != *self.metadata) {
            let btree = Btree::open(cancel, transaction, &self.options.name)?;
            check_unique(&btree)?;
            return Self::over(btree, scope, cancel);
        }
        let namer = Arc::clone(&self.layout);
        transaction.name_keys(&engine_name, Arc::new(move |key| namer.describe(key)));
        Ok(Map {
            scope,
            store: self.store,
            options: Arc::clone(&self.options),
            metadata: Arc::clone(&self.metadata),
            layout: Arc::clone(&self.layout),
            cancel: cancel.clone(),
        })
    }

    fn over(btree: Btree, scope: Scope, cancel: &CancelToken) -> Result<Map> {
        let Btree { store, options, layout, .. } = btree;
        let metadata = options.to_metadata()?.into();
        let (options, layout) = (Arc::new(options), Arc::new(layout));
        Ok(Map { scope, store, options, metadata, layout, cancel: cancel.clone() })
    }

    /// How its keys lie in the engine.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of items.
    pub fn count(&self) -> Result<u64> {
        let count =
            self.scope.read(&self.cancel, |engine| Ok(engine.counter(self.store, super::COUNTER)?))?;
        u64::try_from(count).map_err(|_| self.layout.damaged("count"))
    }
}

fn check_unique(btree: &Btree) -> Result<()> {
    if btree.is_unique() {
        return Ok(());
    }
    let name = btree.options.name.as_str();
    let message = format!("B-tree {name:?} keeps duplicates: a map is on a unique one");
    Err(Error::new(ErrorCode::Validation, message).with_detail("store", name))
}
