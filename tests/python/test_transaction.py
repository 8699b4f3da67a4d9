"""Transactions: their states, what they see, and what conflicts."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path

import pytest

from sop import (
    ConflictError,
    Context,
    Database,
    DBType,
    ErasureCodingConfig,
    InvalidTransactionStateError,
    StoreNotFoundError,
    Transaction,
    TransactionError,
    TransactionMode,
    TransactionOptions,
    TransactionTimeoutError,
    ValidationError,
    btree,
)


def new_store(ctx: Context, t: Transaction, name: str = "s") -> btree.Btree:
    return btree.Btree.new(ctx, btree.BtreeOptions(name, True), t)


def value_of(ctx: Context, db: Database, key: object, name: str = "s") -> object:
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        item = btree.Btree.open(ctx, name, t).find_one(ctx, key)
        return None if item is None else item.value


@pytest.fixture
def stored(ctx: Context, db: Database) -> Database:
    """A database with the store "s": a, b, c -> 0."""
    with db.begin_transaction(ctx) as t:
        new_store(ctx, t).add(ctx, [btree.Item(key, 0) for key in "abc"])
    return db


# Options


def test_positional_order_of_the_options_is_that_of_2_0_17() -> None:
    erasure = {"": ErasureCodingConfig(2, 1, ["a", "b", "c"], True)}
    options = TransactionOptions(1, 5, 250, ["x"], erasure, 1)
    assert (options.mode, options.max_time, options.registry_hash_mod) == (1, 5, 250)
    assert (options.stores_folders, options.erasure_config, options.db_type) == (["x"], erasure, 1)
    defaults = TransactionOptions()
    assert (defaults.mode, defaults.max_time, defaults.registry_hash_mod) == (
        TransactionMode.ForWriting,
        15,
        250,
    )
    assert (defaults.stores_folders, defaults.erasure_config, defaults.db_type) == (
        None,
        None,
        DBType.Standalone,
    )


@pytest.mark.parametrize("mode", [1, TransactionMode.ForWriting, TransactionMode.ForWriting.value])
@pytest.mark.parametrize("max_time", [15, 0.5, 0, -1, 600])
def test_a_transaction_from_options(ctx: Context, tmp_path: Path, mode: int, max_time: float) -> None:
    options = TransactionOptions(mode, max_time, 250, [str(tmp_path)], {})
    with Transaction(ctx, options) as t:
        new_store(ctx, t).add(ctx, 1, "one")
    with Transaction(ctx, TransactionOptions(2, stores_folders=(tmp_path,))) as t:
        assert btree.Btree.open(ctx, "s", t).find_one(ctx, 1).value == "one"


@pytest.mark.parametrize(
    "options",
    [
        TransactionOptions(3, stores_folders=["x"]),
        TransactionOptions("write", stores_folders=["x"]),
        TransactionOptions(None, stores_folders=["x"]),
        TransactionOptions(1, "soon", stores_folders=["x"]),
        TransactionOptions(1, float("nan"), stores_folders=["x"]),
        TransactionOptions(1, 15, 249, ["x"]),
        TransactionOptions(1, 15, 750_001, ["x"]),
        TransactionOptions(1, 15, 2.5, ["x"]),
        TransactionOptions(1, 15, 250, "x"),
        TransactionOptions(1, 15, 250, [1]),
        TransactionOptions(1, 15, 250, [""]),
        TransactionOptions(1, 15, 250, []),
        TransactionOptions(1, 15, 250, None),
        TransactionOptions(1, 15, 250, ["x"], ["erasure"]),
        TransactionOptions(1, 15, 250, ["x"], {}, 2),
        TransactionOptions(1, 15, 250, ["\ud800"]),
    ],
)
def test_wrong_options_are_refused_at_once(ctx: Context, options: TransactionOptions) -> None:
    with pytest.raises(ValidationError):
        Transaction(ctx, options)


def test_a_transaction_needs_options_or_an_id(ctx: Context) -> None:
    with pytest.raises(TransactionError):
        Transaction(ctx)


# States


def test_begin_is_needed_and_may_be_repeated(ctx: Context, tmp_path: Path) -> None:
    t = Transaction(ctx, TransactionOptions(stores_folders=[tmp_path]))
    assert not t.begun
    assert t.transaction_id == uuid.UUID(int=0)
    for call in (lambda: t.commit(ctx), lambda: t.rollback(ctx)):
        with pytest.raises(InvalidTransactionStateError, match="begun"):
            call()
    with pytest.raises(InvalidTransactionStateError):
        new_store(ctx, t)
    t.begin()
    t.begin()
    assert t.begun
    assert t.transaction_id != uuid.UUID(int=0)
    t.commit(ctx)


@pytest.mark.parametrize("first", ["commit", "rollback"])
@pytest.mark.parametrize("second", ["commit", "rollback"])
def test_a_transaction_ends_once(ctx: Context, db: Database, first: str, second: str) -> None:
    t = db.begin_transaction(ctx)
    store = new_store(ctx, t)
    getattr(t, first)(ctx)
    with pytest.raises(InvalidTransactionStateError):
        getattr(t, second)(ctx)
    with pytest.raises(InvalidTransactionStateError):
        t.begin()
    with pytest.raises(InvalidTransactionStateError), t:
        pass
    with pytest.raises(InvalidTransactionStateError) as caught:
        store.add(ctx, 1, 1)
    assert isinstance(caught.value, btree.BtreeError)


def test_a_with_block_commits_or_rolls_back(ctx: Context, stored: Database) -> None:
    with stored.begin_transaction(ctx) as t:
        btree.Btree.open(ctx, "s", t).update(ctx, "a", 1)
    assert value_of(ctx, stored, "a") == 1
    with pytest.raises(KeyError), stored.begin_transaction(ctx) as t:
        btree.Btree.open(ctx, "s", t).update(ctx, "a", 2)
        raise KeyError
    assert value_of(ctx, stored, "a") == 1


def test_commit_or_rollback_inside_a_with_block_is_respected(ctx: Context, stored: Database) -> None:
    with stored.begin_transaction(ctx) as t:
        btree.Btree.open(ctx, "s", t).update(ctx, "a", 1)
        t.commit(ctx)
    assert value_of(ctx, stored, "a") == 1
    with stored.begin_transaction(ctx) as t:
        btree.Btree.open(ctx, "s", t).update(ctx, "a", 2)
        t.rollback(ctx)
    assert value_of(ctx, stored, "a") == 1
    with pytest.raises(KeyError), stored.begin_transaction(ctx) as t:
        btree.Btree.open(ctx, "s", t).update(ctx, "a", 3)
        t.commit(ctx)
        raise KeyError
    assert value_of(ctx, stored, "a") == 3


def test_an_error_caught_inside_a_with_block_does_not_end_it(ctx: Context, stored: Database) -> None:
    with stored.begin_transaction(ctx) as t:
        store = btree.Btree.open(ctx, "s", t)
        with pytest.raises(ValidationError):
            store.add(ctx, 1, {1, 2})
        with pytest.raises(ValidationError):
            store.get_items(ctx, btree.PagingInfo(page_size=-1))
        with pytest.raises(StoreNotFoundError):
            btree.Btree.open(ctx, "other", t)
        assert not store.add(ctx, "a", 1)
        assert store.update(ctx, "a", 7)
    assert value_of(ctx, stored, "a") == 7


def test_the_id_form_is_another_object_for_the_same_transaction(ctx: Context, stored: Database) -> None:
    t = stored.begin_transaction(ctx)
    other = Transaction(ctx, id=t.transaction_id, begun=True)
    assert other.begun
    assert other.transaction_id == t.transaction_id
    btree.Btree.open(ctx, "s", other).update(ctx, "a", 5)
    other.commit(ctx)
    assert value_of(ctx, stored, "a") == 5
    with pytest.raises(InvalidTransactionStateError):
        t.commit(ctx)


def test_an_unknown_id_is_no_transaction(ctx: Context) -> None:
    t = Transaction(ctx, id=uuid.uuid4(), begun=True)
    for call in (t.begin, lambda: t.commit(ctx), lambda: t.rollback(ctx)):
        with pytest.raises(TransactionError):
            call()


def test_a_forgotten_transaction_leaves_nothing(ctx: Context, stored: Database) -> None:
    def forget() -> None:
        t = stored.begin_transaction(ctx)
        btree.Btree.open(ctx, "s", t).update(ctx, "a", 1)

    for _ in range(50):
        forget()
    assert value_of(ctx, stored, "a") == 0
    with stored.begin_transaction(ctx) as t:
        assert btree.Btree.open(ctx, "s", t).update(ctx, "a", 2)


def test_a_store_keeps_its_transaction(ctx: Context, stored: Database) -> None:
    store = btree.Btree.open(ctx, "s", stored.begin_transaction(ctx))
    assert store.update(ctx, "a", 1)
    Transaction(ctx, id=store.transaction_id).commit(ctx)
    assert value_of(ctx, stored, "a") == 1


# What is seen


def test_two_stores_change_together(ctx: Context, stored: Database) -> None:
    t = stored.begin_transaction(ctx)
    btree.Btree.open(ctx, "s", t).update(ctx, "a", 1)
    new_store(ctx, t, "log").add(ctx, 1, "a is 1")
    t.rollback(ctx)
    assert value_of(ctx, stored, "a") == 0
    with stored.begin_transaction(ctx) as t:
        with pytest.raises(StoreNotFoundError):
            btree.Btree.open(ctx, "log", t)
        btree.Btree.open(ctx, "s", t).update(ctx, "a", 1)
        new_store(ctx, t, "log").add(ctx, 1, "a is 1")
    assert value_of(ctx, stored, "a") == 1
    assert value_of(ctx, stored, 1, "log") == "a is 1"


@pytest.mark.parametrize("mode", list(TransactionMode))
def test_a_transaction_reads_one_snapshot(ctx: Context, stored: Database, mode: TransactionMode) -> None:
    t = stored.begin_transaction(ctx, mode)
    with stored.begin_transaction(ctx) as writer:
        store = btree.Btree.open(ctx, "s", writer)
        store.update(ctx, "a", 1)
        store.add(ctx, "d", 1)
    store = btree.Btree.open(ctx, "s", t)
    assert [item.value for item in store.items(ctx)] == [0, 0, 0]
    assert store.count() == 3
    t.rollback(ctx)
    assert value_of(ctx, stored, "a") == 1


@pytest.mark.parametrize("mode", [TransactionMode.NoCheck, TransactionMode.ForReading])
def test_reading_transactions_refuse_to_write(ctx: Context, stored: Database, mode: TransactionMode) -> None:
    for write in (
        lambda store: store.add(ctx, 1, 1),
        lambda store: store.update(ctx, "a", 1),
        lambda store: store.upsert(ctx, "a", 1),
        lambda store: store.remove(ctx, "a"),
    ):
        t = stored.begin_transaction(ctx, mode)
        with pytest.raises(TransactionError):
            write(btree.Btree.open(ctx, "s", t))
    with stored.begin_transaction(ctx, mode) as t:
        assert btree.Btree.open(ctx, "s", t).find_one(ctx, "a").value == 0


# Conflicts


def test_of_two_writers_of_one_item_the_second_loses(ctx: Context, stored: Database) -> None:
    first, second = stored.begin_transaction(ctx), stored.begin_transaction(ctx)
    for number, t in enumerate((first, second), 1):
        btree.Btree.open(ctx, "s", t).update(ctx, "a", number)
    first.commit(ctx)
    with pytest.raises(ConflictError) as caught:
        second.commit(ctx)
    assert caught.value.retryable
    assert "s" in str(caught.value.details.get("store"))
    assert value_of(ctx, stored, "a") == 1
    with pytest.raises(InvalidTransactionStateError):
        second.commit(ctx)


def test_writers_of_different_items_both_commit(ctx: Context, stored: Database) -> None:
    first, second = stored.begin_transaction(ctx), stored.begin_transaction(ctx)
    btree.Btree.open(ctx, "s", first).update(ctx, "a", 1)
    btree.Btree.open(ctx, "s", second).update(ctx, "b", 2)
    first.commit(ctx)
    second.commit(ctx)
    assert (value_of(ctx, stored, "a"), value_of(ctx, stored, "b")) == (1, 2)


def test_two_adds_of_one_key_conflict(ctx: Context, stored: Database) -> None:
    first, second = stored.begin_transaction(ctx), stored.begin_transaction(ctx)
    for t in (first, second):
        assert btree.Btree.open(ctx, "s", t).add(ctx, "new", 1)
    first.commit(ctx)
    with pytest.raises(ConflictError):
        second.commit(ctx)


@pytest.mark.parametrize(
    "read",
    [
        lambda store, ctx: store.find_one(ctx, "a"),
        lambda store, ctx: store.find(ctx, "missing"),
        lambda store, ctx: list(store.items(ctx)),
        lambda store, ctx: store.get_values(ctx, ["a", "missing"]),
    ],
)
def test_what_a_writer_read_must_not_have_changed(ctx: Context, stored: Database, read) -> None:
    """Write skew: reads of items, misses and ranges count."""
    t = stored.begin_transaction(ctx)
    store = btree.Btree.open(ctx, "s", t)
    read(store, ctx)
    store.update(ctx, "b", 1)
    with stored.begin_transaction(ctx) as other:
        changed = btree.Btree.open(ctx, "s", other)
        changed.update(ctx, "a", 1)
        changed.add(ctx, "missing", 1)
    with pytest.raises(ConflictError):
        t.commit(ctx)
    assert value_of(ctx, stored, "b") == 0


def test_a_retry_after_a_conflict_succeeds(ctx: Context, stored: Database) -> None:
    """Four threads count up; every increment counts."""
    failures: list[BaseException] = []

    def count_up() -> None:
        mine = Context()
        try:
            for _ in range(25):
                while True:
                    try:
                        with stored.begin_transaction(mine) as t:
                            store = btree.Btree.open(mine, "s", t)
                            store.update(mine, "a", store.find_one(mine, "a").value + 1)
                        break
                    except TransactionError as error:
                        if not error.retryable:
                            raise
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert value_of(ctx, stored, "a") == 100


def test_a_transaction_older_than_max_time_is_refused(ctx: Context, stored: Database) -> None:
    t = stored.begin_transaction(ctx, options=TransactionOptions(max_time=0.0005))
    btree.Btree.open(ctx, "s", t).update(ctx, "a", 9)
    time.sleep(0.1)
    with pytest.raises(TransactionTimeoutError):
        t.commit(ctx)
    assert value_of(ctx, stored, "a") == 0


# Options of begin_transaction


def test_options_of_begin_transaction_must_be_for_this_database(
    ctx: Context, db: Database, tmp_path: Path
) -> None:
    folder, erasure = str(tmp_path / "db"), {"": ErasureCodingConfig(1, 1, ["a", "b"], False)}
    for same in (TransactionOptions(1, 5), TransactionOptions(1, 5, 300, [folder], {}, 0)):
        db.begin_transaction(ctx, options=same).rollback(ctx)
    for other in (
        TransactionOptions(stores_folders=[str(tmp_path / "other")]),
        TransactionOptions(stores_folders=[folder, str(tmp_path / "other")]),
        TransactionOptions(stores_folders=[folder], erasure_config=erasure),
        TransactionOptions(erasure_config=erasure),
        TransactionOptions(db_type=DBType.Clustered),
        TransactionOptions(registry_hash_mod=7),
    ):
        with pytest.raises(ValidationError):
            db.begin_transaction(ctx, options=other)


@pytest.mark.parametrize("mode", [7, -1, "1", None])
def test_begin_transaction_checks_the_mode(ctx: Context, db: Database, mode: object) -> None:
    with pytest.raises(ValidationError):
        db.begin_transaction(ctx, mode)


def test_erasure_options_compare_and_hash() -> None:
    one, two = (ErasureCodingConfig(2, 1, ["a", "b", "c"], True) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != ErasureCodingConfig(2, 1, ["a", "b", "d"], True)


def test_a_count_is_not_checked_at_commit(ctx: Context, db: Database) -> None:
    """As README.md and the docstring say."""
    with db.begin_transaction(ctx) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
    counting = db.begin_transaction(ctx)
    store = btree.Btree.open(ctx, "s", counting)
    assert store.count(ctx) == 0
    with db.begin_transaction(ctx) as t:
        btree.Btree.open(ctx, "s", t).add(ctx, 1, 1)
    assert store.count(ctx) == 0
    store.add(ctx, 2, 2)
    counting.commit(ctx)
    with db.begin_transaction(ctx) as t:
        assert btree.Btree.open(ctx, "s", t).count(ctx) == 2
