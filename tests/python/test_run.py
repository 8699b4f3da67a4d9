"""`sop.run`: a function in a transaction, run again when another transaction was faster."""

from __future__ import annotations

import logging
import threading

import pytest

import sop
from sop import ConflictError, Context, ContextCancelledError, Database, Durability, TransactionOptions, btree
from sop import Transaction as Tx


def set_to(store: str, value: int, t: Tx) -> None:
    btree.Btree.new(t.ctx, btree.BtreeOptions(store, is_unique=True), t).upsert(t.ctx, "key", value)


def test_the_result_is_the_functions_and_committed(ctx: Context, db: Database) -> None:
    def work(t: Tx) -> str:
        set_to("s", 7, t)
        return "done"

    assert sop.run(db, work) == "done"
    assert db.open_map(ctx, "s")["key"] == 7


def test_what_the_function_raises_rolls_back_and_is_raised_once(ctx: Context, db: Database) -> None:
    calls = []

    def work(t: Tx) -> None:
        calls.append(1)
        set_to("s", 7, t)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        sop.run(db, work)
    assert len(calls) == 1
    assert db.stores(ctx) == []


def test_a_conflict_runs_it_again_on_the_newer_state(ctx: Context, db: Database) -> None:
    numbers = db.open_map(ctx, "n")
    numbers["key"] = 0
    seen = []

    def work(t: Tx) -> None:
        inside = numbers.with_transaction(t)
        seen.append(inside["key"])
        if len(seen) < 3:
            numbers["key"] += 10  # another one is faster
        inside["key"] = seen[-1] + 1

    sop.run(db, work, ctx=ctx)
    assert seen == [0, 10, 20]
    assert numbers["key"] == 21


def test_no_increment_of_many_threads_is_lost(ctx: Context, db: Database) -> None:
    numbers = db.open_map(ctx, "n")
    numbers["key"] = 0

    def add_one(t: Tx) -> None:
        numbers.with_transaction(t)["key"] = numbers.with_transaction(t)["key"] + 1

    def add_many() -> None:
        for _ in range(25):
            sop.run(db, add_one, attempts=10_000)

    threads = [threading.Thread(target=add_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers["key"] == 100


def test_the_last_attempts_error_is_raised_and_the_log_tells(
    ctx: Context, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def always_late(t: Tx) -> None:
        calls.append(1)
        raise ConflictError(f"attempt {len(calls)}")

    caplog.set_level(logging.DEBUG, "sop")
    with pytest.raises(ConflictError, match="attempt 3"):
        sop.run(db, always_late, attempts=3)
    assert len(calls) == 3
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG", "WARNING"]
    assert "after 3 attempts" in caplog.records[-1].getMessage()


def test_a_cancelled_context_ends_it(ctx: Context, db: Database) -> None:
    mine = Context()

    def cancelled(t: Tx) -> None:
        mine.cancel()
        raise ConflictError("and never again")

    with pytest.raises(ContextCancelledError):
        sop.run(db, cancelled, ctx=mine)


def test_options_are_those_of_the_transaction(db: Database) -> None:
    options = TransactionOptions(durability=Durability.Relaxed, max_time=1)
    assert sop.run(db, lambda t: t.options, options=options) is options


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, None])
def test_a_number_of_attempts_that_is_none_is_refused(db: Database, attempts: object) -> None:
    with pytest.raises(sop.ValidationError, match="attempts"):
        sop.run(db, lambda t: None, attempts=attempts)  # type: ignore[arg-type]
