"""The native library: where it is, its signatures, and how its answers become Python values.

The only module that knows ctypes signatures. Loading the library starts no thread and prints nothing. Its
functions are called through CDLL, so the GIL is free while they run.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import weakref
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any, Iterator, NoReturn, TypeVar

from . import errors

if sys.platform == "win32":
    LIBRARY_NAME = "jsondb.dll"
elif sys.platform == "darwin":
    LIBRARY_NAME = "libjsondb.dylib"
else:
    LIBRARY_NAME = "libjsondb.so"

# Of this package, and of the library that it works with.
VERSION = "3.0.0"

_TEXT = (c_char_p, c_size_t)  # a text argument: its UTF-8 bytes and how many
_TEXT_OUT = POINTER(c_void_p)  # a text result: to be freed with freeString
_FLAG_OUT = POINTER(c_int32)
_COUNT_OUT = POINTER(c_int64)
_HANDLE_OUT = _NUMBER_OUT = POINTER(c_uint64)
_CONTEXT = c_int64
_HANDLE = c_uint64

# Told how far a long call is; answers 0 to go on.
PROGRESS = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)
_PROGRESS = (PROGRESS, c_void_p)


class ProgressCell(ctypes.Structure):
    """How far a long call is, written by the library; a stop that is not 0 ends the call."""

    _fields_ = [("done", c_uint64), ("total", c_uint64), ("stop", c_uint64)]


_OF_HANDLE = (_CONTEXT, _HANDLE)

# Texts one after the other, and the length of each.
_LENGTHS = POINTER(c_uint32)
_COLUMN = (*_TEXT, _LENGTHS)

# Functions that answer with an error code; the results come through pointers and are written only on success.
_CHECKED: dict[str, tuple[Any, ...]] = {
    "sop_database_open": (_CONTEXT, *_TEXT, _HANDLE_OUT),
    "sop_database_close": _OF_HANDLE,
    "sop_database_flush": _OF_HANDLE,
    "sop_database_verify": (*_OF_HANDLE, *_PROGRESS, _TEXT_OUT),
    "sop_database_info": (*_OF_HANDLE, _TEXT_OUT),
    "sop_database_stores": (*_OF_HANDLE, _TEXT_OUT),
    "sop_database_backup": (*_OF_HANDLE, *_TEXT, c_int32, *_PROGRESS, _TEXT_OUT),
    "sop_database_compact": (*_OF_HANDLE, *_PROGRESS, _TEXT_OUT),
    "sop_database_status": (*_OF_HANDLE, _TEXT_OUT),
    "sop_database_scrub": (*_OF_HANDLE, *_PROGRESS, _TEXT_OUT),
    "sop_database_repair": (*_OF_HANDLE, c_int32, *_PROGRESS, _TEXT_OUT),
    "sop_database_reinstate": (*_OF_HANDLE, *_TEXT, *_PROGRESS, _TEXT_OUT),
    "sop_handle_uuid": (_HANDLE, _TEXT_OUT),
    "sop_transaction_begin": (*_OF_HANDLE, c_int32, c_double, _HANDLE_OUT),
    "sop_transaction_set_durability": (_HANDLE, c_int32),
    "sop_transaction_commit": _OF_HANDLE,
    "sop_transaction_rollback": _OF_HANDLE,
    "sop_transaction_is_active": (_HANDLE, _FLAG_OUT),
    "sop_btree_new": (*_OF_HANDLE, *_TEXT, _HANDLE_OUT),
    "sop_btree_open": (*_OF_HANDLE, *_TEXT, _HANDLE_OUT),
    "sop_btree_info": (*_OF_HANDLE, _TEXT_OUT),
    "sop_btree_count": (*_OF_HANDLE, _COUNT_OUT),
    "sop_btree_write": (*_OF_HANDLE, c_int32, *_TEXT, _FLAG_OUT),
    "sop_btree_put_columns": (*_OF_HANDLE, c_int32, c_size_t, *_COLUMN, *_COLUMN, _FLAG_OUT),
    "sop_btree_get_columns": (*_OF_HANDLE, c_size_t, *_COLUMN, _LENGTHS, _TEXT_OUT),
    "sop_btree_remove": (*_OF_HANDLE, *_TEXT, _FLAG_OUT),
    "sop_btree_find": (*_OF_HANDLE, *_TEXT, c_char_p, _FLAG_OUT),
    "sop_btree_find_one": (*_OF_HANDLE, *_TEXT, c_int32, _TEXT_OUT),
    "sop_btree_step": (*_OF_HANDLE, c_int32, _FLAG_OUT),
    "sop_btree_current": (*_OF_HANDLE, _TEXT_OUT),
    "sop_btree_update_current": (*_OF_HANDLE, *_TEXT, _FLAG_OUT),
    "sop_btree_remove_current": (*_OF_HANDLE, _FLAG_OUT),
    "sop_btree_page": (*_OF_HANDLE, *_TEXT, c_int32, _TEXT_OUT),
    "sop_btree_values": (*_OF_HANDLE, *_TEXT, _TEXT_OUT),
    "sop_btree_range": (*_OF_HANDLE, *_TEXT, _TEXT_OUT),
    "sop_vector_open": (*_OF_HANDLE, *_TEXT, _HANDLE_OUT),
    "sop_vector_upsert": (*_OF_HANDLE, *_TEXT),
    "sop_vector_upsert_arrays": (*_OF_HANDLE, *_TEXT, c_size_t, c_size_t, c_void_p, *_TEXT),
    "sop_vector_get": (*_OF_HANDLE, *_TEXT, _TEXT_OUT),
    "sop_vector_get_many": (*_OF_HANDLE, *_TEXT, _TEXT_OUT),
    "sop_vector_get_arrays": (*_OF_HANDLE, *_TEXT, c_size_t, c_size_t, _TEXT_OUT, c_void_p),
    "sop_vector_ids": (*_OF_HANDLE, *_TEXT, _TEXT_OUT),
    "sop_vector_dimension": (*_OF_HANDLE, _COUNT_OUT),
    "sop_vector_delete": (*_OF_HANDLE, *_TEXT),
    "sop_vector_count": (*_OF_HANDLE, _COUNT_OUT),
    "sop_vector_query": (*_OF_HANDLE, *_TEXT, _TEXT_OUT),
    "sop_vector_query_arrays": (
        *_OF_HANDLE,
        c_size_t,
        c_size_t,
        c_void_p,
        c_int64,
        *_TEXT,
        _TEXT_OUT,
        c_void_p,
    ),
    "sop_vector_optimize": (*_OF_HANDLE, *_PROGRESS),
    "sop_vector_stats": (*_OF_HANDLE, _TEXT_OUT),
    "sop_model_open": (*_OF_HANDLE, *_TEXT, _HANDLE_OUT),
    "sop_model_save": (*_OF_HANDLE, *_TEXT, *_TEXT, *_TEXT, _NUMBER_OUT),
    "sop_model_get": (*_OF_HANDLE, *_TEXT, *_TEXT, c_uint64, _TEXT_OUT),
    "sop_model_versions": (*_OF_HANDLE, *_TEXT, *_TEXT, _TEXT_OUT),
    "sop_model_active": (*_OF_HANDLE, *_TEXT, *_TEXT, _NUMBER_OUT),
    "sop_model_promote": (*_OF_HANDLE, *_TEXT, *_TEXT, c_uint64),
    "sop_model_delete": (*_OF_HANDLE, *_TEXT, *_TEXT, c_uint64),
    "sop_model_list": (*_OF_HANDLE, *_TEXT, _TEXT_OUT),
    "sop_model_categories": (*_OF_HANDLE, _TEXT_OUT),
    "sop_model_upload": (*_OF_HANDLE, *_TEXT, *_TEXT, *_TEXT, _HANDLE_OUT),
    "sop_model_upload_write": (*_OF_HANDLE, c_void_p, c_size_t),
    "sop_model_upload_save": (*_OF_HANDLE, *_TEXT, _NUMBER_OUT),
    "sop_model_read_artifact": (
        *_OF_HANDLE,
        *_TEXT,
        *_TEXT,
        c_uint64,
        c_uint64,
        c_void_p,
        c_size_t,
        POINTER(c_size_t),
    ),
    "sop_redis_open": _TEXT,
    "sop_redis_close": (),
}

_UNCHECKED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "sop_version": (c_char_p, ()),
    "sop_last_error_code": (c_int32, ()),
    "sop_last_error": (c_void_p, ()),
    "sop_handle_release": (None, (_HANDLE,)),
    "sop_handle_count": (c_uint64, ()),
    "sop_progress_to_cell": (c_int32, (c_void_p, c_uint64, c_uint64)),
    "freeString": (None, (c_void_p,)),
    "createContext": (_CONTEXT, ()),
    "cancelContext": (None, (_CONTEXT,)),
    "removeContext": (None, (_CONTEXT,)),
    "contextError": (c_void_p, (_CONTEXT,)),
}


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get("SOP_LIBRARY")
    if chosen:
        yield Path(chosen)
        return
    package = Path(__file__).resolve().parent
    yield package / LIBRARY_NAME
    for folder in package.parents:
        if (folder / "Cargo.toml").is_file() and (folder / "libjsondb").is_dir():
            target = folder / (os.environ.get("CARGO_TARGET_DIR") or "target")
            yield target / "release" / LIBRARY_NAME
            yield target / "debug" / LIBRARY_NAME
            return


def _load() -> ctypes.CDLL:
    tried = list(_candidates())
    for path in tried:
        if path.is_file():
            return _declared(path)
    places = "\n".join(f"  {path}" for path in tried)
    raise ImportError(
        f"the native library of sop was not found. Looked at:\n{places}\n"
        "Build it in the root of the repository with `cargo build --release`, "
        "or set SOP_LIBRARY to the path of the built library."
    )


def _declared(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        for name, arguments in _CHECKED.items():
            getattr(library, name).argtypes = arguments
            getattr(library, name).restype = c_int32
        for name, (result, arguments) in _UNCHECKED.items():
            getattr(library, name).argtypes = arguments
            getattr(library, name).restype = result
    except (OSError, AttributeError) as error:
        raise unusable(path, str(error)) from error
    if library.sop_version().decode() != VERSION:
        raise unusable(path, "another version")
    return library


def unusable(path: str | os.PathLike[str], why: str) -> ImportError:
    """The error for a library that is not of this package's build."""
    try:
        version = ctypes.CDLL(str(path)).sop_version
        version.restype = c_char_p
        found = f"its version is {version().decode()}"
    except (OSError, AttributeError):
        found = "it has no version"
    return ImportError(
        f"{path} cannot be used as the native library of sop {VERSION} ({why}; {found}). "
        "Build it anew with `cargo build --release`."
    )


native: Any = _load()

# Writes to a ProgressCell.
PROGRESS_TO_CELL = ctypes.cast(native.sop_progress_to_cell, PROGRESS)


def take_text(pointer: int | None) -> str | None:
    """The text of a result of the library, which is freed. None for NULL."""
    if not pointer:
        return None
    try:
        return ctypes.string_at(pointer).decode("utf-8")
    finally:
        native.freeString(pointer)


def last_error(code: int) -> errors.Error:
    """The exception for the error that this thread's last call answered with."""
    text = take_text(native.sop_last_error())
    report: dict[str, Any] = json.loads(text) if text else {}
    # A finaliser may have made a call of its own on this thread in between: then only the code is known.
    if report.get("code") != code:
        return errors.from_code(code, f"the library answered with error {code}")
    return errors.from_code(code, report["message"], report["retryable"], report["details"])


def call(function: Any, *arguments: Any) -> None:
    """Calls a function without a result."""
    code = function(*arguments)
    if code:
        raise last_error(code)


def call_flag(function: Any, *arguments: Any) -> bool:
    """Calls a function that answers yes or no."""
    out = c_int32()
    call(function, *arguments, byref(out))
    return out.value != 0


def call_count(function: Any, *arguments: Any) -> int:
    """Calls a function that answers with a count."""
    out = c_int64()
    call(function, *arguments, byref(out))
    return out.value


def call_number(function: Any, *arguments: Any) -> int:
    """Calls a function that answers with a number of 64 bits without sign."""
    out = c_uint64()
    call(function, *arguments, byref(out))
    return out.value


def call_text(function: Any, *arguments: Any) -> str | None:
    """Calls a function that answers with a text, or with nothing."""
    out = c_void_p()
    call(function, *arguments, byref(out))
    return take_text(out.value)


def call_json(function: Any, *arguments: Any) -> Any:
    """Calls a function that answers with JSON text; nothing becomes None."""
    text = call_text(function, *arguments)
    return None if text is None else json.loads(text)


def call_handle(function: Any, *arguments: Any) -> Handle:
    """Calls a function that answers with a handle."""
    out = c_uint64()
    call(function, *arguments, byref(out))
    return Handle(out.value)


class Handle:
    """Owns a native handle and releases it when it goes itself: an open transaction is rolled back then."""

    __slots__ = ("__weakref__", "_owner", "release", "value")

    def __init__(self, value: int, owner: Any = None) -> None:
        """`owner` releases the handle when it goes, in place of this."""
        self.value = value
        self._owner = owner
        if owner is None:
            # Nothing to do when the process ends; in a forked child the handle is the parent's.
            self.release = weakref.finalize(self, _release, value, os.getpid())
            self.release.atexit = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "what is open in this process cannot be pickled: pickle the Database, and open it there"
        )


_Self = TypeVar("_Self", bound="Opened")


class Opened:
    """What holds a native handle: `close` gives it back, as the end of a with block does.

    Nothing is lost or undone by that, and whoever does not care leaves it to the garbage collector. Calls
    afterwards raise an Error.
    """

    _handle: Handle

    def close(self) -> None:
        """Gives back what the library keeps for this object. Closing twice is no error."""
        self._handle.release()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _release(value: int, pid: int) -> None:
    if os.getpid() == pid:
        native.sop_handle_release(value)
