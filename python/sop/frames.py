"""pandas and Arrow: items of a B-tree and hits of a vector query as tables, and tables into stores.

pandas and pyarrow are imported by the calls that need them (`pip install 'sop4py[pandas]'`, `[arrow]`). A
missing value of a frame is None in a store. What JSON has no type for, dates above all, is refused when it is
stored: turn it into text or numbers first.
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple, Union

from ._native import _pair
from ._progress import Progress, counted
from .ai.vector import Hit
from .ai.vector import Item as VectorItem
from .btree import Item
from .errors import ValidationError

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = [
    "from_arrow",
    "from_pandas",
    "to_arrow",
    "to_pandas",
    "vectors_from_arrow",
    "vectors_from_pandas",
]

# The name of a column, or those of a key of several fields.
Key = Union[str, Sequence[str]]


def to_pandas(rows: Iterable[Any], key: str = "key", *, progress: Progress | None = None) -> pandas.DataFrame:
    """A DataFrame of a `Map`, of (key, value) pairs, of B-tree or vector Items, or of the hits of a query.

    The columns are the key, under the name `key`, or each field of a key that is a dict, and the fields of
    the values, or "value" where they are no dicts; of hits "id", "score", and the fields of the payloads,
    of vector Items "id", "vector", and those. `progress` is told the rows read, and to read
    as far as that is known.
    """
    try:
        import pandas
    except ImportError as error:
        raise _needs("pandas", "pandas") from error
    columns = {name: _nullable(pandas, cells) for name, cells in _columns(rows, key, progress).items()}
    frame: pandas.DataFrame = pandas.DataFrame(columns)
    return frame


def to_arrow(rows: Iterable[Any], key: str = "key", *, progress: Progress | None = None) -> pyarrow.Table:
    """An Arrow table of what `to_pandas` takes. Each column must have values of one type, or None."""
    return _pyarrow().table(_columns(rows, key, progress))


def from_pandas(frame: pandas.DataFrame, key: Key) -> Iterator[Tuple[Any, Any]]:
    """The rows of a frame as (key, value), for `Map.put_many`.

    The key is the column of that name, or a dict of the columns named; the value is a dict of the others, or,
    where there is only one and it is called "value", what it has.
    """
    names = _named(frame.columns, key)
    return _pairs(names, [_pandas_columns(frame)], key)


def from_arrow(table: pyarrow.Table, key: Key) -> Iterator[Tuple[Any, Any]]:
    """The rows of an Arrow table, as `from_pandas` gives those of a frame."""
    names = _named(table.column_names, key)
    return _pairs(names, (batch.to_pydict() for batch in table.to_batches()), key)


def vectors_from_pandas(
    frame: pandas.DataFrame, id: str, vector: str
) -> Tuple[List[str], Any, Dict[str, List[Any]]]:
    """Ids, matrix and payloads of a frame, for `store.upsert_arrays(ctx, *vectors_from_pandas(...))`.

    `id` and `vector` name their columns; the cells of the second are arrays or lists of numbers. The other
    columns are the payloads' fields.
    """
    columns = _pandas_columns(frame.drop(columns=[vector]))
    return columns.pop(id), _matrix(frame[vector].tolist()), columns


def vectors_from_arrow(
    table: pyarrow.Table, id: str, vector: str
) -> Tuple[List[str], Any, Dict[str, List[Any]]]:
    """As `vectors_from_pandas`, of an Arrow table. A column of lists of one size goes in without a copy."""
    pyarrow = _pyarrow()
    columns = table.drop_columns([vector]).to_pydict()
    cells = table.column(vector).combine_chunks()
    if isinstance(cells.type, pyarrow.FixedSizeListType) and not cells.null_count:
        matrix = cells.flatten().to_numpy(zero_copy_only=False).reshape(len(cells), cells.type.list_size)
    else:
        matrix = _matrix(cells.to_pylist())
    return columns.pop(id), matrix, columns


def _columns(rows: Iterable[Any], key: str, progress: Progress | None) -> Dict[str, List[Any]]:
    given = rows.items() if isinstance(rows, Mapping) else rows
    total = None if progress is None else length_hint(rows)
    records = [_record(row, key) for row in counted(given, progress, total)]
    spread = all(isinstance(value, Mapping) for _, value, _ in records)
    columns: Dict[str, List[Any]] = {}
    for row, (fixed, value, name) in enumerate(records):
        fields = value if spread else {name: value}
        for taken in fixed.keys() & fields.keys():
            raise ValidationError(f"two columns would be called {taken!r}: give the key another name")
        for column, cell in (*fixed.items(), *fields.items()):
            cells = columns.setdefault(column, [])
            cells.extend([None] * (row - len(cells)))
            cells.append(cell)
    for cells in columns.values():
        cells.extend([None] * (len(records) - len(cells)))
    return columns


def _record(row: Any, key: str) -> Tuple[Mapping[str, Any], Any, str]:
    """What stands in columns of its own, then what is spread over columns, and its name when it is not."""
    if isinstance(row, Hit):
        return {"id": row.id, "score": row.score}, row.payload, "payload"
    if isinstance(row, VectorItem):
        return {"id": row.id, "vector": row.vector}, row.payload, "payload"
    name, value = (row.key, row.value) if isinstance(row, Item) else _pair(row)
    return name if isinstance(name, Mapping) else {key: name}, value, "value"


def _pairs(
    names: Tuple[List[str], List[str]], batches: Iterable[Mapping[str, List[Any]]], key: Key
) -> Iterator[Tuple[Any, Any]]:
    keys, others = names
    for columns in batches:
        for row in range(len(columns[keys[0]])):
            name = (
                columns[key][row] if isinstance(key, str) else {field: columns[field][row] for field in keys}
            )
            if others == ["value"]:
                yield name, columns["value"][row]
            else:
                yield name, {field: columns[field][row] for field in others}


def _named(columns: Iterable[Any], key: Key) -> Tuple[List[str], List[str]]:
    """The columns of the key, and the others."""
    keys = [key] if isinstance(key, str) else list(key)
    names = list(columns)
    for name in names:
        if not isinstance(name, str):
            raise ValidationError(f"the columns must have names of type str, not {name!r}")
    for name in keys:
        if name not in names:
            raise ValidationError(f"there is no column {name!r} for the key: there are {names}")
    if not keys or len(set(names)) < len(names):
        raise ValidationError("the key needs at least one column, and no two columns may have the same name")
    return keys, [name for name in names if name not in keys]


def _nullable(pandas: Any, cells: List[Any]) -> Any:
    """A column in which None leaves the others as they are: by itself, pandas makes floats of such ints."""
    kinds = {type(cell) for cell in cells}
    if kinds == {int, type(None)} and all(cell is None or -(1 << 63) <= cell < 1 << 63 for cell in cells):
        return pandas.array(cells, dtype="Int64")
    return pandas.Series(cells, dtype=object) if type(None) in kinds and kinds & {int, bool} else cells


def _pandas_columns(frame: pandas.DataFrame) -> Dict[str, List[Any]]:
    """The cells as Python's own objects, None where one is missing."""
    plain = frame.astype(object)
    plain = plain.where(frame.notna(), None)
    return {name: plain[name].tolist() for name in frame.columns}


def _matrix(rows: List[Any]) -> Any:
    import numpy

    return numpy.array(rows, dtype=numpy.float32)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise _needs("pyarrow", "arrow") from error
    return pyarrow


def _needs(package: str, extra: str) -> ImportError:
    return ImportError(f"this needs {package}: pip install 'sop4py[{extra}]'", name=package)
