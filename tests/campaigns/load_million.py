"""Loads many items of 100 bytes in transactions of 1,000, and checks them in a new process.

Run: PYTHONPATH=python python3 tests/campaigns/load_million.py SLOT_LENGTH ascending|random [ITEMS] [FOLDER]

Prints the rate, the slowest commit (a stall would show there) and the size on disk.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sop import Context, Database, TransactionMode, btree

BATCH = 1000


def value_of(key: int) -> str:
    return f"{key:0100d}"


def load(folder: str, slot_length: int, order: str, count: int) -> None:
    keys = list(range(count))
    if order == "random":
        random.Random(1).shuffle(keys)
    ctx = Context()
    commits = []
    begun = time.perf_counter()
    with Database(ctx, storage_path=folder) as db:
        for start in range(0, count, BATCH):
            t = db.begin_transaction(ctx)
            store = btree.Btree.new(ctx, btree.BtreeOptions("items", True, slot_length), t)
            assert store.add(ctx, [btree.Item(key, value_of(key)) for key in keys[start : start + BATCH]])
            before = time.perf_counter()
            t.commit(ctx)
            commits.append(time.perf_counter() - before)
    seconds = time.perf_counter() - begun
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(
        f"loaded {count:,} items ({order}, slot_length {slot_length}) in {seconds:.1f} s, "
        f"{count / seconds:,.0f} per second; slowest commit {max(commits):.3f} s; "
        f"{size / 1e6:,.0f} MB on disk",
        flush=True,
    )


def check(folder: str, count: int) -> None:
    ctx = Context()
    begun = time.perf_counter()
    with Database(ctx, storage_path=folder) as db:
        with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
            store = btree.Btree.open(ctx, "items", t)
            opened = time.perf_counter()
            assert store.count() == count, store.count()
            expected = 0
            for item in store.items(ctx):
                assert item.key == expected, (item.key, expected)
                assert item.value == value_of(expected), item
                expected += 1
            assert expected == count, expected
            for key in random.Random(2).sample(range(count), 1000):
                assert store.find_one(ctx, key).value == value_of(key)
            assert not store.find(ctx, count)
    scanned = time.perf_counter() - opened
    print(f"reopened in {opened - begun:.3f} s, scanned in {scanned:.1f} s: all there, in order")


def main(slot_length: str, order: str, count: str = "1000000", folder: str | None = None) -> None:
    if order not in ("ascending", "random"):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        where = folder or temporary
        load(where, int(slot_length), order, int(count))
        subprocess.run([sys.executable, __file__, "--check", where, count], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2], int(sys.argv[3]))
    elif 3 <= len(sys.argv) <= 5:
        main(*sys.argv[1:])
    else:
        sys.exit(__doc__)
