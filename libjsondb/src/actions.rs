//! The numbers by which callers name modes, moves and actions.

use stores::{Durability, Result, WriteOp};

use crate::strings::invalid;

/// What a transaction may do.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopTransactionMode {
    /// Reads one snapshot.
    NoCheck = 0,
    /// Reads one snapshot and writes; what was read is validated at commit.
    ForWriting = 1,
    /// Reads one snapshot.
    ForReading = 2,
}

/// When a commit returns. It is whole, and visible to all processes, whichever it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopDurability {
    /// Once it is on disk: it survives a power cut.
    Full = 0,
    /// Once it is with the operating system: it survives the end of every process, kill -9 too. A power cut may take it,
    /// and what was committed after it; sop_database_flush, and the next full commit, make it durable.
    Relaxed = 1,
}

impl SopDurability {
    pub(crate) fn from_number(number: i32) -> Result<Durability> {
        match number {
            0 => Ok(Durability::Full),
            1 => Ok(Durability::Relaxed),
            _ => Err(invalid(format!("durability is 0 (full) or 1 (relaxed), not {number}"))),
        }
    }
}

/// What sop_btree_write does with its items.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopWriteAction {
    /// Adds an item; in a unique store not when the key is there.
    Add = 3,
    /// Adds an item, not when the key is there.
    AddIfNotExists = 4,
    /// Changes the value of a key that is there.
    Update = 5,
    /// Adds an item, or changes the value of a key that is there.
    Upsert = 6,
}

impl SopWriteAction {
    pub(crate) fn from_number(number: i32) -> Result<Self> {
        match number {
            3 => Ok(Self::Add),
            4 => Ok(Self::AddIfNotExists),
            5 => Ok(Self::Update),
            6 => Ok(Self::Upsert),
            _ => Err(invalid(format!("action is 3 (add) to 6 (upsert), not {number}"))),
        }
    }

    pub(crate) fn operation(self) -> WriteOp {
        match self {
            Self::Add => WriteOp::Add,
            Self::AddIfNotExists => WriteOp::AddIfNotExists,
            Self::Update => WriteOp::Update,
            Self::Upsert => WriteOp::Upsert,
        }
    }
}

/// Where sop_btree_step moves the cursor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopMove {
    /// To the first item.
    First = 0,
    /// To the last item.
    Last = 1,
    /// To the next item in key order.
    Next = 2,
    /// To the item before in key order.
    Previous = 3,
}

impl SopMove {
    pub(crate) fn from_number(number: i32) -> Result<Self> {
        match number {
            0 => Ok(Self::First),
            1 => Ok(Self::Last),
            2 => Ok(Self::Next),
            3 => Ok(Self::Previous),
            _ => Err(invalid(format!("move is 0 (first) to 3 (previous), not {number}"))),
        }
    }
}

/// Actions of manageTransaction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopTransactionAction {
    /// Not supported any more: its error says what to use.
    New = 1,
    /// Not supported any more: its error says what to use.
    Begin = 2,
    /// Commit.
    Commit = 3,
    /// Roll back.
    Rollback = 4,
}

/// Actions of manageDatabase.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopDatabaseAction {
    /// Opens a database.
    New = 1,
    /// Begins a transaction.
    BeginTransaction = 2,
    /// Closes a database.
    Close = 3,
}

/// Actions of manageBtree (1 to 7), navigateBtree (8, 9, 13, 14) and getFromBtree (10 to 12, 17); isUniqueBtree (15) and
/// getBtreeItemCount (16) are functions of their own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopBtreeAction {
    /// Creates a B-tree, or opens it when it exists with equal options.
    New = 1,
    /// Opens a B-tree.
    Open = 2,
    /// Adds items.
    Add = 3,
    /// Adds items whose keys are not there.
    AddIfNotExist = 4,
    /// Changes values.
    Update = 5,
    /// Adds items or changes values.
    Upsert = 6,
    /// Removes items by key.
    Remove = 7,
    /// Moves the cursor to a key.
    Find = 8,
    /// Moves the cursor to a key and item id.
    FindWithId = 9,
    /// Reads a page of items.
    GetItems = 10,
    /// Looks up values by key.
    GetValues = 11,
    /// Reads a page of keys.
    GetKeys = 12,
    /// Moves the cursor to the first item.
    First = 13,
    /// Moves the cursor to the last item.
    Last = 14,
    /// Whether keys are unique.
    IsUnique = 15,
    /// Number of items.
    Count = 16,
    /// The options it was created with.
    GetStoreInfo = 17,
}

/// Actions of manageVectorDB.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopVectorAction {
    /// Opens a database.
    NewVectorDb = 1,
    /// Opens a vector store in a transaction.
    OpenVectorStore = 2,
    /// Adds or replaces an item.
    Upsert = 3,
    /// Adds or replaces items.
    UpsertBatch = 4,
    /// Reads an item.
    Get = 5,
    /// Removes an item.
    Delete = 6,
    /// Searches.
    Query = 7,
    /// Number of items.
    Count = 8,
    /// Begins a transaction.
    BeginTransaction = 9,
    /// Rebuilds the clustering.
    Optimize = 10,
    /// Closes a database.
    CloseVectorDb = 11,
}

/// Actions of manageModelStore.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SopModelAction {
    /// Opens a model store in a transaction.
    NewBtreeModelStore = 1,
    /// Opens a database.
    NewModelDb = 2,
    /// Not supported: its error says what to use.
    OpenModelStore = 3,
    /// Saves a model.
    Save = 4,
    /// Reads a model.
    Load = 5,
    /// Names of a category's models.
    List = 6,
    /// Removes a model.
    Delete = 7,
    /// Closes a database.
    CloseModelDb = 8,
}

/// Generates `from_number` with the error text of 2.0.17.
macro_rules! legacy_action {
    ($type:ident { $($variant:ident)+ }) => {
        impl $type {
            pub(crate) fn from_number(number: i32) -> Result<Self> {
                $(if number == Self::$variant as i32 {
                    return Ok(Self::$variant);
                })+
                Err(invalid(format!("unsupported action {number}")))
            }
        }
    };
}

legacy_action! { SopTransactionAction { New Begin Commit Rollback } }
legacy_action! { SopDatabaseAction { New BeginTransaction Close } }
legacy_action! {
    SopBtreeAction {
        New Open Add AddIfNotExist Update Upsert Remove Find FindWithId GetItems GetValues GetKeys First Last
        IsUnique Count GetStoreInfo
    }
}
legacy_action! {
    SopVectorAction {
        NewVectorDb OpenVectorStore Upsert UpsertBatch Get Delete Query Count BeginTransaction Optimize
        CloseVectorDb
    }
}
legacy_action! {
    SopModelAction { NewBtreeModelStore NewModelDb OpenModelStore Save Load List Delete CloseModelDb }
}
