"""The package for asyncio: the same classes and calls, to be awaited, without contexts.

Calls run on up to 32 threads, where the library does not hold the GIL. Cancelling a task really stops its
call, as `Context.cancel` does, and the task goes on when the call has ended: what was complete by then stays.
`items`, `keys`, `values` and `ids` are asynchronous iterators.

    async with aio.Database("folder") as db, db.begin_transaction() as t:
        users = await db.open_btree("users", t)
        async for item in users.items():
            ...

What is passed to a call and called there (`progress`, the function of `Map.modify`) runs on its thread.
"""

from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Awaitable, Callable, Generator, TypeVar

from . import btree as _btree
from . import database as _database
from . import map as _map
from . import transaction as _transaction
from ._mirror import Mirror
from ._mirror import run as _on_thread
from .ai import database as _vector_database
from .ai import model as _model
from .ai import vector as _vector
from .context import Context
from .errors import Error
from .retry import ATTEMPTS, PAUSE_MAX, backoff, check_attempts, is_worth_another
from .transaction import TransactionMode, TransactionOptions

__all__ = ["Btree", "Database", "Map", "ModelStore", "Transaction", "VectorDatabase", "VectorStore", "run"]

_R = TypeVar("_R")


class Transaction(Mirror, of=_transaction.Transaction):
    """A transaction: `async with db.begin_transaction() as t`, or `t = await db.begin_transaction()`."""

    def __await__(self) -> Generator[Any, None, Transaction]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Transaction:
        await _on_thread(self.sync.ctx, self.sync.begin)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await _on_thread(self.sync.ctx, lambda: self.sync.__exit__(*error))


class Btree(Mirror, of=_btree.Btree):
    """A B-tree in a transaction."""


class Map(Mirror, of=_map.Map):
    """A unique B-tree as a mapping. `await m.contains(key)`, `await m.count()` stand for `in` and `len`."""

    async def contains(self, key: Any) -> bool:
        """Whether a key is there."""
        return bool(await self._run(lambda _, sync: key in sync))

    async def count(self) -> int:
        """How many items there are."""
        return int(await self._run(lambda _, sync: len(sync)))

    async def close(self) -> None:
        """Gives back what the library keeps for this map; calls afterwards raise StorageError."""
        self.sync.close()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.keys()  # type: ignore[no-any-return]

    # A map has the context that it was opened with: each call has a map of its own, which takes 10 us.

    def _context(self) -> Context:
        trans = self.sync._transaction
        return Context() if trans is None else trans.ctx

    def _object(self, context: Context) -> Any:
        return self.sync._with_context(context)


class VectorStore(Mirror, of=_vector.VectorStore):
    """A vector store."""


class ModelStore(Mirror, of=_model.ModelStore):
    """A model store. Its files (`open_artifact`, `writer`) are those of the store itself, `models.sync`."""


# Calls of a file are not awaited.
for _name in ("open_artifact", "writer"):
    delattr(ModelStore, _name)


class _Databases:
    """What both kinds of database have beside the calls of their class."""

    _kind: type
    sync: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.sync = self._kind(Context(), *arguments, **options)

    def begin_transaction(
        self, mode: int = TransactionMode.ForWriting, options: TransactionOptions | None = None
    ) -> Transaction:
        """A transaction, for `async with` or `await`: there it begins."""
        return Transaction._of(self.sync._new_transaction(Context(), mode, options))


class Database(_Databases, Mirror, of=_database.Database):
    """A database: `async with aio.Database("folder") as db`. The arguments are those of `sop.Database`."""

    _kind = _database.Database


class VectorDatabase(_Databases, Mirror, of=_vector_database.VectorDatabase):
    """A database with vector stores outside transactions. The arguments are those of `VectorDatabase`."""

    _kind = _vector_database.VectorDatabase


async def run(
    db: Database | VectorDatabase,
    function: Callable[[Transaction], Awaitable[_R]],
    *,
    options: TransactionOptions | None = None,
    attempts: int = ATTEMPTS,
) -> _R:
    """As `sop.run`, of a function that is awaited."""
    check_attempts(attempts)
    for attempt in range(1, attempts + 1):
        try:
            async with db.begin_transaction(options=options) as transaction:
                return await function(transaction)
        except Error as error:
            if not is_worth_another(error, attempt, attempts):
                raise
        await asyncio.sleep(backoff(attempt, PAUSE_MAX))
    raise AssertionError("the last attempt raises or returns")
