"""The fastest documented calls of this package, for the key-value benchmark (OURS_ADAPTER names this file).

The benchmark runs this file in its own namespace, which has `Peer`.
"""

import os


class Ours(Peer):  # noqa: F821
    """A `sop.Map` on one B-tree."""

    venv = None
    durable_name = "Durability.Full"
    relaxed_name = "Durability.Relaxed"
    codec = "own"

    def __init__(self, path, kind="int", durable=True, create=True):
        import sop

        os.makedirs(path, exist_ok=True)
        self.sop, self.kind = sop, kind
        self.context = sop.Context()
        self.database = sop.Database(self.context, path)
        durability = sop.Durability.Full if durable else sop.Durability.Relaxed
        self.map = self.database.open_map(self.context, "t", *self._options(kind, create), durability)
        self.get, self.mget, self.page = self.map.get, self.map.get_many, self.map.page
        self._put, self._put_many = self.map.put, self.map.put_many

    def _options(self, kind, create):
        if kind != "comp" or not create:
            return None, None
        from sop.btree import BtreeOptions, IndexFieldSpecification, IndexSpecification

        fields = [IndexFieldSpecification(name) for name in ("region", "dept", "id")]
        return BtreeOptions("t", is_unique=True, is_primitive_key=False), IndexSpecification(fields)

    def version(self):
        return self.sop.__version__

    def load(self, items, seq=False):
        self._put_many(items)

    def put(self, items):
        if len(items) == 1:
            self._put(*items[0])
        else:
            self._put_many(items)

    def get_tx(self, keys):
        mode = self.sop.TransactionMode.ForReading
        with self.database.begin_transaction(self.context, mode=mode) as transaction:
            get = self.map.with_transaction(transaction).get
            for key in keys:
                get(key)

    def scan(self):
        count = 0
        for _ in self.map.items():
            count += 1
        return count

    def rmw(self, key):
        self.map.modify(key, _increment, {"n": 0})
        return 0

    def close(self):
        self.database.close()


def _increment(value):
    return {"n": value["n"] + 1}
