"""B-trees: making, opening, writing, finding."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sop import Context, Database, StoreNotFoundError, TransactionMode, ValidationError, btree
from sop.btree import Btree, BtreeError, BtreeOptions, CacheConfig, Item, ValueDataSize


def keys_of(ctx: Context, store: Btree) -> list:
    return list(store.keys(ctx))


# Options


def test_positional_order_of_the_dataclasses_is_that_of_2_0_17() -> None:
    options = BtreeOptions("n", True, 100, "d", False, True, True, "i", "t", CacheConfig(1), False, True)
    assert options.name == "n"
    assert options.is_unique
    assert options.slot_length == 100
    assert options.description == "d"
    assert not options.is_value_data_in_node_segment
    assert options.is_value_data_actively_persisted
    assert options.is_value_data_globally_cached
    assert (options.index_specification, options.transaction_id) == ("i", "t")
    assert options.cache_config.registry_cache_duration == 1
    assert not options.is_primitive_key
    assert options.leaf_load_balancing
    assert BtreeOptions("n") == BtreeOptions(
        "n", False, 500, "", True, False, False, "", "00000000-0000-0000-0000-000000000000", None, True, False
    )
    assert Item(1) == Item(1, None, "00000000-0000-0000-0000-000000000000")
    assert btree.PagingInfo() == btree.PagingInfo(0, 20, 0, 0)


def test_value_data_size_sets_the_placement() -> None:
    options = BtreeOptions("n")
    for size, placement in (
        (ValueDataSize.Big, (False, True, False)),
        (ValueDataSize.Medium, (False, False, True)),
        (ValueDataSize.Small, (True, False, False)),
    ):
        options.set_value_data_size(size)
        assert placement == (
            options.is_value_data_in_node_segment,
            options.is_value_data_actively_persisted,
            options.is_value_data_globally_cached,
        )


def test_the_options_are_given_back(ctx: Context, db: Database) -> None:
    made = BtreeOptions("s", True, 100, "about", cache_config=CacheConfig(11, True), leaf_load_balancing=True)
    with db.begin_transaction(ctx) as t:
        Btree.new(ctx, made, t)
    assert made == BtreeOptions(
        "s", True, 100, "about", cache_config=CacheConfig(11, True), leaf_load_balancing=True
    )
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        store = Btree.open(ctx, "s", t)
        info = store.get_store_info()
        assert store.is_unique()
        assert store.is_primitive_key
        assert store.transaction_id == t.transaction_id
        assert str(store.id) not in ("", str(t.transaction_id))
    info.transaction_id = made.transaction_id
    assert info == made


def test_new_opens_an_existing_btree_of_equal_options(ctx: Context, db: Database) -> None:
    for number in range(3):
        with db.begin_transaction(ctx) as t:
            assert Btree.new(ctx, BtreeOptions("s", True, 100), t).add(ctx, number, number)
    with db.begin_transaction(ctx) as t:
        assert Btree.open(ctx, "s", t).count() == 3


@pytest.mark.parametrize(
    "other",
    [
        BtreeOptions("s", False),
        BtreeOptions("s", True, 100),
        BtreeOptions("s", True, is_primitive_key=False),
        BtreeOptions("s", True, is_value_data_in_node_segment=False),
    ],
)
def test_new_with_other_options_is_an_error(ctx: Context, db: Database, other: BtreeOptions) -> None:
    with db.begin_transaction(ctx) as t:
        Btree.new(ctx, BtreeOptions("s", True), t)
    with db.begin_transaction(ctx) as t:
        with pytest.raises(ValidationError) as caught:
            Btree.new(ctx, other, t)
        assert isinstance(caught.value, BtreeError)


def test_open_of_a_missing_btree(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        with pytest.raises(StoreNotFoundError, match="nothing"):
            Btree.open(ctx, "nothing", t)
        with pytest.raises(BtreeError):
            Btree.open(ctx, "nothing", t)


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "a\0b", 7, None, "\ud800"])
def test_names_are_checked(ctx: Context, db: Database, name: object) -> None:
    with db.begin_transaction(ctx) as t:
        with pytest.raises(ValidationError):
            Btree.new(ctx, BtreeOptions(name), t)
        with pytest.raises((ValidationError, StoreNotFoundError)):
            Btree.open(ctx, name, t)


@pytest.mark.parametrize("name", ["x" * 128, "a/../b", "名前", "with space", "."])
def test_names_are_only_names(ctx: Context, db: Database, tmp_path, name: str) -> None:
    with db.begin_transaction(ctx) as t:
        Btree.new(ctx, BtreeOptions(name, True), t).add(ctx, 1, name)
    with db.begin_transaction(ctx) as t:
        assert Btree.open(ctx, name, t).find_one(ctx, 1).value == name
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_new_btree_and_open_btree_of_the_database(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        assert db.new_btree(ctx, "s", t).add(ctx, 1, 1)
        assert db.new_btree(ctx, "u", t, BtreeOptions("u", True)).is_unique()
        assert db.open_btree(ctx, "s", t).count() == 1
        with pytest.raises(ValidationError):
            db.new_btree(ctx, "s", t, BtreeOptions("other"))


def test_a_btree_opened_twice_is_the_same(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        first = Btree.new(ctx, BtreeOptions("s", True), t)
        second = Btree.open(ctx, "s", t)
        first.add(ctx, 1, "one")
        assert second.find_one(ctx, 1).value == "one"
        assert second.count() == 1


# Writing


def test_add_takes_an_item_a_list_or_key_and_value(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    assert store.add(ctx, Item(1, "one")) is True
    assert store.add(ctx, [Item(2, "two"), Item(key=3, value="three")]) is True
    assert store.add(ctx, 4, "four") is True
    assert store.add(ctx, 5, None) is True
    assert store.add(ctx, [6, 7], "a list as key") is True
    assert store.add(ctx, []) is True
    assert store.count() == 6
    assert [item.value for item in store.items(ctx)] == ["one", "two", "three", "four", None, "a list as key"]


@pytest.mark.parametrize("wrong", [1, "key", None, {"key": 1}, [1], [Item(1), 2], (Item(1), None)])
def test_add_of_something_else_is_an_error(ctx: Context, in_btree, wrong: object) -> None:
    store = in_btree(is_unique=True)
    for write in (store.add, store.add_if_not_exists, store.update, store.upsert):
        with pytest.raises(ValidationError, match="Item"):
            write(ctx, wrong)
    assert store.count() == 0


def test_a_list_goes_on_past_a_false(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, [Item(key, "old") for key in (1, 2, 3)])
    assert store.add(ctx, [Item(4), Item(1), Item(5)]) is False
    assert keys_of(ctx, store) == [1, 2, 3, 4, 5]
    assert store.update(ctx, [Item(2, "new"), Item(99, "new"), Item(3, "new")]) is False
    assert store.remove(ctx, [4, 99, 5]) is False
    assert store.upsert(ctx, [Item(1, "new"), Item(6, "new")]) is True
    assert [(item.key, item.value) for item in store.items(ctx)] == [
        (1, "new"),
        (2, "new"),
        (3, "new"),
        (6, "new"),
    ]


def test_add_if_not_exists_is_unique_in_any_btree(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=False)
    assert store.add_if_not_exists(ctx, 1, "first")
    assert not store.add_if_not_exists(ctx, 1, "second")
    assert store.add(ctx, 1, "third")
    assert list(store.values(ctx)) == ["third", "first"]


def test_remove_takes_keys_not_items(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, [Item(key) for key in (1, 2, "x")])
    store.add(ctx, (1, 2), "a tuple is one key")
    assert store.remove(ctx, 1) is True
    assert store.remove(ctx, (1, 2)) is True
    assert store.remove(ctx, ["x", 2]) is True
    assert store.remove(ctx, 2) is False
    assert store.remove(ctx, []) is True
    for call in (lambda: store.remove(ctx, Item(1)), lambda: store.find(ctx, Item(1))):
        with pytest.raises(ValidationError, match="item.key"):
            call()


# Values


@dataclass
class Address:
    city: str
    tags: list


@dataclass
class Person:
    name: str
    address: Address


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**53 + 1,
        2**63,
        2**64 - 1,
        -(2**63),
        0.1,
        1e308,
        5e-324,
        "",
        "text",
        "\0",
        "\u2028 \U0001f600 é",
        '"quoted" \\ / \b\f\n\r\t',
        [],
        {},
        [1, [2, [3, {"a": [None]}]]],
        {"a": {"b": {"c": []}}, "": 0, "é": "ü"},
        "x" * 1_000_000,
    ],
)
@pytest.mark.parametrize("size", list(ValueDataSize))
def test_values_come_back_as_they_were(
    ctx: Context, db: Database, value: object, size: ValueDataSize
) -> None:
    options = BtreeOptions("s", True)
    options.set_value_data_size(size)
    with db.begin_transaction(ctx) as t:
        store = Btree.new(ctx, options, t)
        store.add(ctx, "k", value)
        assert store.find_one(ctx, "k").value == value
    with db.begin_transaction(ctx) as t:
        found = Btree.open(ctx, "s", t).find_one(ctx, "k").value
        assert found == value
        assert type(found) is type(value)


def test_what_has_a_json_form_takes_it(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, "dataclass", Person("Ann", Address("Oslo", ["a", "b"])))
    store.add(ctx, "tuple", (1, (2, 3)))
    store.add(ctx, "int keys", {1: "one"})
    store.add(ctx, "enum", ValueDataSize.Big)
    assert store.find_one(ctx, "dataclass").value == {
        "name": "Ann",
        "address": {"city": "Oslo", "tags": ["a", "b"]},
    }
    assert store.find_one(ctx, "tuple").value == [1, [2, 3]]
    assert store.find_one(ctx, "int keys").value == {"1": "one"}
    assert store.find_one(ctx, "enum").value == 2


def test_numpy_values_take_their_json_form(ctx: Context, in_btree) -> None:
    numpy = pytest.importorskip("numpy")
    store = in_btree(is_unique=True)
    store.add(ctx, numpy.int64(7), {"a": numpy.arange(3), "b": numpy.float32(0.5), "c": numpy.bool_(True)})
    item = store.find_one(ctx, 7)
    assert (item.key, item.value) == (7, {"a": [0, 1, 2], "b": 0.5, "c": True})


# Finding


def test_find_one_gives_the_item_or_none(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, 1, "Alice")
    store.add(ctx, 2, None)
    item = store.find_one(ctx, 1, False)
    assert item
    assert (item.key, item.value) == (1, "Alice")
    assert item.id != Item(0).id
    assert store.find_one(ctx, 2)
    assert store.find_one(ctx, 2).value is None
    assert store.find_one(ctx, 3, first_only=True) is None


def test_find_one_positions_the_cursor(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, [Item(key) for key in (10, 20, 30)])
    store.find_one(ctx, 20)
    assert store.get_current_key(ctx) == 20
    assert store.find_one(ctx, 25) is None
    assert store.get_current_key(ctx) == 30


def test_the_key_of_a_miss_is_as_that_of_a_hit(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    given = {"a": (1, 2)}
    [missing] = store.get_values(ctx, [given])
    assert missing == Item({"a": [1, 2]}) and missing.key is not given
    store.add(ctx, given, 1)
    [found] = store.get_values(ctx, [given])
    assert found.key == missing.key


def test_get_values_keeps_the_order_and_shows_misses(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, [Item(key, str(key)) for key in range(5)])
    found = store.get_values(ctx, [Item(key=3), Item(key=99), Item(key=1)])
    assert [(item.key, item.value) for item in found] == [(3, "3"), (99, None), (1, "1")]
    assert found[0].id == store.find_one(ctx, 3).id
    assert found[1].id == Item(99).id
    assert store.get_values(ctx, []) == []
    assert [item.value for item in store.get_values(ctx, Item(2))] == ["2"]
    assert [item.value for item in store.get_values(ctx, 2)] == ["2"]


def test_count_is_of_this_transaction(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        store = Btree.new(ctx, BtreeOptions("s", True), t)
        store.add(ctx, [Item(key) for key in range(10)])
        store.remove(ctx, [0, 1])
        assert store.count() == store.count(ctx) == 8
        with db.begin_transaction(ctx) as other, pytest.raises(StoreNotFoundError):
            Btree.open(ctx, "s", other)
    with db.begin_transaction(ctx) as t:
        assert Btree.open(ctx, "s", t).count() == 8


def test_an_empty_btree_stays_after_its_transaction(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        Btree.new(ctx, BtreeOptions("s", True), t)
    with db.begin_transaction(ctx) as t:
        assert Btree.open(ctx, "s", t).count() == 0
