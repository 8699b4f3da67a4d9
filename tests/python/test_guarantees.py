"""libjsondb/docs/guarantees.md, as far as no other test keeps it: limits, isolation, failures."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Callable

import pytest

from conftest import environment
from sop import (
    ConflictError,
    Context,
    CorruptionError,
    Database,
    DimensionMismatchError,
    ErasureCodingConfig,
    Error,
    FilterError,
    StorageError,
    StoreNotFoundError,
    TransactionMode,
    TransactionOptions,
    TransactionTimeoutError,
    ValidationError,
    btree,
)
from sop.ai import Item, Metric, VectorDatabase

VALUE_BYTES_MAX = 1_072_693_248


@pytest.fixture
def vdb(ctx: Context, tmp_path: Path) -> VectorDatabase:
    return VectorDatabase(ctx, storage_path=tmp_path / "db")


# Limits: what is at the limit, and what is beyond it.


def nested(value: Any, depth: int, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(depth):
        value = wrap(value)
    return value


def put(key: Any, value: Any = 1) -> Callable[[Context, VectorDatabase], Any]:
    return lambda ctx, vdb: vdb.open_map(ctx, "m").put(key, value)


def upsert(
    id: str, vector: list[float], metric: Metric | None = None
) -> Callable[[Context, VectorDatabase], Any]:
    return lambda ctx, vdb: vdb.open(ctx, "v", metric=metric).upsert(ctx, Item(id, vector))


def save(category: str, name: str, **more: Any) -> Callable[[Context, VectorDatabase], Any]:
    return lambda ctx, vdb: vdb.open_model_store(ctx, "m").save(ctx, category, name, {}, **more)


def query(queries: int = 1, **options: Any) -> Callable[[Context, VectorDatabase], Any]:
    def run(ctx: Context, vdb: VectorDatabase) -> None:
        store = vdb.open(ctx, "v")
        store.upsert(ctx, Item("a", [1.0]))
        store.query_arrays(ctx, [[1.0]] * queries, **{"k": 1, **options})

    return run


def after_another(vector: list[float]) -> Callable[[Context, VectorDatabase], Any]:
    def run(ctx: Context, vdb: VectorDatabase) -> None:
        upsert("a", [1.0])(ctx, vdb)
        upsert("b", vector)(ctx, vdb)

    return run


def coded(data: int, parity: int) -> Callable[[Context, VectorDatabase], Any]:
    def use(ctx: Context, vdb: VectorDatabase) -> None:
        drives = [f"{vdb.storage_path} {data} {parity} {n}" for n in range(data + parity)]
        coding = {"": ErasureCodingConfig(data, parity, drives)}
        with Database(ctx, vdb.storage_path, erasure_config=coding) as db:
            db.begin_transaction(ctx).rollback(ctx)

    return use


def mirrored(folders: int) -> Callable[[Context, VectorDatabase], Any]:
    return lambda ctx, vdb: put("k")(
        ctx,
        VectorDatabase(ctx, stores_folders=[f"{vdb.storage_path} {n} of {folders}" for n in range(folders)]),
    )


def opened(name: str) -> Callable[[Context, VectorDatabase], Any]:
    return lambda ctx, vdb: (vdb.open_map(ctx, name), vdb.open(ctx, name), vdb.open_model_store(ctx, name))


def memory(limit: int) -> Callable[[Context, VectorDatabase], Any]:
    return lambda ctx, vdb: Database(ctx, vdb.storage_path, memory_limit=limit).open_map(ctx, "m")


def old(minutes: float) -> Callable[[Context, VectorDatabase], Any]:
    return lambda ctx, vdb: vdb.begin_transaction(
        ctx, options=TransactionOptions(max_time=minutes)
    ).rollback()


LIMITS: dict[str, tuple[Any, Any, type[Error]]] = {
    "bytes of a key": (put("x" * 16_349), put("x" * 16_350), ValidationError),
    "NULs in a key": (put("\0" * 8_174), put("\0" * 8_175), ValidationError),
    "depth of a key": (
        put(nested(1, 64, lambda key: [key])),
        put(nested(1, 65, lambda key: {"a": key})),
        ValidationError,
    ),
    "greatest integer of a key": (put(2**64 - 1), put(2**64), ValidationError),
    "least integer of a key": (put(-(2**63)), put(-(2**63) - 1), ValidationError),
    "a number as a key": (put(1e308), put(float("inf")), ValidationError),
    "a value": (put(1, 10**400), put(1, b"bytes"), ValidationError),
    "depth of a value": (
        put(1, nested(1, 400, lambda v: [v])),
        put(1, nested(1, 50_000, lambda v: [v])),
        ValidationError,
    ),
    "a number": (put(1, 1e308), put(1, float("nan")), ValidationError),
    "text": (put(1, "\ue000\0"), put(1, "\ud800"), ValidationError),
    "name": (opened("é" * 128), opened("é" * 129), ValidationError),
    "empty name": (opened("a/../b"), opened(""), ValidationError),
    "characters of a name": (opened(" "), opened("a\nb"), ValidationError),
    "numbers of a vector": (upsert("a", [1.0] * 65_537), upsert("a", []), ValidationError),
    "dimension": (after_another([2.0]), after_another([1.0, 2.0]), DimensionMismatchError),
    "a number of a vector": (upsert("a", [3e38]), upsert("a", [3.5e38]), ValidationError),
    "length with L2": (upsert("a", [9e14], Metric.L2), upsert("a", [2e15], Metric.L2), ValidationError),
    "length with Dot": (upsert("a", [9e14], Metric.Dot), upsert("a", [2e15], Metric.Dot), ValidationError),
    "length with Cosine": (upsert("a", [2e15]), upsert("a", [float("inf")]), ValidationError),
    "id": (upsert("é" * 512, [1.0]), upsert("é" * 512 + "x", [1.0]), ValidationError),
    "empty id": (upsert("x", [1.0]), upsert("", [1.0]), ValidationError),
    "results": (query(1000, k=10**9), query(32_769, k=1024), ValidationError),
    "threads": (query(threads=1000), query(threads=-1), ValidationError),
    "depth of a filter": (
        query(filter=nested({"a": 1}, 31, lambda f: {"$not": f})),
        query(filter=nested({"a": 1}, 33, lambda f: {"$not": f})),
        FilterError,
    ),
    "category": (save("c" * 1024, "n"), save("c" * 1025, "n"), ValidationError),
    "name of a model": (save("c", "n" * 1024), save("c", ""), ValidationError),
    "format": (
        save("c", "n", artifact=b"", format="f" * 64),
        save("c", "n", artifact=b"", format="f" * 65),
        ValidationError,
    ),
    "age": (old(1e9), old(float("inf")), ValidationError),
    "memory": (memory(16 << 20), memory((16 << 20) - 1), ValidationError),
    "shards": (coded(200, 56), coded(200, 57), ValidationError),
    "mirrors": (mirrored(3), mirrored(65), ValidationError),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limits(limit: str, ctx: Context, vdb: VectorDatabase) -> None:
    at, beyond, error = LIMITS[limit]
    at(ctx, vdb)
    vdb.close(ctx)
    shutil.rmtree(vdb.storage_path, ignore_errors=True)
    with pytest.raises(error) as refused:
        beyond(ctx, vdb)
    assert refused.value.code == error.code


def test_a_value_of_more_than_a_gibibyte_is_refused(ctx: Context, vdb: VectorDatabase) -> None:
    with pytest.raises(
        ValidationError, match=f"at most {VALUE_BYTES_MAX} bytes, this one takes {VALUE_BYTES_MAX + 1}"
    ):
        put(1, "x" * (VALUE_BYTES_MAX - 1))(ctx, vdb)


def test_thousands_of_stores(ctx: Context, db: Database) -> None:
    count = 3000
    with db.begin_transaction(ctx) as t:
        for number in range(count):
            db.new_btree(ctx, f"store {number}", t).add(ctx, number, number)
    db.close(ctx)
    assert len(db.stores(ctx)) == count
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        assert db.open_btree(ctx, "store 2999", t).find_one(ctx, 2999).value == 2999


# Atomicity and isolation


def change_all(ctx: Context, db: VectorDatabase, t: Any, number: int) -> None:
    db.new_btree(ctx, "b", t, btree.BtreeOptions("b", is_unique=True)).upsert(ctx, "k", number)
    db.open_vector_store(ctx, t, "v").upsert(ctx, Item("k", [1.0, number], {"n": number}))
    db.open_model_store(ctx, t, "m").save(ctx, "c", "k", {"n": number})


def state(ctx: Context, db: VectorDatabase) -> list[int]:
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        return [
            db.open_btree(ctx, "b", t).find_one(ctx, "k").value,
            db.open_vector_store(ctx, t, "v").get(ctx, "k").payload["n"],
            db.open_model_store(ctx, t, "m").get(ctx, "c", "k")["n"],
        ]


def test_all_kinds_of_stores_change_together_or_not_at_all(ctx: Context, vdb: VectorDatabase) -> None:
    with vdb.begin_transaction(ctx) as t:
        change_all(ctx, vdb, t, 1)
    with pytest.raises(RuntimeError), vdb.begin_transaction(ctx) as t:
        change_all(ctx, vdb, t, 2)
        raise RuntimeError
    assert state(ctx, vdb) == [1, 1, 1]
    loser = vdb.begin_transaction(ctx)
    change_all(ctx, vdb, loser, 3)
    with vdb.begin_transaction(ctx) as t:
        vdb.open_vector_store(ctx, t, "v").upsert(ctx, Item("k", [1.0, 4.0], {"n": 4}))
    with pytest.raises(ConflictError):
        loser.commit(ctx)
    assert state(ctx, vdb) == [1, 4, 1]


def test_nothing_is_seen_of_what_is_not_committed(ctx: Context, vdb: VectorDatabase) -> None:
    with vdb.begin_transaction(ctx) as t:
        change_all(ctx, vdb, t, 1)
    writer = vdb.begin_transaction(ctx)
    change_all(ctx, vdb, writer, 2)
    assert state(ctx, vdb) == [1, 1, 1]
    assert vdb.open(ctx, "v").query(ctx, [1.0, 2.0])[0].payload == {"n": 1}
    writer.rollback(ctx)
    assert state(ctx, vdb) == [1, 1, 1]
    with vdb.begin_transaction(ctx, TransactionMode.ForReading) as t, pytest.raises(StoreNotFoundError):
        db_writer = vdb.begin_transaction(ctx)
        vdb.new_btree(ctx, "new", db_writer)
        vdb.open_btree(ctx, "new", t)


def test_write_skew_over_two_kinds_of_stores_is_refused(ctx: Context, vdb: VectorDatabase) -> None:
    with vdb.begin_transaction(ctx) as t:
        change_all(ctx, vdb, t, 1)
    first, second = vdb.begin_transaction(ctx), vdb.begin_transaction(ctx)
    seen = vdb.open_vector_store(ctx, first, "v").query(ctx, [1.0, 1.0], k=1)[0].payload["n"]
    vdb.open_btree(ctx, "b", first).update(ctx, "k", seen + 1)
    seen = vdb.open_btree(ctx, "b", second).find_one(ctx, "k").value
    vdb.open_vector_store(ctx, second, "v").upsert(ctx, Item("k", [1.0, 1.0], {"n": seen + 1}))
    first.commit(ctx)
    with pytest.raises(ConflictError):
        second.commit(ctx)
    assert state(ctx, vdb) == [2, 1, 1]


def test_vectors_that_others_add_near_a_query_are_no_conflict(ctx: Context, vdb: VectorDatabase) -> None:
    with vdb.begin_transaction(ctx) as t:
        change_all(ctx, vdb, t, 1)
    t = vdb.begin_transaction(ctx)
    assert len(vdb.open_vector_store(ctx, t, "v").query(ctx, [1.0, 1.0], k=5)) == 1
    vdb.open_btree(ctx, "b", t).update(ctx, "k", 2)
    vdb.open(ctx, "v").upsert(ctx, Item("nearer", [1.0, 1.0]))
    t.commit(ctx)


@pytest.mark.parametrize("mode", list(TransactionMode))
def test_every_transaction_has_its_time(mode: TransactionMode, ctx: Context, db: Database) -> None:
    db.open_map(ctx, "m")["k"] = 1
    t = db.begin_transaction(ctx, options=TransactionOptions(mode, max_time=1e-9))
    assert db.open_btree(ctx, "m", t).find_one(ctx, "k").value == 1
    with pytest.raises(TransactionTimeoutError) as late:
        t.commit(ctx)
    assert late.value.retryable


# Failures


def made(ctx: Context, folder: Path) -> Path:
    with Database(ctx, storage_path=folder) as db:
        db.open_map(ctx, "m")[1] = 1
    return folder


def test_a_folder_that_was_removed_is_told(ctx: Context, tmp_path: Path) -> None:
    with Database(ctx, storage_path=made(ctx, tmp_path / "db")) as db:
        opened = db.open_map(ctx, "m")
        shutil.rmtree(tmp_path / "db")
        assert opened[1] == 1
        for _ in range(2):
            with pytest.raises(StorageError, match="was removed while the database was open") as told:
                opened[1] = 2
            assert told.value.code == 60
        assert list(db.open_map(ctx, "m")) == []


def test_a_newer_format_is_told_from_damage(ctx: Context, tmp_path: Path) -> None:
    format_file = made(ctx, tmp_path / "db") / "FORMAT"
    text = bytearray(format_file.read_bytes())
    text[8:12] = struct.pack("<I", 99)
    text[28:32] = struct.pack("<I", zlib.crc32(text[:28]))
    format_file.write_bytes(text)
    with pytest.raises(ValidationError, match="format version 99, .* use a newer library"):
        Database(ctx, storage_path=tmp_path / "db").open_map(ctx, "m")


def test_a_backup_that_was_not_finished_is_refused(ctx: Context, tmp_path: Path) -> None:
    (made(ctx, tmp_path / "db") / "FORMAT").write_bytes(b"SOP backup, not finished yet    ")
    with pytest.raises(CorruptionError, match="a backup that was not finished"):
        Database(ctx, storage_path=tmp_path / "db").open_map(ctx, "m")


def in_process(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.skipif(os.name == "nt", reason="limits of a process are those of POSIX")
def test_a_process_that_gets_no_files_is_told(ctx: Context, tmp_path: Path) -> None:
    program = (
        "import os, resource, sys, sop\n"
        "db = sop.Database(sop.Context(), sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(20 - len(os.listdir('/dev/fd')) + 1)]\n"
        "try:\n    db.open_map(sop.Context(), 'm')\n"
        "except sop.StorageError as error:\n    print(error.code, error)\n"
        "for file in held:\n    os.close(file)\n"
        "print(db.open_map(sop.Context(), 'm')[1])\n"
    )
    done = in_process(program, made(ctx, tmp_path / "db"))
    assert done.stderr == ""
    told, value = done.stdout.splitlines()
    assert told.startswith("50 ") and "open files" in told and value == "1"


@pytest.mark.skipif(os.name == "nt", reason="limits of a process are those of POSIX")
def test_a_process_that_gets_no_memory_loses_nothing_committed(ctx: Context, tmp_path: Path) -> None:
    program = (
        "import resource, sys, sop\n"
        "m = sop.Database(sop.Context(), sys.argv[1]).open_map(sop.Context(), 'm')\n"
        "m[2] = 2\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20),) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "m.put_many((n, 'x' * 1000) for n in range(1_000_000))\n"
    )
    assert in_process(program, made(ctx, tmp_path / "db")).returncode != 0
    with Database(ctx, storage_path=tmp_path / "db") as db:
        assert dict(db.open_map(ctx, "m")) == {1: 1, 2: 2}
        assert db.verify(ctx).intact
