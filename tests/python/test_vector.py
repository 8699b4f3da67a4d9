"""Vector stores: writing, finding, filters, transactions, what is refused."""

from __future__ import annotations

import math
import random
from array import array
from pathlib import Path
from typing import Iterator

import pytest

from sop import (
    ConflictError,
    Context,
    DimensionMismatchError,
    FilterError,
    InvalidTransactionStateError,
    ItemNotFoundError,
    TransactionError,
    TransactionMode,
    ValidationError,
)
from sop.ai import Hit, Item, UsageMode, VectorDatabase, VectorStore


@pytest.fixture
def vdb(ctx: Context, tmp_path: Path) -> Iterator[VectorDatabase]:
    with VectorDatabase(ctx, storage_path=tmp_path / "db") as database:
        yield database


@pytest.fixture
def store(ctx: Context, vdb: VectorDatabase) -> VectorStore:
    return vdb.open(ctx, "products")


def cosine(one: list[float], two: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, two))
    return dot / (math.hypot(*one) * math.hypot(*two))


def random_items(count: int, dimension: int, seed: int = 0) -> list[Item]:
    dice = random.Random(seed)
    return [
        Item(f"i{row}", [dice.gauss(0, 1) for _ in range(dimension)], {"row": row, "tenth": row % 10})
        for row in range(count)
    ]


def test_positional_order_of_the_dataclasses_is_that_of_2_0_17() -> None:
    item = Item("id", [1.0], {"a": 1}, 7)
    assert (item.id, item.vector, item.payload, item.centroid_id) == ("id", [1.0], {"a": 1}, 7)
    assert Item("id", [1.0]).payload is None
    hit = Hit("id", 0.5, {"a": 1})
    assert (hit.id, hit.score, hit.payload) == ("id", 0.5, {"a": 1})


def test_upsert_get_delete_count(ctx: Context, store: VectorStore) -> None:
    assert store.count(ctx) == 0
    store.upsert(ctx, Item("a", [0.1, 0.5, 0.9], {"name": "Laptop", "tags": [1, None, {"x": "é"}]}))
    store.upsert(ctx, Item("b", [1, 2, 3]))
    assert store.count(ctx) == store.count() == 2
    item = store.get(ctx, "a")
    assert item.id == "a"
    assert item.vector == pytest.approx([0.1, 0.5, 0.9])
    assert item.payload == {"name": "Laptop", "tags": [1, None, {"x": "é"}]}
    assert item.centroid_id == 0
    assert store.get(ctx, "b").payload is None
    store.upsert(ctx, Item("a", [1.0, 0.0, 0.0], {"new": True}))
    assert store.count(ctx) == 2
    assert store.get(ctx, "a") == Item("a", [1.0, 0.0, 0.0], {"new": True})
    store.delete(ctx, "a")
    store.delete(ctx, "a")
    store.delete(ctx, ["b", "unknown"])
    assert store.count(ctx) == 0
    with pytest.raises(ItemNotFoundError, match="a"):
        store.get(ctx, "a")


def test_float32_comes_back_exactly(ctx: Context, store: VectorStore) -> None:
    vector = array("f", [0.1, 1e-30, 3.4e38, -0.0, 5e-45]).tolist()
    store.upsert(ctx, Item("a", vector))
    store.upsert(ctx, Item("b", array("f", vector)))
    store.upsert(ctx, Item("c", tuple(vector)))
    for id in "abc":
        assert array("f", store.get(ctx, id).vector).tolist() == vector


def test_of_an_id_that_comes_twice_the_last_counts(ctx: Context, store: VectorStore) -> None:
    store.upsert_batch(ctx, [Item("a", [1.0], {"n": 1}), Item("b", [1.0]), Item("a", [2.0], {"n": 2})])
    assert store.count(ctx) == 2
    assert store.get(ctx, "a") == Item("a", [2.0], {"n": 2})


def test_an_empty_batch_does_nothing(ctx: Context, store: VectorStore) -> None:
    store.upsert_batch(ctx, [])
    store.delete(ctx, [])
    assert store.count(ctx) == 0
    assert store.query(ctx, [1.0, 2.0]) == []


@pytest.mark.parametrize("optimized", [False, True])
def test_hits_are_those_of_an_exact_search(ctx: Context, store: VectorStore, optimized: bool) -> None:
    items = random_items(1000, 8)
    store.upsert_batch(ctx, items)
    if optimized:
        store.optimize(ctx)
    for probe in random_items(10, 8, seed=1):
        expected = sorted(items, key=lambda item: -cosine(item.vector, probe.vector))[:10]
        hits = store.query(ctx, probe.vector, exact=True)
        assert [hit.id for hit in hits] == [item.id for item in expected]
        assert [hit.payload for hit in hits] == [item.payload for item in expected]
        assert [hit.score for hit in hits] == pytest.approx(
            [cosine(item.vector, probe.vector) for item in expected], abs=1e-5
        )
        found = {hit.id for hit in store.query(ctx, probe.vector)}
        assert len(found & {item.id for item in expected}) >= 8


def test_k(ctx: Context, store: VectorStore) -> None:
    store.upsert_batch(ctx, random_items(20, 4))
    assert len(store.query(ctx, [1, 0, 0, 0])) == 10
    for k, hits in ((0, 0), (-1, 0), (1, 1), (20, 20), (21, 20), (10**9, 20)):
        assert len(store.query(ctx, [1, 0, 0, 0], k)) == hits
    for wrong in ("3", 1.5, None, True):
        with pytest.raises(ValidationError):
            store.query(ctx, [1, 0, 0, 0], wrong)


def test_there_are_k_hits_whenever_k_rows_match(ctx: Context, store: VectorStore) -> None:
    """A filter that only rows far away pass: 2.0.17 looked into two clusters and gave up."""
    items = random_items(2000, 8)
    for item in items:
        item.payload["side"] = "near" if item.vector[0] > -1.5 else "far"
    store.upsert_batch(ctx, items)
    store.optimize(ctx)
    far = [item for item in items if item.payload["side"] == "far"]
    assert len(far) >= 20
    hits = store.query(ctx, [5.0] + [0.0] * 7, k=20, filter={"side": "far"})
    assert len(hits) == 20
    assert {hit.payload["side"] for hit in hits} == {"far"}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(store.query(ctx, [5.0] + [0.0] * 7, k=10_000, filter={"side": "far"})) == len(far)


def test_filters_are_equality_of_all_fields(ctx: Context, store: VectorStore) -> None:
    store.upsert_batch(
        ctx,
        [
            Item("a", [1, 0], {"name": "Laptop", "price": 999, "tags": ["x"], "none": None}),
            Item("b", [1, 0], {"name": "Laptop", "price": 1000}),
            Item("c", [1, 0], {"name": "Phone", "price": 999}),
            Item("d", [1, 0]),
        ],
    )

    def ids(filter: dict | None) -> list[str]:
        return sorted(hit.id for hit in store.query(ctx, [1, 0], filter=filter))

    assert ids(None) == ids({}) == ["a", "b", "c", "d"]
    assert ids({"name": "Laptop"}) == ["a", "b"]
    assert ids({"name": "Laptop", "price": 999.0}) == ["a"]
    assert ids({"price": "999"}) == []
    assert ids({"tags": ["x"]}) == ["a"]
    assert ids({"missing": 1}) == []


@pytest.mark.parametrize("wrong", ["name", 7, ["a"], {1, 2}])
def test_a_filter_is_a_dict(ctx: Context, store: VectorStore, wrong: object) -> None:
    store.upsert(ctx, Item("a", [1.0, 0.0], {"name": "x"}))
    with pytest.raises((FilterError, ValidationError)):
        store.query(ctx, [1.0, 0.0], filter=wrong)


# What is refused


@pytest.mark.parametrize(
    "vector",
    [
        None,
        [],
        "text",
        7,
        [1.0, "2", 3.0],
        [1.0, None, 3.0],
        [1.0, float("nan"), 3.0],
        [1.0, float("inf"), 3.0],
        [1.0, 1e39, 3.0],
        [[1.0, 2.0, 3.0]],
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_vectors_that_are_none(ctx: Context, store: VectorStore, vector: object, first: bool) -> None:
    if not first:
        store.upsert(ctx, Item("there", [1.0, 2.0, 3.0]))
    good = Item("good", [1.0, 2.0, 3.0])
    for call in (
        lambda: store.upsert(ctx, Item("bad", vector)),
        lambda: store.upsert_batch(ctx, [Item("bad", vector)]),
        lambda: store.upsert_batch(ctx, [good, Item("bad", vector)]),
        lambda: store.upsert_batch(ctx, [good, Item("bad", vector, centroid_id=5)]),
        lambda: store.upsert_arrays(ctx, ["good", "bad"], [good.vector, vector]),
    ):
        with pytest.raises(ValidationError):
            call()
    if not first:
        with pytest.raises(ValidationError):
            store.query(ctx, vector)
    assert store.count(ctx) == (0 if first else 1)


def test_the_first_vector_fixes_the_dimension(ctx: Context, store: VectorStore) -> None:
    store.upsert(ctx, Item("a", [1.0, 2.0, 3.0]))
    for wrong in ([1.0, 2.0], [1.0, 2.0, 3.0, 4.0]):
        for call in (
            lambda wrong=wrong: store.upsert(ctx, Item("b", wrong)),
            lambda wrong=wrong: store.upsert_batch(ctx, [Item("b", wrong), Item("c", wrong)]),
            lambda wrong=wrong: store.query(ctx, wrong),
            lambda wrong=wrong: store.query_arrays(ctx, [wrong], 1),
        ):
            with pytest.raises(DimensionMismatchError):
                call()
    with pytest.raises(DimensionMismatchError):
        store.upsert_batch(ctx, [Item("b", [1.0, 2.0, 3.0]), Item("c", [1.0])])
    assert store.count(ctx) == 1
    assert store.stats(ctx).dimension == 3


@pytest.mark.parametrize("id", [None, 7, "", b"a", "x" * 5000, "\ud800"])
def test_ids_are_texts(ctx: Context, store: VectorStore, id: object) -> None:
    for call in (
        lambda: store.upsert(ctx, Item(id, [1.0])),
        lambda: store.upsert_batch(ctx, [Item("a", [1.0]), Item(id, [1.0])]),
        lambda: store.upsert_arrays(ctx, [id], [[1.0]]),
    ):
        with pytest.raises(ValidationError):
            call()
    assert store.count(ctx) == 0


def test_what_is_no_item(ctx: Context, store: VectorStore) -> None:
    for wrong in ("a", {"id": "a", "vector": [1.0]}, None):
        with pytest.raises(ValidationError):
            store.upsert(ctx, wrong)
        with pytest.raises(ValidationError):
            store.upsert_batch(ctx, [wrong, wrong])
    for payload in ({"a": float("nan")}, {"a": b"bytes"}, {"a": "\ud800"}):
        with pytest.raises(ValidationError):
            store.upsert(ctx, Item("a", [1.0], payload))
        with pytest.raises(ValidationError):
            store.upsert_batch(ctx, [Item("b", [1.0]), Item("a", [1.0], payload)])
    assert store.count(ctx) == 0


@pytest.mark.parametrize("name", ["", None, 7, "x" * 129, "a\nb"])
def test_names_are_checked(ctx: Context, vdb: VectorDatabase, name: object) -> None:
    with pytest.raises(ValidationError):
        vdb.open(ctx, name).upsert(ctx, Item("a", [1.0]))


# Transactions


def test_each_call_commits_by_itself(ctx: Context, vdb: VectorDatabase, store: VectorStore) -> None:
    store.upsert(ctx, Item("a", [1.0]))
    assert vdb.open(ctx, "products").count(ctx) == 1
    assert vdb.open(ctx, "other").count(ctx) == 0
    assert store.transaction_id.int == 0
    assert store.id.int != 0


def test_a_store_inside_a_transaction(ctx: Context, vdb: VectorDatabase, store: VectorStore) -> None:
    store.upsert(ctx, Item("a", [1.0, 0.0]))
    t = vdb.begin_transaction(ctx)
    for inside in (store.with_transaction(t), vdb.open_vector_store(ctx, t, "products")):
        inside.upsert(ctx, Item("b", [0.0, 1.0]))
        inside.delete(ctx, "a")
        assert [hit.id for hit in inside.query(ctx, [1.0, 1.0])] == ["b"]
        assert inside.count(ctx) == 1
        assert inside.transaction_id == t.transaction_id
    assert [hit.id for hit in store.query(ctx, [1.0, 1.0])] == ["a"]
    t.rollback(ctx)
    assert store.get(ctx, "a").vector == [1.0, 0.0]
    with vdb.begin_transaction(ctx) as t:
        store.with_transaction(t).upsert(ctx, Item("b", [0.0, 1.0]))
    assert store.count(ctx) == 2
    with pytest.raises(InvalidTransactionStateError):
        inside.count(ctx)


def test_a_transaction_that_only_reads(ctx: Context, vdb: VectorDatabase, store: VectorStore) -> None:
    store.upsert(ctx, Item("a", [1.0, 0.0]))
    with vdb.begin_transaction(ctx, TransactionMode.ForReading) as t:
        inside = store.with_transaction(t)
        assert len(inside.query(ctx, [1.0, 0.0])) == 1
    for write in (
        lambda inside: inside.upsert(ctx, Item("b", [1.0, 0.0])),
        lambda inside: inside.delete(ctx, "a"),
        lambda inside: inside.optimize(ctx),
    ):
        t = vdb.begin_transaction(ctx, TransactionMode.ForReading)
        with pytest.raises(TransactionError):
            write(store.with_transaction(t))
    assert store.count(ctx) == 1


def test_two_transactions_on_one_id_conflict_and_on_two_do_not(
    ctx: Context, vdb: VectorDatabase, store: VectorStore
) -> None:
    store.upsert_batch(ctx, [Item(f"{n}", [1.0, float(n)]) for n in range(50)])
    one, two, three = (vdb.begin_transaction(ctx) for _ in range(3))
    store.with_transaction(one).upsert(ctx, Item("1", [0.5, 0.5]))
    store.with_transaction(two).upsert(ctx, Item("2", [0.5, 0.5]))
    store.with_transaction(three).upsert(ctx, Item("1", [0.7, 0.7]))
    one.commit(ctx)
    two.commit(ctx)
    with pytest.raises(ConflictError):
        three.commit(ctx)
    assert store.get(ctx, "1").vector == store.get(ctx, "2").vector == [0.5, 0.5]


# Optimize, usage modes, statistics, explicit centroids


@pytest.mark.parametrize("mode", list(UsageMode))
def test_every_usage_mode(ctx: Context, tmp_path: Path, mode: UsageMode) -> None:
    items = random_items(1500, 8)
    with VectorDatabase(ctx, storage_path=tmp_path, usage_mode=mode) as vdb:
        store = vdb.open(ctx, "s")
        store.upsert_batch(ctx, items)
        assert store.query(ctx, items[0].vector, k=1)[0].id == "i0"
        store.optimize(ctx)
        store.delete(ctx, [f"i{row}" for row in range(500)])
        store.upsert_batch(ctx, random_items(10, 8, seed=5))
        assert store.count(ctx) == 1010
        stats = store.stats(ctx)
        assert (stats.count, stats.dimension, stats.usage_mode) == (1010, 8, mode)
        assert sum(row.count for row in stats.centroids) == 1010
        assert stats.skew >= 1
        assert sum(store.centroid_counts(ctx).values()) == 1010
        store.optimize(ctx)
        assert store.query(ctx, items[700].vector, k=1, exact=True)[0].id == "i700"
    with VectorDatabase(ctx, storage_path=tmp_path) as vdb:
        assert vdb.open(ctx, "s").stats(ctx).usage_mode == mode
        with vdb.begin_transaction(ctx) as t:
            assert vdb.open_vector_store(ctx, t, "s").count(ctx) == 1010


def test_the_skew_shows_uneven_clusters(ctx: Context, tmp_path: Path) -> None:
    mode = UsageMode.DynamicWithVectorCountTracking
    with VectorDatabase(ctx, storage_path=tmp_path, usage_mode=mode) as vdb:
        store = vdb.open(ctx, "s")
        store.upsert_batch(ctx, random_items(3000, 4))
        store.optimize(ctx)
        even = store.stats(ctx).skew
        dice = random.Random(9)
        for start in range(0, 6000, 1000):
            crowd = [
                Item(f"c{start + n}", [5 + dice.gauss(0, 0.01), 5 + dice.gauss(0, 0.01), 5, 5])
                for n in range(1000)
            ]
            store.upsert_batch(ctx, crowd)
        assert store.stats(ctx).count == 9000
        assert store.stats(ctx).skew > even


def test_optimize_inside_a_transaction_saves_and_leaves_it_usable(
    ctx: Context, vdb: VectorDatabase, store: VectorStore
) -> None:
    with vdb.begin_transaction(ctx) as t:
        inside = store.with_transaction(t)
        inside.upsert_batch(ctx, random_items(500, 4))
        inside.optimize(ctx)
        assert store.count(ctx) == 500
        inside.upsert(ctx, Item("later", [1.0, 0, 0, 0]))
        assert inside.count(ctx) == 501
        assert store.count(ctx) == 500
    assert store.count(ctx) == 501


def test_optimize_of_an_empty_store(ctx: Context, store: VectorStore) -> None:
    store.optimize(ctx)
    assert store.count(ctx) == 0
    assert store.stats(ctx).count == 0
    assert store.stats(ctx).skew == 0


def test_an_explicit_centroid_is_kept_by_optimize(ctx: Context, store: VectorStore) -> None:
    items = random_items(1000, 8)
    for row in range(0, 1000, 10):
        items[row].centroid_id = 500 + row % 30
    store.upsert_batch(ctx, items)
    for _ in range(2):
        explicit = store.centroid_counts(ctx, explicit=True)
        assert explicit == {500: 34, 510: 33, 520: 33}
        assert store.get(ctx, "i10").centroid_id == 510
        assert store.get(ctx, "i11").centroid_id == 0
        hits = store.query(ctx, [1.0] * 8, k=1000, centroid_ids=[500, 510])
        assert len(hits) == 67
        assert all(int(hit.id[1:]) % 10 == 0 for hit in hits)
        store.optimize(ctx)
    assert len(store.query(ctx, [1.0] * 8, k=1000)) == 1000
    store.upsert(ctx, Item("i10", [1.0] * 8, centroid_id=0))
    assert store.centroid_counts(ctx, explicit=True)[510] == 32


@pytest.mark.parametrize("centroid_id", ["5", 1.5, 2**70, [1]])
def test_a_centroid_id_is_an_integer(ctx: Context, store: VectorStore, centroid_id: object) -> None:
    with pytest.raises(ValidationError):
        store.upsert(ctx, Item("a", [1.0], None, centroid_id))
    store.upsert(ctx, Item("a", [1.0], None, -3))
    assert store.get(ctx, "a").centroid_id == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_recall": 0},
        {"target_recall": 1.5},
        {"target_recall": float("nan")},
        {"target_recall": "0.9"},
        {"nprobe": -1},
        {"nprobe": 2**40},
        {"nprobe": "8"},
        {"centroid_ids": [0]},
        {"centroid_ids": [-1]},
        {"centroid_ids": ["a"]},
        {"centroid_ids": 5},
    ],
    ids=str,
)
def test_options_of_a_query_are_checked(ctx: Context, store: VectorStore, wrong: dict) -> None:
    store.upsert(ctx, Item("a", [1.0, 0.0]))
    for call in (
        lambda: store.query(ctx, [1.0, 0.0], **wrong),
        lambda: store.query_arrays(ctx, [[1.0, 0.0]], 1, **wrong),
    ):
        with pytest.raises(ValidationError):
            call()


@pytest.mark.parametrize(
    "options", [{"target_recall": 0.5}, {"target_recall": 1}, {"nprobe": 1}, {"nprobe": 10**6}]
)
def test_a_small_store_answers_whatever_is_asked_for(ctx: Context, store: VectorStore, options: dict) -> None:
    items = random_items(300, 8)
    store.upsert_batch(ctx, items)
    for item in items[:20]:
        assert store.query(ctx, item.vector, 1, **options)[0].id == item.id


def test_optimize_tells_how_far_it_is_and_can_be_stopped(ctx: Context, store: VectorStore) -> None:
    store.upsert_batch(ctx, random_items(2000, 8))
    told: list = []
    store.optimize(ctx, progress=lambda done, total: told.append((done, total)))
    assert told and all(0 <= done <= total for done, total in told)
    assert told[-1][0] == told[-1][1]

    class EnoughError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        store.optimize(ctx, stop)
    assert store.count(ctx) == 2000
    assert len(store.query(ctx, [1.0] * 8, k=2000)) == 2000
    with pytest.raises(ValidationError, match="progress must be callable"):
        store.optimize(ctx, 5)


@pytest.mark.parametrize("other", [None, 5, "t"])
def test_a_store_inside_no_transaction_is_refused(store: VectorStore, other: object) -> None:
    """Its calls would commit by themselves."""
    with pytest.raises(ValidationError, match="must be a sop.Transaction"):
        store.with_transaction(other)  # type: ignore[arg-type]
