#!/usr/bin/env python3
"""Measures the vector index on data that has no clusters, and on a million rows.

    vector_scale.py uniform WORK                  100,000 x 128, uniform random numbers, L2
    vector_scale.py mixture WORK --rows 1000000 --centres base.f32.npy
                                                  rows around those of a file with noise, cosine

Rows are made in chunks, the same in every run, and never kept; WORK, which must not exist, holds the database
and is removed at the end. Loading, optimizing and querying are processes of their own. Needs NumPy.
"""

import argparse
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

CHUNK = 20_000
K = 10
QUERIES = 500
# Length of the noise beside centres of length 1.
NOISE = 0.6


def chunk(options, number, count):
    """The rows of one chunk. Number -1: the queries, of the same kind."""
    random = np.random.default_rng([7, number + 1])
    if options.data == "uniform":
        return random.random((count, 128), dtype=np.float32)
    centres = np.load(options.centres, mmap_mode="r")
    chosen = centres[np.sort(random.integers(0, len(centres), count))]
    noise = random.standard_normal(chosen.shape, dtype=np.float32)
    made = chosen + noise * np.float32(NOISE / chosen.shape[1] ** 0.5)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def chunks(options):
    """All rows: their first number, and they."""
    for number, start in enumerate(range(0, options.rows, CHUNK)):
        yield start, chunk(options, number, min(CHUNK, options.rows - start))


def scores(options, queries, rows):
    """The more the nearer."""
    products = queries @ rows.T
    if options.data == "uniform":
        products -= np.einsum("rd,rd->r", rows, rows) / 2
    return products


def truth(options, queries):
    """The numbers of the K nearest rows of each query."""
    best, ids = np.full((len(queries), K), -np.inf, np.float32), np.zeros((len(queries), K), np.int64)
    for start, rows in chunks(options):
        found = scores(options, queries, rows)
        near = np.argpartition(-found, K, axis=1)[:, :K]
        best = np.hstack([best, np.take_along_axis(found, near, 1)])
        ids = np.hstack([ids, near + start])
        order = np.argsort(-best, axis=1)[:, :K]
        best, ids = np.take_along_axis(best, order, 1), np.take_along_axis(ids, order, 1)
    return ids


def memory():
    """Megabytes of this process that are no file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon")


class Peak:
    """The most memory held meanwhile, beyond that at the beginning."""

    def __enter__(self):
        self.first = self.most = memory()
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        self.began, self.used = time.perf_counter(), time.process_time()
        return self

    def watch(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, memory())

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.began
        self.used = time.process_time() - self.used
        self.done.set()
        self.watcher.join()
        self.megabytes = self.most - self.first


def opened(options):
    """The store, and what must be kept for it."""
    import sop
    from sop.ai import Metric, VectorDatabase

    metric = Metric.L2 if options.data == "uniform" else Metric.Cosine
    context = sop.Context()
    database = VectorDatabase(context, storage_path=str(options.work / "db"))
    return context, database, database.open(context, "t", metric=metric)


def load(options):
    """Makes and stores the rows."""
    context, database, store = opened(options)
    made = used = 0.0
    with Peak() as peak:
        began, before = time.perf_counter(), time.process_time()
        for start, rows in chunks(options):
            made += time.perf_counter() - began
            used += time.process_time() - before
            ids = [str(number) for number in range(start, start + len(rows))]
            payloads = [{"tenth": number % 10} for number in range(start, start + len(rows))]
            store.upsert_arrays(context, ids, rows, payloads)
            began, before = time.perf_counter(), time.process_time()
    seconds, used = peak.seconds - made, peak.used - used
    print(f"load {seconds:.1f} s, {used:.1f} s of CPU, {peak.megabytes:.0f} MB at most with the rows' own")
    database.close(context)


def optimize(options):
    """Builds the index."""
    context, database, store = opened(options)
    store.count(context)
    with Peak() as peak:
        store.optimize(context)
    print(f"optimize {peak.seconds:.1f} s, {peak.used:.1f} s of CPU, {peak.megabytes:.0f} MB at most")
    database.close(context)


def query(options):
    """Recall and speed, one query at a time."""
    queries = chunk(options, -1, QUERIES)
    expected = truth(options, queries)
    before = memory()
    began = time.perf_counter()
    context, database, store = opened(options)
    store.query_arrays(context, queries[:1], K)
    print(f"open and first query {1000 * (time.perf_counter() - began):.1f} ms")
    for kwargs in (
        {},
        {"target_recall": 0.9},
        {"target_recall": 0.99},
        {"filter": {"tenth": 3}},
        {"exact": True},
    ):
        asked = queries[: 50 if "exact" in kwargs else QUERIES]
        if "filter" not in kwargs and "exact" not in kwargs:
            for vector in asked:
                store.query_arrays(context, vector[None], K, **kwargs)
        began = time.process_time()
        found = [store.query_arrays(context, vector[None], K, **kwargs)[0][0] for vector in asked]
        # Others may use the machine.
        rate = len(asked) / (time.process_time() - began)
        if "filter" in kwargs:
            recall = sum(sum(int(id) % 10 == 3 for id in ids) for ids in found) / len(asked) / K
            print(f"{kwargs}: {rate:.0f} queries per second of CPU, {recall:.3f} of {K} hits that pass")
            continue
        hits = sum(len(set(map(int, ids)) & set(right.tolist())) for ids, right in zip(found, expected))
        print(
            f"{kwargs or 'default'}: {rate:.0f} queries per second of CPU, recall {hits / len(asked) / K:.4f}"
        )
    print(f"memory to serve {memory() - before:.0f} MB")
    database.close(context)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", choices=("uniform", "mixture"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--centres", help="mixture: a .npy file of vectors of length 1")
    parser.add_argument("--phase", choices=("load", "optimize", "query"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        return {"load": load, "optimize": optimize, "query": query}[options.phase](options)
    options.work.mkdir(parents=True)
    try:
        for phase in ("load", "optimize", "query"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--phase", phase], check=True)
            used = sum(path.stat().st_size for path in options.work.rglob("*") if path.is_file())
            print(f"on disk {used / 1e6:.0f} MB after {phase}", flush=True)
    finally:
        shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
