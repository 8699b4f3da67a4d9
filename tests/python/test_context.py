"""Contexts: valid until cancelled, and what cancelling stops."""

from __future__ import annotations

import gc
import random
import threading
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

from conftest import count, seed
from sop import Context, ContextCancelledError, Database, TransactionMode, ValidationError, btree
from sop.ai import Item, VectorDatabase

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def test_a_new_context_is_valid() -> None:
    ctx = Context()
    assert ctx.is_valid()
    assert ctx.error() is None
    assert ctx.id > 0
    assert Context().id != ctx.id


def test_a_cancelled_context_says_so_and_can_be_cancelled_again() -> None:
    ctx = Context()
    ctx.cancel()
    ctx.cancel()
    assert not ctx.is_valid()
    assert "not found" in ctx.error()


def test_contexts_go_without_a_trace() -> None:
    for _ in range(1000):
        Context()
    gc.collect()
    assert Context().is_valid()


def test_calls_with_a_cancelled_context_fail_and_another_goes_on(ctx: Context, db: Database) -> None:
    mine = Context()
    t = db.begin_transaction(mine)
    store = btree.Btree.new(mine, btree.BtreeOptions("s", True), t)
    store.add(mine, 1, "one")
    mine.cancel()
    for call in (
        lambda: store.add(mine, 2, "two"),
        lambda: store.find_one(mine, 1),
        lambda: list(store.items(mine)),
        lambda: db.begin_transaction(mine),
        lambda: t.commit(mine),
    ):
        with pytest.raises(ContextCancelledError, match="context"):
            call()
    assert store.find_one(ctx, 1).value == "one"
    t.rollback(ctx)
    with db.begin_transaction(ctx) as t, pytest.raises(Exception, match="not found|does not exist|no "):
        btree.Btree.open(ctx, "s", t)


def test_a_with_block_whose_context_was_cancelled_stores_nothing(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
    mine = Context()
    with pytest.raises(ContextCancelledError), db.begin_transaction(mine) as t:
        btree.Btree.open(mine, "s", t).add(mine, 1, None)
        mine.cancel()
    with db.begin_transaction(ctx) as t:
        assert btree.Btree.open(ctx, "s", t).count() == 0


def test_the_context_argument_is_checked(db: Database) -> None:
    with pytest.raises(ValidationError, match="sop.Context"):
        db.begin_transaction("ctx")
    with db.begin_transaction(None) as t:
        assert t.begun


ROWS = 10_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorDatabase]:
    """So much in a B-tree and a vector store that calls on all of it take a while."""
    ctx = Context()
    folder = tmp_path_factory.mktemp("filled")
    with VectorDatabase(ctx, storage_path=folder, memory_limit=16 << 20) as vdb:
        with vdb.begin_transaction(ctx) as t:
            store = btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
            store.add(ctx, [btree.Item(row, "x" * 50) for row in range(ROWS)])
        vectors = vdb.open(ctx, "v")
        vectors.upsert_batch(ctx, [Item(f"{n}", [n % 7, n % 11, n % 13, n % 17]) for n in range(3000)])
        yield vdb


def write(vdb: VectorDatabase, mine: Context) -> None:
    with vdb.begin_transaction(mine) as t:
        items = [btree.Item(row, "cancelled") for row in range(ROWS)]
        btree.Btree.open(mine, "s", t).upsert(mine, items)


def commit(vdb: VectorDatabase, mine: Context) -> None:
    t = vdb.begin_transaction(None)
    btree.Btree.open(None, "s", t).upsert(None, [btree.Item(row, f"{mine.id}") for row in range(ROWS)])
    t.commit(mine)


def scan(vdb: VectorDatabase, mine: Context) -> None:
    with vdb.begin_transaction(mine, TransactionMode.ForReading) as t:
        assert len(list(btree.Btree.open(mine, "s", t).items(mine))) == ROWS


def page(vdb: VectorDatabase, mine: Context) -> None:
    with vdb.begin_transaction(mine, TransactionMode.ForReading) as t:
        store = btree.Btree.open(mine, "s", t)
        assert len(store.get_items(mine, btree.PagingInfo(page_size=ROWS))) == ROWS


def query(vdb: VectorDatabase, mine: Context) -> None:
    vdb.open(mine, "v").query_arrays(mine, [[1.0, 2.0, 3.0, 4.0]] * 2000, k=3, exact=True)


def optimize(vdb: VectorDatabase, mine: Context) -> None:
    vdb.open(mine, "v").optimize(mine)


@pytest.mark.parametrize("call", [write, commit, scan, page, query, optimize])
def test_cancelling_stops_a_running_call(
    filled: VectorDatabase, call: Callable[[VectorDatabase, Context], None]
) -> None:
    """At any moment, from another thread. Nothing is half stored, and the database goes on."""
    dice = random.Random(f"{seed()} {call.__name__}")
    seconds = 0.3
    for _ in range(count(2)):
        mine = Context()
        canceller = threading.Timer(dice.uniform(0, seconds), mine.cancel)
        began = time.monotonic()
        canceller.start()
        with pytest.raises(ContextCancelledError):
            while True:
                call(filled, mine)
        seconds = max(0.01, min(seconds, time.monotonic() - began))
        canceller.join()
        ctx = Context()
        with filled.begin_transaction(ctx) as t:
            store = btree.Btree.open(ctx, "s", t)
            assert store.count() == ROWS
            assert len(set(store.values(ctx))) == 1
        vectors = filled.open(ctx, "v")
        assert vectors.count(ctx) == 3000
        assert len(vectors.query(ctx, [1, 1, 1, 1], k=5)) == 5


@pytest.mark.skipif(fcntl is None, reason="holds a lock as another process would, with flock")
@pytest.mark.parametrize("name", ["LOCK", "CHECKPOINT"])
def test_cancelling_stops_a_commit_that_waits(ctx: Context, tmp_path: Path, name: str) -> None:
    """For another process's commit, or for its checkpoint while this one's memory is full."""
    with Database(ctx, storage_path=tmp_path, memory_limit=16 << 20) as db:
        with db.begin_transaction(ctx) as t:
            btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
        mine, acknowledged = Context(), []

        def cancel_once_it_waits() -> None:
            seen = None
            while seen != len(acknowledged):
                seen = len(acknowledged)
                time.sleep(1)
            mine.cancel()

        with open(tmp_path / "log" / name, "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            canceller = threading.Thread(target=cancel_once_it_waits)
            canceller.start()
            with pytest.raises(ContextCancelledError):
                for number in range(1000):
                    t = db.begin_transaction(ctx)
                    items = [btree.Item([number, row], "x" * 60_000) for row in range(10)]
                    btree.Btree.open(ctx, "s", t).add(ctx, items)
                    t.commit(mine)
                    acknowledged.append(number)
            canceller.join()
        with db.begin_transaction(ctx) as t:
            keys = list(btree.Btree.open(ctx, "s", t).keys(ctx))
            assert keys == [[number, row] for number in acknowledged for row in range(10)]
