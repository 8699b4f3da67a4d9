"""A folder of sop4py up to 2: B-trees, vector stores and models, read by the published package itself.

That package and this one are both called sop. So another Python reads, one that has sop4py, and tells what it
finds line by line (sop4py_reader.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Sequence

from .._progress import Progress
from ..ai.vector import Item, Metric
from ..btree import BtreeOptions
from ..context import Context
from ..errors import StorageError, ValidationError
from .load import Imported, Table, chosen, load
from .tables import BtreeTable, ModelTable, VectorTable

if TYPE_CHECKING:
    from ..database import Database

_READER = Path(__file__).with_name("sop4py_reader.py")
# Options of a B-tree that come along.
_OPTIONS = (
    "is_unique",
    "description",
    "is_primitive_key",
    "is_value_data_in_node_segment",
    "is_value_data_actively_persisted",
    "is_value_data_globally_cached",
)


def from_sop4py(
    db: Database,
    source: str | os.PathLike[str],
    python: str | os.PathLike[str],
    *,
    only: Optional[Sequence[str]] = None,
    verify: bool = False,
    progress: Optional[Progress] = None,
    ctx: Optional[Context] = None,
) -> Imported:
    """Imports the stores of a folder of sop4py 2, those in `only` if it is given, in one transaction.

    `python` is that of a virtual environment with sop4py: 2.3.3, or 2.0.17 for what 2.0.17 wrote. Nobody may
    write to the folder meanwhile. `verify` compares all rows afterwards.
    """
    reader = _Reader(os.path.abspath(source), os.fspath(python))
    if not os.path.isfile(os.path.join(reader.folder, "storelist.txt")):
        raise ValidationError(f"{reader.folder} is no folder of sop4py 2: it has no storelist.txt")
    tables = chosen(map(reader.table, reader.lines()), only, "store")
    return load(ctx, db, tables, verify, progress)


class _Reader:
    """The other Python, and the folder that it reads."""

    def __init__(self, folder: str, python: str) -> None:
        self.folder = folder
        self.python = python

    def table(self, found: Dict[str, Any]) -> Table:
        kind, name = found["kind"], found["name"]

        def lines() -> Iterator[Any]:
            return self.lines(kind, name)

        if kind == "vector":
            return VectorTable(name, Metric.Cosine, found["count"], lambda: (Item(*row) for row in lines()))
        if kind == "model":
            return ModelTable(name, found["count"], lambda: map(tuple, lines()))
        options = BtreeOptions(
            name,
            index_specification=found["mapkey_index_spec"],
            **{option: found[option] for option in _OPTIONS},
        )
        return BtreeTable(options, None, found["count"], lambda: map(tuple, lines()))

    def lines(self, *arguments: str) -> Iterator[Any]:
        """What the reader tells, line by line. It ends with whoever stops to listen."""
        command = [self.python, "-I", str(_READER), self.folder, *arguments]
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
                )
            except OSError as error:
                raise ValidationError(f"cannot run {self.python}: {error}") from error
            with process:
                try:
                    assert process.stdout is not None
                    yield from map(json.loads, process.stdout)
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
                raise StorageError(f"sop4py could not read {self.folder}: {said[-1]}")
