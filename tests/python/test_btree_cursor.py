"""The cursor: where finds leave it, pages, duplicates, ranges."""

from __future__ import annotations

import uuid

import pytest

from sop import Context, Database, ValidationError
from sop.btree import Btree, BtreeOptions, Item, PagingDirection, PagingInfo

FORWARD, BACKWARD = PagingDirection.Forward, PagingDirection.Backward


@pytest.fixture
def tens(ctx: Context, in_btree) -> Btree:
    """0, 10, ... 90, each with its text as value."""
    store = in_btree(is_unique=True)
    store.add(ctx, [Item(key, str(key)) for key in range(0, 100, 10)])
    return store


def page_keys(ctx: Context, store: Btree, *paging: object, **named: object) -> list:
    return [item.key for item in store.get_items(ctx, PagingInfo(*paging, **named))]


# Moving


def test_a_find_that_misses_leaves_the_cursor_on_the_next_greater_key_else_on_the_last(
    ctx: Context, tens: Btree
) -> None:
    for key, found, at in (
        (50, True, 50),
        (45, False, 50),
        (-1, False, 0),
        (91, False, 90),
        ("x", False, 90),
        (None, False, 0),
    ):
        assert tens.find(ctx, key) is found
        assert tens.get_current_key(ctx) == at


def test_first_last_next_previous(ctx: Context, tens: Btree) -> None:
    assert tens.first(ctx)
    assert tens.get_current_item(ctx).value == "0"
    assert not tens.previous(ctx)
    assert tens.last(ctx)
    assert tens.get_current_value(ctx) == "90"
    assert tens.previous(ctx)
    assert tens.get_current_key(ctx) == 80
    assert tens.next(ctx)
    assert tens.get_current_key(ctx) == 90
    assert not tens.next(ctx)


def test_an_empty_btree_has_no_cursor(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    assert not store.first(ctx)
    assert not store.last(ctx)
    assert not store.next(ctx)
    assert not store.previous(ctx)
    assert not store.find(ctx, 1)
    assert store.get_current_item(ctx) is None
    assert store.get_current_key(ctx) is None
    assert store.get_current_value(ctx) is None
    assert store.update_current_item(ctx, 1) is False
    assert store.remove_current_item(ctx) is False
    assert store.get_items(ctx, PagingInfo()) == []
    assert store.get_keys(ctx, PagingInfo(direction=BACKWARD)) == []
    assert list(store.items(ctx)) == []


def test_updating_and_removing_at_the_cursor(ctx: Context, tens: Btree) -> None:
    tens.find(ctx, 30)
    assert tens.update_current_item(ctx, {"new": True})
    assert tens.find_one(ctx, 30).value == {"new": True}
    assert tens.update_current_item(ctx, Item(30, "from an item"))
    assert tens.get_current_value(ctx) == "from an item"
    assert tens.remove_current_item(ctx)
    assert not tens.find(ctx, 30)
    assert tens.count() == 9


# Pages


def test_pages_follow_one_another_and_never_restart(ctx: Context, tens: Btree) -> None:
    """2.0.17 started again at the first item: a loop over pages never ended."""
    tens.first(ctx)
    pages = [page_keys(ctx, tens, page_size=4) for _ in range(6)]
    assert pages == [[0, 10, 20, 30], [40, 50, 60, 70], [80, 90], [], [], []]
    tens.first(ctx)
    assert page_keys(ctx, tens, page_size=2) == [0, 10]


def test_without_a_cursor_pages_start_at_the_first_item(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        Btree.new(ctx, BtreeOptions("s", True), t).add(ctx, [Item(key) for key in range(10)])
    with db.begin_transaction(ctx) as t:
        assert page_keys(ctx, Btree.open(ctx, "s", t), 0, 3) == [0, 1, 2]


def test_the_offset_counts_pages(ctx: Context, tens: Btree) -> None:
    tens.first(ctx)
    assert page_keys(ctx, tens, 2, 3) == [60, 70, 80]
    tens.first(ctx)
    assert page_keys(ctx, tens, 0, 3, 5) == [0, 10, 20, 30, 40]
    tens.first(ctx)
    assert page_keys(ctx, tens, 1, 2, 3) == [20, 30, 40]


def test_a_fetch_count_needs_no_page_size(ctx: Context, tens: Btree) -> None:
    """PagingInfo(0, 0, 10) is how scripts for 2.0.17 ask for ten items."""
    tens.first(ctx)
    assert page_keys(ctx, tens, 0, 0, 4) == [0, 10, 20, 30]


def test_backward_pages(ctx: Context, tens: Btree) -> None:
    tens.last(ctx)
    pages = [page_keys(ctx, tens, page_size=4, direction=BACKWARD) for _ in range(4)]
    assert pages == [[90, 80, 70, 60], [50, 40, 30, 20], [10, 0], []]
    tens.last(ctx)
    assert page_keys(ctx, tens, page_size=1, direction=BACKWARD.value) == [90]


def test_pages_start_where_a_find_left_the_cursor(ctx: Context, tens: Btree) -> None:
    tens.find(ctx, 45)
    assert page_keys(ctx, tens, page_size=2) == [50, 60]


def test_get_keys_has_no_values(ctx: Context, tens: Btree) -> None:
    tens.first(ctx)
    page = tens.get_keys(ctx, PagingInfo(page_size=2))
    assert [(item.key, item.value) for item in page] == [(0, None), (10, None)]
    assert page[0].id == tens.find_one(ctx, 0).id


@pytest.mark.parametrize(
    "paging",
    [
        PagingInfo(page_size=-1),
        PagingInfo(page_offset=-1),
        PagingInfo(fetch_count=-1),
        PagingInfo(direction=2),
        PagingInfo(direction=-1),
        PagingInfo(page_size="many"),
        PagingInfo(page_size=None),
        PagingInfo(page_size=1.5),
        PagingInfo(page_size=2**70),
        None,
        "page",
    ],
)
def test_wrong_paging_is_refused(ctx: Context, tens: Btree, paging: object) -> None:
    tens.first(ctx)
    for call in (tens.get_items, tens.get_keys):
        with pytest.raises(ValidationError):
            call(ctx, paging)
    assert page_keys(ctx, tens, page_size=1) == [0]


# Duplicates


def test_duplicates_come_newest_first_and_are_told_apart_by_id(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=False)
    for value in "abc":
        assert store.add(ctx, 1, value)
    store.add(ctx, [Item(0, "before"), Item(2, "behind")])
    items = list(store.items(ctx))
    assert [item.value for item in items] == ["before", "c", "b", "a", "behind"]
    assert len({item.id for item in items}) == 5
    for item in items:
        assert store.find_with_id(ctx, item.key, item.id)
        assert store.get_current_item(ctx) == item
        assert store.find_with_id(ctx, item.key, uuid.UUID(item.id))
    assert [
        item.value for item in store.get_values(ctx, [Item(1, id=items[2].id), Item(1, id=items[3].id)])
    ] == [
        "b",
        "a",
    ]
    assert store.find(ctx, 1)
    assert store.get_current_value(ctx) == "c"
    assert store.find_one(ctx, 1, first_only=True).value == "c"


def test_an_id_that_is_not_there(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=False)
    store.add(ctx, 1, "a")
    assert not store.find_with_id(ctx, 1, str(uuid.uuid4()))
    for wrong in ("no id", "", 7, "a\0b"):
        with pytest.raises(ValidationError):
            store.find_with_id(ctx, 1, wrong)


def test_update_remove_and_upsert_touch_one_duplicate(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=False)
    for value in "abc":
        store.add(ctx, 1, value)
    assert store.update(ctx, 1, "new")
    assert store.count() == 3
    assert sorted(store.values(ctx)).count("new") == 1
    assert store.upsert(ctx, 1, "newer")
    assert store.count() == 3
    assert store.remove(ctx, 1)
    assert store.count() == 2


def test_the_duplicate_at_the_cursor_is_the_one_to_update(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=False)
    for value in "abc":
        store.add(ctx, 1, value)
    middle = list(store.items(ctx))[1]
    store.find_with_id(ctx, 1, middle.id)
    assert store.update_current_item(ctx, "B")
    assert list(store.values(ctx)) == ["c", "B", "a"]
    store.find_with_id(ctx, 1, list(store.items(ctx))[2].id)
    assert store.remove_current_item(ctx)
    assert list(store.values(ctx)) == ["c", "B"]


# Ranges


@pytest.mark.parametrize(
    ("start", "stop", "reverse", "expected"),
    [
        (None, None, False, list(range(0, 100, 10))),
        (None, None, True, list(range(90, -1, -10))),
        (20, 50, False, [20, 30, 40]),
        (20, 50, True, [40, 30, 20]),
        (15, 45, False, [20, 30, 40]),
        (None, 20, False, [0, 10]),
        (80, None, False, [80, 90]),
        (80, None, True, [90, 80]),
        (50, 50, False, []),
        (50, 20, False, []),
        (91, None, False, []),
        ("x", None, False, []),
        (0, "x", False, list(range(0, 100, 10))),
    ],
)
def test_ranges(ctx: Context, tens: Btree, start, stop, reverse, expected) -> None:
    assert [item.key for item in tens.items(ctx, start, stop, reverse)] == expected
    assert list(tens.keys(ctx, start=start, stop=stop, reverse=reverse)) == expected
    assert list(tens.values(ctx, start, stop, reverse)) == [str(key) for key in expected]


def test_an_iteration_is_lazy_and_leaves_the_cursor(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, [Item(key, "v") for key in range(5000)])
    store.find(ctx, 77)
    several = store.items(ctx)
    assert [next(several).key for _ in range(3)] == [0, 1, 2]
    assert store.get_current_key(ctx) == 77
    assert [item.key for item in several] == list(range(3, 5000))
    assert list(store.keys(ctx, reverse=True)) == list(range(4999, -1, -1))


def test_an_iteration_sees_what_is_written_ahead_of_it(ctx: Context, in_btree) -> None:
    """Removing while iterating neither skips nor repeats."""
    store = in_btree(is_unique=True)
    store.add(ctx, [Item(key) for key in range(1000)])
    seen = []
    for key in store.keys(ctx):
        seen.append(key)
        assert store.remove(ctx, key)
    assert seen == list(range(1000))
    assert store.count() == 0


def test_ranges_over_duplicates_across_batches(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=False)
    for number in range(300):
        store.add(ctx, [Item("same", number), Item("zebra", number)])
    assert list(store.values(ctx, "same", "zebra")) == list(range(299, -1, -1))
    assert list(store.values(ctx, "same", "zebra", reverse=True)) == list(range(300))


def test_ranges_of_composite_keys(ctx: Context, in_btree) -> None:
    store = in_btree(is_unique=True)
    store.add(ctx, [Item([a, b]) for a in range(3) for b in range(3)])
    assert list(store.keys(ctx, start=[1], stop=[2])) == [[1, 0], [1, 1], [1, 2]]


def test_removing_while_paging_does_not_disturb_it(ctx: Context, tens: Btree) -> None:
    """2.0.17 unset the cursor, and the next page started again at the first item."""
    tens.find(ctx, 30)
    assert tens.remove(ctx, 70)
    assert tens.get_current_key(ctx) == 30
    assert tens.remove_current_item(ctx)
    assert tens.get_current_key(ctx) is None
    assert tens.next(ctx)
    assert tens.get_current_key(ctx) == 40
    assert tens.first(ctx)
    seen = []
    while page := tens.get_keys(ctx, PagingInfo(page_size=2)):
        assert tens.remove(ctx, [item.key for item in page])
        seen += [item.key for item in page]
    assert seen == [0, 10, 20, 40, 50, 60, 80, 90]
    assert tens.count() == 0
