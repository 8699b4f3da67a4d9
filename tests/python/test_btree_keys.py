"""Keys: their order, which of them are equal, and keys of several fields."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from sop import Context, Database, ValidationError
from sop.btree import Btree, BtreeOptions, IndexFieldSpecification, IndexSpecification, Item

ASCENDING = [
    None,
    False,
    True,
    -(2**63),
    -1e18,
    -1.5,
    -1,
    -0.5,
    0,
    5e-324,
    0.5,
    1,
    1.5,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    1e300,
    "",
    "\0",
    "10",
    "9",
    "A",
    "a",
    "aa",
    "é",
    "\uffff",
    "\U0001f600",
    [],
    [None],
    [1],
    [1, 2],
    [2],
    ["a"],
    {},
    {"a": 1},
    {"a": 1, "b": 2},
    {"a": 2},
]


def test_keys_of_all_types_have_one_order(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    shuffled = list(enumerate(ASCENDING))
    random.Random(3).shuffle(shuffled)
    assert store.add(ctx, [Item(key, place) for place, key in shuffled])
    in_order = list(store.items(ctx))
    assert [item.value for item in in_order] == list(range(len(ASCENDING)))
    assert [item.key for item in in_order] == ASCENDING
    assert [type(item.key) for item in in_order] == [type(key) for key in ASCENDING]
    assert [item.value for item in store.items(ctx, reverse=True)] == list(range(len(ASCENDING)))[::-1]


def test_integers_and_floats_compare_exactly(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    assert store.add(ctx, 1, "int")
    assert not store.add(ctx, 1.0, "the same key")
    assert not store.add(ctx, -0.0, "zero") or store.find(ctx, 0)
    assert store.add(ctx, 2**53, "a")
    assert store.add(ctx, 2**53 + 1, "b")
    assert not store.add(ctx, float(2**53), "a again")
    assert store.find_one(ctx, 2**53 + 1).value == "b"
    assert not store.find(ctx, True)
    assert not store.find(ctx, "1")


@pytest.mark.parametrize(
    "key",
    [
        float("nan"),
        float("inf"),
        2**64,
        -(2**63) - 1,
        pytest.param(10**5000, id="5001 digits"),
        b"bytes",
        {1, 2},
        object(),
        "\ud800",
        {"a": "\udfff"},
        ["x", float("nan")],
    ],
)
def test_keys_that_are_none(ctx: Context, in_btree, key: object) -> None:
    store = in_btree(is_unique=True)
    for call in (
        lambda: store.add(ctx, key, 1),
        lambda: store.find(ctx, key),
        lambda: store.find_one(ctx, key),
        lambda: store.remove(ctx, [key]),
        lambda: store.get_values(ctx, [Item(key)]),
        lambda: list(store.items(ctx, start=key)),
    ):
        with pytest.raises(ValidationError):
            call()
    assert store.count() == 0
    assert store.add(ctx, "the transaction goes on", 1)


def test_a_very_long_key_is_refused_and_a_long_one_is_not(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    assert store.add(ctx, "x" * 8000, 1)
    assert store.find(ctx, "x" * 8000)
    with pytest.raises(ValidationError):
        store.add(ctx, "x" * 1_000_000, 1)


@dataclass
class Place:
    country: str
    city: str


@dataclass
class Key:
    place: Place
    number: int


def test_dataclasses_are_keys_and_come_back_as_dicts(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True, is_primitive_key=False)
    for key in (Key(Place("no", "oslo"), 2), Key(Place("no", "oslo"), 1), Key(Place("no", "bergen"), 3)):
        assert store.add(ctx, Item(key, key.number))
    assert store.find_one(ctx, Key(Place("no", "oslo"), 1)).key == {
        "place": {"country": "no", "city": "oslo"},
        "number": 1,
    }
    assert store.find(ctx, {"number": 2, "place": {"city": "oslo", "country": "no"}})
    assert not store.find(ctx, {"number": 2})
    assert store.remove(ctx, Key(Place("no", "oslo"), 1))
    assert list(store.values(ctx)) == [2, 3]


def specification(*fields: tuple[str, bool]) -> IndexSpecification:
    return IndexSpecification(tuple(IndexFieldSpecification(name, ascending) for name, ascending in fields))


def test_the_listed_fields_order_and_identify(ctx: Context, in_btree) -> None:
    store = in_btree(
        index_spec=specification(("a", True), ("b", False)), is_unique=True, is_primitive_key=False
    )
    rows = [{"a": a, "b": b, "note": f"{a}{b}"} for a in (2, 1) for b in (1, 3, 2)]
    assert store.add(ctx, [Item(row) for row in rows])
    assert [key["note"] for key in store.keys(ctx)] == ["13", "12", "11", "23", "22", "21"]
    assert not store.add(ctx, Item({"a": 1, "b": 2, "note": "other"}))
    assert store.find_one(ctx, {"a": 1, "b": 2}).key["note"] == "12"


def test_a_missing_field_sorts_first(ctx: Context, in_btree) -> None:
    store = in_btree(index_spec=specification(("a", True)), is_unique=True, is_primitive_key=False)
    assert store.add(ctx, [Item({"a": 1}, 1), Item({"b": 9}, 0), Item({"a": "x"}, 2)])
    assert list(store.values(ctx)) == [0, 1, 2]


def test_the_specification_is_kept_with_the_btree(ctx: Context, db: Database) -> None:
    spec = specification(("a", False))
    with db.begin_transaction(ctx) as t:
        store = Btree.new(ctx, BtreeOptions("s", True, is_primitive_key=False), t, spec)
        store.add(ctx, [Item({"a": n}, n) for n in range(5)])
    with db.begin_transaction(ctx) as t:
        store = Btree.open(ctx, "s", t)
        store.add(ctx, Item({"a": 2.5}, 2.5))
        assert list(store.values(ctx)) == [4, 3, 2.5, 2, 1, 0]
        assert "ascending_sort_order" in store.get_store_info().index_specification
        assert Btree.new(ctx, BtreeOptions("s", True, is_primitive_key=False), t, spec).count() == 6
        with pytest.raises(ValidationError):
            Btree.new(ctx, BtreeOptions("s", True, is_primitive_key=False), t)
        with pytest.raises(ValidationError):
            Btree.new(ctx, BtreeOptions("s", True, is_primitive_key=False), t, specification(("a", True)))


def test_one_field_needs_no_list(ctx: Context, in_btree) -> None:
    store = in_btree(
        index_spec=IndexSpecification(IndexFieldSpecification("a", False)),
        is_unique=True,
        is_primitive_key=False,
    )
    store.add(ctx, [Item({"a": n}) for n in range(3)])
    assert [key["a"] for key in store.keys(ctx)] == [2, 1, 0]


def test_a_specification_needs_dict_keys(ctx: Context, in_btree) -> None:
    store = in_btree(index_spec=specification(("a", True)), is_unique=True, is_primitive_key=False)
    with pytest.raises(ValidationError):
        store.add(ctx, 1, 1)


@pytest.mark.parametrize("b_ascends", [True, False])
def test_dict_keys_come_back_as_they_were_given(ctx: Context, db: Database, b_ascends: bool) -> None:
    """In the order of the specification or in another, with fields missing, with others, of any type."""
    fields = [IndexFieldSpecification("b", b_ascends), IndexFieldSpecification("a")]
    store = db.open_map(ctx, "m", index_spec=IndexSpecification(fields))
    keys = [{"b": key, "a": number} for number, key in enumerate(ASCENDING)]
    keys += [{"a": key, "b": -1 - number} for number, key in enumerate(ASCENDING)]
    keys += [{}, {"b": "only"}, {"a": "only"}, {"b": 1, "a": "x", "z": 2}, {"z": 1, "b": 2, "a": "x"}]
    keys += [{"b": 1.0, "a": "f"}, {"b": [1, "\0"], "a": "é\0"}, {"b": 2, "a": {"d": 1, "c": 2}}]
    random.Random(5).shuffle(keys)
    store.put_many((key, number) for number, key in enumerate(keys))
    assert len(store) == len(keys)
    assert [store.get(key) for key in keys] == list(range(len(keys)))
    given = {number: repr(key) for number, key in enumerate(keys)}
    assert {number: repr(key) for key, number in store.items()} == given
    assert sorted(map(repr, store.keys())) == sorted(given.values())
    with db.begin_transaction(ctx) as transaction:
        items = Btree.open(ctx, "m", transaction).items(ctx)
        assert {item.value: repr(item.key) for item in items} == given


def test_a_replaced_value_keeps_the_key_it_was_added_with(ctx: Context, db: Database) -> None:
    fields = [IndexFieldSpecification("b"), IndexFieldSpecification("a")]
    store = db.open_map(ctx, "m", index_spec=IndexSpecification(fields))
    given = [{"b": 1, "a": 1}, {"a": 2, "b": 2}, {"b": 3, "a": 3, "z": 3}]
    store.put_many((key, 0) for key in given)
    store.put_many(({"a": number, "b": number, "y": 1}, number) for number in (1, 2, 3))
    assert repr(list(store.keys())) == repr(given) and list(store.values()) == [1, 2, 3]
    store.put_many(({"b": number, "a": number}, -number) for number in (1, 2, 3))
    assert repr(list(store.keys())) == repr(given) and list(store.values()) == [-1, -2, -3]
