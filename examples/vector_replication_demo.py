"""Drives may die: vectors over three drives, any one of which may be lost, and a mirrored folder.

Run: PYTHONPATH=python python3 examples/vector_replication_demo.py [folder]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from sop import Context, ErasureCodingConfig
from sop.ai import Item, VectorDatabase

ROWS = 2_000


def open_database(ctx: Context, place: Path) -> VectorDatabase:
    """In production each folder is on a drive of its own, mounted where you like: no path is stored."""
    drives = [str(place / f"drive{number}") for number in range(3)]
    return VectorDatabase(
        ctx,
        stores_folders=[str(place / "active"), str(place / "passive")],
        erasure_config={"": ErasureCodingConfig(2, 1, drives, repair_corrupted_shards=True)},
    )


def main(place: Path) -> None:
    ctx = Context()
    with open_database(ctx, place) as vdb:
        store = vdb.open(ctx, "drinks")
        store.upsert_batch(
            ctx, [Item(f"drink {row}", [row % 97, row % 89, row % 83], {"row": row}) for row in range(ROWS)]
        )
        store.optimize(ctx)
        print(f"{store.count(ctx)} vectors over 3 drives: {vdb.status(ctx).summary}")

    shutil.rmtree(place / "drive1")
    (place / "drive1").mkdir()
    print("drive 1 died, and an empty one is in its place")

    with open_database(ctx, place) as vdb:
        store = vdb.open(ctx, "drinks")
        hit = store.query(ctx, vector=[5, 5, 5], k=1)[0]
        print(f"reads go on: {hit.id} is found, {store.count(ctx)} vectors are there")
        store.upsert(ctx, Item("a new one", [1.0, 2.0, 3.0], {}))
        print(f"so do writes: {vdb.status(ctx).summary}")
        repaired = vdb.repair(ctx)
        print(f"rebuilt {repaired.rebuilt} shards on the new drive: {vdb.status(ctx).summary}")
        print(f"scrubbed: {len(vdb.scrub(ctx).findings)} findings")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
