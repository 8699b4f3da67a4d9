"""Maps: what their calls mean, alike on both paths: builtin functions, and transactions with B-trees."""

from __future__ import annotations

import copy
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
import weakref
from typing import Any, Iterator

import pytest

from conftest import ROOT, environment
from sop import (
    ConflictError,
    Context,
    ContextCancelledError,
    Database,
    Durability,
    ForkedHandleError,
    InvalidTransactionStateError,
    Map,
    StorageError,
    StoreNotFoundError,
    TransactionMode,
    TransactionOptions,
    ValidationError,
    btree,
)
from sop.btree import BtreeOptions, IndexFieldSpecification, IndexSpecification

BY_NAME = IndexSpecification([IndexFieldSpecification("name"), IndexFieldSpecification("rank", False)])
KEYS = [
    0,
    1,
    -5,
    2**53 + 1,
    2**64 - 1,
    1.5,
    1e300,
    "",
    "a",
    "a\0b",
    "é",
    None,
    True,
    False,
    [],
    [1, "a"],
    {"k": [1]},
]


@pytest.fixture(params=["builtin", "pure"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pure":
        monkeypatch.setattr(btree, "fast", None)
        monkeypatch.setattr("sop.database.fast", None)
    else:
        assert btree.fast is not None, "these tests need the fast path"
    return str(request.param)


@pytest.fixture
def numbers(ctx: Context, db: Database) -> Map:
    opened = db.open_map(ctx, "numbers")
    opened.put_many((number, {"n": number}) for number in range(100))
    return opened


def test_a_map_is_as_a_dict_in_order_of_key(ctx: Context, db: Database) -> None:
    store, model = db.open_map(ctx, "m"), {}
    dice = random.Random(3)
    for step in range(400):
        key, value = dice.randrange(40), {"step": step}
        action = dice.randrange(8)
        if action == 0:
            store[key] = model[key] = value
        elif action == 1:
            assert store.remove(key) == (model.pop(key, None) is not None)
        elif action == 2:
            batch = {dice.randrange(40): [step] for _ in range(5)}
            store.put_many(batch if step % 2 else batch.items())
            model.update(batch)
        elif action == 3:
            some = [dice.randrange(40) for _ in range(3)]
            assert store.remove_many(some) == sum(model.pop(one, None) is not None for one in some)
        elif action == 4:
            model[key] = [model.get(key, "none"), step] if step % 3 else step
            got = store.modify(key, lambda old, s=step: [old, s] if s % 3 else s, "none")
            assert got == model[key]
        elif action == 5:
            assert store.get_many(range(40), "no") == [model.get(one, "no") for one in range(40)]
        else:
            assert store.get(key) == model.get(key) and (key in store) == (key in model)
        assert len(store) == len(model)
    assert dict(store.items()) == model and list(store) == sorted(model)


def test_every_kind_of_key_and_value_comes_back(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m")
    store.put_many((key, [key, "x" * 10]) for key in KEYS)
    assert len(store) == len(KEYS)
    for key in KEYS:
        assert repr(store[key]) == repr([key, "x" * 10])
    assert sorted(map(repr, store)) == sorted(map(repr, KEYS))
    assert [key for key, _ in store.items()] == [key for key, _ in store.items(reverse=True)][::-1]


def test_both_paths_write_the_same(ctx: Context, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store = db.open_map(ctx, "m")
    fields = db.open_map(ctx, "f", None, BY_NAME)
    for key in KEYS:
        store[key] = key
    fields[{"rank": 1, "name": "b", "more": 1}] = 1
    fields[{"rank": 2, "name": "b"}] = 2
    monkeypatch.setattr(btree, "fast", None)
    monkeypatch.setattr("sop.database.fast", None)
    again, more = db.open_map(ctx, "m"), db.open_map(ctx, "f")
    assert [repr(again.get(key)) for key in KEYS] == [repr(key) for key in KEYS]
    assert list(more) == list(fields) == [{"rank": 2, "name": "b"}, {"rank": 1, "name": "b", "more": 1}]
    assert list(more.items()) == list(fields.items())


def test_pages_and_ranges(numbers: Map) -> None:
    assert numbers.page(95, 10) == [(n, {"n": n}) for n in range(95, 100)]
    assert numbers.page(None, 2) == [(0, {"n": 0}), (1, {"n": 1})]
    assert numbers.page(2, 5, reverse=True) == [(1, {"n": 1}), (0, {"n": 0})]
    assert numbers.page(None, 1, reverse=True) == [(99, {"n": 99})]
    assert numbers.page(3, 0) == []
    assert list(numbers.keys(10, 13)) == [10, 11, 12]
    assert list(numbers.keys(10, 13, reverse=True)) == [12, 11, 10]
    assert list(numbers.values(98)) == [{"n": 98}, {"n": 99}]
    assert list(numbers.items(stop=1)) == [(0, {"n": 0})]
    assert list(numbers.items(50, 50)) == [] == list(numbers.items(60, 50))


def test_raw_values_are_json_text(numbers: Map) -> None:
    assert numbers.get(1, raw=True) == b'{"n":1}'
    assert numbers.get_many([1, -1], default=7, raw=True) == [b'{"n":1}', 7]
    assert numbers.page(1, 1, raw=True) == [(1, b'{"n":1}')]
    assert list(numbers.values(1, 2, raw=True)) == [b'{"n":1}'] and next(numbers.items(raw=True)) == (
        0,
        b'{"n":0}',
    )


def test_the_length_of_batches_does_not_show(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m")
    store.put_many((number, number) for number in range(10_000))
    assert list(store.values()) == list(range(10_000))
    assert list(store.keys(reverse=True)) == list(range(9999, -1, -1))


def test_large_values_are_whole_and_not_read_for_their_keys(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m")
    large = "x" * 300_000
    store.put_many({1: large, 2: "small", 3: large})
    assert list(store.keys()) == [1, 2, 3] and store[3] == large
    assert [len(value) for value in store.values()] == [300_000, 5, 300_000]
    assert store.get_many([3, 2]) == [large, "small"]


def test_fields_beside_the_index_stay_those_of_the_first_put(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m", None, BY_NAME)
    store.put({"name": "a", "rank": 1, "note": "first"}, 1)
    store.put({"name": "a", "rank": 1, "note": "second"}, 2)
    store.put({"name": "a", "rank": 7}, 3)
    assert list(store.items()) == [
        ({"name": "a", "rank": 7}, 3),
        ({"name": "a", "rank": 1, "note": "first"}, 2),
    ]
    assert list(store.values({"name": "a"}, {"name": "b"})) == [3, 2]


def test_a_failing_iterable_stores_nothing(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m")

    def pairs(count: int) -> Iterator[Any]:
        yield from ((number, "x" * 100) for number in range(count))
        raise KeyError("the source ended badly")

    for count in (10, 20_000):
        with pytest.raises(KeyError, match="badly"):
            store.put_many(pairs(count))
        with pytest.raises(ValidationError):
            store.put_many([*((number, 1) for number in range(count)), (1, object())])
        assert len(store) == 0 and store.get(1) is None
    store[1] = 1
    with pytest.raises(ValidationError):
        store.remove_many([1, object()])
    assert 1 in store


def test_arguments_that_are_wrong(numbers: Map) -> None:
    for wrong in (5, "ab", [5], [(1,)], [(1, 2, 3)]):
        with pytest.raises(ValidationError):
            numbers.put_many(wrong)
    with pytest.raises(ValidationError):
        numbers.get(btree.Item(1))
    with pytest.raises(ValidationError):
        numbers.get(2**64)
    with pytest.raises(TypeError):
        numbers.get()
    with pytest.raises(TypeError):
        numbers.get(1, key=1)
    with pytest.raises(TypeError):
        numbers.get(1, nothing=1)
    with pytest.raises(KeyError):
        numbers[1000]
    with pytest.raises(KeyError):
        del numbers[1000]
    with pytest.raises(ZeroDivisionError):
        numbers.modify(1, lambda value: 1 // 0)
    assert numbers[1] == {"n": 1}


def test_only_unique_btrees_are_maps(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as transaction:
        db.new_btree(ctx, "twice", transaction, BtreeOptions("twice"))
    with pytest.raises(ValidationError, match="duplicates"):
        db.open_map(ctx, "twice")
    with pytest.raises(ValidationError):
        db.open_map(ctx, "m", BtreeOptions("other", is_unique=True))
    with pytest.raises(ValidationError):
        db.open_map(ctx, "m", durability=7)


def test_a_refused_btree_is_not_made(ctx: Context, db: Database) -> None:
    with pytest.raises(ValidationError, match="duplicates"):
        db.open_map(ctx, "m", BtreeOptions("m"))
    assert db.open_map(ctx, "m", BtreeOptions("m", is_unique=True)) is not None


@pytest.mark.parametrize("count", [10, 6000])
def test_half_of_a_failed_call_is_never_committed(
    ctx: Context, db: Database, numbers: Map, count: int
) -> None:
    def pairs() -> Iterator[Any]:
        yield from ((number, "half") for number in range(1000, 1000 + count))
        raise KeyError("the source ended badly")

    for call in (lambda m: m.put_many(pairs()), lambda m: m.remove_many([*range(count), object()])):
        transaction = db.begin_transaction(ctx)
        with pytest.raises((KeyError, ValidationError)):
            call(numbers.with_transaction(transaction))
        try:
            transaction.commit(ctx)
        except InvalidTransactionStateError as error:
            assert "halfway" in str(error) or "rolled back" in str(error)
        assert list(numbers) == list(range(100))


def test_modify_goes_on_when_a_checkpoint_takes_its_snapshot(ctx: Context, tmp_path: Any) -> None:
    with Database(ctx, tmp_path / "small", memory_limit=16 << 20) as db:
        store = db.open_map(ctx, "m", durability=Durability.Relaxed)
        store.put_many((number, "x" * 150) for number in range(100_000))
        seen = []

        def change(value: Any) -> str:
            seen.append(value)
            if len(seen) == 1:
                # Nothing of the files and of the cache that the call began with is left.
                store.put_many((number, "y" * 150) for number in range(100_000) if number != 50_000)
                db.compact(ctx)
                assert sum(1 for _ in store.items()) == 100_000
            return "new"

        assert store.modify(50_000, change) == "new" == store[50_000]
        assert set(seen) == {"x" * 150}


def test_pop_and_setdefault_are_one_step(numbers: Map) -> None:
    """Two calls each would lose what another thread does in between."""
    assert numbers.pop(0) == {"n": 0} and numbers.pop(0, "none") == "none" and 0 not in numbers
    with pytest.raises(KeyError):
        numbers.pop(0)
    assert numbers.popitem() == (1, {"n": 1}) and len(numbers) == 98
    assert numbers.setdefault(2, "new") == {"n": 2} and numbers.setdefault(1, "new") == "new" == numbers[1]
    numbers.put("none", None)
    assert numbers.setdefault("none", 1) is None and numbers.pop("none", 1) is None
    taken, given = [], []

    def work(name: int) -> None:
        for number in range(50):
            given.append((number, numbers.setdefault(("key", number), name)))
        while True:
            try:
                taken.append(numbers.popitem()[0])
            except KeyError:
                return

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(numbers) == 0
    assert len(taken) == len({repr(key) for key in taken})


def test_a_key_that_changes_lies_where_it_says(ctx: Context, db: Database) -> None:
    class Counted(dict):  # type: ignore[type-arg]
        """Every look at it gives another name."""

        asked = 0

        def items(self) -> Any:
            self.asked += 1
            return {"name": f"{self.asked}"}.items()

    store = db.open_map(ctx, "m", None, BY_NAME)
    store.put(Counted(name=""), "first")
    assert [store.get(key) for key in store] == ["first"]


def test_a_page_has_a_count(numbers: Map) -> None:
    class Three:
        def __index__(self) -> int:
            return 3

    assert len(numbers.page(None, Three())) == 3 and len(numbers.page(None, 2**70)) == 100  # type: ignore[arg-type]
    for wrong in (-1, -(2**70)):
        with pytest.raises(ValidationError, match="at least 0"):
            numbers.page(None, wrong)
    for wrong in (None, 1.5, "1"):
        with pytest.raises(TypeError):
            numbers.page(None, wrong)  # type: ignore[arg-type]
    assert list(reversed(numbers)) == list(range(99, -1, -1))


def test_an_item_of_a_derived_class_is_no_key(ctx: Context, db: Database, numbers: Map) -> None:
    class Derived(btree.Item[Any, Any]):
        pass

    for call in (
        numbers.get,
        numbers.remove,
        lambda item: numbers.put(item, 1),
        lambda item: numbers.page(item, 1),
    ):
        with pytest.raises(ValidationError, match="not an Item"):
            call(Derived(1))
    with db.begin_transaction(ctx) as transaction:
        opened = db.open_btree(ctx, "numbers", transaction)
        assert [item.value for item in opened.get_values(ctx, [Derived(1), btree.Item(2)])] == [
            {"n": 1},
            {"n": 2},
        ]
        with pytest.raises(ValidationError, match="not an Item"):
            opened.find_one(ctx, Derived(1))


def test_inside_a_transaction_nothing_shows_before_its_commit(
    ctx: Context, db: Database, numbers: Map
) -> None:
    with db.begin_transaction(ctx) as transaction:
        inside = numbers.with_transaction(transaction)
        inside[1] = "new"
        inside.put_many({200: 1, 201: 2})
        assert inside.remove(0) and inside.modify(5, lambda value: value["n"] + 1) == 6
        assert inside[1] == "new" and len(inside) == 101 and inside.page(200, 5) == [(200, 1), (201, 2)]
        assert numbers[1] == {"n": 1} and len(numbers) == 100
    assert numbers.get_many([0, 1, 5, 201]) == [None, "new", 6, 2]
    with pytest.raises(InvalidTransactionStateError):
        inside.get(1)
    reading = db.begin_transaction(ctx, TransactionMode.ForReading)
    before = numbers.with_transaction(reading)
    numbers[1] = "newer"
    assert before[1] == "new"
    with pytest.raises(InvalidTransactionStateError):
        before[1] = "no"


def test_a_map_is_not_there_in_a_transaction_older_than_it(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx, TransactionMode.ForReading) as reading:
        later = db.open_map(ctx, "later")
        with pytest.raises(StoreNotFoundError):
            later.with_transaction(reading).get(1)


def test_an_iteration_sees_one_snapshot(numbers: Map) -> None:
    walk = numbers.items()
    assert next(walk) == (0, {"n": 0})
    numbers.put_many((number, "later") for number in range(150))
    assert [value for _, value in walk] == [{"n": number} for number in range(1, 100)]


def test_a_transaction_that_meets_a_put_conflicts(ctx: Context, db: Database, numbers: Map) -> None:
    transaction = db.begin_transaction(ctx)
    inside = numbers.with_transaction(transaction)
    inside[1] = [inside[1], "mine"]
    numbers[1] = "theirs"
    with pytest.raises(ConflictError) as conflict:
        transaction.commit(ctx)
    assert conflict.value.details["key"] == 1 and numbers[1] == "theirs"


@pytest.mark.parametrize("durability", Durability)
def test_threads_that_modify_one_key_lose_nothing(
    ctx: Context, db: Database, numbers: Map, durability: Durability
) -> None:
    numbers = db.open_map(ctx, "numbers", durability=durability)

    def work() -> None:
        for _ in range(50):
            numbers.modify("hot", lambda value: value + 1, 0)
            numbers.put(threading.get_ident(), "put")
            assert numbers.remove(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert numbers["hot"] == 200 and len(numbers) == 101


COUNT_IN_PROCESS = """
import sys, sop
ctx = sop.Context()
with sop.Database(ctx, sys.argv[1]) as db:
    hot = db.open_map(ctx, "numbers", durability=sop.Durability.Relaxed)
    for _ in range(100):
        hot.modify("hot", lambda value: value + 1, 0)
"""


def test_processes_that_modify_one_key_lose_nothing(db: Database, numbers: Map, path: str) -> None:
    variables = {**environment(), "SOP_PURE": "1" if path == "pure" else ""}
    command = [sys.executable, "-c", COUNT_IN_PROCESS, db.storage_path]
    running = [subprocess.Popen(command, env=variables) for _ in range(3)]
    assert [process.wait(300) for process in running] == [0, 0, 0]
    assert numbers["hot"] == 300


def test_relaxed_commits_are_seen_by_others_at_once(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m", durability=Durability.Relaxed)
    store[1] = "relaxed"
    db.flush(ctx)
    options = TransactionOptions(durability=Durability.Relaxed)
    with db.begin_transaction(ctx, options=options) as transaction:
        store.with_transaction(transaction)[2] = "too"
    code = (
        "import sys, sop; ctx = sop.Context(); db = sop.Database(ctx, sys.argv[1])\n"
        "print(db.open_map(ctx, 'm').get_many([1, 2]))\n"
    )
    command = [sys.executable, "-c", code, db.storage_path]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['relaxed', 'too']"


def test_a_map_of_a_closed_database_says_so(db: Database, numbers: Map) -> None:
    walk = numbers.items()
    db.close()
    for call in (lambda: numbers.get(1), lambda: numbers.put(1, 1), lambda: len(numbers), lambda: next(walk)):
        with pytest.raises(StorageError, match="closed"):
            call()


def test_a_cancelled_context_ends_a_map(db: Database) -> None:
    ctx = Context()
    store = db.open_map(ctx, "m")
    store[1] = 1
    ctx.cancel()
    for call in (lambda: store.get(1), lambda: store.put(1, 1), lambda: store.get_many([1])):
        with pytest.raises(ContextCancelledError):
            call()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_opens_a_map_of_its_own(ctx: Context, tmp_path: Any, numbers: Map) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (lambda: numbers.get(1), lambda: numbers.put(1, 1), lambda: next(iter(numbers))):
                with pytest.raises(ForkedHandleError):
                    call()
            with Database(Context(), tmp_path / "db") as database:
                status = 0 if database.open_map(Context(), "numbers")[1] == {"n": 1} else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert numbers[1] == {"n": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_does_not_wait_for_a_call_of_its_parent(
    ctx: Context, db: Database, numbers: Map
) -> None:
    numbers.put_many((number, number) for number in range(20_000))
    inside = numbers.with_transaction(db.begin_transaction(ctx))
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            inside.get_many(range(20_000))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # ends a child that waits
                try:
                    for call in (lambda: inside.get(1), lambda: inside.put(1, 1), lambda: len(inside)):
                        with pytest.raises(ForkedHandleError):
                            call()
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        is_over.set()
        thread.join()


def test_python_code_that_runs_in_between_may_use_the_map(numbers: Map) -> None:
    seen = []

    class Noisy:
        """Makes garbage that calls the map when it is collected."""

        def __init__(self) -> None:
            self.self = self
            weakref.finalize(self, lambda: seen.append(numbers.get(1)))

    def pairs() -> Iterator[Any]:
        for number in range(3000):
            if number % 100 == 0:
                numbers.put("inner", number)
                Noisy()
            yield number, {"n": [numbers.get(number % 100)]}

    old = gc.get_threshold()
    gc.set_threshold(5)
    try:
        numbers.put_many(pairs())
        assert len(list(numbers.items())) == 3001
        numbers.modify("outer", lambda value: numbers.modify("inner", lambda inner: [inner]))
        gc.collect()
    finally:
        gc.set_threshold(*old)
    assert len(seen) == 30 and numbers["outer"] == numbers["inner"] == [2900]


def test_no_list_is_seen_before_it_is_whole(ctx: Context, db: Database) -> None:
    """The collector shows all lists to other threads, which crash at one with gaps."""
    store = db.open_map(ctx, "m")
    # Large numbers are decoded by Python code: threads take turns there.
    store.put_many((number, {"large": 2**70}) for number in range(300))
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            for found in gc.get_objects():
                if type(found) is list and found:
                    assert found[-1] is not is_over

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(30):
            assert len(store.page(None, 300)) == len(store.get_many(range(300))) == len(list(store.values()))
    finally:
        sys.setswitchinterval(interval)
        is_over.set()
        thread.join()


def test_one_iterator_in_two_threads_never_gives_an_item_twice(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m")
    store.put_many((number, number) for number in range(20_000))
    walk, got = store.keys(), []

    def work() -> None:
        try:
            for key in walk:
                got.append(key)
        except (ValidationError, ValueError):
            pass  # the other thread was fetching

    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(got) == len(set(got))


def test_a_map_is_there_whatever_is_in_it(ctx: Context, db: Database) -> None:
    store = db.open_map(ctx, "m")
    assert store and store == store and store != db.open_map(ctx, "m") and len({store, store}) == 1
    store.update({1: 1}, b=2)
    assert list(store.items()) == [(1, 1), ("b", 2)]
    store.clear()
    assert len(store) == 0 and not list(store)


def test_a_subclass_may_override_a_call(ctx: Context, db: Database) -> None:
    class Loud(Map):
        def get(self, key: Any, default: Any = None, raw: bool = False) -> Any:
            return ["loud", super().get(key, default, raw)]

    plain = db.open_map(ctx, "m")
    plain[1] = 1
    assert Loud(ctx, plain._functions, plain._within, plain._origin).get(1) == ["loud", 1]


def test_the_calls_of_btrees_mean_the_same_without_the_fast_path() -> None:
    names = ("test_btree.py", "test_btree_keys.py", "test_btree_cursor.py", "test_bad_input.py")
    files = [str(ROOT / "tests" / "python" / name) for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, env={**os.environ, "SOP_PURE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_functions_outlive_their_map_and_the_interpreter_ends_quietly(db: Database) -> None:
    code = (
        "import sys, sop; ctx = sop.Context(); db = sop.Database(ctx, sys.argv[1])\n"
        "get = db.open_map(ctx, 'm').get; walk = db.open_map(ctx, 'm').items()\n"
        "db.open_map(ctx, 'm')[1] = 1\n"
        "assert get(1) == 1\n"
    )
    command = [sys.executable, "-c", code, str(db.storage_path) + uuid.uuid4().hex]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_map_is_its_own_copy(numbers: Map) -> None:
    assert copy.copy(numbers) is numbers and copy.deepcopy({"map": numbers})["map"] is numbers
