"""Many rows of a vector store at once: get_many, get_arrays, ids, items, delete; a store as a collection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from conftest import environment
from sop import ConflictError, Context, ContextCancelledError, Error, ValidationError
from sop.ai import Item, VectorDatabase, VectorStore

np = pytest.importorskip("numpy")


@pytest.fixture
def vdb(ctx: Context, tmp_path: Path) -> Iterator[VectorDatabase]:
    with VectorDatabase(ctx, tmp_path / "db") as database:
        yield database


@pytest.fixture
def store(ctx: Context, vdb: VectorDatabase) -> VectorStore:
    return vdb.open(ctx, "v")


def filled(ctx: Context, store: VectorStore, count: int) -> list[str]:
    """Stores rows, not in order; their ids in order."""
    ids = [f"{n:05}" for n in range(count)]
    mixed = ids[1::2] + ids[::2]
    store.upsert_arrays(ctx, mixed, [[float(id), 0.1] for id in mixed], {"n": [int(id) for id in mixed]})
    return ids


def test_many_are_read_in_the_order_asked_for_and_none_is_there_for_a_miss(
    ctx: Context, store: VectorStore
) -> None:
    assert store.get_many(ctx, ["a", "b"]) == [None, None] and store.dimension(ctx) == 0
    store.upsert_batch(ctx, [Item("a", [0.1, 2.0], {"x": [1]}), Item("ü", [3.0, 4.0], None, 7)])
    single = [store.get(ctx, "ü"), None, store.get(ctx, "a"), store.get(ctx, "ü")]
    assert store.get_many(ctx, ["ü", "no", "a", "ü"]) == single
    assert store.get_many(ctx, (id for id in "a")) == [Item("a", [0.1, 2.0], {"x": [1]})]
    assert store.get_many(ctx, []) == []
    assert store.dimension() == 2
    for wrong in ("a", [1], None, 5):
        with pytest.raises(ValidationError):
            store.get_many(ctx, wrong)  # type: ignore[arg-type]


def test_what_get_arrays_gives_upsert_arrays_takes(
    ctx: Context, vdb: VectorDatabase, store: VectorStore
) -> None:
    dice = np.random.default_rng(3)
    vectors = dice.standard_normal((2500, 5)).astype("f4")
    ids = [f"{n:04}" for n in range(2500)]
    store.upsert_arrays(ctx, ids, vectors, {"n": list(range(2500))})
    found, matrix, payloads = store.get_arrays(ctx, ["0007", "none", "2000", "0007"])
    assert found == ["0007", "2000", "0007"] and payloads == [{"n": 7}, {"n": 2000}, {"n": 7}]
    assert matrix.dtype == np.float32 and np.array_equal(matrix, vectors[[7, 2000, 7]])
    told: list = []
    found, matrix, payloads = store.get_arrays(ctx, progress=lambda *figures: told.append(figures))
    assert found == ids and np.array_equal(matrix, vectors) and payloads[9] == {"n": 9}
    assert told == [(1000, 2500), (2000, 2500), (2500, 2500)]
    copied = vdb.open(ctx, "copy")
    copied.upsert_arrays(ctx, *store.get_arrays(ctx))
    assert list(copied.items(ctx)) == list(store.items(ctx))
    for nothing in (store.get_arrays(ctx, ["none"]), vdb.open(ctx, "empty").get_arrays(ctx)):
        assert nothing[0] == nothing[2] == [] and len(nothing[1]) == 0
    store.delete(ctx, ids)
    assert store.get_arrays(ctx)[1].shape == (0, 5)


def test_arrays_without_numpy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "import sop, sop.ai\n"
        "ctx = sop.Context()\n"
        f"store = sop.ai.VectorDatabase(ctx, storage_path={str(tmp_path)!r}).open(ctx, 'v')\n"
        "store.upsert_arrays(ctx, ['a', 'b'], [[1.0, 0.0], [0.0, 1.0]])\n"
        "ids, vectors, payloads = store.get_arrays(ctx, ['b', 'x', 'a'])\n"
        "print(ids, vectors.tolist(), vectors.shape, payloads)\n"
        "store.upsert_arrays(ctx, ids, vectors, payloads)\n"
        "print(store.get_arrays(ctx, ['x']))\n"
        "store.upsert_arrays(ctx, *store.get_arrays(ctx, ['x']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['b', 'a'] [[0.0, 1.0], [1.0, 0.0]] (2, 2) [None, None]",
        "([], [], [])",
    ]


def test_an_iteration_goes_in_order_of_id_between_its_bounds(ctx: Context, store: VectorStore) -> None:
    assert list(store.items(ctx)) == list(store.ids(ctx)) == []
    ids = filled(ctx, store, 2100)
    assert list(store.ids(ctx)) == ids
    assert [(item.id, item.payload) for item in store.items(ctx)] == [(id, {"n": int(id)}) for id in ids]
    assert list(store.ids(ctx, "00500", "00503")) == ["00500", "00501", "00502"]
    assert [item.id for item in store.items(ctx, start="02098")] == ["02098", "02099"]
    assert list(store.ids(ctx, stop="00002")) == ["00000", "00001"]
    assert list(store.ids(ctx, "b", "a")) == list(store.ids(ctx, "", "")) == []
    store.upsert_batch(ctx, [Item(id, [1.0, 1.0]) for id in ("ü", "\U0001f600", "~")])
    assert list(store.ids(ctx, "~")) == ["~", "ü", "\U0001f600"]
    for wrong in (5, b"a"):
        with pytest.raises(ValidationError, match="the start of a range"):
            next(store.ids(ctx, wrong))  # type: ignore[arg-type]


def test_an_iteration_is_of_one_snapshot_and_may_stop_early(ctx: Context, store: VectorStore) -> None:
    ids = filled(ctx, store, 1000)
    walk = store.items(ctx)
    assert next(walk).id == "00000"
    store.delete(ctx, ids[100:])
    store.upsert(ctx, Item("00001", [5.0, 5.0]))
    assert [item.vector[0] for item in walk] == [float(id) for id in ids[1:]]
    stopped = store.ids(ctx)
    next(stopped)
    del stopped
    assert len(list(store.ids(ctx))) == 100


def test_in_a_transaction_an_iteration_sees_its_writes_and_counts_as_read(
    ctx: Context, vdb: VectorDatabase, store: VectorStore
) -> None:
    filled(ctx, store, 3)
    transaction = vdb.begin_transaction(ctx)
    inside = store.with_transaction(transaction)
    inside.upsert(ctx, Item("00001x", [1.0, 1.0]))
    inside.delete(ctx, "00000")
    assert list(inside.ids(ctx)) == ["00001", "00001x", "00002"]
    assert inside.get_arrays(ctx)[0] == [item.id for item in inside.items(ctx)]
    store.upsert(ctx, Item("00002x", [2.0, 2.0]))
    with pytest.raises(ConflictError):
        transaction.commit(ctx)
    with pytest.raises(Error):
        next(inside.ids(ctx))


def test_a_cancelled_context_stops_an_iteration(ctx: Context, store: VectorStore) -> None:
    filled(ctx, store, 1000)
    mine = Context()
    walk = store.items(mine)
    next(walk)
    mine.cancel()
    with pytest.raises((ContextCancelledError, Error)):
        list(walk)


def test_many_are_deleted_at_once(ctx: Context, vdb: VectorDatabase, store: VectorStore) -> None:
    ids = filled(ctx, store, 2500)
    told: list = []
    store.delete(ctx, ids[:2100], progress=lambda *figures: told.append(figures))
    assert told == [(1000, 2100), (2000, 2100), (2100, 2100)] and list(store.ids(ctx)) == ids[2100:]
    store.delete(ctx, (id for id in ("none", "02100")))
    store.delete(ctx, store.ids(ctx, "02200"))
    assert list(store.ids(ctx)) == ids[2101:2200]
    store.delete(ctx, [])
    assert store.count(ctx) == 99


def test_a_store_is_a_collection_of_its_ids(ctx: Context, store: VectorStore) -> None:
    assert store and len(store) == 0 and "a" not in store and list(store) == []
    ids = filled(ctx, store, 20)
    assert len(store) == 20 and ids[7] in store and "x" not in store and 5 not in store
    assert list(store) == ids and sorted(store) == ids
