"""Storing the tables of a source in a database, in one transaction, and comparing them afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, List, Optional, Sequence, TypeVar, Union

from .._display import Report
from .._log import logger
from .._progress import Progress
from ..context import Context
from ..errors import StorageError, ValidationError
from ..transaction import TransactionMode, TransactionOptions
from .tables import BtreeTable, ModelTable, Tell, VectorTable

if TYPE_CHECKING:
    from ..database import Database

Table = Union[BtreeTable, VectorTable, ModelTable]
_Table = TypeVar("_Table", bound=Table)

# Minutes that the transaction may take: as many as one may have.
_MINUTES = 60


@dataclass
class ImportedStore:
    """A store that was made. `kind` is "btree", "vector" or "model"."""

    name: str
    kind: str
    items: int


@dataclass
class Imported(Report):
    """What an import stored; `verified` tells whether it was read again and compared with the source."""

    stores: List[ImportedStore]
    verified: bool


def load(
    ctx: Optional[Context], db: Database, tables: Sequence[Table], verify: bool, progress: Optional[Progress]
) -> Imported:
    """Stores the tables, all or none of them, and compares what was stored with them if it shall.

    `progress` is called with the rows done and to do; what it raises stops the import, and nothing is stored.
    """
    context = Context() if ctx is None else ctx
    tell = _teller(progress, sum(table.count for table in tables) * (2 if verify else 1))
    stores = []
    options = TransactionOptions(TransactionMode.ForWriting, max_time=_MINUTES)
    with db.begin_transaction(context, options=options) as trans:
        for table in tables:
            items = table.write(context, db, trans, tell)
            stores.append(ImportedStore(table.name, table.kind, items))
    if verify:
        _verify(context, db, tables, tell)
    logger.info("imported %d stores into %s", len(stores), db.storage_path)
    return Imported(stores, verify)


def chosen(tables: Iterable[_Table], only: Optional[Sequence[str]], what: str) -> List[_Table]:
    """The tables whose names are in `only`, which must be there; all without it."""
    found = list(tables)
    if only is None:
        return found
    names = [table.name for table in found]
    for name in only:
        if name not in names:
            raise ValidationError(f"there is no {what} {name!r}: there are {', '.join(names) or 'none'}")
    return [table for table in found if table.name in only]


def _verify(ctx: Context, db: Database, tables: Sequence[Table], tell: Tell) -> None:
    with db.begin_transaction(ctx, TransactionMode.ForReading) as trans:
        for table in tables:
            difference = table.differs(ctx, db, trans, tell)
            if difference is not None:
                raise StorageError(
                    f"the import is stored, but {difference} of the {table.kind} store {table.name!r} is not "
                    "what the source has"
                )


def _teller(progress: Optional[Progress], total: int) -> Tell:
    done = 0

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            # The source may hold more than it said.
            progress(done, max(done, total))

    return tell
