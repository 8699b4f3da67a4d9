"""The functions of a map over transactions and B-trees, where the fast path of CPython is not to be had."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from itertools import islice
from operator import index
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple, TypeVar

from . import _json
from ._native import MapFunctions, _pair, _pairs
from .btree import Btree, BtreeOptions, IndexSpecification, Item
from .context import Context
from .errors import Error, StoreNotFoundError, ValidationError
from .retry import backoff
from .transaction import NIL, Transaction, abandon

_R = TypeVar("_R")

# How often a call that lost against others is run again, and the longest pause before it is, in seconds.
_RETRIES_MAX = 1000
_PAUSE_MAX = 0.002
_BATCH = 1024
# Items that are put again by themselves; more are taken in as they come, once.
_MANY = 4096
_MISSING: Any = object()


def open_pure(
    ctx: Context,
    name: str,
    options: Optional[BtreeOptions],
    index_spec: Optional[IndexSpecification],
    begin: Callable[[bool], Transaction],
) -> None:
    """Makes the B-tree of a map when there is none, and checks that it is unique."""
    with begin(True) as transaction:
        try:
            if options is None:
                store = Btree.open(ctx, name, transaction)
            else:
                store = Btree.new(ctx, options, transaction, index_spec)
        except StoreNotFoundError:
            store = Btree.new(ctx, BtreeOptions(name, is_unique=True), transaction)
        if not store.is_unique():
            raise ValidationError(f"B-tree {name!r} keeps duplicates: a map is on a unique one")


class PureMap:
    """A map whose calls each begin a transaction, or take place in the one that is given.

    `begin(writing)` makes a transaction, not begun.
    """

    def __init__(
        self,
        ctx: Context,
        name: str,
        begin: Callable[[bool], Transaction],
        transaction: Optional[Transaction] = None,
    ) -> None:
        self._ctx = ctx
        self._name = name
        self._begin = begin
        self._transaction = transaction

    def functions(self) -> MapFunctions:
        """The functions, as the fast path has them."""
        return MapFunctions(
            self._get,
            self._contains,
            self._get_many,
            lambda: self._read(lambda store: store.count(self._ctx)),
            self._page,
            self._walk,
            lambda key, value: self._put_many([(key, value)]),
            self._put_many,
            lambda key: self._remove_many([key]) > 0,
            self._pop,
            self._remove_many,
            self._modify,
            None,
        )

    def _read(self, work: Callable[[Btree[Any, Any]], _R]) -> _R:
        if self._transaction is not None:
            return work(Btree.open(self._ctx, self._name, self._transaction))
        with self._begin(False) as transaction:
            return work(Btree.open(self._ctx, self._name, transaction))

    def _write(self, work: Callable[[Btree[Any, Any]], _R]) -> _R:
        if self._transaction is not None:
            return work(Btree.open(self._ctx, self._name, self._transaction))
        for attempt in range(_RETRIES_MAX + 1):
            try:
                with self._begin(True) as transaction:
                    return work(Btree.open(self._ctx, self._name, transaction))
            except Error as error:
                if error.code not in (10, 11) or attempt == _RETRIES_MAX:
                    raise
            time.sleep(backoff(attempt, _PAUSE_MAX))
        raise AssertionError("the last attempt raises or returns")

    def _get(self, key: Any, default: Any = None, raw: bool = False) -> Any:
        return self._get_many([key], default, raw)[0]

    def _contains(self, key: Any) -> bool:
        return self._get_many([key], _MISSING)[0] is not _MISSING

    def _get_many(self, keys: Iterable[Any], default: Any = None, raw: bool = False) -> List[Any]:
        wanted: List[Item[Any, Any]] = [Item(key) for key in keys]
        items = self._read(lambda store: store.get_values(self._ctx, wanted))
        return [default if _is_missing(item) else _form(item.value, raw) for item in items]

    def _page(
        self, start: Any, count: int, reverse: bool = False, raw: bool = False
    ) -> List[Tuple[Any, Any]]:
        first, last = (None, start) if reverse else (start, None)
        limit = min(index(count), sys.maxsize)
        if limit < 0:
            raise ValidationError("the count of a page is at least 0")

        def page(store: Btree[Any, Any]) -> List[Tuple[Any, Any]]:
            items = islice(store.items(self._ctx, first, last, reverse), limit)
            return [(item.key, _form(item.value, raw)) for item in items]

        return self._read(page)

    def _walk(
        self, start: Any, stop: Any, reverse: bool, parts: int, raw: bool
    ) -> Callable[[], Optional[List[Any]]]:
        elements = self._elements(start, stop, reverse, parts, raw)
        return lambda: list(islice(elements, _BATCH)) or None

    def _elements(self, start: Any, stop: Any, reverse: bool, parts: int, raw: bool) -> Iterator[Any]:
        with nullcontext(self._transaction) if self._transaction else self._begin(False) as transaction:
            store = Btree.open(self._ctx, self._name, transaction)
            if parts == 1:
                yield from store.keys(self._ctx, start, stop, reverse)
                return
            for item in store.items(self._ctx, start, stop, reverse):
                value = _form(item.value, raw)
                yield (item.key, value) if parts == 0 else value

    def _put_many(self, items: Any) -> None:
        pairs = (Item(*_pair(pair)) for pair in _pairs(items))
        given: List[Item[Any, Any]] = list(islice(pairs, _MANY))
        if len(given) < _MANY:
            self._write(lambda store: store.upsert(self._ctx, given))
        elif self._transaction is None:
            with self._begin(True) as transaction:
                self._load(transaction, given, pairs)
        else:
            try:
                self._load(self._transaction, given, pairs)
            except BaseException:  # a part was written, of which the caller knows nothing
                abandon(self._transaction._begun())
                raise

    def _load(
        self, transaction: Transaction, given: List[Item[Any, Any]], rest: Iterator[Item[Any, Any]]
    ) -> None:
        """Takes items in as they come."""
        store = Btree.open(self._ctx, self._name, transaction)
        while given:
            store.upsert(self._ctx, given)
            given = list(islice(rest, _MANY))

    def _pop(self, key: Any, default: Any = None) -> Any:
        def pop(store: Btree[Any, Any]) -> Any:
            item = store.get_values(self._ctx, [Item(key)])[0]
            if _is_missing(item):
                return default
            store.remove(self._ctx, [key])
            return item.value

        return self._write(pop)

    def _remove_many(self, keys: Iterable[Any]) -> int:
        given = list(keys)

        def remove(store: Btree[Any, Any]) -> int:
            before = store.count(self._ctx)
            store.remove(self._ctx, given)
            return before - store.count(self._ctx)

        return self._write(remove)

    def _modify(self, key: Any, function: Callable[[Any], Any], default: Any = None) -> Any:
        def modify(store: Btree[Any, Any]) -> Any:
            # Not find_one: of a key that is missing it reads the neighbours, and meets their writers.
            item = store.get_values(self._ctx, [Item(key)])[0]
            value = function(default if _is_missing(item) else item.value)
            store.upsert(self._ctx, key, value)
            return value

        return self._write(modify)


def _is_missing(item: Item[Any, Any]) -> bool:
    return item.id == str(NIL)


def _form(value: Any, raw: bool) -> Any:
    return _json.encode(value) if raw else value
