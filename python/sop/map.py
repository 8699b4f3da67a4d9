"""Maps: a unique B-tree as a dict-like view, with the fastest calls of this package."""

from __future__ import annotations

from contextlib import contextmanager
from html import escape
from itertools import chain
from operator import attrgetter, length_hint
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    Mapping,
    MutableMapping,
    NamedTuple,
    NoReturn,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from ._display import ROWS_MAX, table
from ._native import MapFunctions, _pairs
from ._progress import Progress, counted, steps
from .context import Context
from .errors import Error, StorageError
from .transaction import Transaction, TransactionMode

if TYPE_CHECKING:
    from .database import Database

__all__ = ["Map"]

TK = TypeVar("TK")
TV = TypeVar("TV")

_MISSING: Any = object()
_ITEMS, _KEYS, _VALUES = range(3)


class Origin(NamedTuple):
    """What a map was opened with."""

    database: Database
    name: str
    durability: int


_SHORTCUTS = ("get", "page", "put", "modify")
_shortcuts_of = attrgetter(*_SHORTCUTS)


class Map(MutableMapping[TK, TV]):
    """A unique B-tree as a mapping in order of key. `Database.open_map` opens one.

    Every call is a transaction of its own on the newest committed state: `m[key] = value` is committed when
    it returns. `with_transaction` gives the same map inside a transaction. Threads may share a map; after a
    fork, the child opens its own.

    Keys and values are what JSON has, as in a `Btree`; `users: Map[str, int] = ...` tells a type checker of
    which types. Where `raw` can be given, True gives values as their JSON text in bytes, which costs no
    decoding.
    """

    def __init__(
        self,
        ctx: Context,
        functions: MapFunctions,
        within: Callable[[Transaction], MapFunctions],
        origin: Origin,
    ) -> None:
        self._within = within
        self._origin = origin
        self._ctx = ctx
        self._transaction: Optional[Transaction] = None
        self._use(functions)

    def _use(self, functions: MapFunctions) -> None:
        self._functions = functions
        if type(self) is Map:
            # A call of one of these is a call of the library's function itself.
            self.__dict__.update(zip(_SHORTCUTS, _shortcuts_of(functions)))

    def close(self) -> None:
        """Gives back what the library keeps for this map; calls afterwards raise StorageError.

        Nothing is lost by that. Whoever does not care leaves it to the garbage collector.
        """
        self._use(_CLOSED)

    def __enter__(self) -> Map[TK, TV]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _with_context(self, ctx: Context) -> Map[TK, TV]:
        """The same map for calls with another context; itself inside a transaction, or closed."""
        database, name, durability = self._origin
        if self._transaction is not None or self._functions is _CLOSED or not database._folder.is_open:
            return self
        return database.open_map(ctx, name, durability=durability)

    def with_transaction(self, trans: Transaction) -> Map[TK, TV]:
        """The same map inside a transaction, which has begun: its calls take effect with its commit."""
        inside: Map[TK, TV] = Map(trans.ctx, self._within(trans), self._within, self._origin)
        inside._transaction = trans  # an open transaction that nobody holds is rolled back
        return inside

    # Reading

    def get(self, key: Any, default: Any = None, raw: bool = False) -> Any:
        """The value of a key, or the default."""
        return self._functions.get(key, default, raw)

    def get_many(
        self,
        keys: Iterable[TK],
        default: Any = None,
        raw: bool = False,
        *,
        progress: Optional[Progress] = None,
    ) -> List[Any]:
        """The values of keys, in their order, the default for one that is not there. One snapshot."""
        if progress is None:
            return self._functions.get_many(keys, default, raw)
        given = list(keys)
        parts = steps(len(given), progress)
        with self._snapshot() as within:
            return [value for part in parts for value in within.get_many(given[part], default, raw)]

    @contextmanager
    def _snapshot(self) -> Iterator[MapFunctions]:
        """The functions for several calls on one snapshot."""
        if self._transaction is not None or self._functions is _CLOSED:
            yield self._functions
            return
        database, _, _ = self._origin
        with database.begin_transaction(self._ctx, TransactionMode.ForReading) as transaction:
            yield self._within(transaction)

    def page(self, start: Any, count: int, reverse: bool = False, raw: bool = False) -> List[Tuple[Any, Any]]:
        """The first `count` (key, value) with start <= key; with `reverse` the last ones with key < start.

        `start` None is the end that the page begins at.
        """
        return self._functions.page(start, count, reverse, raw)

    def items(  # type: ignore[override]
        self, start: Any = None, stop: Any = None, reverse: bool = False, raw: bool = False
    ) -> Iterator[Tuple[Any, Any]]:
        """Iterates over (key, value) with start <= key < stop in order, or in reverse. None is no bound.

        Lazy: items come in batches, all of one snapshot. Inside a transaction each batch sees what the
        transaction wrote by then.
        """
        return self._walk(start, stop, reverse, _ITEMS, raw)

    def keys(  # type: ignore[override]
        self, start: Optional[TK] = None, stop: Optional[TK] = None, reverse: bool = False
    ) -> Iterator[TK]:
        """Iterates over the keys, as `items` does; large values are not read."""
        return self._walk(start, stop, reverse, _KEYS, False)

    def values(  # type: ignore[override]
        self, start: Any = None, stop: Any = None, reverse: bool = False, raw: bool = False
    ) -> Iterator[Any]:
        """Iterates over the values, as `items` does."""
        return self._walk(start, stop, reverse, _VALUES, raw)

    # Writing

    def put(self, key: TK, value: TV) -> None:
        """Sets the value of a key. `m[key] = value` is the same."""
        self._functions.put(key, value)

    def put_many(
        self,
        items: Union[Mapping[TK, TV], Iterable[Tuple[TK, TV]]],
        *,
        progress: Optional[Progress] = None,
    ) -> None:
        """Sets the values of many keys: all or none. Of equal keys the last one counts.

        Any number: they are taken in as they come. Up to some thousand are put again by themselves when
        another transaction was faster; more raise ConflictError then. Inside a transaction an iterable that
        raises ends it, when a part of the items was written. `progress` is told the items taken in and those
        to take in, as far as that is known; what it raises stops the call, as what the iterable raises does.
        """
        if progress is not None:
            items = counted(_pairs(items), progress, length_hint(items))
        self._functions.put_many(items)

    def remove(self, key: TK) -> bool:
        """Removes a key; whether it was there."""
        return self._functions.remove(key)

    def remove_many(self, keys: Iterable[TK], *, progress: Optional[Progress] = None) -> int:
        """Removes many keys: all or none; how many were there. Conflicts and progress as for `put_many`."""
        return self._functions.remove_many(counted(keys, progress))

    def modify(self, key: Any, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Sets the value of a key to `function(value)`, and gives it; `default` stands for no value.

        No change of others is lost: when one comes in between, `function` is called again with the newer
        value. Inside a transaction the commit tells.
        """
        return self._functions.modify(key, function, default)

    def update(  # type: ignore[override]
        self, items: Union[Mapping[Any, Any], Iterable[Tuple[Any, Any]]] = (), /, **more: Any
    ) -> None:
        """As `put_many`, of the items and then of the named ones, in one transaction."""
        self._functions.put_many(chain(_pairs_of(items), more.items()) if more else items)

    def clear(self, *, progress: Optional[Progress] = None) -> None:
        """Removes all keys, in one transaction."""
        total = None if progress is None else len(self)
        self._functions.remove_many(counted(self.keys(), progress, total))

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Removes a key and gives its value; without it the default, or a KeyError where there is none."""
        value = self._functions.pop(key, default)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def popitem(self) -> Tuple[TK, TV]:
        """Removes the first key and gives it with its value; KeyError when there is none."""
        for key in self.keys():
            value = self._functions.pop(key, _MISSING)
            if value is not _MISSING:  # else another one was faster
                return key, value
        raise KeyError("the map is empty")

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of a key, which is set to the default when there is none."""
        value = self._functions.get(key, _MISSING)
        if value is _MISSING:
            return self._functions.modify(key, lambda old: default if old is _MISSING else old, _MISSING)
        return value

    # As a mapping

    def __getitem__(self, key: TK) -> TV:
        value = self._functions.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value  # type: ignore[no-any-return]

    def __setitem__(self, key: TK, value: TV) -> None:
        self._functions.put(key, value)

    def __delitem__(self, key: TK) -> None:
        if not self._functions.remove(key):
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        return self._functions.contains(key)

    def __len__(self) -> int:
        return self._functions.length()

    def __bool__(self) -> bool:
        return True  # a map is there, empty or not; asking for its length would read

    def __iter__(self) -> Iterator[TK]:
        return self._walk(None, None, False, _KEYS, False)

    def __reversed__(self) -> Iterator[TK]:
        return self._walk(None, None, True, _KEYS, False)

    # A map is a view of what the database holds: a copy of it is itself.

    def __copy__(self) -> Map[TK, TV]:
        return self

    def __deepcopy__(self, memo: Any) -> Map[TK, TV]:
        return self

    def __reduce__(self) -> Tuple[Any, ...]:
        """Pickled by the folder and options of its database: where it is unpickled it is opened anew."""
        if self._transaction is not None:
            raise TypeError("a Map inside a transaction cannot be pickled: a transaction is of one process")
        return _reopened, tuple(self._origin)

    def __repr__(self) -> str:
        inside = "" if self._transaction is None else " in a transaction"
        return f"<sop.Map {self._origin.name!r} of {self._origin.database!r}{inside}>"

    def _repr_html_(self) -> str:
        if self._transaction is not None:
            return escape(repr(self))  # what it looked at would count as read
        try:
            title = f"{self._origin.name}: {len(self)} items"
            return table(title, ("key", "value"), self.page(None, ROWS_MAX))
        except Error as error:
            return escape(f"{self!r}: {error}")

    # Two maps are equal when they are one: comparing all items would read them.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _walk(self, start: Any, stop: Any, reverse: bool, parts: int, raw: bool) -> Iterator[Any]:
        return _elements(self._functions.walk(start, stop, reverse, parts, raw))


def _reopened(database: Database, name: str, durability: int) -> Map[Any, Any]:
    return database.open_map(Context(), name, durability=durability)


def _closed(*_: Any, **__: Any) -> NoReturn:
    raise StorageError("the map was closed; open it again", code=60)


_CLOSED = MapFunctions(*[_closed] * len(MapFunctions._fields))


def _elements(next_batch: Callable[[], Optional[List[Any]]]) -> Iterator[Any]:
    # Not chain.from_iterable: two threads in one chain crash where a batch releases the GIL.
    for batch in iter(next_batch, None):
        yield from batch


def _pairs_of(items: Any) -> Iterable[Any]:
    return items.items() if isinstance(items, Mapping) else items
