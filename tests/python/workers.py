"""Programs that the tests run in processes of their own: workers.py TASK FOLDER ARGUMENTS."""

from __future__ import annotations

import os
import random
import sys
import time

from sop import Context, Database, TransactionError, TransactionMode, btree

ROWS_PER_COMMIT = 5


def in_transaction(ctx: Context, db: Database, work) -> None:
    """Runs work(t) in a transaction, again after a conflict."""
    attempt = 0
    while True:
        try:
            with db.begin_transaction(ctx) as t:
                work(t)
            return
        except TransactionError as error:
            if not error.retryable:
                raise
            attempt += 1
            time.sleep(random.uniform(0, 0.0005 * min(attempt, 20)))


def make_store(folder: str) -> None:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db, db.begin_transaction(ctx) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).add(ctx, "counter", 0)


def add_disjoint(folder: str, worker: str, count: str) -> None:
    """One-key transactions that no other worker's touch: none may fail."""
    ctx = Context()
    db = Database(ctx, storage_path=folder)
    for row in range(int(count)):
        with db.begin_transaction(ctx) as t:
            assert btree.Btree.open(ctx, "s", t).add(ctx, f"{worker}-{row}", row)


def count_up(folder: str, count: str) -> None:
    ctx = Context()
    db = Database(ctx, storage_path=folder)

    def increment(t) -> None:
        store = btree.Btree.open(ctx, "s", t)
        store.update(ctx, "counter", store.find_one(ctx, "counter").value + 1)

    for _ in range(int(count)):
        in_transaction(ctx, db, increment)


def commit_until_killed(folder: str, journal: str, seed: str) -> None:
    """Commits rows of one number, then notes the number in the journal, for ever."""
    dice = random.Random(int(seed))
    ctx = Context()
    db = Database(ctx, storage_path=folder)
    with db.begin_transaction(ctx) as t:
        store = btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
        last = next(store.keys(ctx, reverse=True), [0])[0]
    acknowledged = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(last + 1, sys.maxsize):
        with db.begin_transaction(ctx) as t:
            store = btree.Btree.open(ctx, "s", t)
            size = dice.choice((10, 10, 100, 3_000, 20_000))
            rows = [btree.Item([number, row], str(number) * size) for row in range(ROWS_PER_COMMIT)]
            assert store.add(ctx, rows)
        os.write(acknowledged, f"{number}\n".encode())


def overwrite_until_killed(folder: str) -> None:
    """Writes the same number under all keys of two B-trees in each transaction, for ever."""
    ctx = Context()
    db = Database(ctx, storage_path=folder, memory_limit=16 << 20)
    for number in range(sys.maxsize):
        with db.begin_transaction(ctx) as t:
            for name in ("one", "two"):
                store = btree.Btree.new(ctx, btree.BtreeOptions(name, True), t)
                store.upsert(ctx, [btree.Item(key, [number, "x" * 1000]) for key in range(100)])
        if number == 0:
            print("ready", flush=True)


def report(folder: str) -> None:
    """Prints the numbers whose rows are there, and fails for one that is not whole."""
    ctx = Context()
    db = Database(ctx, storage_path=folder)
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        store = btree.Btree.open(ctx, "s", t)
        rows: dict[int, list[int]] = {}
        for item in store.items(ctx):
            number, row = item.key
            assert set(item.value) <= set(str(number)), item.key
            assert len(item.value) % len(str(number)) == 0, item.key
            rows.setdefault(number, []).append(row)
        assert store.count() == ROWS_PER_COMMIT * len(rows)
    for number, found in rows.items():
        assert found == list(range(ROWS_PER_COMMIT)), number
        print(number)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
