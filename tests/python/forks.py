"""Programs that fork: forks.py TASK FOLDER ARGUMENTS."""

from __future__ import annotations

import concurrent.futures
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import random
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import sop
from sop import Context, Database, btree
from sop.ai import Item, VectorDatabase
from workers import in_transaction

# Forking while threads run is what these programs are about; Python 3.12 and later warn of it.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

# A child that needs longer hangs: it says where, and fails.
CHILD_SECONDS = 60
MEMORY_LIMIT = 16 << 20  # the least: a checkpoint at each MiB


def refused(call: Callable[[], Any]) -> None:
    try:
        call()
    except sop.ForkedHandleError as error:
        assert error.code == 61
        return
    raise AssertionError("not refused")


def in_child(work: Callable[[], None]) -> int:
    """Forks; the child does the work and ends. Gives its process id."""
    child = os.fork()
    if child:
        return child
    faulthandler.dump_traceback_later(CHILD_SECONDS, exit=True)
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def wait(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"


def handles(folder: str) -> None:
    """What the parent opened is refused in the child; opening anew works; the parent goes on."""
    ctx = Context()
    options = sop.TransactionOptions(stores_folders=[folder])
    here = SimpleNamespace(db=VectorDatabase(ctx, storage_path=folder))
    here.vectors = here.db.open(ctx, "v")
    here.vectors.upsert(ctx, Item("a", [1.0]))
    here.models = here.db.open_model_store(ctx, "m")
    with sop.Transaction(ctx, options) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).add(ctx, "parent", 1)
    here.t = here.db.begin_transaction(ctx)
    here.store = btree.Btree.open(ctx, "s", here.t)
    here.store.add(ctx, "later", 1)

    def work() -> None:
        refused(lambda: here.db.begin_transaction(ctx))
        refused(lambda: here.vectors.count(ctx))
        refused(lambda: here.models.save(ctx, "c", "n", {}))
        refused(lambda: here.store.count(ctx))
        refused(lambda: here.store.add(ctx, "child", 1))
        refused(lambda: here.t.commit(ctx))
        with sop.Transaction(ctx, options) as t:
            store = btree.Btree.open(ctx, "s", t)
            assert store.find_one(ctx, "parent").value == 1
            store.add(ctx, "child", 2)
        fresh = Database(Context(), storage_path=folder)
        with fresh.begin_transaction(ctx) as t:
            assert btree.Btree.open(ctx, "s", t).count() == 2
        vars(here).clear()
        gc.collect()

    wait(in_child(work))
    here.t.commit(ctx)
    with here.db.begin_transaction(ctx) as t:
        assert sorted(btree.Btree.open(ctx, "s", t).keys(ctx)) == ["child", "later", "parent"]
    assert here.vectors.count(ctx) == 1


def write_and_read(folder: str, who: str) -> int:
    """One of each kind of store; gives how many rows there are."""
    ctx = Context()
    with VectorDatabase(ctx, storage_path=folder, memory_limit=MEMORY_LIMIT) as db:

        def add(t: sop.Transaction) -> None:
            assert btree.Btree.new(ctx, btree.BtreeOptions("rows", True), t).add(ctx, who, who)
            assert btree.Btree.new(ctx, btree.BtreeOptions("duplicates"), t).add(ctx, "one", who)

        in_transaction(ctx, db, add)
        vectors = db.open(ctx, "v")
        vectors.upsert(ctx, Item(who, [1.0, 2.0], {"who": who}))
        db.open_model_store(ctx, "m").save(ctx, "category", who, {"who": who})
        assert vectors.get(ctx, who).payload == {"who": who}
        assert vectors.query(ctx, [1.0, 2.0], k=1)
        with db.begin_transaction(ctx, sop.TransactionMode.ForReading) as t:
            rows = btree.Btree.open(ctx, "rows", t)
            assert rows.find_one(ctx, who).value == who
            return rows.count()


def write_and_read_in_child(arguments: tuple[str, str]) -> int:
    """For pools: a hanging worker says where, and fails."""
    faulthandler.dump_traceback_later(CHILD_SECONDS, exit=True)
    try:
        return write_and_read(*arguments)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pools(folder: str, method: str, rows: str) -> None:
    """multiprocessing and concurrent.futures, while this process has a transaction open on the folder."""
    ctx, context = Context(), multiprocessing.get_context(method)
    db = Database(ctx, storage_path=folder)
    assert write_and_read(folder, "parent") == 1
    mine = db.begin_transaction(ctx)
    btree.Btree.open(ctx, "rows", mine).add(ctx, "mine", 1)
    names = [(folder, f"{method}-{row}") for row in range(int(rows))]
    with context.Pool(2) as pool:
        pool.map(write_and_read_in_child, names[::2])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        list(executor.map(write_and_read_in_child, names[1::2]))
    process = context.Process(target=write_and_read_in_child, args=((folder, "single"),))
    process.start()
    process.join(CHILD_SECONDS)
    assert process.exitcode == 0
    mine.commit(ctx)
    assert write_and_read(folder, "parent again") == len(names) + 4


def unused(folder: str) -> None:
    """A context and a database that the parent has not used yet work in the children."""
    ctx = Context()
    db = Database(ctx, storage_path=folder)

    def work() -> None:
        with db.begin_transaction(ctx) as t:
            assert btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).add(ctx, os.getpid(), 1)

    children = [in_child(work) for _ in range(8)]
    for child in children:
        wait(child)
    with db.begin_transaction(ctx) as t:
        assert sorted(btree.Btree.open(ctx, "s", t).keys(ctx)) == sorted(children)


class Storm:
    """Threads that are in the middle of every kind of call at any moment."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.ctx = Context()
        self.db = VectorDatabase(self.ctx, storage_path=folder, memory_limit=MEMORY_LIMIT)
        self.vectors = self.db.open(self.ctx, "v")
        self.vectors.upsert(self.ctx, Item("first", [1.0, 0.0]))
        self.models = self.db.open_model_store(self.ctx, "m")
        with self.db.begin_transaction(self.ctx) as t:
            for name, unique in (("rows", True), ("duplicates", False), ("storm", False), ("large", True)):
                btree.Btree.new(self.ctx, btree.BtreeOptions(name, unique), t)
        self.opened = Database(self.ctx, storage_path=folder)
        self.idle = self.db.begin_transaction(self.ctx)
        self.added = 0
        self.stopping = threading.Event()
        self.failures: list[str] = []
        work = (self.add_duplicates, self.fill_memory, self.fill_memory, self.open_and_close, self.use_ai)
        self.threads = [threading.Thread(target=self.repeat, args=(step,)) for step in work]

    def __enter__(self) -> Storm:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def repeat(self, step: Callable[[int], None]) -> None:
        try:
            for number in range(sys.maxsize):
                if self.stopping.is_set():
                    return
                step(number)
        except BaseException:
            self.failures.append(traceback.format_exc())

    def add_duplicates(self, number: int) -> None:
        def add(t: sop.Transaction) -> None:
            store = btree.Btree.open(self.ctx, "storm", t)
            store.add(self.ctx, [btree.Item(number % 7, row) for row in range(500)])

        # Where this much is committed, a transaction may be too old after a moment.
        in_transaction(self.ctx, self.db, add)
        self.added += 500

    def fill_memory(self, number: int) -> None:
        row = [threading.get_ident(), number % 20]
        in_transaction(
            self.ctx,
            self.db,
            lambda t: btree.Btree.open(self.ctx, "large", t).upsert(self.ctx, row, "x" * 60_000),
        )

    def open_and_close(self, number: int) -> None:
        self.opened = Database(self.ctx, storage_path=self.folder)
        with self.opened.begin_transaction(self.ctx) as t:
            btree.Btree.open(self.ctx, "rows", t).count()
        self.opened.close()

    def use_ai(self, number: int) -> None:
        # Not the ids of children, which look whether theirs are as they left them.
        self.vectors.upsert(self.ctx, Item(f"parent {number % 50}", [1.0, float(number % 13)]))
        self.vectors.query(self.ctx, [1.0, 1.0], k=3)
        self.models.save(self.ctx, "category", f"{number % 5}", {"number": number})

    def child(self, who: str) -> None:
        """What a child does, forked in the middle of all this."""
        refused(lambda: self.db.begin_transaction(self.ctx))
        refused(lambda: self.vectors.query(self.ctx, [1.0, 1.0], k=1))
        refused(lambda: self.idle.rollback(self.ctx))
        with contextlib.suppress(sop.ForkedHandleError):  # raised if it was open
            self.opened.begin_transaction(self.ctx).rollback(self.ctx)
        write_and_read(self.folder, who)
        thread = threading.Thread(target=write_and_read, args=(self.folder, f"{who} in a thread"))
        thread.start()
        thread.join()


def storm(folder: str, forks: str, seed: str) -> None:
    """Forks at random moments, from the main thread and from another one."""
    dice = random.Random(int(seed))
    with Storm(folder) as running:
        for number in range(int(forks)):
            time.sleep(dice.uniform(0, 0.02))
            if dice.random() < 0.5:
                wait(in_child(lambda who=str(number): running.child(who)))
            else:
                with concurrent.futures.ThreadPoolExecutor(1) as thread:
                    child = thread.submit(in_child, lambda who=str(number): running.child(who))
                    wait(child.result())
    assert running.failures == [], "\n".join(running.failures)
    running.idle.rollback(running.ctx)
    with running.db.begin_transaction(running.ctx) as t:
        assert btree.Btree.open(running.ctx, "storm", t).count() == running.added
        assert btree.Btree.open(running.ctx, "rows", t).count() == 2 * int(forks)
    print(f"{forks} forks among {running.added} additions")


def ids(folder: str, forks: str) -> None:
    """Forks while another thread gives ids to duplicates: nothing but that, because it takes so short."""
    ctx = Context()
    db = Database(ctx, storage_path=folder)
    with db.begin_transaction(ctx) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("s"), t)
    stopping = threading.Event()

    def add(count: int) -> None:
        ctx = Context()
        t = Database(ctx, storage_path=folder).begin_transaction(ctx)
        assert btree.Btree.open(ctx, "s", t).add(ctx, [btree.Item(1, row) for row in range(count)])
        t.rollback(ctx)

    def keep_adding() -> None:
        while not stopping.is_set():
            add(10_000)

    threads = [threading.Thread(target=keep_adding) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(int(forks)):
            wait(in_child(lambda: add(1)))
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def orphan(folder: str, journal: str) -> None:
    """Commits for ever, beside a child that does nothing but live; its process id goes to the journal."""
    with Storm(folder):
        child = in_child(lambda: time.sleep(CHILD_SECONDS - 1))
        Path(journal).write_text(f"{child}")
        time.sleep(600)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
