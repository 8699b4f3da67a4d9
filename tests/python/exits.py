"""Programs that end in the middle of something: exits.py TASK FOLDER JOURNAL MILLISECONDS.

Each commits numbers and notes in the journal those that were acknowledged. "never" is what nobody commits.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import time
from typing import Callable

from sop import Context, Database, Durability, TransactionMode, btree
from sop.ai import Item, VectorDatabase
from workers import in_transaction

MEMORY_LIMIT = 16 << 20  # the least: a checkpoint at each MiB


class Program:
    def __init__(self, folder: str, journal: str, milliseconds: str) -> None:
        self.ctx = Context()
        self.db = VectorDatabase(self.ctx, storage_path=folder, memory_limit=MEMORY_LIMIT)
        with self.db.begin_transaction(self.ctx) as t:
            btree.Btree.new(self.ctx, btree.BtreeOptions("s", True), t)
        self.journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.seconds = int(milliseconds) / 1000
        self.numbers = itertools.count()

    def commit_one(self, size: int = 10) -> None:
        number = next(self.numbers)

        def add(t) -> None:
            assert btree.Btree.open(self.ctx, "s", t).add(self.ctx, number, "x" * size)

        in_transaction(self.ctx, self.db, add)
        os.write(self.journal, f"{number}\n".encode())

    def commit_for_ever(self, size: int = 10) -> None:
        while True:
            self.commit_one(size)

    def leave_open(self) -> tuple[object, object]:
        t = self.db.begin_transaction(self.ctx)
        store = btree.Btree.open(self.ctx, "s", t)
        store.add(self.ctx, "never", 1)
        return t, store

    def daemons(self, *work: Callable[[], None]) -> None:
        for target in work:
            threading.Thread(target=target, daemon=True).start()
        time.sleep(self.seconds)

    # Ways to end

    def with_open_transactions(self) -> None:
        self.commit_one()
        # Globals are still there when the interpreter is taken apart.
        globals()["left"] = [self.leave_open() for _ in range(5)]
        self.commit_one()

    def with_objects_in_a_cycle(self) -> None:
        self.commit_one()
        cycle: list[object] = [self.leave_open(), self]
        cycle.append(cycle)

    def from_atexit(self) -> None:
        t, store = self.leave_open()
        # Called in reverse.
        atexit.register(self.commit_one)
        atexit.register(self.db.close)
        atexit.register(t.rollback)
        atexit.register(store.count)

    def with_daemon_threads_committing(self) -> None:
        self.commit_one()
        self.daemons(*[self.commit_for_ever] * 4)

    def with_a_checkpoint_running(self) -> None:
        self.daemons(*[lambda: self.commit_for_ever(60_000)] * 2)
        for _ in range(20):
            self.commit_one(60_000)

    def with_daemon_threads_in_long_calls(self) -> None:
        self.commit_one()
        vectors = self.db.open(self.ctx, "v")
        vectors.upsert_batch(self.ctx, [Item(f"{n}", [n % 7, n % 11, n % 13]) for n in range(3000)])

        def optimize() -> None:
            while True:
                vectors.optimize(self.ctx)

        def write() -> None:
            store = self.leave_open()[1]
            while True:
                store.upsert(self.ctx, [btree.Item(f"never {n}", n) for n in range(20_000)])

        self.daemons(optimize, write, self.commit_for_ever)

    def with_daemon_threads_in_maps(self) -> None:
        """CPython ends such a thread when it asks for the GIL, which must not be in the library."""
        self.commit_one()
        numbers = self.db.open_map(self.ctx, "m", durability=Durability.Relaxed)
        numbers.put_many((n, n) for n in range(3000))

        def for_ever(call: Callable[[], object]) -> Callable[[], None]:
            def work() -> None:
                while True:
                    call()

            return work

        self.daemons(
            for_ever(lambda: numbers.put(1, 1)),
            for_ever(lambda: numbers.modify("hot", lambda value: (value or 0) + 1)),
            for_ever(lambda: numbers.put_many((n, n) for n in range(100))),
            for_ever(lambda: sum(numbers.values())),
            lambda: numbers.put_many((n, time.sleep(0.001)) for n in itertools.count()),
        )

    def with_sys_exit_in_a_thread(self) -> None:
        thread = threading.Thread(target=lambda: (self.commit_one(), self.leave_open(), sys.exit(7)))
        self.daemons(self.commit_for_ever)
        thread.start()
        thread.join()

    def with_threads_that_end_later(self) -> None:
        for _ in range(4):
            threading.Thread(target=lambda: [self.commit_one() for _ in range(20)]).start()

    def with_os_exit(self) -> None:
        self.commit_one()
        self.daemons(*[self.commit_for_ever] * 2)
        self.leave_open()
        os._exit(0)

    def with_an_exception(self) -> None:
        self.commit_one()
        self.daemons(*[self.commit_for_ever] * 2)
        kept = self.leave_open()
        assert kept
        raise ZeroDivisionError("on purpose")

    # Interruption: SIGINT comes at any moment after the first line of output.

    def interrupted(self) -> None:
        t, store = self.leave_open()
        items = [btree.Item(f"never {n}", n) for n in range(30_000)]
        try:
            print("ready", flush=True)
            while True:
                store.upsert(self.ctx, items)
                list(store.items(self.ctx))
                self.commit_one()
        except KeyboardInterrupt:
            pass
        t.rollback(self.ctx)
        self.commit_one()
        print("went on", flush=True)

    # Another interpreter in this process

    def with_a_subinterpreter(self) -> None:
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        code = (
            "import sop\n"
            "ctx = sop.Context()\n"
            f"db = sop.Database(ctx, storage_path={self.db.storage_path!r})\n"
            "with db.begin_transaction(ctx) as t:\n"
            "    assert sop.btree.Btree.open(ctx, 's', t).add(ctx, 'sub', 1)\n"
            "left_open = db.begin_transaction(ctx)\n"
        )
        other = interpreters.create()
        error = interpreters.run_string(other, f"import sys; sys.path[:] = {sys.path!r}\n{code}")
        interpreters.destroy(other)
        assert error is None or "ImportError" in str(error), error
        if error is None:
            with self.db.begin_transaction(self.ctx, TransactionMode.ForReading) as t:
                assert btree.Btree.open(self.ctx, "s", t).find(self.ctx, "sub")
        self.commit_one()


def stored(folder: str) -> list:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db, db.begin_transaction(ctx) as t:
        store = btree.Btree.open(ctx, "s", t)
        keys = list(store.keys(ctx))
        assert store.count() == len(keys)
        assert store.add(ctx, "afterwards", 1)
        return keys


if __name__ == "__main__":
    getattr(Program(*sys.argv[2:]), sys.argv[1])()
