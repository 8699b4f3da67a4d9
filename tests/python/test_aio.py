"""`sop.aio`: the same classes and calls, awaited; a task that is cancelled stops its call."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import multiprocessing
import threading
from pathlib import Path
from typing import Any, AsyncIterator, Iterator

import pytest

import sop
from sop import ConflictError, Durability, StorageError, TransactionMode, ValidationError, aio, btree
from sop.ai import Item, Model, ModelStore, VectorDatabase, VectorStore

SECONDS = 120  # longer than anything here takes: what needs it hangs


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[aio.VectorDatabase]:
    async with aio.VectorDatabase(tmp_path / "db") as database:
        yield database


UNIQUE = btree.BtreeOptions("b", is_unique=True)


async def test_every_kind_of_store_in_one_transaction(db: aio.VectorDatabase) -> None:
    async with db.begin_transaction() as t:
        tree = await aio.Btree.new(UNIQUE, t)
        assert await tree.add("a", 1)
        await (await db.open_vector_store(t, "v")).upsert(Item("x", [1.0]))
        await (await db.open_model_store(t, "m")).save("c", "n", Model("id"))
    async with db.begin_transaction(TransactionMode.ForReading) as t:
        tree = await db.open_btree("b", t)
        assert (await tree.find_one("a")).value == 1
        assert (await tree.count(), await tree.is_unique(), tree.transaction_id) == (
            1,
            True,
            t.transaction_id,
        )
    vectors = await db.open("v")
    assert [hit.id for hit in await vectors.query([1.0])] == ["x"]
    async with await db.open_model_store("m") as models:
        assert await models.list("c") == ["n"]
    assert sorted(store.name for store in await db.stores()) == ["b", "m", "v"]


async def test_a_transaction_that_raises_is_rolled_back(db: aio.VectorDatabase) -> None:
    with pytest.raises(KeyError):
        async with db.begin_transaction() as t:
            await db.new_btree("b", t)
            raise KeyError
    t = await db.begin_transaction()
    await db.new_btree("b", t)
    await t.rollback()
    assert await db.stores() == []
    t = await db.begin_transaction()
    await db.new_btree("b", t)
    await t.commit()
    assert len(await db.stores()) == 1


async def test_a_map_and_the_same_inside_a_transaction(db: aio.VectorDatabase) -> None:
    numbers = await db.open_map("n", durability=Durability.Relaxed)
    await numbers.put_many((n, n * n) for n in range(3000))
    assert await numbers.get(7) == 49
    assert (await numbers.contains(7), await numbers.contains(-1), await numbers.count()) == (
        True,
        False,
        3000,
    )
    assert await numbers.modify(7, lambda value: value + 1) == 50
    assert [key async for key in numbers] == list(range(3000))
    assert [pair async for pair in numbers.items(3, 5)] == [(3, 9), (4, 16)]
    assert [value async for value in numbers.values(2, reverse=True)] == list(
        reversed([n * n if n != 7 else 50 for n in range(2, 3000)])
    )
    async with db.begin_transaction() as t:
        inside = await numbers.with_transaction(t)
        await inside.put(-1, 1)
        assert [key async for key in inside.keys(stop=1)] == [-1, 0]
        assert not await numbers.contains(-1)
    assert await numbers.pop(-1) == 1
    await numbers.close()
    with pytest.raises(StorageError, match="closed"):
        await numbers.get(1)


async def test_a_map_of_a_closed_database_does_not_open_it_again(tmp_path: Path) -> None:
    async with aio.Database(tmp_path / "db") as db:
        numbers = await db.open_map("n")
    with pytest.raises(StorageError, match="closed"):
        await numbers.get(1)


async def test_hundreds_of_tasks_lose_no_increment(db: aio.VectorDatabase) -> None:
    numbers = await db.open_map("n")
    await numbers.put("key", 0)

    async def add_one(t: aio.Transaction) -> None:
        inside = await numbers.with_transaction(t)
        await inside.put("key", await inside.get("key") + 1)

    await asyncio.gather(*(numbers.modify("key", lambda value: value + 1) for _ in range(200)))
    await asyncio.gather(*(aio.run(db, add_one, attempts=10_000) for _ in range(20)))
    assert await numbers.get("key") == 220


async def test_run_raises_the_last_error(db: aio.VectorDatabase) -> None:
    calls = []

    async def late(t: aio.Transaction) -> None:
        calls.append(t)
        raise ConflictError(f"attempt {len(calls)}")

    with pytest.raises(ConflictError, match="attempt 3"):
        await aio.run(db, late, attempts=3)
    with pytest.raises(ValidationError):
        await aio.run(db, late, attempts=0)


async def cancelled_while_it_runs(call: Any, running: threading.Event) -> None:
    """Cancels a call once it runs, and waits until it has ended."""
    task = asyncio.ensure_future(call)
    assert await asyncio.to_thread(running.wait, SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), SECONDS)
    assert task.cancelled()


async def test_cancelling_stops_a_load_that_would_never_end(db: aio.VectorDatabase) -> None:
    numbers = await db.open_map("n")
    running = threading.Event()

    def endless() -> Iterator[tuple[int, int]]:
        for n in itertools.count():
            if n == 5000:
                running.set()
            yield n, n

    await cancelled_while_it_runs(numbers.put_many(endless()), running)
    assert await numbers.count() == 0  # and the map goes on


async def test_a_cancelled_task_waits_until_its_call_has_ended(db: aio.VectorDatabase) -> None:
    running, cancelled = threading.Event(), threading.Event()
    vectors = await db.open("v")

    def held(done: int, total: int) -> None:
        running.set()
        cancelled.wait(SECONDS)

    load = vectors.upsert_arrays(
        [f"v{n}" for n in range(5000)], [[float(n), 1.0] for n in range(5000)], progress=held
    )
    task = asyncio.ensure_future(load)
    assert await asyncio.to_thread(running.wait, SECONDS)
    task.cancel()
    await asyncio.sleep(0)  # the cancellation has reached the call
    assert not task.done()  # and the task waits for its end
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await vectors.count() == 0


async def test_a_cancelled_transaction_stores_nothing(db: aio.VectorDatabase) -> None:
    running = threading.Event()

    async def work() -> None:
        async with db.begin_transaction() as t:
            await db.new_btree("b", t)
            running.set()
            await asyncio.sleep(SECONDS)

    await cancelled_while_it_runs(work(), running)
    assert await db.stores() == []


async def test_calls_that_wait_for_a_thread_are_never_made_when_cancelled(db: aio.VectorDatabase) -> None:
    numbers = await db.open_map("n")
    free = threading.Event()
    holding = [asyncio.ensure_future(numbers.modify(n, lambda _: free.wait(SECONDS))) for n in range(32)]
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(numbers.put("never", 1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    free.set()
    await asyncio.gather(*holding)
    assert await numbers.count() == 32


@pytest.mark.parametrize(
    ("mirror", "of"),
    [
        (aio.Transaction, sop.Transaction),
        (aio.Btree, sop.Btree),
        (aio.Map, sop.Map),
        (aio.VectorStore, VectorStore),
        (aio.ModelStore, ModelStore),
        (aio.Database, sop.Database),
        (aio.VectorDatabase, VectorDatabase),
    ],
)
def test_there_is_every_call_of_the_class_without_its_context(mirror: type, of: type) -> None:
    public = {name for name in dir(of) if not name.startswith("_")} - {"open_artifact", "writer"}
    assert public <= set(dir(mirror))
    for name in public - {"begin_transaction"}:
        member = inspect.getattr_static(mirror, name)
        if not isinstance(member, property):
            function = getattr(mirror, name)
            assert "ctx" not in inspect.signature(function).parameters
            assert inspect.iscoroutinefunction(function) or name in ("items", "keys", "values", "ids")
            assert function.__doc__


async def in_a_child(path: Path) -> None:
    async with aio.Database(path) as db:
        assert await (await db.open_map("n")).get("key") == 1


def child(path: Path) -> None:
    asyncio.run(in_a_child(path))


async def test_a_forked_child_has_threads_of_its_own(db: aio.VectorDatabase, tmp_path: Path) -> None:
    await (await db.open_map("n")).put("key", 1)
    process = multiprocessing.get_context("fork").Process(target=child, args=(tmp_path / "db",))
    process.start()
    await asyncio.to_thread(process.join, SECONDS)
    assert process.exitcode == 0
