"""Vectors and models: stores beside the B-trees of a database, in the same transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from ..database import Database
from ..transaction import DBType
from .database import VectorDatabase
from .model import Artifact, Model, ModelStore, ModelVersion
from .vector import CentroidStats, Hit, Hits, Item, Metric, UsageMode, VectorStats, VectorStore

if TYPE_CHECKING:
    from .langchain import SOPVectorStore

__all__ = [
    "Artifact",
    "CentroidStats",
    "DBType",
    "Database",
    "Hit",
    "Hits",
    "Item",
    "Metric",
    "Model",
    "ModelStore",
    "ModelVersion",
    "SOPVectorStore",
    "UsageMode",
    "VectorDatabase",
    "VectorStats",
    "VectorStore",
]


def __getattr__(name: str) -> Any:
    # On first use: it imports langchain-core where that is installed.
    if name == "SOPVectorStore":
        from .langchain import SOPVectorStore

        return SOPVectorStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return __all__
