"""Runs the published Python wrapper of 2.0.17, unmodified, over this library.

Run: python3 tests/campaigns/published_wrapper.py UNPACKED_WHEEL LIBRARY

UNPACKED_WHEEL is a folder with the `sop` package of the wheel (`pip download sop4py==2.0.17 --no-deps`, then
unzip); LIBRARY is the libjsondb of this repository. The package is copied to a temporary folder, where the
library takes the place of the one it brought. The wheel lacks `sop/ai/langchain.py`, which it imports: a
stand-in is added.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

STAND_IN = "class SOPVectorStore:\n    pass\n"

PROGRAM = r"""
import sys
from sop import ai, btree, call_go, context, transaction
from sop.ai import Item, Model, ModelStore
from sop.btree import Btree, BtreeOptions, CacheConfig, PagingInfo, PagingDirection

folder = sys.argv[1]
ctx = context.Context()
assert ctx.is_valid() and ctx.error() is None
db = ai.Database(ctx, storage_path=folder)

def keys(items):
    return [item.key for item in items]

# B-trees: create, add, find, get_values, get_items paging, update, remove
t = db.begin_transaction(ctx)
made = BtreeOptions("users", True, cache_config=CacheConfig())
made.set_value_data_size(btree.ValueDataSize.Small)
users = Btree.new(ctx, made, t)
assert users.add(ctx, [btree.Item(n, f"user {n}") for n in range(10)])
assert not users.add(ctx, btree.Item(3, "again"))
assert not users.add_if_not_exists(ctx, [btree.Item(3, "again")])
assert users.upsert(ctx, btree.Item(10, None))
assert users.update(ctx, [btree.Item(4, "four")])
assert users.remove(ctx, [10]) and not users.remove(ctx, 99)
t.commit(ctx)

with db.begin_transaction(ctx, mode=transaction.TransactionMode.ForReading.value) as t:
    users = Btree.open(ctx, "users", t)
    assert users.count() == 10 and users.is_unique()
    assert users.find(ctx, 4) and not users.find(ctx, 44)
    found = users.get_values(ctx, [btree.Item(4), btree.Item(44)])
    assert [item.value for item in found] == ["four", None], found
    assert users.first(ctx)
    assert keys(users.get_items(ctx, PagingInfo(0, 4))) == [0, 1, 2, 3]
    assert keys(users.get_keys(ctx, PagingInfo(0, 4))) == [4, 5, 6, 7]
    assert users.first(ctx)
    assert keys(users.get_items(ctx, PagingInfo(1, 4))) == [4, 5, 6, 7]
    assert users.last(ctx)
    backward = PagingInfo(0, 2, direction=PagingDirection.Backward.value)
    assert keys(users.get_items(ctx, backward)) == [9, 8]
    users.find(ctx, 2)
    item = users.get_items(ctx, PagingInfo(0, 1))[0]
    assert users.find_with_id(ctx, 2, item.id)
    info = users.get_store_info()
    assert (info.name, info.is_unique, info.slot_length) == ("users", True, 500), info

# Rollback, conflicts and errors
t = db.begin_transaction(ctx)
Btree.open(ctx, "users", t).add(ctx, btree.Item(77, "lost"))
t.rollback(ctx)
for wrong in (lambda t: t.commit(ctx), lambda t: t.rollback(ctx)):
    try:
        wrong(t)
    except transaction.TransactionError as error:
        assert "transaction" in str(error), error
    else:
        raise AssertionError("an ended transaction was used")
with db.begin_transaction(ctx) as t:
    assert not Btree.open(ctx, "users", t).find(ctx, 77)
t = db.begin_transaction(ctx)
try:
    Btree.open(ctx, "nothing", t)
except btree.BtreeError as error:
    assert "nothing" in str(error), error
else:
    raise AssertionError("opened a store that is not there")
one, two = db.begin_transaction(ctx), db.begin_transaction(ctx)
for number, t in enumerate((one, two)):
    assert Btree.open(ctx, "users", t).update(ctx, btree.Item(1, number))
one.commit(ctx)
try:
    two.commit(ctx)
except transaction.TransactionError:
    pass
else:
    raise AssertionError("two writers of one item both committed")

# Vectors
with db.begin_transaction(ctx) as t:
    products = db.open_vector_store(ctx, t, "products")
    products.upsert(ctx, Item("a", [0.1, 0.5, 0.9], {"name": "Laptop"}))
    phone, other = Item("b", [0.9, 0.1, 0.1], {"name": "Phone"}), Item("c", [0.8, 0.2, 0.1], {})
    products.upsert_batch(ctx, [phone, other])
    products.delete(ctx, "c")
    products.delete(ctx, "unknown")
with db.begin_transaction(ctx) as t:
    products = db.open_vector_store(ctx, t, "products")
    assert products.count(ctx) == 2
    item = products.get(ctx, "a")
    assert (item.id, item.payload, len(item.vector)) == ("a", {"name": "Laptop"}, 3), item
    hits = products.query(ctx, vector=[0.1, 0.5, 0.8], k=5)
    assert [hit.id for hit in hits] == ["a", "b"] and hits[0].score > 0.99, hits
    assert [hit.id for hit in products.query(ctx, [0.1, 0.5, 0.8], 5, {"name": "Phone"})] == ["b"]
    try:
        products.get(ctx, "c")
    except Exception as error:
        assert "not found" in str(error), error
    else:
        raise AssertionError("a deleted vector was found")
    products.optimize(ctx)
with db.begin_transaction(ctx) as t:
    assert db.open_vector_store(ctx, t, "products").count(ctx) == 2

# Models
with db.begin_transaction(ctx) as t:
    for models in (db.open_model_store(ctx, t, "models"), ModelStore.open_btree_store(ctx, t)):
        models.save(ctx, "classifiers", "churn", Model("m1", "forest", {"trees": 1}, [0.5], {"a": 1.0}, True))
        models.save(ctx, "classifiers", "other", {"id": "m2"})
        assert models.list(ctx, "classifiers") == ["churn", "other"]
        models.delete(ctx, "classifiers", "other")
        assert models.list(ctx, "nothing") == []
with db.begin_transaction(ctx) as t:
    models = db.open_model_store(ctx, t, "models")
    assert models.get(ctx, "classifiers", "churn")["id"] == "m1"
    try:
        models.get(ctx, "classifiers", "other")
    except Exception as error:
        assert "model not found" in str(error), error
    else:
        raise AssertionError("a deleted model was found")

# Contexts
other = context.Context()
t = db.begin_transaction(other)
other.cancel()
assert not other.is_valid() and "not found" in other.error()
try:
    t.commit(other)
except transaction.TransactionError as error:
    assert "context" in str(error), error
else:
    raise AssertionError("committed with a cancelled context")
t.rollback(ctx)
db.close(ctx)
print("ok")
"""


def library_name() -> str:
    """The name by which the wrapper looks for its library on this machine."""
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "amd64"
    return f"libjsondb_{machine}" + ("darwin.dylib" if sys.platform == "darwin" else "linux.so")


def main(wheel: str, library: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary, "sop")
        shutil.copytree(Path(wheel, "sop"), package, ignore=shutil.ignore_patterns("libjsondb_*"))
        shutil.copy(library, package / library_name())
        if not (package / "ai" / "langchain.py").exists():
            (package / "ai" / "langchain.py").write_text(STAND_IN)
        program = Path(temporary, "program.py")
        program.write_text(PROGRAM)
        subprocess.run(
            [sys.executable, str(program), str(Path(temporary, "data"))],
            env={**os.environ, "PYTHONPATH": temporary},
            check=True,
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
