"""The fast path of CPython: builtin functions of the library that take and give Python objects.

`fast` is None on other interpreters, on builds the library does not know, and with SOP_PURE=1 in the
environment; then everything goes through ctypes and JSON text (`_library.py`), and means the same.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import sysconfig
from typing import Any, Callable, Iterable, List, Mapping, NamedTuple, NoReturn, Optional, Tuple

from . import _json, errors
from ._library import native, unusable

# The names of an Item's fields, as the interpreter knows them.
_FIELDS = (sys.intern("key"), sys.intern("value"), sys.intern("id"))


class MapFunctions(NamedTuple):
    """What a map is made of, in the order of `libjsondb/src/cpython/map.rs`. `sop.Map` says what they do."""

    get: Callable[..., Any]
    contains: Callable[[Any], bool]
    get_many: Callable[..., List[Any]]
    length: Callable[[], int]
    page: Callable[..., List[Tuple[Any, Any]]]
    # (start, stop, reverse, parts: 0 items, 1 keys, 2 values, raw): gives batch after batch, then None.
    walk: Callable[[Any, Any, bool, int, bool], Callable[[], Optional[List[Any]]]]
    put: Callable[[Any, Any], None]
    put_many: Callable[[Any], None]
    remove: Callable[[Any], bool]
    pop: Callable[..., Any]
    remove_many: Callable[[Any], int]
    modify: Callable[..., Any]
    # (context, transaction): the same map in a transaction.
    within: Optional[Callable[[int, int], Tuple[Any, ...]]]


class Functions(NamedTuple):
    """The builtin functions, in the order of `libjsondb/src/cpython/mod.rs`."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    # (context, database, name, options, durability): the fields of MapFunctions.
    open_map: Callable[[int, int, bytes, Optional[bytes], int], Tuple[Any, ...]]
    # Calls of a B-tree, after its context and its handle. None: only the way over JSON text can tell.
    btree_write: Callable[[int, int, int, Any], Optional[bool]]
    btree_find_one: Callable[[int, int, Any], Any]
    btree_values: Callable[[int, int, Any], Optional[List[Any]]]
    # (offset, size, fetch, direction, with_values)
    btree_page: Callable[[int, int, int, int, int, int, bool], List[Any]]
    # (start, stop, reverse, parts)
    btree_range: Callable[[int, int, Any, Any, bool, int], Callable[[], Optional[List[Any]]]]
    # (context, database, mode, minutes, durability): a transaction's handle, and what releases it.
    begin: Callable[[int, int, int, float, int], Tuple[int, Any]]
    # (context, transaction)
    commit: Callable[[int, int], None]
    # Calls of a vector store, after its context and its handle. None: an argument has another form.
    # (ids, vectors, payloads)
    vector_upsert_arrays: Callable[[int, int, List[str], Any, Optional[List[Any]]], Optional[bool]]
    # (vector, k, options): the fields of Hits.
    vector_query: Callable[[int, int, Any, int, Optional[bytes]], Optional[List[Tuple[Any, ...]]]]
    # (queries, k, options, scores)
    vector_query_arrays: Callable[[int, int, Any, int, Optional[bytes], Any], Optional[List[List[str]]]]


# The functions, once `btree` has bound them.
fast: Optional[Functions] = None


def bind(item: type, nil: str) -> Optional[Functions]:
    """Binds the functions, whose items are of a class and have an id by default; None: there are none."""
    global fast
    fast = _bound(item, nil) if _is_known() else None
    return fast


def _bound(item: type, nil: str) -> Optional[Functions]:
    library = ctypes.PyDLL(native._name)
    library.sop_cpython_names.restype = ctypes.c_char_p
    names = library.sop_cpython_names().decode("ascii").split()
    # Not py_object: up to CPython 3.11, ctypes crashes where such an answer is NULL.
    library.sop_cpython_bind.restype = ctypes.c_void_p
    library.sop_cpython_bind.argtypes = (
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_size_t,
        ctypes.py_object,
    )
    # Where one is not exported, the library decides whether it does without.
    exported = [getattr(ctypes.pythonapi, name, 0) for name in names]
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in exported]
    table = (ctypes.c_void_p * len(names))(*addresses)
    objects = (
        *(dict, list, tuple, str, int, float, bytes),
        *(None, True, False),
        TypeError,
        *(_report, _report_plain, _json.encode, _loads, _pairs, _pair),
        *(item, *_FIELDS, nil),
    )
    answer = library.sop_cpython_bind(table, len(names), objects)
    if not answer:
        return None
    functions = ctypes.cast(answer, ctypes.py_object).value
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(functions))  # the answer is a reference of its own
    if len(functions) != len(Functions._fields):
        raise unusable(native._name, f"{len(functions)} functions for {len(Functions._fields)}")
    return Functions(*functions)


def _is_known() -> bool:
    return (
        sys.implementation.name == "cpython"
        and os.environ.get("SOP_PURE", "") in ("", "0")
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not hasattr(sys, "getobjects")  # Py_TRACE_REFS: objects are laid out in another way
    )


def _report(code: int, message: str, retryable: bool, details: str) -> NoReturn:
    raise errors.as_btree_error(errors.from_code(code, message, retryable, json.loads(details)))


def _report_plain(code: int, message: str, retryable: bool, details: str) -> NoReturn:
    raise errors.from_code(code, message, retryable, json.loads(details))


def _loads(text: bytes) -> Any:
    return json.loads(text)


def _pairs(items: Any) -> Iterable[Any]:
    """What gives the pairs of a mapping, or of an iterable of them."""
    if isinstance(items, Mapping):
        return items.items()
    if isinstance(items, Iterable) and not isinstance(items, (str, bytes)):
        return items
    raise errors.ValidationError(f"expected a mapping or (key, value) pairs, not {type(items).__name__}")


def _pair(pair: Any) -> Tuple[Any, Any]:
    try:
        key, value = pair
    except (TypeError, ValueError) as error:
        raise errors.ValidationError(f"expected (key, value) pairs, not {pair!r}") from error
    return key, value
