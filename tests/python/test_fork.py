"""After a fork: what the parent opened is refused, opening anew works, the parent goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import run_script

SCRIPT = """
import gc, os, sys
import sop
from sop import btree

ctx = sop.Context()
folder = sys.argv[1]
options = sop.TransactionOptions(stores_folders=[folder])
db = sop.ai.VectorDatabase(ctx, storage_path=folder)
vectors = db.open(ctx, "v")
vectors.upsert(ctx, sop.ai.Item("a", [1.0]))
with sop.Transaction(ctx, options) as t:
    btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).add(ctx, "parent", 1)
open_one = db.begin_transaction(ctx)
open_store = btree.Btree.open(ctx, "s", open_one)
open_store.add(ctx, "later", 1)

def refused(call):
    try:
        call()
    except sop.ForkedHandleError as error:
        assert error.code == 61
        return
    raise AssertionError("not refused")

child = os.fork()
if child == 0:
    try:
        refused(lambda: db.begin_transaction(ctx))
        refused(lambda: vectors.count(ctx))
        refused(lambda: open_store.count(ctx))
        refused(lambda: open_one.commit(ctx))
        with sop.Transaction(ctx, options) as t:
            store = btree.Btree.open(ctx, "s", t)
            assert store.find_one(ctx, "parent").value == 1
            store.add(ctx, "child", 2)
        fresh = sop.Database(sop.Context(), storage_path=folder)
        with fresh.begin_transaction(ctx) as t:
            assert btree.Btree.open(ctx, "s", t).count() == 2
        del open_one, open_store, db, vectors
        gc.collect()
        print("child ok", flush=True)
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
_, status = os.waitpid(child, 0)
assert status == 0
open_one.commit(ctx)
with db.begin_transaction(ctx) as t:
    assert sorted(btree.Btree.open(ctx, "s", t).keys(ctx)) == ["child", "later", "parent"]
assert vectors.count(ctx) == 1
print("parent ok")
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_fork(tmp_path: Path) -> None:
    script = tmp_path / "forks.py"
    script.write_text(SCRIPT)
    assert run_script(script, str(tmp_path / "db")).splitlines() == ["child ok", "parent ok"]


def test_multiprocessing_with_objects_made_before_the_fork(tmp_path: Path) -> None:
    """A context and an unused database of the parent work in the children."""
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing, sys, sop\n"
        "from sop import btree\n"
        "ctx = sop.Context()\n"
        "db = sop.Database(ctx, storage_path=sys.argv[1])\n"
        "def add(n):\n"
        "    with db.begin_transaction(ctx) as t:\n"
        "        return btree.Btree.new(ctx, btree.BtreeOptions('s', True), t).add(ctx, n, n)\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "        assert all(pool.map(add, range(20)))\n"
        "    with db.begin_transaction(ctx) as t:\n"
        "        print(btree.Btree.open(ctx, 's', t).count())\n"
    )
    assert run_script(script, str(tmp_path / "db")) == "20\n"
