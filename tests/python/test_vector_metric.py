"""Metrics of vector stores: scores, order, and that a store keeps its own."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from sop import Context, ValidationError
from sop.ai import Item, Metric, VectorDatabase, VectorStore


def score(metric: Metric, one: list[float], two: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, two))
    if metric is Metric.Dot:
        return dot
    if metric is Metric.L2:
        return -math.dist(one, two)
    return dot / (math.hypot(*one) * math.hypot(*two))


@pytest.mark.parametrize("metric", list(Metric))
def test_hits_come_by_falling_score_of_the_metric(ctx: Context, tmp_path: Path, metric: Metric) -> None:
    dice = random.Random(8)
    rows = {f"r{row}": [dice.gauss(0, 1) * dice.choice([0.1, 1, 9]) for _ in range(6)] for row in range(400)}
    with VectorDatabase(ctx, storage_path=tmp_path) as vdb:
        store = vdb.open(ctx, "s", metric=metric)
        store.upsert_batch(ctx, [Item(id, vector) for id, vector in rows.items()])
        for _ in range(2):
            for probe in [[dice.gauss(0, 2) for _ in range(6)] for _ in range(5)] + [rows["r7"]]:
                expected = sorted(rows, key=lambda name: -score(metric, rows[name], probe))[:10]
                for exact in (False, True):
                    hits = store.query(ctx, probe, exact=exact)
                    assert [hit.id for hit in hits] == expected
                    scores = [score(metric, rows[id], probe) for id in expected]
                    assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-4, abs=1e-4)
                ids, found = store.query_arrays(ctx, [probe], 10)
                assert ids == [expected]
                assert found[0] == pytest.approx(scores, rel=1e-4, abs=1e-4)
            store.optimize(ctx)
    with VectorDatabase(ctx, storage_path=tmp_path) as vdb:
        again = vdb.open(ctx, "s").query(ctx, rows["r7"], 1)[0]
        assert again.score == pytest.approx(score(metric, rows["r7"], rows[again.id]), rel=1e-4, abs=1e-4)


def test_a_store_keeps_the_metric_it_was_made_with(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path) as vdb:
        vdb.open(ctx, "s", metric=Metric.L2).upsert(ctx, Item("a", [3.0, 4.0]))
        vdb.open(ctx, "cosine").upsert(ctx, Item("a", [3.0, 4.0]))
        for name, metric in (("s", None), ("s", Metric.L2), ("cosine", None), ("cosine", Metric.Cosine)):
            assert vdb.open(ctx, name, metric).count(ctx) == 1
        other = vdb.open(ctx, "s", Metric.Dot)
        for call in (
            lambda store: store.upsert(ctx, Item("b", [1.0, 1.0])),
            lambda store: store.query(ctx, [1.0, 1.0]),
            lambda store: store.query_arrays(ctx, [[1.0, 1.0]], 1),
            lambda store: store.get(ctx, "a"),
            lambda store: store.delete(ctx, "a"),
        ):
            with pytest.raises(ValidationError, match="made with the metric L2"):
                call(other)
        with pytest.raises(ValidationError, match="made with the metric Cosine"):
            vdb.open(ctx, "cosine", Metric.L2).query(ctx, [1.0, 1.0])
        with vdb.begin_transaction(ctx) as t:
            inside = vdb.open_vector_store(ctx, t, "s", Metric.L2)
            assert inside.query(ctx, [0.0, 0.0])[0].score == -5
        t = vdb.begin_transaction(ctx)
        with pytest.raises(ValidationError, match="made with the metric L2"):
            other.with_transaction(t).upsert(ctx, Item("b", [1.0, 1.0]))
        assert vdb.open(ctx, "s").count(ctx) == 1


@pytest.mark.parametrize("metric", [3, -1, "cosine", 1.5])
def test_metrics_that_are_none(ctx: Context, tmp_path: Path, metric: object) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path) as vdb:
        with pytest.raises(ValidationError, match="metric must be a sop.ai.Metric"):
            vdb.open(ctx, "s", metric=metric)


def test_the_zero_vector_has_a_score(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path) as vdb:
        for metric in Metric:
            store: VectorStore = vdb.open(ctx, metric.name, metric=metric)
            store.upsert_batch(ctx, [Item("zero", [0.0, 0.0]), Item("one", [1.0, 0.0])])
            for probe in ([0.0, 0.0], [2.0, 0.0]):
                scores = {hit.id: hit.score for hit in store.query(ctx, probe)}
                zero = -math.hypot(*probe) if metric is Metric.L2 else 0
                assert scores["zero"] == zero
                assert len(scores) == 2
