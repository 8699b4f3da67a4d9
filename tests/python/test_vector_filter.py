"""Filters of vector queries: what they mean, that they find all that matches, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from sop import Context, FilterError
from sop.ai import Item, VectorDatabase, VectorStore

Payload = Any


@pytest.fixture
def store(ctx: Context, tmp_path: Path) -> Iterator[VectorStore]:
    with VectorDatabase(ctx, storage_path=tmp_path / "db") as vdb:
        yield vdb.open(ctx, "v")


def payload(dice: random.Random, row: int) -> Payload:
    kind = dice.randrange(12)
    if kind == 0:
        return None
    if kind == 1:
        return [row]
    fields: dict[str, Any] = {"row": row, "tenth": row % 10, "price": dice.choice([1, 2.5, 7, 10, None])}
    if kind < 6:
        fields["name"] = dice.choice(["ape", "bee", "cat", "é", "long " * 30])
    if kind < 8:
        fields["tags"] = [dice.choice("xyz"), 1]
    if kind < 10:
        fields["flag"] = kind % 2 == 0
    return fields


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


Has = Callable[[dict], bool]
FILTERS: list[tuple[dict, Has]] = [
    ({"tenth": 3}, lambda p: p.get("tenth") == 3),
    ({"tenth": 3.0, "flag": True}, lambda p: p.get("tenth") == 3 and p.get("flag") is True),
    ({"price": None}, lambda p: "price" in p and p["price"] is None),
    ({"price": {"$gt": 2, "$lte": 7}}, lambda p: number(p.get("price")) and 2 < p["price"] <= 7),
    ({"name": {"$gte": "bee"}}, lambda p: "name" in p and p["name"] >= "bee"),
    ({"name": {"$lt": "d"}}, lambda p: "name" in p and p["name"] < "d"),
    ({"name": "long " * 30}, lambda p: p.get("name") == "long " * 30),
    ({"name": {"$ne": "ape"}}, lambda p: p.get("name") != "ape"),
    ({"tenth": {"$in": [1, "x", 4.0]}}, lambda p: p.get("tenth") in (1, 4)),
    ({"tenth": {"$nin": [1, 2, 3]}}, lambda p: p.get("tenth") not in (1, 2, 3)),
    ({"tags": ["x", 1]}, lambda p: p.get("tags") == ["x", 1]),
    ({"tags": {"$ne": ["x", 1]}}, lambda p: p.get("tags") != ["x", 1]),
    ({"flag": {"$exists": False}}, lambda p: "flag" not in p),
    ({"tags": {"$exists": True}}, lambda p: "tags" in p),
    ({"flag": {"$gt": False}}, lambda p: p.get("flag") is True),
    ({"$or": [{"tenth": 1}, {"name": "cat"}]}, lambda p: p.get("tenth") == 1 or p.get("name") == "cat"),
    (
        {"$not": {"tenth": {"$gte": 2}}, "row": {"$exists": True}},
        lambda p: "row" in p and not p["tenth"] >= 2,
    ),
    ({"$and": [{"row": {"$gte": 10}}, {"row": {"$lt": 20}}]}, lambda p: 10 <= p.get("row", 0) < 20),
    ({"tenth": 11}, lambda p: False),
    ({}, lambda p: True),
]


@pytest.mark.parametrize("state", ["new", "indexed", "changed since"])
def test_a_query_gives_all_rows_that_match_and_no_other(ctx: Context, store: VectorStore, state: str) -> None:
    dice = random.Random(5)
    rows = {f"r{row}": payload(dice, row) for row in range(700)}
    vector = {id: [dice.gauss(0, 1) for _ in range(4)] for id in rows}
    store.upsert_batch(ctx, [Item(id, vector[id], rows[id]) for id in rows])
    if state != "new":
        store.optimize(ctx)
    if state == "changed since":
        for row in range(0, 700, 7):
            rows[f"r{row}"] = payload(dice, row)
            store.upsert(ctx, Item(f"r{row}", vector[f"r{row}"], rows[f"r{row}"]))
        gone = [f"r{row}" for row in range(0, 700, 11)]
        store.delete(ctx, gone)
        for id in gone:
            del rows[id]
    for filter, has in FILTERS:
        expected = {id for id, fields in rows.items() if has(fields if isinstance(fields, dict) else {})}
        hits = store.query(ctx, [1.0, 0.0, 0.0, 0.0], k=1000, filter=filter)
        assert {hit.id for hit in hits} == expected, filter
        assert len(hits) == len(expected), filter
        assert all(hit.payload == rows[hit.id] for hit in hits)
        assert {hit.id for hit in store.query(ctx, [1.0, 0, 0, 0], 1000, filter, exact=True)} == expected
        few = store.query(ctx, [1.0, 0.0, 0.0, 0.0], k=3, filter=filter)
        assert [hit.id for hit in few] == [hit.id for hit in hits[:3]], filter
        ids, _ = store.query_arrays(ctx, [[1.0, 0.0, 0.0, 0.0]], 3, filter)
        assert ids == [[hit.id for hit in few]]


def test_a_filter_and_explicit_centroids_are_both_required(ctx: Context, store: VectorStore) -> None:
    items = [
        Item(f"r{row}", [1.0, row], {"even": row % 2 == 0}, centroid_id=1 + row % 3) for row in range(30)
    ]
    store.upsert_batch(ctx, items)
    for _ in range(2):
        hits = store.query(ctx, [1.0, 1.0], 30, {"even": True}, centroid_ids=[1, 2])
        expected = {f"r{row}" for row in range(0, 30, 2) if row % 3 < 2}
        assert {hit.id for hit in hits} == expected
        ids, _ = store.query_arrays(ctx, [[1.0, 1.0]], 30, {"even": True}, centroid_ids=[1, 2])
        assert set(ids[0]) == expected
        store.optimize(ctx)


@pytest.mark.parametrize(
    ("filter", "told"),
    [
        ({"a": {"$near": 1}}, "known are"),
        ({"$nor": [{"a": 1}]}, r"known are \$and, \$or, \$not"),
        ({"a": {"$gt": None}}, r"\$gt in a filter takes a number, a string or a bool, not null"),
        ({"a": {"$lt": [1]}}, r"\$lt in a filter takes"),
        ({"a": {"$in": "x"}}, r"\$in in a filter takes a list of values, not a string"),
        ({"a": {"$exists": 1}}, r"\$exists in a filter takes true or false"),
        ({"$and": []}, "at least one"),
        ({"$or": {"a": 1}}, r"\$or in a filter takes a list"),
        ({"$not": [{"a": 1}]}, r"\$not is an object"),
        ({"a": {"$gt": 1, "b": 2}}, "operators beside other keys"),
        ([{"a": 1}], "a filter is an object"),
        ("a", "a filter is an object"),
    ],
)
def test_what_is_wrong_with_a_filter_is_told(
    ctx: Context, store: VectorStore, filter: Any, told: str
) -> None:
    for call in (
        lambda: store.query(ctx, [1.0, 0.0], filter=filter),
        lambda: store.query(ctx, [1.0, 0.0], filter=filter, exact=True),
        lambda: store.query_arrays(ctx, [[1.0, 0.0]], 1, filter),
    ):
        with pytest.raises(FilterError, match=told):
            call()


def test_a_filter_nested_too_deep_is_refused(ctx: Context, store: VectorStore) -> None:
    filter: dict = {"a": 1}
    for _ in range(33):
        filter = {"$not": filter}
    with pytest.raises(FilterError, match="nested at most 32"):
        store.query(ctx, [1.0, 0.0], filter=filter)
