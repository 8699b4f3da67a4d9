"""Contexts: valid until cancelled, and what cancelling stops."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from sop import Context, ContextCancelledError, Database, ValidationError, btree
from sop.ai import Item, VectorDatabase


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


def cancel_soon(ctx: Context, seconds: float) -> threading.Thread:
    def cancel() -> None:
        time.sleep(seconds)
        ctx.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread


def test_cancelling_stops_a_running_write(ctx: Context, db: Database) -> None:
    """One call that writes many items, cancelled while it runs on another thread."""
    mine = Context()
    items = [btree.Item(number, "x" * 100) for number in range(200_000)]
    t = db.begin_transaction(ctx)
    store = btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
    canceller = cancel_soon(mine, 0.05)
    with pytest.raises(ContextCancelledError):
        while True:
            store.upsert(mine, items)
    canceller.join()
    t.rollback(ctx)


def test_cancelling_stops_a_running_optimize(ctx: Context, tmp_path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path / "v") as vdb:
        store = vdb.open(ctx, "s")
        store.upsert_batch(ctx, [Item(f"{n}", [n % 7, n % 11, n % 13, n % 17]) for n in range(5000)])
        mine = Context()
        canceller = cancel_soon(mine, 0.02)
        with pytest.raises(ContextCancelledError):
            while True:
                store.optimize(mine)
        canceller.join()
        assert store.count(ctx) == 5000
        assert len(store.query(ctx, [1, 1, 1, 1], k=5)) == 5
