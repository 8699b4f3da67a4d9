"""Vectors: calls that commit by themselves, explicit transactions, filters, optimize, clusters.

Run: PYTHONPATH=python python3 examples/vector_demo.py [folder]
"""

from __future__ import annotations

import random
import sys
import tempfile

from sop import Context
from sop.ai import DBType, Hit, Item, UsageMode, VectorDatabase

CATEGORIES = ("tea", "coffee", "cocoa")


def drinks(count: int) -> list[Item]:
    """Vectors around one centre for each category."""
    dice = random.Random(1)
    items = []
    for number in range(count):
        category = number % len(CATEGORIES)
        vector = [dice.gauss(0, 0.1) for _ in range(8)]
        vector[category] += 1.0
        items.append(Item(f"drink_{number}", vector, {"category": CATEGORIES[category], "number": number}))
    return items


def main(folder: str) -> None:
    ctx = Context()
    vdb = VectorDatabase(
        ctx,
        storage_path=folder,
        usage_mode=UsageMode.DynamicWithVectorCountTracking,
        db_type=DBType.Standalone,
    )
    with vdb:
        store = vdb.open(ctx, "drinks")
        store.upsert_batch(ctx, drinks(300))
        print(f"stored, each call a commit of its own: {store.count(ctx)} vectors")

        with vdb.begin_transaction(ctx) as t:
            inside = store.with_transaction(t)
            inside.upsert(ctx, Item("sample", [0.0, 1.0, 0, 0, 0, 0, 0, 0], {"category": "coffee"}))
            inside.delete(ctx, "drink_0")
        print(f"after a transaction: {store.count(ctx)} vectors")

        try:
            with vdb.begin_transaction(ctx) as t:
                store.with_transaction(t).delete(ctx, "sample")
                raise RuntimeError("changed my mind")
        except RuntimeError:
            print(f"after a rollback the sample is there: {store.get(ctx, 'sample').payload}")

        hits = store.query(ctx, vector=[0.1, 1.0, 0.1, 0, 0, 0, 0, 0], k=3)
        print(f"nearest to coffee: {hits[0].id}; all coffee: {all_in(hits, 'coffee')}")
        hits = store.query(ctx, vector=[0.1, 1.0, 0.1, 0, 0, 0, 0, 0], k=3, filter={"category": "tea"})
        print(f"only tea: {len(hits)} hits; all tea: {all_in(hits, 'tea')}")

        store.optimize(ctx)
        print(f"after optimize: {store.stats(ctx).count} vectors, {store.stats(ctx).dimension} numbers each")


def all_in(hits: list[Hit], category: str) -> bool:
    return all(hit.payload["category"] == category for hit in hits)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
