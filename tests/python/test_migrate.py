"""`python -m sop import`: what SQLite, Chroma and sop4py 2 hold, exactly, or nothing.

Chroma and sop4py are stood in for (stand_ins/), by modules with the calls and the habits of the real ones.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from conftest import environment
from sop import (
    Context,
    Database,
    StorageError,
    TransactionMode,
    UnsupportedError,
    ValidationError,
    __main__,
    btree,
)
from sop.ai import Item, Metric, Model, VectorDatabase
from sop.migrate import from_chroma, from_sop4py, from_sqlite
from sop.migrate.tables import BtreeTable, ModelTable, VectorTable

STAND_INS = Path(__file__).with_name("stand_ins")


def made(path: Path, *statements: str) -> Path:
    """A SQLite file."""
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def items(ctx: Context, db: Database, name: str) -> list[tuple[Any, Any]]:
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        return [(item.key, item.value) for item in db.open_btree(ctx, name, t).items(ctx)]


def names(ctx: Context, db: Database) -> list[str]:
    return [store.name for store in db.stores(ctx)]


# SQLite


def test_values_keep_their_types_to_the_last_bit(ctx: Context, db: Database, tmp_path: Path) -> None:
    source = made(
        tmp_path / "a.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v)",
        f"INSERT INTO t VALUES (1, {2**63 - 1}), (2, -0.0), (3, 1.0), (4, 1), (5, NULL), (6, '1')",
        "INSERT INTO t VALUES (7, 0.1), (8, 1e300)",
        "INSERT INTO t VALUES (-9223372036854775808, 'é' || char(0) || '\"')",
    )
    made_of = from_sqlite(db, source, verify=True)
    assert made_of.verified and [(store.kind, store.name, store.items) for store in made_of.stores] == [
        ("btree", "t", 9)
    ]
    found = [value["v"] for _, value in items(ctx, db, "t")]
    assert repr(found) == repr(['é\0"', 2**63 - 1, -0.0, 1.0, 1, None, "1", 0.1, 1e300])


def test_a_primary_key_is_the_key(ctx: Context, db: Database, tmp_path: Path) -> None:
    source = made(
        tmp_path / "a.db",
        "CREATE TABLE one (name TEXT PRIMARY KEY, n)",
        "INSERT INTO one VALUES ('b', 1), ('a', 2)",
        'CREATE TABLE several (a, "b""c" TEXT, d, PRIMARY KEY ("b""c", a)) WITHOUT ROWID',
        "INSERT INTO several VALUES (10, 'x', 1), (9, 'y', 2), (8, 'x', 3)",
        "CREATE TABLE none (rowid TEXT, v)",
        "INSERT INTO none VALUES ('hides it', 5), ('hides it', 5)",
        "CREATE TABLE only_key (k TEXT PRIMARY KEY)",
        "INSERT INTO only_key VALUES ('k')",
        "CREATE TABLE computed (a INTEGER PRIMARY KEY, b AS (a * 2), c AS (a * 3) STORED)",
        "INSERT INTO computed (a) VALUES (7)",
    )
    from_sqlite(db, source, verify=True)
    assert items(ctx, db, "one") == [("a", {"n": 2}), ("b", {"n": 1})]
    assert items(ctx, db, "several") == [
        ({'b"c': "x", "a": 8}, {"d": 3}),
        ({'b"c': "x", "a": 10}, {"d": 1}),
        ({'b"c': "y", "a": 9}, {"d": 2}),
    ]
    hidden = {"rowid": "hides it", "v": 5}
    assert items(ctx, db, "none") == [(1, hidden), (2, hidden)]
    assert items(ctx, db, "only_key") == [("k", {})]
    assert items(ctx, db, "computed") == [(7, {"b": 14, "c": 21})]
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        found = db.open_btree(ctx, "several", t).find_one(ctx, {"a": 9, 'b"c': "y"})
        assert found is not None and found.value == {"d": 2}


def test_views_and_virtual_tables_stay_behind(ctx: Context, db: Database, tmp_path: Path) -> None:
    source = made(
        tmp_path / "a.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO t DEFAULT VALUES",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE VIRTUAL TABLE words USING fts5(body)",
        "INSERT INTO words VALUES ('a word')",
        "CREATE TABLE empty (x)",
    )
    from_sqlite(db, source, verify=True)
    assert [(store.name, store.items) for store in db.stores(ctx)] == [("empty", 0), ("t", 1)]


def test_bytes_come_only_when_asked_for(ctx: Context, db: Database, tmp_path: Path) -> None:
    source = made(
        tmp_path / "a.db",
        "CREATE TABLE before_it (x)",
        "CREATE TABLE files (path TEXT PRIMARY KEY, data)",
        "INSERT INTO files VALUES ('p', x'00FF')",
        "CREATE TABLE ids (id PRIMARY KEY)",
        "INSERT INTO ids VALUES (x'AA'), ('qg==')",
    )
    with pytest.raises(ValidationError, match="'files', row {'path': 'p'}: 'data' is a BLOB") as refused:
        from_sqlite(db, source)
    assert "blobs" in str(refused.value)
    assert names(ctx, db) == []
    with pytest.raises(ValidationError, match="blobs must be"):
        from_sqlite(db, source, blobs="hex")
    from_sqlite(db, source, blobs="base64", verify=True)
    assert items(ctx, db, "files") == [("p", {"data": {"$base64": "AP8="}})]
    assert [key for key, _ in items(ctx, db, "ids")] == ["qg==", {"$base64": "qg=="}]


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            ["CREATE TABLE t (x)", "INSERT INTO t VALUES (9e999)"],
            r"row {'rowid': 1}: 'x' is an infinite number",
        ),
        (
            ["CREATE TABLE t (k TEXT PRIMARY KEY, v)", "INSERT INTO t VALUES (NULL, 1), (NULL, 2)"],
            "same key: None",
        ),
        (["CREATE TABLE t (rowid, oid, _rowid_)"], "columns hide its rowid"),
    ],
)
def test_what_cannot_be_kept_stores_nothing(
    statements: list[str], message: str, ctx: Context, db: Database, tmp_path: Path
) -> None:
    source = made(tmp_path / "a.db", "CREATE TABLE a (x)", "INSERT INTO a VALUES (1)", *statements)
    with pytest.raises(ValidationError, match=message):
        from_sqlite(db, source)
    with db.begin_transaction(ctx):
        pass
    assert names(ctx, db) == []


def test_text_that_is_none_and_a_file_that_is_none_are_told(db: Database, tmp_path: Path) -> None:
    source = made(tmp_path / "a.db", "CREATE TABLE t (x)", "INSERT INTO t VALUES (CAST(x'FF' AS TEXT))")
    with pytest.raises(StorageError, match="SQLite cannot read .*UTF-8"):
        from_sqlite(db, source)
    (tmp_path / "b.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match="file is not a database"):
        from_sqlite(db, tmp_path / "b.db")
    with pytest.raises(ValidationError, match="there is no SQLite file"):
        from_sqlite(db, tmp_path / "c.db")
    assert not (tmp_path / "c.db").exists()


def test_a_store_that_is_there_is_left_alone(ctx: Context, db: Database, tmp_path: Path) -> None:
    source = made(tmp_path / "a.db", "CREATE TABLE a (x)", "CREATE TABLE b (x)", "INSERT INTO a VALUES (1)")
    from_sqlite(db, source, only=["a"])
    with pytest.raises(ValidationError, match="there is a btree store 'a' already, with 1 items"):
        from_sqlite(db, source)
    from_sqlite(db, source, only=["b"])
    with pytest.raises(ValidationError, match="there is no table 'z': there are a, b"):
        from_sqlite(db, source, only=["z"])
    assert names(ctx, db) == ["a", "b"]


def test_progress_counts_rows_and_may_stop_it(ctx: Context, db: Database, tmp_path: Path) -> None:
    rows = ",".join(f"({number})" for number in range(2500))
    source = made(tmp_path / "a.db", "CREATE TABLE t (x)", f"INSERT INTO t VALUES {rows}")

    def stop(done: int, total: int) -> None:
        if done == total:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        from_sqlite(db, source, progress=stop)
    assert names(ctx, db) == []
    told: list[tuple[int, int]] = []
    from_sqlite(db, source, verify=True, progress=lambda *now: told.append(now))
    assert told == [(done, 5000) for done in (1000, 2000, 2500, 3500, 4500, 5000)]


@pytest.mark.skipif(os.name == "nt", reason="the signal is that of POSIX")
def test_an_import_that_is_killed_stores_nothing(ctx: Context, db: Database, tmp_path: Path) -> None:
    rows = ",".join(f"({number})" for number in range(50_000))
    source = made(tmp_path / "a.db", "CREATE TABLE t (x)", f"INSERT INTO t VALUES {rows}")
    program = (
        "import os, sys, sop, sop.migrate\n"
        "db = sop.Database(sop.Context(), sys.argv[2])\n"
        "kill = lambda done, total: done == total and os.kill(os.getpid(), 9)\n"
        "sop.migrate.from_sqlite(db, sys.argv[1], progress=kill)\n"
    )
    command = [sys.executable, "-c", program, str(source), db.storage_path]
    assert subprocess.run(command, env=environment(), timeout=300).returncode == -9
    assert names(ctx, db) == []
    assert from_sqlite(db, source, verify=True).stores[0].items == 50_000


@pytest.mark.parametrize(
    "other", [(1, {"x": 2.0}), (1, {"x": True}), (1, {"x": 1, "y": 0}), (3, {"x": 1}), (1.0, {"x": 1})]
)
def test_verification_finds_what_differs(other: tuple[Any, Any], ctx: Context, db: Database) -> None:
    def table(row: tuple[Any, Any], is_unique: bool) -> BtreeTable:
        options = btree.BtreeOptions(f"unique {is_unique}", is_unique=is_unique)
        return BtreeTable(options, None, 2, lambda: iter([(2, None), row]))

    for is_unique in (True, False):
        with db.begin_transaction(ctx) as t:
            table((1, {"x": 1}), is_unique).write(ctx, db, t, lambda rows: None)
        with db.begin_transaction(ctx) as t:
            assert table((1, {"x": 1}), is_unique).differs(ctx, db, t, lambda rows: None) is None
            assert table(other, is_unique).differs(ctx, db, t, lambda rows: None) == f"key {other[0]!r}"


def test_verification_finds_vectors_and_models_that_differ(ctx: Context, db: Database) -> None:
    def vectors(row: Item) -> VectorTable:
        return VectorTable("v", Metric.L2, 1, lambda: iter([row]))

    def models(model: Any) -> ModelTable:
        return ModelTable("m", 1, lambda: iter([("c", "n", model)]))

    right = (vectors(Item("a", [1.0, 2.0], {"n": 1})), models(Model("n")))
    wrong = (
        vectors(Item("b", [1.0, 2.0], {"n": 1})),
        vectors(Item("a", [1.0, 2.5], {"n": 1})),
        vectors(Item("a", [1.0, 2.0], {"n": 1.0})),
        models({"id": "n"}),
    )
    with db.begin_transaction(ctx) as t:
        for table in right:
            table.write(ctx, db, t, lambda rows: None)
    with db.begin_transaction(ctx) as t:
        assert [table.differs(ctx, db, t, lambda rows: None) for table in wrong] == [
            "id 'b'",
            "id 'a'",
            "id 'a'",
            "model c/n",
        ]


def test_the_command_makes_a_database(
    ctx: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(tmp_path / "a.db", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    arguments = ["import", "sqlite", str(source), str(tmp_path / "new")]
    assert __main__.main([*arguments, "--verify", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"stores": [{"name": "t", "kind": "btree", "items": 1}], "verified": True}
    assert __main__.main(arguments) == 2
    assert "already" in capsys.readouterr().err
    assert __main__.main([*arguments[:-1], str(tmp_path / "other"), "--progress"]) == 0
    report = capsys.readouterr()
    assert report.out.splitlines() == ["KIND   ITEMS  NAME", "btree  1      t", "imported"]
    assert report.err == "import: 100 % (1 of 1)\n"


# Chroma


@pytest.fixture
def chroma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of it: more rows than are read at a time, and a collection of each metric."""
    rows = [
        {
            "id": f"r{n}",
            "embedding": [n, 0.1, 1.0],
            "document": f"text {n}",
            "metadata": {"n": n, "even": n % 2 == 0},
        }
        for n in range(2300)
    ]
    collections = {
        "many": {"space": "cosine", "rows": rows},
        "bare": {"space": "ip", "rows": [{"id": "x", "embedding": [1.0]}]},
        "far": {
            "space": "l2",
            "rows": [{"id": "y", "embedding": [3.0, 4.0], "uri": "u", "metadata": {"a": 1.5}}],
        },
    }
    folder = tmp_path / "chroma"
    folder.mkdir()
    (folder / "chroma.sqlite3").write_text(json.dumps(collections), encoding="utf-8")
    monkeypatch.syspath_prepend(str(STAND_INS))
    monkeypatch.delitem(sys.modules, "chromadb", raising=False)
    yield folder
    sys.modules.pop("chromadb", None)


def test_collections_become_vector_stores_of_their_metric(ctx: Context, chroma: Path, tmp_path: Path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path / "db") as db:
        found = from_chroma(db, chroma, verify=True)
        assert [(store.kind, store.name, store.items) for store in found.stores] == [
            ("vector", "many", 2300),
            ("vector", "bare", 1),
            ("vector", "far", 1),
        ]
        many, bare, far = (db.open(ctx, name) for name in ("many", "bare", "far"))
        row = many.get(ctx, "r7")
        assert row.payload == {"n": 7, "even": False, "text": "text 7"}
        assert row.vector == [7.0, 0.1, 1.0]
        (hit,) = many.query(ctx, [7, 0.1, 1], k=1, filter={"even": False})
        assert hit.id == "r7"
        assert bare.get(ctx, "x").payload is None
        assert bare.query(ctx, [3.0])[0].score == 3.0  # the dot product
        assert far.query(ctx, [0.0, 0.0])[0].score == -5.0
        assert far.get(ctx, "y").payload == {"a": 1.5, "uri": "u"}


def test_a_document_does_not_hide_metadata(ctx: Context, chroma: Path, tmp_path: Path) -> None:
    with Database(ctx, storage_path=tmp_path / "db") as db:
        with pytest.raises(ValidationError, match="'many', id 'r[0-9]+': the metadata have a field 'n', too"):
            from_chroma(db, chroma, text_key="n")
        from_chroma(db, chroma, only=["many"], text_key="body")
        assert names(ctx, db) == ["many"]


def test_a_metric_that_is_not_known_is_refused(ctx: Context, chroma: Path, db: Database) -> None:
    (chroma / "chroma.sqlite3").write_text('{"odd": {"space": "hamming", "rows": []}}', encoding="utf-8")
    with pytest.raises(UnsupportedError, match="'odd' has a metric unknown here: 'hamming'"):
        from_chroma(db, chroma)


def test_what_is_missing_is_named(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="is no folder of Chroma"):
        from_chroma(db, tmp_path)
    (tmp_path / "chroma.sqlite3").touch()
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(UnsupportedError, match="pip install chromadb"):
        from_chroma(db, tmp_path)


# sop4py


def python_with(tmp_path: Path, packages: Path) -> Path:
    """A Python that has these packages, as that of an environment has."""
    program = tmp_path / f"python of {packages.name}"
    program.write_text(
        f"#!{sys.executable} -IS\nimport runpy, sys\nsys.path.insert(0, {str(packages)!r})\n"
        "assert sys.argv[1] == '-I'\nsys.argv = sys.argv[2:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def sop4py(tmp_path: Path) -> Path:
    """A folder of it."""
    trees: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "kv": ({}, [[n, {"n": n}] for n in range(2000)]),
        "empty": ({}, []),
        "duplicates": ({"is_unique": False}, [["a", 3], ["a", 2], ["a", 1], ["b", 0]]),
        "fields": (
            {
                "is_primitive_key": False,
                "mapkey_index_spec": '{"index_fields": [{"field_name": "a", "ascending_sort_order": false}]}',
            },
            [[{"a": 2, "more": "x"}, 1], [{"a": 1, "more": "y"}, 2]],
        ),
        "models": (
            {"description": "AI Models Registry", "is_primitive_key": False},
            [[{"Category": "c", "Name": "n"}, '{"id": "n", "is_active": true}']],
        ),
        "v_sys_config": ({"description": "System Config"}, [["v", 1]]),
        "v_data": ({}, [[{"id": "x", "del": False}, {"p": 1}], [{"id": "gone", "del": True}, None]]),
        "v_lku_1": ({}, []),
        "v_vecs_1": ({}, [[{"ItemID": "gone"}, [9]], [{"ItemID": "x"}, [0.1, 2]]]),
        "v_centroids_1": ({}, []),
        "v_vecs_best": ({}, [["a B-tree of a similar name", 1]]),
    }
    folder = tmp_path / "sop4py"
    for name, (said, rows) in trees.items():
        (folder / name).mkdir(parents=True)
        info = {
            "is_unique": True,
            "description": "",
            "is_primitive_key": True,
            "is_value_data_in_node_segment": True,
            "is_value_data_actively_persisted": False,
            "is_value_data_globally_cached": False,
            "mapkey_index_spec": "",
            "count": len(rows),
            **said,
        }
        (folder / name / "storeinfo.txt").write_text(json.dumps(info), encoding="utf-8")
        (folder / name / "items.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "storelist.txt").write_text(json.dumps(list(trees)), encoding="utf-8")
    return folder


def test_the_stores_of_sop4py_become_those_of_their_kind(ctx: Context, sop4py: Path, tmp_path: Path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path / "db") as db:
        found = from_sop4py(db, sop4py, python_with(tmp_path, STAND_INS), verify=True)
        assert sorted((store.kind, store.name, store.items) for store in found.stores) == [
            ("btree", "duplicates", 4),
            ("btree", "empty", 0),
            ("btree", "fields", 2),
            ("btree", "kv", 2000),
            ("btree", "v_vecs_best", 1),
            ("model", "models", 1),
            ("vector", "v", 1),
        ]
        assert items(ctx, db, "kv") == [(n, {"n": n}) for n in range(2000)]
        assert items(ctx, db, "duplicates") == [("a", 3), ("a", 2), ("a", 1), ("b", 0)]
        assert items(ctx, db, "fields") == [({"a": 2, "more": "x"}, 1), ({"a": 1, "more": "y"}, 2)]
        with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
            assert not db.open_btree(ctx, "duplicates", t).is_unique()
            assert db.open_btree(ctx, "fields", t).find(ctx, {"a": 2})
        row = db.open(ctx, "v").get(ctx, "x")
        assert (row.vector, row.payload) == ([0.1, 2.0], {"p": 1})
        assert db.open_model_store(ctx, "models").active(ctx, "c", "n") == 1


def test_a_python_without_sop4py_is_told(db: Database, sop4py: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="pip install sop4py==2.3.3"):
        from_sop4py(db, sop4py, python_with(tmp_path, tmp_path / "nothing"))
    ours = tmp_path / "ours"
    (ours / "sop").mkdir(parents=True)
    (ours / "sop" / "__init__.py").touch()
    with pytest.raises(StorageError, match="is not sop4py 2"):
        from_sop4py(db, sop4py, python_with(tmp_path, ours))
    with pytest.raises(ValidationError, match="cannot run"):
        from_sop4py(db, sop4py, tmp_path / "no python")
    with pytest.raises(ValidationError, match="is no folder of sop4py 2"):
        from_sop4py(db, tmp_path, sys.executable)


def test_a_reader_that_fails_in_between_stores_nothing(
    ctx: Context, sop4py: Path, db: Database, tmp_path: Path
) -> None:
    (sop4py / "models" / "items.json").write_text("[[", encoding="utf-8")
    with pytest.raises(StorageError, match="sop4py could not read .*JSONDecodeError"):
        from_sop4py(db, sop4py, python_with(tmp_path, STAND_INS))
    assert names(ctx, db) == []
