"""A SQLite database: each table becomes a unique B-tree, its primary key the key.

A key of one column is its value, one of several a dict of them, ordered as in SQLite; a table without a
primary key is keyed by its rowid. The value is a dict of the other columns.
"""

from __future__ import annotations

import base64
import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple

from .._progress import Progress
from ..btree import BtreeOptions, IndexFieldSpecification, IndexSpecification
from ..context import Context
from ..errors import StorageError, UnsupportedError, ValidationError
from .load import Imported, chosen, load
from .tables import BtreeTable

if TYPE_CHECKING:
    import os
    import sqlite3

    from ..database import Database

# Older ones do not tell the tables of a virtual table from others.
_SQLITE_MIN = (3, 37, 0)
# The object that stands for a BLOB in JSON.
BASE64 = "$base64"
# Cells of these types are in JSON what they are.
_PLAIN = {int, str, type(None)}


def from_sqlite(
    db: Database,
    source: str | os.PathLike[str],
    *,
    only: Optional[Sequence[str]] = None,
    blobs: Optional[str] = None,
    verify: bool = False,
    progress: Optional[Progress] = None,
    ctx: Optional[Context] = None,
) -> Imported:
    """Imports the tables of a SQLite file, those in `only` if it is given, in one transaction.

    JSON has no bytes: with `blobs="base64"` a BLOB becomes `{"$base64": "..."}`; without it, one that is met
    raises ValidationError. Neither views, indexes and triggers come along, nor virtual tables.
    The file is read in one transaction, while others may write to it. `verify` compares all rows afterwards.
    """
    if blobs not in (None, "base64"):
        raise ValidationError(f'blobs must be None or "base64", not {blobs!r}')
    try:
        import sqlite3
    except ImportError as error:
        raise UnsupportedError("this needs a Python that was built with SQLite") from error
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        raise UnsupportedError(f"this needs SQLite 3.37 or later; Python has {sqlite3.sqlite_version}")
    path = Path(source)
    if not path.is_file():
        raise ValidationError(f"there is no SQLite file {path}")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN")
            names = connection.execute(
                "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
                "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
            ).fetchall()
            tables = [_Table.of(connection, name, blobs is not None).as_btree() for (name,) in names]
            return load(ctx, db, chosen(tables, only, "table"), verify, progress)
    except sqlite3.Error as error:
        raise StorageError(f"SQLite cannot read {path}: {error}") from error


@dataclass
class _Table:
    connection: sqlite3.Connection
    name: str
    # The columns of the key, none where it is the rowid; and the others.
    keys: List[str]
    values: List[str]
    blobs: bool

    @classmethod
    def of(cls, connection: sqlite3.Connection, name: str, blobs: bool) -> _Table:
        columns = connection.execute(
            "SELECT name, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid", (name,)
        ).fetchall()
        keys = [column for column, place in sorted(columns, key=lambda column: column[1]) if place]
        values = [column for column, place in columns if not place]
        return cls(connection, name, keys, values, blobs)

    def as_btree(self) -> BtreeTable:
        several = len(self.keys) > 1
        fields = [IndexFieldSpecification(name) for name in self.keys]
        options = BtreeOptions(self.name, is_unique=True, is_primitive_key=not several)
        (count,) = self.connection.execute(f"SELECT count(*) FROM {_quoted(self.name)}").fetchone()
        return BtreeTable(options, IndexSpecification(fields) if several else None, count, self.rows)

    def rows(self) -> Iterator[Tuple[Any, Any]]:
        keys = [_quoted(column) for column in self.keys] or [self._rowid()]
        columns = ", ".join([*keys, *map(_quoted, self.values)])
        split = len(keys)
        for row in self.connection.execute(f"SELECT {columns} FROM {_quoted(self.name)}"):
            plain = _PLAIN.issuperset(map(type, row))
            cells = row if plain else [self._cell(row, number) for number in range(len(row))]
            key = cells[0] if split == 1 else dict(zip(self.keys, cells))
            yield key, dict(zip(self.values, cells[split:]))

    def _rowid(self) -> str:
        """A name of the rowid that is not that of a column."""
        taken = {column.lower() for column in self.values}
        free = [name for name in ("rowid", "_rowid_", "oid") if name not in taken]
        if not free:
            raise ValidationError(f"the table {self.name!r} has no primary key, and columns hide its rowid")
        return free[0]

    def _cell(self, row: Tuple[Any, ...], number: int) -> Any:
        """A cell as JSON has it."""
        cell = row[number]
        if isinstance(cell, bytes):
            if self.blobs:
                return _base64(cell)
            what = 'a BLOB, which JSON has no type for: ask for blobs="base64" (--blobs base64)'
        elif isinstance(cell, float) and math.isinf(cell):
            what = "an infinite number, which JSON has no type for"
        else:
            return cell
        columns = [*(self.keys or ["rowid"]), *self.values]
        key = dict(zip(columns, row[: len(self.keys) or 1]))
        raise ValidationError(f"table {self.name!r}, row {key}: {columns[number]!r} is {what}")


def _base64(cell: bytes) -> Dict[str, str]:
    return {BASE64: base64.b64encode(cell).decode("ascii")}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
