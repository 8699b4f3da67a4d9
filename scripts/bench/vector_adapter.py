"""The fastest documented calls of this package, for the vector benchmark (OURS_ADAPTER names this file).

The benchmark runs this file in its own namespace, which has `Peer`, `K` and `rows`.
"""

import os
import sys

# Rows per call while the benchmark loads.
_BATCH = 10_000


class Ours(Peer):  # noqa: F821
    """A vector store whose calls commit by themselves, durable when they return."""

    venv = os.environ.get("OURS_VENV", "ours")
    version_of = "sop"
    kind = "durable"
    batch = "search_batch"

    def _open(self):
        sys.path[:0] = [path for path in os.environ.get("SOP_PYTHONPATH", "").split(":") if path]
        import sop
        from sop.ai import VectorDatabase

        self.context = sop.Context()
        self.database = VectorDatabase(self.context, os.path.join(self.path, "s"))
        self.store = self.database.open(self.context, "t")

    def build(self, base, meta):
        self._open()
        for start in range(0, len(base), _BATCH):
            stop = min(start + _BATCH, len(base))
            self.insert(range(start, stop), base[start:stop], {name: meta[name][start:stop] for name in meta})
        self.store.optimize(self.context)

    def open(self):
        self._open()

    def sweep(self):
        # What is found by default first, then what other recalls cost, then numbers of clusters.
        recalls = [{"target_recall": recall} for recall in (0.8, 0.9, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)]
        return [{}, *recalls, *({"nprobe": nprobe} for nprobe in (8, 16, 32, 64, 128, 256))]

    def search(self, q, p, filt=None):
        return list(map(int, self.store.query_arrays(self.context, q[None], K, filt, **p)[0][0]))  # noqa: F821

    def search_batch(self, Q, p, threads):
        import numpy as np

        ids, _ = self.store.query_arrays(self.context, Q, K, threads=threads, **p)  # noqa: F821
        return np.asarray(ids).astype(np.int64)

    def insert(self, ids, vecs, meta):
        self.store.upsert_arrays(self.context, [str(id) for id in ids], vecs, rows(meta, 0, len(ids)))  # noqa: F821

    def delete(self, ids):
        self.store.delete(self.context, [str(id) for id in ids])

    def close(self):
        self.database.close()
