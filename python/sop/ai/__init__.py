"""Vectors and models: stores beside the B-trees of a database, in the same transactions."""

from __future__ import annotations

from ..database import Database
from ..transaction import DBType
from .database import VectorDatabase
from .langchain import SOPVectorStore
from .model import Model, ModelStore
from .vector import CentroidStats, Hit, Item, Metric, UsageMode, VectorStats, VectorStore

__all__ = [
    "CentroidStats",
    "DBType",
    "Database",
    "Hit",
    "Item",
    "Metric",
    "Model",
    "ModelStore",
    "SOPVectorStore",
    "UsageMode",
    "VectorDatabase",
    "VectorStats",
    "VectorStore",
]
