"""What ended the process or lost data in 2.0.17: here a typed error, the process goes on, nothing is lost.

A full disk and a read-only folder are in test_disk.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

import sop
from sop import Context, Database, btree
from sop.ai import Item, Model, VectorDatabase


@pytest.fixture
def vdb(ctx: Context, tmp_path: Path):
    """A database with one B-tree, one vector store and one model."""
    with VectorDatabase(ctx, storage_path=tmp_path) as database:
        with database.begin_transaction(ctx) as t:
            btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).add(ctx, 1, "one")
            database.open_vector_store(ctx, t, "v").upsert(ctx, Item("a", [1.0, 2.0, 3.0]))
            database.open_model_store(ctx, t, "m").save(ctx, "c", "n", Model("m1"))
        yield database
        with database.begin_transaction(ctx) as t:
            assert [item.value for item in btree.Btree.open(ctx, "s", t).items(ctx)] == ["one"]
            assert database.open_vector_store(ctx, t, "v").get(ctx, "a").vector == [1.0, 2.0, 3.0]
            assert database.open_model_store(ctx, t, "m").get(ctx, "c", "n")["id"] == "m1"


def cancelled() -> Context:
    ctx = Context()
    ctx.cancel()
    return ctx


BTREE: dict[str, tuple[type[sop.Error], Callable]] = {
    "adding None": (sop.ValidationError, lambda ctx, store: store.add(ctx, None)),
    "adding a list with None": (sop.ValidationError, lambda ctx, store: store.add(ctx, [None])),
    "NaN as a value": (sop.ValidationError, lambda ctx, store: store.add(ctx, 2, float("nan"))),
    "NaN as a key": (sop.ValidationError, lambda ctx, store: store.find(ctx, float("nan"))),
    "a value without a JSON form": (sop.ValidationError, lambda ctx, store: store.add(ctx, 2, object())),
    "page_size -1": (
        sop.ValidationError,
        lambda ctx, store: store.get_items(ctx, btree.PagingInfo(page_size=-1)),
    ),
    "a cancelled context": (sop.ContextCancelledError, lambda ctx, store: store.add(cancelled(), 2, 2)),
    "no context": (sop.ValidationError, lambda ctx, store: store.add("ctx", 2, 2)),
}

VECTORS: dict[str, tuple[type[sop.Error], Callable]] = {
    "an empty vector": (sop.ValidationError, lambda ctx, store: store.upsert(ctx, Item("b", []))),
    "a wrong dimension": (sop.DimensionMismatchError, lambda ctx, store: store.upsert(ctx, Item("b", [1.0]))),
    "a long query": (sop.DimensionMismatchError, lambda ctx, store: store.query(ctx, [1.0] * 4)),
    "NaN": (sop.ValidationError, lambda ctx, store: store.upsert(ctx, Item("b", [1.0, float("nan"), 1.0]))),
    "None as a vector": (sop.ValidationError, lambda ctx, store: store.upsert(ctx, Item("b", None))),
    "None as an item": (sop.ValidationError, lambda ctx, store: store.upsert(ctx, None)),
    "None as items": (sop.ValidationError, lambda ctx, store: store.upsert_batch(ctx, None)),
    "None as arrays": (sop.ValidationError, lambda ctx, store: store.upsert_arrays(ctx, None, None)),
    "a text as ids": (sop.ValidationError, lambda ctx, store: store.upsert_arrays(ctx, "b", [[1.0] * 3])),
    "a text as payloads": (
        sop.ValidationError,
        lambda ctx, store: store.upsert_arrays(ctx, ["b"], [[1.0] * 3], "payload"),
    ),
    "a payload of bytes": (
        sop.ValidationError,
        lambda ctx, store: store.upsert(ctx, Item("b", [1.0] * 3, {"raw": b""})),
    ),
    "a list as filter": (sop.FilterError, lambda ctx, store: store.query(ctx, [1.0] * 3, filter=["a"])),
    "nprobe that is no number": (
        sop.ValidationError,
        lambda ctx, store: store.query(ctx, [1.0] * 3, nprobe="many"),
    ),
    "centroids that are no list": (
        sop.ValidationError,
        lambda ctx, store: store.query(ctx, [1.0] * 3, centroid_ids=7),
    ),
    "an unknown id": (sop.ItemNotFoundError, lambda ctx, store: store.get(ctx, "b")),
    "a cancelled context": (sop.ContextCancelledError, lambda ctx, store: store.count(cancelled())),
}

DATABASE: dict[str, tuple[type[sop.Error], Callable]] = {
    "a second commit": (sop.InvalidTransactionStateError, lambda ctx, db, t: (t.commit(ctx), t.commit(ctx))),
    "a missing store": (sop.StoreNotFoundError, lambda ctx, db, t: btree.Btree.open(ctx, "none", t)),
    "other options": (
        sop.ValidationError,
        lambda ctx, db, t: btree.Btree.new(ctx, btree.BtreeOptions("s", False), t),
    ),
    "no options": (sop.ValidationError, lambda ctx, db, t: btree.Btree.new(ctx, "s", t)),
    "options of another kind": (
        sop.ValidationError,
        lambda ctx, db, t: db.begin_transaction(ctx, options={"mode": 1}),
    ),
    "a transaction of options of another kind": (
        sop.ValidationError,
        lambda ctx, db, t: sop.Transaction(ctx, {}),
    ),
    "no transaction": (sop.ValidationError, lambda ctx, db, t: btree.Btree.open(ctx, "s", None)),
    "a transaction for the name": (sop.ValidationError, lambda ctx, db, t: db.open_vector_store(ctx, "v", t)),
    "a missing model": (
        sop.ItemNotFoundError,
        lambda ctx, db, t: db.open_model_store(ctx, t, "m").get(ctx, "c", "x"),
    ),
    "a cancelled context": (sop.ContextCancelledError, lambda ctx, db, t: t.commit(cancelled())),
}


@pytest.mark.parametrize("case", BTREE)
def test_btree(ctx: Context, vdb: VectorDatabase, case: str) -> None:
    expected, call = BTREE[case]
    with vdb.begin_transaction(ctx) as t:
        store = btree.Btree.open(ctx, "s", t)
        with pytest.raises(expected) as caught:
            call(ctx, store)
        assert isinstance(caught.value, btree.BtreeError)
        assert store.count() == 1


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("case", VECTORS)
def test_vectors(ctx: Context, vdb: VectorDatabase, case: str, inside: bool) -> None:
    expected, call = VECTORS[case]
    with vdb.begin_transaction(ctx) as t:
        store = vdb.open(ctx, "v")
        with pytest.raises(expected):
            call(ctx, store.with_transaction(t) if inside else store)
        assert store.count(ctx) == 1


@pytest.mark.parametrize("case", DATABASE)
def test_database(ctx: Context, vdb: Database, case: str) -> None:
    expected, call = DATABASE[case]
    t = vdb.begin_transaction(ctx)
    with pytest.raises(expected):
        call(ctx, vdb, t)


SPEC = btree.IndexSpecification

OPTIONS: dict[str, Callable[[], object]] = {
    "an id that is no UUID": lambda: sop.Transaction(Context(), id=[1]),
    "max_time beyond every float": lambda: sop.Transaction(
        Context(), sop.TransactionOptions(max_time=10**400, stores_folders=["x"])
    ),
    "a size that is none": lambda: btree.BtreeOptions("x").set_value_data_size(9),
}

BTREE_OPTIONS: dict[str, dict[str, object]] = {
    "a duration that is a text": {"cache_config": btree.CacheConfig("x")},
    "a duration that is a bool": {"cache_config": btree.CacheConfig(True)},
    "a flag that is a number": {"cache_config": btree.CacheConfig(is_node_cache_ttl=1)},
    "an unknown field": {"cache_config": {"foo": 1}},
    "no cache_config": {"cache_config": 5},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case: str) -> None:
    with pytest.raises(sop.ValidationError):
        OPTIONS[case]()


@pytest.mark.parametrize("case", BTREE_OPTIONS)
def test_btree_options(ctx: Context, db: Database, case: str) -> None:
    with db.begin_transaction(ctx) as t:
        with pytest.raises(sop.ValidationError, match="cache_config"):
            btree.Btree.new(ctx, btree.BtreeOptions("x", **BTREE_OPTIONS[case]), t)


def test_index_fields_that_are_no_list(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        with pytest.raises(sop.ValidationError, match="index_fields"):
            btree.Btree.new(ctx, btree.BtreeOptions("x"), t, SPEC(5))


def test_ids_in_a_set(ctx: Context, vdb: VectorDatabase) -> None:
    with pytest.raises(sop.ValidationError, match="no order"):
        vdb.open(ctx, "sets").upsert_arrays(ctx, {"a", "b"}, [[1.0], [2.0]])
