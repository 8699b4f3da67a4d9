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
from typing import Any, Callable, NamedTuple, NoReturn, Optional

from . import _json, errors
from ._library import native

# The names of an Item's fields, as the interpreter knows them.
_FIELDS = (sys.intern("key"), sys.intern("value"), sys.intern("id"))


class Functions(NamedTuple):
    """The builtin functions, in the order of `libjsondb/src/cpython/mod.rs`."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def bind(item: type, nil: str) -> Optional[Functions]:
    """The functions, whose items are of a class and have an id by default; None where there are none."""
    if not _is_known():
        return None
    names = ctypes.string_at(native.sop_cpython_names()).decode("ascii").split()
    library = ctypes.PyDLL(native._name)
    library.sop_cpython_bind.restype = ctypes.py_object
    library.sop_cpython_bind.argtypes = (
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_size_t,
        ctypes.py_object,
    )
    try:
        addresses = [
            ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value for name in names
        ]
        table = (ctypes.c_void_p * len(names))(*addresses)
        objects = (
            *(dict, list, tuple, str, int, float, bytes),
            *(None, True, False),
            TypeError,
            *(_report, _json.encode, _loads),
            *(item, *_FIELDS, nil),
        )
        return Functions(*library.sop_cpython_bind(table, len(names), objects))
    except (AttributeError, ValueError):  # a function is missing, or the answer was NULL
        return None


def _is_known() -> bool:
    return (
        sys.implementation.name == "cpython"
        and os.environ.get("SOP_PURE", "") in ("", "0")
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not hasattr(sys, "getobjects")  # Py_TRACE_REFS: objects are laid out in another way
    )


def _report(code: int, message: str, retryable: bool, details: str) -> NoReturn:
    raise errors.as_btree_error(errors.from_code(code, message, retryable, json.loads(details)))


def _loads(text: bytes) -> Any:
    return json.loads(text)
