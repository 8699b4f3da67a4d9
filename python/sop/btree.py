"""B-trees: ordered stores of keys and values, inside a transaction."""

from __future__ import annotations

import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Callable, Generic, Iterable, Iterator, List, Mapping, Optional, TypeVar, cast

from . import _json
from ._library import Handle, Opened, call_count, call_flag, call_handle, call_json, call_text, native
from ._native import bind
from ._progress import Progress, steps
from .context import Context, context_id
from .errors import BtreeError, Error, ValidationError, raises_btree_errors
from .transaction import NIL, Transaction, transaction_handle, whole

__all__ = [
    "Btree",
    "BtreeError",
    "BtreeOptions",
    "CacheConfig",
    "IndexFieldSpecification",
    "IndexSpecification",
    "Item",
    "PagingDirection",
    "PagingInfo",
    "ValueDataSize",
]

TK = TypeVar("TK")
TV = TypeVar("TV")

_NIL = str(NIL)
# Items fetched at a time by an iteration: few for those that stop early, more as it goes on.
_BATCH_MIN = 64
_BATCH_MAX = 1024
# What an iteration gives.
_ITEMS, _KEYS, _VALUES = range(3)


class ValueDataSize(IntEnum):
    """How large the values are: decides where they are kept, never what a call means."""

    Small = 0
    Medium = 1
    Big = 2


class PagingDirection(IntEnum):
    """Which way a page is walked."""

    Forward = 0
    Backward = 1


@dataclass
class PagingInfo:
    """One page, counted from the cursor; without a cursor, from the first item."""

    # Pages of page_size to skip.
    page_offset: int = 0
    page_size: int = 20
    # Items to fetch after skipping; 0 fetches page_size.
    fetch_count: int = 0
    direction: int = PagingDirection.Forward


@dataclass
class CacheConfig:
    """Durations in minutes, for the Redis of a Clustered database: `node_cache_duration` of tree pages,
    `value_data_cache_duration` of large values; 0 keeps nothing there. With `is_node_cache_ttl`,
    `is_value_data_cache_ttl` each read lets the time begin anew. The others are kept with the store and given
    back.
    """

    registry_cache_duration: int = 10
    is_registry_cache_ttl: bool = False
    node_cache_duration: int = 5
    is_node_cache_ttl: bool = False
    store_info_cache_duration: int = 5
    is_store_info_cache_ttl: bool = False
    value_data_cache_duration: int = 0
    is_value_data_cache_ttl: bool = False


@dataclass
class IndexFieldSpecification:
    """One field of a key that orders and identifies it."""

    field_name: str
    ascending_sort_order: bool = True


@dataclass
class IndexSpecification:
    """The fields of dict or dataclass keys that order and identify them. Other fields are carried along."""

    index_fields: Optional[Iterable[IndexFieldSpecification]] = None


@dataclass
class BtreeOptions:
    """Options of a B-tree, kept with it. Opening an existing one with others is an error."""

    name: str
    is_unique: bool = False
    slot_length: int = 500
    description: str = ""
    is_value_data_in_node_segment: bool = True
    is_value_data_actively_persisted: bool = False
    is_value_data_globally_cached: bool = False
    index_specification: str = ""
    transaction_id: str = _NIL
    cache_config: Optional[CacheConfig] = None
    is_primitive_key: bool = True
    leaf_load_balancing: bool = False

    def set_value_data_size(self, s: ValueDataSize) -> None:
        """Sets the three placement options for values of this size."""
        try:
            size = ValueDataSize(s)
        except ValueError as error:
            raise ValidationError(f"the size must be a ValueDataSize, 0, 1 or 2, not {s!r}") from error
        self.is_value_data_in_node_segment = size is ValueDataSize.Small
        self.is_value_data_actively_persisted = size is ValueDataSize.Big
        self.is_value_data_globally_cached = size is ValueDataSize.Medium


@dataclass
class Item(Generic[TK, TV]):
    """A key, its value, and the id that tells duplicates apart (given by the store)."""

    key: TK
    value: TV = None  # type: ignore[assignment]
    id: str = _NIL


# The fast path, where there is one.
fast = bind(Item, _NIL)


class _Unset:
    """No value argument was given; None is a value."""


_UNSET = _Unset()
_CACHE_DEFAULTS: Mapping[str, Any] = _json.fields_of(CacheConfig())
_ADD, _ADD_IF_NOT_EXISTS, _UPDATE, _UPSERT = 3, 4, 5, 6
_FIRST, _LAST, _NEXT, _PREVIOUS = 0, 1, 2, 3


class Btree(Opened, Generic[TK, TV]):
    """A B-tree in a transaction, with a cursor. Made by `new` or `open`; ends with the transaction."""

    def __init__(self, handle: Handle, trans: Transaction) -> None:
        self._handle = handle
        self._transaction = trans

    def __repr__(self) -> str:
        try:
            info = self.get_store_info()
        except Error:  # closed, or its transaction has ended
            return "<sop.Btree, closed>"
        return f"<sop.Btree {info.name!r}, {'unique' if info.is_unique else 'with duplicates'}>"

    @classmethod
    @raises_btree_errors
    def new(
        cls,
        ctx: Context,
        options: BtreeOptions,
        trans: Transaction,
        index_spec: IndexSpecification | None = None,
    ) -> Btree[Any, Any]:
        """Creates the B-tree, or opens it when one of this name exists with equal options."""
        text = options_text(options, index_spec)
        handle = transaction_handle(trans)
        return cls(call_handle(native.sop_btree_new, context_id(ctx), handle.value, text, len(text)), trans)

    @classmethod
    @raises_btree_errors
    def open(cls, ctx: Context, name: str, trans: Transaction) -> Btree[Any, Any]:
        """Opens the B-tree; StoreNotFoundError when there is none of this name."""
        handle = transaction_handle(trans)
        text = _json.encode_text(name, "the name of a B-tree")
        return cls(call_handle(native.sop_btree_open, context_id(ctx), handle.value, text, len(text)), trans)

    @property
    @raises_btree_errors
    def id(self) -> uuid.UUID:
        """Id of this opened B-tree."""
        return uuid.UUID(call_text(native.sop_handle_uuid, self._handle.value))

    @property
    @raises_btree_errors
    def transaction_id(self) -> uuid.UUID:
        """Id of its transaction."""
        return self._transaction.transaction_id

    @property
    def is_primitive_key(self) -> bool:
        """True when the keys are not dicts, as said when the B-tree was made."""
        return self.get_store_info().is_primitive_key

    # Writing

    def add(self, ctx: Context, items: Any, value: Any = _UNSET, *, progress: Progress | None = None) -> bool:
        """Adds an Item, a list of Item, or a key and a value. False for a key that a unique B-tree has.

        A list goes on past a False; the answer is True when all were added. So do the three calls below.
        `progress`, of a list, is told the items done and to do; what it raises stops the call and ends the
        transaction, of which a part was written.
        """
        return self._write(ctx, _ADD, items, value, progress)

    def add_if_not_exists(
        self, ctx: Context, items: Any, value: Any = _UNSET, *, progress: Progress | None = None
    ) -> bool:
        """As `add`, and never adds a duplicate, unique B-tree or not."""
        return self._write(ctx, _ADD_IF_NOT_EXISTS, items, value, progress)

    def update(
        self, ctx: Context, items: Any, value: Any = _UNSET, *, progress: Progress | None = None
    ) -> bool:
        """Replaces the value of a key. False for a key that is not there."""
        return self._write(ctx, _UPDATE, items, value, progress)

    def upsert(
        self, ctx: Context, items: Any, value: Any = _UNSET, *, progress: Progress | None = None
    ) -> bool:
        """Replaces the value of a key, or adds it."""
        return self._write(ctx, _UPSERT, items, value, progress)

    def remove(self, ctx: Context, keys: Any, *, progress: Progress | None = None) -> bool:
        """Removes a key or a list of keys. False when one is not there.

        The cursor stays at its place: when its own item is removed there is no current item, and a walk goes
        on with the neighbour.
        """
        given = keys if isinstance(keys, list) else [keys]
        return self._in_steps(len(given), progress, lambda part: self._remove_some(ctx, given[part]))

    # Finding

    @raises_btree_errors
    def find_one(self, ctx: Context, key: TK, first_only: bool = False) -> Item[TK, TV] | None:
        """The item of the key with its value, or None. Positions the cursor as `find` does.

        Of duplicates it is any one, the first in order with `first_only`.
        """
        if fast is not None:
            return cast("Item[TK, TV] | None", fast.btree_find_one(*self._of(ctx), key))
        text = _key_text(key)
        return _item(call_json(native.sop_btree_find_one, *self._of(ctx), text, len(text), bool(first_only)))

    @raises_btree_errors
    def find(self, ctx: Context, key: TK) -> bool:
        """Moves the cursor to the key, of duplicates to the first.

        A miss leaves it on the next greater key, else on the last.
        """
        text = _key_text(key)
        return call_flag(native.sop_btree_find, *self._of(ctx), text, len(text), None)

    @raises_btree_errors
    def find_with_id(self, ctx: Context, key: TK, id: str | uuid.UUID) -> bool:
        """Moves the cursor to the one of several duplicates that has this id."""
        text = _key_text(key)
        wanted = _json.encode_text(str(id) if isinstance(id, uuid.UUID) else id, "the id")
        if b"\0" in wanted:
            raise ValidationError("the id contains a NUL character")
        return call_flag(native.sop_btree_find, *self._of(ctx), text, len(text), wanted)

    def first(self, ctx: Context) -> bool:
        """Moves the cursor to the first item. False when there is none; so do the three calls below."""
        return self._step(ctx, _FIRST)

    def last(self, ctx: Context) -> bool:
        """Moves the cursor to the last item."""
        return self._step(ctx, _LAST)

    def next(self, ctx: Context) -> bool:
        """Moves the cursor to the next item."""
        return self._step(ctx, _NEXT)

    def previous(self, ctx: Context) -> bool:
        """Moves the cursor to the previous item."""
        return self._step(ctx, _PREVIOUS)

    # At the cursor

    @raises_btree_errors
    def get_current_item(self, ctx: Context) -> Item[TK, TV] | None:
        """The item at the cursor, or None when it is on none."""
        return _item(call_json(native.sop_btree_current, *self._of(ctx)))

    def get_current_key(self, ctx: Context) -> TK | None:
        """Key of the item at the cursor."""
        item = self.get_current_item(ctx)
        return None if item is None else item.key

    def get_current_value(self, ctx: Context) -> TV | None:
        """Value of the item at the cursor."""
        item = self.get_current_item(ctx)
        return None if item is None else item.value

    @raises_btree_errors
    def update_current_item(self, ctx: Context, value: Any) -> bool:
        """Replaces the value of the item at the cursor; an Item gives its value. False when it is on none."""
        text = _json.encode(value.value if isinstance(value, Item) else value)
        return call_flag(native.sop_btree_update_current, *self._of(ctx), text, len(text))

    @raises_btree_errors
    def remove_current_item(self, ctx: Context) -> bool:
        """Removes the item at the cursor, which is on none then. False when it is on none."""
        return call_flag(native.sop_btree_remove_current, *self._of(ctx))

    # Pages and ranges

    def get_keys(self, ctx: Context, pagingInfo: PagingInfo) -> List[Item[TK, TV]]:
        """A page of items without their values. The cursor moves on: the next call gives the next page.

        After the last item pages are empty, until the cursor is moved.
        """
        return self._page(ctx, pagingInfo, False)

    def get_items(self, ctx: Context, pagingInfo: PagingInfo) -> List[Item[TK, TV]]:
        """A page of items with their values."""
        return self._page(ctx, pagingInfo, True)

    def get_values(self, ctx: Context, keys: Any, *, progress: Progress | None = None) -> List[Item[TK, TV]]:
        """The items of the given keys, or Items to give an id, in their order; value None for a miss."""
        given = keys if isinstance(keys, list) else [keys]
        if progress is None:
            return self._get_some(ctx, given)
        parts = steps(len(given), progress)
        return [item for part in parts for item in self._get_some(ctx, given[part])]

    @raises_btree_errors
    def _get_some(self, ctx: Context | None, keys: List[Any]) -> List[Item[TK, TV]]:
        if fast is not None:
            found = fast.btree_values(*self._of(ctx), keys)
            if found is not None:
                return found
        wanted = [key if isinstance(key, Item) else Item(key) for key in keys]
        text = _json.encode([_entry(item, False) for item in wanted], "the keys")
        return _items(call_json(native.sop_btree_values, *self._of(ctx), text, len(text)))

    def items(
        self, ctx: Context, start: Any = None, stop: Any = None, reverse: bool = False
    ) -> Iterator[Item[TK, TV]]:
        """Iterates over the items with start <= key < stop in order of key, or in reverse. None is no bound.

        Lazy: items come in batches. The cursor is not moved.
        """
        return self._range(ctx, start, stop, reverse, _ITEMS)

    def keys(self, ctx: Context, start: Any = None, stop: Any = None, reverse: bool = False) -> Iterator[TK]:
        """Iterates over the keys, as `items` does; values are not read."""
        return self._range(ctx, start, stop, reverse, _KEYS)

    def values(
        self, ctx: Context, start: Any = None, stop: Any = None, reverse: bool = False
    ) -> Iterator[TV]:
        """Iterates over the values, as `items` does."""
        return self._range(ctx, start, stop, reverse, _VALUES)

    # About the B-tree

    @raises_btree_errors
    def count(self, ctx: Context | None = None) -> int:
        """How many items there are, as this transaction sees it.

        Not checked at commit: that others added or removed items is no conflict.
        """
        return call_count(native.sop_btree_count, *self._of(ctx))

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # a B-tree is there, empty or not; asking for its length would read

    def __contains__(self, key: object) -> bool:
        return self._get_some(None, [_key(key)])[0].id != _NIL

    def __iter__(self) -> Iterator[TK]:
        return self.keys(self._transaction.ctx)

    def is_unique(self) -> bool:
        """True when a key can be there only once."""
        return self.get_store_info().is_unique

    @raises_btree_errors
    def get_store_info(self) -> BtreeOptions:
        """The options it was made with."""
        fields = call_json(native.sop_btree_info, *self._of(None))
        if fields.get("cache_config") is not None:
            # Other callers of the library may have given it other fields.
            known = {name: value for name, value in fields["cache_config"].items() if name in _CACHE_DEFAULTS}
            fields["cache_config"] = CacheConfig(**known)
        return BtreeOptions(**fields)

    def _of(self, ctx: Context | None) -> tuple[int, int]:
        return context_id(ctx), self._handle.value

    @raises_btree_errors
    def _write(self, ctx: Context, action: int, items: Any, value: Any, progress: Progress | None) -> bool:
        if progress is None:
            return self._write_some(ctx, action, _given(items, value))
        given = _given(items, value)
        return self._in_steps(len(given), progress, lambda part: self._write_some(ctx, action, given[part]))

    @raises_btree_errors
    def _write_some(self, ctx: Context, action: int, given: List[Any]) -> bool:
        if fast is not None:
            done = fast.btree_write(*self._of(ctx), action, given)
            if done is not None:
                return done
        text = _json.encode([_entry(item, True) for item in given], "the items")
        return call_flag(native.sop_btree_write, *self._of(ctx), action, text, len(text))

    @raises_btree_errors
    def _remove_some(self, ctx: Context, keys: List[Any]) -> bool:
        text = _json.encode([_key(key) for key in keys], "the keys")
        return call_flag(native.sop_btree_remove, *self._of(ctx), text, len(text))

    def _in_steps(self, total: int, progress: Progress | None, write: Callable[[slice], bool]) -> bool:
        """Writes the parts of so many items; whether all of them answered True."""
        with nullcontext() if progress is None else whole(self._transaction):
            answers = [write(part) for part in steps(total, progress)]
        return all(answers)

    @raises_btree_errors
    def _step(self, ctx: Context, move: int) -> bool:
        return call_flag(native.sop_btree_step, *self._of(ctx), move)

    @raises_btree_errors
    def _page(self, ctx: Context, paging: PagingInfo, with_values: bool) -> List[Item[TK, TV]]:
        if fast is not None and type(paging) is PagingInfo:
            numbers = (paging.page_offset, paging.page_size, paging.fetch_count, paging.direction)
            if all(_is_count(number) for number in numbers):
                return fast.btree_page(*self._of(ctx), *numbers, with_values)
        text = _json.encode(paging, "the PagingInfo")
        return _items(call_json(native.sop_btree_page, *self._of(ctx), text, len(text), int(with_values)))

    def _range(self, ctx: Context, start: Any, stop: Any, reverse: bool, parts: int) -> Iterator[Any]:
        if fast is not None:
            return self._fast_range(ctx, start, stop, reverse, parts)
        items = self._items(ctx, start, stop, reverse, parts != _KEYS)
        if parts == _ITEMS:
            return items
        return (item.key if parts == _KEYS else item.value for item in items)

    def _fast_range(self, ctx: Context, start: Any, stop: Any, reverse: bool, parts: int) -> Iterator[Any]:
        assert fast is not None
        next_batch = fast.btree_range(*self._of(ctx), start, stop, bool(reverse), parts)
        for batch in iter(next_batch, None):
            yield from batch

    def _items(
        self, ctx: Context, start: Any, stop: Any, reverse: bool, with_values: bool
    ) -> Iterator[Item[TK, TV]]:
        query: dict[str, Any] = {
            "reverse": bool(reverse),
            "resume": None,
            "limit": _BATCH_MIN,
            "with_values": with_values,
        }
        if start is not None:
            query["start"] = _key(start)
        if stop is not None:
            query["stop"] = _key(stop)
        while True:
            batch = self._range_batch(ctx, query)
            yield from _items(batch["items"])
            if batch["resume"] is None:
                return
            query["resume"] = batch["resume"]
            query["limit"] = min(query["limit"] * 2, _BATCH_MAX)

    @raises_btree_errors
    def _range_batch(self, ctx: Context, query: Mapping[str, Any]) -> Any:
        text = _json.encode(query, "the range")
        return call_json(native.sop_btree_range, *self._of(ctx), text, len(text))


def options_text(options: BtreeOptions, index_spec: IndexSpecification | None) -> bytes:
    """JSON text of the options of a B-tree."""
    if not isinstance(options, BtreeOptions):
        raise ValidationError(f"the options must be BtreeOptions, not {type(options).__name__}")
    fields = {**_json.fields_of(options), "cache_config": _cache_fields(options.cache_config)}
    if index_spec is not None:
        fields["index_specification"] = _index_text(index_spec)
    return _json.encode(fields, "the B-tree options")


def _cache_fields(config: Any) -> dict[str, Any] | None:
    """The fields of a CacheConfig, or of a dict like one: minutes are whole, flags are bools."""
    if config is None:
        return None
    if not isinstance(config, (CacheConfig, Mapping)):
        raise ValidationError(f"cache_config must be a CacheConfig, not {type(config).__name__}")
    fields = dict(config) if isinstance(config, Mapping) else _json.fields_of(config)
    for name, value in fields.items():
        if name not in _CACHE_DEFAULTS:
            raise ValidationError(f"cache_config has no field {name!r}")
        wanted = type(_CACHE_DEFAULTS[name])
        if type(value) is not wanted:
            raise ValidationError(f"{name} of cache_config must be a {wanted.__name__}, not {value!r}")
    return fields


def _index_text(spec: Any) -> str:
    """JSON text of an IndexSpecification, of one field or several."""
    if isinstance(spec, IndexSpecification):
        fields = spec.index_fields
        one = isinstance(fields, IndexFieldSpecification)
        spec = {"index_fields": [fields] if one else _json.as_list(fields or (), "index_fields")}
    return _json.encode(spec, "the index specification").decode("utf-8")


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63


def _given(items: Any, value: Any) -> List[Any]:
    """The Items of a write, in each of its three forms."""
    if value is not _UNSET:
        return [Item(items, value)]
    given = list(items) if isinstance(items, (list, tuple)) else [items]
    for item in given:
        if not isinstance(item, Item):
            raise ValidationError(
                f"expected an Item, a list of Items, or a key and a value, not {type(item).__name__}"
            )
    return given


def _entry(item: Item[Any, Any], with_value: bool) -> dict[str, Any]:
    entry = {"key": _key(item.key)}
    if with_value:
        entry["value"] = item.value
    if item.id and str(item.id) != _NIL:
        entry["id"] = str(item.id)
    return entry


def _key(key: Any) -> Any:
    if isinstance(key, Item):
        raise ValidationError("expected a key, not an Item: pass item.key")
    return key


def _key_text(key: Any) -> bytes:
    return _json.encode(_key(key), "the key")


def _item(fields: Mapping[str, Any] | None) -> Item[Any, Any] | None:
    return None if fields is None else Item(fields["key"], fields["value"], fields["id"])


def _items(rows: Iterable[Mapping[str, Any]]) -> List[Item[Any, Any]]:
    return [Item(row["key"], row["value"], row["id"]) for row in rows]
