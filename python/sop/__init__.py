"""SOP: a transactional storage engine with B-trees, vectors and models in one folder."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

from ._library import VERSION
from .btree import Btree, BtreeOptions, Item, PagingDirection, PagingInfo, ValueDataSize
from .context import Context
from .database import Database
from .errors import (
    BtreeError,
    ConflictError,
    ContextCancelledError,
    CorruptionError,
    DimensionMismatchError,
    DiskFullError,
    DrivesLostError,
    Error,
    FilterError,
    ForkedHandleError,
    InvalidTransactionStateError,
    ItemNotFoundError,
    LockedError,
    NativePanicError,
    RedisError,
    StorageError,
    StoreNotFoundError,
    TransactionError,
    TransactionTimeoutError,
    UnsupportedError,
    ValidationError,
)
from .map import Map
from .redis import Redis
from .retry import run
from .transaction import (
    DBType,
    Durability,
    ErasureCodingConfig,
    Transaction,
    TransactionMode,
    TransactionOptions,
)

from . import ai, btree  # isort: skip

if TYPE_CHECKING:
    from . import aio, frames

__version__ = VERSION

__all__ = [
    "Btree",
    "BtreeError",
    "BtreeOptions",
    "ConflictError",
    "Context",
    "ContextCancelledError",
    "CorruptionError",
    "DBType",
    "Database",
    "DimensionMismatchError",
    "DiskFullError",
    "DrivesLostError",
    "Durability",
    "ErasureCodingConfig",
    "Error",
    "FilterError",
    "ForkedHandleError",
    "InvalidTransactionStateError",
    "Item",
    "ItemNotFoundError",
    "LockedError",
    "Map",
    "NativePanicError",
    "PagingDirection",
    "PagingInfo",
    "Redis",
    "RedisError",
    "StorageError",
    "StoreNotFoundError",
    "Transaction",
    "TransactionError",
    "TransactionMode",
    "TransactionOptions",
    "TransactionTimeoutError",
    "UnsupportedError",
    "ValidationError",
    "ValueDataSize",
    "ai",
    "aio",
    "btree",
    "frames",
    "run",
]


def __getattr__(name: str) -> Any:
    # On first use: most programs need neither asyncio nor tables.
    if name in ("aio", "frames"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return [*__all__, "__version__"]
