"""Programs that the tests run on a disk of their own: disks.py TASK MOUNTED_FOLDER."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sop
from sop import Context, Database, TransactionMode, ai, btree

VALUE = "x" * 100_000


def put(ctx: Context, db: Database, key: object, value: object) -> None:
    with db.begin_transaction(ctx) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("s", True), t).upsert(ctx, key, value)


def keys(ctx: Context, db: Database) -> list:
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        store = btree.Btree.open(ctx, "s", t)
        assert all(value == VALUE for value in store.values(ctx))
        return list(store.keys(ctx))


def full(folder: str) -> None:
    """Fills the disk: a typed error, the process lives, nothing acknowledged is lost, more room helps."""
    ctx = Context()
    db = Database(ctx, storage_path=f"{folder}/db")
    acknowledged = 0
    try:
        while acknowledged < 100_000:
            put(ctx, db, acknowledged, VALUE)
            acknowledged += 1
    except sop.DiskFullError as error:
        assert error.code == 52
    else:
        raise AssertionError("the disk is never full")
    for _ in range(3):
        try:
            put(ctx, db, acknowledged, VALUE)
            acknowledged += 1
        except sop.StorageError:
            pass
    assert keys(ctx, db)[:acknowledged] == list(range(acknowledged))
    assert keys(ctx, Database(Context(), storage_path=f"{folder}/db"))[:acknowledged] == list(
        range(acknowledged)
    )

    subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
    put(ctx, db, acknowledged, VALUE)
    assert keys(ctx, db) == list(range(acknowledged + 1))
    print("ok")


def full_from_the_start(folder: str) -> None:
    Path(folder, "ballast").write_bytes(b"x" * 10_000_000)
    try:
        with open(Path(folder, "rest"), "wb") as rest:
            while True:
                rest.write(b"x" * 4096)
    except OSError:
        pass
    ctx = Context()
    db = Database(ctx, storage_path=f"{folder}/db")
    for _ in range(3):
        try:
            put(ctx, db, 1, VALUE)
        except sop.DiskFullError:
            continue
        raise AssertionError("there is room")
    Path(folder, "rest").unlink()
    subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
    put(ctx, db, 1, VALUE)
    assert keys(ctx, db) == [1]
    print("ok")


def read_only(folder: str) -> None:
    """A database whose folder becomes read-only is read, and refuses writes."""
    ctx = Context()
    with Database(ctx, storage_path=f"{folder}/db") as db:
        for key in range(3):
            put(ctx, db, key, VALUE)
        ai.VectorDatabase(ctx, storage_path=f"{folder}/db").open(ctx, "v").upsert(ctx, ai.Item("a", [1.0]))
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    db = ai.VectorDatabase(ctx, storage_path=f"{folder}/db")
    for _ in range(2):
        assert keys(ctx, db) == [0, 1, 2]
        assert db.open(ctx, "v").query(ctx, [1.0])[0].id == "a"
        for write in (
            lambda: put(ctx, db, 3, VALUE),
            lambda: db.open(ctx, "v").upsert(ctx, ai.Item("b", [1.0])),
            lambda: db.open_model_store(ctx, "m").save(ctx, "c", "n", {}),
        ):
            refused(write)
    refused(lambda: put(ctx, Database(ctx, storage_path=f"{folder}/other"), 1, VALUE))
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    db.close(ctx)
    put(ctx, db, 3, VALUE)
    assert keys(ctx, db) == [0, 1, 2, 3]
    print("ok")


def copies_read_only(folder: str) -> None:
    """Of three folders, and of home and three drives, each becomes read-only while it is used."""
    drives = [f"{folder}/drive{number}" for number in range(3)]
    coded = {"": sop.ErasureCodingConfig(2, 1, drives)}
    homes = [f"{folder}/home{number}" for number in range(3)]
    outlive(homes, lambda ctx: Database(ctx, stores_folders=homes))
    home = f"{folder}/coded"
    outlive([home, *drives], lambda ctx: Database(ctx, storage_path=home, erasure_config=coded))
    print("ok")


def outlive(folders: list, open_database) -> None:
    ctx = Context()
    written = 0
    for read_only in folders:
        with open_database(ctx) as db:
            put(ctx, db, written, VALUE)
            # Whoever has files of it open keeps them; nothing is opened for writing or made any more.
            subprocess.run(["mount", "--bind", read_only, read_only], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
            put(ctx, db, written + 1, VALUE)
        with open_database(ctx) as db:
            assert not db.status(ctx).healthy
            put(ctx, db, written + 2, VALUE)
            written += 3
            assert keys(ctx, db) == list(range(written))
        subprocess.run(["umount", "-l", read_only], check=True)
        with open_database(ctx) as db:
            assert keys(ctx, db) == list(range(written))
            db.repair(ctx)
            assert db.status(ctx).healthy, db.status(ctx).summary
            assert db.scrub(ctx).intact


def refused(write) -> None:
    try:
        write()
    except sop.StorageError:
        return
    raise AssertionError("written to a read-only folder")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
