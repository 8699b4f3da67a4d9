"""Databases: options, opening on first use, closing, sharing a folder, and what is left behind."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import environment
from sop import (
    Context,
    Database,
    Error,
    StoreNotFoundError,
    Transaction,
    TransactionOptions,
    ValidationError,
    btree,
)
from sop._library import native
from sop.ai import Item, Model, VectorDatabase


def put(ctx: Context, db: Database, key: object, value: object) -> None:
    with db.begin_transaction(ctx) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).upsert(ctx, key, value)


def get(ctx: Context, db: Database, key: object) -> object:
    with db.begin_transaction(ctx) as t:
        return btree.Btree.open(ctx, "s", t).find_one(ctx, key).value


def test_the_constructor_touches_no_disk(ctx: Context, tmp_path: Path) -> None:
    db = Database(ctx, storage_path=tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    put(ctx, db, 1, "one")
    assert (tmp_path / "a" / "b").is_dir()
    db.close(ctx)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"storage_path": ""},
        {"storage_path": None},
        {"storage_path": 7},
        {"storage_path": b"bytes"},
        {"storage_path": "x", "db_type": 2},
        {"storage_path": "x", "db_type": "Standalone"},
        {"storage_path": "x", "erasure_config": 3},
        {"storage_path": "x", "stores_folders": "y"},
        {"storage_path": "", "stores_folders": []},
        {"storage_path": "x", "stores_folders": [""]},
    ],
)
def test_wrong_arguments_are_refused_at_once(ctx: Context, arguments: dict) -> None:
    for kind in (Database, VectorDatabase):
        with pytest.raises(ValidationError):
            kind(ctx, **arguments)


def test_a_path_with_a_nul_is_refused(ctx: Context) -> None:
    with pytest.raises((ValidationError, ValueError)):
        Database(ctx, storage_path="a\0b").begin_transaction(ctx)


def test_the_usage_mode_is_checked(ctx: Context) -> None:
    for wrong in (3, "Dynamic", None):
        with pytest.raises(ValidationError):
            VectorDatabase(ctx, storage_path="x", usage_mode=wrong)


def test_stores_folders_come_before_storage_path(ctx: Context, tmp_path: Path) -> None:
    db = Database(ctx, storage_path=tmp_path / "one", stores_folders=[tmp_path / "two"])
    put(ctx, db, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_a_relative_path_is_that_of_the_constructor(
    ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    db = Database(ctx, storage_path="./here")
    monkeypatch.chdir(tmp_path / "elsewhere")
    put(ctx, db, 1, "one")
    assert (tmp_path / "here").is_dir()
    assert db.storage_path == "./here"


def test_closing_and_using_again(ctx: Context, tmp_path: Path) -> None:
    db = Database(ctx, storage_path=tmp_path)
    db.close(ctx)
    put(ctx, db, 1, "one")
    db.close(ctx)
    db.close()
    assert get(ctx, db, 1) == "one"
    with db as same:
        assert same is db
    assert get(ctx, db, 1) == "one"


def test_closing_ends_what_is_open_on_it(ctx: Context, tmp_path: Path) -> None:
    db = Database(ctx, storage_path=tmp_path)
    put(ctx, db, 1, "one")
    t = db.begin_transaction(ctx)
    store = btree.Btree.open(ctx, "s", t)
    store.update(ctx, 1, "lost")
    db.close(ctx)
    with pytest.raises(Error, match="closed"):
        t.commit(ctx)
    assert get(ctx, db, 1) == "one"


def test_all_objects_on_a_folder_share_it(ctx: Context, tmp_path: Path) -> None:
    one, two = Database(ctx, storage_path=tmp_path), VectorDatabase(ctx, storage_path=str(tmp_path))
    put(ctx, one, 1, "one")
    assert get(ctx, two, 1) == "one"
    with Transaction(ctx, TransactionOptions(stores_folders=[str(tmp_path)])) as t:
        assert btree.Btree.open(ctx, "s", t).find_one(ctx, 1).value == "one"
    t = one.begin_transaction(ctx)
    assert two.open_vector_store(ctx, t, "v").count(ctx) == 0
    t.rollback(ctx)


def test_a_transaction_of_another_database_is_refused(ctx: Context, tmp_path: Path) -> None:
    one, two = (
        VectorDatabase(ctx, storage_path=tmp_path / "1"),
        VectorDatabase(ctx, storage_path=tmp_path / "2"),
    )
    with one.begin_transaction(ctx) as t:
        for use in (
            lambda: two.open_vector_store(ctx, t, "v"),
            lambda: two.open_model_store(ctx, t, "m"),
            lambda: two.new_btree(ctx, "b", t),
            lambda: two.open(ctx, "v").with_transaction(t),
        ):
            with pytest.raises(ValidationError, match="the transaction is on"):
                use()


def test_a_removed_folder_is_made_anew(ctx: Context, tmp_path: Path) -> None:
    folder = tmp_path / "db"
    db = Database(ctx, storage_path=folder)
    put(ctx, db, 1, "one")
    shutil.rmtree(folder)
    with pytest.raises(StoreNotFoundError):
        get(ctx, db, 1)
    put(ctx, db, 2, "two")
    assert get(ctx, db, 2) == "two"


def test_a_copied_folder_is_the_same_database(ctx: Context, tmp_path: Path) -> None:
    with Database(ctx, storage_path=tmp_path / "one") as db:
        put(ctx, db, 1, "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    with Database(ctx, storage_path=tmp_path / "two") as db:
        assert get(ctx, db, 1) == "one"


def test_a_file_in_place_of_the_folder(ctx: Context, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a database")
    with pytest.raises(Error) as caught:
        Database(ctx, storage_path=path).begin_transaction(ctx)
    assert str(path) in str(caught.value)
    assert path.read_text() == "not a database"


def test_nothing_is_left_behind(ctx: Context, tmp_path: Path) -> None:
    """Objects of each kind come and go; so do their native handles, ended or not."""

    def use(db: VectorDatabase) -> None:
        with db.begin_transaction(ctx) as t:
            btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).upsert(ctx, 1, 1)
            db.open_vector_store(ctx, t, "v").upsert(ctx, Item("1", [1.0]))
            db.open_model_store(ctx, t, "m").save(ctx, "c", "n", Model("n"))
        t = db.begin_transaction(ctx)
        db.open(ctx, "v").with_transaction(t).count(ctx)
        db.open_model_store(ctx, "m").list(ctx, "c")

    with VectorDatabase(ctx, storage_path=tmp_path) as db:
        use(db)
        gc.collect()
        before = native.sop_handle_count()
        for _ in range(100):
            use(db)
        gc.collect()
        assert native.sop_handle_count() == before
        open_files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        assert open_files < 200


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files by /proc")
@pytest.mark.parametrize("by_options", [False, True])
def test_folders_that_nobody_uses_do_not_stay_open_without_limit(
    ctx: Context, tmp_path: Path, by_options: bool
) -> None:
    """A process that goes through many folders does not run out of files; what is in use stays usable."""

    def begin(name: str) -> Transaction:
        if by_options:
            transaction = Transaction(ctx, TransactionOptions(stores_folders=[str(tmp_path / name)]))
            transaction.begin()
            return transaction
        return Database(ctx, storage_path=tmp_path / name).begin_transaction(ctx)

    before = len(os.listdir("/proc/self/fd"))
    kept = begin("kept")
    for number in range(100):
        with begin(str(number)) as t:
            btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).add(ctx, 1, number)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) - before < 300
    btree.Btree.new(ctx, btree.BtreeOptions("s", True), kept).add(ctx, 1, "kept")
    kept.commit(ctx)
    for name, value in [("kept", "kept"), ("0", 0), ("99", 99)]:
        with begin(name) as t:
            assert btree.Btree.open(ctx, "s", t).find_one(ctx, 1).value == value


def test_a_folder_has_one_database_by_whatever_path(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    real, link = (VectorDatabase(ctx, storage_path=tmp_path / name) for name in ("real", "link"))
    with real.begin_transaction(ctx) as t:
        link.open_vector_store(ctx, t, "v").upsert(ctx, Item("1", [1.0]))
        link.new_btree(ctx, "s", t).add(ctx, 1, 1)
    assert link.open(ctx, "v").count() == 1
    with VectorDatabase(ctx, storage_path=tmp_path / "other") as other:
        with real.begin_transaction(ctx) as t, pytest.raises(ValidationError, match="not on the one in"):
            other.open_vector_store(ctx, t, "v")


def test_a_folder_that_another_database_uses_stays_open(ctx: Context, tmp_path: Path) -> None:
    one, other = (Database(ctx, storage_path=tmp_path) for _ in range(2))
    put(ctx, one, 1, 1)
    put(ctx, other, 2, 2)
    t = one.begin_transaction(ctx)
    one.close(ctx)
    assert btree.Btree.open(ctx, "s", t).count(ctx) == 2
    other.close(ctx)
    with pytest.raises(Error, match="closed"):
        btree.Btree.open(ctx, "s", t)


def test_a_memory_limit_holds_data_many_times_larger(ctx: Context, tmp_path: Path) -> None:
    """In a process of its own, so that nothing else counts."""
    program = """
import resource, sys
from sop import Context, Database, btree

ctx = Context()
with Database(ctx, storage_path=sys.argv[1], memory_limit=16 << 20) as db:
    def store(t):
        return btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)

    with db.begin_transaction(ctx) as t:
        store(t)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for first in range(0, 100_000, 1000):
        with db.begin_transaction(ctx) as t:
            store(t).add(ctx, [btree.Item(key, "x" * 1000) for key in range(first, first + 1000)])
    with db.begin_transaction(ctx, 2) as t:
        assert sum(1 for _ in store(t).items(ctx)) == 100_000
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "db")]
    run = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    grown = int(run.stdout)
    assert grown < 48 << 10, f"{grown} KiB for 100 MB of data"


@pytest.mark.parametrize("limit", [1, -1, True, "16", 1.5e9, 1 << 70])
def test_a_memory_limit_that_is_none_is_refused(ctx: Context, tmp_path: Path, limit: Any) -> None:
    with pytest.raises(ValidationError):
        Database(ctx, storage_path=tmp_path, memory_limit=limit)
