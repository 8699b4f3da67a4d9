//! The handle table: what callers hold as a number is an object here.
//!
//! A handle tells its kind, its slot and a generation that no other handle has, so a released handle never means a newer
//! object, and a stale one is told from one that never was without keeping anything. Layout, from the top:
//! 2 bits `10`, 3 bits kind, 27 bits slot, 32 bits generation. A handle is never 0.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use once_cell::sync::Lazy;
use slab::Slab;
use stores::{Btree, Error, ErrorCode, ModelStore, Result, VectorStore};
use uuid::Uuid;

use crate::database::OpenDatabase;
use crate::model::OpenUpload;
use crate::transaction::OpenTransaction;

const MARK: u64 = 0b10 << 62;
const KIND_SHIFT: u32 = 59;
const SLOT_SHIFT: u32 = 32;
const SLOT_COUNT_MAX: usize = 1 << 27;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Database = 1,
    Transaction = 2,
    Btree = 3,
    Vector = 4,
    Model = 5,
    Upload = 6,
}

impl Kind {
    /// As error texts say it.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Kind::Database => "database",
            Kind::Transaction => "transaction",
            Kind::Btree => "B-tree",
            Kind::Vector => "vector store",
            Kind::Model => "model store",
            Kind::Upload => "upload",
        }
    }
}

/// A store and the handle it was opened with: a transaction, or a database for calls that commit by themselves.
pub(crate) struct OpenStore<S> {
    pub(crate) store: S,
    pub(crate) parent: u64,
}

/// An object of the table.
#[derive(Clone)]
pub(crate) enum Object {
    Database(Arc<OpenDatabase>),
    Transaction(Arc<OpenTransaction>),
    Btree(Arc<OpenStore<Btree>>),
    Vector(Arc<OpenStore<VectorStore>>),
    Model(Arc<OpenStore<ModelStore>>),
    Upload(Arc<OpenUpload>),
}

impl Object {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Object::Database(_) => Kind::Database,
            Object::Transaction(_) => Kind::Transaction,
            Object::Btree(_) => Kind::Btree,
            Object::Vector(_) => Kind::Vector,
            Object::Model(_) => Kind::Model,
            Object::Upload(_) => Kind::Upload,
        }
    }
}

/// A type of object that a handle can stand for.
pub(crate) trait Held: Sized {
    const KIND: Kind;
    fn of(object: &Object) -> Option<&Arc<Self>>;
    fn into_object(self) -> Object;
}

macro_rules! held {
    ($type:ty, $kind:ident) => {
        impl Held for $type {
            const KIND: Kind = Kind::$kind;
            fn of(object: &Object) -> Option<&Arc<Self>> {
                if let Object::$kind(held) = object { Some(held) } else { None }
            }
            fn into_object(self) -> Object {
                Object::$kind(Arc::new(self))
            }
        }
    };
}

held!(OpenDatabase, Database);
held!(OpenTransaction, Transaction);
held!(OpenStore<Btree>, Btree);
held!(OpenStore<VectorStore>, Vector);
held!(OpenStore<ModelStore>, Model);
held!(OpenUpload, Upload);

/// Why a handle has no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is 0.
    None,
    /// This library never gave it out.
    Unknown,
    /// It was released, or its transaction ended.
    Released,
    /// The process this one was forked from made it.
    Forked,
    /// It stands for something else.
    Other(Kind),
}

impl Missing {
    /// The error of a call that needed an object of kind `wanted`, or any when None.
    pub(crate) fn error(self, handle: u64, wanted: Option<Kind>) -> Error {
        let what = wanted.map_or("handle".to_owned(), |kind| format!("{} handle", kind.noun()));
        let why = match self {
            Missing::None => "is none".to_owned(),
            Missing::Unknown => "was never given out".to_owned(),
            Missing::Released => "was released".to_owned(),
            Missing::Forked => "was made before a fork; open the database again".to_owned(),
            Missing::Other(kind) => format!("is a {}", kind.noun()),
        };
        let code = if self == Missing::Forked { ErrorCode::Forked } else { ErrorCode::InvalidHandle };
        Error::new(code, format!("{what} {handle:#x} {why}"))
    }
}

struct Slot {
    generation: u32,
    object: Object,
}

/// All objects that callers hold. Its lock is held for a look-up only, never while an object works.
pub(crate) struct HandleTable {
    slots: RwLock<Slab<Slot>>,
    generation_next: AtomicU32,
    /// Generations below this were given out by the process this one was forked from.
    generation_first: u32,
}

impl HandleTable {
    /// An empty table, which gives out no handle that `parent`, of the process before a fork, has given out.
    pub(crate) fn new(parent: Option<&HandleTable>) -> Self {
        let first = parent.map_or(1, |parent| parent.generation_next.load(Ordering::Relaxed));
        Self {
            slots: RwLock::new(Slab::new()),
            generation_next: AtomicU32::new(first),
            generation_first: first,
        }
    }

    /// Takes an object in and gives its handle.
    pub(crate) fn insert<T: Held>(&self, object: T) -> Result<u64> {
        let generation = self.generation_next.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let entry = slots.vacant_entry();
        let slot = entry.key();
        if slot >= SLOT_COUNT_MAX {
            return Err(Error::new(ErrorCode::Internal, format!("{SLOT_COUNT_MAX} handles are open")));
        }
        entry.insert(Slot { generation, object: object.into_object() });
        Ok(MARK | (T::KIND as u64) << KIND_SHIFT | (slot as u64) << SLOT_SHIFT | u64::from(generation))
    }

    /// The object of a handle, of whatever kind.
    pub(crate) fn find_any(&self, handle: u64) -> std::result::Result<Object, Missing> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        match slots.get(slot_of(handle)).filter(|slot| slot.is(handle)) {
            Some(slot) => Ok(slot.object.clone()),
            None => Err(self.missing(handle)),
        }
    }

    /// The object of a handle of a known kind.
    pub(crate) fn find<T: Held>(&self, handle: u64) -> std::result::Result<Arc<T>, Missing> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get(slot_of(handle)).filter(|slot| slot.is(handle)) else {
            return Err(self.missing(handle));
        };
        T::of(&slot.object).cloned().ok_or_else(|| Missing::Other(slot.object.kind()))
    }

    /// As [`HandleTable::find`], with the error of a call.
    pub(crate) fn get<T: Held>(&self, handle: u64) -> Result<Arc<T>> {
        self.find(handle).map_err(|missing| missing.error(handle, Some(T::KIND)))
    }

    /// Forgets a handle. The object is the caller's, to be dropped outside the lock.
    pub(crate) fn remove(&self, handle: u64) -> Option<Object> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slot_of(handle);
        slots.get(slot).filter(|slot| slot.is(handle))?;
        slots.try_remove(slot).map(|slot| slot.object)
    }

    /// True when there is an object that `wanted` accepts.
    pub(crate) fn any(&self, wanted: impl Fn(&Object) -> bool) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().any(|(_, slot)| wanted(&slot.object))
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn missing(&self, handle: u64) -> Missing {
        let generation = generation_of(handle);
        match () {
            () if handle == 0 => Missing::None,
            () if handle & (0b11 << 62) != MARK || generation == 0 => Missing::Unknown,
            () if generation < self.generation_first => Missing::Forked,
            () if generation < self.generation_next.load(Ordering::Relaxed) => Missing::Released,
            () => Missing::Unknown,
        }
    }
}

impl Slot {
    fn handle(&self, index: usize) -> u64 {
        MARK | (self.object.kind() as u64) << KIND_SHIFT
            | (index as u64) << SLOT_SHIFT
            | u64::from(self.generation)
    }

    fn is(&self, handle: u64) -> bool {
        self.handle(slot_of(handle)) == handle
    }
}

fn slot_of(handle: u64) -> usize {
    (handle >> SLOT_SHIFT) as usize & (SLOT_COUNT_MAX - 1)
}

fn generation_of(handle: u64) -> u32 {
    handle as u32
}

/// First half of every UUID of this process and its children: random, with the version bits of a version 8 UUID.
static NONCE: Lazy<u64> = Lazy::new(|| Uuid::new_v4().as_u64_pair().0 & !0xf000 | 0x8000);

/// The UUID by which the functions of 2.0.17 name a handle.
pub(crate) fn uuid_of(handle: u64) -> Uuid {
    Uuid::from_u64_pair(*NONCE, handle)
}

/// The handle that a UUID names; 0 when it is none of this process.
pub(crate) fn handle_of(uuid: Uuid) -> u64 {
    match uuid.as_u64_pair() {
        (nonce, handle) if nonce == *NONCE => handle,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
