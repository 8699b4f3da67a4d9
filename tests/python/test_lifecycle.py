"""Objects that are dropped, closed twice or used afterwards, by one thread or by many at once."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest

from conftest import count, seed
from sop import (
    Context,
    Database,
    Error,
    InvalidTransactionStateError,
    StorageError,
    Transaction,
    TransactionMode,
    TransactionOptions,
    btree,
)
from sop._library import native
from sop.ai import Item, VectorDatabase
from workers import in_transaction

THREADS = 32


def objects(folder: Path) -> dict[str, Any]:
    """One of each kind, with things left open in them."""
    ctx = Context()
    db = VectorDatabase(ctx, storage_path=folder)
    t = db.begin_transaction(ctx)
    store = btree.Btree.new(ctx, btree.BtreeOptions("s"), t)
    store.add(ctx, [btree.Item(row, row) for row in range(200)])
    vectors, models = db.open(ctx, "v"), db.open_model_store(ctx, "m")
    vectors.upsert(ctx, Item("a", [1.0]))
    models.save(ctx, "c", "n", {})
    rows = store.items(ctx)
    next(rows)
    made = {"ctx": ctx, "db": db, "t": t, "store": store, "vectors": vectors, "models": models}
    return {**made, "rows": rows, "inside": vectors.with_transaction(t)}


# Dropping


def test_objects_may_go_in_any_order(tmp_path: Path) -> None:
    """Not closed, not ended: what is left goes with the last that needs it."""
    gc.collect()
    before, dice = native.sop_handle_count(), random.Random(seed())
    for _ in range(count(20)):
        here = objects(tmp_path)
        for name in dice.sample(list(here), len(here)):
            del here[name]
            if dice.random() < 0.3:
                gc.collect()
        assert native.sop_handle_count() == before
    with Database(None, storage_path=tmp_path) as db, db.begin_transaction(None) as t:
        with pytest.raises(Error):
            btree.Btree.open(None, "s", t)


@pytest.mark.parametrize("kind", ["db", "t", "store", "vectors", "models", "rows", "inside"])
def test_what_is_used_last_keeps_what_it_needs(tmp_path: Path, kind: str) -> None:
    here = objects(tmp_path)
    kept = here[kind]
    here.clear()
    gc.collect()
    ctx = Context()
    use: dict[str, Callable[[], Any]] = {
        "db": lambda: kept.begin_transaction(ctx).rollback(ctx),
        "t": lambda: kept.commit(ctx),
        "store": lambda: kept.count(ctx),
        "vectors": lambda: kept.get(ctx, "a"),
        "models": lambda: kept.get(ctx, "c", "n"),
        "rows": lambda: list(kept),
        "inside": lambda: kept.count(ctx),
    }
    use[kind]()


def test_cycles_and_weak_references_keep_nothing(tmp_path: Path) -> None:
    gc.collect()
    before = native.sop_handle_count()
    here = objects(tmp_path)
    here["itself"] = here
    here["t"].keeps = here
    gone = [weakref.ref(here[name]) for name in ("ctx", "db", "t", "store", "vectors", "models")]
    del here
    gc.collect()
    assert [reference() for reference in gone] == [None] * len(gone)
    assert native.sop_handle_count() == before


def test_threads_drop_what_others_made(tmp_path: Path) -> None:
    gc.collect()
    before = native.sop_handle_count()

    def drop(round: int) -> None:
        here = objects(tmp_path / f"{round % 3}")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: here.pop(name) and None, list(here)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(drop, range(count(20))))
    gc.collect()
    assert native.sop_handle_count() == before


# Using what has ended


def test_use_after_close_is_an_error_and_closing_twice_is_none(tmp_path: Path) -> None:
    ctx, here = Context(), objects(tmp_path)
    db, t, store = here["db"], here["t"], here["store"]
    db.close(ctx)
    db.close(ctx)
    closed = [
        lambda: store.count(ctx),
        lambda: list(here["rows"]),
        lambda: here["inside"].count(ctx),
        lambda: here["vectors"].count(ctx),
        lambda: here["models"].list(ctx, "c"),
        lambda: t.commit(ctx),
    ]
    for call in closed:
        with pytest.raises((StorageError, InvalidTransactionStateError), match="closed|ended"):
            call()
    with pytest.raises(InvalidTransactionStateError):
        t.rollback(ctx)
    # The database itself opens anew.
    assert db.open(ctx, "v").count(ctx) == 1


@pytest.mark.parametrize("end", [Transaction.commit, Transaction.rollback])
def test_use_after_the_end_of_a_transaction_is_an_error(tmp_path: Path, end: Callable) -> None:
    here = objects(tmp_path)
    ctx, t, store = here["ctx"], here["t"], here["store"]
    end(t, ctx)
    calls = [
        lambda: store.count(ctx),
        lambda: store.add(ctx, 1, 1),
        lambda: list(here["rows"]),
        lambda: store.first(ctx),
        lambda: here["inside"].upsert(ctx, Item("b", [1.0])),
        lambda: btree.Btree.open(ctx, "s", t),
        t.begin,
        lambda: t.commit(ctx),
        lambda: t.rollback(ctx),
    ]
    for call in calls:
        with pytest.raises(InvalidTransactionStateError):
            call()


# Threads


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Results, or errors, of all threads, which begin at one moment."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except Error as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.mark.parametrize("shared", [True, False], ids=["one context", "a context each"])
def test_many_threads_on_one_database(tmp_path: Path, shared: bool) -> None:
    """Reads, writes, queries and models, mixed; nobody fails and everything is there."""
    rounds, one = count(6), Context()
    with VectorDatabase(one, storage_path=tmp_path, memory_limit=16 << 20) as db:
        with db.begin_transaction(one) as t:
            btree.Btree.new(one, btree.BtreeOptions("s", True), t).add(one, "counter", 0)
            btree.Btree.new(one, btree.BtreeOptions("log"), t)
        vectors, models = db.open(one, "v"), db.open_model_store(one, "m")
        vectors.upsert(one, Item("first", [1.0, 0.0]))

        def work(number: int) -> None:
            ctx = one if shared else Context()

            def step(t: Transaction) -> None:
                store = btree.Btree.open(ctx, "s", t)
                store.update(ctx, "counter", store.find_one(ctx, "counter").value + 1)
                btree.Btree.open(ctx, "log", t).add(ctx, number, "x" * 20_000)

            for round in range(rounds):
                in_transaction(ctx, db, step)
                vectors.upsert(ctx, Item(f"{number}-{round}", [1.0, number / THREADS], {"n": number}))
                assert vectors.query(ctx, [1.0, 0.5], k=1, filter={"n": number})
                models.save(ctx, f"{number}", f"{round}", {"round": round})
                assert models.get(ctx, f"{number}", f"{round}") == {"round": round}
                with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
                    log = btree.Btree.open(ctx, "log", t)
                    assert log.count() == sum(1 for _ in log.keys(ctx))
                    assert log.count() == btree.Btree.open(ctx, "s", t).find_one(ctx, "counter").value

        assert together(work) == [None] * THREADS
        assert vectors.count(one) == THREADS * rounds + 1
        with db.begin_transaction(one) as t:
            assert btree.Btree.open(one, "log", t).count() == THREADS * rounds


def test_a_transaction_used_by_many_threads(ctx: Context, db: Database) -> None:
    """Calls run one after the other; each counts."""
    t = db.begin_transaction(ctx)
    store = btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)

    def work(number: int) -> None:
        own = btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
        for row in range(20):
            assert store.add(ctx, [number, row], row)
            assert own.find(ctx, [number, row])
            assert own.get_current_key(ctx) == [number, row]

    assert together(work) == [None] * THREADS
    t.commit(ctx)
    with db.begin_transaction(ctx) as t:
        assert btree.Btree.open(ctx, "s", t).count() == THREADS * 20


@pytest.mark.parametrize("ends", [("commit",), ("rollback",), ("commit", "rollback")])
def test_of_many_that_end_a_transaction_one_succeeds(ctx: Context, db: Database, ends: tuple) -> None:
    for _ in range(count(20)):
        t = db.begin_transaction(ctx)
        store = btree.Btree.new(ctx, btree.BtreeOptions("s"), t)
        store.add(ctx, 1, 1)
        results = together(lambda number, t=t: getattr(t, ends[number % len(ends)])(ctx), 8)
        assert results.count(None) == 1
        others = [result for result in results if result is not None]
        assert all(isinstance(error, InvalidTransactionStateError) for error in others), others


def test_a_transaction_begun_by_many_threads_begins_once(ctx: Context, tmp_path: Path) -> None:
    before = native.sop_handle_count()
    for _ in range(count(20)):
        t = Transaction(ctx, TransactionOptions(stores_folders=[str(tmp_path)]))
        assert together(lambda _, t=t: t.begin(), 8) == [None] * 8
        ids = set(together(lambda _, t=t: t.transaction_id, 8))
        assert len(ids) == 1
        t.rollback(ctx)
        del t
    assert native.sop_handle_count() <= before + 1  # the database that it was on


def test_closing_while_others_work(tmp_path: Path) -> None:
    """They get a typed error, or finish; what was acknowledged is there."""
    for round in range(count(10)):
        ctx = Context()
        db = Database(ctx, storage_path=tmp_path / f"{round}")
        with db.begin_transaction(ctx) as t:
            btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
        acknowledged: list[tuple[int, int]] = []

        def work(number: int, db: Database = db, done: list = acknowledged, ctx: Context = ctx) -> None:
            if number == 0:
                db.close(ctx)
                return
            for row in itertools.count():
                with db.begin_transaction(ctx) as t:
                    btree.Btree.open(ctx, "s", t).add(ctx, [number, row], row)
                done.append((number, row))
                if row > 20:
                    return

        for result in together(work, 8):
            assert result is None or isinstance(result, (StorageError, InvalidTransactionStateError)), result
        with db.begin_transaction(ctx) as t:
            present = {tuple(key) for key in btree.Btree.open(ctx, "s", t).keys(ctx)}
        assert set(acknowledged) <= present
        db.close()
