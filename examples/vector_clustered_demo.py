"""Clustered: built Standalone, opened by several processes (or machines) at once, then by one alone again.

Needs a Redis server: at redis://localhost:6379, or where REDIS_URL says.
Run: PYTHONPATH=python python3 examples/vector_clustered_demo.py [folder]
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile

from sop import ConflictError, Context, LockedError, Redis
from sop.ai import DBType, Item, VectorDatabase

WORKERS = 3
VOTES = 20


def connect() -> None:
    """Without this call Clustered looks for Redis at redis://localhost:6379."""
    url = os.environ.get("REDIS_URL")
    if url:
        Redis.open_connection(url)


def serve(folder: str, worker: int) -> None:
    """One process of the cluster, here or on another machine. A vote is read and written in a transaction."""
    connect()
    ctx = Context()
    with VectorDatabase(ctx, storage_path=folder, db_type=DBType.Clustered) as vdb:
        store = vdb.open(ctx, "drinks")
        store.upsert(ctx, Item(f"of worker {worker}", [0.0, float(worker)], {"worker": worker}))
        for _ in range(VOTES):
            while True:
                try:
                    with vdb.begin_transaction(ctx) as t:
                        inside = store.with_transaction(t)
                        tea = inside.get(ctx, "tea")
                        votes = tea.payload["votes"] + 1
                        inside.upsert(ctx, Item("tea", tea.vector, {"votes": votes}))
                    break
                except ConflictError:
                    pass  # another process voted first: run it again


def main(folder: str) -> None:
    connect()
    ctx = Context()
    with VectorDatabase(ctx, storage_path=folder, db_type=DBType.Standalone) as vdb:
        vdb.open(ctx, "drinks").upsert(ctx, Item("tea", [1.0, 0.0], {"votes": 0}))
        print("built by one process, without Redis")
        try:
            with VectorDatabase(ctx, storage_path=folder, db_type=DBType.Clustered) as second:
                second.open(ctx, "drinks").count(ctx)
        except LockedError:
            print("while it is open Standalone it is not opened Clustered")

    with VectorDatabase(ctx, storage_path=folder, db_type=DBType.Clustered) as vdb:
        print(f"promoted: {vdb.open(ctx, 'drinks').count(ctx)} vector")
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=serve, args=(folder, number)) for number in range(1, WORKERS + 1)]
        for process in workers:
            process.start()
        for process in workers:
            process.join()
        store = vdb.open(ctx, "drinks")
        tea = store.get(ctx, "tea")
        print(f"after {WORKERS} processes: {store.count(ctx)} vectors, {tea.payload['votes']} votes")

    with VectorDatabase(ctx, storage_path=folder, db_type=DBType.Standalone) as vdb:
        hit = vdb.open(ctx, "drinks").query(ctx, vector=[1.0, 0.1], k=1)[0]
        print(f"and Standalone again: nearest is {hit.id}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
