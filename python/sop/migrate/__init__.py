"""Moving into a database what another store holds: SQLite, Chroma, and the folders of sop4py up to 2.

    python -m sop import sqlite shop.db PATH --verify

An import is one transaction: all of it is stored, or nothing. The libraries of the sources are imported, or
run, by the calls that need them. What can come along and what cannot: libjsondb/docs/migration.md.
"""

from __future__ import annotations

from .chroma import from_chroma
from .load import Imported, ImportedStore
from .sop4py import from_sop4py
from .sqlite import from_sqlite

__all__ = ["Imported", "ImportedStore", "from_chroma", "from_sop4py", "from_sqlite"]
