"""The columnar calls of the C ABI, for hosts other than CPython."""

from __future__ import annotations

import ctypes
from typing import Any, Callable, Optional, Sequence

import pytest

from sop import Context, ValidationError, btree
from sop._library import call, call_flag, native, take_text

UPSERT = 6
MISSING = 2**32 - 1


def column(texts: Sequence[str]) -> tuple[bytes, int, Any]:
    data = [text.encode() for text in texts]
    joined = b"".join(data)
    return joined, len(joined), (ctypes.c_uint32 * len(data))(*map(len, data))


def put(store: btree.Btree, keys: Sequence[str], values: Sequence[str]) -> bool:
    of = (0, store._handle.value, UPSERT, len(keys))
    return call_flag(native.sop_btree_put_columns, *of, *column(keys), *column(values))


def get(store: btree.Btree, keys: Sequence[str]) -> list[Optional[str]]:
    lens, out = (ctypes.c_uint32 * len(keys))(), ctypes.c_void_p()
    arguments = (0, store._handle.value, len(keys), *column(keys), lens, ctypes.byref(out))
    call(native.sop_btree_get_columns, *arguments)
    text, at, values = (take_text(out.value) or "").encode(), 0, []
    for length in lens:
        values.append(None if length == MISSING else text[at : at + length].decode())
        at += 0 if length == MISSING else length
    assert at == len(text)
    return values


def test_what_goes_in_as_columns_comes_out_as_it_was(
    ctx: Context, in_btree: Callable[..., btree.Btree]
) -> None:
    for is_unique in (True, False):
        store = in_btree(is_unique=is_unique)
        keys, values = ['"a"', "1", "1.5", '{"x": [1]}'], ['{"v": "é"}', "null", "[1,  2]", '""']
        assert put(store, keys, values)
        assert get(store, ["1", '"b"', *keys[::-1]]) == ["null", None, *values[::-1]]
        assert [(item.key, item.value) for item in store.items(ctx)] == [
            (1, None),
            (1.5, [1, 2]),
            ("a", {"v": "é"}),
            ({"x": [1]}, ""),
        ]


def test_columns_that_do_not_fit_are_refused(in_btree: Callable[..., btree.Btree]) -> None:
    store = in_btree(is_unique=True)
    for keys, values in ((["1", "x"], ["1", "2"]), (["1"], ["{"]), (["1"], ["1 2"]), ([""], ["1"])):
        with pytest.raises(ValidationError):
            put(store, keys, values)
    text, length, lens = column(["1", "22"])
    for wrong in (
        (ctypes.c_uint32 * 2)(1, 1),
        (ctypes.c_uint32 * 2)(1, 3),
        (ctypes.c_uint32 * 2)(3, 2**32 - 1),
        None,
    ):
        with pytest.raises(ValidationError):
            call_flag(
                native.sop_btree_put_columns,
                *(0, store._handle.value, UPSERT, 2, text, length, wrong, text, length, lens),
            )
    assert store.count() == 0 and get(store, []) == []
