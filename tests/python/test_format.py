"""libjsondb/docs/format.md is true, and enough to read a database by: format_reader.py does."""

from __future__ import annotations

import shutil
from array import array
from pathlib import Path
from typing import Any

import pytest

from format_reader import Reader
from redis_server import RedisServer
from sop import Context, DBType, ErasureCodingConfig, Redis, btree
from sop.ai import Item, Metric, VectorDatabase

NUMBERS = [0, -1, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1, -(2**63), 0.5, -1e-300, 1e300]
BTREES = ("keys", "fields", "twice", "large")
KEYS = [None, False, True, *NUMBERS, "", "a\0b", "é", [], [1, "x"], {}, {"b": [None], "a": {"c": 1}}]


def fill(ctx: Context, db: VectorDatabase) -> None:
    """Something of everything: in a tree, in runs, and in the log behind."""
    spec = btree.IndexSpecification(
        [btree.IndexFieldSpecification("a", ascending_sort_order=False), btree.IndexFieldSpecification("b")]
    )
    with db.begin_transaction(ctx) as t:
        keys = db.new_btree(ctx, "keys", t, btree.BtreeOptions("keys", is_unique=True))
        keys.add(ctx, [btree.Item(key, [number, "é"]) for number, key in enumerate(KEYS)])
        fields = db.new_btree(
            ctx, "fields", t, btree.BtreeOptions("fields", True, is_primitive_key=False), spec
        )
        fields.add(ctx, [btree.Item({"b": n % 3, "a": f"\0{n}", "more": n}, n) for n in range(50)])
        fields.add(ctx, [btree.Item({"a": -n}, n) for n in range(5)])
        twice = db.new_btree(ctx, "twice", t)
        twice.add(ctx, [btree.Item(n % 3, n) for n in range(9)])
    large = db.open_map(ctx, "large")
    large.put_many((n, {"n": n, "text": f"{n:0120}"}) for n in range(40_000))  # a run
    large.put_many((n, "x" * n * 100) for n in range(100, 900, 100))  # references
    with db.open(ctx, "v", metric=Metric.L2) as vectors:
        vectors.upsert_batch(ctx, [Item(f"id{n}", [n / 7, -n, 1e-3], {"n": n}) for n in range(300)])
        vectors.upsert(ctx, Item("mine", [1.0, 2.0, 3.0], centroid_id=77))
        vectors.delete(ctx, [f"id{n}" for n in range(0, 300, 2)])
    models = db.open_model_store(ctx, "m")
    models.save(ctx, "c\0", "n", {"version": 1})
    models.save(ctx, "c\0", "n", {"version": 2}, bytes(range(256)) * 5000)
    db.compact(ctx)
    large.put_many({1: "newer", 40_001: "new"})
    large.remove_many([2, 3])
    with db.begin_transaction(ctx) as t:
        db.open_btree(ctx, "keys", t).update(ctx, None, "changed")


def told(ctx: Context, db: VectorDatabase) -> dict[str, Any]:
    """What the library reads."""
    with db.begin_transaction(ctx) as t:
        items = {
            name: [(item.key, item.value) for item in db.open_btree(ctx, name, t).items(ctx)]
            for name in BTREES
        }
        vectors = db.open_vector_store(ctx, t, "v")
        ids = [f"id{n}" for n in range(1, 300, 2)] + ["mine"]
        rows = {id: vectors.get(ctx, id) for id in ids}
        models = db.open_model_store(ctx, t, "m")
        artifact = models.artifact(ctx, "c\0", "n", 2)
        return {
            **items,
            "v": {
                id: (list(array("f", row.vector)), row.payload, row.centroid_id) for id, row in rows.items()
            },
            "m": {("c\0", "n", 1): ({"version": 1}, None), ("c\0", "n", 2): ({"version": 2}, artifact)},
        }


def read(folder: Path, drives: list[Path]) -> dict[str, Any]:
    reader = Reader(folder, drives)
    items = {name: reader.btree(name) for name in BTREES}
    for name, found in items.items():
        assert reader.counter(reader.stores()[f"b/{name}"][0]) == len(found)
    return {**items, "v": reader.vectors("v"), "m": reader.models("m")}


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("kind", ["standalone", "clustered", "mirrored", "coded"])
def test_a_stranger_can_read_it(
    kind: str, is_closed: bool, ctx: Context, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    drives = [tmp_path / f"drive{n}" for n in range(3)] if kind == "coded" else []
    options: dict[str, Any] = {"storage_path": tmp_path / "db"}
    if kind == "clustered":
        server: RedisServer = request.getfixturevalue("redis_server")
        Redis.open_connection(server.url)
        options["db_type"] = DBType.Clustered
    elif kind == "mirrored":
        options = {"stores_folders": [tmp_path / "db", tmp_path / "mirror"]}
    elif kind == "coded":
        options["erasure_config"] = {"": ErasureCodingConfig(2, 1, [str(drive) for drive in drives])}
    with VectorDatabase(ctx, **options) as db:
        fill(ctx, db)
        expected = told(ctx, db)
        if is_closed:
            db.close(ctx)
        shutil.copytree(tmp_path / "db", tmp_path / "still")
        found = read(tmp_path / "still", drives)
    for name, items in expected.items():
        assert repr(found[name]) == repr(items) if name == "keys" else found[name] == items, name
