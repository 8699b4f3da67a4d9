"""Vector stores at their edges: long vectors, stores emptied and grown again, several dimensions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sop import Context
from sop.ai import Item, Metric, VectorDatabase
from sop.errors import ValidationError

CTX = Context()


def vectors(count: int, dimension: int, seed: int = 1) -> list[list[float]]:
    dice = random.Random(seed)
    return [[dice.gauss(0, 1) for _ in range(dimension)] for _ in range(count)]


@pytest.mark.parametrize("dimension", [1100, 1536, 3072])
def test_long_vectors_are_found_after_the_folder_was_closed(tmp_path: Path, dimension: int) -> None:
    """Their centroids do not lie beside their keys."""
    rows = vectors(200, dimension)
    for round in range(3):
        with VectorDatabase(CTX, str(tmp_path)) as database:
            store = database.open(CTX, "v")
            if round == 0:
                store.upsert_arrays(CTX, [str(row) for row in range(200)], rows)
            if round == 1:
                store.optimize(CTX)
            for row in (0, 99, 199):
                assert store.query(CTX, rows[row], 1)[0].id == str(row)


def test_what_is_left_of_a_batch_is_found_after_optimize(tmp_path: Path) -> None:
    rows = vectors(2000, 16)
    with VectorDatabase(CTX, str(tmp_path)) as database:
        store = database.open(CTX, "v")
        store.upsert_arrays(
            CTX, [str(row) for row in range(2000)], rows, [{"n": row % 7} for row in range(2000)]
        )
        store.delete(CTX, [str(row) for row in range(1999)])
        for _ in range(2):
            store.optimize(CTX)
            assert [hit.id for hit in store.query(CTX, rows[1999], 5)] == ["1999"]
            assert [hit.id for hit in store.query(CTX, rows[1999], 5, filter={"n": 1999 % 7})] == ["1999"]


def test_stores_of_other_dimensions_do_not_share_what_they_know(tmp_path: Path) -> None:
    with VectorDatabase(CTX, str(tmp_path)) as database:
        for dimension in (3, 100, 300, 3):
            store = database.open(CTX, f"of {dimension}")
            row = vectors(1, dimension)[0]
            store.upsert(CTX, Item("a", row, {"n": dimension}, centroid_id=7))
            assert len(store.query(CTX, row, 3, filter={"n": dimension})) == 1
            assert len(store.query(CTX, row, 3, centroid_ids=[7])) == 1


def test_an_emptied_store_goes_on_with_explicit_clusters(tmp_path: Path) -> None:
    rows = vectors(300, 20)
    with VectorDatabase(CTX, str(tmp_path)) as database:
        store = database.open(CTX, "v")
        for round in range(3):
            batch = [Item(f"{round} {row}", rows[row], None, centroid_id=row % 3 + 1) for row in range(300)]
            store.upsert_batch(CTX, batch)
            for row in (5, 150):
                found = store.query(CTX, rows[row], 1, centroid_ids=[row % 3 + 1])
                assert found[0].id == f"{round} {row}"
            store.delete(CTX, [item.id for item in batch])
            store.optimize(CTX)
            assert store.query(CTX, rows[0], 3) == []


@pytest.mark.parametrize("metric", [Metric.Dot, Metric.L2])
def test_vectors_too_long_for_the_metric_are_refused(tmp_path: Path, metric: Metric) -> None:
    with VectorDatabase(CTX, str(tmp_path)) as database:
        store = database.open(CTX, "v", metric=metric)
        store.upsert(CTX, Item("a", [1.0, 2.0]))
        with pytest.raises(ValidationError, match="length"):
            store.upsert(CTX, Item("b", [1e30, 1.0]))
        with pytest.raises(ValidationError, match="length"):
            store.query(CTX, [1e30, 1.0])
        assert [hit.id for hit in store.query(CTX, [1.0, 2.0], 5)] == ["a"]
