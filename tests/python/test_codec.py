"""The codec of the fast path means what `_json.py` and `json.loads` mean, whatever the value or the text."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from sop import ValidationError, _json
from sop.btree import fast

assert fast is not None, "these tests need the fast path: CPython with a GIL, without SOP_PURE"


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


@dataclasses.dataclass
class Point:
    x: int


@dataclasses.dataclass(repr=False)
class Unready:
    """Its field is missing."""

    y: int = dataclasses.field(init=False)


TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["", "\0", '"\\/\b\f\n\r\t', "é", "😀", "\ud800", "\x7f"])
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**66), 2**66),
    st.sampled_from(
        [0, -0.0, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 1e16, 1e22, 5e-324]
    ),
    st.floats(),
    TEXTS,
    st.sampled_from([Colour.RED, Text("t"), Point(1), object(), b"bytes", Unready()]),
)
KEYS = st.one_of(
    TEXTS, st.integers(), st.none(), st.booleans(), st.floats(), st.just(Text("k")), st.just((1,))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=8),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=20,
)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=9), inner, max_size=8)
    ),
    max_leaves=20,
)


def outcome(function: Any, argument: Any) -> Any:
    """What came of a call, told apart to the sign of zero and the type of numbers."""
    try:
        result = function(argument)
    except Exception as error:
        return type(error)
    return repr(json.loads(result) if isinstance(result, bytes) else result)


@hypothesis.settings(max_examples=1500, deadline=None)
@hypothesis.given(VALUES)
def test_a_value_is_written_as_python_writes_it(value: Any) -> None:
    assert outcome(fast.encode, value) == outcome(_json.encode, value)


@hypothesis.settings(max_examples=1500, deadline=None)
@hypothesis.given(PLAIN, st.booleans(), st.sampled_from([None, 1]), st.data())
def test_a_text_is_read_as_python_reads_it(value: Any, ascii_only: bool, indent: Any, data: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    assert outcome(fast.decode, text) == outcome(json.loads, text)
    # Damaged texts as well: a byte exchanged, or the end cut off.
    place = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.sampled_from(list(b'"\\{}[],:0.eE-+tn \x00\xff')))
    for damaged in (text[:place], text[:place] + bytes([byte]) + text[place + 1 :]):
        assert outcome(fast.decode, damaged) == outcome(json.loads, damaged)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": 2, "a": 3}',
        '{"": {"": [[], {}]}}',
        '"\\ud83d\\ude00 \\u00e9 \\ud800 \\u0000"',
        '"\\ud800\\u0041"',
        "[1.0, -0.0, -0, 1e400, 1E5, 123456789012345678, 1234567890123456789, 12345678901234567890123]",
        "-9223372036854775808",
        "18446744073709551615",
        " \n[ true , false , null ]\t",
        "[" * 90 + "]" * 90,
        "[" * 500 + "]" * 500,
        '{"a":' * 300 + "1" + "}" * 300,
        *[
            "",
            " ",
            "[1,]",
            "{,}",
            "01",
            "1.",
            ".5",
            "+1",
            "tru",
            "nulll",
            '"\n"',
            '{"a" 1}',
            "{1: 2}",
            "NaN",
            "[1",
            "]",
        ],
    ],
)
def test_texts_at_the_edges(text: str) -> None:
    assert outcome(fast.decode, text.encode()) == outcome(json.loads, text.encode())


def test_names_longer_and_more_than_are_kept() -> None:
    value = {f"{'n' * (number % 40)}{number}é"[: 5 + number % 60]: number for number in range(5000)}
    for _ in range(2):
        assert fast.decode(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {1, 2}, {"a": object()}, {(1,): 2}])
def test_what_json_cannot_carry_is_a_validation_error(value: Any) -> None:
    with pytest.raises(ValidationError):
        fast.encode(value)


def test_a_value_that_contains_itself_is_a_validation_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValidationError):
        fast.encode(value)
