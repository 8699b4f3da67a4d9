"""Databases opened with read_only: everything can be read, nothing is written, others write meanwhile."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from conftest import environment
from sop import (
    Context,
    Database,
    DBType,
    ErasureCodingConfig,
    StorageError,
    TransactionMode,
    ValidationError,
    btree,
)
from sop.ai import Item, Model, VectorDatabase
from sop.redis import Redis


def fill(ctx: Context, db: VectorDatabase) -> None:
    with db.begin_transaction(ctx) as t:
        numbers = btree.Btree.new(ctx, btree.BtreeOptions("numbers", True), t)
        for number in range(200):
            numbers.add(ctx, btree.Item(number, "x" * 2_000))
        notes = db.open_vector_store(ctx, t, "notes")
        notes.upsert_batch(ctx, [Item(f"n{i}", [float(i), 1.0], {"i": i}) for i in range(20)])
        db.open_model_store(ctx, t, "models").save(ctx, "kind", "first", Model("m1", parameters=[1.5]))


def check(ctx: Context, db: VectorDatabase) -> None:
    with db.begin_transaction(ctx) as t:
        numbers = btree.Btree.open(ctx, "numbers", t)
        assert [item.key for item in numbers.items(ctx)] == list(range(200))
        notes = db.open_vector_store(ctx, t, "notes")
        assert notes.query(ctx, [0.0, 1.0], k=1)[0].id == "n0"
        assert db.open_model_store(ctx, t, "models").get(ctx, "kind", "first")["parameters"] == [1.5]
    assert db.open_map(ctx, "numbers")[7] == "x" * 2_000
    assert db.open(ctx, "notes").count() == 20
    assert {store.name for store in db.stores()} >= {"numbers", "notes"}


def everything(*folders: Path) -> dict[str, tuple[Any, ...]]:
    """What a write would change, of all that lies in the folders."""
    found = {}
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))]:
            about = path.stat()
            content = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
            found[str(path)] = (about.st_mode, about.st_mtime_ns, about.st_ino, content)
    return found


class Place:
    """A database: the parent of all its folders, the options of who writes it, and of who reads it."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.url = ""
        self.reading: dict[str, Any] = {"storage_path": str(root / "db")}
        if kind == "mirrored":
            self.reading = {"stores_folders": [str(root / name) for name in ("db", "mirror", "third")]}
        if kind == "coded":
            drives = [root / f"drive{number}" for number in range(3)]
            for drive in drives:
                drive.mkdir(parents=True)
            self.reading["erasure_config"] = {"": ErasureCodingConfig(2, 1, [str(d) for d in drives], True)}
        # Who reads needs no server, and need not say how the database is opened.
        self.writing = {**self.reading, "db_type": DBType.Clustered} if kind == "clustered" else self.reading

    def read(self, ctx: Context) -> VectorDatabase:
        return VectorDatabase(ctx, **self.reading, read_only=True)

    def write(self, ctx: Context) -> VectorDatabase:
        return VectorDatabase(ctx, **self.writing)


@pytest.fixture(params=["plain", "clustered", "mirrored", "coded"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "root", request.param)
    if request.param == "clustered":
        place.url = request.getfixturevalue("redis_server").url
        Redis.open_connection(place.url)
    yield place
    if place.url:
        Redis.close_connection()


def test_all_is_read_and_nothing_written(ctx: Context, place: Place) -> None:
    with place.write(ctx) as db:
        fill(ctx, db)
    before = everything(place.root)
    with place.read(ctx) as db:
        check(ctx, db)
        assert "read only" in repr(db)
        assert not db.verify().findings
        check(ctx, pickle.loads(pickle.dumps(db)))
    assert everything(place.root) == before


KILLED = """
import os, pickle, sys
from test_read_only import fill
from sop import Context
from sop.redis import Redis

place = pickle.load(sys.stdin.buffer)
if place.url:
    Redis.open_connection(place.url)
fill(Context(), place.write(Context()))
os._exit(9)
"""


def test_what_a_killed_writer_left_is_read_as_it_lies(ctx: Context, place: Place) -> None:
    environ = environment()
    environ["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    killed = [sys.executable, "-c", KILLED]
    assert subprocess.run(killed, input=pickle.dumps(place), env=environ, check=False).returncode == 9
    before = everything(place.root)
    with place.read(ctx) as db:
        check(ctx, db)
    assert everything(place.root) == before


def test_it_sees_what_others_commit_meanwhile(ctx: Context, place: Place) -> None:
    with place.write(ctx) as writer, place.read(ctx) as reader:
        fill(ctx, writer)
        writes, reads = writer.open_map(ctx, "numbers"), reader.open_map(ctx, "numbers")
        for number in range(50):
            writes[number] = number
            assert reads[number] == number
        writer.compact()
        writes[0] = "after"
        assert reads[0] == "after"
        with reader.begin_transaction(ctx, TransactionMode.ForReading) as t:
            assert btree.Btree.open(ctx, "numbers", t).find_one(ctx, 1).value == 1


def writes_of(ctx: Context, db: VectorDatabase) -> list[Callable[[], object]]:
    def change(what: Callable[[Any], object]) -> Callable[[], object]:
        def run() -> None:
            with db.begin_transaction(ctx) as t:
                what(t)

        return run

    numbers = db.open_map(ctx, "numbers")
    return [
        lambda: numbers.update({1: 2}),
        lambda: numbers.pop(1),
        lambda: db.open_map(ctx, "new"),
        lambda: db.open(ctx, "notes").upsert(ctx, Item("n", [1.0, 2.0], {})),
        lambda: db.open(ctx, "notes").delete(ctx, "n1"),
        lambda: db.open(ctx, "new vectors").upsert(ctx, Item("n", [1.0, 2.0], {})),
        lambda: db.open_model_store(ctx, "models").save(ctx, "kind", "other", Model("m2")),
        lambda: db.compact(),
        lambda: db.repair(),
        lambda: db.reinstate(),
        change(lambda t: btree.Btree.new(ctx, btree.BtreeOptions("new", True), t)),
        change(lambda t: btree.Btree.open(ctx, "numbers", t).add(ctx, btree.Item(1_000, 1))),
        change(lambda t: btree.Btree.open(ctx, "numbers", t).remove(ctx, 1)),
        change(lambda t: db.open_vector_store(ctx, t, "notes").optimize(ctx)),
    ]


def test_every_write_is_refused_and_changes_nothing(ctx: Context, place: Place) -> None:
    with place.write(ctx) as db:
        fill(ctx, db)
    before = everything(place.root)
    with place.read(ctx) as db:
        for write in writes_of(ctx, db):
            with pytest.raises(StorageError, match="read_only: open it without to write"):
                write()
        check(ctx, db)
    assert everything(place.root) == before


def test_only_what_is_there_can_be_read(ctx: Context, place: Place) -> None:
    for make in (lambda: None, lambda: (place.root / "db").mkdir(parents=True)):
        make()
        before = everything(place.root) if place.root.exists() else {}
        with pytest.raises(ValidationError, match="there is no database in"), place.read(ctx) as db:
            db.begin_transaction(ctx, TransactionMode.ForReading)
        assert (everything(place.root) if place.root.exists() else {}) == before


def test_a_reader_and_a_writer_of_one_process_close_by_themselves(ctx: Context, place: Place) -> None:
    writer, reader = place.write(ctx), place.read(ctx)
    fill(ctx, writer)
    check(ctx, reader)
    reader.close()
    writer.open_map(ctx, "numbers")[0] = "x" * 2_000
    check(ctx, reader)
    writer.close()
    check(ctx, reader)
    reader.close()


def test_a_reader_of_damaged_drives_repairs_nothing(ctx: Context, tmp_path: Path) -> None:
    place = Place(tmp_path / "root", "coded")
    with place.write(ctx) as db:
        fill(ctx, db)
        db.compact()
    for shard in (place.root / "drive0").rglob("*"):
        if shard.is_file() and shard.stat().st_size > 100_000:
            shard.write_bytes(b"")
    before = everything(place.root)
    with place.read(ctx) as db:
        check(ctx, db)
    assert everything(place.root) == before


@pytest.mark.parametrize("given", [1, None, "yes"])
def test_read_only_is_true_or_false(ctx: Context, tmp_path: Path, given: Any) -> None:
    with pytest.raises(ValidationError, match="read_only must be True or False"):
        Database(ctx, storage_path=tmp_path, read_only=given)


@pytest.mark.parametrize("lost", ["db", "mirror", "third"])
def test_a_reader_goes_on_when_a_copy_is_lost(ctx: Context, tmp_path: Path, lost: str) -> None:
    place = Place(tmp_path / "root", "mirrored")
    with place.write(ctx) as writer, place.read(ctx) as reader:
        fill(ctx, writer)
        writes, reads = writer.open_map(ctx, "numbers"), reader.open_map(ctx, "numbers")
        assert reads[7] == "x" * 2_000
        shutil.rmtree(place.root / lost)
        for number in range(5):
            writes[number] = number
        with reader.begin_transaction(ctx, TransactionMode.ForReading) as t:
            assert btree.Btree.open(ctx, "numbers", t).find_one(ctx, 4).value == 4
        assert reads[4] == 4
