"""What a source gives: tables, each of which becomes a store.

A table can be read any number of times, row by row, and the rows are the same each time: once to store them,
once to compare them with what was stored.
"""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, List, Optional, Tuple, TypeVar

from ..btree import Btree, BtreeOptions, IndexSpecification, Item
from ..context import Context
from ..errors import ValidationError
from ..transaction import Transaction

if TYPE_CHECKING:
    from ..ai.vector import Item as Row
    from ..ai.vector import Metric
    from ..database import Database

# Rows that are stored, or compared, at a time.
_STEP = 1000

_T = TypeVar("_T")
# Told how many rows more are done.
Tell = Callable[[int], Any]


@dataclass
class BtreeTable:
    """Rows of key and value. Where keys may be equal, the rows are in falling order of key, those of equal
    keys the oldest first: read backwards, the B-tree has them like that.
    """

    options: BtreeOptions
    index_spec: Optional[IndexSpecification]
    count: int
    rows: Callable[[], Iterator[Tuple[Any, Any]]]
    kind = "btree"

    @property
    def name(self) -> str:
        return self.options.name

    def write(self, ctx: Context, db: Database, trans: Transaction, tell: Tell) -> int:
        """Stores the rows in a store that has none; how many there were."""
        store = db.new_btree(ctx, self.name, trans, self.options, self.index_spec)
        _check_empty(self, store.count(ctx))
        for rows in steps(self.rows()):
            items = [Item(key, value) for key, value in rows]
            if not store.add(ctx, items):
                self._raise_twice(ctx, store, items)
            tell(len(rows))
        return store.count(ctx)

    def _raise_twice(self, ctx: Context, store: Btree[Any, Any], items: List[Item[Any, Any]]) -> None:
        """Finds the key that is there twice: what was stored under it is not what its row says, but once."""
        found = store.get_values(ctx, [item.key for item in items])
        keys = [item.key for item, stored in zip(items, found) if not same(item.value, stored.value)]
        which = f": {keys[0]!r}" if keys else ""
        raise ValidationError(f"two rows of {self.name!r} have the same key{which}")

    def differs(self, ctx: Context, db: Database, trans: Transaction, tell: Tell) -> Optional[str]:
        """What of the rows is not stored as they are, or None."""
        stored = db.open_btree(ctx, self.name, trans)
        if stored.is_unique():
            return self._differs_by_key(ctx, stored, tell)
        # Of equal keys the newest comes first: backwards they come as they were stored.
        walk = stored.items(ctx, reverse=True)
        for rows in steps(self.rows()):
            for key, value in rows:
                item = next(walk, None)
                if item is None or not same([key, value], [item.key, item.value]):
                    return f"key {key!r}"
            tell(len(rows))
        return None

    def _differs_by_key(self, ctx: Context, stored: Btree[Any, Any], tell: Tell) -> Optional[str]:
        for rows in steps(self.rows()):
            found = stored.get_values(ctx, [key for key, _ in rows])
            for (key, value), item in zip(rows, found):
                if not same([key, value], [item.key, item.value]):
                    return f"key {key!r}"
            tell(len(rows))
        return None


@dataclass
class VectorTable:
    """Rows of id, vector and payload."""

    name: str
    metric: Metric
    count: int
    rows: Callable[[], Iterator[Row]]
    kind = "vector"

    def write(self, ctx: Context, db: Database, trans: Transaction, tell: Tell) -> int:
        store = db.open_vector_store(ctx, trans, self.name, self.metric)
        _check_empty(self, store.count(ctx))
        for rows in steps(self.rows()):
            store.upsert_batch(ctx, rows)
            tell(len(rows))
        return store.count(ctx)

    def differs(self, ctx: Context, db: Database, trans: Transaction, tell: Tell) -> Optional[str]:
        store = db.open_vector_store(ctx, trans, self.name)
        for rows in steps(self.rows()):
            for row, found in zip(rows, store.get_many(ctx, [row.id for row in rows])):
                if found is None or _numbers(found) != _numbers(row) or not same(found.payload, row.payload):
                    return f"id {row.id!r}"
            tell(len(rows))
        return None


@dataclass
class ModelTable:
    """Rows of category, name and model."""

    name: str
    count: int
    rows: Callable[[], Iterator[Tuple[str, str, Any]]]
    kind = "model"

    def write(self, ctx: Context, db: Database, trans: Transaction, tell: Tell) -> int:
        store = db.open_model_store(ctx, trans, self.name)
        _check_empty(self, len(store.categories(ctx)))
        saved = 0
        for category, name, model in self.rows():
            store.save(ctx, category, name, model)
            saved += 1
            tell(1)
        return saved

    def differs(self, ctx: Context, db: Database, trans: Transaction, tell: Tell) -> Optional[str]:
        store = db.open_model_store(ctx, trans, self.name)
        for category, name, model in self.rows():
            if not same(store.get(ctx, category, name), model):
                return f"model {category}/{name}"
            tell(1)
        return None


def steps(rows: Iterable[_T]) -> Iterator[List[_T]]:
    """The rows, some at a time."""
    left = iter(rows)
    return iter(lambda: list(islice(left, _STEP)), [])


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last bit and type: 1 is neither 1.0 nor True.

    The order of the fields of a dict is none: Chroma gives them in another one each time.
    """
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _numbers(row: Row) -> array[float]:
    return array("f", row.vector)


def _check_empty(table: Any, count: int) -> None:
    if count:
        raise ValidationError(
            f"there is a {table.kind} store {table.name!r} already, with {count} items: import into another "
            "folder, or leave this one out"
        )
